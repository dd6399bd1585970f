//! The course of a drill: what is waited for, and what must not happen meanwhile.

use std::collections::BTreeSet;
use std::time::Duration;

use policy::id::{DeviceName, ZoneName};
use policy::zone::Fault;
use proto::v1::admin_client::AdminClient;
use proto::v1::{DrillDevice, EndDrillRequest, ObserveDrillRequest, StartDrillResponse, Zone};
use tokio::time::{Instant, sleep};
use tonic::transport::Channel;

use super::report::{Bound, Drilled};
use super::session::{OPENING, Sessions, begin};
use super::unfit;
use crate::args::Span;
use crate::client::failed;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::output::Session;

/// How often it is looked: often enough for bounds of seconds.
const LOOK: Duration = Duration::from_millis(250);

/// Time before the end of a lost link in which sessions are begun without it.
const TRIAL: Duration = Duration::from_secs(30);

/// What a drill with these sessions says nothing of, and what it would take.
fn unjudged(fault: Fault, sessions: &Sessions) -> Vec<String> {
    let gates = (fault == Fault::LinkLoss && !sessions.cross())
        .then_some("gate_fail (name a session with another zone with --across)");
    let sessions = (fault != Fault::Reboot && sessions.len() == 0)
        .then_some("what becomes of sessions (name one with --session)");
    gates.into_iter().chain(sessions).map(str::to_owned).collect()
}

/// A device as it must be before a drill, and again after it.
pub(super) fn is_healthy(device: &DrillDevice) -> bool {
    device.watching && device.certificates > 0 && matches!(&*device.decision, "trusted" | "would-refuse")
}

/// A device that has none of the certificates that it had, and no stream that it opened with one of them.
fn is_cut_off(now: &DrillDevice, was: &DrillDevice) -> bool {
    let another = was.serials.iter().all(|serial| !now.serials.contains(serial));
    another && (!now.watching || now.streams > was.streams)
}

/// A device that has lost its trust.
fn is_lost(device: &DrillDevice) -> bool {
    device.certificates == 0 || matches!(&*device.decision, "refused" | "silent")
}

/// The devices that are healthy before a drill; `device`, if one is named, must be among them.
pub(super) fn healthy(begun: &StartDrillResponse, device: Option<&DeviceName>) -> Result<Vec<DrillDevice>> {
    let all = begun.before.iter().flat_map(|before| &before.devices);
    let healthy: Vec<DrillDevice> = all.filter(|device| is_healthy(device)).cloned().collect();
    match device {
        _ if healthy.is_empty() => Err(unfit("no device of the zone is trusted and connected".to_owned())),
        Some(name) if !healthy.iter().any(|one| name.as_str() == one.device) => {
            Err(unfit(format!("{name} is not trusted and connected")))
        }
        _ => Ok(healthy),
    }
}

/// A drill under way.
pub(super) struct Course<'a> {
    session: &'a Session,
    client: AdminClient<Channel>,
    begun: Instant,
    began_at: u64,
    /// When the fault ends by itself, on the broker's clock.
    ends_at: u64,
    /// Whether it ran when it was last looked.
    runs: bool,
    /// Whether this program ended it.
    ended: bool,
    zone: Zone,
    /// Whom the fault befalls, as they were.
    befallen: Vec<DrillDevice>,
    /// Devices of the zone that watch another broker: what befalls them is not seen here.
    elsewhere: Vec<String>,
    /// Who must not notice, as they were.
    bystanders: Vec<DrillDevice>,
    lost: BTreeSet<String>,
    /// What the drill says nothing of, and why.
    unjudged: Vec<String>,
}

impl<'a> Course<'a> {
    /// The course of a drill that began just now.
    pub(super) fn new(
        session: &'a Session,
        client: AdminClient<Channel>,
        begun: &StartDrillResponse,
        device: Option<&DeviceName>,
    ) -> Result<Self> {
        let healthy = healthy(begun, device)?;
        let named = |one: &DrillDevice| device.is_none_or(|name| name.as_str() == one.device);
        let (befallen, bystanders) = healthy.into_iter().partition(named);
        let before = begun.before.clone().unwrap_or_default();
        let elsewhere = before.devices.iter().filter(|one| one.elsewhere).map(|one| one.device.clone());
        Ok(Self {
            elsewhere: elsewhere.collect(),
            session,
            client,
            begun: Instant::now(),
            began_at: before.broker_time,
            ends_at: begun.ends_at,
            runs: true,
            ended: false,
            zone: before.zone.unwrap_or_default(),
            befallen,
            bystanders,
            lost: BTreeSet::new(),
            unjudged: Vec::new(),
        })
    }

    /// Watches the drill to its end: what it came to.
    pub(super) async fn run(
        mut self,
        fault: Fault,
        zone: &ZoneName,
        length: Span,
        sessions: Sessions,
    ) -> Result<Drilled> {
        let length = Duration::from_secs(length.0.into());
        let watched = self.befallen.iter().chain(&self.bystanders).map(|one| one.device.clone()).collect();
        self.unjudged = unjudged(fault, &sessions);
        let mut bounds = match fault {
            Fault::LinkLoss => self.link_loss(zone, length, &sessions).await?,
            Fault::Delay => self.delay(zone, &sessions).await?,
            Fault::CompromisedCredential => self.compromised(zone, &sessions).await?,
            Fault::CorruptedUpdate => self.corrupted(zone, &sessions).await?,
            Fault::Reboot => self.reboot(zone, length).await?,
        };
        if !self.bystanders.is_empty() {
            let lost: Vec<String> = self.lost.iter().cloned().collect();
            bounds.push(Bound::none("other devices that lost trust", self.bystanders.len(), &lost));
        }
        if !self.elsewhere.is_empty() {
            let all = self.elsewhere.len() + self.befallen.len() + self.bystanders.len();
            bounds.push(Bound::none("devices that watch another broker, unseen here", all, &self.elsewhere));
        }
        Ok(Drilled { bounds, watched, elsewhere: self.elsewhere, unjudged: self.unjudged })
    }

    async fn link_loss(
        &mut self,
        zone: &ZoneName,
        length: Duration,
        sessions: &Sessions,
    ) -> Result<Vec<Bound>> {
        let ends = self.befallen.iter().map(|device| device.ends_at.saturating_sub(self.began_at));
        let left = ends.min().unwrap_or_default();
        let outlive = self.zone.timing.as_ref().map_or(0, |timing| timing.outlive_broker_seconds);
        let mut lost = BTreeSet::new();
        let gone = |now: &DrillDevice, _: &DrillDevice| !now.watching;
        let cut = self.until(zone, self.cut().min(length), &gone, &mut lost).await?;
        let trial = if sessions.cross() { TRIAL } else { Duration::ZERO };
        let rest = length.saturating_sub(self.begun.elapsed()).saturating_sub(trial);
        self.until(zone, rest, &|_, _| false, &mut lost).await?;
        let gates = self.gates(zone, sessions).await?;
        self.end(zone).await?;
        let back = |now: &DrillDevice, _: &DrillDevice| is_healthy(now);
        let recovered = self.until(zone, self.recovery(), &back, &mut lost).await?;
        let lost: Vec<String> = lost.into_iter().collect();
        let mut bounds = vec![
            Bound::within("the link is lost to every device", self.cut(), cut),
            Bound::at_least("certificates outlive the broker", outlive, left),
            Bound::none("devices that lost trust", self.befallen.len(), &lost),
            Bound::within("every device is connected again", self.recovery(), recovered),
        ];
        bounds.extend(gates);
        bounds.extend(held(sessions));
        Ok(bounds)
    }

    /// Begins sessions with other zones, now that gates have missed the broker: what came of it, against `gate_fail`.
    async fn gates(&mut self, zone: &ZoneName, sessions: &Sessions) -> Result<Vec<Bound>> {
        if !sessions.cross() {
            return Ok(Vec::new());
        }
        let begun = begin(sessions.across(), OPENING).await;
        self.look(zone).await?;
        match self.runs {
            true => {
                self.unjudged.extend(begun.unjudged());
                Ok(begun.by_gate_fail(&self.zone.gate_fail))
            }
            false => Err(Failure::new(
                Exit::Negative,
                "the link was back before sessions had been begun without it, so gate_fail was not tried"
                    .to_owned(),
            )
            .next("begin it again, longer with --for")),
        }
    }

    async fn delay(&mut self, zone: &ZoneName, sessions: &Sessions) -> Result<Vec<Bound>> {
        let mut lost = BTreeSet::new();
        let proved = |now: &DrillDevice, was: &DrillDevice| now.proofs > was.proofs && is_healthy(now);
        let took = self.until(zone, self.recovery(), &proved, &mut lost).await?;
        // Whoever was not heard before the fault ended proved nothing of it.
        let took = took.filter(|_| self.runs);
        self.end(zone).await?;
        let lost: Vec<String> = lost.into_iter().collect();
        let mut bounds = vec![
            Bound::within("every device proves itself all the same", self.recovery(), took),
            Bound::none("devices that lost trust", self.befallen.len(), &lost),
        ];
        bounds.extend(held(sessions));
        Ok(bounds)
    }

    async fn compromised(&mut self, zone: &ZoneName, sessions: &Sessions) -> Result<Vec<Bound>> {
        let mut lost = BTreeSet::new();
        let cut = self.until(zone, self.cut(), &is_cut_off, &mut lost).await?;
        let sessions = self.sessions_end(zone, sessions).await?;
        let spent = self.begun.elapsed();
        let back = |now: &DrillDevice, was: &DrillDevice| {
            is_healthy(now) && now.proofs > was.proofs && is_cut_off(now, was)
        };
        let rest = self.recovery().saturating_sub(spent);
        let recovered = self.until(zone, rest, &back, &mut lost).await?;
        self.end(zone).await?;
        let mut bounds = vec![Bound::within("the device is cut off", self.cut(), cut)];
        bounds.extend(sessions);
        let recovered = recovered.map(|took| took + spent);
        bounds.push(Bound::within("it is trusted with another certificate", self.recovery(), recovered));
        Ok(bounds)
    }

    async fn corrupted(&mut self, zone: &ZoneName, sessions: &Sessions) -> Result<Vec<Bound>> {
        let mut lost = BTreeSet::new();
        let refused = |now: &DrillDevice, _: &DrillDevice| {
            now.decision == "refused" && now.certificates == 0 && !now.watching
        };
        let cut = self.until(zone, self.cut(), &refused, &mut lost).await?;
        let sessions = self.sessions_end(zone, sessions).await?;
        self.end(zone).await?;
        let back = |now: &DrillDevice, was: &DrillDevice| is_healthy(now) && now.proofs > was.proofs;
        let recovered = self.until(zone, self.recovery(), &back, &mut lost).await?;
        let mut bounds = vec![Bound::within("the device is refused and cut off", self.cut(), cut)];
        bounds.extend(sessions);
        bounds.push(Bound::within("it is trusted again", self.recovery(), recovered));
        Ok(bounds)
    }

    async fn reboot(&mut self, zone: &ZoneName, length: Duration) -> Result<Vec<Bound>> {
        let mut lost = BTreeSet::new();
        let gone = |now: &DrillDevice, was: &DrillDevice| !now.watching || now.resets != was.resets;
        let left = self.until(zone, length, &gone, &mut lost).await?;
        let back = |now: &DrillDevice, was: &DrillDevice| is_healthy(now) && now.resets != was.resets;
        let recovered = match left {
            Some(_) => self.until(zone, self.recovery(), &back, &mut lost).await?,
            None => None,
        };
        self.end(zone).await?;
        Ok(vec![
            Bound::within("the device goes down", length, left),
            Bound::within("it is trusted again after its boot", self.recovery(), recovered),
        ])
    }

    /// Waits until every session has ended, for as long as that may take from the beginning.
    async fn sessions_end(&mut self, zone: &ZoneName, sessions: &Sessions) -> Result<Option<Bound>> {
        if sessions.len() == 0 {
            return Ok(None);
        }
        let promised = self.cut() + Duration::from_secs(self.zone.gate_drain_seconds.into());
        while sessions.last_end(self.begun).is_none() && self.begun.elapsed() < promised {
            self.look(zone).await?;
            sleep(LOOK).await;
        }
        Ok(Some(Bound::within("its sessions end", promised, sessions.last_end(self.begun))))
    }

    /// Looks until `done` holds of everybody that the fault befalls, at most for `patience`; who of them has lost
    /// trust meanwhile is added to `lost`. How long it took.
    async fn until(
        &mut self,
        zone: &ZoneName,
        patience: Duration,
        done: &impl Fn(&DrillDevice, &DrillDevice) -> bool,
        lost: &mut BTreeSet<String>,
    ) -> Result<Option<Duration>> {
        let begun = Instant::now();
        loop {
            if let Some(now) = self.look(zone).await? {
                let mut pairs =
                    self.befallen.iter().map(|was| (now.iter().find(|n| n.device == was.device), was));
                let all = pairs.all(|(now, was)| now.is_some_and(|now| done(now, was)));
                let of_them = |now: &&DrillDevice| self.befallen.iter().any(|was| was.device == now.device);
                lost.extend(
                    now.iter().filter(of_them).filter(|now| is_lost(now)).map(|now| now.device.clone()),
                );
                if all {
                    return Ok(Some(begun.elapsed()));
                }
            }
            let left = patience.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Ok(None);
            }
            sleep(LOOK.min(left)).await;
        }
    }

    /// What the broker sees now; nothing while it is not there.
    async fn look(&mut self, zone: &ZoneName) -> Result<Option<Vec<DrillDevice>>> {
        let request = ObserveDrillRequest { zone: zone.to_string() };
        let answer = match self.client.observe_drill(request).await.map_err(|s| failed(&s)) {
            Ok(answer) => answer.into_inner(),
            Err(failure) if failure.exit() == Exit::Unreachable => {
                if let Ok(client) = self.session.client().await {
                    self.client = client;
                }
                return Ok(None);
            }
            Err(failure) => return Err(failure),
        };
        let now = answer.now.unwrap_or_default();
        self.runs = answer.ends_at == self.ends_at;
        if !self.ended && is_cut_short(self.ends_at, answer.ends_at, now.broker_time) {
            return Err(cut_short(zone));
        }
        let now = now.devices;
        let is_bystander = |now: &&DrillDevice| self.bystanders.iter().any(|was| was.device == now.device);
        self.lost
            .extend(now.iter().filter(is_bystander).filter(|now| is_lost(now)).map(|now| now.device.clone()));
        Ok(Some(now))
    }

    /// Ends the fault, if it did not end by itself.
    async fn end(&mut self, zone: &ZoneName) -> Result<()> {
        self.ended = true;
        let request = EndDrillRequest { zone: zone.to_string() };
        match self.client.end_drill(request).await.map_err(|s| failed(&s)) {
            Ok(_) => Ok(()),
            // It ends by itself.
            Err(failure) if failure.exit() == Exit::Unreachable => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    fn cut(&self) -> Duration {
        let bounds = self.zone.drills.unwrap_or_default();
        Duration::from_secs(bounds.cut_within_seconds.into())
    }

    fn recovery(&self) -> Duration {
        let bounds = self.zone.drills.unwrap_or_default();
        Duration::from_secs(bounds.recover_within_seconds.into())
    }
}

/// Whether somebody else ended a fault that is to end at `ends_at`: at `at` it is another that runs, or none (0).
const fn is_cut_short(ends_at: u64, runs_until: u64, at: u64) -> bool {
    runs_until != ends_at && at < ends_at
}

fn cut_short(zone: &ZoneName) -> Failure {
    Failure::new(
        Exit::Negative,
        format!("the drill in zone {zone} was ended before its time, so it proves nothing"),
    )
    .next("`touchstone audit list` says who ended it or changed the zone; begin it again")
}

/// Sessions that nobody may lose.
fn held(sessions: &Sessions) -> Option<Bound> {
    (sessions.len() > 0).then(|| Bound::none("sessions that ended", sessions.len(), &sessions.ended()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_that_is_gone_before_its_end_was_ended_by_somebody() {
        assert!(is_cut_short(60, 0, 59), "none runs");
        assert!(is_cut_short(60, 90, 59), "another runs");
        assert!(!is_cut_short(60, 60, 59));
        assert!(!is_cut_short(60, 0, 60), "it ended by itself");
    }

    #[test]
    fn a_device_that_keeps_its_certificate_is_not_cut_off_by_another_stream() {
        let was = DrillDevice {
            device: "press-7".to_owned(),
            watching: true,
            streams: 1,
            serials: vec!["0a".to_owned(), "0b".to_owned()],
            ..DrillDevice::default()
        };
        assert!(!is_cut_off(&DrillDevice { streams: 2, ..was.clone() }, &was), "it was replaced by itself");
        let another = vec!["0c".to_owned()];
        let lives = DrillDevice { serials: another.clone(), ..was.clone() };
        assert!(!is_cut_off(&lives, &was), "the stream of the revoked one lives on");
        assert!(is_cut_off(&DrillDevice { streams: 2, ..lives }, &was));
        assert!(is_cut_off(&DrillDevice { watching: false, serials: Vec::new(), ..was.clone() }, &was));
    }
}
