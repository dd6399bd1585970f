//! Everything that ends by itself, and what begins by the clock: so that nobody is surprised by a date.
//!
//! Certificates of devices are replaced by themselves, and left out while they are. A device that is not heard for longer
//! than its zone allows, or that waits for a person, gets no other ones: it is named, with the end of the last one that it
//! has in each zone.

use std::collections::BTreeMap;
use std::slice;

use policy::evidence::endorsement::Anchor;
use policy::id::ZoneName;
use policy::reference::state::ReleaseState;
use policy::time::UnixTime;
use policy::zone::{Conduit, Segmentation};
use x509_cert::Certificate;
use x509_cert::der::Decode as _;

use super::Actor;
use super::device::view::{self, DeviceView, Seen, State};
use super::device::why;
use super::reach::Scope;
use super::{overriding, second};
use crate::manufacturers::{IDEVID_ROOTS, TPM_ROOTS};
use crate::plant::Plant;
use crate::record::audit::{AUDIT_KEY, AuditSigning};
use crate::record::device::{Leaving, TOKEN, Token};
use crate::record::golden::{RELEASE, ReleaseRecord};
use crate::record::invitation::{INVITATION, Invitation};
use crate::record::moving::{MOVE, PlannedMove};
use crate::record::plant::{ADMIN, Administrator};
use crate::record::zone::{AUTHORITY, AuthorityRecord, AuthorityState, role_name};
use crate::record::{Held, fetch, list};
use crate::session::Refusal;
use crate::trust;

/// Certificates of devices that are named; of the others there is one date.
const MAX_DEVICES: usize = 100;

/// A date.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// When.
    pub at: UnixTime,
    /// What kind of thing.
    pub kind: &'static str,
    /// Which one.
    pub subject: String,
    /// When a window closes again; none: a moment.
    pub until: Option<UnixTime>,
    /// One sentence.
    pub text: String,
    /// What may be done about it; empty: nothing need be.
    pub next_command: String,
}

impl Entry {
    fn new(kind: &'static str, subject: impl ToString, at: UnixTime, text: impl Into<String>) -> Self {
        let (subject, text) = (subject.to_string(), text.into());
        Self { at, kind, subject, until: None, text, next_command: String::new() }
    }

    fn next(self, command: impl Into<String>) -> Self {
        Self { next_command: command.into(), ..self }
    }
}

/// Every date that is to come and that `actor` may see, the first one first.
pub async fn all(plant: &Plant, actor: &Actor) -> Result<Vec<Entry>, Refusal> {
    let (now, scope) = (plant.now(), actor.scope());
    let mut entries = own(plant).await?;
    entries.extend(manufacturers(plant));
    entries.extend(people(plant).await?);
    entries.extend(zones(plant, scope, now).await?);
    entries.extend(devices(plant, scope, now).await?);
    entries.extend(releases(plant).await?);
    for waiting in second::all(plant, actor).await? {
        let change = waiting.change;
        let text = format!("change {} ({} {}) is dropped", change.id, change.act, change.subject);
        let command = format!("touchstone change approve {}", change.id);
        entries.push(Entry::new("change", &change.id, change.expires, text).next(command));
    }
    entries.retain(|entry| entry.at > now);
    entries.sort();
    Ok(entries)
}

/// The broker's own certificates.
async fn own(plant: &Plant) -> Result<Vec<Entry>, Refusal> {
    let issuing = plant.keys.load().issuing.not_after();
    let text = "the broker's issuing key ends: no administrator or device reaches it then";
    let mut entries = vec![Entry::new("broker", "issuing", issuing, text).next("touchstone-broker recover")];
    let audit: Option<Held<AuditSigning>> = fetch(plant.store.as_ref(), AUDIT_KEY.to_owned()).await?;
    entries.extend(root_ends(&plant.keys.load().root).map(|end| {
        let text = "the plant root ends: devices believe nothing that it signed then; make a new plant, and enroll devices there, long before";
        Entry::new("broker", "root", end, text)
    }));
    entries.extend(plant.metrics.publish_ends().map(|end| {
        let text = "the certificate of what is published (`[publish]` in broker.toml) ends; put another into its files, the broker reads them every hour";
        Entry::new("broker", "publish", end, text)
    }));
    let others =
        [("server", plant.metrics.server_ends()), ("audit", audit.map(|held| held.record.not_after))];
    for (name, end) in others {
        let text = format!("the broker's {name} certificate ends; it is made anew by itself before");
        entries.extend(end.map(|end| Entry::new("broker", name, end, text)));
    }
    Ok(entries)
}

/// The roots that EK certificates and IDevIDs have to lead to. A certificate between is a matter of its manufacturer's: there
/// are thousands of them, and most came with devices.
fn manufacturers(plant: &Plant) -> impl Iterator<Item = Entry> {
    let stores = [(TPM_ROOTS, &plant.roots, "TPMs"), (IDEVID_ROOTS, &plant.idevid_roots, "boxes")];
    stores.into_iter().flat_map(|(key, store, what)| {
        store.each_anchor().map(move |Anchor { name, file, digest, not_after }| {
            let text = format!(
                "the root {name} ({file}) ends: {what} that it vouches for are not endorsed by it then; put the manufacturer's next one into `{key}` before"
            );
            // Its digest tells it from a namesake, and stays when its file is moved.
            Entry::new("manufacturer", format!("{key}/{digest}"), not_after, text)
        })
    })
}

/// When the plant root, DER, ends.
fn root_ends(root: &[u8]) -> Option<UnixTime> {
    let root = Certificate::from_der(root).ok()?;
    Some(UnixTime(root.tbs_certificate().validity().not_after.to_unix_duration().as_secs()))
}

/// Administrators, whom everybody may read of, and whom an invitation waits for.
async fn people(plant: &Plant) -> Result<Vec<Entry>, Refusal> {
    let all: Vec<Held<Administrator>> = list(plant.store.as_ref(), ADMIN).await?;
    let person = |Held { record, .. }: Held<Administrator>| {
        let text = format!("the certificate of {} ({}) ends", record.name, record.role.name());
        Entry::new("administrator", &record.name, record.not_after, text).next("touchstone admin renew")
    };
    let invited: Vec<Held<Invitation>> = list(plant.store.as_ref(), INVITATION).await?;
    let invitation = |Held { record, .. }: Held<Invitation>| {
        let text = format!("the invitation of {} ends", record.name);
        Entry::new("invitation", &record.name, record.expires, text)
    };
    Ok(all.into_iter().map(person).chain(invited.into_iter().map(invitation)).collect())
}

/// Authorities, and the hours and ends of conduits.
async fn zones(plant: &Plant, scope: &Scope, now: UnixTime) -> Result<Vec<Entry>, Refusal> {
    let mut entries = Vec::new();
    let authorities: Vec<Held<AuthorityRecord>> = list(plant.store.as_ref(), AUTHORITY).await?;
    for Held { record, .. } in authorities {
        if record.state == AuthorityState::Distrusted || !scope.sees(slice::from_ref(&record.zone)) {
            continue;
        }
        let subject = format!("{}/{}/{}", record.zone, role_name(record.role), record.generation);
        let text = format!("the authority {subject} ends; the next one signs long before, by itself");
        entries.push(Entry::new("authority", subject, record.not_after, text));
    }
    let graph = trust::segmentation(plant).await.map_err(Refusal::internal)?;
    for conduit in graph.conduits() {
        if !scope.sees(&[conduit.from.clone(), conduit.to.clone()]) || conduit.has_ended(now) {
            continue;
        }
        let subject = format!("{}/{}/{}", conduit.from, conduit.to, conduit.service);
        if let Some(end) = conduit.expires {
            let text = format!("the conduit {conduit} ends");
            let longer = longer(conduit);
            entries.push(Entry::new("conduit", &subject, end, text).next(longer));
        }
        let hours = conduit.hours();
        if conduit.schedule.is_some() && hours.is_open(now) {
            // Where it ends for good, that is its date already.
            let closes = hours.next_edge(now).filter(|closes| Some(*closes) != conduit.expires);
            let text = format!("the conduit {conduit} closes until its next hours");
            entries.extend(closes.map(|at| Entry::new("closing", &subject, at, text)));
        }
        // The next time that it opens, not the hours of today.
        let opens = if hours.is_open(now) { hours.next_edge(now) } else { Some(now) };
        let opens = opens.filter(|_| conduit.schedule.is_some()).and_then(|from| hours.next_opening(from));
        if let Some(opens) = opens {
            let mut entry = Entry::new("window", &subject, opens, format!("the conduit {conduit} opens"));
            entry.until = hours.next_edge(opens);
            entries.push(entry);
        }
    }
    Ok(entries)
}

/// The command that lets a conduit end later. It says the conduit whole: what is left out of it would be gone.
fn longer(conduit: &Conduit) -> String {
    let Conduit { from, to, service, schedule, accept_observed, .. } = conduit;
    let hours = schedule.as_ref().map_or_else(String::new, |hours| format!(" --schedule '{hours}'"));
    let observed = if *accept_observed { " --accept-observed" } else { "" };
    format!(
        "touchstone conduit allow --from {from} --to {to} --service {service}{hours}{observed} --until TIME"
    )
}

/// Overrides, join tokens, moves, and devices whose certificates are not replaced.
async fn devices(plant: &Plant, scope: &Scope, now: UnixTime) -> Result<Vec<Entry>, Refusal> {
    let mut entries = Vec::new();
    for record in overriding::all(plant, scope).await? {
        let text = format!("the override of {} ends, and certificates that rest on it", record.device);
        let command = format!("touchstone device why {}", record.device);
        entries.push(Entry::new("override", &record.device, record.excused.until, text).next(command));
    }
    let tokens: Vec<Held<Token>> = list(plant.store.as_ref(), TOKEN).await?;
    for held in tokens.into_iter().filter(|held| scope.sees(&held.record.zones)) {
        let id = held.key.strip_prefix(TOKEN).unwrap_or_default();
        let who = held.record.device.map_or_else(|| "one device".to_owned(), |name| name.to_string());
        let text = format!("the join token for {who} by {} ends", held.record.by);
        entries.push(Entry::new("token", id, held.record.expires, text).next("touchstone token create"));
    }
    let graph = trust::segmentation(plant).await.map_err(Refusal::internal)?;
    let seen = view::all(plant, scope, &graph).await?;
    entries.extend(ending(&seen, scope, &graph, now));
    for seen in &seen {
        let Seen::Device(view) = seen else { continue };
        entries.extend(under_way(view, now));
    }
    let moves: Vec<Held<PlannedMove>> = list(plant.store.as_ref(), MOVE).await?;
    for Held { record, .. } in
        moves.into_iter().filter(|held| scope.sees(&[held.record.from.clone(), held.record.to.clone()]))
    {
        let text = format!("{} moves from {} to {}", record.device, record.from, record.to);
        let opens = record.window.next_opening(now.plus(1));
        let command = format!("touchstone device move {} --cancel", record.device);
        entries.extend(opens.map(|at| Entry::new("move", &record.device, at, text).next(command)));
    }
    Ok(entries)
}

/// Certificates that nothing replaces, those first that end first: of devices that are silent, also where one of their
/// zones refused them before, and of those that wait for a person.
fn ending(seen: &[Seen], scope: &Scope, graph: &Segmentation, now: UnixTime) -> Vec<Entry> {
    let mut entries = Vec::new();
    for seen in seen {
        let Seen::Device(view) = seen else { continue };
        let why = match view.state {
            State::Pending => "waits for a person",
            _ if view.is_unheard(graph, now) => "is not heard",
            _ => continue,
        };
        let (name, next) = (&view.device.name, why::why(seen, &[], now).next_command);
        let mut ends: BTreeMap<&ZoneName, UnixTime> = BTreeMap::new();
        for (zone, held) in view.certificates.iter().filter(|(zone, _)| scope.sees(slice::from_ref(zone))) {
            let end = ends.entry(zone).or_default();
            *end = held.validity.not_after.max(*end);
        }
        entries.extend(ends.into_iter().map(|(zone, end)| {
            let text = format!("{name} {why}: the last certificate that it has of {zone} ends");
            Entry::new("device", format!("{name}/{zone}"), end, text).next(next.clone())
        }));
    }
    entries.sort();
    let rest = entries.split_off(entries.len().min(MAX_DEVICES));
    entries.extend(rest.first().map(|next| {
        let text = format!("{} more certificates of devices that nothing replaces begin to end", rest.len());
        Entry::new("device", "more", next.at, text)
    }));
    entries
}

/// Announced Clears. Moves that did not end yet: when the zone that is left gives nothing more, and after that, when what it gave ends.
fn under_way(view: &DeviceView, now: UnixTime) -> Vec<Entry> {
    let (mut entries, name) = (Vec::new(), &view.device.name);
    let command = format!("touchstone device why {name}");
    if let Some(until) = view.device.clear_expected {
        let text = format!("the Clear of the TPM of {name} is not expected any more");
        entries.push(Entry::new("clear", name, until, text).next(command.clone()));
    }
    let Some(leaving) = &view.device.leaving else { return entries };
    let Leaving { from, to, .. } = leaving;
    let end = if leaving.due() > now {
        Some((leaving.due(), format!("{name}, on its way to {to}, gets no new certificates of {from}")))
    } else {
        let of_zone = view.certificates.iter().filter(|(zone, _)| zone == from);
        let last = of_zone.map(|(_, one)| one.validity.not_after).max();
        last.map(|at| (at, format!("{name}, on its way to {to}, has no certificate of {from} any more")))
    };
    entries.extend(end.map(|(at, text)| Entry::new("move", name, at, text).next(command)));
    entries
}

/// Releases that pass until a date.
async fn releases(plant: &Plant) -> Result<Vec<Entry>, Refusal> {
    let all: Vec<Held<ReleaseRecord>> = list(plant.store.as_ref(), RELEASE).await?;
    let ends = |Held { record, .. }: Held<ReleaseRecord>| {
        let ReleaseState::Deprecated { until } = record.state else { return None };
        let id = format!("{}@{}", record.product, record.version);
        let text = format!("golden release {id} is accepted no more");
        let command = format!("touchstone golden plan {id} --at {until}");
        Some(Entry::new("release", &id, until, text).next(command))
    };
    Ok(all.into_iter().filter_map(ends).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lets_a_conduit_end_later_leaves_its_hours() {
        let mut conduit = Conduit {
            from: "vendor".parse().unwrap(),
            to: "cell-3".parse().unwrap(),
            service: "ssh".parse().unwrap(),
            schedule: None,
            expires: Some(UnixTime(9)),
            accept_observed: false,
        };
        let plain = "touchstone conduit allow --from vendor --to cell-3 --service ssh";
        assert_eq!(longer(&conduit), format!("{plain} --until TIME"));
        (conduit.schedule, conduit.accept_observed) = (Some("sat 22:00-23:00".parse().unwrap()), true);
        let whole = format!("{plain} --schedule 'sat 22:00-23:00' --accept-observed --until TIME");
        assert_eq!(longer(&conduit), whole);
    }
}
