//! `touchstone-attestor identify`: what an administrator registers before the device enrolls. Needs no broker.

use std::path::{Path, PathBuf};

use pem::{EncodeConfig, LineEnding, Pem};
use policy::digest::Digest;
use policy::evidence::devid::Described;
use policy::id::DeviceName;
use policy::tpm::public::Public;
use serde::Serialize;

use super::{CommandError, Format, system};
use crate::config::{Config, DEFAULT_FILE, IdevIdFiles};
use crate::evidence::{Prover, ProverError};
use crate::idevid::IdevId;
use crate::tpm::{EkTemplate, EndorsementKey, EsapiTpm, OtherCertificate, TpmAddress, TpmHandle, ascii};

/// Who the device is, by its TPM or by its manufacturer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Identity {
    schema: u32,
    device: Option<DeviceName>,
    #[serde(flatten)]
    tpm: Option<TpmIdentity>,
    #[serde(flatten)]
    made: Option<BoxIdentity>,
}

/// Who the TPM is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct TpmIdentity {
    /// SHA-256 of the SubjectPublicKeyInfo of the endorsement key that enrolls.
    ek_digest: Digest,
    ek_type: &'static str,
    /// PEM.
    ek_certificate: Option<String>,
    manufacturer: String,
    firmware_version: String,
    /// The TPM's other endorsement keys.
    other_ek_digests: Vec<Digest>,
    /// What it calls itself; empty: nothing.
    vendor: String,
    /// Of the TPM 2.0 library specification, such as `1.59`; empty: it does not say.
    spec_revision: String,
    /// Every EK certificate in the TPM, that of the key that enrolls first.
    ek_certificates: Vec<StoredCertificate>,
}

/// An EK certificate in the TPM's NV.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct StoredCertificate {
    /// Its index, as `tpm2_nvread` takes it.
    nv_index: String,
    ek_type: &'static str,
    /// Of the SubjectPublicKeyInfo of its key; none: devices do not enroll by keys of its kind.
    ek_digest: Option<Digest>,
    /// PEM; none: it is unreadable.
    certificate: Option<String>,
}

impl StoredCertificate {
    /// That of a key, if the TPM holds one.
    fn of(key: &EndorsementKey) -> Result<Option<Self>, ProverError> {
        let Some(der) = &key.certificate else { return Ok(None) };
        Ok(Some(Self {
            nv_index: format!("{:#010x}", key.template.certificate_index()),
            ek_type: kind(key.template),
            ek_digest: Some(digest(key)?),
            certificate: Some(to_pem(der)),
        }))
    }

    fn other(other: &OtherCertificate) -> Self {
        Self {
            nv_index: format!("{:#010x}", other.index),
            ek_type: other.kind,
            ek_digest: None,
            certificate: other.certificate.as_deref().map(to_pem),
        }
    }

    fn describe(&self) -> String {
        let Self { nv_index, ek_type, ek_digest, certificate } = self;
        let of = match (certificate, ek_digest) {
            (None, _) => "unreadable".to_owned(),
            (Some(_), None) => "no device enrolls by a key of this kind".to_owned(),
            (Some(_), Some(digest)) => format!("of {digest}"),
        };
        format!("in the tpm    {ek_type} at {nv_index}, {of}\n")
    }
}

/// Who the manufacturer says the device is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct BoxIdentity {
    /// By which the device may be registered in place of its EK.
    idevid_digest: Digest,
    idevid_subject: String,
    idevid_serial: String,
}

/// Where the TPM is, and what else is known of the device.
struct Place {
    tpm: Option<TpmAddress>,
    device: Option<DeviceName>,
    idevid: Option<IdevIdFiles>,
}

/// Reads the identity from the TPM at `tpm`, or else from the one that the configuration names, and from its IDevID.
pub async fn identify(
    tpm: Option<TpmAddress>,
    config: Option<PathBuf>,
    format: Format,
) -> Result<String, CommandError> {
    let place = find(tpm, config)?;
    let load = |files| IdevId::load(files, place.tpm.is_some());
    let made = place.idevid.as_ref().map(load).transpose()?;
    let tpm = match place.tpm {
        Some(address) => {
            let handle = TpmHandle::start(EsapiTpm::new(address)).map_err(system("a thread for the TPM"))?;
            Some(TpmIdentity::of(&Prover::new(handle, PathBuf::new()).await?)?)
        }
        None if made.is_none() => return Err(CommandError::NoTpm),
        None => None,
    };
    let made = made.as_ref().map(|made| BoxIdentity::of(made.described()));
    let identity = Identity { schema: 1, device: place.device, tpm, made };
    Ok(match format {
        Format::Text => identity.describe(),
        Format::Json => format!("{:#}\n", serde_json::to_value(&identity).unwrap_or_default()),
    })
}

/// A machine without configuration is identified as well: its TPM is where the kernel puts it.
fn find(tpm: Option<TpmAddress>, config: Option<PathBuf>) -> Result<Place, CommandError> {
    let file = match (config, &tpm) {
        (Some(file), _) => Some(file),
        (None, None) if Path::new(DEFAULT_FILE).exists() => Some(PathBuf::from(DEFAULT_FILE)),
        (None, _) => None,
    };
    let Some(config) = file.map(|file| Config::load_local(&file)).transpose()? else {
        let tpm = tpm.unwrap_or_else(|| TpmAddress::Device("/dev/tpmrm0".into()));
        return Ok(Place { tpm: Some(tpm), device: None, idevid: None });
    };
    Ok(Place { tpm: tpm.or(config.tpm), device: config.device, idevid: config.idevid })
}

impl TpmIdentity {
    fn of(prover: &Prover) -> Result<Self, ProverError> {
        let (endorsement, key) = (prover.endorsement(), prover.endorsement_key());
        let others = || endorsement.keys.iter().filter(|other| other.template != key.template);
        let stored =
            std::iter::once(key).chain(others()).filter_map(|key| StoredCertificate::of(key).transpose());
        let unused = endorsement.others.iter().map(|other| Ok(StoredCertificate::other(other)));
        Ok(Self {
            ek_digest: digest(key)?,
            ek_type: kind(key.template),
            ek_certificate: key.certificate.as_deref().map(to_pem),
            manufacturer: ascii(endorsement.manufacturer).trim_end().to_owned(),
            firmware_version: format!("{:#018x}", endorsement.firmware_version),
            other_ek_digests: others().map(digest).collect::<Result<_, _>>()?,
            vendor: endorsement.model.vendor.trim().to_owned(),
            spec_revision: endorsement.model.revision.map(revision).unwrap_or_default(),
            ek_certificates: stored.chain(unused).collect::<Result<_, _>>()?,
        })
    }

    fn describe(&self) -> String {
        let certificate = match self.ek_certificate {
            Some(_) => "in the TPM",
            None => "none; an administrator registers the digest",
        };
        let mut out = format!(
            "ek digest     {}\nek type       {}\ncertificate   {certificate}\nmanufacturer  {}\nfirmware      {}\n",
            self.ek_digest, self.ek_type, self.manufacturer, self.firmware_version
        );
        for digest in &self.other_ek_digests {
            out.push_str(&format!("other ek      {digest}\n"));
        }
        for (what, said) in [("vendor", &self.vendor), ("revision", &self.spec_revision)] {
            if !said.is_empty() {
                out.push_str(&format!("{what:13} {said}\n"));
            }
        }
        out.extend(self.ek_certificates.iter().map(StoredCertificate::describe));
        out
    }
}

impl BoxIdentity {
    fn of(described: &Described) -> Self {
        Self {
            idevid_digest: described.box_digest,
            idevid_subject: described.subject.clone(),
            idevid_serial: described.serial_number.clone(),
        }
    }

    fn describe(&self) -> String {
        format!(
            "idevid digest {}\nidevid of     {}\nserial number {}\n",
            self.idevid_digest, self.idevid_subject, self.idevid_serial
        )
    }
}

impl Identity {
    fn describe(&self) -> String {
        let name = self.device.as_ref().map_or("(none asked for)", DeviceName::as_str);
        let tpm = self.tpm.as_ref().map(TpmIdentity::describe).unwrap_or_default();
        let made = self.made.as_ref().map(BoxIdentity::describe).unwrap_or_default();
        format!("device        {name}\n{tpm}{made}")
    }
}

fn digest(key: &EndorsementKey) -> Result<Digest, ProverError> {
    Ok(Public::parse(&key.public).map_err(ProverError::PublicArea)?.spki_digest())
}

const fn kind(template: EkTemplate) -> &'static str {
    match template {
        EkTemplate::L2 | EkTemplate::H2 => "p256",
        EkTemplate::H3 => "p384",
        EkTemplate::L1 | EkTemplate::H1 => "rsa2048",
        EkTemplate::H6 => "rsa3072",
        EkTemplate::H7 => "rsa4096",
    }
}

fn to_pem(der: &[u8]) -> String {
    pem::encode_config(&Pem::new("CERTIFICATE", der), EncodeConfig::new().set_line_ending(LineEnding::LF))
}

/// TPM_PT_REVISION as the specification writes it.
fn revision(hundreds: u32) -> String {
    format!("{}.{:02}", hundreds / 100, hundreds % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manufacturer_is_read_without_its_padding() {
        assert_eq!(ascii(0x4942_4d00), "IBM");
        assert_eq!(ascii(0x4946_5800), "IFX");
        assert_eq!((revision(159), revision(103)), ("1.59".to_owned(), "1.03".to_owned()));
    }
}
