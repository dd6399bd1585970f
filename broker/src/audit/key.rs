//! The key that signs seals: its own, certified for them alone by the issuing key.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use policy::audit::seal::message;
use policy::audit::{Seal, SignedSeal};
use policy::time::Validity;

use super::Event;
use crate::ca::{AuthorityKey, profile};
use crate::metrics::CertificateKind;
use crate::plant::Plant;
use crate::record::audit::{AUDIT_KEY, AuditSigning};
use crate::record::{Held, fetch, stored};
use crate::session::Refusal;
use crate::session::complete::commit;
use crate::store::Txn;

/// A new key is made this long before the certificate ends.
const RENEW: u64 = 30 * 86_400;
/// A day back, as for the broker's own certificate.
const BACKDATE: u64 = 86_400;

/// The key, opened. Never printed.
pub struct AuditKey {
    key: AuthorityKey,
    certificates: Vec<String>,
}

impl std::fmt::Debug for AuditKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AuditKey(..)")
    }
}

impl AuditKey {
    /// Opens the key; makes a new one where there is none, its time is nearly over, or the plant has another issuing
    /// key now.
    pub async fn open(plant: &Plant) -> Result<Self, Refusal> {
        let held: Option<Held<AuditSigning>> = fetch(plant.store.as_ref(), AUDIT_KEY.to_owned()).await?;
        let serves = |held: &Held<AuditSigning>| {
            let ends_late = held.record.not_after.since(plant.now()) > RENEW;
            let issuing = plant.keys.load_full();
            // An issuing key that ends sooner itself cannot certify for longer.
            held.record.issuing.0 == issuing.issuing.certificate()
                && (ends_late || held.record.not_after >= issuing.issuing.not_after())
        };
        let record = match held {
            Some(held) if serves(&held) => held.record,
            held => make(plant, held.as_ref()).await?,
        };
        let pkcs8 = plant.kek.open(AUDIT_KEY.as_bytes(), &record.wrapped_key.0).map_err(Refusal::internal)?;
        let key = AuthorityKey::from_pkcs8(&pkcs8).map_err(Refusal::internal)?;
        let certificates = [record.certificate.0, record.issuing.0];
        Ok(Self { key, certificates: certificates.iter().map(|der| BASE64_STANDARD.encode(der)).collect() })
    }

    /// The seal, signed.
    pub fn sign(&self, seal: &Seal) -> Result<SignedSeal, Refusal> {
        let payload = seal.payload();
        let signature = rcgen::SigningKey::sign(&self.key, &message(&payload)).map_err(Refusal::internal)?;
        let signature = BASE64_STANDARD.encode(signature);
        Ok(SignedSeal { payload, signature, certificates: self.certificates.clone() })
    }
}

/// Stores a new key. Whoever loses a race asks again and finds the winner's.
async fn make(plant: &Plant, held: Option<&Held<AuditSigning>>) -> Result<AuditSigning, Refusal> {
    let (now, keys) = (plant.now(), plant.keys.load_full());
    let key = AuthorityKey::generate().map_err(Refusal::internal)?;
    let not_after = keys.issuing.not_after();
    let validity = Validity { not_before: now.minus(BACKDATE), not_after };
    let serial = plant.serial().map_err(Refusal::internal)?;
    let params = profile::audit(&keys.domain, validity, serial).map_err(Refusal::internal)?;
    let certificate = keys.issuing.sign_certificate(&params, &key.spki()).map_err(Refusal::internal)?;
    let wrapped = plant.kek.seal(plant.entropy.as_ref(), AUDIT_KEY.as_bytes(), &key.to_pkcs8());
    let record = AuditSigning {
        certificate: certificate.into(),
        issuing: keys.issuing.certificate().to_vec().into(),
        wrapped_key: wrapped.map_err(Refusal::internal)?.into(),
        not_after,
    };
    let text = format!("serial {}, ends {not_after}", serial.hex());
    let event = Event::new(now, "broker", "audit-key.create", "audit", &text);
    let txn = match held {
        Some(held) => Txn::new().unchanged(AUDIT_KEY, held.version),
        None => Txn::new().absent(AUDIT_KEY),
    };
    commit(plant, txn.put(AUDIT_KEY, stored(&record)?).audit(event.entry())).await?;
    plant.metrics.issued(CertificateKind::Audit);
    Ok(record)
}
