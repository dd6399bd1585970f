//! NvPCRs: NV indices that systemd extends like PCRs (checklist row 36).
//!
//! Whoever may use the TPM can delete such an index and define it again, so its value alone proves
//! nothing. It is accepted only as TPM2_NV_Certify tells it, whole, of an index whose Name systemd
//! measured into PCR 9 in the initrd (`nvpcr-init:<name>:0x<index>:<Name>`), before `nvpcr-separator`
//! closed the list. The Name covers type, policy and attributes, and those must leave no way to write
//! but extending under the policy. What the policy demands is systemd's to get right and is not read
//! here; nor does a record of systemd's log about an index ever count by itself.

use super::linux::EventOrigin;
use super::verify::VerifiedEvidence;
use crate::tpm::alg::HashValue;
use crate::tpm::attest::AttestError;
use crate::tpm::clock::ClockInfo;
use crate::tpm::nv::{NvAttest, NvAttributes, NvContents, NvPublic, NvPublicError};
use crate::tpm::pcr::PcrIndex;
use crate::tpm::public::{AttestationKey, Name};
use crate::tpm::signature::{Signature, SignatureError};

/// The PCR into which systemd measures the Names of its NvPCRs.
const INIT_PCR: PcrIndex = PcrIndex::NVPCR_INIT;
/// What ends their list.
const SEPARATOR: &str = "nvpcr-separator";

/// What a device sends about one NvPCR; untrusted.
#[derive(Debug, Clone, Copy)]
pub struct NvPcrClaim<'a> {
    /// systemd's name of it: `hardware`, `cryptsetup`, ...
    pub name: &'a str,
    /// `TPMS_NV_PUBLIC`
    pub public: &'a [u8],
    /// `TPMS_ATTEST`
    pub attest: &'a [u8],
    /// `TPMT_SIGNATURE`
    pub signature: &'a [u8],
}

/// An NvPCR is not proven.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NvPcrError {
    /// Not a public area.
    #[error("the NvPCR's public area cannot be read")]
    Public(#[source] NvPublicError),
    /// Not an NV certification.
    #[error("the NvPCR's certification cannot be read as TPM2_NV_Certify")]
    Certify(#[source] AttestError),
    /// Not signed by the attestation key.
    #[error("the NvPCR's certification is not signed by the device's attestation key")]
    Signature(#[source] SignatureError),
    /// Made for another challenge, another statement or another use.
    #[error(
        "the NvPCR's certification answers another challenge or another statement; ask for a new challenge"
    )]
    QualifyingData,
    /// Made in another boot than the quote.
    #[error("the NvPCR was certified in another boot than the quote was made in; attest again")]
    OtherBoot,
    /// A certification of another index, or of one with other attributes.
    #[error("the certification is of another NV index than {0}; certify the one whose public area is sent")]
    Name(Name),
    /// The index could be written otherwise than a PCR.
    #[error("NV index {index:#010x} {fault}; let systemd define it anew and reboot")]
    Attribute {
        /// The index.
        index: u32,
        /// What is wrong with it.
        fault: NvPcrFault,
    },
    /// Only a part of the contents, or only a hash of it.
    #[error(
        "the certification does not cover NV index {0:#010x} from its first byte to its last; certify all"
    )]
    Partial(u32),
    /// PCR 9 is not explained, or its list of NvPCRs is not closed.
    #[error("PCR 9 proves no closed list of NvPCRs; send systemd's measurement log of a finished boot")]
    NoList,
    /// PCR 9 does not name the index, or names it twice.
    #[error("PCR 9 names NvPCR {0} not exactly once; reboot the device and see what defines it")]
    NotMeasured(String),
    /// PCR 9 names another index, or one with other attributes, under this name.
    #[error("NvPCR {name} is not the index that was measured at boot; it was deleted and defined anew")]
    Redefined {
        /// Its name.
        name: String,
    },
}

/// Why an index is no PCR.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NvPcrFault {
    /// Not of type `TPM_NT_EXTEND`.
    #[error("is not of type extend")]
    NotExtend,
    /// No policy guards its first write.
    #[error("has no write policy")]
    NoPolicy,
    /// It can be written without the policy.
    #[error("can be written without its policy")]
    OpenWrite,
    /// It keeps its value over a reboot.
    #[error("keeps its value over a reboot")]
    Persistent,
    /// Its size is not its hash's.
    #[error("does not hold one digest of its hash")]
    Size,
}

/// An NvPCR whose value, Name and boot are proven. Only [`NvPcr::verify`] makes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NvPcr {
    name: String,
    index: u32,
    value: HashValue,
}

impl NvPcr {
    /// Verifies `claim` against the evidence that was verified under the same challenge.
    ///
    /// `qualifying_data` is that of [`Purpose::NvCertify`](super::Purpose::NvCertify).
    pub fn verify(
        claim: &NvPcrClaim<'_>,
        ak: &AttestationKey,
        qualifying_data: [u8; 32],
        evidence: &VerifiedEvidence,
    ) -> Result<Self, NvPcrError> {
        let public = NvPublic::parse(claim.public).map_err(NvPcrError::Public)?;
        let attest = NvAttest::parse(claim.attest).map_err(NvPcrError::Certify)?;
        Signature::parse(claim.signature)
            .and_then(|signature| signature.verify(ak, claim.attest))
            .map_err(NvPcrError::Signature)?;
        if attest.extra_data != qualifying_data {
            return Err(NvPcrError::QualifyingData);
        }
        same_boot(&attest.clock, &evidence.clock())?;
        // The TPM certifies no index that was never written (TPM 2.0 Part 3, 31.16).
        let name = public.name(true);
        if attest.index_name != name.to_bytes() {
            return Err(NvPcrError::Name(name));
        }
        like_a_pcr(&public).map_err(|fault| NvPcrError::Attribute { index: public.index, fault })?;
        measured_at_boot(claim.name, &public, evidence)?;
        let value = whole(&public, &attest).ok_or(NvPcrError::Partial(public.index))?;
        Ok(Self { name: claim.name.to_owned(), index: public.index, value })
    }

    /// systemd's name of it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its handle.
    #[must_use]
    pub const fn index(&self) -> u32 {
        self.index
    }

    /// What was extended so far.
    #[must_use]
    pub const fn value(&self) -> &HashValue {
        &self.value
    }
}

fn same_boot(certified: &ClockInfo, quoted: &ClockInfo) -> Result<(), NvPcrError> {
    let boot = |clock: &ClockInfo| (clock.reset_count, clock.restart_count);
    (boot(certified) == boot(quoted)).then_some(()).ok_or(NvPcrError::OtherBoot)
}

fn like_a_pcr(public: &NvPublic<'_>) -> Result<(), NvPcrFault> {
    let attributes = public.attributes;
    let open = [NvAttributes::PP_WRITE, NvAttributes::OWNER_WRITE, NvAttributes::AUTH_WRITE];
    if !attributes.is_extend() {
        return Err(NvPcrFault::NotExtend);
    }
    if !attributes.contains(NvAttributes::POLICY_WRITE) || public.policy.len() != public.name_alg.len() {
        return Err(NvPcrFault::NoPolicy);
    }
    if open.into_iter().any(|way| attributes.contains(way)) {
        return Err(NvPcrFault::OpenWrite);
    }
    if !attributes.contains(NvAttributes::CLEAR_STCLEAR) {
        return Err(NvPcrFault::Persistent);
    }
    let fits = usize::from(public.data_size) == public.name_alg.len();
    fits.then_some(()).ok_or(NvPcrFault::Size)
}

/// PCR 9 names the index before its list is closed, once, and with this Name. systemd may have read the
/// Name before or after it wrote the index first.
fn measured_at_boot(
    name: &str,
    public: &NvPublic<'_>,
    evidence: &VerifiedEvidence,
) -> Result<(), NvPcrError> {
    let bound = |origin: &'_ EventOrigin| match origin {
        EventOrigin::Userspace { text } => text.clone(),
        EventOrigin::Firmware | EventOrigin::Image(_) => None,
    };
    let texts: Vec<String> =
        evidence.events(INIT_PCR).iter().filter_map(|event| bound(&event.origin)).collect();
    let end = texts.iter().position(|text| text == SEPARATOR).ok_or(NvPcrError::NoList)?;
    let prefix = format!("nvpcr-init:{name}:0x");
    let mut named = texts.iter().take(end).filter_map(|text| text.strip_prefix(&prefix));
    let (Some(measured), None) = (named.next(), named.next()) else {
        return Err(NvPcrError::NotMeasured(name.to_owned()));
    };
    let expected = |written| format!("{:x}:{}", public.index, hex::encode(public.name(written).to_bytes()));
    let same = [true, false].into_iter().any(|written| measured == expected(written));
    same.then_some(()).ok_or_else(|| NvPcrError::Redefined { name: name.to_owned() })
}

/// The contents, if all of it is attested. A hash of it says less than the value and is not taken.
fn whole(public: &NvPublic<'_>, attest: &NvAttest<'_>) -> Option<HashValue> {
    match attest.contents {
        NvContents::Bytes { offset: 0, bytes } => HashValue::new(public.name_alg, bytes),
        NvContents::Bytes { .. } | NvContents::Digest(_) => None,
    }
}
