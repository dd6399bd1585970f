//! Which zones take what has no TPM: it is known by a key in software, or by another's word, and proves nothing else.

use crate::appraisal::claims::{Claim, ClaimValue, Claims};
use crate::appraisal::policy::{Mode, ZonePolicy};
use crate::zone::admission::NEVER_RELAXED;

/// All that is claimed of a device without a TPM: who it is, and that its hardware is not recognised (AR4SI, 97).
#[must_use]
pub fn claims_without_tpm() -> Claims {
    let mut claims = Claims::default();
    claims.lower_to(Claim::InstanceIdentity, ClaimValue::APPROVED);
    claims.lower_to(Claim::Hardware, ClaimValue::NOT_RECOGNISED);
    claims
}

impl ZonePolicy {
    /// The claims for which the zone refuses every device without a TPM; none: it takes them.
    #[must_use]
    pub fn refuses_without_tpm(&self) -> Vec<Claim> {
        let claims = claims_without_tpm();
        let refuses = |claim: &Claim| self.mode == Mode::Enforce || NEVER_RELAXED.contains(claim);
        self.least.unmet(&claims).filter(refuses).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::appraisal::claims::LeastClaims;
    use crate::zone::Zone;

    fn refuses(mode: Mode, least: LeastClaims) -> Vec<Claim> {
        Zone { mode, least, ..Zone::new("cell-3".parse().unwrap()) }.policy().refuses_without_tpm()
    }

    #[test]
    fn only_a_zone_that_asks_for_no_tpm_takes_what_has_none() {
        let least = |claims: &[Claim]| {
            LeastClaims::new(claims.iter().map(|claim| (*claim, ClaimValue::WARNING)).collect())
        };
        let identity = || least(&[Claim::InstanceIdentity]);
        assert_eq!(refuses(Mode::Enforce, identity()), []);
        let boot = || least(&[Claim::InstanceIdentity, Claim::Executables]);
        assert_eq!(refuses(Mode::Enforce, boot()), [Claim::Executables]);
        assert_eq!(refuses(Mode::Observe, boot()), [], "appraisal is what observe relaxes");
        assert_eq!(refuses(Mode::Observe, LeastClaims::default()), [Claim::Hardware]);
        assert_eq!(refuses(Mode::Enforce, least(&[Claim::Hardware])), [Claim::Hardware]);
    }
}
