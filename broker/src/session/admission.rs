//! Whose device it is: from a proven TPM to a [`Place`] in the plant.
//!
//! A device name belongs to one EK, and quarantine and retirement to the EK, not to the name.
//! Nothing is trusted on first use: a TPM that nobody registered needs a join token or a person.

use policy::digest::Digest;
use policy::evidence::devid::DeviceIdentity;
use policy::id::{DeviceName, ZoneName};

use super::Refusal;
use super::challenge::Purpose;
use super::idevid::unregistered::{self, LetIn};
use super::idevid::{self, Shown, join};
use super::join_token::{all_admit, bad_token, used, valid};
use super::proof::{Proven, ProvenBy, TpmProof};
use super::statement::TokenProof;
use super::{other_eks, vouched, without_tpm};
use crate::plant::Plant;
use crate::record::device::{
    Admission, Admitted, AkOwner, BoundAk, Device, PENDING, Pending, Prover, Quarantine, Token, Tpm, ak_key,
    device_key, ek_key, pending_key, token_key,
};
use crate::record::{Held, fetch, list, stored};
use crate::store::Txn;

/// Where a proven TPM belongs, with the transaction that would make it so.
#[derive(Debug)]
pub enum Place {
    /// A device of the plant, as it will be stored.
    Device(Box<Placed>),
    /// It waits for an administrator.
    Pending {
        /// What the administrator sees.
        pending: Pending,
        /// Records it; none if it waits already.
        txn: Option<Txn>,
    },
}

/// A device with what its transaction expects.
#[derive(Debug)]
pub struct Placed {
    /// The record as it will be stored; the counter is raised already.
    pub device: Device,
    /// Whether another AK was bound before: its certificates are revoked.
    pub rebound: bool,
    /// Compares everything that was decided on; writes all but the device itself.
    pub txn: Txn,
}

/// Finds the place of `proven`.
pub async fn place(plant: &Plant, proven: &Proven) -> Result<Place, Refusal> {
    match proven.by() {
        ProvenBy::Tpm(by) => of_tpm(plant, proven, by).await,
        ProvenBy::Key(by) => {
            // After a clone alarm a token alone brings a box back: its IDevID may have been copied, too.
            let stop = proven.tpm().and_then(|tpm| tpm.record.quarantine.as_ref());
            let alarm = stop.is_some_and(Quarantine::is_clone_alarm);
            let anew = alarm && proven.statement().token.is_some();
            if let Some(identity) = join::by(proven).filter(|_| !anew) {
                return join::join(plant, proven, by, identity).await;
            }
            join::or_by_token(proven)?;
            idevid::of_nobody_else(plant, proven).await?;
            Ok(Place::Device(Box::new(without_tpm::place(plant, proven, by).await?)))
        }
    }
}

async fn of_tpm(plant: &Plant, proven: &Proven, by: &TpmProof) -> Result<Place, Refusal> {
    other_eks::of_nobody_else(plant, proven, by).await?;
    idevid::of_nobody_else(plant, proven).await?;
    if let Some(tpm) = proven.tpm() {
        stopped(proven.ek(), &tpm.record)?;
        if let Some(name) = &tpm.record.device {
            return existing(plant, (proven, by), tpm, name)
                .await
                .map(|placed| Place::Device(Box::new(placed)));
        }
    }
    if proven.challenge().purpose != Purpose::Enroll {
        return Err(Refusal::NotAdmitted("this EK belongs to no device any more; enroll again".into()));
    }
    if let Some((device, txn)) = idevid::claim(plant, proven).await? {
        return own_tpm(plant, (proven, by), device, txn).await;
    }
    if let Some(token) = &proven.statement().token {
        return by_token(plant, proven, by, token).await;
    }
    let let_in = match proven.idevid().and_then(Shown::bound) {
        Some(identity) => unregistered::let_in(plant, proven, identity).await?,
        None => None,
    };
    match let_in {
        Some(LetIn { name, zones, by: word, txn }) => {
            new_device(plant, (proven, by), name, zones, word, txn).await
        }
        None => pending(plant, proven, by, "no join token was given").await,
    }
}

/// Refuses a TPM that an administrator stopped.
pub(super) fn stopped(ek: &Digest, tpm: &Tpm) -> Result<(), Refusal> {
    let name = tpm.device.as_ref().map_or_else(|| ek.to_string(), ToString::to_string);
    if tpm.retired {
        return Err(Refusal::Retired(name));
    }
    match &tpm.quarantine {
        Some(stop) => Err(Refusal::Quarantined {
            device: name,
            since: stop.at,
            by: stop.by.clone(),
            reason: stop.reason.clone(),
        }),
        None => Ok(()),
    }
}

async fn existing(
    plant: &Plant,
    (proven, by): (&Proven, &TpmProof),
    tpm: &Held<Tpm>,
    name: &DeviceName,
) -> Result<Placed, Refusal> {
    let held: Held<Device> = fetch(plant.store.as_ref(), device_key(name))
        .await?
        .ok_or_else(|| Refusal::internal(format!("the TPM of {name} is known, the device is not")))?;
    let challenge = proven.challenge();
    if challenge.device.as_ref() != Some(name) || held.record.ek != *proven.ek() {
        return Err(Refusal::MustReattest("the EK belongs to another device than the session began with"));
    }
    if held.record.counter != challenge.counter {
        return Err(Refusal::MustReattest(
            "the challenge was used already, or another one was answered since",
        ));
    }
    if held.record.admission == Admission::Retired {
        return Err(Refusal::Retired(name.to_string()));
    }
    let same_ak = held.record.ak.as_ref().is_some_and(|ak| ak.name.0 == challenge.ak_name.0);
    // Another AK needs a credential that its EK opened, which only an enrollment proves.
    if !same_ak && challenge.purpose != Purpose::Enroll {
        return Err(Refusal::MustReattest("another attestation key was bound since"));
    }
    let rebound = held.record.ak.is_some() && !same_ak;
    // The attestor's AK survives reinstallation and Clear, so another one is unusual.
    if rebound && !tpm.record.registered && !held.record.clock_excused {
        return Err(Refusal::NotAdmitted(format!(
            "{name} comes with another attestation key; if its TPM was replaced or reset on purpose, \
             `touchstone device readmit {name} --reason TEXT` accepts it"
        )));
    }
    let txn = Txn::new().unchanged(held.key.clone(), held.version).unchanged(tpm.key.clone(), tpm.version);
    let txn = if same_ak { txn } else { own_ak(txn, proven)? };
    let owned = owned_tpm(proven, by, name);
    let (owned, txn) = other_eks::note(plant, txn, (proven, by), owned).await?;
    let known = (tpm.record.manufacturer, &tpm.record.other_eks);
    let txn = match (owned.manufacturer, &owned.other_eks) == known {
        true => txn,
        false => txn.put(tpm.key.clone(), stored(&owned)?),
    };
    Ok(Placed { device: bind(plant, by, held.record), rebound, txn })
}

/// The device with its AK bound and its counter raised.
fn bind(plant: &Plant, by: &TpmProof, mut device: Device) -> Device {
    let (ak, public) = by.ak();
    let name = ak.name().to_bytes();
    if device.ak.as_ref().is_none_or(|bound| bound.name.0 != name) {
        device.ak = Some(BoundAk { public: public.to_vec().into(), name: name.into(), since: plant.now() });
    }
    device.counter = device.counter.saturating_add(1);
    device.answered = device.asked;
    device
}

async fn by_token(
    plant: &Plant,
    proven: &Proven,
    by: &TpmProof,
    token: &TokenProof,
) -> Result<Place, Refusal> {
    let held: Option<Held<Token>> = fetch(plant.store.as_ref(), token_key(&token.id)).await?;
    let good =
        |held: &Held<Token>| !held.record.without_tpm && valid(plant, proven, by.ek_name(), token, held);
    let held = held.filter(good).ok_or_else(bad_token)?;
    let record = &held.record;
    // Consumed in the transaction that creates the record, with its zones as they were asked.
    let (all_admit, txn) = all_admit(plant, &record.zones, used(plant, &held).await?).await?;
    if record.ek.is_none() && !all_admit {
        return pending(plant, proven, by, "its join token is bound to no TPM").await;
    }
    let name = record
        .device
        .clone()
        .or_else(|| proven.statement().device.clone())
        .ok_or_else(|| Refusal::malformed("state a device name: the join token gives none".to_owned()))?;
    let admitted_by = format!("join token of {}", record.by);
    let zones = record.zones.clone();
    new_device(plant, (proven, by), name, zones, admitted_by, txn).await
}

async fn new_device(
    plant: &Plant,
    (proven, by): (&Proven, &TpmProof),
    name: DeviceName,
    zones: Vec<ZoneName>,
    admitted_by: String,
    txn: Txn,
) -> Result<Place, Refusal> {
    if proven.challenge().counter != 0 {
        return Err(Refusal::MustReattest("the device record is gone"));
    }
    if fetch::<Device>(plant.store.as_ref(), device_key(&name)).await?.is_some() {
        return Err(Refusal::Conflict(format!("the name {name} belongs to another TPM; choose another")));
    }
    let txn = vouched::no_machine(plant, &name, txn).await?;
    let device = Device::new(Admitted {
        name: name.clone(),
        ek: *proven.ek(),
        prover: Prover::Tpm,
        zones,
        by: admitted_by,
        at: plant.now(),
    });
    let txn = txn.absent(device_key(&name)).delete(pending_key(proven.ek()));
    own_tpm(plant, (proven, by), device, txn).await
}

/// The device with this TPM for its own, which nobody had.
async fn own_tpm(
    plant: &Plant,
    (proven, by): (&Proven, &TpmProof),
    device: Device,
    txn: Txn,
) -> Result<Place, Refusal> {
    let txn = other_eks::undisputed(plant, expect_tpm(txn, proven), proven).await?;
    let txn = own_ak(txn, proven)?;
    let owned = owned_tpm(proven, by, &device.name);
    let (owned, txn) = other_eks::note(plant, txn, (proven, by), owned).await?;
    let txn = txn.put(ek_key(proven.ek()), stored(&owned)?);
    let device = bind(plant, by, device);
    Ok(Place::Device(Box::new(Placed { device, rebound: false, txn })))
}

/// Records which EK the AK belongs to.
fn own_ak(txn: Txn, proven: &Proven) -> Result<Txn, Refusal> {
    Ok(txn.put(ak_key(&proven.challenge().ak_name.0), stored(&AkOwner { ek: *proven.ek() })?))
}

pub(super) fn expect_tpm(txn: Txn, proven: &Proven) -> Txn {
    match proven.tpm() {
        Some(tpm) => txn.unchanged(tpm.key.clone(), tpm.version),
        None => txn.absent(ek_key(proven.ek())),
    }
}

/// The TPM's record with its device and its manufacturer; what an administrator registered or decided stays as it is.
fn owned_tpm(proven: &Proven, by: &TpmProof, name: &DeviceName) -> Tpm {
    let known = proven.tpm().map(|held| held.record.clone());
    let tpm = known.unwrap_or(Tpm {
        device: None,
        registered: false,
        quarantine: None,
        retired: false,
        manufacturer: None,
        other_eks: Vec::new(),
    });
    let proven = by.endorsement().ok().map(|bound| bound.endorsed().manufacturer().0);
    Tpm { device: Some(name.clone()), manufacturer: proven.or(tpm.manufacturer), ..tpm }
}

/// Lets a certified TPM wait; one that nobody vouches for is turned away and nothing is stored.
async fn pending(plant: &Plant, proven: &Proven, by: &TpmProof, why: &str) -> Result<Place, Refusal> {
    let registered = proven.tpm().is_some_and(|tpm| tpm.record.registered);
    let box_ = proven.idevid().and_then(Shown::bound).map(DeviceIdentity::certificate);
    let tpm = match (by.endorsement(), box_) {
        (Ok(bound), _) => {
            let ek = bound.endorsed();
            let name = ek.manufacturer().name().map_or_else(|| ek.manufacturer().code(), str::to_owned);
            format!("{name} {}", ek.model())
        }
        (Err(_), Some(box_)) => format!("IDevID {} by {}", box_.serial_number(), box_.manufacturer()),
        (Err(_), None) if registered => "registered".to_owned(),
        (Err(error), None) => {
            let against = proven.idevid().and_then(Shown::against);
            let against = against.map(|why| format!("; its IDevID does not vouch for it: {why}"));
            return Err(Refusal::NotEndorsed(format!(
                "EK {} is neither certified by a trusted manufacturer ({error}) nor registered, and {why}; \
                 register it with `touchstone device import`{}",
                proven.ek(),
                against.unwrap_or_default()
            )));
        }
    };
    let_wait(plant, proven, tpm).await
}

/// Lets what `tpm` tells of to people wait for an administrator.
pub(super) async fn let_wait(plant: &Plant, proven: &Proven, tpm: String) -> Result<Place, Refusal> {
    let ek = proven.ek();
    // What it asked for first stays: an administrator admits what they looked at.
    if let Some(known) = fetch::<Pending>(plant.store.as_ref(), pending_key(ek)).await? {
        return Ok(Place::Pending { pending: known.record, txn: None });
    }
    let waiting: Vec<Held<Pending>> = list(plant.store.as_ref(), PENDING).await?;
    if waiting.len() >= plant.config.max_pending {
        return Err(Refusal::TryLater {
            why: format!("{} devices wait for an administrator, no more are taken", waiting.len()),
            seconds: 600,
        });
    }
    let pending = Pending {
        ek: *ek,
        name: proven.statement().device.clone(),
        zones: proven.statement().zones.clone(),
        tpm,
        since: plant.now(),
    };
    let txn = Some(Txn::new().absent(pending_key(ek)).put(pending_key(ek), stored(&pending)?));
    Ok(Place::Pending { pending, txn })
}
