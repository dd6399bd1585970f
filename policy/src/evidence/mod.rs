//! Evidence: what a device sends to prove what it booted, and what remains of it once verified.
//!
//! [`Evidence`] is bytes that nobody vouches for. [`verify::verify`] turns it into
//! [`verify::VerifiedEvidence`]: fresh, signed by the attestation key it was asked of, and explained
//! by its log. What is kept of it comes back as [`recorded::RecordedEvidence`], good for forecasts only.
//! Whether what was booted is good is appraised elsewhere.

pub mod device_key;
pub mod devid;
pub mod endorsement;
pub mod flaw;
mod grammar;
pub mod identity;
pub mod key_order;
pub mod linux;
pub mod nvpcr;
pub mod offline;
pub mod recorded;
mod roca;
pub mod secure_boot;
pub mod software_key;
pub mod verify;

use crate::digest::Digest;
use crate::eventlog::ima::verify::ImaPart;
use crate::tpm::pcr::PcrValues;

/// What a device sends; untrusted. A log that Linux writes is not demanded: without it the PCRs that it
/// would explain are unexplained, which fails every release that constrains them, and a release that says
/// which files may run demands the IMA list.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// The TPM's quote.
    pub quote: Quote,
    /// The values that the device says the quote is of: a quote carries only their hash.
    pub pcrs: PcrValues,
    /// The firmware event log as the kernel shows it.
    pub firmware_log: Vec<u8>,
    /// The list of Linux IMA, or what is new in it; read after the quote was made.
    pub ima: Option<ImaPart>,
    /// systemd's log of its own measurements.
    pub userspace_log: Option<Vec<u8>>,
    /// The attestor's log of the images that it measured.
    pub image_log: Option<Vec<u8>>,
}

impl Evidence {
    /// The logs besides the firmware's.
    #[must_use]
    pub fn linux_logs(&self) -> linux::LinuxLogs<'_> {
        linux::LinuxLogs { userspace: self.userspace_log.as_deref(), images: self.image_log.as_deref() }
    }
}

/// A signed quote as TPM2_Quote returns it; untrusted.
#[derive(Debug, Clone)]
pub struct Quote {
    /// `TPMS_ATTEST`
    pub attest: Vec<u8>,
    /// `TPMT_SIGNATURE`
    pub signature: Vec<u8>,
}

/// How far it is proven that the attestation key lives in a real TPM.
///
/// The endorsement step decides it and passes it in; this module only carries it on. Evidence under
/// [`HardwareProof::Unproven`] verifies like any other, and none of its PCR claims may count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HardwareProof {
    /// A trusted manufacturer certifies the endorsement key, or the box by an IDevID that is
    /// [bound](devid::Binding::Bound) to the attestation key.
    Endorsed,
    /// An administrator registered the endorsement key's digest, taken on the device or from the
    /// supplier.
    Registered,
    /// Nobody vouches for the endorsement key or the box: any program can have made the keys.
    Unproven,
}

/// What a signature over qualifying data is for; its label keeps the uses apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A quote of PCRs.
    Quote,
    /// A certification of the identity key.
    Certify,
    /// A signature by the IDevID key.
    DeviceIdentity,
    /// A certification of an NvPCR.
    NvCertify,
    /// A signature by the key that a device without a TPM proves itself with.
    DeviceKey,
    /// A signature by the key that follows that one.
    NextKey,
}

impl Purpose {
    /// The label that is hashed in.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Quote => "touchstone/v1/quote",
            Self::Certify => "touchstone/v1/certify",
            Self::DeviceIdentity => "touchstone/v1/idevid",
            Self::NvCertify => "touchstone/v1/nv-certify",
            Self::DeviceKey => "touchstone/v1/device-key",
            Self::NextKey => "touchstone/v1/next-key",
        }
    }
}

/// The qualifying data that binds a signature to a challenge and to the device's statement:
/// `SHA-256(label ‖ SHA-256(challenge) ‖ SHA-256(statement))`. Both are hashed
/// as received.
#[must_use]
pub fn qualifying_data(purpose: Purpose, challenge: &[u8], statement: &[u8]) -> [u8; 32] {
    let (challenge, statement) = (Digest::of(challenge), Digest::of(statement));
    Digest::of_parts(&[purpose.label().as_bytes(), &challenge.0, &statement.0]).0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn qualifying_data_keeps_uses_challenges_and_statements_apart() {
        let base = qualifying_data(Purpose::Quote, b"challenge", b"statement");
        // Computed with openssl dgst.
        let expected = "9903fa2be200c06c65452deb52f82c73ec45993e41305a20cbc7cb14a07947bc";
        assert_eq!(hex::encode(base), expected);
        assert_ne!(base, qualifying_data(Purpose::Certify, b"challenge", b"statement"));
        assert_ne!(base, qualifying_data(Purpose::Quote, b"challeng", b"estatement"));
    }
}
