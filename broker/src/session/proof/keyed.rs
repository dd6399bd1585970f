//! The proof of a device without a TPM: by its key, which is followed by the next.

use policy::cause::chain;
use policy::digest::Digest;
use policy::evidence::device_key::{KeyProof, SignedKey};
use policy::evidence::software_key::SoftwareKey;
use proto::v1;

use super::{Keyed, OwnKey, Proven, ProvenBy, ProvenKey, add};
use crate::plant::Plant;
use crate::record::device::{Device, MAX_ZONES, device_key, ek_key, no_ek};
use crate::record::{Held, fetch};
use crate::session::challenge::{Challenge, Purpose};
use crate::session::idevid::{self, Shown};
use crate::session::statement::{BoundStatement, key_purpose};
use crate::session::{Refusal, software, without_tpm};

/// Verifies what `request` claims of a device without a TPM.
pub(super) async fn prove(
    plant: &Plant,
    request: &v1::CompleteRequest,
    sent: &v1::KeyProof,
    challenge: Challenge,
) -> Result<Proven, Refusal> {
    if request.idevid.is_some() && challenge.purpose != Purpose::Enroll {
        return Err(Refusal::malformed(
            "a device without a TPM shows its IDevID to enroll, not later".to_owned(),
        ));
    }
    if !is_bare(request) {
        return Err(Refusal::malformed(
            "an answer has a key proof or what a TPM and its logs say, not both".to_owned(),
        ));
    }
    let statement = BoundStatement::bind(request, &challenge)?;
    let [stated, next_stated] = &statement.device_keys;
    let key = SignedKey { spki: &sent.key, stated, signature: &sent.signature };
    let next = SignedKey { spki: &sent.next_key, stated: next_stated, signature: &sent.next_signature };
    let proof = KeyProof::verify(key, next, &request.sealed, &request.statement)
        .map_err(|error| Refusal::EvidenceInvalid(chain(&error)))?;
    // Many more signatures follow, and anybody can make a key.
    let by = Keyed { proof, ticket: sent.ticket.clone() };
    without_tpm::ask_whose(plant, &challenge, &by).await?;
    let keys = own_keys(request, &by.proof)?;
    let offered = &statement.software_keys;
    let software_keys = software::verified(&request.software_keys, offered, &statement.services, &keys)?;
    let idevid = idevid::shown(&plant.idevid_roots, plant.now(), request, None);
    let ek = stands_for_ek(plant, &challenge, &statement, idevid.as_ref()).await?;
    Ok(Proven {
        tpm: fetch(plant.store.as_ref(), ek_key(&ek)).await?,
        ek,
        sealed: request.sealed.clone(),
        by: ProvenBy::Key(by),
        idevid,
        keys,
        software_keys,
        statement,
        challenge,
    })
}

/// What stands for the EK: of a device that is known without a TPM what did before, then the IDevID if it is to join by
/// that, or else the name.
async fn stands_for_ek(
    plant: &Plant,
    challenge: &Challenge,
    statement: &BoundStatement,
    shown: Option<&Shown>,
) -> Result<Digest, Refusal> {
    let name = challenge.device.as_ref().or(statement.device.as_ref()).ok_or_else(|| {
        Refusal::malformed("state a device name: a device without a TPM is known by nothing else".to_owned())
    })?;
    let held: Option<Held<Device>> = fetch(plant.store.as_ref(), device_key(name)).await?;
    let held = held.map(|held| held.record);
    let identity = shown.and_then(Shown::identity).map(|identity| identity.certificate().box_digest());
    let by_idevid = identity.filter(|digest| {
        statement.token.is_none() || held.as_ref().is_some_and(|device| device.ek == *digest)
    });
    let known = || held.filter(|device| !device.prover.is_tpm()).map(|device| device.ek);
    Ok(by_idevid.or_else(known).unwrap_or_else(|| no_ek(name)))
}

/// Nothing is there that only a TPM or a log can say: nobody would verify it, and it would be kept as evidence.
fn is_bare(request: &v1::CompleteRequest) -> bool {
    let v1::CompleteRequest {
        sealed: _,
        statement: _,
        identity_keys: _,
        software_keys: _,
        key_proof: _,
        idevid: _,
        credential_secret,
        ek_public,
        ek_certificate,
        ak_public,
        ek_chain,
        quote,
        quote_signature,
        pcr_values,
        firmware_log,
        ima_log,
        userspace_log,
        image_log,
        ima_first,
        ima_before,
    } = request;
    let fields = [
        credential_secret,
        ek_public,
        ek_certificate,
        ak_public,
        quote,
        quote_signature,
        firmware_log,
        ima_log,
        userspace_log,
        image_log,
    ];
    fields.iter().all(|field| field.is_empty())
        && ek_chain.is_empty()
        && pcr_values.is_empty()
        && *ima_first == 0
        && ima_before.is_none()
}

/// Each key signed its request, and is none of those that the device proves itself with.
fn own_keys(request: &v1::CompleteRequest, proof: &KeyProof) -> Result<Vec<ProvenKey>, Refusal> {
    if request.identity_keys.len() > MAX_ZONES * 2 {
        return Err(Refusal::malformed(format!("at most {} identity keys are taken", MAX_ZONES * 2)));
    }
    let mut keys: Vec<ProvenKey> = Vec::new();
    for sent in &request.identity_keys {
        let (zone, role) = key_purpose(sent)?;
        // The statement agrees with the request: it states the digest of each.
        let stated = policy::digest::Digest::of(&sent.csr);
        let key = SoftwareKey::verify(&sent.csr, &stated.0).map_err(|error| {
            Refusal::EvidenceInvalid(format!("identity key for {zone}: {}", chain(&error)))
        })?;
        let digest = key.spki_digest();
        let twice = keys.iter().any(|other| other.key.spki_digest() == digest);
        if twice || digest == proof.key() || digest == proof.next() {
            return Err(Refusal::Conflict(format!(
                "the key for {zone} is offered for something else too; make a new key for each"
            )));
        }
        add(&mut keys, ProvenKey { zone, role, key: OwnKey::Software(key) })?;
    }
    Ok(keys)
}
