//! EAT Attestation Results (draft-ietf-rats-ear): an appraisal in the form that Relying Parties read.
//!
//! The mapping is pure and total: the same record gives the same claims. Signing them is another's
//! task, and so is to say who the device is.
//!
//! What this does not promise: that the device still is what it was. `iat` is when it was appraised,
//! and a consumer believes nothing after `exp`.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::claims::{Claim, ClaimValue, Tier};
use super::result::{AppraisalRecord, Verdict};
use crate::time::UnixTime;

/// The one profile that is written and read. The draft's names changed from version to version, so a
/// consumer pins this string and does not guess.
pub const PROFILE: &str = "tag:ietf.org,2026:rats/ear#05";
/// The name of the one submodule: what the TPM attested.
pub const SUBMOD: &str = "tpm";
/// Seconds by which clocks of broker and consumer may differ.
pub const MAX_SKEW: u64 = 5;

/// The claims set of an EAR (draft-ietf-rats-ear, section 3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ear {
    /// Always [`PROFILE`].
    pub eat_profile: String,
    /// When the evidence was appraised. An integer: the draft forbids fractions.
    pub iat: u64,
    /// From then on it is not to be believed.
    pub exp: u64,
    /// Who appraised.
    pub ear_verifier_id: VerifierId,
    /// The appraised parts, by name.
    pub submods: BTreeMap<String, Submod>,
}

/// Who appraised (section 3.3 of the draft).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifierId {
    /// Who made the Verifier.
    pub developer: String,
    /// Which build of it.
    pub build: String,
}

/// The appraisal of one part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submod {
    /// The result in one word, never better than the worst claim.
    pub ear_status: Tier,
    /// The claims that were made, by their AR4SI names.
    pub ear_trustworthiness_vector: BTreeMap<String, i8>,
    /// What it was appraised by: zone and release.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ear_appraisal_policy_ids: Vec<String>,
    /// The nonce of the evidence, base64url (RFC 9711, section 4.1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eat_nonce: Option<String>,
}

/// An EAR is not to be relied on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EarError {
    /// Another profile, in which names and values may mean something else.
    #[error("the result has profile `{0}`; {PROFILE} is read, update whichever is older")]
    Profile(String),
    /// From the future.
    #[error("the result was appraised at {0}, which is still to come; set the clocks")]
    Early(UnixTime),
    /// Too old.
    #[error("the result ended at {0}; ask for a new one")]
    Expired(UnixTime),
    /// Nothing was appraised.
    #[error("the result has no submodule; it says nothing")]
    Empty,
    /// A status that its own claims contradict.
    #[error("the status of `{0}` is better than its worst claim; do not rely on this Verifier")]
    Status(String),
}

impl Ear {
    /// The claims set of one appraisal: `nonce` is the qualifying data of its quote, `exp` when it ends.
    #[must_use]
    pub fn of(record: &AppraisalRecord, nonce: Option<&[u8]>, verifier: VerifierId, exp: UnixTime) -> Self {
        let claims = record.claims.iter().map(|(claim, value)| (claim.name().to_owned(), value.0));
        let release = record.release.as_ref().or(record.closest.as_ref());
        let policies = std::iter::once(format!("zone/{}", record.zone));
        let submod = Submod {
            ear_status: status(record),
            ear_trustworthiness_vector: claims.collect(),
            ear_appraisal_policy_ids: policies.chain(release.map(|id| format!("release/{id}"))).collect(),
            eat_nonce: nonce.map(|nonce| URL_SAFE_NO_PAD.encode(nonce)),
        };
        Self {
            eat_profile: PROFILE.to_owned(),
            iat: record.at.0,
            exp: exp.0,
            ear_verifier_id: verifier,
            submods: BTreeMap::from([(SUBMOD.to_owned(), submod)]),
        }
    }

    /// What a consumer must know before it relies on a claims set whose signature it verified: the
    /// profile is the pinned one, the time is right, and no status is better than its claims.
    pub fn verify(&self, now: UnixTime) -> Result<(), EarError> {
        if self.eat_profile != PROFILE {
            return Err(EarError::Profile(self.eat_profile.chars().take(120).collect()));
        }
        if self.iat > now.plus(MAX_SKEW).0 {
            return Err(EarError::Early(UnixTime(self.iat)));
        }
        if now.0 >= self.exp.saturating_add(MAX_SKEW) {
            return Err(EarError::Expired(UnixTime(self.exp)));
        }
        if self.submods.is_empty() {
            return Err(EarError::Empty);
        }
        match self.submods.iter().find(|(_, submod)| submod.ear_status < submod.worst()) {
            Some((name, _)) => Err(EarError::Status(name.chars().take(40).collect())),
            None => Ok(()),
        }
    }
}

impl Submod {
    /// The worst tier of the claims that are known; unknown ones must be ignored (section 3.2).
    fn worst(&self) -> Tier {
        let known = |name: &str| Claim::ALL.iter().any(|claim| claim.name() == name);
        let values = self.ear_trustworthiness_vector.iter().filter(|(name, _)| known(name));
        worst(values.map(|(_, value)| ClaimValue(*value)))
    }
}

/// The worst tier of these values; one that says nothing is no reason against the others.
fn worst(values: impl Iterator<Item = ClaimValue>) -> Tier {
    values.map(ClaimValue::tier).filter(|tier| *tier != Tier::None).max().unwrap_or(Tier::Affirming)
}

/// The verdict as a status, lowered to the worst claim. Where nothing was compared the status is none,
/// unless a claim speaks against the device.
fn status(record: &AppraisalRecord) -> Tier {
    let worst = worst(record.claims.iter().map(|(_, value)| value));
    match record.verdict {
        Verdict::Affirming => worst,
        Verdict::Warning => worst.max(Tier::Warning),
        Verdict::Contraindicated => Tier::Contraindicated,
        Verdict::Unappraised => Tier::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::appraisal::claims::Claims;

    const AT: UnixTime = UnixTime(1_800_000_000);

    fn record(verdict: Verdict, claims: &[(Claim, ClaimValue)]) -> AppraisalRecord {
        let mut made = Claims::default();
        for (claim, value) in claims {
            made.lower_to(*claim, *value);
        }
        AppraisalRecord {
            zone: "cell-3".parse().unwrap(),
            at: AT,
            verdict,
            claims: made,
            release: Some("edge@1.4".parse().unwrap()),
            closest: None,
            findings: Vec::new(),
            findings_left_out: 0,
            not_appraised: Vec::new(),
        }
    }

    fn ear(verdict: Verdict, claims: &[(Claim, ClaimValue)]) -> Ear {
        let verifier = VerifierId { developer: "Touchstone".to_owned(), build: "0.1.0".to_owned() };
        Ear::of(&record(verdict, claims), Some(&[0xfb; 8]), verifier, AT.plus(900))
    }

    #[test]
    fn the_claims_set_is_that_of_the_draft() {
        let claims = [
            (Claim::Executables, ClaimValue::BOOT_APPROVED),
            (Claim::InstanceIdentity, ClaimValue::APPROVED),
        ];
        let expected = serde_json::json!({
            "eat_profile": "tag:ietf.org,2026:rats/ear#05",
            "iat": 1_800_000_000,
            "exp": 1_800_000_900,
            "ear_verifier_id": { "developer": "Touchstone", "build": "0.1.0" },
            "submods": { "tpm": {
                "ear_status": "affirming",
                "ear_trustworthiness_vector": { "executables": 3, "instance-identity": 2 },
                "ear_appraisal_policy_ids": ["zone/cell-3", "release/edge@1.4"],
                "eat_nonce": "-_v7-_v7-_s"
            }}
        });
        assert_eq!(serde_json::to_value(ear(Verdict::Affirming, &claims)).unwrap(), expected);
    }

    #[test]
    fn the_status_is_never_better_than_verdict_or_worst_claim() {
        let [good, odd, bad] = [ClaimValue::APPROVED, ClaimValue::UNRECOGNISED, ClaimValue::CRYPTO_FAILED];
        for (verdict, value, expected) in [
            (Verdict::Affirming, good, Tier::Affirming),
            (Verdict::Affirming, odd, Tier::Warning),
            (Verdict::Affirming, bad, Tier::Contraindicated),
            (Verdict::Warning, good, Tier::Warning),
            (Verdict::Warning, bad, Tier::Contraindicated),
            (Verdict::Contraindicated, odd, Tier::Contraindicated),
            (Verdict::Unappraised, good, Tier::None),
        ] {
            let ear = ear(verdict, &[(Claim::Hardware, good), (Claim::Executables, value)]);
            assert_eq!(ear.submods[SUBMOD].ear_status, expected, "{verdict} {value}");
            assert_eq!(ear.verify(AT), Ok(()));
        }
    }

    #[test]
    fn a_consumer_refuses_another_profile_time_and_a_status_above_its_claims() {
        let honest = ear(Verdict::Affirming, &[(Claim::Executables, ClaimValue::UNRECOGNISED)]);
        let other = "tag:github.com,2023:veraison/ear".to_owned();
        let foreign = Ear { eat_profile: other.clone(), ..honest.clone() };
        assert_eq!(foreign.verify(AT), Err(EarError::Profile(other)));
        assert_eq!(honest.verify(AT.minus(6)), Err(EarError::Early(AT)));
        assert_eq!(honest.verify(AT.plus(904)), Ok(()));
        assert_eq!(honest.verify(AT.plus(905)), Err(EarError::Expired(AT.plus(900))));
        let silent = Ear { submods: BTreeMap::new(), ..honest.clone() };
        assert_eq!(silent.verify(AT), Err(EarError::Empty));
        let mut vain = honest;
        vain.submods.get_mut(SUBMOD).unwrap().ear_status = Tier::Affirming;
        assert_eq!(vain.verify(AT), Err(EarError::Status(SUBMOD.to_owned())));
    }

    #[test]
    fn unknown_claims_are_ignored() {
        let mut ear = ear(Verdict::Affirming, &[(Claim::Executables, ClaimValue::APPROVED)]);
        let submod = ear.submods.get_mut(SUBMOD).unwrap();
        submod.ear_trustworthiness_vector.insert("colour".to_owned(), 99);
        assert_eq!(ear.verify(AT), Ok(()));
    }
}
