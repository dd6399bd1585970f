//! Watch: one stream to each device, with trust files, "attest now" and the loss of trust.

mod patience;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use policy::digest::Digest;
use policy::reference::release::ReleaseId;
use policy::time::UnixTime;
use proto::convert::heartbeat;
use proto::v1::watch_event::Event;
use proto::v1::watch_server::Watch;
use proto::{denial, v1};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use self::patience::Patience;
use super::connection::ConnectionInfo;
use super::peer::DevicePeer;
use super::status::status;
use crate::attendance::Present;
use crate::hub::{Hub, Listener};
use crate::metrics::Signed;
use crate::plant::Plant;
use crate::ports::random;
use crate::record::Held;
use crate::record::device::Device;
use crate::rollout::wanted::wanted_of;
use crate::session::Refusal;
use crate::session::standing::{Ask, Standing, standing, unanswered};
use crate::trust::{self, trust_set};

/// Seconds between signs of life.
const HEARTBEAT: Duration = Duration::from_secs(30);
/// Seconds within which "attest now" is answered: a slow TPM and a queue of others.
const ANSWER: u64 = 60;
/// How often a device that may have found no place is asked again before its silence counts.
const MOST_EXCUSED: u8 = 3;
/// When golden values change, the fleet attests again over this much time for each device that listens: as
/// fast as one broker proves them, and a small plant at once.
const SPREAD_EACH: Duration = Duration::from_millis(10);
/// No device waits longer than this for it.
const MOST_SPREAD: Duration = Duration::from_secs(10);
/// Events that a slow device may lag behind; then its stream ends and it connects again.
const LAG: usize = 8;

/// The Watch service.
#[derive(Clone)]
pub struct Watching {
    plant: Arc<Plant>,
    hub: Arc<Hub>,
    patience: Arc<Patience>,
}

impl Watching {
    /// The service of this plant.
    #[must_use]
    pub fn new(plant: Arc<Plant>, hub: Arc<Hub>) -> Self {
        Self { plant, hub, patience: Arc::default() }
    }
}

#[tonic::async_trait]
impl Watch for Watching {
    type WatchStream = ReceiverStream<Result<v1::WatchEvent, Status>>;

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let peer = request.extensions().get::<ConnectionInfo>().map(|info| info.peer.clone());
        let none = || Refusal::NotPermitted("this call needs the device's own certificate".to_owned());
        let peer = peer.ok_or_else(none).and_then(|peer| peer.device().cloned());
        let peer = peer.map_err(|refusal| status(&self.plant, &refusal))?;
        let (send, receive) = mpsc::channel(LAG);
        let listener = self.hub.listen(peer.id.device());
        let stream = Stream {
            plant: Arc::clone(&self.plant),
            hub: Arc::clone(&self.hub),
            patience: Arc::clone(&self.patience),
            listener,
            send,
            sequence: request.get_ref().trust_sequence,
            content: None,
            turn: None,
            asked: None,
            excused: 0,
            wanted: None,
            _present: self.plant.attendance.enter(peer.id.device(), &self.plant.clock),
            peer,
        };
        tokio::spawn(stream.run());
        Ok(Response::new(ReceiverStream::new(receive)))
    }
}

/// The device was told to attest.
struct Asked {
    device: Box<Held<Device>>,
    deadline: UnixTime,
    alarm: Instant,
    /// Devices that had been turned away when it was told.
    turned_away: u64,
}

struct Stream {
    plant: Arc<Plant>,
    hub: Arc<Hub>,
    patience: Arc<Patience>,
    listener: Listener,
    peer: DevicePeer,
    send: mpsc::Sender<Result<v1::WatchEvent, Status>>,
    sequence: u64,
    content: Option<Digest>,
    /// When it is this device's turn to attest under new golden values.
    turn: Option<Instant>,
    asked: Option<Asked>,
    /// How often in a row silence was excused.
    excused: u8,
    /// The release that it was told is wanted.
    wanted: Option<v1::WantedRelease>,
    _present: Present,
}

/// The stream is over.
enum End {
    /// The device is gone, or lags too far behind.
    Gone,
    /// It was told why.
    Told,
    /// The broker cannot say what is true.
    Failed(Refusal),
}

impl From<Refusal> for End {
    fn from(refusal: Refusal) -> Self {
        Self::Failed(refusal)
    }
}

impl Stream {
    async fn run(mut self) {
        let plant = Arc::clone(&self.plant);
        let _watching = plant.metrics.watching();
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        loop {
            if let Err(end) = self.tell().await {
                if let End::Failed(refusal) = end {
                    drop(self.send.try_send(Err(status(&self.plant, &refusal))));
                }
                return;
            }
            let alarm = self.asked.as_ref().map(|asked| asked.alarm);
            // Once it came, "attest now" is out and the alarm counts.
            let turn = self.turn.filter(|_| alarm.is_none());
            tokio::select! {
                () = self.listener.changed() => {}
                _ = heartbeat.tick() => {
                    if self.beat().is_err() {
                        return;
                    }
                }
                () = until(alarm) => self.overdue().await,
                () = until(turn) => {}
                () = self.send.closed() => return,
            }
        }
    }

    /// Brings the device up to date.
    async fn tell(&mut self) -> Result<(), End> {
        match standing(&self.plant, &self.peer).await? {
            Standing::Lost(denial) => {
                tracing::info!(device.id = %self.peer.id.device(), reason = denial.message, "trust lost");
                let refused = denial::to_status(&denial);
                self.put(Event::TrustLost(v1::TrustLost { denial: Some(*denial) }))?;
                drop(self.send.try_send(Err(refused)));
                Err(End::Told)
            }
            Standing::Distrusted => {
                let reason = "the authority of its certificate is distrusted".to_owned();
                tracing::info!(device.id = %self.peer.id.device(), reason, "the stream is cut");
                let deadline = self.plant.now().plus(ANSWER).0;
                self.put(Event::AttestNow(v1::AttestNow { reason, deadline }))?;
                Err(End::Told)
            }
            Standing::Holds { device, running, ask } => {
                self.ask(&device, ask).await?;
                self.wanted(&device.record, &running).await?;
                self.trust(&device.record).await
            }
        }
    }

    async fn ask(&mut self, device: &Held<Device>, ask: Option<Ask>) -> Result<(), End> {
        let answered = |asked: &Asked| asked.device.record.counter != device.record.counter;
        if self.asked.as_ref().is_some_and(answered) {
            (self.asked, self.excused) = (None, 0);
            self.patience.forget(&device.record.name);
        }
        let Some(ask) = ask else {
            self.turn = None;
            return Ok(());
        };
        if self.asked.is_some() || (ask == Ask::Golden && !self.has_its_turn(&device.record).await?) {
            return Ok(());
        }
        let whole = Duration::from_secs(ANSWER);
        let left = self.patience.left(&device.record.name, device.record.counter, whole);
        let deadline = self.plant.now().plus(left.as_secs());
        let alarm = Instant::now() + left;
        let turned_away = self.plant.turned_away.load(Ordering::Relaxed);
        self.asked = Some(Asked { device: Box::new(device.clone()), deadline, alarm, turned_away });
        self.put(Event::AttestNow(v1::AttestNow { reason: ask.words().to_owned(), deadline: deadline.0 }))
    }

    /// Whether the device attests under new golden values now. The first time it is given its turn.
    async fn has_its_turn(&mut self, device: &Device) -> Result<bool, End> {
        let turn = match self.turn {
            Some(turn) => turn,
            None => Instant::now() + self.spread(device).await?,
        };
        self.turn = Some(turn);
        Ok(turn <= Instant::now())
    }

    /// A random part of the time over which the fleet attests.
    async fn spread(&self, device: &Device) -> Result<Duration, Refusal> {
        let view = trust::view(&self.plant).await.map_err(Refusal::internal)?;
        let tenth = Duration::from_secs(view.reattest_every(&device.zones).unwrap_or(0)) / 10;
        let fleet = SPREAD_EACH.saturating_mul(u32::try_from(self.hub.devices()).unwrap_or(u32::MAX));
        let random = random::<2>(self.plant.entropy.as_ref()).map_err(Refusal::internal)?;
        let part = f64::from(u16::from_be_bytes(random)) / 65_536.0;
        Ok(fleet.min(tenth).min(MOST_SPREAD).mul_f64(part))
    }

    async fn overdue(&mut self) {
        let Some(asked) = self.asked.take() else { return };
        self.patience.forget(&asked.device.record.name);
        // A device that may have found no place here is asked again, not refused.
        // Not for ever: whoever floods the broker must not keep a silent device trusted.
        let full = self.plant.turned_away.load(Ordering::Relaxed) != asked.turned_away;
        if full && self.excused < MOST_EXCUSED {
            self.excused += 1;
            return;
        }
        let now = self.plant.now();
        tracing::warn!(device.id = %asked.device.record.name, deadline = %asked.deadline, "attest now was not answered");
        // A change in between means that it was answered, or decided by somebody else.
        if let Err(error) = unanswered(&self.plant, &asked.device, now).await {
            tracing::info!(%error, "the device's certificates stay");
        }
    }

    /// Says what is wanted of the device, once for each release.
    async fn wanted(&mut self, device: &Device, running: &[ReleaseId]) -> Result<(), End> {
        let wanted = wanted_of(&self.plant, device, running).await?;
        if let Some(new) = wanted.filter(|new| self.wanted.as_ref() != Some(new)) {
            self.put(Event::Wanted(new.clone()))?;
            self.wanted = Some(new);
        }
        Ok(())
    }

    /// Sends the trust set if its content is another than the device has.
    async fn trust(&mut self, device: &Device) -> Result<(), End> {
        let view = trust::view(&self.plant).await.map_err(Refusal::internal)?;
        if view.sequence(self.plant.keys.load().epoch) <= self.sequence {
            return Ok(());
        }
        let set = trust_set(&self.plant, device).await.map_err(Refusal::internal)?;
        if self.content == Some(set.content()) {
            return Ok(());
        }
        self.put(Event::Trust(set.signed(&self.plant).map_err(Refusal::internal)?))?;
        (self.sequence, self.content) = (set.sequence(), Some(set.content()));
        Ok(())
    }

    /// A sign of life that only this broker can give, and only to this device.
    fn beat(&self) -> Result<(), End> {
        let (broker_time, trust_sequence) = (self.plant.now().0, self.sequence);
        let message = heartbeat(broker_time, trust_sequence, self.peer.id.device());
        let keys = self.plant.keys.load();
        let signed = self.plant.metrics.signing(Signed::Heartbeat, || keys.issuing.sign(&message));
        let signature = signed.map_err(|error| End::Failed(Refusal::internal(error)))?;
        let issuing_certificate = keys.issuing.certificate().to_vec();
        self.put(Event::Heartbeat(v1::Heartbeat {
            broker_time,
            trust_sequence,
            signature,
            issuing_certificate,
        }))
    }

    fn put(&self, event: Event) -> Result<(), End> {
        self.send.try_send(Ok(v1::WatchEvent { event: Some(event) })).map_err(|_| End::Gone)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(asked) = &self.asked {
            let (device, left) =
                (&asked.device.record, asked.alarm.saturating_duration_since(Instant::now()));
            self.patience.keep(&device.name, device.counter, left);
        }
    }
}

async fn until(alarm: Option<Instant>) {
    match alarm {
        Some(alarm) => sleep_until(alarm).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
