//! What survives a restart: the name, the keys, the certificates, the trust set and what was learnt of time.
//!
//! Promises: the file is replaced whole and synced before [`Keeper::update`] returns, so what the broker was told
//! about a key is never forgotten; nothing in it is believed that the daemon would not believe from the broker.
//! Does not promise secrecy: keys of the TPM open in this TPM only, and software keys, which a server must have back
//! after a reboot without the broker, are in it as they are. So the file is for its owner only.

mod stored;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use policy::id::{DeviceName, PlantDomain, ZoneName};
use policy::time::UnixTime;
use tokio::sync::watch;

use crate::boot_set::BootSet;
use crate::config::Holders;
use crate::device_key::DeviceKey;
use crate::durable;
use crate::identity_key::IdentityKey;
use crate::plant::PlantRoot;
use crate::role::Seat;
use crate::software_key::{HeldSoftwareKey, SoftwareSeat};
use crate::status::{Refusal, RefusedKey};
use crate::svid::HeldSvid;
use crate::tpm::IdentityKeyBlob;
use crate::trust::{Place, TrustSet};
use crate::wanted::Wanted;

/// Name of the file in the state folder.
pub(crate) const FILE: &str = "state.json";
/// Longest state file in bytes: a trust set at its bound in base64, and room for keys and certificates.
const MAX_FILE: u64 = 32 * 1024 * 1024;

/// Most trust files that believe nobody because their conduits are gone: more than any device's software reads.
const MAX_CLOSED: usize = 1024;

/// What the daemon remembers.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// The name under which the broker knows this device; None: it has to enroll.
    pub device: Option<DeviceName>,
    /// The zones it was given.
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
    pub trust: Option<TrustSet>,
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
}

impl State {
    /// The first moment at which a certificate ends; None without certificates.
    #[must_use]
    pub fn first_end(&self) -> Option<UnixTime> {
        self.holding().map(|(_, svid)| svid.not_after()).min()
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

    /// The places without a certificate that is worth something, or with one that has lived a third of its life: these
    /// ask for a new one.
    #[must_use]
    pub fn due(&self, now: UnixTime) -> Vec<Seat> {
        let fresh = |svid: &HeldSvid| {
            let third = svid.not_before().plus(svid.not_after().since(svid.not_before()) / 3);
            now < third && !self.stale.iter().any(|serial| serial == svid.serial())
        };
        Seat::of_zones(&self.zones).filter(|seat| !self.holds(seat).is_some_and(fresh)).collect()
    }

    /// The software keys that `holders` want and that are to be made now: there is none, or its certificate ends
    /// before the device's own of its zone and role does, or will when that one is replaced.
    #[must_use]
    pub fn due_software_keys(&self, holders: Holders<'_>, now: UnixTime) -> Vec<SoftwareSeat> {
        let due = self.due(now);
        let fresh = |seat: &SoftwareSeat| {
            let (held, own) = (self.software_keys.get(seat), self.svids.get(&seat.own()));
            let (Some(held), Some(own)) = (held, own) else { return false };
            !due.contains(&seat.own()) && held.svid().not_after() >= own.not_after()
        };
        holders.seats(&self.zones).filter(|seat| !fresh(seat)).collect()
    }

    /// Forgets software keys that nobody wants any more.
    pub fn keep_software_keys(&mut self, holders: Holders<'_>) {
        let wanted: Vec<SoftwareSeat> = holders.seats(&self.zones).collect();
        self.software_keys.retain(|seat, _| wanted.contains(seat));
        self.refused_keys.retain(|key| wanted.contains(&key.seat));
    }

    /// Takes the name that the broker gives. What is of another name is worth nothing under this one, and would not
    /// be read back; highest numbers and keys of the TPM stay.
    pub fn take_name(&mut self, device: DeviceName) {
        if self.device.as_ref().is_some_and(|name| *name != device) {
            self.forget_certificates();
            self.refused_keys.clear();
            let places: Vec<Place> = self.trust.take().iter().flat_map(TrustSet::places).collect();
            self.closed.extend(places);
        }
        self.device = Some(device);
    }

    /// Takes another trust set; files that it has no more believe nobody from now on.
    pub fn take_trust(&mut self, trust: TrustSet) {
        let before = self.trust.iter().flat_map(TrustSet::places).chain(std::mem::take(&mut self.closed));
        let named: BTreeSet<Place> = trust.places().collect();
        let gone = before.filter(|place| !named.contains(place) && self.zones.contains(&place.zone));
        self.closed = gone.take(MAX_CLOSED).collect();
        self.trust_sequence = trust.sequence();
        self.issuing_number = trust.issuing_number();
        self.trust = Some(trust);
    }

    /// No certificate is worth anything any more. Software keeps what it was given, and with it trust files that open
    /// and close on time: whether a machine stops is the operator's choice.
    pub fn void_certificates(&mut self) {
        self.void = self.svids.keys().cloned().collect();
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

    /// Whether the broker took every certificate of the device away.
    #[must_use]
    pub fn lost_trust(&self) -> bool {
        self.refusal.is_some() && self.holding().next().is_none()
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

    /// Forgets keys and certificates of zones that the device is no longer in.
    pub fn keep_zones(&mut self, zones: Vec<ZoneName>) {
        self.keys.retain(|seat, _| zones.contains(&seat.zone));
        self.svids.retain(|seat, _| zones.contains(&seat.zone));
        self.void.retain(|seat| zones.contains(&seat.zone));
        self.closed.retain(|place| zones.contains(&place.zone));
        self.software_keys.retain(|seat, _| zones.contains(&seat.zone));
        self.zones = zones;
    }
}

/// The state file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadStateError {
    /// The system does not give it.
    #[error(
        "the state file {} cannot be read: {source}; run the attestor as the user who owns it",
        file.display()
    )]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// Its content does not hold together.
    #[error(
        "the state file {} is corrupt: {reason}; delete it, the device enrolls again by its TPM",
        file.display()
    )]
    Corrupt {
        /// The file.
        file: PathBuf,
        /// What does not hold.
        reason: String,
    },
}

/// The state could not be saved.
#[derive(Debug, thiserror::Error)]
#[error("the state file {} cannot be written: {source}; free space or correct its owner", file.display())]
pub struct SaveStateError {
    file: PathBuf,
    #[source]
    source: std::io::Error,
}

/// The state in memory and on disk, always the same.
#[derive(Debug)]
pub struct Keeper {
    file: PathBuf,
    state: Mutex<State>,
    changed: watch::Sender<()>,
}

impl Keeper {
    /// Loads the state of the folder `dir`, which is made if it is missing. No file is an empty state.
    pub fn load(dir: &Path, plant: &PlantDomain, root: &PlantRoot) -> Result<Self, LoadStateError> {
        let file = dir.join(FILE);
        let unreadable = |source| LoadStateError::Unreadable { file: file.clone(), source };
        durable::make_dir(dir, 0o700).map_err(unreadable)?;
        let state = match durable::read_bounded(&file, MAX_FILE) {
            Ok(bytes) => stored::parse(&bytes, plant, root)
                .map_err(|reason| LoadStateError::Corrupt { file: file.clone(), reason })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => State::default(),
            Err(source) => return Err(unreadable(source)),
        };
        Ok(Self { file, state: Mutex::new(state), changed: watch::Sender::new(()) })
    }

    /// Looks at the state.
    pub fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the state; on an error it is as before, in memory and on disk.
    pub fn update<T>(&self, change: impl FnOnce(&mut State) -> T) -> Result<T, SaveStateError> {
        let mut held = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = held.clone();
        let value = change(&mut next);
        durable::replace(&self.file, &stored::write(&next), 0o600)
            .map_err(|source| SaveStateError { file: self.file.clone(), source })?;
        *held = next;
        drop(held);
        self.changed.send_replace(());
        Ok(value)
    }

    /// Hears of every change from now on.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }
}

#[cfg(test)]
pub(crate) mod tests;
