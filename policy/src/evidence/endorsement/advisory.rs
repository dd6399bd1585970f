//! What is publicly known against families of TPMs (row 29 of the checklist), and against SHA-1 under a chain.
//!
//! A short table with sources, not a vulnerability database: it holds what changes how far an EK or its TPM can
//! be believed. A match is a reason to lower the `hardware` claim, never a refusal by itself. No match proves
//! nothing.

use super::tcg::{FirmwareVersion, Manufacturer};

/// How certainly an advisory applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applies {
    /// The manufacturer names this firmware version as affected.
    ToThisVersion,
    /// The family is affected; the version in the certificate does not tell whether this TPM is.
    ToTheFamily,
    /// It is not about the TPM, but about the certificates that vouch for it, as they were seen.
    ToThisChain,
}

/// One thing that is known against a family of TPMs, or against a chain of certificates.
#[derive(Debug, PartialEq, Eq)]
pub struct Advisory {
    /// The name it goes by: a CVE number, the paper's, or the algorithm's.
    pub id: &'static str,
    /// What it means for attestation, in one sentence.
    pub summary: &'static str,
    /// What to do.
    pub remedy: &'static str,
    /// Where it is published.
    pub source: &'static str,
    reach: Reach,
}

/// What an advisory is about; ranges of versions are inclusive.
#[derive(Debug, PartialEq, Eq)]
enum Reach {
    Versions(Manufacturer, &'static [(FirmwareVersion, FirmwareVersion)]),
    Family(Manufacturer),
    Chain,
}

impl Advisory {
    /// How certainly it applies to what it was found for.
    #[must_use]
    pub const fn applies(&self) -> Applies {
        match self.reach {
            Reach::Versions(..) => Applies::ToThisVersion,
            Reach::Family(_) => Applies::ToTheFamily,
            Reach::Chain => Applies::ToThisChain,
        }
    }

    fn concerns(&self, manufacturer: Manufacturer, version: FirmwareVersion) -> bool {
        match self.reach {
            Reach::Versions(of, ranges) => {
                of == manufacturer && ranges.iter().any(|(first, last)| (*first..=*last).contains(&version))
            }
            Reach::Family(of) => of == manufacturer,
            Reach::Chain => false,
        }
    }
}

/// The chain of an EK certificate rests on a signature with SHA-1 (see [`crate::x509::signature`]).
pub static SHA1_CHAIN: Advisory = Advisory {
    id: "SHA-1",
    summary: "The EK certificate or an authority above it is signed with SHA-1, which no longer resists collisions; \
              a chain is believed only if what is so signed began before 2017.",
    remedy: "See that the manufacturer no longer signs with SHA-1, or register the EK by its digest.",
    source: "https://shattered.io",
    reach: Reach::Chain,
};

/// One version of a range.
const fn v(major: u16, minor: u16) -> FirmwareVersion {
    FirmwareVersion { major, minor }
}

/// One affected version.
const fn only(major: u16, minor: u16) -> (FirmwareVersion, FirmwareVersion) {
    (v(major, minor), v(major, minor))
}

const ADVISORIES: &[Advisory] = &[
    Advisory {
        id: "CVE-2017-15361",
        summary: "ROCA: RSA keys that this firmware generated can be factored, an AK among them.",
        remedy: "Update the TPM's firmware and make new keys; keys on elliptic curves are not affected.",
        source: "https://www.infineon.com/TPM-update",
        // The TPM 2.0 firmware lines: SLB 9665 (5.x) is fixed in 5.62, SLB 9670 (7.x) in 7.62.
        reach: Reach::Versions(Manufacturer::INFINEON, &[(v(5, 0), v(5, 61)), (v(7, 0), v(7, 61))]),
    },
    Advisory {
        id: "CVE-2019-16863",
        summary: "TPM-Fail: the time that ECDSA signatures take gives the private key away, an AK's too.",
        remedy: "Update the TPM's firmware and make new keys.",
        source: "https://www.st.com/content/st_com/en/campaigns/tpm-update.html",
        reach: Reach::Versions(
            Manufacturer::STMICRO,
            &[
                only(71, 0),
                only(71, 4),
                only(71, 12),
                only(73, 0),
                only(73, 4),
                only(73, 5),
                only(73, 8),
                only(73, 9),
                only(74, 0),
                only(74, 4),
                only(74, 5),
                only(74, 8),
                only(74, 9),
                only(74, 16),
            ],
        ),
    },
    Advisory {
        id: "CVE-2019-11090",
        summary: "TPM-Fail: in firmware of before November 2019 the time of ECDSA signatures gives keys away.",
        remedy: "See that the platform's firmware is later than INTEL-SA-00241; the certificate does not tell.",
        source: "https://www.intel.com/content/www/us/en/security-center/advisory/intel-sa-00241.html",
        reach: Reach::Family(Manufacturer::INTEL),
    },
    Advisory {
        id: "faulTPM",
        summary: "Who can open the box can read the whole state of a firmware TPM of Zen 2 and Zen 3 processors.",
        remedy: "Count on it only where the box is out of reach, or use a discrete TPM.",
        source: "https://arxiv.org/abs/2304.14717",
        reach: Reach::Family(Manufacturer::AMD),
    },
];

/// What is known against TPMs of this manufacturer with this firmware. `version` is that of the certificate (at
/// manufacture) or, better, of a quote ([`FirmwareVersion::from_attest`]).
#[must_use]
pub fn advisories(manufacturer: Manufacturer, version: FirmwareVersion) -> Vec<&'static Advisory> {
    ADVISORIES.iter().filter(|advisory| advisory.concerns(manufacturer, version)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(manufacturer: Manufacturer, version: FirmwareVersion) -> Vec<(&'static str, Applies)> {
        advisories(manufacturer, version).iter().map(|found| (found.id, found.applies())).collect()
    }

    #[test]
    fn affected_versions_are_told_from_fixed_ones() {
        let roca = [("CVE-2017-15361", Applies::ToThisVersion)];
        assert_eq!(ids(Manufacturer::INFINEON, v(5, 61)), roca);
        assert_eq!(ids(Manufacturer::INFINEON, v(7, 40)), roca);
        assert_eq!(ids(Manufacturer::INFINEON, v(5, 62)), []);
        assert_eq!(ids(Manufacturer::INFINEON, v(15, 22)), []);
        assert_eq!(ids(Manufacturer::STMICRO, v(74, 8)), [("CVE-2019-16863", Applies::ToThisVersion)]);
        assert_eq!(ids(Manufacturer::STMICRO, v(74, 64)), []);
        assert_eq!(ids(Manufacturer::AMD, v(3, 1)), [("faulTPM", Applies::ToTheFamily)]);
    }
}
