//! What is publicly known against families of TPMs (row 29 of the checklist), and against SHA-1 under a chain.
//!
//! A short table with sources, not a vulnerability database: it holds what changes how far an EK or its TPM can
//! be believed. How a match weighs is told at [`crate::evidence::flaw`]; it is never a refusal by itself. No match
//! proves nothing. Versions are listed only where the manufacturer, or one who ships its TPMs, publishes them:
//! of CVE-2023-1018 and of CVE-2025-2884 in TPMs of AMD, Intel and STMicroelectronics none were found.

use serde::{Deserialize, Serialize};

use super::tcg::{FirmwareBuild, FirmwareVersion, Manufacturer};

/// How a flaw weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weight {
    /// Told, and held against nobody.
    Notice,
    /// Genuine hardware with a known vulnerability (AR4SI, hardware 32).
    Vulnerable,
    /// A key of the TPM can be had without the TPM: its word counts for nothing (AR4SI, hardware 96).
    Broken,
}

/// How certainly an advisory applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applies {
    /// The manufacturer names this firmware version as affected.
    ToThisVersion,
    /// The family is affected; the version in the certificate does not tell whether this TPM is.
    ToTheFamily,
    /// It is about the EK itself, whatever firmware the TPM runs.
    ToThisKey,
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
    /// How it weighs where it applies for certain.
    pub weight: Weight,
    /// Whether it gives away keys that sign with ECDSA: then it breaks an attestation key that does.
    pub breaks_ecdsa: bool,
    reach: Reach,
}

/// What an advisory is about; ranges of versions and builds are inclusive.
#[derive(Debug, PartialEq, Eq)]
enum Reach {
    Versions(Manufacturer, &'static [(FirmwareVersion, FirmwareVersion)]),
    Builds(Manufacturer, &'static [(FirmwareBuild, FirmwareBuild)]),
    Family(Manufacturer),
    Key,
    Chain,
}

impl Advisory {
    /// How certainly it applies to the certificate that it was found for.
    #[must_use]
    pub const fn applies(&self) -> Applies {
        match self.reach {
            Reach::Versions(..) => Applies::ToThisVersion,
            // A certificate tells two of four numbers.
            Reach::Builds(..) | Reach::Family(_) => Applies::ToTheFamily,
            Reach::Key => Applies::ToThisKey,
            Reach::Chain => Applies::ToThisChain,
        }
    }

    fn concerns(&self, manufacturer: Manufacturer, version: FirmwareVersion) -> bool {
        match self.reach {
            Reach::Versions(of, ranges) => {
                of == manufacturer && ranges.iter().any(|(first, last)| (*first..=*last).contains(&version))
            }
            Reach::Builds(of, ranges) => {
                let may_be = |(first, last): &(FirmwareBuild, FirmwareBuild)| {
                    (first.version()..=last.version()).contains(&version)
                };
                of == manufacturer && ranges.iter().any(may_be)
            }
            Reach::Family(of) => of == manufacturer,
            Reach::Key | Reach::Chain => false,
        }
    }

    /// How certainly it applies to a TPM that runs this firmware, if at all.
    fn applies_to(&self, manufacturer: Manufacturer, build: FirmwareBuild) -> Option<Applies> {
        match self.reach {
            Reach::Builds(of, ranges) => {
                let found = of == manufacturer
                    && ranges.iter().any(|(first, last)| (*first..=*last).contains(&build));
                found.then_some(Applies::ToThisVersion)
            }
            Reach::Versions(..) | Reach::Family(_) | Reach::Key | Reach::Chain => {
                self.concerns(manufacturer, build.version()).then_some(self.applies())
            }
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
    weight: Weight::Notice,
    breaks_ecdsa: false,
    reach: Reach::Chain,
};

/// The EK was made by the library of ROCA (see [`crate::evidence::flaw`]).
pub static ROCA_KEY: Advisory = Advisory {
    id: "ROCA",
    summary: "The EK was made by a flawed library: its private part can be computed from its public part.",
    remedy: "Replace the TPM, or update its firmware and enroll with its EK on an elliptic curve.",
    source: "https://crocs.fi.muni.cz/public/papers/rsa_ccs17",
    weight: Weight::Broken,
    breaks_ecdsa: false,
    reach: Reach::Key,
};

/// One version of a range.
const fn v(major: u16, minor: u16) -> FirmwareVersion {
    FirmwareVersion { major, minor }
}

/// One affected version.
const fn only(major: u16, minor: u16) -> (FirmwareVersion, FirmwareVersion) {
    (v(major, minor), v(major, minor))
}

/// One build.
const fn b(major: u16, minor: u16, build: u16, revision: u16) -> FirmwareBuild {
    FirmwareBuild([major, minor, build, revision])
}

const ADVISORIES: &[Advisory] = &[
    Advisory {
        id: "CVE-2017-15361",
        summary: "ROCA: RSA keys that this firmware generated can be factored, an AK among them.",
        remedy: "Update the TPM's firmware and make new keys; keys on elliptic curves are not affected.",
        source: "https://www.infineon.com/TPM-update",
        weight: Weight::Vulnerable,
        breaks_ecdsa: false,
        // The TPM 2.0 firmware lines: SLB 9665 (5.x) is fixed in 5.62, SLB 9670 (7.x) in 7.62.
        reach: Reach::Versions(Manufacturer::INFINEON, &[(v(5, 0), v(5, 61)), (v(7, 0), v(7, 61))]),
    },
    Advisory {
        id: "CVE-2019-16863",
        summary: "TPM-Fail: the time that ECDSA signatures take gives the private key away, an AK's too.",
        remedy: "Update the TPM's firmware and make new keys.",
        source: "https://www.st.com/content/st_com/en/campaigns/tpm-update.html",
        weight: Weight::Vulnerable,
        breaks_ecdsa: true,
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
        weight: Weight::Vulnerable,
        breaks_ecdsa: true,
        reach: Reach::Family(Manufacturer::INTEL),
    },
    Advisory {
        id: "faulTPM",
        summary: "Who can open the box can read the whole state of a firmware TPM of Zen 2 and Zen 3 processors.",
        remedy: "Count on it only where the box is out of reach, or use a discrete TPM.",
        source: "https://arxiv.org/abs/2304.14717",
        weight: Weight::Notice,
        breaks_ecdsa: false,
        reach: Reach::Family(Manufacturer::AMD),
    },
    Advisory {
        id: "CVE-2023-1017",
        summary: "Software on the device can stop an NPCT65x by a write out of bounds, until the power is cut.",
        remedy: "Update the TPM's firmware to 1.3.2.20 if an outage counts.",
        source: "https://www.nuvoton.com/support/security/security-advisories/sa-003/",
        weight: Weight::Notice,
        breaks_ecdsa: false,
        reach: Reach::Builds(
            Manufacturer::NUVOTON,
            &[(b(1, 3, 0, 1), b(1, 3, 0, 1)), (b(1, 3, 1, 0), b(1, 3, 1, 0)), (b(1, 3, 2, 8), b(1, 3, 2, 8))],
        ),
    },
    Advisory {
        id: "CVE-2025-2884",
        summary: "Software on the device can read beyond a buffer of an SLB 9672 or stop it.",
        remedy: "Update the TPM's firmware to 15.23.",
        // One who ships it names 15.21 as affected and 15.23 as mended; others are not published there.
        source: "https://www.ieiworld.com/en/support/con_show.php?cid=114&op=showone",
        weight: Weight::Vulnerable,
        breaks_ecdsa: false,
        reach: Reach::Versions(Manufacturer::INFINEON, &[only(15, 21)]),
    },
    Advisory {
        id: "CVE-2026-6923",
        summary: "Who has the chip of an NPCT7xx in hand can measure out a key of ECDH, as an EK on a curve is.",
        remedy: "Update the TPM's firmware to 7.2.4.0 where the box can be opened.",
        source: "https://app.opencve.io/cve/CVE-2026-6923",
        weight: Weight::Notice,
        breaks_ecdsa: false,
        reach: Reach::Builds(Manufacturer::NUVOTON, &[(b(7, 0, 0, 0), b(7, 2, 3, u16::MAX))]),
    },
];

/// What is known against TPMs of this manufacturer with this firmware. `version` is that of the certificate (at
/// manufacture) or, better, of a quote ([`FirmwareVersion::from_attest`]).
#[must_use]
pub fn advisories(manufacturer: Manufacturer, version: FirmwareVersion) -> Vec<&'static Advisory> {
    ADVISORIES.iter().filter(|advisory| advisory.concerns(manufacturer, version)).collect()
}

/// What is known against a TPM of this manufacturer that runs this firmware, as a quote tells it, and how
/// certainly it applies.
#[must_use]
pub fn quoted_advisories(
    manufacturer: Manufacturer,
    build: FirmwareBuild,
) -> Vec<(&'static Advisory, Applies)> {
    let found = |advisory: &'static Advisory| Some((advisory, advisory.applies_to(manufacturer, build)?));
    ADVISORIES.iter().filter_map(found).collect()
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

    #[test]
    fn a_quote_tells_builds_apart_and_a_certificate_does_not() {
        let quoted = |build: &str| -> Vec<(&str, Applies)> {
            let found = quoted_advisories(Manufacturer::NUVOTON, build.parse().unwrap());
            found.into_iter().map(|(advisory, applies)| (advisory.id, applies)).collect()
        };
        assert_eq!(quoted("1.3.2.8"), [("CVE-2023-1017", Applies::ToThisVersion)]);
        assert_eq!(quoted("1.3.2.20"), []);
        assert_eq!(quoted("7.2.3.1"), [("CVE-2026-6923", Applies::ToThisVersion)]);
        assert_eq!(quoted("7.2.4.0"), []);
        assert_eq!(ids(Manufacturer::NUVOTON, v(1, 3)), [("CVE-2023-1017", Applies::ToTheFamily)]);
        assert_eq!(ids(Manufacturer::NUVOTON, v(7, 2)), [("CVE-2026-6923", Applies::ToTheFamily)]);
        let mended = quoted_advisories(Manufacturer::INFINEON, b(15, 23, 0, 0));
        assert!(mended.is_empty(), "{mended:?}");
    }
}
