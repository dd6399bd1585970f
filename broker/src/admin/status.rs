//! The morning page: how the plant is, and what needs a person.

use std::collections::{BTreeMap, BTreeSet};
use std::slice;

use policy::digest::Digest;
use policy::id::{ProductName, ZoneName};
use policy::reference::release::ReleaseId;
use policy::reference::state::ReleaseState;
use policy::rollout::RolloutId;
use policy::time::UnixTime;
use policy::zone::Segmentation;
use x509_cert::Certificate;
use x509_cert::der::{Decode, Encode};

use super::Actor;
use super::device::view::{DeviceView, Seen, State, all};
use super::device::why::why;
use super::outlook::{Outlook, ZoneOutlook};
use super::reach::Scope;
use super::{audit, conduit, golden, overriding, rollout, second};
use crate::audit::Event;
use crate::plant::Plant;
use crate::record::device::{Decision, Leaving, Quarantine};
use crate::record::overriding::OverrideRecord;
use crate::session::Refusal;
use crate::session::recorded::results;
use crate::store::Revision;
use crate::trust;

/// Most things that the page lists; the rest is counted.
const MAX_ATTENTION: usize = 100;
/// How long before an administrator's or the issuing certificate ends it needs a person, in seconds.
const ENDS_SOON: u64 = 30 * 86_400;
/// How far back changes are told, in seconds.
const DAY: u64 = 86_400;
/// Most changes that the page tells.
const MAX_CHANGES: usize = 50;

/// Something that needs a person.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attention {
    /// What it is about.
    pub subject: String,
    /// What is wrong.
    pub message: String,
    /// The command that would help; empty where no command does.
    pub next_command: String,
    /// The owner that the inventory names.
    pub owner: String,
    /// The criticality that the inventory names.
    pub criticality: String,
}

/// The page.
#[derive(Debug)]
pub struct Status {
    /// The plant's domain.
    pub plant: String,
    /// The broker's time.
    pub now: UnixTime,
    /// The plant's epoch.
    pub epoch: u64,
    /// The store's revision.
    pub revision: Revision,
    /// Devices by state.
    pub devices: BTreeMap<State, u32>,
    /// What needs a person, most urgent first.
    pub attention: Vec<Attention>,
    /// Zones.
    pub zones: usize,
    /// Conduits.
    pub conduits: usize,
    /// Active releases.
    pub active_releases: usize,
    /// Digest of the plant root's public key.
    pub plant_root: Option<Digest>,
    /// When the issuing certificate ends.
    pub issuing_not_after: UnixTime,
    /// What people changed in the last day, newest first.
    pub changes: Vec<Event>,
    /// Coverage and reserve of each zone in sight.
    pub outlook: Vec<ZoneOutlook>,
}

/// The page of now, as `actor` should see it.
pub async fn status(plant: &Plant, actor: &Actor) -> Result<Status, Refusal> {
    let now = plant.now();
    let zones = trust::segmentation(plant).await.map_err(Refusal::internal)?;
    let releases = golden::counting(plant).await?;
    let active = || releases.iter().filter(|release| release.state == ReleaseState::Active);
    let mut devices = BTreeMap::new();
    // First, so that no page leaves them out.
    let halted = rollout::halted(plant, actor.scope()).await?;
    let mut attention: Vec<Attention> = halted.iter().map(of_rollout).collect();
    let overrides = overriding::all(plant, actor.scope()).await?;
    attention.extend(overrides.iter().map(of_override));
    let mut outlook = Outlook::new(&zones, actor.scope(), &releases);
    let (mut urgent, mut overdue, mut ahead) = (Vec::new(), Vec::new(), None);
    let view = trust::view(plant).await.map_err(Refusal::internal)?;
    let sequence = view.sequence(plant.keys.load().epoch);
    for seen in all(plant, actor.scope(), &zones).await? {
        let count: &mut u32 = devices.entry(seen.state()).or_default();
        *count = count.saturating_add(1);
        outlook.count(&seen, now);
        ahead = ahead.or_else(|| held_ahead(&seen, sequence));
        overdue.extend(of_move(&seen, now));
        if needs_a_person(&seen) {
            urgent.push(seen);
        }
    }
    // Stable: what is equally critical stays in the order of names.
    urgent.sort_by_key(|seen| rank(&inventoried(seen, "criticality")));
    for seen in urgent.iter().take(MAX_ATTENTION.saturating_add(1)) {
        attention.push(of_device(plant, seen, now).await);
    }
    let keys = plant.keys.load();
    attention.extend(overdue);
    attention.extend(ahead);
    attention.extend(of_zones(
        actor.scope(),
        &zones,
        &active().map(|release| release.product.clone()).collect(),
    ));
    attention.extend(golden::keys::attention(plant).await?);
    let lately = UnixTime(now.0.saturating_sub(DAY));
    attention.extend(of_changes(plant, actor).await?);
    attention.extend(of_certificates(actor, keys.issuing.not_after(), now));
    shorten(&mut attention);
    Ok(Status {
        plant: keys.domain.to_string(),
        now,
        epoch: keys.epoch,
        revision: plant.store.revision(),
        devices,
        attention,
        zones: zones.zones().filter(|zone| actor.scope().sees(slice::from_ref(&zone.name))).count(),
        conduits: zones.conduits().iter().filter(|one| conduit::shown(actor.scope(), one)).count(),
        active_releases: active().count(),
        plant_root: root_pin(&keys.root),
        issuing_not_after: keys.issuing.not_after(),
        changes: audit::changes(plant, actor, lately, MAX_CHANGES, is_change).await?,
        outlook: outlook.zones(),
    })
}

/// What the inventory says; empty where it says nothing.
fn inventoried(seen: &Seen, name: &str) -> String {
    let Seen::Device(view) = seen else { return String::new() };
    view.inventory.values.get(name).map_or_else(String::new, |known| known.value.clone())
}

/// The place of a criticality, most critical first. Plants choose their words; unknown ones stand in the middle.
fn rank(criticality: &str) -> u8 {
    match criticality.to_ascii_lowercase().as_str() {
        "critical" | "highest" | "safety" => 0,
        "high" => 1,
        "low" => 3,
        "lowest" | "none" => 4,
        _ => 2,
    }
}

/// Whether an action of the audit chain is something that people changed about what devices may do.
fn is_change(action: &str) -> bool {
    let noun = action.split_once('.').map_or(action, |(noun, _)| noun);
    // What was refused changed nothing.
    !action.ends_with(".refused")
        && matches!(noun, "golden" | "zone" | "conduit" | "admin" | "authority" | "change" | "plant")
}

fn shorten(attention: &mut Vec<Attention>) {
    if attention.len() <= MAX_ATTENTION {
        return;
    }
    attention.truncate(MAX_ATTENTION);
    attention.push(Attention {
        subject: "more".to_owned(),
        message: format!("only the first {MAX_ATTENTION} things are listed here"),
        next_command: "touchstone device list --state refused".to_owned(),
        ..Attention::default()
    });
}

/// What devices pin: the digest of the root's public key.
pub(super) fn root_pin(root: &[u8]) -> Option<Digest> {
    let certificate = Certificate::from_der(root).ok()?;
    let spki = certificate.tbs_certificate().subject_public_key_info().to_der().ok()?;
    Some(Digest::of(&spki))
}

fn would_refuse(view: &DeviceView) -> bool {
    view.attested.as_ref().is_some_and(|attested| attested.decision == Decision::WouldRefuse)
}

fn needs_a_person(seen: &Seen) -> bool {
    match seen {
        Seen::Pending(_) => true,
        Seen::Device(view) => match view.state {
            State::Refused | State::Silent | State::Pending => true,
            State::Trusted => would_refuse(view) || view.device.zones.is_empty(),
            // A clone alarm: the broker stopped it, and a person decides.
            State::Quarantined => view.tpm.quarantine.as_ref().is_some_and(Quarantine::is_clone_alarm),
            // Somebody decided these; they wait for nobody here.
            State::Registered | State::Retired => false,
        },
    }
}

async fn of_device(plant: &Plant, seen: &Seen, now: UnixTime) -> Attention {
    let (subject, records) = match seen {
        Seen::Pending(pending) => {
            let subject = pending.name.as_ref().map_or_else(|| pending.ek.to_string(), ToString::to_string);
            (subject, Vec::new())
        }
        Seen::Device(view) => {
            let records = match &view.attested {
                Some(attested) => results(plant, attested).await,
                None => Vec::new(),
            };
            (view.device.name.to_string(), records)
        }
    };
    let why = why(seen, &records, now);
    let (owner, criticality) = (inventoried(seen, "owner"), inventoried(seen, "criticality"));
    // The first sentence says that it is refused, the second why.
    let message = why.sentences.into_iter().take(2).collect::<Vec<_>>().join(": ");
    let next_command = match seen {
        Seen::Device(view) if view.state == State::Refused || would_refuse(view) => {
            format!("touchstone device why {}", view.device.name)
        }
        _ => why.next_command,
    };
    Attention { subject, message, next_command, owner, criticality }
}

/// A move that should have ended: the device gets nothing more of the zone that it leaves, and did not arrive.
fn of_move(seen: &Seen, now: UnixTime) -> Option<Attention> {
    let Seen::Device(view) = seen else { return None };
    let leaving = view.device.leaving.as_ref().filter(|leaving| leaving.due() < now)?;
    let (name, Leaving { from, to, since }) = (&view.device.name, leaving);
    let ends = |zone: &ZoneName| {
        let of_zone = view.certificates.iter().filter(|(held, _)| held == zone);
        of_zone.map(|(_, one)| one.validity.not_after).max()
    };
    let arrival = if ends(to).is_some() {
        format!("it has certificates of {to} and does not say that its software got them")
    } else {
        format!("{to} gives it no certificate")
    };
    let rest = match ends(from) {
        Some(end) => format!("its last one of {from} ends on {end}"),
        None => format!("it has none of {from} any more"),
    };
    Some(Attention {
        subject: name.to_string(),
        message: format!(
            "its move from {from} to {to}, begun on {since}, did not end: {arrival}, and {rest}; mend that, or move it back \
             with `touchstone device move {name} --to {from}`"
        ),
        next_command: format!("touchstone device why {name}"),
        owner: inventoried(seen, "owner"),
        criticality: inventoried(seen, "criticality"),
    })
}

/// The device refuses this broker's trust files, if it holds one of a later sequence: the store is an older one.
fn held_ahead(seen: &Seen, sequence: u64) -> Option<Attention> {
    let Seen::Device(view) = seen else { return None };
    let (name, held) = (&view.device.name, view.device.trust_sequence);
    (held > sequence).then(|| Attention {
        subject: "trust files".to_owned(),
        message: format!(
            "{name} holds trust files of sequence {held} and refuses those of this broker, {sequence}, which are older: \
             its disk was put back to an earlier state; restore a backup, which begins a new epoch that devices take"
        ),
        next_command: "touchstone restore FILE".to_owned(),
        ..Attention::default()
    })
}

fn of_zones(scope: &Scope, zones: &Segmentation, active: &BTreeSet<ProductName>) -> Vec<Attention> {
    let mut attention = Vec::new();
    for conduit in zones.observed().filter(|conduit| conduit::shown(scope, conduit)) {
        attention.push(Attention {
            subject: conduit.to_string(),
            message: "this conduit lets an observing zone reach an enforcing one".to_owned(),
            next_command: format!("touchstone zone show {}", conduit.from),
            ..Attention::default()
        });
    }
    for zone in zones.zones().filter(|zone| scope.sees(slice::from_ref(&zone.name))) {
        for product in zone.products.iter().filter(|product| !active.contains(*product)) {
            attention.push(Attention {
                subject: zone.name.to_string(),
                message: format!("{product} has no active golden release, so nothing that boots is approved"),
                next_command: format!(
                    "touchstone golden learn --from DEVICE --product {product} --version VERSION"
                ),
                ..Attention::default()
            });
        }
    }
    attention
}

fn of_rollout((id, to, reason): &(RolloutId, ReleaseId, String)) -> Attention {
    let product = &id.product;
    Attention {
        subject: product.to_string(),
        message: format!(
            "rollout {id} to {to} is halted, {reason}; look at it, then `touchstone golden rollout resume {product}` or `touchstone golden rollback {product}`"
        ),
        next_command: format!("touchstone golden rollout status {product}"),
        ..Attention::default()
    }
}

fn of_override(record: &OverrideRecord) -> Attention {
    Attention {
        subject: record.device.to_string(),
        message: overriding::words(record),
        next_command: format!("touchstone override {} --end", record.device),
        ..Attention::default()
    }
}

/// Changes that wait for this very person.
async fn of_changes(plant: &Plant, actor: &Actor) -> Result<Vec<Attention>, Refusal> {
    let mut attention = Vec::new();
    for second::Waiting { change, basis } in second::all(plant, actor).await? {
        if second::may_approve(plant, &change, &basis, actor).await? {
            attention.push(Attention {
                message: format!(
                    "{} asks for {}, which waits for a second person until {}",
                    change.by, change.act, change.expires
                ),
                next_command: format!("touchstone change show {}", change.id),
                subject: change.subject,
                ..Attention::default()
            });
        }
    }
    Ok(attention)
}

fn of_certificates(actor: &Actor, issuing: UnixTime, now: UnixTime) -> Vec<Attention> {
    let yours = format!("the administrator certificate of {}", actor.name());
    let ends = [
        (yours, actor.not_after(), "touchstone admin renew"),
        (
            "the broker's issuing certificate".to_owned(),
            issuing,
            "touchstone-broker recover --kit DIR --issuing-key",
        ),
    ];
    let soon = ends.into_iter().filter(|(_, end, _)| end.since(now) <= ENDS_SOON);
    let attention = soon.map(|(subject, end, next)| Attention {
        message: format!("{subject} ends on {end}; renew it before then"),
        subject,
        next_command: next.to_owned(),
        ..Attention::default()
    });
    attention.collect()
}
