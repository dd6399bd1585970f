//! `touchstone-broker init`: makes a plant.
//!
//! It leaves the broker's folder with its secrets and store, the first owner's folder for the command
//! line, and the recovery kit, which holds the plant root's key and belongs offline.

pub mod another;
mod kit;
pub mod recover;

#[cfg(test)]
mod etcd_tests;

pub use self::kit::KitError;

use std::path::{Path, PathBuf};

use policy::digest::Digest;
use policy::id::{PlantDomain, ReleaseKeyName};
use policy::time::{UnixTime, Validity};

use crate::admin::people::LIFETIME;
use crate::ca::{AuthorityKey, CaError, Issuer, Serial, profile};
use crate::config::{Backend, store::section};
use crate::files::{make_private_dir, write_public, write_secret};
use crate::kek::{Keeping, KekError};
use crate::ports::{Clock, Entropy, EntropyError, random};
use crate::record::golden::{GOLDEN, GoldenHead};
use crate::record::plant::{
    AdminRole, Administrator, ISSUING, Issuing, PLANT, Plant, SEALING, Sealing, TRUST, TrustHead, admin_key,
};
use crate::record::release_key::{RELEASE_KEYS, ReleaseKeyRecord, ReleaseKeysHead, release_key_key};
use crate::record::{RecordError, stored};
use crate::secrets::SecretKey;
#[cfg(test)]
use crate::store::Store;
use crate::store::open::{self, StoreError};
use crate::store::{BrokerId, BrokerIdError, Txn, TxnError};

const YEAR: u64 = 365 * 86_400;
/// The plant root outlives the machines that pin it.
const ROOT_LIFETIME: u64 = 30 * YEAR;
const ISSUING_LIFETIME: u64 = 10 * YEAR;

/// What to make.
#[derive(Debug, Clone)]
pub struct Request {
    /// The broker's folder; it must not hold a plant yet.
    pub dir: PathBuf,
    /// The plant's domain.
    pub plant: PlantDomain,
    /// Where the broker shall listen, `address:port`.
    pub listen: String,
    /// Where administrators reach it.
    pub address: String,
    /// Name of the first owner.
    pub owner: String,
    /// Files and folders with certificates of TPM manufacturers.
    pub tpm_roots: Vec<PathBuf>,
    /// Files and folders with certificates of manufacturers that give boxes an IDevID.
    pub idevid_roots: Vec<PathBuf>,
    /// The key-encryption key of another host, to restore its backup here; none: a new one.
    pub kek: Option<PathBuf>,
    /// Where the plant shall live.
    pub store: Backend,
}

/// What was made, for people.
#[derive(Debug)]
pub struct Made {
    /// Digest of the plant root's public key: what devices pin.
    pub root_pin: Digest,
    /// Opens the recovery kit. Shown once, stored nowhere.
    pub passphrase: zeroize::Zeroizing<String>,
    /// The owner's folder.
    pub owner: PathBuf,
    /// The recovery kit.
    pub kit: PathBuf,
}

/// The plant could not be made. What was written stays for inspection; remove the folder to try again.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// There is one already.
    #[error("{0} holds a plant already; choose another --dir")]
    Exists(PathBuf),
    /// A file could not be written.
    #[error("{file} cannot be written: {source}")]
    Write {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The key-encryption key of another host.
    #[error(transparent)]
    Kek(#[from] KekError),
    /// A certificate could not be made.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// The recovery kit could not be encrypted.
    #[error("the recovery kit could not be encrypted: {0}")]
    Kit(String),
    /// No random bytes.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// A record could not be written.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The store could not be made.
    #[error(transparent)]
    Open(#[from] StoreError),
    /// The store refused.
    #[error(transparent)]
    Txn(#[from] TxnError),
    /// The broker's id.
    #[error(transparent)]
    Broker(#[from] BrokerIdError),
}

struct Authority {
    key: AuthorityKey,
    certificate: Vec<u8>,
}

struct Keys {
    root: Authority,
    issuing: Authority,
    issuing_validity: Validity,
    nobody: Vec<u8>,
    nobody_crl: Vec<u8>,
}

/// Makes the plant that `request` describes.
pub async fn init(request: &Request, clock: &dyn Clock, entropy: &dyn Entropy) -> Result<Made, InitError> {
    let dir = &request.dir;
    let config = dir.join(crate::config::FILE);
    let there = [config.clone(), dir.join("db.current"), kek_file(dir), id_file(dir)];
    if there.iter().any(|file| file.exists()) {
        return Err(InitError::Exists(dir.clone()));
    }
    let (owner, kit) = (dir.join("owner"), dir.join("recovery-kit"));
    for folder in [dir.clone(), dir.join("secrets"), owner.clone(), kit.clone()] {
        make_private_dir(&folder).map_err(write(&folder))?;
    }
    let now = clock.now();
    let keeping = match &request.kek {
        Some(file) => Keeping::read(file)?,
        None => Keeping::File(SecretKey::generate(entropy)?),
    };
    let kek = keeping.open()?;
    keeping.write(&kek_file(dir)).map_err(write(&kek_file(dir)))?;
    let broker_id = hex::encode(random::<4>(entropy)?);
    put(write_public, &id_file(dir), format!("{broker_id}\n").as_bytes())?;

    let keys = Keys::make(&request.plant, now, entropy)?;
    let passphrase = kit::write(&kit, &request.plant, &keys.root.key, &keys.root.certificate, entropy)?;
    let txn = first_records(request, &keys, &kek, now, entropy)?;
    let (txn, release_key, owner_key, owner_chain) = owner_records(request, &keys, txn, now, entropy)?;
    let store = open::create(dir, &request.store, broker_id.parse::<BrokerId>()?, entropy).await?;
    store.transact(txn.absent(PLANT)).await?;

    write_owner(request, &owner, &keys, &owner_key, &owner_chain, &release_key)?;
    write_root(dir, &keys.root.certificate)?;
    // Last: a folder with a configuration is a plant that is whole.
    put(write_public, &config, config_text(request).as_bytes())?;
    Ok(Made { root_pin: Digest::of(&keys.root.key.spki()), passphrase, owner, kit })
}

/// Writes the certificate of the plant root, DER, where devices get it from: `plant-root.pem`.
pub(crate) fn write_root(dir: &Path, certificate: &[u8]) -> Result<(), InitError> {
    put(write_public, &dir.join("plant-root.pem"), pem("CERTIFICATE", certificate).as_bytes())
}

/// Where the key-encryption key is kept.
#[must_use]
pub fn kek_file(dir: &Path) -> PathBuf {
    dir.join("secrets").join("kek")
}

/// Where the broker's id is kept.
#[must_use]
pub fn id_file(dir: &Path) -> PathBuf {
    dir.join("secrets").join("broker-id")
}

fn write(file: &Path) -> impl FnOnce(std::io::Error) -> InitError {
    let file = file.to_owned();
    move |source| InitError::Write { file, source }
}

fn put(how: fn(&Path, &[u8]) -> std::io::Result<()>, file: &Path, bytes: &[u8]) -> Result<(), InitError> {
    how(file, bytes).map_err(write(file))
}

fn pem(tag: &str, der: &[u8]) -> String {
    pem::encode(&pem::Pem::new(tag, der))
}

fn serial(entropy: &dyn Entropy) -> Result<Serial, EntropyError> {
    random(entropy).map(Serial::from_random)
}

impl Keys {
    fn make(plant: &PlantDomain, now: UnixTime, entropy: &dyn Entropy) -> Result<Self, InitError> {
        // A day back: a device whose clock runs late must still accept today's root.
        let from = now.minus(86_400);
        let span = |lifetime| Validity { not_before: from, not_after: now.plus(lifetime) };
        let root_key = AuthorityKey::generate()?;
        let root_certificate =
            root_key.self_signed(&profile::plant_root(plant, span(ROOT_LIFETIME), serial(entropy)?)?)?;
        let issuing_key = AuthorityKey::generate()?;
        let issuing_validity = span(ISSUING_LIFETIME);
        let signer = AuthorityKey::from_pkcs8(&root_key.to_pkcs8())?;
        let root = Issuer::new(root_certificate.clone(), now.plus(ROOT_LIFETIME), signer)?;
        let params = profile::issuing(plant, 1, issuing_validity, serial(entropy)?)?;
        let issuing_certificate = root.sign_certificate(&params, &issuing_key.spki())?;
        let nobody_key = AuthorityKey::generate()?;
        let nobody =
            nobody_key.self_signed(&profile::nobody(plant, span(ROOT_LIFETIME), serial(entropy)?)?)?;
        let nobody_crl =
            Issuer::new(nobody.clone(), now.plus(ROOT_LIFETIME), nobody_key)?.crl(1, from, &[])?;
        Ok(Self {
            root: Authority { key: root_key, certificate: root_certificate },
            issuing: Authority { key: issuing_key, certificate: issuing_certificate },
            issuing_validity,
            nobody,
            nobody_crl,
        })
    }
}

fn first_records(
    request: &Request,
    keys: &Keys,
    kek: &SecretKey,
    now: UnixTime,
    entropy: &dyn Entropy,
) -> Result<Txn, InitError> {
    let plant = Plant {
        domain: request.plant.clone(),
        id: hex::encode(random::<16>(entropy)?),
        epoch: 1,
        root: keys.root.certificate.clone().into(),
        nobody: keys.nobody.clone().into(),
        nobody_crl: keys.nobody_crl.clone().into(),
    };
    let issuing = Issuing {
        generation: 1,
        certificate: keys.issuing.certificate.clone().into(),
        wrapped_key: kek.seal(entropy, ISSUING.as_bytes(), &keys.issuing.key.to_pkcs8())?.into(),
        not_after: keys.issuing_validity.not_after,
    };
    let sealing = sealing_key(1, kek, now, entropy)?;
    Ok(Txn::new()
        .absent(PLANT)
        .put(PLANT, stored(&plant)?)
        .put(ISSUING, stored(&issuing)?)
        .put(sealing_name(sealing.id), stored(&sealing)?)
        .put(TRUST, stored(&TrustHead { n: 1, at: now })?)
        .put(GOLDEN, stored(&GoldenHead::default())?))
}

/// A new sealing key, wrapped.
pub(crate) fn sealing_key(
    id: u32,
    kek: &SecretKey,
    now: UnixTime,
    entropy: &dyn Entropy,
) -> Result<Sealing, EntropyError> {
    let key = SecretKey::generate(entropy)?;
    let wrapped_key = kek.seal(entropy, SEALING.as_bytes(), key.expose())?.into();
    Ok(Sealing { id, wrapped_key, created: now })
}

/// Store key of a sealing key.
pub(crate) fn sealing_name(id: u32) -> String {
    format!("{SEALING}{id:010}")
}

fn owner_records(
    request: &Request,
    keys: &Keys,
    txn: Txn,
    now: UnixTime,
    entropy: &dyn Entropy,
) -> Result<(Txn, AuthorityKey, AuthorityKey, String), InitError> {
    let issuing = Issuer::new(
        keys.issuing.certificate.clone(),
        keys.issuing_validity.not_after,
        AuthorityKey::from_pkcs8(&keys.issuing.key.to_pkcs8())?,
    )?;
    let key = AuthorityKey::generate()?;
    let validity = Validity { not_before: now.minus(86_400), not_after: now.plus(LIFETIME) };
    let params = profile::administrator(&request.plant, &request.owner, validity, serial(entropy)?)?;
    let certificate = issuing.sign_certificate(&params, &key.spki())?;
    let chain = pem("CERTIFICATE", &certificate) + &pem("CERTIFICATE", &keys.issuing.certificate);
    let admin = Administrator {
        name: request.owner.clone(),
        role: AdminRole::Owner,
        spki: Digest::of(&key.spki()),
        created: now,
        zones: None,
        not_after: validity.not_after,
        let_in_by: None,
    };
    let release_key = AuthorityKey::generate()?;
    let record = ReleaseKeyRecord {
        name: ReleaseKeyName::first(),
        public_key: pem("PUBLIC KEY", &release_key.spki()),
        products: Vec::new(),
        by: request.owner.clone(),
        at: now,
        removed: None,
        compromised: None,
    };
    let id = Digest::of(&release_key.spki());
    let event = crate::audit::Event::new(now, "broker", "plant.init", request.plant.as_str(), &request.owner);
    let txn = txn
        .put(admin_key(&request.owner), stored(&admin)?)
        .put(release_key_key(&id), stored(&record)?)
        .put(RELEASE_KEYS, stored(&ReleaseKeysHead { n: 1 })?)
        .audit(event.entry());
    Ok((txn, release_key, key, chain))
}

fn write_owner(
    request: &Request,
    owner: &Path,
    keys: &Keys,
    key: &AuthorityKey,
    chain: &str,
    release_key: &AuthorityKey,
) -> Result<(), InitError> {
    let context = format!("plant = \"{}\"\naddress = \"{}\"\n", request.plant, request.address);
    put(write_public, &owner.join("context.toml"), context.as_bytes())?;
    put(write_public, &owner.join("plant-root.pem"), pem("CERTIFICATE", &keys.root.certificate).as_bytes())?;
    put(write_public, &owner.join("admin.pem"), chain.as_bytes())?;
    put(write_secret, &owner.join("admin.key"), pem("PRIVATE KEY", &key.to_pkcs8()).as_bytes())?;
    put(write_secret, &owner.join("release.key"), pem("PRIVATE KEY", &release_key.to_pkcs8()).as_bytes())
}

fn config_text(request: &Request) -> String {
    let listed = |paths: &[PathBuf]| {
        let quoted: Vec<String> =
            paths.iter().map(|path| format!("{:?}", path.display().to_string())).collect();
        quoted.join(", ")
    };
    format!(
        "# Configuration of the Touchstone broker. The plant itself lives in the store.\n\
         listen = \"{}\"\n\
         # Certificates of TPM manufacturers: PEM bundles, DER files, TrustedTpm.cab, or folders of them.\n\
         tpm_roots = [{}]\n\
         # Certificates of manufacturers that give boxes an IDevID, likewise.\n\
         idevid_roots = [{}]\n{}",
        request.listen,
        listed(&request.tpm_roots),
        listed(&request.idevid_roots),
        section(&request.store)
    )
}

/// The first records of a plant in a store of the test's own, with the release key and the owner's key.
#[cfg(test)]
pub(crate) async fn first_plant(
    store: &dyn Store,
    request: &Request,
    kek: &SecretKey,
    now: UnixTime,
    entropy: &dyn Entropy,
) -> (AuthorityKey, AuthorityKey) {
    let keys = Keys::make(&request.plant, now, entropy).unwrap();
    let txn = first_records(request, &keys, kek, now, entropy).unwrap();
    let (txn, release_key, owner_key, _) = owner_records(request, &keys, txn, now, entropy).unwrap();
    store.transact(txn).await.unwrap();
    (release_key, owner_key)
}
