//! Complete: proof, place, rulings, and one transaction that makes them true.

use std::collections::BTreeSet;

use policy::appraisal::Finding;
use policy::digest::Digest;
use policy::grant::Revision;
use policy::id::{DeviceName, ZoneName};
use policy::time::UnixTime;
use policy::x509::certificate::Certificate;
use policy::zone::Admission;
use proto::{convert, v1};

use super::admission::{Place, Placed, place};
use super::challenge::Door;
use super::issue::{Grants, issue, revoke, valid_serials};
use super::leaving::{Departure, depart};
use super::proof::{Proven, ProvenBy};
use super::ruling::{Ruling, in_order, rule};
use super::software::RefusedKey;
use super::sum::Sum;
use super::without_tpm::Ticket;
use super::{
    Refusal, addressed, by_digest, earlier, elsewhere, idevid, inventory, role_to_wire, software, vouched,
};
use crate::audit::Event;
use crate::golden::{self, Golden};
use crate::metrics::{CertificateKind, Enrolled};
use crate::plant::Plant;
use crate::record::device::{Attested, Decision, Device, Holder, Pending, attested_key, device_key};
use crate::record::golden::GOLDEN;
use crate::record::overriding::Excused;
use crate::record::rollout::{HealthRecord, HealthResult, health_key};
use crate::record::would::{WouldRefuse, would_key};
use crate::record::{Held, fetch, stored};
use crate::rollout::wanted::wanted;
use crate::store::{Txn, TxnError};
use crate::trust;

/// Seconds after which a device that waits for an administrator asks again.
const ASK_AGAIN: u32 = 15;

/// Completes an enrollment or attestation.
pub async fn complete(
    plant: &Plant,
    request: v1::CompleteRequest,
    door: Door,
) -> Result<v1::CompleteResponse, Refusal> {
    let Some((request, proven)) = by_digest::prove(plant, request, door).await? else {
        return Ok(outcome(v1::complete_response::Outcome::LogsWanted(v1::LogsWanted {})));
    };
    match place(plant, &proven).await? {
        Place::Pending { pending, txn } => wait(plant, pending, txn).await,
        Place::Device(placed) => {
            let answer = decide(plant, &proven, *placed, &request).await?;
            if door == Door::Enrollment {
                plant.metrics.enrolled(Enrolled::Issued);
            }
            Ok(answer)
        }
    }
}

async fn wait(plant: &Plant, pending: Pending, txn: Option<Txn>) -> Result<v1::CompleteResponse, Refusal> {
    // Asking again is no news, and writes nothing.
    if let Some(txn) = txn {
        let event =
            Event::new(plant.now(), "broker", "device.pending", &pending.ek.to_string(), &pending.tpm);
        commit(plant, txn.audit(event.entry())).await?;
        plant.metrics.enrolled(Enrolled::Pending);
    }
    let message = format!("an administrator must admit this device: touchstone device admit {}", pending.ek);
    Ok(outcome(v1::complete_response::Outcome::Pending(v1::Pending {
        device: pending.name.map(|name| name.to_string()).unwrap_or_default(),
        ek_digest: pending.ek.0.to_vec(),
        message,
        retry_after_seconds: ASK_AGAIN,
        zones: Vec::new(),
    })))
}

const fn outcome(outcome: v1::complete_response::Outcome) -> v1::CompleteResponse {
    v1::CompleteResponse { outcome: Some(outcome) }
}

/// Everything that one attestation came to, before it is committed.
struct Draft {
    device: Device,
    rebound: bool,
    departure: Departure,
    rulings: Vec<Ruling>,
    golden: Golden,
    excused: Excused,
    attested: Attested,
    last: Option<Held<Attested>>,
    now: UnixTime,
}

async fn decide(
    plant: &Plant,
    proven: &Proven,
    placed: Placed,
    request: &v1::CompleteRequest,
) -> Result<v1::CompleteResponse, Refusal> {
    let now = plant.now();
    let Placed { mut device, rebound, txn } = placed;
    let last = match proven.by() {
        ProvenBy::Tpm(by) => in_order(plant, &mut device, &by.evidence().clock()).await?,
        // Its keys are its order.
        ProvenBy::Key(_) => fetch(plant.store.as_ref(), attested_key(&device.name)).await?,
    };
    let departure = depart(plant, &mut device, proven).await?;
    let golden = golden::current(plant).await.map_err(Refusal::internal)?;
    let excused = Excused::of(plant.store.as_ref(), &device.name).await?;
    let rulings = rule(plant, &device, proven.by(), &golden, &excused, now).await?;
    // What a device offers moves the trust files of others, so only a trusted one is heard.
    if rulings.iter().any(|ruling| ruling.decision() != Decision::Refused) {
        device.services.clone_from(&proven.statement().services);
    }
    device.trust_sequence = proven.statement().trust_sequence;
    let known = last.as_ref().map(|held| &held.record).filter(|_| !rebound);
    let sum = Sum { proven, device: &device, rulings: &rulings, golden: golden.n, request, now };
    let attested = sum.kept(plant, known).await?;
    let draft = Draft { device, rebound, departure, rulings, golden, excused, attested, last, now };
    match settle(plant, proven, &draft, txn).await {
        Ok(earned) => {
            hear(plant, proven, &draft).await;
            if let Some(Held { record: last, .. }) = &draft.last {
                let boot = earlier::over(last, &draft.attested, draft.rebound);
                let earlier = boot.and_then(|boot| boot.evidence);
                forget(plant, last, &[earlier, Some(draft.attested.evidence)]).await;
            }
            answer(plant, &draft, earned).await
        }
        Err(refusal) => {
            let is_its = |of: &Held<Attested>| of.record.evidence == draft.attested.evidence;
            // What is of the proof before is for whoever was faster to remove, who may keep it as of an earlier boot.
            if !draft.last.as_ref().is_some_and(is_its) {
                // The same answer may have been taken by another broker, which keeps it.
                let key = attested_key(&draft.device.name);
                let kept = fetch::<Attested>(plant.store.as_ref(), key).await;
                if kept.is_ok_and(|kept| !kept.as_ref().is_some_and(is_its)) {
                    forget(plant, &draft.attested, &[]).await;
                }
            }
            Err(refusal)
        }
    }
}

/// Takes over what a trusted device states of machines behind it. What it earned does not wait for that.
async fn hear(plant: &Plant, proven: &Proven, draft: &Draft) {
    let trusted = draft.rulings.iter().all(|ruling| ruling.decision() != Decision::Refused);
    if !trusted || draft.rulings.is_empty() {
        return;
    }
    let (name, stated) = (&draft.device.name, &proven.statement().vouches);
    if let Err(error) = vouched::take(plant, name, stated, draft.now).await {
        tracing::warn!(device.id = %name, %error, "what it vouches for is taken over with its next proof");
    }
}

/// Removes blobs that no record names any more: of a device the last evidence that said anything new is kept, and that of
/// its earlier boot, which are `but`. Its logs may be those of others too; they are left to the sweep, as is the evidence of
/// a boot before those.
async fn forget(plant: &Plant, attested: &Attested, but: &[Option<Digest>]) {
    let named = BTreeSet::from([attested.evidence, attested.result]);
    for blob in named.into_iter().filter(|blob| !but.contains(&Some(*blob))) {
        plant.blobs.discard(blob).await;
    }
}

/// What an attestation earned.
struct Earned {
    svids: Vec<v1::Svid>,
    refused: Vec<RefusedKey>,
}

/// Commits the attestation with the certificates it earned and the revocations it caused.
async fn settle(plant: &Plant, proven: &Proven, draft: &Draft, txn: Txn) -> Result<Earned, Refusal> {
    let (device, name, now) = (&draft.device, &draft.device.name, draft.now);
    let left = |zone: &ZoneName| draft.departure.left() == Some(zone);
    let (moved, txn) = revoke(plant, txn, name, left, now, "moved to another zone").await?;
    let loses = |zone: &ZoneName| !left(zone) && draft.loses(zone);
    let (lost, mut txn) = revoke(plant, txn, name, loses, now, "integrity lost").await?;
    let revoked = moved.saturating_add(lost);
    let revisions = revisions(&draft.golden);
    // A new AK ends what the old one got; the device begins anew with its next attestation.
    let (keys, outside) = match draft.rebound {
        true => (&[][..], &[][..]),
        false => (proven.keys(), proven.software_keys()),
    };
    let (mut svids, mut granted, mut refused) = (Vec::new(), Vec::new(), Vec::new());
    for ruling in &draft.rulings {
        let Admission::Trusted(trusted) = &ruling.admission else { continue };
        if !draft.departure.certifies(&ruling.zone.record.name, &draft.rulings, proven) {
            continue;
        }
        let addresses = device.addresses.get(&ruling.zone.record.name).cloned().unwrap_or_default();
        let grants = Grants { device: name, zone: &ruling.zone, trusted, revisions: &revisions, addresses };
        let (issued, next) = issue(plant, &grants, keys, txn, now).await?;
        svids.extend(issued.svids);
        let zone = ruling.zone.record.name.clone();
        refused.extend(issued.refused.map(|refusal| RefusedKey { zone, key: None, refusal }));
        granted.push(grants);
        txn = next;
    }
    let (answered, next) = software::issue(plant, &granted, outside, &svids, txn, now).await?;
    svids.extend(answered.svids);
    refused.extend(answered.refused);
    txn = next
        .unchanged(GOLDEN, draft.golden.version)
        .put(device_key(name), stored(&draft.departure.awaiting(device, &svids))?)
        .put(attested_key(name), stored(&draft.attested)?);
    txn = expect_last(txn, name, draft.last.as_ref());
    let last = draft.last.as_ref().map(|held| &held.record);
    txn = earlier::remember(txn, name, last, &draft.attested, draft.rebound)?;
    let (key, expect) = draft.excused.expected();
    txn = note_would_refuse(plant, txn.expecting(key, expect), draft).await?;
    txn = inventory::take(plant, txn, proven, name, now).await?;
    txn = idevid::note(plant, txn, proven, device, now).await?;
    txn = record_health(plant, txn, proven, name, now).await?;
    if revoked > 0 || draft.departure.left().is_some() || services_changed(plant, device).await? {
        txn = trust::raise(plant, txn, now).await?;
    }
    let mut earned = Earned { svids, refused };
    let event = event(name, &draft.rulings, &earned, revoked, now)
        .issuing(earned.svids.iter().filter_map(serial).collect(), draft.attested.evidence);
    commit(plant, txn.audit(event.entry())).await?;
    count(plant, &draft.rulings, &earned);
    let verdict = &draft.attested.verdict;
    tracing::info!(device.id = %name, verdict, certificates = earned.svids.len(), revoked, "attested");
    // No decision of any zone, so nothing for the record.
    earned.refused.extend(elsewhere::refused(name, &draft.rulings, keys, outside));
    Ok(earned)
}

fn count(plant: &Plant, rulings: &[Ruling], earned: &Earned) {
    for ruling in rulings {
        let against = ruling.reasons().first().map(|finding| finding.kind);
        plant.metrics.verdict(&ruling.zone.record.name, ruling.decision(), against);
    }
    for svid in &earned.svids {
        plant.metrics.issued(match svid.role() {
            _ if !(svid.service.is_empty() && svid.workload.is_empty()) => CertificateKind::Software,
            v1::Role::Caller => CertificateKind::Caller,
            v1::Role::Listener | v1::Role::Unspecified => CertificateKind::Listener,
        });
    }
}

impl Draft {
    /// Whether the device's certificates in `zone` end now.
    fn loses(&self, zone: &ZoneName) -> bool {
        let refused =
            |ruling: &Ruling| ruling.zone.record.name == *zone && ruling.decision() == Decision::Refused;
        self.rebound || !self.device.zones.contains(zone) || self.rulings.iter().any(refused)
    }
}

fn revisions(golden: &Golden) -> Vec<Revision> {
    vec![Revision { record: GOLDEN.to_owned(), revision: golden.version.0 }]
}

fn expect_last(txn: Txn, name: &DeviceName, last: Option<&Held<Attested>>) -> Txn {
    match last {
        Some(held) => txn.unchanged(held.key.clone(), held.version),
        None => txn.absent(attested_key(name)),
    }
}

/// Remembers what observing zones would have refused, so that a plant can enforce knowing whom it stops.
async fn note_would_refuse(plant: &Plant, mut txn: Txn, draft: &Draft) -> Result<Txn, Refusal> {
    let would = |ruling: &&Ruling| ruling.decision() == Decision::WouldRefuse;
    for ruling in draft.rulings.iter().filter(would) {
        let key = would_key(&ruling.zone.record.name, &draft.device.name);
        let known: Option<Held<WouldRefuse>> = fetch(plant.store.as_ref(), key.clone()).await?;
        let known = known.map(|held| held.record);
        txn = txn.put(key, stored(&WouldRefuse::again(known, draft.now, ruling.reasons()))?);
    }
    Ok(txn)
}

async fn services_changed(plant: &Plant, device: &Device) -> Result<bool, Refusal> {
    let before: Option<Held<Device>> = fetch(plant.store.as_ref(), device_key(&device.name)).await?;
    Ok(before.map(|held| held.record.services).unwrap_or_default() != device.services)
}

/// Keeps what the device's health command said. A device that states none any more has no baseline.
async fn record_health(
    plant: &Plant,
    txn: Txn,
    proven: &Proven,
    name: &DeviceName,
    now: UnixTime,
) -> Result<Txn, Refusal> {
    let key = health_key(name);
    let held: Option<Held<HealthRecord>> = fetch(plant.store.as_ref(), key.clone()).await?;
    let Some(stated) = proven.statement().health else {
        return Ok(if held.is_some() { txn.delete(key) } else { txn });
    };
    if stated.unfinished {
        return Ok(txn);
    }
    let mut record = held.map(|held| held.record).unwrap_or_default();
    record.push(HealthResult { at: now, exit_code: stated.exit_code });
    Ok(txn.put(key, stored(&record)?))
}

/// The serial of a certificate that was issued, hex.
fn serial(svid: &v1::Svid) -> Option<String> {
    Some(Certificate::parse(svid.chain.first()?).ok()?.serial_text())
}

fn event(name: &DeviceName, rulings: &[Ruling], earned: &Earned, revoked: usize, now: UnixTime) -> Event {
    let mut text = format!("{} certificates issued, {revoked} revoked", earned.svids.len());
    for svid in earned.svids.iter().filter(|svid| !svid.service.is_empty()) {
        text.extend(["; software key of ", &svid.service, " in ", &svid.zone, " certified"]);
    }
    for svid in earned.svids.iter().filter(|svid| !svid.workload.is_empty()) {
        text.extend(["; software key of workload ", &svid.workload, " in ", &svid.zone, " certified"]);
    }
    for key in &earned.refused {
        match &key.key {
            Some((holder, _)) => text.push_str(&format!("; software key of {holder}")),
            None => text.push_str("; keys"),
        }
        text.extend([" in ", key.zone.as_str(), " refused"]);
    }
    for ruling in rulings {
        let decision = ruling.decision().name();
        text.extend(["; ", ruling.zone.record.name.as_str(), " ", decision]);
        if let Some(reason) = ruling.reasons().first() {
            text.push_str(": ");
            text.push_str(&reason.sentence);
        } else if let Some(accepted) = ruling.overridden().first() {
            text.push_str(" by override of: ");
            text.push_str(&accepted.sentence);
        }
    }
    Event::new(now, name.as_str(), "device.attest", name.as_str(), &text)
}

async fn answer(plant: &Plant, draft: &Draft, earned: Earned) -> Result<v1::CompleteResponse, Refusal> {
    let (device, rulings) = (&draft.device, &draft.rulings);
    if rulings.is_empty() {
        return Err(Refusal::NotAdmitted(format!(
            "{0} is in no zone; `touchstone device admit {0} --zone ZONE` puts it into one",
            device.name
        )));
    }
    if rulings.iter().all(|ruling| ruling.decision() == Decision::Refused) {
        let findings: Vec<Finding> =
            rulings.iter().flat_map(|ruling| ruling.reasons().iter().cloned()).collect();
        let message = findings.first().map(|first| first.sentence.clone()).unwrap_or_default();
        let wanted = wanted(plant, &device.name).await?.map(Box::new);
        return Err(Refusal::ReferenceMismatch { message, findings, wanted });
    }
    let trust = trust::signed(plant, &device.name).await.map_err(Refusal::internal)?;
    Ok(outcome(v1::complete_response::Outcome::Issued(v1::Issued {
        device: device.name.to_string(),
        svids: earned.svids,
        trust: Some(trust),
        would_refuse: rulings.iter().flat_map(Ruling::reasons).map(convert::finding).collect(),
        broker_time: draft.now.0,
        zones: device.zones.iter().map(ToString::to_string).collect(),
        valid_serials: valid_serials(plant, &device.name, draft.now).await?,
        refused_keys: earned.refused.iter().map(|key| refused_key(plant, key)).collect(),
        wanted: wanted(plant, &device.name).await?,
        stale_serials: addressed::stale(plant, device, draft.now).await?,
        key_ticket: Ticket::seal(plant, device)?,
    })))
}

fn refused_key(plant: &Plant, key: &RefusedKey) -> v1::RefusedKey {
    let denial = Some(crate::grpc::status::denial(plant, &key.refusal));
    let refused = v1::RefusedKey { zone: key.zone.to_string(), denial, ..v1::RefusedKey::default() };
    match &key.key {
        Some((Holder::Service(service), _)) => v1::RefusedKey { service: service.to_string(), ..refused },
        Some((Holder::Workload(workload), role)) => {
            let role = role_to_wire(*role).into();
            v1::RefusedKey { workload: workload.to_string(), role, ..refused }
        }
        None => refused,
    }
}

/// Commits `txn`. Somebody else's change in between is no fault of the device: it begins again.
pub(crate) async fn commit(plant: &Plant, txn: Txn) -> Result<(), Refusal> {
    match plant.store.transact(txn).await {
        Ok(_) => Ok(()),
        Err(TxnError::Conflict { .. }) => {
            Err(Refusal::MustReattest("something this decision rests on was changed at the same moment"))
        }
        Err(error) => Err(Refusal::internal(error)),
    }
}
