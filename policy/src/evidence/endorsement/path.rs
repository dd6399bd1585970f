//! From an EK certificate up to an anchor: a bounded depth-first walk.
//!
//! An issuer is found by its name and by its key identifier, judged by its profile, and believed
//! when the signature over the TBS bytes holds. Every step up costs a signature that held, so the signature
//! budget bounds the whole walk, also through sets of authorities that sign each other.

use std::borrow::Cow;

use super::error::EndorsementError;
use super::profile::{self, When};
use super::roots::{Known, Role, RootStore, authority_key_id, key_ids_agree};
use super::tcg::Manufacturer;
use crate::x509::signature::{self, SignatureError, Strength};
use crate::x509::{Certificate, name, readout};

/// Most certificates in a chain, EK certificate and root included; the longest known have 4 (STMicroelectronics
/// under GlobalSign) to 6 (Intel on-die).
pub const MAX_CHAIN: usize = 8;
/// Most signature verifications for one EK certificate; a chain of the largest length needs 7, the rest is for
/// authorities of the same name. At 0.1 ms each for RSA-4096 a stranger costs 3 ms at most.
pub const MAX_SIGNATURES: usize = 32;
/// Most intermediates that a device may send along: more than a chain of the largest length has.
pub const MAX_EXTRA_INTERMEDIATES: usize = 8;

/// Where a walk ended.
#[derive(Debug)]
pub(in crate::evidence) struct Found<'s> {
    pub(in crate::evidence) root: Certificate<'s>,
    pub(in crate::evidence) root_label: String,
    pub(in crate::evidence) chain_length: usize,
    /// The weakest signature of the chain; the root's own is not of it.
    pub(in crate::evidence) strength: Strength,
}

/// Takes the intermediates that a device sent out of their wrapping.
pub(in crate::evidence) fn unwrap_extras<'a>(
    extras: &[&'a [u8]],
) -> Result<Vec<Cow<'a, [u8]>>, EndorsementError> {
    if extras.len() > MAX_EXTRA_INTERMEDIATES {
        return Err(EndorsementError::TooManyIntermediates(extras.len()));
    }
    let numbered = (1..).zip(extras);
    numbered
        .map(|(number, extra)| {
            readout::certificate_in(extra)
                .map_err(|source| EndorsementError::IntermediateReadout { number, source })
        })
        .collect()
}

/// What the authorities of a chain must be good for.
#[derive(Debug, Clone, Copy)]
pub(in crate::evidence) struct Rules {
    /// The purpose that an authority must name if it names any.
    pub(in crate::evidence) purpose: Option<&'static [u8]>,
    /// The manufacturer for whose TPMs the root must vouch.
    pub(in crate::evidence) manufacturer: Option<Manufacturer>,
}

/// Walks from `leaf` up to an anchor by these rules; every certificate of the chain must be valid as `when`
/// says.
pub(in crate::evidence) fn walk<'s>(
    leaf: &Certificate<'s>,
    rules: Rules,
    extras: &'s [Cow<'s, [u8]>],
    roots: &'s RootStore,
    when: When,
) -> Result<Found<'s>, EndorsementError> {
    profile::verify_validity(leaf, when)?;
    let mut parsed = Vec::new();
    for (number, extra) in (1..).zip(extras) {
        let malformed = |source| EndorsementError::IntermediateParse { number, source };
        parsed.push(Certificate::parse(extra).map_err(malformed)?);
    }
    let mut walk = Walk { roots, rules, extras: parsed, when, signatures_left: MAX_SIGNATURES };
    walk.climb(&mut vec![leaf.clone()])
}

struct Walk<'s> {
    roots: &'s RootStore,
    rules: Rules,
    extras: Vec<Certificate<'s>>,
    when: When,
    signatures_left: usize,
}

impl<'s> Walk<'s> {
    /// Goes on from the last certificate of `chain`.
    fn climb(&mut self, chain: &mut Vec<Certificate<'s>>) -> Result<Found<'s>, EndorsementError> {
        let Some(subject) = chain.last().cloned() else { return Err(EndorsementError::TooLong) };
        if chain.len() >= MAX_CHAIN {
            return Err(EndorsementError::TooLong);
        }
        let candidates = self.candidates(&subject, chain)?;
        let mut refusal = None;
        for candidate in candidates {
            match self.try_issuer(&subject, candidate, chain) {
                Ok(found) => return Ok(found),
                Err(EndorsementError::TooMuchWork) => return Err(EndorsementError::TooMuchWork),
                Err(error) => refusal = Some(more_telling(refusal, error)),
            }
        }
        Err(refusal.unwrap_or_else(|| unknown_issuer(&subject)))
    }

    /// Everybody who may have issued `subject` and is not in the chain yet; at least one.
    fn candidates(
        &self,
        subject: &Certificate<'s>,
        chain: &[Certificate<'s>],
    ) -> Result<Vec<Known<'s>>, EndorsementError> {
        let named = self.namesakes_of_issuer(subject);
        if named.is_empty() {
            return Err(unknown_issuer(subject));
        }
        let keyed = named.into_iter().filter(|candidate| key_ids_agree(subject, &candidate.certificate));
        let keyed: Vec<_> = keyed.collect();
        if keyed.is_empty() {
            return Err(EndorsementError::IssuerKey {
                certificate: subject.label(),
                issuer: name::text(subject.issuer()),
                key_id: authority_key_id(subject).map(hex::encode).unwrap_or_default(),
            });
        }
        let fresh =
            |candidate: &Known<'s>| chain.iter().all(|earlier| earlier.der() != candidate.certificate.der());
        let candidates: Vec<_> = keyed.into_iter().filter(fresh).collect();
        if candidates.is_empty() {
            return Err(EndorsementError::Circle {
                certificate: subject.label(),
                issuer: name::text(subject.issuer()),
            });
        }
        Ok(candidates)
    }

    /// Everybody with the name of the issuer of `subject`: the trusted first, then those the device sent.
    fn namesakes_of_issuer(&self, subject: &Certificate<'s>) -> Vec<Known<'s>> {
        let issuer = name::comparable(subject.issuer());
        let trusted = self.roots.issuers(&issuer);
        let sent = self.extras.iter().filter(|extra| name::comparable(extra.subject()) == issuer);
        let sent = sent.map(|extra| Known {
            certificate: extra.clone(),
            role: Role::Intermediate,
            label: "sent by the device",
            only: None,
        });
        trusted.chain(sent).collect()
    }

    /// Judges one candidate as the issuer of `subject`, and goes on from it unless the chain ends there.
    fn try_issuer(
        &mut self,
        subject: &Certificate<'s>,
        candidate: Known<'s>,
        chain: &mut Vec<Certificate<'s>>,
    ) -> Result<Found<'s>, EndorsementError> {
        let issuer = &candidate.certificate;
        let below = chain.len().saturating_sub(1);
        profile::verify_authority(issuer, below, self.rules.purpose)?;
        profile::verify_validity(issuer, self.when)?;
        let strength = self.verify_signature(subject, &candidate)?;
        if candidate.role == Role::Anchor {
            self.verify_manufacturer(&candidate, chain)?;
            return Ok(Found {
                root: candidate.certificate,
                root_label: candidate.label.to_owned(),
                chain_length: chain.len().saturating_add(1),
                strength,
            });
        }
        chain.push(candidate.certificate);
        let found = self.climb(chain);
        chain.pop();
        found.map(|found| Found { strength: found.strength.min(strength), ..found })
    }

    /// The root may vouch for TPMs of the manufacturer that the EK certificate claims (row 33).
    fn verify_manufacturer(
        &self,
        root: &Known<'s>,
        chain: &[Certificate<'s>],
    ) -> Result<(), EndorsementError> {
        let (Some(claimed), Some(only)) = (self.rules.manufacturer, &root.only) else { return Ok(()) };
        if only.contains(&claimed) {
            return Ok(());
        }
        let only: Vec<String> = only.iter().map(ToString::to_string).collect();
        Err(EndorsementError::OtherManufacturer {
            certificate: chain.first().map(Certificate::label).unwrap_or_default(),
            claimed,
            root: format!("{} ({})", root.certificate.label(), root.label),
            vouches_for: only.join(" and "),
        })
    }

    fn verify_signature(
        &mut self,
        subject: &Certificate<'s>,
        candidate: &Known<'s>,
    ) -> Result<Strength, EndorsementError> {
        self.signatures_left = self.signatures_left.checked_sub(1).ok_or(EndorsementError::TooMuchWork)?;
        let certificate = subject.label();
        signature::verify(subject, &candidate.certificate).map_err(|source| match source {
            SignatureError::Sha1 => EndorsementError::Sha1 { certificate },
            source => {
                let issuer = format!("{} ({})", candidate.certificate.label(), candidate.label);
                EndorsementError::Signature { certificate, issuer, source }
            }
        })
    }
}

fn unknown_issuer(subject: &Certificate<'_>) -> EndorsementError {
    EndorsementError::UnknownIssuer { certificate: subject.label(), issuer: name::text(subject.issuer()) }
}

/// Of two refusals, the one to report: a wrong signature only says that a namesake was not the issuer.
fn more_telling(earlier: Option<EndorsementError>, later: EndorsementError) -> EndorsementError {
    match earlier {
        Some(EndorsementError::Signature { source: SignatureError::Wrong, .. }) | None => later,
        Some(earlier) => earlier,
    }
}
