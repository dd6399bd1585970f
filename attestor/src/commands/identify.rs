//! `touchstone-attestor identify`: what an administrator registers before the device enrolls. Needs no broker.

use std::path::{Path, PathBuf};

use pem::{EncodeConfig, LineEnding, Pem};
use policy::digest::Digest;
use policy::id::DeviceName;
use policy::tpm::public::Public;
use serde::Serialize;

use super::{CommandError, Format, system};
use crate::config::{Config, DEFAULT_FILE};
use crate::evidence::{Prover, ProverError};
use crate::tpm::{EkTemplate, EndorsementKey, EsapiTpm, TpmAddress, TpmHandle};

/// Who the device is, by its TPM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Identity {
    schema: u32,
    device: Option<DeviceName>,
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

/// Where the TPM is and which name the device asks for.
struct Place {
    tpm: TpmAddress,
    device: Option<DeviceName>,
}

/// Reads the identity from the TPM at `tpm`, or else from the one that the configuration names.
pub async fn identify(
    tpm: Option<TpmAddress>,
    config: Option<PathBuf>,
    format: Format,
) -> Result<String, CommandError> {
    let place = find(tpm, config)?;
    let handle = TpmHandle::start(EsapiTpm::new(place.tpm)).map_err(system("a thread for the TPM"))?;
    let prover = Prover::new(handle, PathBuf::new()).await?;
    let identity = Identity::of(&prover, place.device)?;
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
    let config = file.map(|file| Config::load(&file)).transpose()?;
    let device = config.as_ref().and_then(|config| config.device.clone());
    let tpm = match (tpm, config) {
        (Some(tpm), _) => tpm,
        (None, Some(config)) => config.tpm.ok_or(CommandError::NoTpm)?,
        (None, None) => TpmAddress::Device("/dev/tpmrm0".into()),
    };
    Ok(Place { tpm, device })
}

impl Identity {
    fn of(prover: &Prover, device: Option<DeviceName>) -> Result<Self, ProverError> {
        let (endorsement, key) = (prover.endorsement(), prover.endorsement_key());
        let others = endorsement.keys.iter().filter(|other| other.template != key.template);
        Ok(Self {
            schema: 1,
            device,
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
        let name = self.device.as_ref().map_or("(none asked for)", DeviceName::as_str);
        let certificate = match self.ek_certificate {
            Some(_) => "in the TPM",
            None => "none; an administrator registers the digest",
        };
        let mut out = format!(
            "device        {name}\nek digest     {}\nek type       {}\ncertificate   {certificate}\n\
             manufacturer  {}\nfirmware      {}\n",
            self.ek_digest, self.ek_type, self.manufacturer, self.firmware_version
        );
        for digest in &self.other_ek_digests {
            out.push_str(&format!("other ek      {digest}\n"));
        }
        out
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
