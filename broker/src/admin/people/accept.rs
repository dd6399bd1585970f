//! Accepts an invitation: the one call by which somebody without a certificate becomes an administrator.
//!
//! What is not proven costs the caller's bytes, one record and one HMAC, changes nothing, and is answered with one
//! sentence, whatever is wrong with it.

use std::collections::BTreeSet;

use aws_lc_rs::hmac;
use policy::digest::Digest;
use policy::id::ZoneName;
use policy::time::{UnixTime, Validity};
use proto::invitation::{ID, SECRET, to_be_proven};

use super::{BACKDATE, Hands, LIFETIME, described};
use crate::audit::Event;
use crate::ca::{profile, requested_key};
use crate::metrics::CertificateKind;
use crate::plant::Plant;
use crate::record::invitation::{Invitation, invitation_key};
use crate::record::plant::{AdminRole, Administrator, admin_key};
use crate::record::{Held, fetch, stored};
use crate::session::Refusal;
use crate::store::{Txn, TxnError};

/// Longest request for a certificate: one of a P-256 key has some 250 bytes.
const MAX_CSR: usize = 2048;
/// Bytes of an HMAC-SHA256.
const PROOF: usize = 32;

/// A new administrator.
#[derive(Debug)]
pub struct Accepted {
    /// DER, leaf first.
    pub chain: Vec<Vec<u8>>,
    /// The name in it.
    pub name: String,
    /// What they may do.
    pub role: AdminRole,
    /// The zones they are limited to; none: the whole plant.
    pub zones: Option<BTreeSet<ZoneName>>,
    /// When the certificate ends.
    pub not_after: UnixTime,
}

fn refused() -> Refusal {
    Refusal::NotAdmitted(
        "the invitation is unknown, used or over, or the code is not its code; ask an owner for a new one"
            .to_owned(),
    )
}

/// Makes whoever proves the code of the invitation `id` the administrator that it invites.
pub async fn accept(plant: &Plant, id: &str, csr: &[u8], proof: &[u8]) -> Result<Accepted, Refusal> {
    let hex = id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if id.len() != 2 * ID || !hex || proof.len() != PROOF || csr.is_empty() || csr.len() > MAX_CSR {
        return Err(Refusal::malformed(format!(
            "an invitation is accepted with its id, a proof of {PROOF} bytes and a request of at most {MAX_CSR} bytes"
        )));
    }
    let held: Option<Held<Invitation>> = fetch(plant.store.as_ref(), invitation_key(id)).await?;
    let held = proven(plant, held, csr, proof).ok_or_else(refused)?;
    if !stands(plant, &held.record).await? {
        return Err(refused());
    }
    // From here on the caller has the code.
    let spki = requested_key(csr).map_err(|_| {
        Refusal::malformed("the request is no PKCS#10 of a P-256 key, signed by that key".to_owned())
    })?;
    appoint(plant, held, &spki).await
}

/// The invitation, if `proof` is one under its secret. Without an invitation the same is computed in vain.
fn proven(
    plant: &Plant,
    held: Option<Held<Invitation>>,
    csr: &[u8],
    proof: &[u8],
) -> Option<Held<Invitation>> {
    let secret = held
        .as_ref()
        .and_then(|held| plant.kek.open(held.key.as_bytes(), &held.record.wrapped_secret.0).ok());
    let nothing = [0; SECRET];
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_deref().map_or(nothing.as_slice(), Vec::as_slice));
    let verified = hmac::verify(&key, &to_be_proven(csr), proof);
    secret.and(held).filter(|_| verified.is_ok())
}

/// Whether an invitation still counts: in time, in this epoch, of an owner who is one.
async fn stands(plant: &Plant, invitation: &Invitation) -> Result<bool, Refusal> {
    let owner: Option<Held<Administrator>> = fetch(plant.store.as_ref(), admin_key(&invitation.by)).await?;
    let same = owner
        .is_some_and(|held| held.record.created == invitation.since && held.record.role == AdminRole::Owner);
    // An owner whom one made alone must not come once there are two who let owners in.
    let alone = invitation.approved_by.is_none() && invitation.role == AdminRole::Owner;
    let late = alone && Hands::read(plant).await?.have_two_owners();
    Ok(same && !late && plant.now() < invitation.expires && invitation.epoch == plant.keys.load().epoch)
}

async fn appoint(plant: &Plant, held: Held<Invitation>, spki: &[u8]) -> Result<Accepted, Refusal> {
    let (now, invitation) = (plant.now(), held.record);
    let keys = plant.keys.load_full();
    let not_after = now.plus(LIFETIME).min(keys.issuing.not_after());
    let validity = Validity { not_before: now.minus(BACKDATE), not_after };
    let serial = plant.serial().map_err(Refusal::internal)?;
    let params = profile::administrator(&keys.domain, &invitation.name, validity, serial);
    // Signed before the code is used up: a failure leaves the invitation as it was.
    let leaf = keys.issuing.sign_certificate(&params.map_err(Refusal::internal)?, spki);
    let chain = vec![leaf.map_err(Refusal::internal)?, keys.issuing.certificate().to_vec()];
    let record = Administrator {
        name: invitation.name.clone(),
        role: invitation.role,
        spki: Digest::of(spki),
        created: now,
        zones: invitation.zones.clone(),
        not_after,
        let_in_by: invitation.approved_by.is_none().then(|| invitation.by.clone()),
    };
    let admin = admin_key(&record.name);
    let text = format!(
        "accepted the invitation of {} as {}",
        invitation.by,
        described(record.role, record.zones.as_ref())
    );
    let event = Event::new(now, &record.name, "admin.accept", &record.name, &text);
    // Used up in the transaction that makes the administrator.
    let txn = Txn::new()
        .unchanged(held.key.clone(), held.version)
        .delete(held.key)
        .absent(admin.clone())
        .put(admin, stored(&record)?)
        .audit(event.entry());
    match plant.store.transact(txn).await {
        Ok(_) => plant.metrics.issued(CertificateKind::Administrator),
        Err(TxnError::Conflict { .. }) => return Err(refused()),
        Err(error) => return Err(Refusal::internal(error)),
    }
    Ok(Accepted { chain, name: record.name, role: record.role, zones: record.zones, not_after })
}
