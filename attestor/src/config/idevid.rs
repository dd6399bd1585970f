//! `[idevid]`: the identity that the manufacturer gave the device (IEEE 802.1AR).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::Faults;
use crate::tpm::PERSISTENT_HANDLES;

/// `[idevid]` as it is written.
#[derive(Debug, Deserialize)]
pub(super) struct RawIdevId {
    certificate: Option<String>,
    key: Option<String>,
    iak_certificate: Option<String>,
    #[serde(flatten)]
    unknown: BTreeMap<String, toml::Value>,
}

/// Where the device's IDevID is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdevIdFiles {
    /// File with the certificate, and those between it and the manufacturer's root after it.
    pub certificate: PathBuf,
    /// Its key.
    pub key: IdevIdKey,
    /// File with the manufacturer's certificate of the attestation key.
    pub iak_certificate: Option<PathBuf>,
}

/// Where the key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdevIdKey {
    /// In the TPM, at a persistent handle.
    Handle(u32),
    /// In a file: TSS2 PRIVATE KEY, which only the TPM can use, or PKCS#8.
    File(PathBuf),
}

pub(super) fn idevid(
    base: &Path,
    raw: Option<&RawIdevId>,
    has_tpm: bool,
    faults: &mut Faults,
) -> Option<IdevIdFiles> {
    let raw = raw?;
    faults.unknown("idevid.", &raw.unknown);
    let certificate =
        faults.required("idevid.certificate", raw.certificate.as_ref(), "/etc/touchstone/idevid.pem");
    let certificate = certificate.map(|file| base.join(file));
    let key = faults.required("idevid.key", raw.key.as_ref(), "0x81020000")?;
    let key = match key.strip_prefix("0x") {
        None => IdevIdKey::File(base.join(key)),
        Some(digits) => {
            let handle = u32::from_str_radix(digits, 16).ok();
            let Some(handle) = handle.filter(|handle| PERSISTENT_HANDLES.contains(handle)) else {
                faults.add("idevid.key", "no persistent handle; write 0x81000000 to 0x81ffffff, or a file");
                return None;
            };
            IdevIdKey::Handle(handle)
        }
    };
    if !has_tpm && (matches!(key, IdevIdKey::Handle(_)) || raw.iak_certificate.is_some()) {
        faults.add("idevid", "a handle and an IAK certificate are of a TPM, and tpm is \"none\"");
    }
    let iak_certificate = raw.iak_certificate.as_deref().map(|file| base.join(file));
    Some(IdevIdFiles { certificate: certificate?, key, iak_certificate })
}
