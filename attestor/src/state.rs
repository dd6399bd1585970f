//! What survives a restart: the name, the keys, the certificates, the trust set and what was learnt of time.
//!
//! Promises: the file is replaced whole and synced before [`Keeper::update`] returns, so what the broker was told
//! about a key is never forgotten; what was lost is lost even if it cannot be saved; nothing in it is believed that the
//! daemon would not believe from the broker.
//! Does not promise secrecy: keys of the TPM open in this TPM only, and software keys, which a server must have back
//! after a reboot without the broker, are in it as they are. So the file is for its owner only.

mod keeper;
mod lock;
mod stored;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use policy::id::{DeviceName, ZoneName};
use policy::renewal::is_due;
use policy::time::UnixTime;
use proto::v1::DenialReason;

use crate::boot_set::BootSet;
use crate::config::Holders;
use crate::device_key::DeviceKey;
use crate::identity_key::IdentityKey;
use crate::renewal::machine::{DEFAULT_REATTEST_EVERY, MOST_PERIOD};
use crate::role::Seat;
use crate::software_key::{HeldSoftwareKey, SoftwareSeat};
use crate::status::{Refusal, RefusedKey};
use crate::svid::HeldSvid;
use crate::tpm::IdentityKeyBlob;
use crate::trust::{Place, TrustSet};
use crate::wanted::Wanted;

pub(crate) use keeper::{CORRUPT, FILE, MAKE_ROOM, UNSAVED};
pub use keeper::{Keeper, LoadStateError, SaveStateError};
pub(crate) use lock::Lock;

/// Most trust files that believe nobody because their conduits are gone: more than any device's software reads.
const MAX_CLOSED: usize = 1024;

/// Whether a refusal for this reason says that the device is not trusted. Another is about one attempt, or about the
/// broker, as after an update that does not suit.
#[must_use]
pub(crate) const fn distrusts(reason: DenialReason) -> bool {
    match reason {
        DenialReason::ReferenceMismatch
        | DenialReason::Quarantined
        | DenialReason::Retired
        | DenialReason::NotAdmitted
        | DenialReason::NotEndorsed
        | DenialReason::NotFound => true,
        DenialReason::Unspecified
        | DenialReason::Malformed
        | DenialReason::MustReattest
        | DenialReason::EvidenceInvalid
        | DenialReason::ClockSkew
        | DenialReason::TryLater
        | DenialReason::Conflict
        | DenialReason::UnsupportedVersion
        | DenialReason::NotPermitted
        | DenialReason::Waits => false,
    }
}

/// What the daemon remembers.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// Name of the attestation key of the TPM that all this belongs to; None without a TPM, or if it is not known yet.
    pub tpm: Option<Vec<u8>>,
    /// The name under which the broker knows this device; None: it has to enroll.
    pub device: Option<DeviceName>,
    /// The zones it was given, in the order in which it came into them.
    pub zones: Vec<ZoneName>,
    /// What it proves itself with where it has no TPM.
    pub device_key: Option<DeviceKey>,
    /// Its identity keys.
    pub keys: BTreeMap<Seat, IdentityKey>,
    /// Its certificates, each for the key of the same seat.
    pub svids: BTreeMap<Seat, HeldSvid>,
    /// Places whose certificate is worth nothing any more, as when it was revoked or its authority is distrusted:
    /// software has it until there is another.
    pub void: BTreeSet<Seat>,
    /// Its software keys with their certificates.
    pub software_keys: BTreeMap<SoftwareSeat, HeldSoftwareKey>,
    /// The software keys that got no certificate at the last attestation.
    pub refused_keys: Vec<RefusedKey>,
    /// The trust set it enforces.
    pub trust: Option<Arc<TrustSet>>,
    /// Trust files that were there once and are in the set no more: they stay, and believe nobody. Software that was
    /// told of one would not start without it, or not check.
    pub closed: BTreeSet<Place>,
    /// Highest sequence of a trust set seen; kept when the set itself is gone.
    pub trust_sequence: u64,
    /// Highest number of an issuing key of the plant seen.
    pub issuing_number: u32,
    /// The last time that the broker signed; the clock is never taken to be earlier.
    pub clock_floor: UnixTime,
    /// When the last good attestation was.
    pub last_attestation: Option<UnixTime>,
    /// What it had booted then; None without a TPM.
    pub accepted_boot: Option<BootSet>,
    /// The last verdict, if it was a refusal.
    pub refusal: Option<Refusal>,
    /// The release that the broker wants it to run.
    pub wanted: Option<Wanted>,
    /// Serials of certificates that are to be replaced now; the broker says it again after a restart.
    pub stale: Vec<Vec<u8>>,
    /// The release that its updater was told last.
    pub told_updater: Option<Wanted>,
    /// What people have to know of a state that was lost, until something is issued in its place.
    pub lost: Option<String>,
}

impl State {
    /// The first moment at which a certificate ends; None without certificates.
    #[must_use]
    pub fn first_end(&self) -> Option<UnixTime> {
        self.holding().map(|(_, svid)| svid.not_after()).min()
    }

    /// The last moment at which a certificate holds; None without certificates.
    #[must_use]
    pub fn last_end(&self) -> Option<UnixTime> {
        self.holding().map(|(_, svid)| svid.not_after()).max()
    }

    /// The certificates that are worth something.
    pub fn holding(&self) -> impl Iterator<Item = (&Seat, &HeldSvid)> {
        self.svids.iter().filter(|(seat, _)| !self.void.contains(seat))
    }

    /// The software keys whose certificates are worth something.
    pub fn holding_software_keys(&self) -> impl Iterator<Item = (&SoftwareSeat, &HeldSoftwareKey)> {
        self.software_keys.iter().filter(|(seat, _)| !self.void.contains(&seat.own()))
    }

    fn holds(&self, seat: &Seat) -> Option<&HeldSvid> {
        self.svids.get(seat).filter(|_| !self.void.contains(seat))
    }

    /// Those of its keys for `seats` that are in the TPM.
    #[must_use]
    pub fn tpm_keys(&self, seats: &[Seat]) -> BTreeMap<Seat, IdentityKeyBlob> {
        let in_tpm = |(seat, key): (&Seat, &IdentityKey)| match key {
            IdentityKey::Tpm(key) if seats.contains(seat) => Some((seat.clone(), key.clone())),
            IdentityKey::Tpm(_) | IdentityKey::Software(_) => None,
        };
        self.keys.iter().filter_map(in_tpm).collect()
    }

    /// The zones of this device for which it has no key yet.
    #[must_use]
    pub fn lacks_keys(&self) -> bool {
        Seat::of_zones(&self.zones).any(|seat| !self.keys.contains_key(&seat))
    }

    /// Whether a place is all that it was given.
    fn has_place_alone(&self) -> bool {
        self.lacks_keys() && !self.holds_any()
    }

    /// How often this device proves itself: the shortest interval of its zones.
    #[must_use]
    pub fn reattest_every(&self) -> Duration {
        let said = self.trust.as_ref().and_then(|trust| trust.reattest_every(&self.zones));
        said.unwrap_or(DEFAULT_REATTEST_EVERY).min(MOST_PERIOD)
    }

    /// The places without a certificate that is worth something, or with one that will have lived a third of its life
    /// before the next proof: these ask for a new one.
    #[must_use]
    pub fn due(&self, now: UnixTime) -> Vec<Seat> {
        let every = self.reattest_every().as_secs();
        let fresh = |svid: &HeldSvid| {
            !is_due(svid.validity(), now, every) && !self.stale.iter().any(|serial| serial == svid.serial())
        };
        Seat::of_zones(&self.zones).filter(|seat| !self.holds(seat).is_some_and(fresh)).collect()
    }

    /// The software keys that `holders` want and that are to be made now: there is none, or its certificate ends
    /// before the device's own of its zone and role does, or will when that one is replaced. With its first certificate of
    /// a zone a device asks for the keys that its workloads need there once it leaves another: a move ends without a gap.
    #[must_use]
    pub fn due_software_keys(&self, holders: Holders<'_>, now: UnixTime) -> Vec<SoftwareSeat> {
        let due = self.due(now);
        let fresh = |seat: &SoftwareSeat| {
            let (held, own) = (self.software_keys.get(seat), self.svids.get(&seat.own()));
            let (Some(held), Some(own)) = (held, own) else { return false };
            !due.contains(&seat.own()) && held.svid().not_after() >= own.not_after()
        };
        let comes = |seat: &SoftwareSeat| {
            let elsewhere = self.software_keys.keys().any(|held| held.holder == seat.holder);
            elsewhere && !self.svids.contains_key(&seat.own())
        };
        let due = holders.seats(&self.zones).filter(|seat| !fresh(seat));
        due.chain(holders.later_seats(&self.zones).filter(comes)).collect()
    }

    /// Forgets software keys that nobody wants any more.
    pub fn keep_software_keys(&mut self, holders: Holders<'_>) {
        let wanted = holders.seats(&self.zones).chain(holders.later_seats(&self.zones));
        let wanted: Vec<SoftwareSeat> = wanted.collect();
        self.software_keys.retain(|seat, _| wanted.contains(seat));
        self.refused_keys.retain(|key| wanted.contains(&key.seat));
    }

    /// Takes the name that the broker gives. What is of another name is worth nothing under this one, and would not
    /// be read back; highest numbers and keys of the TPM stay.
    pub fn take_name(&mut self, device: DeviceName) {
        if self.device.as_ref().is_some_and(|name| *name != device) {
            self.forget_certificates();
            self.refused_keys.clear();
            let places: Vec<Place> = self.trust.take().iter().flat_map(|trust| trust.places()).collect();
            self.closed.extend(places);
        }
        self.device = Some(device);
    }

    /// Takes another trust set; files that it has no more believe nobody from now on.
    pub fn take_trust(&mut self, trust: TrustSet) {
        let before = self.trust.take();
        let before = before.iter().flat_map(|trust| trust.places()).chain(std::mem::take(&mut self.closed));
        let named: BTreeSet<Place> = trust.places().collect();
        let gone = before.filter(|place| !named.contains(place) && self.zones.contains(&place.zone));
        self.closed = gone.take(MAX_CLOSED).collect();
        self.trust_sequence = trust.sequence();
        self.issuing_number = trust.issuing_number();
        self.trust = Some(Arc::new(trust));
    }

    /// No certificate is worth anything any more. Software keeps what it was given, and with it trust files that open and
    /// close on time: whether a machine stops is the operator's choice.
    pub fn void_certificates(&mut self) {
        self.void = self.svids.keys().cloned().collect();
    }

    /// The same of the certificates in one zone.
    pub fn void_zone(&mut self, zone: &ZoneName) {
        self.void.extend(self.svids.keys().filter(|seat| seat.zone == *zone).cloned());
    }

    /// Forgets every certificate, and the software keys that are worth nothing without theirs.
    fn forget_certificates(&mut self) {
        self.svids.clear();
        self.void.clear();
        self.software_keys.clear();
    }

    /// Forgets the keys with everything that is worth nothing without them.
    pub fn forget_keys(&mut self) {
        self.keys.clear();
        self.forget_certificates();
    }

    /// Whether a certificate is worth something.
    #[must_use]
    pub fn holds_any(&self) -> bool {
        self.holding().next().is_some()
    }

    /// The zone in which it holds this certificate (DER), if it holds it.
    #[must_use]
    pub fn zone_of(&self, leaf: &[u8]) -> Option<&ZoneName> {
        let is_it = |svid: &HeldSvid| svid.chain().first().is_some_and(|first| first == leaf);
        self.holding().find(|(_, svid)| is_it(svid)).map(|(seat, _)| &seat.zone)
    }

    /// Whether a certificate in another zone than this one has not ended `now`.
    #[must_use]
    pub fn holds_beside(&self, zone: &ZoneName, now: UnixTime) -> bool {
        self.holding().any(|(seat, svid)| seat.zone != *zone && now <= svid.not_after())
    }

    /// Takes the TPM with this attestation key for its own. What is of another TPM is forgotten: it is of another device,
    /// and software keys can be copied. What was learnt of the plant stays.
    pub fn belong_to(&mut self, tpm: Vec<u8>) {
        if self.tpm.as_ref().is_some_and(|own| *own != tpm) {
            let (trust_sequence, issuing_number, clock_floor) =
                (self.trust_sequence, self.issuing_number, self.clock_floor);
            *self = Self { trust_sequence, issuing_number, clock_floor, ..Self::default() };
        }
        self.tpm = Some(tpm);
    }

    /// Whether the broker took every certificate of the device away.
    #[must_use]
    pub fn lost_trust(&self) -> bool {
        self.refusal.is_some() && !self.holds_any()
    }

    /// The refusal by which the device is not trusted. While there is another, what it holds goes on to count.
    #[must_use]
    pub fn distrusted(&self) -> Option<&Refusal> {
        let lost = |refusal: &&Refusal| self.lost_trust() || distrusts(refusal.reason());
        self.refusal.as_ref().filter(lost)
    }

    /// Whether `before` claims what is not so any more: of the device, or of a peer.
    #[must_use]
    fn lost_since(&self, before: &Self) -> bool {
        let held = |state: &Self| state.holding().map(|(seat, _)| seat.clone()).collect::<BTreeSet<Seat>>();
        self.trust_sequence != before.trust_sequence
            || self.distrusted().is_some()
            || !held(before).is_subset(&held(self))
    }

    /// Whether a place of this device has no certificate that is worth something.
    #[must_use]
    pub fn lacks_certificates(&self) -> bool {
        Seat::of_zones(&self.zones).any(|seat| self.holds(&seat).is_none())
    }

    /// Whether a certificate is to be replaced now.
    #[must_use]
    pub fn holds_stale(&self) -> bool {
        self.svids.values().any(|svid| self.stale.iter().any(|serial| serial == svid.serial()))
    }

    /// Takes the zones that the device is in now, those that it came into before first, and forgets keys and certificates
    /// of others.
    pub fn keep_zones(&mut self, mut zones: Vec<ZoneName>) {
        let place = |zone: &ZoneName| self.zones.iter().position(|own| own == zone).unwrap_or(usize::MAX);
        zones.sort_by_key(place);
        self.keys.retain(|seat, _| zones.contains(&seat.zone));
        self.svids.retain(|seat, _| zones.contains(&seat.zone));
        self.void.retain(|seat| zones.contains(&seat.zone));
        self.closed.retain(|place| zones.contains(&place.zone));
        self.software_keys.retain(|seat, _| zones.contains(&seat.zone));
        self.zones = zones;
    }
}

#[cfg(test)]
pub(crate) mod tests;
