//! What a change of golden values does to devices, from their last evidence.
//!
//! ```text
//! records    devices, attestations, inventories  ->  one device after the other ([`crate::admin::records`])
//! standing   is its evidence still that of what it runs?  if not: unknown, and why
//! appraisal  evidence that is alike once, on the blocking pool  ->  before, after
//! group      lines  ->  a few groups
//! ```
//!
//! A forecast is no promise: a device may have rebooted since. Whatever makes its evidence say nothing counts as
//! unknown.

mod appraisal;
mod group;
mod standing;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use policy::appraisal::Finding;
use policy::appraisal::policy::ZonePolicy;
use policy::digest::Digest;
use policy::id::{DeviceName, ProductName, ZoneName};
use policy::reference::ReferenceValues;
use policy::reference::supposed::Supposed;
use policy::time::UnixTime;
use policy::zone::{Segmentation, Zone};

use self::appraisal::{Appraisals, Appraised, Ground, Piece};
pub use self::group::{Group, grouped};
use self::standing::Standing;
use crate::admin::device::view::{State, state};
use crate::admin::reach::Scope;
use crate::admin::records::Records;
use crate::plant::Plant;
use crate::record::device::{ATTESTED, Attested, DEVICE, Device, EK, INVENTORY, Inventory, Tpm, ek_key};
use crate::record::{Held, fetch};
use crate::session::Refusal;
use crate::trust;

/// Evidence this young always counts, in seconds: a refused device asks less often than its zone says.
const ALWAYS_COUNTS: u64 = 900;
/// How long a forecast waits for the one before it: each reads the whole fleet and takes every processor.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a device's evidence means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outlook {
    /// Every zone of the product would trust it.
    Trusted,
    /// One would refuse it.
    Refused,
    /// Its evidence is missing, too old, or about to be another.
    Unknown,
}

impl Outlook {
    /// The outlook as commands show it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Trusted => "trusted",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
        }
    }
}

/// The boot that evidence is of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Boot {
    /// How often the TPM was reset.
    pub reset_count: u32,
    /// How often it was resumed since.
    pub restart_count: u32,
}

/// The forecast for one device. What many devices have in common is shared.
#[derive(Debug, Clone)]
pub struct Line {
    /// The device.
    pub device: DeviceName,
    /// Under the golden values of now.
    pub before: Outlook,
    /// Under the change.
    pub after: Outlook,
    /// Age of its evidence in seconds.
    pub age: u64,
    /// The boot that its evidence is of.
    pub boot: Boot,
    /// What would count against it, or would if its zone enforced.
    pub findings: Arc<[Finding]>,
    /// The first of them in a sentence, or why nothing can be said.
    pub reason: Arc<str>,
    /// Its zones of the product.
    pub zones: Arc<[ZoneName]>,
    /// The owner that the inventory names.
    pub owner: Arc<str>,
    /// The criticality that the inventory names.
    pub criticality: Arc<str>,
    /// A zone that observes would refuse it, did it enforce.
    pub would_refuse: bool,
}

/// A change of the golden values of a product.
pub(super) struct Change<'a> {
    pub(super) product: &'a ProductName,
    pub(super) before: Arc<ReferenceValues>,
    pub(super) after: Supposed,
    /// When it is looked at; none: now.
    pub(super) at: Option<UnixTime>,
}

/// The forecast of every device in sight in zones of the product, by name: before the change now, after it when
/// that is looked at.
pub(super) async fn fleet(plant: &Plant, scope: &Scope, change: Change<'_>) -> Result<Vec<Line>, Refusal> {
    let busy = || Refusal::TryLater { why: "another forecast of the fleet runs".to_owned(), seconds: 10 };
    let _place = tokio::time::timeout(PATIENCE, plant.forecasts.acquire())
        .await
        .map_err(|_| busy())?
        .map_err(Refusal::internal)?;
    let Change { product, before, after, at } = change;
    let ground = Ground::new(plant, before, after, at.unwrap_or_else(|| plant.now()));
    let mut reading = Reading::begin(plant, product, Appraisals::new(ground)).await?;
    let mut devices = Records::<Device>::read(plant, DEVICE);
    let mut attested = Records::<Attested>::read(plant, ATTESTED);
    let mut inventories = Records::<Inventory>::read(plant, INVENTORY);
    while let Some((name, device)) = devices.next().await? {
        if scope.sees(&device.zones) {
            let inventory = inventories.of(&name).await?.unwrap_or_default();
            reading.device(&device, attested.of(&name).await?, &inventory).await?;
        }
    }
    reading.lines().await
}

/// The zones of a product that devices are in, and who appraises for them.
#[derive(Clone)]
struct Judges {
    names: Arc<[ZoneName]>,
    policies: Arc<[ZonePolicy]>,
    /// How long evidence says something, in seconds: two intervals.
    tells_for: u64,
}

/// Devices with the same one are appraised alike: what was measured, what may vouch for the TPM today, and who
/// appraises.
type Alike = (Digest, bool, Option<[u8; 4]>, Arc<[ZoneName]>);

/// Lines as far as the fleet has been read.
struct Reading<'a> {
    plant: &'a Plant,
    product: &'a ProductName,
    now: UnixTime,
    zones: Segmentation,
    tpms: HashMap<String, Tpm>,
    standing: Standing,
    appraisals: Appraisals,
    /// By the zones of devices; none: no zone of the product is among them.
    judges: BTreeMap<Vec<ZoneName>, Option<Judges>>,
    known: HashMap<Alike, usize>,
    words: HashSet<Arc<str>>,
    /// Each with the place of its appraisal, if there is one.
    lines: Vec<(Line, Option<usize>)>,
}

impl<'a> Reading<'a> {
    async fn begin(
        plant: &'a Plant,
        product: &'a ProductName,
        appraisals: Appraisals,
    ) -> Result<Self, Refusal> {
        let mut tpms = HashMap::new();
        let mut records = Records::<Tpm>::read(plant, EK);
        while let Some((ek, tpm)) = records.next().await? {
            tpms.insert(ek, tpm);
        }
        Ok(Self {
            plant,
            product,
            now: plant.now(),
            zones: trust::segmentation(plant).await.map_err(Refusal::internal)?,
            tpms,
            standing: Standing::read(plant, product).await?,
            appraisals,
            judges: BTreeMap::new(),
            known: HashMap::new(),
            words: HashSet::new(),
            lines: Vec::new(),
        })
    }

    async fn device(
        &mut self,
        device: &Device,
        attested: Option<Attested>,
        inventory: &Inventory,
    ) -> Result<(), Refusal> {
        let Some(judges) = self.judges(&device.zones) else { return Ok(()) };
        let tpm = self.tpm(device).await?;
        let state = state(device, &tpm, attested.as_ref(), &self.zones, self.now);
        if matches!(state, State::Registered | State::Retired) {
            return Ok(());
        }
        let mut line = self.line(device, attested.as_ref(), inventory, &judges);
        let unknown =
            self.standing.unknown(self.plant, device, attested.as_ref(), line.age, judges.tells_for);
        let place = match (unknown, attested) {
            (None, Some(attested)) => Some(self.appraised(device, attested, tpm, &judges).await?),
            (why, _) => {
                line.reason = self.word(why.unwrap_or(standing::NEVER));
                None
            }
        };
        self.lines.push((line, place));
        Ok(())
    }

    async fn tpm(&self, device: &Device) -> Result<Tpm, Refusal> {
        let key = ek_key(&device.ek);
        if let Some(tpm) = self.tpms.get(key.strip_prefix(EK).unwrap_or_default()) {
            return Ok(tpm.clone());
        }
        // Of a device that came, or got another TPM, since TPMs were read.
        let tpm: Option<Held<Tpm>> = fetch(self.plant.store.as_ref(), key).await?;
        tpm.map(|held| held.record)
            .ok_or_else(|| Refusal::internal(format!("the device {} is known, its TPM is not", device.name)))
    }

    /// The place of the appraisal of a device's evidence, which may be that of another that is alike.
    async fn appraised(
        &mut self,
        device: &Device,
        attested: Attested,
        tpm: Tpm,
        judges: &Judges,
    ) -> Result<usize, Refusal> {
        let excused = self.standing.excused(device);
        // What is accepted by hand is accepted of one device; and what vouched when the evidence came may not
        // vouch any more.
        let shared = excused.is_none() && attested.vouched == Some(self.plant.vouching());
        let alike = attested.basis.filter(|_| shared);
        let alike = alike.map(|basis| (basis, tpm.registered, tpm.manufacturer, Arc::clone(&judges.names)));
        if let Some(place) = alike.as_ref().and_then(|alike| self.known.get(alike)) {
            return Ok(*place);
        }
        let piece = Piece { attested, tpm, zones: Arc::clone(&judges.policies), excused };
        let place = self.appraisals.add(piece).await?;
        if let Some(alike) = alike {
            self.known.insert(alike, place);
        }
        Ok(place)
    }

    /// What is said of a device of which nothing can be foreseen.
    fn line(
        &mut self,
        device: &Device,
        attested: Option<&Attested>,
        inventory: &Inventory,
        judges: &Judges,
    ) -> Line {
        let value = |name: &str| inventory.values.get(name).map_or("", |known| known.value.as_str());
        let (owner, criticality) = (self.word(value("owner")), self.word(value("criticality")));
        Line {
            device: device.name.clone(),
            before: Outlook::Unknown,
            after: Outlook::Unknown,
            age: attested.map_or(0, |attested| self.now.since(attested.at)),
            boot: attested.map_or_else(Boot::default, |attested| Boot {
                reset_count: attested.reset_count,
                restart_count: attested.restart_count,
            }),
            findings: Arc::default(),
            reason: Arc::default(),
            zones: Arc::clone(&judges.names),
            owner,
            criticality,
            would_refuse: false,
        }
    }

    fn word(&mut self, word: &str) -> Arc<str> {
        if let Some(known) = self.words.get(word) {
            return Arc::clone(known);
        }
        let word: Arc<str> = word.into();
        self.words.insert(Arc::clone(&word));
        word
    }

    fn judges(&mut self, of: &[ZoneName]) -> Option<Judges> {
        if let Some(known) = self.judges.get(of) {
            return known.clone();
        }
        let zones = of.iter().filter_map(|name| self.zones.zone(name));
        let zones: Vec<&Zone> = zones.filter(|zone| zone.products.contains(self.product)).collect();
        let interval = zones.iter().map(|zone| zone.timing.reattest_every()).min();
        let judges = interval.map(|interval| Judges {
            names: zones.iter().map(|zone| zone.name.clone()).collect(),
            policies: zones.iter().map(|zone| zone.policy()).collect(),
            tells_for: interval.saturating_mul(2).max(ALWAYS_COUNTS),
        });
        self.judges.insert(of.to_vec(), judges.clone());
        judges
    }

    /// The lines with what their appraisals found.
    async fn lines(self) -> Result<Vec<Line>, Refusal> {
        let appraised = self.appraisals.finish().await?;
        let unreadable: Arc<str> = standing::UNREADABLE.into();
        let filled = self.lines.into_iter().map(|(line, place)| {
            let Some(place) = place else { return line };
            match appraised.get(place).and_then(Option::as_ref) {
                Some(appraised) => line.filled(appraised),
                None => Line { reason: Arc::clone(&unreadable), ..line },
            }
        });
        Ok(filled.collect())
    }
}

impl Line {
    fn filled(self, appraised: &Appraised) -> Self {
        Self {
            before: appraised.before,
            after: appraised.after,
            findings: Arc::clone(&appraised.findings),
            reason: Arc::clone(&appraised.reason),
            would_refuse: appraised.would_refuse,
            ..self
        }
    }
}
