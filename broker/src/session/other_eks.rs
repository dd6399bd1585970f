//! The other EKs of a TPM: under none of them is it a second device, and a stop holds for all.
//!
//! Promises: a TPM is known by its AK, which all its EKs share, by the certificates that it names itself, and by those that
//! its device named when it proved itself before. So a stopped TPM does not come back with another EK and a fresh AK.
//! Does not promise that a named EK is in the same TPM: EK certificates are public, so a device may name those of
//! another one. That is why a name given by a device is never changed by another device, counts no more once an
//! administrator made the EK a device's own, and cannot be given to more EKs than a TPM has.

use policy::digest::Digest;

use super::Refusal;
use super::admission::stopped;
use super::proof::{Proven, TpmProof};
use crate::plant::Plant;
use crate::record::device::{AkOwner, MAX_OTHER_EKS, Tpm, ak_key, ek_key, other_ek_key};
use crate::record::{fetch, stored};
use crate::store::Txn;

/// Refuses a TPM that was stopped under another of its EKs, and one that is a device under it already.
pub(super) async fn of_nobody_else(plant: &Plant, proven: &Proven, by: &TpmProof) -> Result<(), Refusal> {
    let mut others: Vec<Digest> = by.other_eks().to_vec();
    let ak = ak_key(&proven.challenge().ak_name.0);
    others.extend(fetch::<AkOwner>(plant.store.as_ref(), ak).await?.map(|bound| bound.record.ek));
    if proven.tpm().is_none_or(|tpm| tpm.record.device.is_none()) {
        for ek in std::iter::once(proven.ek()).chain(by.other_eks()) {
            others.extend(owner(plant, ek).await?);
        }
    }
    for ek in others.iter().filter(|ek| *ek != proven.ek()) {
        let Some(tpm) = fetch::<Tpm>(plant.store.as_ref(), ek_key(ek)).await? else { continue };
        stopped(ek, &tpm.record)?;
        if proven.tpm().is_none() {
            no_device(ek, &tpm.record)?;
        }
    }
    Ok(())
}

/// A TPM that somebody stopped.
pub(crate) struct Stopped {
    /// The EK that it is known by, if that is another one.
    pub(crate) other: Option<Digest>,
    /// Its device, or the EK.
    pub(crate) owner: String,
    /// How, in words.
    pub(crate) why: String,
}

/// The TPM that has `ek`, or whose device named it, if it was stopped.
pub(crate) async fn stopped_under(plant: &Plant, ek: &Digest) -> Result<Option<Stopped>, Refusal> {
    for known in std::iter::once(*ek).chain(owner(plant, ek).await?) {
        let Some(tpm) = fetch::<Tpm>(plant.store.as_ref(), ek_key(&known)).await? else { continue };
        if let Err(refusal) = stopped(&known, &tpm.record) {
            let why = match refusal {
                Refusal::Quarantined { since, by, reason, .. } => {
                    format!("is quarantined since {since} by {by} ({reason})")
                }
                _ => "was retired for good".to_owned(),
            };
            let owner = tpm.record.device.map_or_else(|| known.to_string(), |name| name.to_string());
            return Ok(Some(Stopped { other: (known != *ek).then_some(known), owner, why }));
        }
    }
    Ok(None)
}

/// Expects in `txn`, which makes an EK that was nobody's a device's, that its TPM is known under no other EK: by the name
/// that a device gave the EK, and by the AK, nobody else came to it since [`of_nobody_else`] looked.
pub(super) async fn undisputed(plant: &Plant, mut txn: Txn, proven: &Proven) -> Result<Txn, Refusal> {
    let store = plant.store.as_ref();
    for key in [other_ek_key(proven.ek()), ak_key(&proven.challenge().ak_name.0)] {
        let Some(named) = fetch::<AkOwner>(store, key.clone()).await? else {
            txn = txn.absent(key);
            continue;
        };
        txn = txn.unchanged(key, named.version);
        let owner = named.record.ek;
        if owner == *proven.ek() {
            continue;
        }
        let Some(tpm) = fetch::<Tpm>(store, ek_key(&owner)).await? else {
            txn = txn.absent(ek_key(&owner));
            continue;
        };
        stopped(&owner, &tpm.record)?;
        if proven.tpm().is_none() {
            no_device(&owner, &tpm.record)?;
        }
        txn = txn.unchanged(tpm.key, tpm.version);
    }
    Ok(txn)
}

/// Refuses an EK that is to become a device's if the device of another EK named it, or somebody stopped that one.
pub(crate) async fn unnamed(plant: &Plant, ek: &Digest) -> Result<(), Refusal> {
    let Some(owner) = owner(plant, ek).await? else { return Ok(()) };
    let Some(tpm) = fetch::<Tpm>(plant.store.as_ref(), ek_key(&owner)).await? else { return Ok(()) };
    stopped(&owner, &tpm.record)?;
    no_device(&owner, &tpm.record)
}

/// The EK under which the TPM is known that named `ek`.
async fn owner(plant: &Plant, ek: &Digest) -> Result<Option<Digest>, Refusal> {
    let held = fetch::<AkOwner>(plant.store.as_ref(), other_ek_key(ek)).await?;
    Ok(held.map(|held| held.record.ek))
}

fn no_device(ek: &Digest, tpm: &Tpm) -> Result<(), Refusal> {
    let Some(device) = &tpm.device else { return Ok(()) };
    Err(Refusal::Conflict(format!(
        "this TPM is {device} already, under its EK {ek}; enroll with that one, or register this EK with \
         `touchstone device import`"
    )))
}

/// Remembers the certified EKs that the device of `tpm` names besides its own. One that is somebody's already stays theirs.
pub(super) async fn note(
    plant: &Plant,
    mut txn: Txn,
    (proven, by): (&Proven, &TpmProof),
    mut tpm: Tpm,
) -> Result<(Tpm, Txn), Refusal> {
    for ek in by.other_eks().iter().filter(|ek| *ek != proven.ek()) {
        if tpm.other_eks.contains(ek) || tpm.other_eks.len() >= MAX_OTHER_EKS {
            continue;
        }
        match owner(plant, ek).await? {
            Some(owner) if owner != *proven.ek() => continue,
            Some(_) => {}
            None if fetch::<Tpm>(plant.store.as_ref(), ek_key(ek)).await?.is_some() => continue,
            None => {
                let key = other_ek_key(ek);
                txn = txn.absent(key.clone()).put(key, stored(&AkOwner { ek: *proven.ek() })?);
            }
        }
        tpm.other_eks.push(*ek);
    }
    Ok((tpm, txn))
}
