//! What is known against a TPM, weighed (rows 29 and 30 of the checklist).
//!
//! A manufacturer's certificate says that a TPM is genuine, not that it keeps its keys. [`flaws`] holds the
//! attesting TPM against the public advisories, its own RSA keys against ROCA, and all against the operator's
//! rules; appraisal lowers the `hardware` claim by what it returns.
//!
//! How a flaw weighs: whether software on the device can use it. A key that can be computed or measured out
//! breaks the TPM's word. A flaw that needs hands on the chip, that only stops the TPM, or of which nothing says
//! that this TPM has it, is told and held against nobody: it is for the operator to say that boxes stand open
//! ([`DenyRule`]).
//!
//! Not promised: that a TPM without flaws has none, and that the firmware version of a quote is the TPM's. It is
//! obfuscated unless the attestation key is in the endorsement or platform hierarchy (TPM 2.0 Part 1, 36.7), which
//! a public area does not tell. The keys speak for themselves.

use serde::{Deserialize, Serialize};

use super::endorsement::{Applies, EndorsedEk, FirmwareBuild, Manufacturer, Weight, quoted_advisories};
use super::roca::RocaKey;
use crate::tpm::public::{AttestationKey, PublicKey};

/// Most rules of an operator: each manufacturer many times over.
pub const MAX_DENY_RULES: usize = 256;

/// Something known against the attesting TPM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flaw {
    /// The name it goes by: a CVE number, the paper's, or `tpm_deny`.
    pub id: String,
    /// How it weighs.
    pub weight: Weight,
    /// What is wrong and what to do, in a sentence for a technician.
    pub sentence: String,
}

/// An operator's rule against TPMs of one manufacturer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DenyRule {
    /// Whose TPMs. One that never showed a manufacturer's certificate may be anybody's, so while there are rules it
    /// counts as [`Weight::Vulnerable`].
    pub manufacturer: Manufacturer,
    /// Only firmware before this; none: all of them.
    pub firmware_before: Option<FirmwareBuild>,
    /// How it weighs.
    pub weight: Weight,
    /// Why, for whoever meets the refusal.
    pub why: String,
}

/// The TPM that attested.
#[derive(Debug, Clone, Copy)]
pub struct AttestingTpm<'a> {
    /// Its EK, if a manufacturer certifies it.
    pub endorsed: Option<&'a EndorsedEk>,
    /// Whose it is, by an EK certificate that it showed before and may leave out now.
    pub recorded: Option<Manufacturer>,
    /// The public part of its EK.
    pub ek: &'a PublicKey,
    /// The attestation key that signed.
    pub ak: &'a AttestationKey,
    /// `firmwareVersion` of the quote.
    pub firmware_version: u64,
}

/// Everything that is known against `tpm`.
#[must_use]
pub fn flaws(tpm: &AttestingTpm<'_>, rules: &[DenyRule]) -> Vec<Flaw> {
    let mut found = Vec::new();
    found.extend(weak_key("endorsement key", RocaKey::find_public(tpm.ek)));
    found.extend(weak_key("attestation key", RocaKey::find_public(tpm.ak.public().key())));
    found.extend(tpm.endorsed.into_iter().flat_map(EndorsedEk::chain_advisories).map(|advisory| Flaw {
        id: advisory.id.to_owned(),
        weight: Weight::Notice,
        sentence: format!("{} {}", advisory.summary, advisory.remedy),
    }));
    match tpm.endorsed.map(EndorsedEk::manufacturer).or(tpm.recorded) {
        Some(manufacturer) => {
            let build = FirmwareBuild::from_attest(tpm.firmware_version);
            found.extend(published(tpm, manufacturer, build));
            found.extend(rules.iter().filter(|rule| rule.concerns(manufacturer, build)).map(denied));
        }
        // Else a device would escape the rules by leaving its certificate out.
        None if !rules.is_empty() => found.push(of_nobody()),
        None => {}
    }
    found
}

fn of_nobody() -> Flaw {
    Flaw {
        id: "tpm_deny".to_owned(),
        weight: Weight::Vulnerable,
        sentence: "the broker has tpm_deny rules and cannot tell whose this TPM is; let the device send its EK certificate, and name the manufacturer's root in tpm_roots".to_owned(),
    }
}

fn weak_key(key: &str, found: Option<RocaKey>) -> Option<Flaw> {
    found.map(|RocaKey| Flaw {
        id: "CVE-2017-15361".to_owned(),
        weight: Weight::Broken,
        sentence: format!(
            "ROCA: the {key} was made by a flawed library and its private part can be computed from its public part; replace the TPM, or update its firmware and use keys on elliptic curves"
        ),
    })
}

fn published(
    tpm: &AttestingTpm<'_>,
    manufacturer: Manufacturer,
    build: FirmwareBuild,
) -> impl Iterator<Item = Flaw> {
    let signs_with_ecdsa = matches!(tpm.ak.public().key(), PublicKey::Ecc { .. });
    quoted_advisories(manufacturer, build).into_iter().map(move |(advisory, applies)| Flaw {
        id: advisory.id.to_owned(),
        weight: match applies {
            Applies::ToThisVersion if signs_with_ecdsa && advisory.breaks_ecdsa => Weight::Broken,
            Applies::ToThisVersion => advisory.weight,
            Applies::ToTheFamily | Applies::ToThisKey | Applies::ToThisChain => Weight::Notice,
        },
        sentence: format!("{manufacturer} TPM, firmware {build}: {} {}", advisory.summary, advisory.remedy),
    })
}

impl DenyRule {
    fn concerns(&self, manufacturer: Manufacturer, build: FirmwareBuild) -> bool {
        self.manufacturer == manufacturer && self.firmware_before.is_none_or(|before| build < before)
    }
}

fn denied(rule: &DenyRule) -> Flaw {
    let DenyRule { manufacturer, firmware_before, weight, why } = rule;
    let which = firmware_before.map_or_else(String::new, |before| format!(" with firmware before {before}"));
    Flaw {
        id: "tpm_deny".to_owned(),
        weight: *weight,
        sentence: format!("the broker's tpm_deny names TPMs by {manufacturer}{which}: {why}"),
    }
}
