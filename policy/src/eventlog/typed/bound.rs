//! What a digest covers.
//!
//! An event's data is written beside its digest and nothing ties the two but a comparison.
//! [`Bound`] is what such a comparison leaves: only hashing makes one, and what is derived from it is derived
//! from the covered bytes alone.

use crate::eventlog::tcg::Event;
use crate::tpm::alg::HashAlg;

/// A value that the event's digest covers. It is as true as the digest is: a quote must confirm that one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound<T>(T);

impl<'a> Bound<&'a [u8]> {
    /// The event's whole data, if the digest of `bank` is its hash.
    #[must_use]
    pub fn whole(event: &Event<'a>, bank: HashAlg) -> Option<Self> {
        Self::part(event, bank, event.data)
    }

    /// `bytes`, if the digest of `bank` is their hash and theirs alone.
    #[must_use]
    pub fn part(event: &Event<'_>, bank: HashAlg, bytes: &'a [u8]) -> Option<Self> {
        (event.digest(bank)? == bank.hash(&[bytes])).then_some(Self(bytes))
    }
}

impl<T> Bound<T> {
    /// What follows from the value; a plain function, so that nothing else can enter.
    #[must_use]
    pub fn map<U>(self, derive: fn(T) -> U) -> Bound<U> {
        Bound(derive(self.0))
    }

    /// What follows from the value, if it can be read.
    pub fn try_map<U, E>(self, derive: fn(T) -> Result<U, E>) -> Result<Bound<U>, E> {
        derive(self.0).map(Bound)
    }

    /// The value.
    #[must_use]
    pub const fn value(&self) -> &T {
        &self.0
    }

    /// The value without its proof.
    #[must_use]
    pub fn into_value(self) -> T {
        self.0
    }
}

/// What an event's data says, and whether its digest vouches for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data<T> {
    /// The digest covers it.
    Bound(Bound<T>),
    /// The digest is of something else. Decoration for people, never an input to a decision.
    Hint(T),
}

impl<'a, T> Data<T> {
    /// Reads the whole data of `event`, bound where the digest of `bank` is its hash.
    pub fn whole<E>(
        event: &Event<'a>,
        bank: HashAlg,
        parse: fn(&'a [u8]) -> Result<T, E>,
    ) -> Result<Self, E> {
        match Bound::whole(event, bank) {
            Some(bound) => bound.try_map(parse).map(Self::Bound),
            None => parse(event.data).map(Self::Hint),
        }
    }
}

impl<T> Data<T> {
    /// The value, if the digest covers it.
    #[must_use]
    pub const fn bound(&self) -> Option<&Bound<T>> {
        match self {
            Self::Bound(bound) => Some(bound),
            Self::Hint(_) => None,
        }
    }

    /// The value for people, bound or not.
    #[must_use]
    pub const fn told(&self) -> &T {
        match self {
            Self::Bound(bound) => bound.value(),
            Self::Hint(hint) => hint,
        }
    }
}
