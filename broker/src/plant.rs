//! The running plant: store, clock, keys. Every service works on one [`Plant`].

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use policy::digest::Digest;
use policy::evidence::endorsement::RootStore;
use policy::id::PlantDomain;
use policy::time::UnixTime;
use policy::x509::certificate::Certificate;
use tokio::sync::Semaphore;

use crate::attendance::Attendance;
use crate::audit::grants::Grants;
use crate::audit::refusals::Refusals;
use crate::authority::IssuerCache;
use crate::ca::{AuthorityKey, CaError, Issuer, Serial};
use crate::config::Config;
use crate::drill::Drills;
use crate::golden::GoldenCache;
use crate::init;
use crate::metrics::Metrics;
use crate::ports::{Clock, Entropy, EntropyError, random};
use crate::record::plant::{self as records, ISSUING, PLANT, SEALING};
use crate::record::{Held, RecordError, fetch, list};
use crate::rollout::FleetCache;
use crate::secrets::{OpenError, SecretKey};
use crate::store::blobs::Blobs;
use crate::store::{Store, WatchEvent};
use crate::trust::ViewCache;

/// The plant's keys, opened. Replaced whole by a restore.
#[derive(Debug)]
pub struct PlantKeys {
    /// The plant's domain.
    pub domain: PlantDomain,
    /// Its random id.
    pub plant_id: String,
    /// Its epoch.
    pub epoch: u64,
    /// Certificate of the plant root, DER.
    pub root: Vec<u8>,
    /// Certificate of the authority whose key nobody kept, DER.
    pub nobody: Vec<u8>,
    /// Its CRL, DER.
    pub nobody_crl: Vec<u8>,
    /// Id of the key that challenges are sealed under.
    pub sealing_id: u32,
    /// That key.
    pub sealing: SecretKey,
    /// The issuing key.
    pub issuing: Issuer,
    /// Its number.
    pub issuing_number: u32,
}

/// The plant's keys cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The store cannot be read.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A record that `init` writes is not there.
    #[error(
        "the store holds no {0}: if this plant ran before, its store is damaged, so keep it as it is and restore the \
         last backup into a new folder with `touchstone restore`; if `touchstone-broker init` did not end, \
         remove the folder and run it again"
    )]
    Missing(&'static str),
    /// The key-encryption key is another one.
    #[error(
        "the {what} does not open under this broker's key-encryption key; put back the `secrets` folder that belongs to this store"
    )]
    Wrapped {
        /// Which key.
        what: &'static str,
        /// What the cipher said.
        source: OpenError,
    },
    /// The issuing certificate cannot be used.
    #[error("the issuing key cannot be used")]
    Issuing(#[source] CaError),
    /// The issuing certificate has ended.
    #[error(
        "issuing key {number} of the plant ended at {not_after}, and the clock here shows {now}; stop the broker and make a \
         new one with `touchstone-broker recover --kit DIR --issuing-key --out DIR`, or set the clock"
    )]
    Ended {
        /// Its number.
        number: u32,
        /// Its end.
        not_after: UnixTime,
        /// The time here.
        now: UnixTime,
    },
    /// The clock shows a time at which there was no such plant.
    #[error(
        "the clock here shows {now}, and issuing key {number} of the plant begins at {not_before}; set the clock, \
         every certificate would be of another time"
    )]
    Early {
        /// Its number.
        number: u32,
        /// Its beginning.
        not_before: UnixTime,
        /// The time here.
        now: UnixTime,
    },
}

impl PlantKeys {
    /// Reads and opens the keys that the store holds.
    pub async fn open(store: &dyn Store, kek: &SecretKey) -> Result<Self, KeysError> {
        let plant: Held<records::Plant> =
            fetch(store, PLANT.to_owned()).await?.ok_or(KeysError::Missing("plant"))?;
        let issuing: Held<records::Issuing> =
            fetch(store, ISSUING.to_owned()).await?.ok_or(KeysError::Missing("issuing key"))?;
        let sealing: Held<records::Sealing> =
            list(store, SEALING).await?.pop().ok_or(KeysError::Missing("sealing key"))?;
        let wrapped = |what| move |source| KeysError::Wrapped { what, source };
        let key =
            kek.open(ISSUING.as_bytes(), &issuing.record.wrapped_key.0).map_err(wrapped("issuing key"))?;
        let key = AuthorityKey::from_pkcs8(&key).map_err(KeysError::Issuing)?;
        let issuer = Issuer::new(issuing.record.certificate.0, issuing.record.not_after, key);
        let seal =
            kek.open(SEALING.as_bytes(), &sealing.record.wrapped_key.0).map_err(wrapped("sealing key"))?;
        Ok(Self {
            domain: plant.record.domain,
            plant_id: plant.record.id,
            epoch: plant.record.epoch,
            root: plant.record.root.0,
            nobody: plant.record.nobody.0,
            nobody_crl: plant.record.nobody_crl.0,
            sealing_id: sealing.record.id,
            sealing: SecretKey::from_bytes(&seal).ok_or(KeysError::Missing("sealing key"))?,
            issuing: issuer.map_err(KeysError::Issuing)?,
            issuing_number: issuing.record.generation,
        })
    }

    /// Whether a broker can serve with these keys at `now`; nobody would believe what an issuing key signs that has ended.
    pub fn serve_at(&self, now: UnixTime) -> Result<(), KeysError> {
        let number = self.issuing_number;
        let not_before =
            Certificate::parse(self.issuing.certificate()).map(|found| found.validity().not_before);
        let (not_before, not_after) = (not_before.unwrap_or(UnixTime(0)), self.issuing.not_after());
        match now {
            now if now > not_after => Err(KeysError::Ended { number, not_after, now }),
            now if now < not_before => Err(KeysError::Early { number, not_before, now }),
            _ => Ok(()),
        }
    }
}

/// Everything that a service needs.
pub struct Plant {
    /// What must not be forgotten.
    pub store: Arc<dyn Store>,
    /// Evidence, results and envelopes by digest.
    pub blobs: Blobs,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Random bytes.
    pub entropy: Arc<dyn Entropy>,
    /// The key that stored keys are wrapped under.
    pub kek: SecretKey,
    /// The plant's keys.
    pub keys: ArcSwap<PlantKeys>,
    /// Opened authority keys.
    pub issuers: IssuerCache,
    /// Golden values that were read last.
    pub golden: GoldenCache,
    /// What trust sets are made of, as read last.
    pub views: ViewCache,
    /// The fleet as rollouts see it.
    pub fleet: FleetCache,
    /// Certificates of TPM manufacturers.
    pub roots: RootStore,
    /// Certificates of manufacturers that give boxes an IDevID.
    pub idevid_roots: RootStore,
    /// Devices that found no place here: whoever was turned away is not silent.
    pub turned_away: AtomicU64,
    /// Refusals that are counted.
    pub refusals: Refusals,
    /// Grants that are counted.
    pub grants: Grants,
    /// What is counted since the start.
    pub metrics: Metrics,
    /// What the broker was told.
    pub config: Config,
    /// What is broken on purpose.
    pub drills: Drills,
    /// Who is connected.
    pub attendance: Attendance,
    /// The one place for a forecast of the fleet.
    pub forecasts: Semaphore,
    /// Names what vouches for TPMs.
    pub vouching: OnceLock<Digest>,
}

/// Forecasts of the fleet that run at once: each reads all of it and takes every processor.
pub const FORECASTS: usize = 1;

impl PlantKeys {
    /// Whether these are the same keys, of the same epoch.
    fn are(&self, other: &Self) -> bool {
        let named = |keys: &Self| (keys.plant_id.clone(), keys.epoch, keys.sealing_id, keys.issuing_number);
        named(self) == named(other)
    }
}

/// Whether the plant's keys may have changed with `event`.
#[must_use]
pub fn moves_keys(event: &WatchEvent) -> bool {
    let key = |key: &String| key == PLANT || key == ISSUING || key.starts_with(SEALING);
    match event {
        WatchEvent::Resync { .. } => true,
        WatchEvent::Change(change) => change.keys.iter().any(key),
    }
}

/// Takes the keys that the store holds into use if they are others, and forgets what was opened before: after a
/// restore, here or by another broker.
pub async fn adopt_keys(plant: &Plant) -> Result<(), KeysError> {
    let keys = PlantKeys::open(plant.store.as_ref(), &plant.kek).await?;
    if keys.are(&plant.keys.load()) {
        return Ok(());
    }
    // Whoever takes the root for a new device from this folder must get the one that is served.
    if let Err(error) = init::write_root(&plant.config.dir, &keys.root) {
        tracing::error!(%error, "plant-root.pem is of the plant that was here before");
    }
    plant.keys.store(Arc::new(keys));
    // Golden values and trust views are kept by the revision of their heads, and every restored record
    // has a new one.
    plant.issuers.clear();
    Ok(())
}

impl Plant {
    /// Now.
    #[must_use]
    pub fn now(&self) -> UnixTime {
        self.clock.now()
    }

    /// Names what vouches for TPMs, or speaks against them, by this broker's configuration.
    #[must_use]
    pub fn vouching(&self) -> Digest {
        let (roots, boxes, deny) = (&self.roots, &self.idevid_roots, &self.config.tpm_deny);
        let named = || Digest::of(format!("{} {} {deny:?}", roots.digest(), boxes.digest()).as_bytes());
        *self.vouching.get_or_init(named)
    }

    /// A fresh certificate serial.
    pub fn serial(&self) -> Result<Serial, EntropyError> {
        random(self.entropy.as_ref()).map(Serial::from_random)
    }

    /// The plant's domain.
    #[must_use]
    pub fn domain(&self) -> PlantDomain {
        self.keys.load().domain.clone()
    }
}
