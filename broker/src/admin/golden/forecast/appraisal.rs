//! Appraises stored evidence before and after a change: each piece once, beside each other, a few at a time.

use std::sync::Arc;
use std::thread::available_parallelism;

use policy::appraisal::measurements::Measurements;
use policy::appraisal::policy::ZonePolicy;
use policy::appraisal::{Finding, forecast, forecast_supposed};
use policy::evidence::endorsement::RootStore;
use policy::evidence::flaw::DenyRule;
use policy::reference::ReferenceValues;
use policy::reference::supposed::Supposed;
use policy::time::UnixTime;
use policy::zone::Override;
use policy::zone::admission::Judgement;
use tokio::task::JoinSet;

use super::Outlook;
use crate::plant::Plant;
use crate::record::device::{Attested, Tpm};
use crate::session::Refusal;
use crate::session::recorded::{Vouching, recorded_here};
use crate::store::blobs::Blobs;

/// Reasons told for each device.
const MAX_REASONS: usize = 4;
/// Pieces of evidence that one thread takes at once: handing over costs little beside them.
const BATCH: usize = 64;
/// Batches for each processor: one is at work, and one waits so that none is idle.
const WAITING: usize = 2;

/// What every piece of evidence is appraised under.
pub(super) struct Ground {
    blobs: Blobs,
    roots: RootStore,
    idevid_roots: RootStore,
    deny: Vec<DenyRule>,
    before: Arc<ReferenceValues>,
    after: Supposed,
    now: UnixTime,
    /// When the change is looked at.
    at: UnixTime,
}

/// A piece of evidence, and who judges it.
pub(super) struct Piece {
    pub(super) attested: Attested,
    pub(super) tpm: Tpm,
    pub(super) zones: Arc<[ZonePolicy]>,
    pub(super) excused: Option<Override>,
}

/// What the zones make of it before and after the change.
#[derive(Debug)]
pub(super) struct Appraised {
    pub(super) before: Outlook,
    pub(super) after: Outlook,
    /// What counts against it after the change, or would if its zones enforced.
    pub(super) findings: Arc<[Finding]>,
    /// The first of them in a sentence.
    pub(super) reason: Arc<str>,
    pub(super) would_refuse: bool,
}

impl Ground {
    pub(super) fn new(plant: &Plant, before: Arc<ReferenceValues>, after: Supposed, at: UnixTime) -> Self {
        let (roots, idevid_roots) = (plant.roots.clone(), plant.idevid_roots.clone());
        let (blobs, deny) = (plant.blobs.clone(), plant.config.tpm_deny.clone());
        Self { blobs, roots, idevid_roots, deny, before, after, now: plant.now(), at }
    }

    /// `None` if the evidence cannot be read back.
    fn appraise(&self, piece: &Piece) -> Option<Appraised> {
        let (roots, idevid_roots) = (&self.roots, &self.idevid_roots);
        let vouching = Vouching { roots, idevid_roots, deny: &self.deny, now: self.now };
        let evidence = recorded_here(&self.blobs, &piece.attested, &piece.tpm, &vouching).ok()?;
        let seen = evidence.measurements();
        let mut appraised = Appraised {
            before: Outlook::Trusted,
            after: Outlook::Trusted,
            findings: Arc::default(),
            reason: Arc::default(),
            would_refuse: false,
        };
        let mut findings: Vec<Finding> = Vec::new();
        for zone in &*piece.zones {
            let (before, after) = self.judged(&seen, zone, piece.excused.as_ref());
            if !before.refused.is_empty() {
                appraised.before = Outlook::Refused;
            }
            if !after.refused.is_empty() {
                appraised.after = Outlook::Refused;
            }
            appraised.would_refuse |= !after.would_refuse.is_empty();
            for finding in after.refused.into_iter().chain(after.would_refuse) {
                if findings.len() < MAX_REASONS && !findings.contains(&finding) {
                    findings.push(finding);
                }
            }
        }
        appraised.reason = findings.first().map(|first| first.sentence.as_str().into()).unwrap_or_default();
        appraised.findings = findings.into();
        Some(appraised)
    }

    fn judged(
        &self,
        seen: &Measurements<'_>,
        zone: &ZonePolicy,
        excused: Option<&Override>,
    ) -> (Judgement, Judgement) {
        let before = forecast(seen, &self.before, zone, self.now);
        let after = forecast_supposed(seen, &self.after, zone, self.at);
        (before.judgement_under(excused), after.judgement_under(excused))
    }
}

type Batch = Vec<(usize, Piece)>;

/// Pieces of evidence at work. Whoever drops it gives up what has not begun.
pub(super) struct Appraisals {
    ground: Arc<Ground>,
    most: usize,
    next: Batch,
    running: JoinSet<Vec<(usize, Option<Appraised>)>>,
    done: Vec<Option<Arc<Appraised>>>,
}

impl Appraisals {
    pub(super) fn new(ground: Ground) -> Self {
        let most = available_parallelism().map_or(1, std::num::NonZero::get).saturating_mul(WAITING);
        Self { ground: Arc::new(ground), most, next: Batch::new(), running: JoinSet::new(), done: Vec::new() }
    }

    /// Takes a piece, once there is room for it, and gives its place in what [`finish`](Self::finish) answers.
    pub(super) async fn add(&mut self, piece: Piece) -> Result<usize, Refusal> {
        let place = self.done.len();
        self.done.push(None);
        self.next.push((place, piece));
        if self.next.len() >= BATCH {
            self.begin().await?;
        }
        Ok(place)
    }

    /// What became of each piece; `None` for one that cannot be read back.
    pub(super) async fn finish(mut self) -> Result<Vec<Option<Arc<Appraised>>>, Refusal> {
        self.begin().await?;
        while !self.running.is_empty() {
            self.take().await?;
        }
        Ok(self.done)
    }

    async fn begin(&mut self) -> Result<(), Refusal> {
        while self.running.len() >= self.most {
            self.take().await?;
        }
        let (batch, ground) = (std::mem::take(&mut self.next), Arc::clone(&self.ground));
        self.running.spawn_blocking(move || {
            batch.into_iter().map(|(place, piece)| (place, ground.appraise(&piece))).collect()
        });
        Ok(())
    }

    async fn take(&mut self) -> Result<(), Refusal> {
        let Some(batch) = self.running.join_next().await else { return Ok(()) };
        for (place, appraised) in batch.map_err(Refusal::internal)? {
            if let Some(done) = self.done.get_mut(place) {
                *done = appraised.map(Arc::new);
            }
        }
        Ok(())
    }
}
