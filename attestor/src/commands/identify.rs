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
use crate::tpm::{EkTemplate, EndorsementKey, EsapiTpm, TpmAddress, TpmHandle};

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
        let others = endorsement.keys.iter().filter(|other| other.template != key.template);
        Ok(Self {
            ek_digest: digest(key)?,
            ek_type: kind(key.template),
            ek_certificate: key.certificate.as_ref().map(|der| {
                let lines = EncodeConfig::new().set_line_ending(LineEnding::LF);
                pem::encode_config(&Pem::new("CERTIFICATE", der.as_slice()), lines)
            }),
            manufacturer: ascii(endorsement.manufacturer),
            firmware_version: format!("{:#018x}", endorsement.firmware_version),
            other_ek_digests: others.map(digest).collect::<Result<_, _>>()?,
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

/// TPM_PT_MANUFACTURER as its four characters.
fn ascii(manufacturer: u32) -> String {
    let characters = manufacturer.to_be_bytes().map(char::from);
    characters.into_iter().filter(char::is_ascii_graphic).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manufacturer_is_read_without_its_padding() {
        assert_eq!(ascii(0x4942_4d00), "IBM");
        assert_eq!(ascii(0x4946_5800), "IFX");
    }
}
