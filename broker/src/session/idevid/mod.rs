//! Devices whose manufacturer says who they are: IDevID (IEEE 802.1AR).
//!
//! Promises: an IDevID counts if it is of a manufacturer in `idevid_roots` and its key signed for this session. One that is
//! bound to the attestation key endorses the TPM as an EK certificate does; any other tells who shows it and makes no
//! claim about a TPM true. A stop holds for whoever shows the IDevID of what was stopped.
//! Does not promise that a key in a file was not copied; `without_tpm` says what betrays that.

mod claim;
pub(super) mod join;
pub(super) mod unregistered;

use policy::cause::chain;
use policy::digest::Digest;
use policy::evidence::devid::{
    Binding, BindingError, DeviceIdentity, Iak, ProvenIdevId, verify_iak, verify_idevid,
};
use policy::evidence::endorsement::{RootStore, ValidityPolicy};
use policy::evidence::{Purpose, qualifying_data};
use policy::id::DeviceName;
use policy::time::UnixTime;
use policy::tpm::public::AttestationKey;
use proto::v1;

pub(super) use self::claim::claim;
use super::Refusal;
use super::admission::stopped;
use super::proof::Proven;
use crate::plant::Plant;
use crate::record::device::{AkOwner, Device, Tpm, device_key, ek_key};
use crate::record::idevid::{BoxIdentity, idevid_key, idevid_owner_key};
use crate::record::{Held, fetch, stored};
use crate::store::Txn;

/// Who a box is, by its manufacturer, or why that is not believed.
#[derive(Debug)]
pub(crate) struct Shown {
    identity: Result<DeviceIdentity, String>,
    /// Why it does not vouch for the attestation key.
    unbound: Option<String>,
}

impl Shown {
    /// Who it is.
    pub(crate) fn identity(&self) -> Option<&DeviceIdentity> {
        self.identity.as_ref().ok()
    }

    /// Who it is, if that vouches for the attestation key too.
    pub(crate) fn bound(&self) -> Option<&DeviceIdentity> {
        self.identity().filter(|identity| matches!(identity.binding(), Binding::Bound { .. }))
    }

    /// Why it vouches for no TPM.
    pub(crate) fn against(&self) -> Option<&str> {
        match &self.identity {
            Ok(_) => self.unbound.as_deref(),
            Err(why) => Some(why),
        }
    }
}

/// What `request` shows of its box; `ak` is the device's, if it has a TPM.
pub(super) fn shown(
    roots: &RootStore,
    now: UnixTime,
    request: &v1::CompleteRequest,
    ak: Option<&AttestationKey>,
) -> Option<Shown> {
    let sent = request.idevid.as_ref()?;
    let proven = match proven(roots, now, request, sent) {
        Ok(proven) => proven,
        Err(why) => return Some(Shown { identity: Err(why), unbound: None }),
    };
    let Some(ak) = ak else { return Some(Shown { identity: Ok(proven.identify()), unbound: None }) };
    let (identity, unbound) = match bind(roots, now, request, (sent, ak), proven.clone()) {
        Ok(bound) => (bound, None),
        Err(why) => (proven.identify(), Some(why)),
    };
    Some(Shown { identity: Ok(identity), unbound })
}

fn proven(
    roots: &RootStore,
    now: UnixTime,
    request: &v1::CompleteRequest,
    sent: &v1::ManufacturerIdentity,
) -> Result<ProvenIdevId, String> {
    let between: Vec<&[u8]> = sent.chain.iter().map(Vec::as_slice).collect();
    let data = qualifying_data(Purpose::DeviceIdentity, &request.sealed, &request.statement);
    verify_idevid(&sent.certificate, &between, roots, now, ValidityPolicy::AtTime)
        .and_then(|idevid| idevid.prove(data, &sent.signature))
        .map_err(|error| chain(&error))
}

fn bind(
    roots: &RootStore,
    now: UnixTime,
    request: &v1::CompleteRequest,
    (sent, ak): (&v1::ManufacturerIdentity, &AttestationKey),
    proven: ProvenIdevId,
) -> Result<DeviceIdentity, String> {
    let by_iak = || -> Result<Iak, String> {
        let between: Vec<&[u8]> = sent.chain.iter().map(Vec::as_slice).collect();
        verify_iak(&sent.iak_certificate, &between, roots, now, ValidityPolicy::AtTime)
            .map_err(|error| chain(&error))
    };
    let said = |error: BindingError| chain(&error);
    if !sent.iak_certificate.is_empty() {
        return proven.bind_by_iak(&by_iak()?, ak).map_err(said);
    }
    if sent.certify.is_empty() {
        return Err(
            "the attestation key does not certify its key, and no IAK certificate was sent".to_owned()
        );
    }
    let data = qualifying_data(Purpose::Certify, &request.sealed, &request.statement);
    proven.bind_by_certify(&sent.public, (&sent.certify, &sent.certify_signature), ak, data).map_err(said)
}

/// The EK of the TPM that the box with this IDevID is known by, if it came with a TPM before.
async fn owner(plant: &Plant, digest: &Digest) -> Result<Option<Digest>, Refusal> {
    let held: Option<Held<AkOwner>> = fetch(plant.store.as_ref(), idevid_owner_key(digest)).await?;
    Ok(held.map(|held| held.record.ek))
}

/// The device with a TPM that has this IDevID.
pub(crate) async fn device_of(plant: &Plant, digest: &Digest) -> Result<Option<DeviceName>, Refusal> {
    let Some(ek) = owner(plant, digest).await? else { return Ok(None) };
    let tpm: Option<Held<Tpm>> = fetch(plant.store.as_ref(), ek_key(&ek)).await?;
    Ok(tpm.and_then(|held| held.record.device))
}

/// Refuses the IDevID of what was stopped, and that of another device where the TPM is not known yet.
pub(super) async fn of_nobody_else(plant: &Plant, proven: &Proven) -> Result<(), Refusal> {
    let Some(identity) = proven.idevid().and_then(Shown::identity) else { return Ok(()) };
    let digest = identity.certificate().box_digest();
    for ek in [Some(digest), owner(plant, &digest).await?].into_iter().flatten() {
        if ek == *proven.ek() {
            continue;
        }
        let Some(tpm) = fetch::<Tpm>(plant.store.as_ref(), ek_key(&ek)).await? else { continue };
        stopped(&ek, &tpm.record)?;
        let Some(device) = &tpm.record.device else { continue };
        if proven.tpm().is_some_and(|tpm| tpm.record.device.is_some())
            || waits_for(plant, device, &ek).await?
        {
            continue;
        }
        return Err(Refusal::Conflict(format!(
            "this box ({}) is {device} already; if its mainboard was replaced, `touchstone device replace {device} \
             --ek EK --reason TEXT` gives it the new TPM",
            identity.certificate().label()
        )));
    }
    Ok(())
}

/// Whether `device` is registered by `ek` and never came.
async fn waits_for(plant: &Plant, device: &DeviceName, ek: &Digest) -> Result<bool, Refusal> {
    let held: Option<Held<Device>> = fetch(plant.store.as_ref(), device_key(device)).await?;
    Ok(held.is_some_and(|held| held.record.ek == *ek && held.record.ak.is_none()))
}

/// Who `proven` is by its manufacturer, where that counts: bound to its TPM, or of a device without one that joins by it.
pub(super) fn counts(proven: &Proven) -> Option<&DeviceIdentity> {
    let shown = proven.idevid()?;
    shown.bound().or_else(|| join::by(proven))
}

/// Keeps what the manufacturer says of the device, and by which IDevID its TPM is known.
pub(super) async fn note(
    plant: &Plant,
    txn: Txn,
    proven: &Proven,
    device: &Device,
    now: UnixTime,
) -> Result<Txn, Refusal> {
    let Some(identity) = counts(proven) else { return Ok(txn) };
    let (key, said) = (idevid_key(&device.name), BoxIdentity::of(identity, now));
    let known: Option<Held<BoxIdentity>> = fetch(plant.store.as_ref(), key.clone()).await?;
    let known = known.is_some_and(|held| BoxIdentity { since: now, ..held.record } == said);
    let txn = if known { txn } else { txn.put(key, stored(&said)?) };
    if device.ek == said.digest || owner(plant, &said.digest).await?.is_some() {
        return Ok(txn);
    }
    let key = idevid_owner_key(&said.digest);
    Ok(txn.absent(key.clone()).put(key, stored(&AkOwner { ek: device.ek })?))
}

/// What the manufacturer says, for the inventory.
pub(super) fn properties(proven: &Proven) -> Vec<(&'static str, &str)> {
    let Some(identity) = counts(proven) else { return Vec::new() };
    let certificate = identity.certificate();
    let model = certificate.model().map(|model| ("model", model));
    let always = [("serial", certificate.serial_number()), ("manufacturer", certificate.manufacturer())];
    model.into_iter().chain(always).collect()
}
