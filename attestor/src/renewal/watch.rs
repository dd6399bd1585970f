//! The Watch stream: what the broker has to tell this device between attestations.
//!
//! Promises: while there is a certificate, a stream is open or about to be opened again, under the newest
//! certificate: the broker revokes the ones before it in time, and would tell an old stream that trust is lost.
//! Three missed heartbeats count as a broken stream, and so does a call that this broker did not answer, if there is
//! another. Does not act on what it hears: that is for the driver.

use std::sync::Arc;
use std::time::Duration;

use policy::time::UnixTime;
use proto::v1::watch_event::Event;
use proto::v1::{Denial, Heartbeat, SignedTrustSet, WantedRelease, WatchEvent};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use tonic::Streaming;

use super::attester::Attester;
use super::heard::SILENCE;
use crate::client::{CallError, Credentials};
use crate::state::State;
use crate::trust::{Expected, Seen, verify_heartbeat};

/// First and longest wait before the stream is opened again.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const MOST_BACKOFF: Duration = Duration::from_secs(60);
/// News that may wait for the driver, which takes each within milliseconds.
pub(super) const QUEUE: usize = 16;

/// What was heard.
#[derive(Debug)]
pub(super) enum News {
    /// The broker answers, the stream is open.
    Opened,
    /// The stream ended or broke.
    Closed,
    /// The stream cannot be opened: the TPM did not sign by a key that is certified.
    NotSigned,
    /// The broker gave a sign of life.
    Alive,
    /// A new trust set.
    /// On a stream that was opened by a device which had seen this sequence.
    Trust(Box<SignedTrustSet>, u64),
    /// The broker asks for proof, for this reason.
    AttestNow(String),
    /// A release is wanted of the device.
    Wanted(Box<WantedRelease>),
    /// The certificate that the stream was opened with was revoked.
    TrustLost {
        /// Why.
        denial: Box<Denial>,
        /// The certificate (DER).
        of: Vec<u8>,
    },
}

/// Opens the stream whenever there are credentials, until the driver is gone.
pub(super) async fn follow(
    attester: Arc<Attester>,
    mut credentials: watch::Receiver<Option<Credentials>>,
    news: mpsc::Sender<News>,
) {
    let mut backoff = FIRST_BACKOFF;
    loop {
        let held = credentials.borrow_and_update().clone();
        let Some(held) = held else {
            if credentials.changed().await.is_err() {
                return;
            }
            continue;
        };
        let sequence = attester.keeper.read(|state: &State| state.trust_sequence);
        let under = held.chain.first().cloned().unwrap_or_default();
        match attester.client.watch(held, attester.issuing_number(), sequence).await {
            Ok((stream, broker)) => {
                let end = tokio::select! {
                    end = listen(&attester, (stream, &under, sequence), &mut credentials, &news) => end,
                    () = attester.client.left(&broker) => {
                        tracing::info!(%broker, "this broker did not answer a call; watching another");
                        End::Broken { heard: true }
                    }
                };
                if news.send(News::Closed).await.is_err() {
                    return;
                }
                match end {
                    End::Renewed => {
                        backoff = FIRST_BACKOFF;
                        continue;
                    }
                    End::Broken { heard: true } => backoff = FIRST_BACKOFF,
                    End::Broken { heard: false } => {}
                }
            }
            Err(error) => {
                report(&error);
                if let CallError::NotSigned(_) = error
                    && news.send(News::NotSigned).await.is_err()
                {
                    return;
                }
            }
        }
        let wait = backoff / 2 + attester.entropy.jitter().of(backoff / 2);
        backoff = (backoff * 2).min(MOST_BACKOFF);
        tokio::select! {
            () = sleep(wait) => {}
            changed = credentials.changed() => if changed.is_err() { return },
        }
    }
}

fn report(error: &CallError) {
    match error {
        CallError::Unreachable { .. } => tracing::debug!(%error, "the watch stream cannot be opened"),
        _ => tracing::warn!(%error, "the watch stream cannot be opened"),
    }
}

/// Why a stream is over.
enum End {
    /// There are other credentials, or none: it was closed from here.
    Renewed,
    /// It broke or ended; `heard` if it was of any use.
    Broken { heard: bool },
}

/// Passes events on until the stream, opened with the certificate `under` by who had `seen` this trust set, ends.
async fn listen(
    attester: &Attester,
    (mut stream, under, seen): (Streaming<WatchEvent>, &[u8], u64),
    credentials: &mut watch::Receiver<Option<Credentials>>,
    news: &mpsc::Sender<News>,
) -> End {
    let mut heard = false;
    if news.send(News::Opened).await.is_err() {
        return End::Broken { heard };
    }
    loop {
        let message = tokio::select! {
            message = timeout(SILENCE, stream.message()) => message,
            _ = credentials.changed() => return End::Renewed,
        };
        let event = match message {
            Ok(Ok(Some(WatchEvent { event }))) => event,
            Ok(Ok(None)) => return End::Broken { heard },
            Ok(Err(status)) => {
                tracing::debug!(code = ?status.code(), "the watch stream broke");
                return End::Broken { heard };
            }
            Err(_) => {
                tracing::warn!("nothing heard from the broker for {} s; watching anew", SILENCE.as_secs());
                return End::Broken { heard };
            }
        };
        heard = true;
        let item = match event {
            Some(Event::Trust(set)) => News::Trust(Box::new(set), seen),
            Some(Event::AttestNow(demand)) => News::AttestNow(demand.reason),
            Some(Event::TrustLost(lost)) => {
                News::TrustLost { denial: Box::new(lost.denial.unwrap_or_default()), of: under.to_vec() }
            }
            Some(Event::Wanted(wanted)) => News::Wanted(Box::new(wanted)),
            Some(Event::Heartbeat(beat)) => {
                let heard_anew = attester.hear(&beat);
                let held = attester.keeper.read(|state: &State| state.trust_sequence);
                if beat.trust_sequence > held {
                    tracing::info!(
                        held,
                        newer = beat.trust_sequence,
                        "a trust set was missed; watching anew"
                    );
                    return End::Broken { heard: false };
                }
                match heard_anew {
                    true => News::Alive,
                    false => continue,
                }
            }
            // An event of a newer broker.
            None => continue,
        };
        if news.send(item).await.is_err() {
            return End::Broken { heard };
        }
    }
}

impl Attester {
    /// Takes a sign of life, if it is one of this plant's broker for this device; whether it is.
    fn hear(&self, beat: &Heartbeat) -> bool {
        let (device, seen) = self.keeper.read(|state: &State| (state.device.clone(), Seen::of(state)));
        let Some(device) = device else { return false };
        let expected = Expected { root: &self.root, plant: &self.config.plant, device: &device, seen };
        match verify_heartbeat(beat, &expected) {
            Ok(()) => self.heard.note(UnixTime(beat.broker_time)),
            // A broker of before signed none; gates of zones that ask for it stay closed.
            Err(_) if beat.signature.is_empty() => false,
            Err(error) => {
                tracing::warn!(%error, "a sign of life is not the broker's");
                false
            }
        }
    }
}
