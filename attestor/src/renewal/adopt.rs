//! What the broker answered, taken over: verified, saved, delivered, in this order.
//!
//! Promises: nothing is delivered that was not verified; an answer is adopted whole or not at all, but for an outdated
//! trust set, in whose place the newer one stays. What a full disk does not take is used all the same, and saved and delivered
//! later: the broker has issued it, and revokes what it replaces.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use policy::id::{DeviceName, NameError, ZoneName};
use policy::time::UnixTime;
use proto::v1;
use proto::v1::complete_response::Outcome as Answer;

use super::attester::{Attester, Means};
use super::exchange::Answered;
use super::floor::learn_time;
use super::keyed::Made;
use super::machine::Outcome;
use crate::boot_set::BootSet;
use crate::config::{Holders, MAX_ZONES};
use crate::deliver::{ComposeError, Delivery, InstallError};
use crate::identity_key::IdentityKey;
use crate::role::{Role, Seat};
use crate::software_key::{HeldSoftwareKey, SoftwareKey, SoftwareSeat};
use crate::state::{SaveStateError, State};
use crate::status::{Refusal, RefusedKey};
use crate::svid::{Asked, HeldSvid, SvidError};
use crate::trust::{Expected, Seen, TrustError, TrustSet};
use crate::wanted::Wanted;

/// Most refused software keys that are kept: one for each of them in each zone.
const MAX_REFUSED_KEYS: usize = MAX_ZONES * policy::budget::MAX_SOFTWARE_KEYS;

/// Most serials of certificates to be replaced that are kept: a few of each role in each zone.
const MAX_STALE: usize = MAX_ZONES * 8;

/// An answer is not adopted.
#[derive(Debug, thiserror::Error)]
pub(super) enum AdoptError {
    /// A certificate is not what was asked for.
    #[error(transparent)]
    Svid(#[from] SvidError),
    /// The trust set is not to be trusted.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// A name is malformed.
    #[error("the broker's answer is malformed: {0}; update broker and attestor to the same release")]
    Name(#[from] NameError),
    /// Something is missing or does not fit.
    #[error("the broker's answer is malformed: {0}; update broker and attestor to the same release")]
    Malformed(&'static str),
    /// It could not be saved.
    #[error(transparent)]
    Save(#[from] SaveStateError),
    /// It could not be delivered.
    #[error(transparent)]
    Deliver(#[from] DeliverError),
}

/// The state is saved but software does not see it yet.
#[derive(Debug, thiserror::Error)]
pub(super) enum DeliverError {
    /// There is nothing that may be delivered.
    #[error(transparent)]
    Compose(#[from] ComposeError),
    /// The files could not be written.
    #[error(transparent)]
    Install(#[from] InstallError),
}

/// What was taken over.
pub(super) struct Adopted {
    pub(super) outcome: Outcome,
    /// The trust set was not, as the one that is held is newer; or it could not be saved, or not be shown to software.
    pub(super) complaint: Option<AdoptError>,
}

impl Attester {
    /// Takes over the broker's answer.
    pub(super) fn adopt(&self, answered: Answered) -> Result<Adopted, AdoptError> {
        let Answered { outcome, software_keys, identity_keys, boot, seen, .. } = answered;
        match outcome {
            Answer::Issued(issued) => {
                self.adopt_certificates(issued, software_keys, identity_keys, boot, seen)
            }
            Answer::Pending(pending) => Ok(Adopted { outcome: self.adopt_place(&pending)?, complaint: None }),
            Answer::LogsWanted(_) => Err(AdoptError::Malformed("it asks for logs that were sent")),
        }
    }

    fn adopt_certificates(
        &self,
        issued: v1::Issued,
        made: BTreeMap<SoftwareSeat, SoftwareKey>,
        own_made: Made,
        boot: Option<BootSet>,
        seen: u64,
    ) -> Result<Adopted, AdoptError> {
        let (now, clock) = (self.now(), self.clock.own());
        let device: DeviceName = issued.device.parse()?;
        let zones = parse_zones(&issued.zones)?;
        let (own, outside): (Vec<_>, Vec<_>) =
            issued.svids.into_iter().partition(|svid| svid.service.is_empty() && svid.workload.is_empty());
        let svids = self.accept_all(own, &own_made, &device, &zones, now)?;
        let asked: BTreeSet<SoftwareSeat> = made.keys().cloned().collect();
        let software_keys = self.accept_software_keys(outside, made, &device, now)?;
        let refused_keys = refused_keys(issued.refused_keys);
        self.agree_on_ends(&svids, &issued.valid_serials, &zones, now)?;
        let (trust, complaint) = self.accept_trust(issued.trust, &device, seen, now)?;
        if !issued.would_refuse.is_empty() {
            tracing::warn!(
                findings = issued.would_refuse.len(),
                "this zone only observes; enforcing would have refused this device: see `touchstone device why`"
            );
        }
        self.boot.is_accepted();
        self.keeper.is_current();
        let signed: Vec<UnixTime> = svids
            .iter()
            .map(|(_, svid)| svid.not_before())
            .chain(trust.as_ref().map(|trust| trust.issued_at()))
            .collect();
        self.keeper.note(|state| {
            state.take_name(device);
            let certified = |(seat, _): &(Seat, SoftwareKey)| svids.iter().any(|(other, _)| other == seat);
            let certified = own_made.into_iter().filter(certified);
            state.keys.extend(certified.map(|(seat, key)| (seat, IdentityKey::Software(key))));
            state.svids.extend(svids);
            if let Some(key) = &mut state.device_key {
                key.accepted(issued.key_ticket);
            }
            let holds = |svid: &HeldSvid| {
                now <= svid.not_after() && issued.valid_serials.iter().any(|serial| serial == svid.serial())
            };
            state.stale = issued.stale_serials.iter().take(MAX_STALE).cloned().collect();
            state.keep_zones(zones);
            // Software keeps them until there are others: between the two it would have nothing.
            state.void =
                state.svids.iter().filter(|(_, svid)| !holds(svid)).map(|(seat, _)| seat.clone()).collect();
            state.software_keys.extend(software_keys);
            let void = &state.void;
            state.software_keys.retain(|seat, held| holds(held.svid()) || void.contains(&seat.own()));
            state.refused_keys = refused_keys;
            state.keep_software_keys(self.config.holders());
            state.last_attestation = Some(now);
            state.accepted_boot = boot;
            state.refusal = None;
            state.lost = state.lost.take().filter(|_| !state.holds_any());
            if let Some(trust) = trust {
                state.take_trust(trust);
            }
            learn_time(state, signed, clock);
        });
        let saved = if self.keeper.has_place_alone() { Ok(()) } else { self.keeper.catch_up() };
        match &issued.wanted {
            Some(wanted) => self.adopt_wanted(wanted),
            None => self.forget_wanted(),
        }
        self.keeper.read(log_certificates);
        let complaint = first_of(saved, self.deliver(), complaint);
        let holders = self.config.holders();
        let outcome = self.keeper.read(|state| issued_outcome(state, (holders, &asked), now));
        Ok(Adopted { outcome, complaint })
    }

    /// What the broker says is valid and gives nothing in place of has not ended by its clock: if it has by the one here, one of
    /// the two is wrong, and nothing is taken for ended by it.
    fn agree_on_ends(
        &self,
        new: &[(Seat, HeldSvid)],
        valid: &[Vec<u8>],
        zones: &[ZoneName],
        now: UnixTime,
    ) -> Result<(), SvidError> {
        let stays = |seat: &Seat| zones.contains(&seat.zone) && !new.iter().any(|(other, _)| other == seat);
        let ended =
            |svid: &HeldSvid| svid.not_after() < now && valid.iter().any(|serial| serial == svid.serial());
        self.keeper.read(|state: &State| {
            match state.svids.iter().find(|(seat, svid)| stays(seat) && ended(svid)) {
                Some((seat, svid)) => {
                    Err(SvidError::Ended { seat: seat.clone(), not_after: svid.not_after(), now })
                }
                None => Ok(()),
            }
        })
    }

    /// Takes over what the broker wants. Certificates do not wait for it: a fault is logged.
    pub(super) fn adopt_wanted(&self, wire: &v1::WantedRelease) {
        let wanted = match Wanted::try_from(wire) {
            Ok(wanted) => wanted,
            Err(error) => return tracing::warn!(%error, "what the broker wants is malformed"),
        };
        if self.keeper.read(|state: &State| state.wanted.as_ref() == Some(&wanted)) {
            return;
        }
        tracing::info!(%wanted, "the broker wants another release");
        self.keeper.note(|state| state.wanted = Some(wanted));
        self.show_wanted();
    }

    /// Nothing is wanted any more: what was may have been withdrawn.
    fn forget_wanted(&self) {
        if self.keeper.read(|state: &State| state.wanted.is_none()) {
            return;
        }
        let dir = self.sink.dir();
        if let Err(error) = Wanted::remove(dir) {
            let dir = dir.display();
            return tracing::error!(%error, "what was wanted stays in {dir}; correct its owner");
        }
        // Wanted once more, it is told once more.
        self.keeper.note(|state| (state.wanted, state.told_updater) = (None, None));
        tracing::info!("the broker wants no release any more");
    }

    /// Writes what is wanted beside the trust files.
    pub(super) fn show_wanted(&self) {
        let Some(wanted) = self.keeper.read(|state: &State| state.wanted.clone()) else { return };
        if let Err(error) = wanted.write(self.sink.dir()) {
            let dir = self.sink.dir().display();
            tracing::error!(%error, "what is wanted cannot be written to {dir}; free space or correct its owner");
        }
    }

    /// Every certificate must be one that was asked for. None is an answer too: the device has a place, and
    /// offers its keys next.
    fn accept_all(
        &self,
        svids: Vec<v1::Svid>,
        made: &Made,
        device: &DeviceName,
        zones: &[ZoneName],
        now: UnixTime,
    ) -> Result<Vec<(Seat, HeldSvid)>, AdoptError> {
        let plant = &self.config.plant;
        let mut accepted = Vec::new();
        for svid in svids {
            let role =
                Role::from_wire(svid.role()).ok_or(AdoptError::Malformed("a certificate has no role"))?;
            let seat = Seat { zone: svid.zone.parse()?, role };
            let made = made.get(&seat).cloned().map(IdentityKey::Software);
            let key = made.or_else(|| self.keeper.read(|state: &State| state.keys.get(&seat).cloned()));
            let key = key.filter(|_| zones.contains(&seat.zone));
            let key = key.ok_or(AdoptError::Malformed("a certificate is for no key of this device"))?;
            let asked = Asked { seat: &seat, point: key.point(), plant, device, workload: None };
            let held = HeldSvid::accept(svid.chain, &asked, now)?;
            accepted.push((seat, held));
        }
        Ok(accepted)
    }

    /// The trust set, or why the one that is held stays. `before`: the newest that was seen when it was asked for; a newer
    /// one came over Watch meanwhile, and an answer overtaken by it is no sign of an old broker.
    fn accept_trust(
        &self,
        trust: Option<v1::SignedTrustSet>,
        device: &DeviceName,
        before: u64,
        now: UnixTime,
    ) -> Result<(Option<TrustSet>, Option<TrustError>), AdoptError> {
        let (seen, held) = self.keeper.read(|state| {
            let held = state.trust.is_some() && state.device.as_ref() == Some(device);
            (Seen::of(state), held)
        });
        let Some(signed) = trust else {
            let missing = AdoptError::Malformed("it holds no trust set");
            return if held { Ok((None, None)) } else { Err(missing) };
        };
        let expected = Expected { root: &self.root, plant: &self.config.plant, device, seen };
        match TrustSet::verify(signed, &expected, now) {
            Ok(set) => Ok((Some(set), None)),
            Err(TrustError::Older { sequence, .. }) if held && sequence >= before => Ok((None, None)),
            Err(error @ TrustError::Older { .. }) if held => {
                tracing::error!(%error, "the trust set is refused; the newer one stays in force");
                Ok((None, Some(error)))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn adopt_place(&self, pending: &v1::Pending) -> Result<Outcome, AdoptError> {
        let retry_after = Duration::from_secs(pending.retry_after_seconds.into());
        if pending.zones.is_empty() {
            return Ok(Outcome::Pending { retry_after, keys_missing: false });
        }
        let (device, zones) = (pending.device.parse::<DeviceName>()?, parse_zones(&pending.zones)?);
        self.keeper.note(|state| {
            state.take_name(device);
            state.keep_zones(zones);
        });
        match self.keeper.read(State::lacks_keys) {
            true => Ok(Outcome::Pending { retry_after, keys_missing: true }),
            false => Err(AdoptError::Malformed("it asks for keys that it was given")),
        }
    }

    /// Takes over a trust set that came through Watch, unless an answer overtook it: `before` is what was seen when the
    /// stream was opened.
    pub(super) fn adopt_trust(&self, signed: v1::SignedTrustSet, before: u64) -> Result<(), AdoptError> {
        let (device, seen) = self.keeper.read(|state: &State| (state.device.clone(), Seen::of(state)));
        let device = device.ok_or(AdoptError::Malformed("it is for a device without a name"))?;
        let expected = Expected { root: &self.root, plant: &self.config.plant, device: &device, seen };
        let trust = match TrustSet::verify(signed, &expected, self.now()) {
            Err(TrustError::Older { sequence, .. }) if sequence >= before => return Ok(()),
            verified => verified?,
        };
        let (own, signed_at) = (self.clock.own(), trust.issued_at());
        // Peers that lost trust have lost it, whatever the disk says.
        self.keeper.note(|state| {
            state.take_trust(trust);
            learn_time(state, [signed_at], own);
        });
        let delivered = self.deliver();
        self.keeper.catch_up()?;
        Ok(delivered?)
    }

    /// Takes a refusal; `lost`: the certificates were revoked. That counts before it is saved.
    pub(super) fn adopt_refusal(&self, denial: &v1::Denial, lost: bool) {
        let refusal = Refusal::new(denial, self.now());
        if let Some(wanted) = &denial.wanted {
            self.adopt_wanted(wanted);
        }
        self.keeper.note(|state| {
            state.refusal = Some(refusal);
            if lost {
                state.void_certificates();
            }
        });
    }

    /// Makes the state that of this TPM. One of another, as on a copied disk, is forgotten before anything of it is shown, and
    /// files that were delivered from it are withdrawn; the state says so.
    pub(crate) fn claim_state(&self) {
        let Means::Tpm(prover) = &self.prover else { return };
        let name = prover.attestation_key_name();
        let known = self.keeper.read(|state: &State| state.tpm.clone());
        if known.as_ref() == Some(&name) {
            return;
        }
        self.keeper.note(|state| state.belong_to(name));
        if known.is_none() {
            // A state of before this was kept is taken for this TPM's.
            return;
        }
        let withdrawn = self.sink.withdraw();
        let problem = format!(
            "the state in {} is of another TPM: the disk was copied, or the TPM replaced or reset; it is forgotten{}, and \
             the device enrolls by this TPM (before a disk is copied, run `touchstone-attestor reset`)",
            self.config.state.display(),
            withdrawn.err().map(|error| format!(", but {error}")).unwrap_or_default(),
        );
        tracing::error!("{problem}");
        // Gates that run beside this daemon go by the file.
        if let Err(error) = self.keeper.insist(|state| state.lost = Some(problem)) {
            tracing::error!(%error, "the state is not saved");
        }
    }

    /// Each certificate must be for a software key that was made for this exchange.
    fn accept_software_keys(
        &self,
        svids: Vec<v1::Svid>,
        mut made: BTreeMap<SoftwareSeat, SoftwareKey>,
        device: &DeviceName,
        now: UnixTime,
    ) -> Result<Vec<(SoftwareSeat, HeldSoftwareKey)>, AdoptError> {
        let mut accepted = Vec::new();
        for svid in svids {
            let seat = SoftwareSeat::from_wire(&svid.zone, &svid.service, &svid.workload, svid.role());
            let found = seat.and_then(|seat| made.remove_entry(&seat));
            let (seat, key) =
                found.ok_or(AdoptError::Malformed("a certificate is for no software key of this device"))?;
            let plant = &self.config.plant;
            let held = HeldSoftwareKey::take(key, &seat, plant, device, |asked| {
                HeldSvid::accept(svid.chain, asked, now)
            })?;
            accepted.push((seat, held));
        }
        Ok(accepted)
    }

    /// Forgets software keys of services that use the TPM now, or are not offered any more.
    pub(super) fn forget_unwanted(&self) -> Result<(), SaveStateError> {
        let holders = self.config.holders();
        let held = |state: &State| (state.software_keys.len(), state.refused_keys.len());
        let wanted = self.keeper.read(|state| {
            let mut next = state.clone();
            next.keep_software_keys(holders);
            held(&next) == held(state)
        });
        if wanted { Ok(()) } else { self.keeper.update(|state| state.keep_software_keys(holders)) }
    }

    /// Shows software what the state holds, if it may be shown.
    pub(super) fn deliver(&self) -> Result<(), DeliverError> {
        self.shown.set(None);
        self.clock.raise(self.keeper.read(|state| state.clock_floor));
        let now = self.now();
        // Of a state that is not the last one nothing is opened.
        let outdated = self.keeper.is_outdated();
        let composed = self.keeper.read(|state| {
            if outdated {
                return Ok(Delivery::closing(state, now));
            }
            let mut composed = Delivery::compose(state, now)?;
            if let (Some(delivery), Some(mqtt)) = (&mut composed, &self.config.mqtt) {
                delivery.add_acl(mqtt, state, &self.config.plant, now);
            }
            Ok::<_, ComposeError>(composed)
        });
        let Some(mut delivery) = composed? else { return Ok(()) };
        delivery.give(&self.config.key_owners);
        // What software was given it keeps; it is not given what was revoked, or proved by another boot.
        let (lost, none) = self.keeper.read(|state| (state.lost_trust(), state.svids.is_empty()));
        let bare = none || outdated || matches!(self.prover, Means::Absent(_));
        if (lost || bare || self.boot.doubt().is_some()) && !self.sink.shows_something() {
            return Ok(());
        }
        if bare {
            self.sink.keep_shown(&mut delivery)?;
        }
        if self.hooks.show(&delivery, || self.sink.install(&delivery))? {
            let sequence = self.keeper.read(|state| state.trust_sequence);
            tracing::info!(trust.sequence = sequence, dir = %self.sink.dir().display(), "delivered");
        }
        self.shown.set(Some(now));
        Ok(())
    }
}

/// What is to be told of an answer that was taken, the worst first.
fn first_of(
    saved: Result<(), SaveStateError>,
    delivered: Result<(), DeliverError>,
    trust: Option<TrustError>,
) -> Option<AdoptError> {
    saved
        .err()
        .map(AdoptError::from)
        .or(delivered.err().map(AdoptError::from))
        .or(trust.map(AdoptError::from))
}

fn parse_zones(zones: &[String]) -> Result<Vec<ZoneName>, AdoptError> {
    match zones.len() {
        0 => Err(AdoptError::Malformed("it names no zone")),
        1..=MAX_ZONES => Ok(zones.iter().map(|zone| zone.parse()).collect::<Result<_, _>>()?),
        _ => Err(AdoptError::Malformed("it names more zones than a device can be in")),
    }
}

/// What the broker said about software keys; what it said about none of ours is left out when it is kept. Without a
/// service it is about the device's own keys, whose certificates stay as they are.
fn refused_keys(refused: Vec<v1::RefusedKey>) -> Vec<RefusedKey> {
    let mut kept = Vec::new();
    for mut key in refused.into_iter().take(MAX_REFUSED_KEYS) {
        let denial = key.denial.take().unwrap_or_default();
        if key.service.is_empty() && key.workload.is_empty() {
            let (zone, why) = (key.zone.escape_debug(), denial.message.escape_debug());
            tracing::warn!(%zone, "no new certificates for the keys of this zone: {why}");
        }
        let seat = SoftwareSeat::from_wire(&key.zone, &key.service, &key.workload, key.role());
        let Some(seat) = seat else { continue };
        let key = RefusedKey::new(seat, &denial);
        tracing::warn!(
            zone = %key.seat.zone, holder = %key.seat.holder, reason = %key.reason,
            "no certificate for a software key: {}", key.message
        );
        kept.push(key);
    }
    kept
}

fn log_certificates(state: &State) {
    let device = state.device.as_ref().map(DeviceName::as_str);
    for (seat, held) in state.holding_software_keys() {
        let end = held.svid().not_after();
        tracing::info!(device.id = device, zone = %seat.zone, holder = %seat.holder, until = %end, "holds a software key");
    }
    for (seat, svid) in state.holding() {
        let end = svid.not_after();
        tracing::info!(device.id = device, zone = %seat.zone, role = %seat.role, until = %end, "holds a certificate");
    }
}

/// What an exchange that asked for these software keys came to. One that is due and was not asked for is due since: the
/// device came into a zone, or left one.
fn issued_outcome(
    state: &State,
    (holders, asked): (Holders<'_>, &BTreeSet<SoftwareSeat>),
    now: UnixTime,
) -> Outcome {
    let lacks_keys = || state.due_software_keys(holders, now).iter().any(|seat| !asked.contains(seat));
    Outcome::Issued {
        reattest_every: state.reattest_every(),
        lifetime: Duration::from_secs(state.first_end().map_or(0, |end| end.since(now))),
        incomplete: state.lacks_certificates() || state.holds_stale() || lacks_keys(),
    }
}
