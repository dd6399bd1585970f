//! The exchange of a device without a TPM.
//!
//! Promises: a key that the broker hears of is on disk first, but for those that ask for certificates: they are
//! in memory until the answer is adopted, and made anew when it is lost. A device goes on whichever answer was lost, that
//! to its enrollment too.

use std::collections::BTreeMap;

use policy::time::UnixTime;
use proto::v1;
use proto::v1::DenialReason;

use super::attester::Attester;
use super::exchange::{ExchangeError, Known, Said, at_begin, at_complete, join_token};
use super::machine::Exchange;
use crate::client::{CallError, Calls};
use crate::device_key::DeviceKey;
use crate::evidence::{Challenge, EvidenceError, Subject, VERSION, answer_keyed};
use crate::role::Seat;
use crate::software_key::SoftwareKey;
use crate::state::State;

/// The keys for which certificates were asked.
pub(super) type Made = BTreeMap<Seat, SoftwareKey>;

/// A challenge, and what the broker knows of the device's key.
struct Begun {
    /// What it is for: a device that enrolled already, and was not told, renews.
    exchange: Exchange,
    challenge: Option<v1::Challenge>,
    /// Digest of the key that is expected.
    expected: Vec<u8>,
    /// The ticket for that, if the broker knows it.
    ticket: Vec<u8>,
}

/// Proves the device and gives the broker's answer with the keys that it may be about.
pub(super) async fn run(
    attester: &Attester,
    connection: &impl Calls,
    exchange: Exchange,
    Said { known, health, software_keys }: Said<'_>,
) -> Result<(v1::CompleteResponse, Made), ExchangeError> {
    let Begun { exchange, challenge, expected, ticket } =
        begin(attester, connection, exchange, known).await?;
    let challenge = Challenge::parse(challenge).map_err(EvidenceError::from)?;
    attester.take_time(UnixTime(challenge.broker_time()))?;
    let (device, next) = with_next(attester, &expected, ticket)?;
    let keys = due_keys(attester)?;
    let token = match exchange {
        Exchange::Enroll => join_token(attester),
        Exchange::Renew | Exchange::OnDemand => None,
    };
    let subject = Subject { token, health, software_keys, ..known.subject(attester, exchange) };
    let mut request = answer_keyed((&challenge, &expected), &subject, &keys, &device, &next)?;
    if let (Exchange::Enroll, Some(idevid)) = (exchange, &attester.idevid) {
        let shown = idevid.prove(None, &request.sealed, &request.statement).await;
        request.idevid = Some(shown.map_err(EvidenceError::IdevId)?);
    }
    let response = match exchange {
        Exchange::Enroll => connection.complete_enrollment(request).await,
        Exchange::Renew | Exchange::OnDemand => connection.complete_attestation(request).await,
    };
    Ok((response.map_err(at_complete)?, keys))
}

async fn begin(
    attester: &Attester,
    connection: &impl Calls,
    exchange: Exchange,
    known: &Known,
) -> Result<Begun, ExchangeError> {
    let device = known.name(attester).ok_or(ExchangeError::Nameless)?.to_string();
    if exchange != Exchange::Enroll {
        return begin_attestation(connection, exchange, device).await;
    }
    let held = first(attester)?;
    if held.next.is_some()
        && let Some(begun) = enrolled_already(connection, &held, &device).await?
    {
        return Ok(begun);
    }
    let (device_key, expected) = (held.key.spki(), held.digest().0.to_vec());
    let request =
        v1::BeginEnrollmentRequest { versions: vec![VERSION], device_key, device, ..Default::default() };
    let begun = connection.begin_enrollment(request).await.map_err(at_begin)?;
    Ok(Begun { exchange, challenge: begun.challenge, expected, ticket: Vec::new() })
}

/// A challenge to renew, if the broker took the device's first proof and its answer was lost: it expects one of its keys.
async fn enrolled_already(
    connection: &impl Calls,
    held: &DeviceKey,
    device: &str,
) -> Result<Option<Begun>, ExchangeError> {
    match begin_attestation(connection, Exchange::Renew, device.to_owned()).await {
        Ok(begun) => Ok(Some(begun).filter(|begun| held.has(&begun.expected))),
        // It knows no such device, or one with a TPM. Any other denial says nothing of that.
        Err(ExchangeError::Call { call: CallError::Denied(denial), .. })
            if denial.reason() == DenialReason::NotFound =>
        {
            Ok(None)
        }
        Err(other) => Err(other),
    }
}

async fn begin_attestation(
    connection: &impl Calls,
    exchange: Exchange,
    device: String,
) -> Result<Begun, ExchangeError> {
    let (versions, ak_name, purpose) = (vec![VERSION], Vec::new(), exchange.purpose().into());
    let request = v1::BeginAttestationRequest { versions, device, ak_name, purpose };
    let begun = connection.begin_attestation(request).await.map_err(at_begin)?;
    let (challenge, expected, ticket) = (begun.challenge, begun.expected_key, begun.key_ticket);
    Ok(Begun { exchange, challenge, expected, ticket })
}

/// The device's key; the first is made and saved.
fn first(attester: &Attester) -> Result<DeviceKey, ExchangeError> {
    if let Some(held) = attester.keeper.read(|state: &State| state.device_key.clone()) {
        return Ok(held);
    }
    let made = DeviceKey::generate().map_err(EvidenceError::DeviceKey)?;
    attester.keeper.update(|state| state.device_key = Some(made.clone()))?;
    tracing::info!("made the device's first key, in software");
    Ok(made)
}

/// The device's key as the broker expects it, with the next, which is saved before anybody hears of it.
fn with_next(
    attester: &Attester,
    expected: &[u8],
    ticket: Vec<u8>,
) -> Result<(DeviceKey, SoftwareKey), ExchangeError> {
    let mut held = first(attester)?;
    held.expected(expected, ticket);
    let next = held.offer().map_err(EvidenceError::DeviceKey)?;
    attester.keeper.update(|state| state.device_key = Some(held.clone()))?;
    Ok((held, next))
}

/// A new key for each place that asks for a certificate now.
fn due_keys(attester: &Attester) -> Result<Made, ExchangeError> {
    let now = attester.now();
    let due = attester.keeper.read(|state: &State| state.due(now));
    let made = |seat| Ok((seat, SoftwareKey::generate().map_err(EvidenceError::DeviceKey)?));
    due.into_iter().map(made).collect()
}
