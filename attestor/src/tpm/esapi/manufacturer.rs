//! Keys that the manufacturer left in the TPM.

use aws_lc_rs::digest::{SHA256, SHA384, SHA512, digest};
use tss_esapi::{
    Context,
    handles::KeyHandle,
    interface_types::{algorithm::HashingAlgorithm, ecc::EccCurve},
    structures::{Digest, HashScheme, Private, Public, SignatureScheme},
    traits::{Marshall, UnMarshall},
};

use super::{
    attestation, authorized, handles_from,
    identity::{FIRST_PERSISTENT, load_fault, outside_ticket, with_persistent},
    with_transient,
};
use crate::tpm::{ManufacturerKey, ManufacturerSignature, TpmFault};

/// Signs `message`, and has the attestation key certify the key over `qualifying_data`.
pub(super) fn sign(
    context: &mut Context,
    key: &ManufacturerKey,
    message: &[u8],
    qualifying_data: &[u8],
) -> Result<ManufacturerSignature, TpmFault> {
    with_key(context, key, |context, key, public| {
        let signature = sign_with(context, (key, &public), message)?;
        let certification = attestation::certify(context, key, qualifying_data)
            .inspect_err(|fault| tracing::warn!(%fault, "the TPM does not certify the IDevID key"));
        Ok(ManufacturerSignature { public: public.marshall()?, signature, certification: certification.ok() })
    })
}

fn sign_with(
    context: &mut Context,
    (key, public): (KeyHandle, &Public),
    message: &[u8],
) -> Result<Vec<u8>, TpmFault> {
    let ecdsa = |hash| SignatureScheme::EcDsa { hash_scheme: HashScheme::new(hash) };
    let (algorithm, scheme) = match public {
        Public::Ecc { parameters, .. } => match parameters.ecc_curve() {
            EccCurve::NistP256 => (&SHA256, ecdsa(HashingAlgorithm::Sha256)),
            EccCurve::NistP384 => (&SHA384, ecdsa(HashingAlgorithm::Sha384)),
            EccCurve::NistP521 => (&SHA512, ecdsa(HashingAlgorithm::Sha512)),
            _ => return Err(TpmFault::Malformed { what: "the curve of the IDevID key" }),
        },
        Public::Rsa { .. } => {
            let hash_scheme = HashScheme::new(HashingAlgorithm::Sha256);
            (&SHA256, SignatureScheme::RsaSsa { hash_scheme })
        }
        _ => return Err(TpmFault::Malformed { what: "the kind of the IDevID key" }),
    };
    let hash = Digest::try_from(digest(algorithm, message).as_ref())?;
    let ticket = outside_ticket()?;
    Ok(authorized(context, |context| context.sign(key, hash, scheme, ticket))?.marshall()?)
}

fn with_key<T>(
    context: &mut Context,
    key: &ManufacturerKey,
    work: impl FnOnce(&mut Context, KeyHandle, Public) -> Result<T, TpmFault>,
) -> Result<T, TpmFault> {
    let taken = handles_from(context, FIRST_PERSISTENT)?;
    let there = |handle: &u32| match taken.contains(handle) {
        true => Ok(*handle),
        false => Err(TpmFault::NothingThere { handle: *handle }),
    };
    match key {
        ManufacturerKey::Persistent(handle) => with_persistent(context, there(handle)?, |context, key| {
            let public = context.read_public(key)?.0;
            work(context, key, public)
        }),
        ManufacturerKey::Loadable { public, private, parent } => {
            let public = Public::unmarshall(public)?;
            let private = Private::try_from(private.as_slice())
                .map_err(|_| TpmFault::Malformed { what: "the private half of the IDevID key" })?;
            let area = public.clone();
            let loaded = with_persistent(context, there(parent)?, |context, storage_key| {
                authorized(context, |context| context.load(storage_key, private, public)).map_err(load_fault)
            })?;
            with_transient(context, loaded, |context, key| work(context, key, area))
        }
    }
}
