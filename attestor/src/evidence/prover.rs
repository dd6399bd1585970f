//! What the device proves itself with: its TPM, its endorsement and attestation key, its firmware log.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use policy::tpm::public::{Name, Public, PublicError};
use prost::Message;
use proto::v1;

use super::{Beginning, EvidenceError, ImaLogError, List, ima};
use crate::durable;
use crate::idevid::IdevId;
use crate::images::{Held, Images, LedgerError};
use crate::tpm::{EkTemplate, Endorsement, EndorsementKey, KEY_GENERATION_DEADLINE, TpmError, TpmHandle};

/// The TPM with what does not change while the attestor runs.
#[derive(Debug, Clone)]
pub struct Prover {
    tpm: TpmHandle,
    endorsement: Endorsement,
    key: EndorsementKey,
    key_name: Name,
    attestation_key: Vec<u8>,
    attestation_key_name: Name,
    firmware_log: PathBuf,
    userspace_log: Option<PathBuf>,
    ima_log: Option<PathBuf>,
    idevid: Option<Arc<IdevId>>,
    images: Option<Arc<Images>>,
}

/// The TPM cannot prove anything.
#[derive(Debug, thiserror::Error)]
pub enum ProverError {
    /// It does not answer as it should.
    #[error(transparent)]
    Tpm(#[from] TpmError),
    /// It has no endorsement key of a known kind.
    #[error(
        "the TPM has no endorsement key of a TCG default template; have its manufacturer's tool restore it"
    )]
    NoEndorsementKey,
    /// A public area of it cannot be read.
    #[error("the TPM gave a public area that cannot be read; update its firmware")]
    PublicArea(#[source] PublicError),
}

impl Prover {
    /// Reads endorsement and attestation key from the TPM.
    pub async fn new(tpm: TpmHandle, firmware_log: PathBuf) -> Result<Self, ProverError> {
        // The cheap one first: it finds a missing TPM at once, where RSA keys may take a minute.
        let attestation_key = tpm.attestation_key().await?;
        let endorsement = tpm.with_deadline(KEY_GENERATION_DEADLINE).endorsement().await?;
        let key = preferred(&endorsement.keys).ok_or(ProverError::NoEndorsementKey)?.clone();
        Ok(Self {
            key_name: Public::parse(&key.public).map_err(ProverError::PublicArea)?.name(),
            attestation_key_name: Public::parse(&attestation_key).map_err(ProverError::PublicArea)?.name(),
            tpm,
            endorsement,
            key,
            attestation_key,
            firmware_log,
            userspace_log: None,
            ima_log: None,
            idevid: None,
            images: None,
        })
    }

    /// Also sends systemd's log of its own measurements.
    #[must_use]
    pub fn with_userspace_log(mut self, file: &Path) -> Self {
        self.userspace_log = Some(file.to_owned());
        self
    }

    /// Also sends the list of Linux IMA, if there is a file to read it from.
    #[must_use]
    pub fn with_ima_log(mut self, file: Option<&Path>) -> Self {
        self.ima_log = file.map(Path::to_owned);
        self
    }

    /// Also proves the images that the attestor measures itself.
    #[must_use]
    pub fn with_images(mut self, images: Option<Arc<Images>>) -> Self {
        self.images = images;
        self
    }

    /// The images that it measures.
    #[must_use]
    pub const fn images(&self) -> Option<&Arc<Images>> {
        self.images.as_ref()
    }

    /// Also shows the identity that the manufacturer gave the device.
    #[must_use]
    pub fn with_idevid(mut self, idevid: Option<Arc<IdevId>>) -> Self {
        self.idevid = idevid;
        self
    }

    /// The identity that the manufacturer gave the device, if it has one.
    #[must_use]
    pub fn idevid(&self) -> Option<&IdevId> {
        self.idevid.as_deref()
    }

    /// The TPM.
    #[must_use]
    pub const fn tpm(&self) -> &TpmHandle {
        &self.tpm
    }

    /// All that the TPM knows of its origin.
    #[must_use]
    pub const fn endorsement(&self) -> &Endorsement {
        &self.endorsement
    }

    /// The endorsement key that opens credentials.
    #[must_use]
    pub const fn endorsement_key(&self) -> &EndorsementKey {
        &self.key
    }

    /// Its Name.
    #[must_use]
    pub fn endorsement_key_name(&self) -> Vec<u8> {
        self.key_name.to_bytes()
    }

    /// TPMT_PUBLIC of the attestation key.
    #[must_use]
    pub fn attestation_key(&self) -> &[u8] {
        &self.attestation_key
    }

    /// Its Name.
    #[must_use]
    pub fn attestation_key_name(&self) -> Vec<u8> {
        self.attestation_key_name.to_bytes()
    }

    /// Certificates of the TPM's other endorsement keys: quarantine holds for all of them.
    pub fn other_certificates(&self) -> impl Iterator<Item = &[u8]> {
        let others = self.endorsement.keys.iter().filter(|key| key.template != self.key.template);
        others.filter_map(|key| key.certificate.as_deref())
    }

    /// The firmware's event log; empty where there is none, which the broker judges.
    pub fn firmware_log(&self) -> Result<Vec<u8>, EvidenceError> {
        let limit = u64::try_from(policy::budget::MAX_EVENT_LOG_BYTES).unwrap_or(u64::MAX);
        match durable::read_bounded(&self.firmware_log, limit) {
            Ok(log) => Ok(log),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                tracing::warn!(
                    file = %self.firmware_log.display(),
                    "there is no firmware log: mount securityfs, or correct firmware_log; sending none"
                );
                Ok(Vec::new())
            }
            Err(source) => Err(EvidenceError::FirmwareLog { file: self.firmware_log.clone(), source }),
        }
    }

    /// systemd's log of its own measurements; empty where there is none, or none that may be read.
    #[must_use]
    pub fn userspace_log(&self) -> Vec<u8> {
        self.userspace_log.as_deref().map(readable).unwrap_or_default()
    }

    /// The image log, which stands still with its PCR while the value is held; none where nothing is measured.
    pub async fn image_log(&self) -> Result<Option<Held<'_>>, LedgerError> {
        match &self.images {
            Some(images) => images.hold().await.map(Some),
            None => Ok(None),
        }
    }

    /// The IMA list as it is now, to be sent with `request` to a broker that has `known` of it; empty where none is to be sent.
    pub fn ima_log(
        &self,
        request: &v1::CompleteRequest,
        known: Option<Beginning>,
    ) -> Result<List, ImaLogError> {
        let none = || Ok(List::InMessage(Vec::new()));
        let room = ima::room(request.encoded_len());
        self.ima_log.as_deref().map_or_else(none, |file| ima::read(file, room, known))
    }
}

/// systemd makes its log for root alone, so a device without it, or without the right to it, is ordinary:
/// the PCRs that it would explain are then unexplained, and the broker judges that.
fn readable(file: &Path) -> Vec<u8> {
    let limit = u64::try_from(policy::budget::MAX_SEQUENCE_BYTES).unwrap_or(u64::MAX);
    durable::read_bounded(file, limit).unwrap_or_else(|error| {
        tracing::debug!(file = %file.display(), %error, "sending no userspace log");
        Vec::new()
    })
}

/// One with a certificate before one without; P-256, P-384, then RSA: cheaper first, for broker and TPM.
pub(crate) fn preferred(keys: &[EndorsementKey]) -> Option<&EndorsementKey> {
    keys.iter().min_by_key(|key| (key.certificate.is_none(), cost(key.template)))
}

const fn cost(template: EkTemplate) -> u8 {
    match template {
        EkTemplate::L2 => 0,
        EkTemplate::H2 => 1,
        EkTemplate::H3 => 2,
        EkTemplate::L1 => 3,
        EkTemplate::H1 => 4,
        EkTemplate::H6 => 5,
        EkTemplate::H7 => 6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(template: EkTemplate, certified: bool) -> EndorsementKey {
        EndorsementKey { template, public: Vec::new(), certificate: certified.then(Vec::new) }
    }

    #[test]
    fn a_certificate_counts_more_than_the_kind_of_key() {
        use EkTemplate::{H3, L1, L2};
        let choose = |keys: &[EndorsementKey]| preferred(keys).map(|key| key.template);
        assert_eq!(choose(&[key(L1, true), key(H3, true)]), Some(H3));
        assert_eq!(choose(&[key(L1, true), key(L2, false)]), Some(L1));
        assert_eq!(choose(&[key(L1, false), key(L2, false)]), Some(L2));
        assert_eq!(choose(&[]), None);
    }
}
