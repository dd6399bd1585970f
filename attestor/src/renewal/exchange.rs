//! One exchange with the broker: a challenge, the answer, the verdict.
//!
//! Promises: a key is on disk before the broker hears of it; the credential secret and the join token's secret
//! leave the device only as the protocol says. Does not adopt anything: that is for `adopt`.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use policy::digest::Digest;
use policy::id::{DeviceName, ZoneName};
use policy::time::UnixTime;
use proto::v1;
use proto::v1::complete_response::Outcome;
use tokio::sync::mpsc;

use super::attester::{Attester, Means};
use super::keyed::{self, Made};
use super::left_out::{self, Logs};
use super::machine::Exchange;
use crate::boot_set::BootSet;
use crate::client::{CallError, Calls};
use crate::config::two_sided;
use crate::evidence::{self, Answer, Beginning, Challenge, EvidenceError, List, Prover, Subject, VERSION};
use crate::identity_key::IdentityKey;
use crate::join_token::JoinToken;
use crate::role::Seat;
use crate::software_key::{SoftwareKey, SoftwareSeat};
use crate::state::{SaveStateError, State};
use crate::svid::HeldSvid;
use crate::tpm::{
    Credential, IdentityKeyBlob, KEY_GENERATION_DEADLINE, Operation, PcrValue, Tpm, TpmError, TpmFault,
};

/// Most failing hooks that the broker takes the names of.
const MAX_FAILING_HOOKS: usize = 8;

/// An exchange gave no answer that could be adopted.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExchangeError {
    /// The broker refused or did not answer.
    #[error("{call}")]
    Call {
        /// It was the first call: no evidence was looked at.
        at_begin: bool,
        /// Why.
        call: CallError,
    },
    /// The device could not prove itself.
    #[error(transparent)]
    Evidence(#[from] EvidenceError),
    /// A new key could not be saved.
    #[error(transparent)]
    Save(#[from] SaveStateError),
    /// A software key could not be made.
    #[error("a software key for {seat} could not be made; the device tries again")]
    SoftwareKey {
        /// What it is for.
        seat: SoftwareSeat,
        /// Why.
        #[source]
        source: rcgen::Error,
    },
    /// The broker's answer holds neither certificates nor a reason.
    #[error("the broker's answer is empty; update broker and attestor to the same release")]
    Empty,
    /// There is no TPM to prove the device with.
    #[error("{0}")]
    NoTpm(String),
    /// The broker's clock jumped.
    #[error(
        "the broker's clock shows {said} and showed {expected} before, as this device's still does ({own}): set the clock of \
         the broker; until then this device keeps what it holds and proves nothing"
    )]
    BrokerClock {
        /// What it says.
        said: UnixTime,
        /// What it should say by what it said before.
        expected: UnixTime,
        /// What this device's clock shows.
        own: UnixTime,
    },
    /// The clock here runs ahead of the broker's: what it issued now would have ended by it.
    #[error(
        "this device takes the time to be {now}, and the broker's clock shows {said}: set the clock that is wrong; until then \
         this device keeps what it holds and asks for nothing, since new certificates would have ended by its own clock"
    )]
    ClockAhead {
        /// The time that counts here.
        now: UnixTime,
        /// What the broker says.
        said: UnixTime,
    },
    /// The state has no name to attest under.
    #[error("the device has no name yet; it enrolls first")]
    Nameless,
}

impl From<TpmError> for ExchangeError {
    fn from(error: TpmError) -> Self {
        Self::Evidence(error.into())
    }
}

impl ExchangeError {
    /// The identity keys belong to a TPM that is gone or was cleared.
    pub(super) fn keys_are_lost(&self) -> bool {
        let Self::Evidence(EvidenceError::Tpm(error)) = self else { return false };
        matches!(error.fault, TpmFault::KeyOfAnotherTpm | TpmFault::ParentMissing { .. })
    }
}

pub(super) fn at_begin(call: CallError) -> ExchangeError {
    ExchangeError::Call { at_begin: true, call }
}

pub(super) fn at_complete(call: CallError) -> ExchangeError {
    ExchangeError::Call { at_begin: false, call }
}

/// The broker's answer with the software keys that it may be about. They are in memory only: when the answer is lost
/// they are too, and others are made for the next.
pub(super) struct Answered {
    pub(super) outcome: Outcome,
    pub(super) software_keys: BTreeMap<SoftwareSeat, SoftwareKey>,
    /// The device's own, where it has no TPM.
    pub(super) identity_keys: Made,
    /// What the quote says that was booted; None without a TPM.
    pub(super) boot: Option<BootSet>,
    /// The broker was told that software does not have everything yet.
    pub(super) behind: bool,
    /// Sequence of the newest trust set that was seen when the exchange began.
    pub(super) seen: u64,
}

/// Runs an exchange to its end.
pub(super) async fn run(attester: &Attester, exchange: Exchange) -> Result<Answered, ExchangeError> {
    if let Means::Tpm(prover) = &attester.prover {
        try_keys(attester, prover).await?;
    }
    if let Some(images) = attester.prover.images() {
        images.ready().await;
    }
    let connection = attester.client.connect(attester.issuing_number()).await.map_err(at_begin)?;
    let answered = over(attester, &connection, exchange).await;
    if let Err(ExchangeError::BrokerClock { .. } | ExchangeError::ClockAhead { .. }) = &answered {
        connection.leave();
    }
    answered
}

/// The same with whatever answers its calls.
pub(super) async fn over(
    attester: &Attester,
    connection: &impl Calls,
    exchange: Exchange,
) -> Result<Answered, ExchangeError> {
    // Before the challenge: it must not grow old meanwhile.
    let health = match &attester.health {
        Some(checkup) => Some(checkup.stated().await),
        None => None,
    };
    let software_keys = new_software_keys(attester)?;
    let known = Known::of(attester);
    let said = Said { known: &known, health, software_keys: requests(&software_keys)? };
    let (response, identity_keys, boot) = match &attester.prover {
        Means::Absent(why) => return Err(ExchangeError::NoTpm(why.clone())),
        Means::Key => {
            let (response, made) = keyed::run(attester, connection, exchange, said).await?;
            (response, made, None)
        }
        Means::Tpm(prover) => {
            let with = (attester, prover.as_ref());
            let (response, boot) = match exchange {
                Exchange::Enroll => enroll(with, connection, said).await?,
                Exchange::Renew | Exchange::OnDemand => attest(with, connection, exchange, said).await?,
            };
            (response, Made::new(), Some(boot))
        }
    };
    let outcome = response.outcome.ok_or(ExchangeError::Empty)?;
    Ok(Answered { outcome, software_keys, identity_keys, boot, behind: known.behind, seen: known.seen })
}

/// What is said at one exchange alone.
pub(super) struct Said<'k> {
    pub(super) known: &'k Known,
    pub(super) health: Option<v1::Health>,
    pub(super) software_keys: Vec<v1::SoftwareKey>,
}

/// Parts of an IMA list that wait to be sent.
const PARTS: usize = 2;

/// A new key for each software key that is due.
fn new_software_keys(attester: &Attester) -> Result<BTreeMap<SoftwareSeat, SoftwareKey>, ExchangeError> {
    let (holders, now) = (attester.config.holders(), attester.now());
    let due = attester.keeper.read(|state: &State| state.due_software_keys(holders, now));
    let make = |seat: SoftwareSeat| match SoftwareKey::generate() {
        Ok(key) => Ok((seat, key)),
        Err(source) => Err(ExchangeError::SoftwareKey { seat, source }),
    };
    due.into_iter().map(make).collect()
}

fn requests(keys: &BTreeMap<SoftwareSeat, SoftwareKey>) -> Result<Vec<v1::SoftwareKey>, ExchangeError> {
    let request = |(seat, key): (&SoftwareSeat, &SoftwareKey)| {
        let csr =
            key.request().map_err(|source| ExchangeError::SoftwareKey { seat: seat.clone(), source })?;
        Ok(seat.to_wire(csr))
    };
    keys.iter().map(request).collect()
}

async fn enroll(
    (attester, prover): (&Attester, &Prover),
    connection: &impl Calls,
    Said { known, health, software_keys }: Said<'_>,
) -> Result<(v1::CompleteResponse, BootSet), ExchangeError> {
    let request = v1::BeginEnrollmentRequest {
        versions: vec![VERSION],
        ek_public: prover.endorsement_key().public.clone(),
        ek_certificate: prover.endorsement_key().certificate.clone().unwrap_or_default(),
        ak_public: prover.attestation_key().to_vec(),
        ..v1::BeginEnrollmentRequest::default()
    };
    let begun = connection.begin_enrollment(request).await.map_err(at_begin)?;
    let challenge = Challenge::parse(begun.challenge).map_err(EvidenceError::from)?;
    attester.take_time(UnixTime(challenge.broker_time()))?;
    let credential =
        Credential { id_object: begun.credential_blob, encrypted_secret: begun.encrypted_secret };
    let template = prover.endorsement_key().template;
    let tpm = prover.tpm().with_deadline(KEY_GENERATION_DEADLINE);
    let secret = tpm.activate(template, credential).await?;
    let token = join_token(attester);
    let subject = Subject { token, health, software_keys, ..known.subject(attester, Exchange::Enroll) };
    let keys = due_keys(attester, prover).await?;
    let answer = evidence::answer(prover, &challenge, &subject, &keys, &secret, None).await?;
    let boot = quoted_boot(&challenge, &answer.request);
    Ok((complete((attester, prover, false), connection, Exchange::Enroll, answer).await?, boot))
}

async fn attest(
    (attester, prover): (&Attester, &Prover),
    connection: &impl Calls,
    exchange: Exchange,
    Said { known, health, software_keys }: Said<'_>,
) -> Result<(v1::CompleteResponse, BootSet), ExchangeError> {
    let device = known.device.as_ref().ok_or(ExchangeError::Nameless)?;
    let request = v1::BeginAttestationRequest {
        versions: vec![VERSION],
        device: device.to_string(),
        ak_name: prover.attestation_key_name(),
        purpose: exchange.purpose().into(),
    };
    let begun = connection.begin_attestation(request).await.map_err(at_begin)?;
    let by_digest = begun.takes_log_digests;
    let known_ima = attester.known_logs.ima().filter(|_| begun.takes_ima_before);
    let challenge = Challenge::parse(begun.challenge).map_err(EvidenceError::from)?;
    attester.take_time(UnixTime(challenge.broker_time()))?;
    let keys = due_keys(attester, prover).await?;
    let subject = Subject { health, software_keys, ..known.subject(attester, exchange) };
    let answer = evidence::answer(prover, &challenge, &subject, &keys, &[], known_ima).await?;
    let boot = quoted_boot(&challenge, &answer.request);
    Ok((complete((attester, prover, by_digest), connection, exchange, answer).await?, boot))
}

/// Sends the answer, with its logs by their digests where the broker takes that.
async fn complete(
    (attester, prover, by_digest): (&Attester, &Prover, bool),
    connection: &impl Calls,
    exchange: Exchange,
    Answer { request, list }: Answer,
) -> Result<v1::CompleteResponse, ExchangeError> {
    let digests = left_out::digests(&request);
    let shorter = || if by_digest { attester.known_logs.without(&request) } else { None };
    let short = match &list {
        List::InParts(_) => None,
        List::InMessage(_) => shorter(),
        List::Rest { .. } => shorter().or_else(|| Some(request.clone())),
    };
    let wanted = |answered: &v1::CompleteResponse| matches!(answered.outcome, Some(Outcome::LogsWanted(_)));
    let (answered, ima) = match short {
        None => send(connection, exchange, Answer { request, list }).await?,
        Some(short) => match send(connection, exchange, Answer { request: short, list }).await? {
            (answered, _) if wanted(&answered) => {
                let list = prover.ima_log(&request, None).map_err(EvidenceError::from)?;
                send(connection, exchange, Answer { request, list }).await?
            }
            taken => taken,
        },
    };
    if let Some(Outcome::Issued(_)) = answered.outcome {
        attester.known_logs.are(Logs { digests, ima });
    }
    Ok(answered)
}

/// Sends the answer, and says what the broker has of the IMA list then.
async fn send(
    connection: &impl Calls,
    exchange: Exchange,
    Answer { mut request, list }: Answer,
) -> Result<(v1::CompleteResponse, Option<Beginning>), ExchangeError> {
    let list = match list.put_into(&mut request) {
        Err(list) => list,
        Ok(whole) => {
            let answered = match exchange {
                Exchange::Enroll => connection.complete_enrollment(request).await,
                Exchange::Renew | Exchange::OnDemand => connection.complete_attestation(request).await,
            };
            return Ok((answered.map_err(at_complete)?, Some(whole)));
        }
    };
    let (sender, parts) = mpsc::channel(PARTS);
    let sent = Arc::new(OnceLock::new());
    let all = Arc::clone(&sent);
    // With an error comes the sender back: the broker must not take what was sent for all of it.
    let sending = move || match list.send(request, &sender) {
        // Before the sender goes, which is what the broker waits for.
        Ok(whole) => Ok(all.set(whole)),
        Err(error) => Err((error, sender)),
    };
    let mut sending = tokio::task::spawn_blocking(sending);
    let answered = async {
        match exchange {
            Exchange::Enroll => connection.complete_enrollment_in_parts(parts).await,
            Exchange::Renew | Exchange::OnDemand => connection.complete_attestation_in_parts(parts).await,
        }
    };
    tokio::pin!(answered);
    let answered = tokio::select! {
        answered = &mut answered => answered,
        ended = &mut sending => match ended {
            Ok(Err((error, _sender))) => return Err(EvidenceError::from(error).into()),
            Ok(Ok(_)) | Err(_) => answered.await,
        },
    };
    Ok((answered.map_err(at_complete)?, sent.get().copied()))
}

fn quoted_boot(challenge: &Challenge, request: &v1::CompleteRequest) -> BootSet {
    let values = challenge.selection().iter().zip(request.pcr_values.iter().cloned());
    BootSet::read(challenge.bank(), values.map(|(index, digest)| PcrValue { index, digest }))
}

/// What the device knows of itself when an exchange begins.
pub(super) struct Known {
    device: Option<DeviceName>,
    zones: Vec<ZoneName>,
    held_serial: Vec<u8>,
    delivered: Vec<Vec<u8>>,
    trust_sequence: u64,
    /// Sequence of the newest trust set that was seen.
    seen: u64,
    /// Its software was shown all that it holds, and some of it goes by older files until its hook ended well.
    behind: bool,
}

impl Known {
    pub(super) fn of(attester: &Attester) -> Self {
        let (shown, told) = (attester.shown.as_of().is_some(), attester.hooks.have_told_all());
        let (has_all, behind) = (shown && told, shown && !told);
        attester.keeper.read(|state: &State| Self {
            behind,
            seen: state.trust_sequence,
            delivered: state.svids.values().filter(|_| has_all).map(|svid| svid.serial().to_vec()).collect(),
            device: state.device.clone(),
            zones: state.zones.clone(),
            // What software does not have is not known here: an authority must not sign before its peers have it.
            trust_sequence: state.trust.as_ref().filter(|_| has_all).map_or(0, |trust| trust.sequence()),
            held_serial: state.svids.values().next().map(HeldSvid::serial).unwrap_or_default().to_vec(),
        })
    }

    /// The name that it has, or asks for.
    pub(super) fn name(&self, attester: &Attester) -> Option<DeviceName> {
        self.device.clone().or_else(|| attester.config.device.clone())
    }

    pub(super) fn subject(&self, attester: &Attester, exchange: Exchange) -> Subject {
        let config = &attester.config;
        let asked = if self.zones.is_empty() { &config.zones } else { &self.zones };
        Subject {
            purpose: exchange.purpose(),
            device: self.name(attester),
            zones: asked.clone(),
            services: config.services.clone(),
            inventory: config.inventory.clone(),
            vouches: config.vouches.clone(),
            software_keys: Vec::new(),
            health: None,
            failing_hooks: attester
                .failing()
                .into_iter()
                .map(|hook| hook.name)
                .take(MAX_FAILING_HOOKS)
                .collect(),
            two_sided: two_sided(&config.workloads),
            token: None,
            held_serial: self.held_serial.clone(),
            delivered: self.delivered.clone(),
            trust_sequence: self.trust_sequence,
            pinned_root: attester.root.spki_digest(),
            now: attester.now(),
        }
    }
}

/// A token that cannot be read is no reason to stay away: an administrator can still admit the device.
pub(super) fn join_token(attester: &Attester) -> Option<JoinToken> {
    let file = attester.config.join_token_file.as_ref()?;
    JoinToken::load(file).inspect_err(|error| tracing::warn!(%error, "enrolling without a join token")).ok()
}

/// Signs once with every key that is certified, at a start and when one of them did not sign. Those of a TPM that was
/// cleared are dead, which must not show only when they are due.
async fn try_keys(attester: &Attester, prover: &Prover) -> Result<(), TpmError> {
    if !attester.untried.load(Ordering::SeqCst) {
        return Ok(());
    }
    let held = |state: &State| state.tpm_keys(&state.svids.keys().cloned().collect::<Vec<_>>());
    for key in attester.keeper.read(held).into_values() {
        prover.tpm().sign_digest(key, Digest::of(b"").0).await?;
    }
    attester.untried.store(false, Ordering::SeqCst);
    Ok(())
}

/// The keys that ask for a certificate now; missing ones are made and saved first.
async fn due_keys(
    attester: &Attester,
    prover: &Prover,
) -> Result<BTreeMap<Seat, IdentityKeyBlob>, ExchangeError> {
    let now = attester.now();
    let due = attester.keeper.read(|state: &State| state.due(now));
    let mut keys = attester.keeper.read(|state: &State| state.tpm_keys(&due));
    let missing: Vec<Seat> = due.into_iter().filter(|seat| !keys.contains_key(seat)).collect();
    if missing.is_empty() {
        return Ok(keys);
    }
    let made = make_keys(prover, missing).await?;
    let own = |(seat, key): &(Seat, IdentityKeyBlob)| (seat.clone(), IdentityKey::Tpm(key.clone()));
    attester.keeper.update(|state| state.keys.extend(made.iter().map(own)))?;
    keys.extend(made);
    Ok(keys)
}

async fn make_keys(prover: &Prover, seats: Vec<Seat>) -> Result<Vec<(Seat, IdentityKeyBlob)>, TpmError> {
    let batch = move |tpm: &mut dyn Tpm| {
        let mut made = Vec::new();
        for seat in seats {
            made.push((seat, tpm.create_identity_key()?));
        }
        Ok(made)
    };
    let tpm = prover.tpm().with_deadline(KEY_GENERATION_DEADLINE);
    let made = tpm.run(Operation::CreateIdentityKey, batch).await?;
    for (seat, _) in &made {
        tracing::info!(zone = %seat.zone, role = %seat.role, "made an identity key in the TPM");
    }
    Ok(made)
}
