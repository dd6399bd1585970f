//! The storage root key and the identity keys under it.

use tss_esapi::{
    Context,
    handles::{KeyHandle, ObjectHandle, PersistentTpmHandle},
    interface_types::{
        algorithm::HashingAlgorithm,
        dynamic_handles::Persistent,
        resource_handles::{Hierarchy, Provision},
    },
    structures::{Digest, HashScheme, HashcheckTicket, Private, Public, Signature, SignatureScheme},
    traits::{Marshall, UnMarshall},
    tss2_esys::TPMT_TK_HASHCHECK,
};
use x509_cert::der::{Encode, asn1::UintRef};

use super::{
    authorized,
    fault::{RC_INTEGRITY, failed_with},
    handles_from, with_primary, with_transient,
};
use crate::tpm::{IdentityKeyBlob, TpmFault, template};

/// First persistent handle (TPM_HT_PERSISTENT).
pub(super) const FIRST_PERSISTENT: u32 = 0x8100_0000;
/// Where TCG's provisioning guidance keeps the storage root key.
const STORAGE_ROOT_KEY: u32 = 0x8100_0001;
/// Where ours goes if another key sits there; ends in the letters TS.
const OWN_STORAGE_KEY: u32 = 0x8100_5453;
/// TPM_ST_HASHCHECK and TPM_RH_NULL: the null ticket, which says that the digest came from outside.
const ST_HASHCHECK: u16 = 0x8024;
const RH_NULL: u32 = 0x4000_0007;

pub(super) fn create(context: &mut Context) -> Result<IdentityKeyBlob, TpmFault> {
    let parent = ensure_storage_key(context)?;
    let template = Public::unmarshall(&template::identity_key())?;
    let created = with_persistent(context, parent, |context, storage_key| {
        let create = |context: &mut Context| context.create(storage_key, template, None, None, None, None);
        Ok(authorized(context, create)?)
    })?;
    let public = created.out_public.marshall()?;
    IdentityKeyBlob::from_areas(&public, created.out_private.value(), parent)
        .map_err(|_| TpmFault::UnexpectedAnswer { what: "form of the new key" })
}

/// Loads an identity key, lends it to `work` and flushes it.
pub(super) fn with_key<T>(
    context: &mut Context,
    key: &IdentityKeyBlob,
    work: impl FnOnce(&mut Context, KeyHandle) -> Result<T, TpmFault>,
) -> Result<T, TpmFault> {
    let public = Public::unmarshall(key.public_area())?;
    let private = Private::try_from(key.private_area())
        .map_err(|_| TpmFault::Malformed { what: "the private half of the identity key" })?;
    let parent = key.parent();
    if !handles_from(context, FIRST_PERSISTENT)?.contains(&parent) {
        restore_storage_key(context, parent)?;
    }
    let loaded = with_persistent(context, parent, |context, storage_key| {
        authorized(context, |context| context.load(storage_key, private, public)).map_err(load_fault)
    })?;
    with_transient(context, loaded, work)
}

pub(super) fn load_fault(error: tss_esapi::Error) -> TpmFault {
    match failed_with(error, &[RC_INTEGRITY]) {
        Some(_) => TpmFault::KeyOfAnotherTpm,
        None => error.into(),
    }
}

pub(super) fn sign(context: &mut Context, key: KeyHandle, digest: &[u8; 32]) -> Result<Vec<u8>, TpmFault> {
    let digest = Digest::try_from(digest.as_slice())?;
    let scheme = SignatureScheme::EcDsa { hash_scheme: HashScheme::new(HashingAlgorithm::Sha256) };
    let ticket = outside_ticket()?;
    match authorized(context, |context| context.sign(key, digest, scheme, ticket))? {
        Signature::EcDsa(signature) => {
            ecdsa_sig_value(signature.signature_r().value(), signature.signature_s().value())
                .map_err(|_| TpmFault::UnexpectedAnswer { what: "signature" })
        }
        _ => Err(TpmFault::UnexpectedAnswer { what: "kind of signature" }),
    }
}

/// Says that what is signed came from outside the TPM, which an unrestricted key signs.
pub(super) fn outside_ticket() -> Result<HashcheckTicket, TpmFault> {
    let ticket = TPMT_TK_HASHCHECK { tag: ST_HASHCHECK, hierarchy: RH_NULL, digest: Default::default() };
    Ok(HashcheckTicket::try_from(ticket)?)
}

fn ecdsa_sig_value(r: &[u8], s: &[u8]) -> x509_cert::der::Result<Vec<u8>> {
    [UintRef::new(r)?, UintRef::new(s)?].to_der()
}

/// The handle of a key that identity keys may live under: the first place that holds one or is free.
fn ensure_storage_key(context: &mut Context) -> Result<u32, TpmFault> {
    let taken = handles_from(context, FIRST_PERSISTENT)?;
    for handle in [STORAGE_ROOT_KEY, OWN_STORAGE_KEY] {
        if !taken.contains(&handle) {
            persist_storage_key(context, handle)?;
            return Ok(handle);
        }
        let public = with_persistent(context, handle, |context, key| Ok(context.read_public(key)?.0))?;
        if template::is_storage_key(&public.marshall()?) {
            return Ok(handle);
        }
    }
    Err(TpmFault::NoStorageKey { first: STORAGE_ROOT_KEY, second: OWN_STORAGE_KEY })
}

/// A storage root key that only lost its place comes back the same. After TPM2_Clear it is another key, and
/// loading under it then says so.
fn restore_storage_key(context: &mut Context, handle: u32) -> Result<(), TpmFault> {
    match handle {
        STORAGE_ROOT_KEY | OWN_STORAGE_KEY => persist_storage_key(context, handle),
        _ => Err(TpmFault::ParentMissing { handle }),
    }
}

fn persist_storage_key(context: &mut Context, handle: u32) -> Result<(), TpmFault> {
    let place = Persistent::from(PersistentTpmHandle::new(handle)?);
    with_primary(context, Hierarchy::Owner, &template::storage_key(), |context, key, _| {
        let mut persistent =
            authorized(context, |context| context.evict_control(Provision::Owner, key.into(), place))?;
        Ok(context.tr_close(&mut persistent)?)
    })
}

/// Lends a persistent key to `work` and lets libtss2 forget it afterwards.
pub(super) fn with_persistent<T>(
    context: &mut Context,
    handle: u32,
    work: impl FnOnce(&mut Context, KeyHandle) -> Result<T, TpmFault>,
) -> Result<T, TpmFault> {
    let mut object: ObjectHandle = context.tr_from_tpm_public(PersistentTpmHandle::new(handle)?.into())?;
    let result = work(context, KeyHandle::from(object));
    let closed = context.tr_close(&mut object);
    let value = result?;
    closed?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_der_with_positive_integers() {
        let der = ecdsa_sig_value(&[0x80, 1], &[0, 0, 5]).unwrap();
        assert_eq!(der, [0x30, 8, 2, 3, 0, 0x80, 1, 2, 1, 5]);
    }
}
