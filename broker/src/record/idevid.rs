//! Who the manufacturer of a device says it is.

use policy::digest::Digest;
use policy::evidence::devid::{Binding, BoundBy, DeviceIdentity};
use policy::id::DeviceName;
use policy::time::UnixTime;
use serde::{Deserialize, Serialize};

use super::device::AK;
use crate::store::record::Record;

/// Prefix of what IDevID certificates say, by device.
pub const IDEVID: &str = "idevid/";

/// How it is known that the IDevID key belongs to what the device proves itself with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tie {
    /// The attestation key certified it.
    Certify,
    /// The manufacturer certified the attestation key too.
    IakCertificate,
    /// It signed the device's first key; there is no TPM.
    WithoutTpm,
}

impl Tie {
    /// As commands show it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Certify => "certify",
            Self::IakCertificate => "iak-certificate",
            Self::WithoutTpm => "without-tpm",
        }
    }
}

/// What the IDevID certificate of a device says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoxIdentity {
    /// Names the box: [`DevIdCertificate::box_digest`](policy::evidence::devid::DevIdCertificate::box_digest).
    pub digest: Digest,
    /// The certificate's subject, for people.
    pub subject: String,
    /// The box's serial number.
    pub serial: String,
    /// Who made it, as they call themselves.
    pub manufacturer: String,
    /// How it is known.
    pub tie: Tie,
    /// Since when.
    pub since: UnixTime,
}

impl BoxIdentity {
    /// What `identity` says.
    #[must_use]
    pub fn of(identity: &DeviceIdentity, since: UnixTime) -> Self {
        let certificate = identity.certificate();
        Self {
            digest: certificate.box_digest(),
            subject: certificate.label().to_owned(),
            serial: certificate.serial_number().to_owned(),
            manufacturer: certificate.manufacturer().to_owned(),
            tie: match identity.binding() {
                Binding::Bound { by: BoundBy::Certify, .. } => Tie::Certify,
                Binding::Bound { by: BoundBy::IakCertificate, .. } => Tie::IakCertificate,
                Binding::IdentifiesOnly => Tie::WithoutTpm,
            },
            since,
        }
    }
}

impl Record for BoxIdentity {
    const VERSION: u32 = 1;
    const KIND: &'static str = "IDevID";
}

/// Key of what a device's IDevID certificate says.
#[must_use]
pub fn idevid_key(device: &DeviceName) -> String {
    format!("{IDEVID}{device}")
}

/// Key of the [owner](super::device::AkOwner) of an IDevID: like its AK, it tells a TPM under all its EKs.
#[must_use]
pub fn idevid_owner_key(digest: &Digest) -> String {
    format!("{AK}{}", digest.hex())
}
