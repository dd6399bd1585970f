//! The exchange of a device without a TPM.
//!
//! Promises: a key that the broker hears of is on disk first, but for those that ask for certificates: they are
//! in memory until the answer is adopted, and made anew when it is lost.

use std::collections::BTreeMap;

use proto::v1;

use super::attester::Attester;
use super::exchange::{ExchangeError, Known, Said, at_begin, at_complete, join_token};
use super::machine::Exchange;
use crate::client::Connection;
use crate::device_key::DeviceKey;
use crate::evidence::{Challenge, EvidenceError, Subject, VERSION, answer_keyed};
use crate::role::Seat;
use crate::software_key::SoftwareKey;
use crate::state::State;

/// The keys for which certificates were asked.
pub(super) type Made = BTreeMap<Seat, SoftwareKey>;

/// Proves the device and gives the broker's answer with the keys that it may be about.
pub(super) async fn run(
    attester: &Attester,
    connection: &Connection,
    exchange: Exchange,
    Said { health, software_keys }: Said,
) -> Result<(v1::CompleteResponse, Made), ExchangeError> {
    let known = Known::of(attester);
    let (begun, expected) = begin(attester, connection, exchange, &known).await?;
    let challenge = Challenge::parse(begun).map_err(EvidenceError::from)?;
    let (device, next) = with_next(attester, &expected)?;
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

/// A challenge, and the digest of the key that it expects.
async fn begin(
    attester: &Attester,
    connection: &Connection,
    exchange: Exchange,
    known: &Known,
) -> Result<(Option<v1::Challenge>, Vec<u8>), ExchangeError> {
    let device = known.name(attester).ok_or(ExchangeError::Nameless)?.to_string();
    let versions = vec![VERSION];
    match exchange {
        Exchange::Enroll => {
            let key = first(attester)?.key;
            let device_key = key.spki();
            let request = v1::BeginEnrollmentRequest { versions, device_key, device, ..Default::default() };
            let begun = connection.begin_enrollment(request).await.map_err(at_begin)?;
            Ok((begun.challenge, key.digest().0.to_vec()))
        }
        Exchange::Renew | Exchange::OnDemand => {
            let (ak_name, purpose) = (Vec::new(), exchange.purpose().into());
            let request = v1::BeginAttestationRequest { versions, device, ak_name, purpose };
            let begun = connection.begin_attestation(request).await.map_err(at_begin)?;
            Ok((begun.challenge, begun.expected_key))
        }
    }
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
fn with_next(attester: &Attester, expected: &[u8]) -> Result<(DeviceKey, SoftwareKey), ExchangeError> {
    let mut held = first(attester)?;
    held.expected(expected);
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
