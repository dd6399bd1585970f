//! Evidence: the answer to a challenge. Statement, quote, certified keys and logs, bound to one another.
//!
//! Promises: the statement is encoded once and hashed as sent; quote and Certify carry the qualifying data of
//! exactly this challenge and this statement; the PCR values sent are those quoted; nothing
//! of it is logged. Does not promise that the Verifier likes it.

mod challenge;
mod ima;
mod keyed;
mod prover;
mod quote;
mod request;
mod self_check;
mod statement;

use std::collections::BTreeMap;
use std::path::PathBuf;

use proto::v1;

use crate::idevid::IdevIdError;
use crate::images::LedgerError;
use crate::role::Seat;
use crate::tpm::{Attestation, IdentityKeyBlob, TpmError};

pub use challenge::{Challenge, ChallengeError, VERSION};
pub use ima::{Beginning, ImaLogError, List, LongList};
pub use keyed::answer_keyed;
pub use prover::{Prover, ProverError};
pub use statement::Subject;
pub(crate) use statement::boot_id;

use request::Unsigned;
use statement::{Logs, Proving};

/// A challenge cannot be answered.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    /// The challenge asks for something this attestor does not do.
    #[error(transparent)]
    Challenge(#[from] ChallengeError),
    /// The TPM did not do its part.
    #[error(transparent)]
    Tpm(#[from] TpmError),
    /// PCRs changed between every read and quote.
    #[error(
        "the PCRs changed during each of {attempts} quotes; something extends them without pause, find it with \
         tpm2_pcrread, or let it finish"
    )]
    PcrsInMotion {
        /// How often it was tried.
        attempts: u32,
    },
    /// The firmware log cannot be read.
    #[error(
        "the firmware log {} cannot be read: {source}; give the attestor's user permission, or correct firmware_log",
        file.display()
    )]
    FirmwareLog {
        /// The file.
        file: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// The IMA list cannot be sent.
    #[error(transparent)]
    ImaLog(#[from] ImaLogError),
    /// The identity that the manufacturer gave the device cannot be shown.
    #[error(transparent)]
    IdevId(#[from] IdevIdError),
    /// Measured images are not all in the log.
    #[error(transparent)]
    Images(#[from] LedgerError),
    /// A key in software could not be made or used.
    #[error("the device's key in software cannot be used; delete its state and join again with a new token")]
    DeviceKey(#[source] rcgen::Error),
    /// A certificate request could not be made.
    #[error("the certificate request for {seat} could not be made; the device tries again")]
    Request {
        /// What it is for.
        seat: Seat,
        /// Why.
        #[source]
        source: rcgen::Error,
    },
}

/// A key with its certificate request.
struct RequestedKey {
    seat: Seat,
    key: IdentityKeyBlob,
    request: Vec<u8>,
}

/// What answers a challenge.
#[derive(Debug)]
pub struct Answer {
    /// The message, without the IMA list.
    pub request: v1::CompleteRequest,
    /// That list.
    pub list: List,
}

/// Answers a challenge. `secret` is the opened credential, empty for a bound AK; the broker has `known` of the IMA list.
pub async fn answer(
    prover: &Prover,
    challenge: &Challenge,
    subject: &Subject,
    keys: &BTreeMap<Seat, IdentityKeyBlob>,
    secret: &[u8],
    known: Option<Beginning>,
) -> Result<Answer, EvidenceError> {
    let firmware_log = prover.firmware_log()?;
    let userspace_log = prover.userspace_log();
    let requested = request_all(prover, keys).await?;
    let proving = Proving::by_tpm(prover, &requested);
    // Held until the quote is made: an entry in between would be in the PCR and not in the log.
    let images = prover.image_log().await?;
    let image_log = images.as_ref().map_or(&[][..], |images| &images.log);
    let logs = Logs { firmware: &firmware_log, userspace: &userspace_log, images: image_log };
    let statement = statement::encode(proving, challenge, subject, logs);
    let idevid = match prover.idevid() {
        Some(idevid) => Some(idevid.prove(Some(prover.tpm()), challenge.sealed(), &statement).await?),
        None => None,
    };
    let quoted = quote::take(prover, challenge, &statement, &requested).await?;
    let image_log = images.map(|images| images.log).unwrap_or_default();
    let identity_keys = requested.into_iter().zip(quoted.certifications);
    let request = v1::CompleteRequest {
        sealed: challenge.sealed().to_vec(),
        statement,
        credential_secret: secret.to_vec(),
        ek_public: prover.endorsement_key().public.clone(),
        ek_certificate: prover.endorsement_key().certificate.clone().unwrap_or_default(),
        ak_public: prover.attestation_key().to_vec(),
        ek_chain: prover.endorsement().chain.clone(),
        quote: quoted.quote.attest,
        quote_signature: quoted.quote.signature,
        pcr_values: quoted.pcr_values,
        identity_keys: identity_keys.map(|(key, certified)| to_wire(key, certified)).collect(),
        firmware_log,
        software_keys: subject.software_keys.clone(),
        userspace_log,
        image_log,
        ima_log: Vec::new(),
        ima_first: 0,
        ima_before: None,
        key_proof: None,
        idevid,
    };
    // Read last: every record that the quote covers is then on it.
    let list = prover.ima_log(&request, known)?;
    self_check::warn(challenge, &request, &list);
    Ok(Answer { request, list })
}

async fn request_all(
    prover: &Prover,
    keys: &BTreeMap<Seat, IdentityKeyBlob>,
) -> Result<Vec<RequestedKey>, EvidenceError> {
    let mut requested = Vec::new();
    for (seat, key) in keys {
        let failed = |source| EvidenceError::Request { seat: seat.clone(), source };
        let unsigned = Unsigned::of(key).map_err(failed)?;
        let signature = prover.tpm().sign_digest(key.clone(), unsigned.digest()).await?;
        let request = unsigned.signed(signature).map_err(failed)?;
        requested.push(RequestedKey { seat: seat.clone(), key: key.clone(), request });
    }
    Ok(requested)
}

fn to_wire(requested: RequestedKey, certified: Attestation) -> v1::IdentityKey {
    v1::IdentityKey {
        zone: requested.seat.zone.to_string(),
        role: requested.seat.role.to_wire().into(),
        public: requested.key.public().to_vec(),
        csr: requested.request,
        certify: certified.attest,
        certify_signature: certified.signature,
    }
}
