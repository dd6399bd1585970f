//! The release manifest: what a release of a product may measure. Written in TOML to be read and
//! reviewed by people, and in exactly one canonical form to be signed.
//!
//! ```toml
//! schema = 1
//! product = "edge-box"
//! version = "1.4.0"
//! counter = 7
//!
//! [pcrs.sha256]
//! 7 = ["<64 hex digits>"]
//!
//! [[event]]
//! pcr = 4
//! type = "EV_EFI_BOOT_SERVICES_APPLICATION"
//! digest = ["<64 hex digits>"]
//! name = "kernel"
//!
//! [secure_boot]
//! enabled = true
//! db = ["<64 hex digits>"]
//! authorities = ["<64 hex digits>"]
//! ```
//!
//! A PCR with whole values must have one of them. A PCR with event rules is *closed*: each of its
//! events must satisfy a rule, and each rule that is not optional must be satisfied by an event. An
//! `absent = true` rule forbids a type of event and closes nothing by itself: no digest binds the type of an
//! event, so in a PCR that is not closed it finds what an honest log tells and stops no forger. A PCR with both must
//! pass both. An application in PCR 4 that ran before the firmware called a boot option satisfies only a rule
//! with `early = true`, unless the PCR has a whole value, which is exact. The section `[ima]` is about files that ran since ([`ima`]); without it none is appraised.
//!
//! Rules that hold together have the same `variant` ([`variant`]): a boot satisfies those of one of them.
//!
//! `[secure_boot]` asks for Secure Boot, for keys by the SHA-256 of their variables' contents, and that everything
//! that vouched for an image is listed ([`secure_boot`]).
//!
//! Images that the attestor measures have rules of their own ([`image`]). SBOMs that describe the release are stated
//! by digest ([`sbom`]).
//!
//! [`Manifest::parse`] is the only door. What this module does not promise: rules say nothing else about
//! the order or the number of events; a whole value does. A manifest alone is no authority: only a
//! [`SignedRelease`](super::dsse::SignedRelease) is appraised against.

mod exclusive;
mod fault;
pub mod ima;
pub mod image;
mod read;
mod render;
pub mod sbom;
pub mod secure_boot;
pub mod variant;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Serialize, Serializer};

use self::image::ImageRule;
pub use fault::{HollowValue, ManifestFault, ManifestFaults, ManifestProblem};

use self::ima::ImaRules;
use super::event_type::EventType;
use super::hash_text::HashText;
use super::release::{ReleaseId, ReleaseVersion};
use crate::digest::Digest;
use crate::id::ProductName;
use crate::tpm::alg::{HashAlg, HashValue};
use crate::tpm::pcr::PcrIndex;
use sbom::SbomRef;
use secure_boot::SecureBootRule;

/// Longest manifest in bytes: a thousand rules of several digests, read by a person.
pub const MAX_MANIFEST_BYTES: usize = 512 * 1024;
/// Highest PCR that a manifest may speak of: what every quote covers. PCRs 16 and
/// 23 can be reset by software and prove nothing.
pub const MAX_PCR: u8 = 15;
/// Most whole values of one PCR: the variants of hardware that one release runs on.
pub const MAX_PCR_VALUES: usize = 64;
/// Most event rules: several times the longest firmware log of the 116 that were collected.
pub const MAX_EVENT_RULES: usize = 1024;
/// Most digests of one event rule.
pub const MAX_RULE_DIGESTS: usize = 64;
/// Longest description in characters.
pub const MAX_DESCRIPTION: usize = 1000;
/// Longest name of a rule in characters: it is printed in a table.
pub const MAX_RULE_NAME: usize = 100;
/// Most faults that are reported for one manifest.
pub const MAX_FAULTS: usize = 100;
/// Highest counter: TOML promises 64-bit signed integers, and a higher one would not survive other tools.
pub const MAX_COUNTER: u64 = 0x7fff_ffff_ffff_ffff;
/// The layout that this version reads and writes.
pub const SCHEMA: u64 = 1;

/// What an event rule asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expectation {
    /// An event of the type has one of these digests.
    OneOf {
        /// The digests, of one or several banks; never empty.
        digests: BTreeSet<HashValue>,
        /// The event may be missing.
        optional: bool,
        /// An application of PCR 4 may run before the firmware calls a boot option (checklist row 23).
        early: bool,
    },
    /// The PCR has no event of the type.
    Absent,
}

/// A rule about single events of a PCR.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRule {
    /// The PCR.
    pub pcr: PcrIndex,
    /// The type of the event.
    pub event_type: EventType,
    /// What is asked of it.
    pub expectation: Expectation,
    /// What the digest is, for people: `kernel`.
    pub name: Option<String>,
    /// The kind of boot that it is about ([`variant`]); every kind if there is none.
    pub variant: Option<String>,
}

impl EventRule {
    /// The digests that satisfy the rule in `bank`; none for an absent rule.
    pub fn digests(&self, bank: HashAlg) -> impl Iterator<Item = &HashValue> {
        let digests = match &self.expectation {
            Expectation::OneOf { digests, .. } => Some(digests),
            Expectation::Absent => None,
        };
        digests.into_iter().flatten().filter(move |digest| digest.alg() == bank)
    }

    /// Whether a boot of `variant` is held against it.
    #[must_use]
    pub fn is_of(&self, variant: Option<&str>) -> bool {
        self.variant.is_none() || self.variant.as_deref() == variant
    }

    /// Whether the event may be missing.
    #[must_use]
    pub const fn is_optional(&self) -> bool {
        !matches!(self.expectation, Expectation::OneOf { optional: false, .. })
    }

    /// Whether the rule closes its PCR: every rule but an absent one does.
    #[must_use]
    pub fn closes(&self) -> bool {
        matches!(self.expectation, Expectation::OneOf { .. })
    }
}

/// The whole values that the PCRs of one bank may have; no list is empty.
pub type PcrRules = BTreeMap<PcrIndex, BTreeSet<HashValue>>;

/// A well-formed manifest: bounded, saying something about what was booted, without contradictions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    pub(super) id: ReleaseId,
    pub(super) counter: u64,
    pub(super) description: Option<String>,
    pub(super) pcrs: BTreeMap<HashAlg, PcrRules>,
    pub(super) events: Vec<EventRule>,
    pub(super) ima: Option<ImaRules>,
    pub(super) secure_boot: Option<SecureBootRule>,
    pub(super) images: Vec<ImageRule>,
    pub(super) sboms: Vec<SbomRef>,
}

impl Manifest {
    /// Reads a manifest, or reports everything that is wrong with it.
    pub fn parse(text: &str) -> Result<Self, ManifestFaults> {
        read::read(text)
    }

    /// The canonical text: equal manifests have equal text, and parsing it gives the manifest back.
    #[must_use]
    pub fn render(&self) -> String {
        render::render(self)
    }

    /// The SHA-256 of the canonical text.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(self.render().as_bytes())
    }

    /// Product and version.
    #[must_use]
    pub const fn id(&self) -> &ReleaseId {
        &self.id
    }

    /// The product.
    #[must_use]
    pub const fn product(&self) -> &ProductName {
        &self.id.product
    }

    /// The version.
    #[must_use]
    pub const fn version(&self) -> &ReleaseVersion {
        &self.id.version
    }

    /// Rises with each release of the product; a lower one is a rollback.
    #[must_use]
    pub const fn counter(&self) -> u64 {
        self.counter
    }

    /// What the release is, for people.
    #[must_use]
    pub fn description(&self) -> Option<&str> {
        self.description.as_deref()
    }

    /// The whole values of each bank.
    #[must_use]
    pub const fn pcrs(&self) -> &BTreeMap<HashAlg, PcrRules> {
        &self.pcrs
    }

    /// The event rules, lowest PCR first, and as written within a PCR.
    #[must_use]
    pub fn events(&self) -> &[EventRule] {
        &self.events
    }

    /// The event rules of `pcr`, as written.
    pub fn rules(&self, pcr: PcrIndex) -> impl Iterator<Item = &EventRule> {
        self.events.iter().filter(move |rule| rule.pcr == pcr)
    }

    /// What the release says about files; `None` if it leaves them unappraised.
    #[must_use]
    pub const fn ima(&self) -> Option<&ImaRules> {
        self.ima.as_ref()
    }

    /// What the release asks of Secure Boot.
    #[must_use]
    pub const fn secure_boot(&self) -> Option<&SecureBootRule> {
        self.secure_boot.as_ref()
    }

    /// The image rules, by path. With any of them, every image that a device measures must satisfy one.
    #[must_use]
    pub fn images(&self) -> &[ImageRule] {
        &self.images
    }

    /// The SBOMs that describe the release, by digest.
    #[must_use]
    pub fn sboms(&self) -> &[SbomRef] {
        &self.sboms
    }

    /// The PCRs that the release says anything about, in any bank.
    #[must_use]
    pub fn mentioned(&self) -> BTreeSet<PcrIndex> {
        let values = self.pcrs.values().flat_map(BTreeMap::keys).copied();
        let state = self.secure_boot.as_ref().and_then(|_| SecureBootRule::pcr());
        values.chain(self.events.iter().map(|rule| rule.pcr)).chain(state).collect()
    }

    /// The PCRs that the release constrains in every respect: by value, by a list of events closed in every variant, or PCR 7 by
    /// a closed `[secure_boot]`.
    #[must_use]
    pub fn constrained(&self) -> BTreeSet<PcrIndex> {
        let values = self.pcrs.values().flat_map(BTreeMap::keys).copied();
        let state =
            self.secure_boot.as_ref().filter(|rule| rule.closes()).and_then(|_| SecureBootRule::pcr());
        values.chain(self.closed()).chain(state).collect()
    }
}

/// The printed form. A manifest is stored as its signed text, so there is nothing to read back.
#[derive(Serialize)]
struct Document<'a> {
    schema: u64,
    product: &'a ProductName,
    version: &'a ReleaseVersion,
    counter: u64,
    description: Option<&'a str>,
    pcrs: BTreeMap<&'static str, BTreeMap<u8, Vec<String>>>,
    event: Vec<EventDocument<'a>>,
    #[serde(skip_serializing_if = "<[ImageRule]>::is_empty")]
    image: &'a [ImageRule],
    ima: Option<&'a ImaRules>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secure_boot: Option<SecureBootDocument<'a>>,
    #[serde(skip_serializing_if = "<[SbomRef]>::is_empty")]
    sbom: &'a [SbomRef],
}

#[derive(Serialize)]
struct SecureBootDocument<'a> {
    enabled: bool,
    #[serde(flatten)]
    rule: &'a SecureBootRule,
}

#[derive(Serialize)]
struct EventDocument<'a> {
    pcr: u8,
    #[serde(rename = "type")]
    event_type: EventType,
    digest: Vec<HashText>,
    optional: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    early: bool,
    absent: bool,
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    variant: Option<&'a str>,
}

impl<'a> From<&'a EventRule> for EventDocument<'a> {
    fn from(rule: &'a EventRule) -> Self {
        let (digest, optional, early) = match &rule.expectation {
            Expectation::OneOf { digests, optional, early } => {
                (digests.iter().copied().map(HashText).collect(), *optional, *early)
            }
            Expectation::Absent => (Vec::new(), false, false),
        };
        Self {
            pcr: rule.pcr.number(),
            event_type: rule.event_type,
            digest,
            optional,
            early,
            absent: !rule.closes(),
            name: rule.name.as_deref(),
            variant: rule.variant.as_deref(),
        }
    }
}

impl Serialize for Manifest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let values = |rules: &PcrRules| {
            rules
                .iter()
                .map(|(pcr, values)| (pcr.number(), values.iter().map(ToString::to_string).collect()))
                .collect()
        };
        Document {
            schema: SCHEMA,
            product: self.product(),
            version: self.version(),
            counter: self.counter,
            description: self.description(),
            pcrs: self.pcrs.iter().map(|(bank, rules)| (bank.name(), values(rules))).collect(),
            event: self.events.iter().map(EventDocument::from).collect(),
            ima: self.ima(),
            secure_boot: self.secure_boot.as_ref().map(|rule| SecureBootDocument { enabled: true, rule }),
            image: &self.images,
            sbom: &self.sboms,
        }
        .serialize(serializer)
    }
}
