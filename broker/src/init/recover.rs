//! `touchstone-broker recover`: a new owner, and if need be a new issuing key, from the recovery kit.
//!
//! For the day on which every owner's key is lost, or the issuing key is. It works on the store of a broker that is
//! stopped. Whoever has the kit, its passphrase and the broker's folder is believed: they could make another plant of
//! the same name. Authorities of zones are not touched, so devices notice nothing.

mod issuing;

use std::path::{Path, PathBuf};

use policy::digest::Digest;
use policy::time::{UnixTime, Validity};
use x509_cert::Certificate;
use x509_cert::der::{Decode, Encode};

use self::issuing::{IssuingKey, Maker};
use super::kit;
use super::{InitError, KitError, id_file, kek_file, pem, put, serial, write};
use crate::admin::people::{BACKDATE, LIFETIME, proper_name};
use crate::audit::Event;
use crate::ca::{AuthorityKey, CaError, Issuer, profile};
use crate::config::{Config, ConfigError};
use crate::files::{make_private_dir, write_public, write_secret};
use crate::kek::{self, KekError};
use crate::ports::{Clock, Entropy, EntropyError};
use crate::record::plant::{ADMIN, AdminRole, Administrator, PLANT, Plant, admin_key};
use crate::record::{Held, RecordError, fetch, list, stored};
use crate::store::open::{self, StoreError};
use crate::store::sled::OpenError;
use crate::store::{BrokerId, BrokerIdError, Store, Txn, TxnError};

/// Administrators that one transaction removes, within its limits.
const STEP: usize = 40;

/// What to recover.
#[derive(Debug, Clone)]
pub struct Request {
    /// The broker's folder.
    pub dir: PathBuf,
    /// The recovery kit.
    pub kit: PathBuf,
    /// Name of the new owner; whoever has it is replaced.
    pub owner: String,
    /// The context folder to make.
    pub out: PathBuf,
    /// Where the new owner reaches the broker, if that is not where it listens.
    pub address: Option<String>,
    /// Whether to make a new issuing key although the one that is there can be used.
    pub issuing_key: bool,
}

/// What was recovered, for people.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Generation of the new issuing key, if one was made.
    pub issuing: Option<u32>,
    /// Administrators that were removed, because their certificates ended with the former issuing key.
    pub removed: Vec<String>,
    /// Other owners, who still stand.
    pub owners: Vec<String>,
}

/// It could not be recovered. Until the store took the change, nothing was changed but that administrators may be
/// gone whom a new issuing key removes: it is to be tried again.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The broker runs.
    #[error("stop the broker first, recover, then start it again")]
    Runs(#[source] StoreError),
    /// The store cannot be opened.
    #[error(transparent)]
    Open(StoreError),
    /// The folder is no broker's.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The key-encryption key: authorities of zones are lost without it, and no kit brings them back.
    #[error(transparent)]
    Kek(#[from] KekError),
    /// The broker's id.
    #[error("{file} does not hold the broker's id; restore the `secrets` folder that belongs to this store")]
    Id {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The broker's id.
    #[error(transparent)]
    Broker(#[from] BrokerIdError),
    /// The store holds no plant.
    #[error("the store in {0} holds no plant; restore the last backup with `touchstone restore`")]
    NoPlant(PathBuf),
    /// The kit cannot be opened.
    #[error(transparent)]
    Kit(#[from] KitError),
    /// The kit of another plant.
    #[error("the key in {kit} is not that of the root of {plant}; take the recovery kit of this plant")]
    OtherPlant {
        /// The kit.
        kit: PathBuf,
        /// The plant.
        plant: String,
    },
    /// The context folder is there.
    #[error("{0} is there already; choose another --out, or remove it")]
    Exists(PathBuf),
    /// The name is none.
    #[error("`{0}` is no name of an administrator: write 1 to 40 of a-z, 0-9, `.`, `-`, `_`")]
    Name(String),
    /// A file could not be written.
    #[error(transparent)]
    Write(#[from] InitError),
    /// A certificate could not be made.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// No random bytes.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// A record cannot be read or written.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The store refused.
    #[error(transparent)]
    Txn(#[from] TxnError),
}

impl From<StoreError> for RecoverError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Sled(OpenError::Taken { .. }) => Self::Runs(error),
            _ => Self::Open(error),
        }
    }
}

/// Makes a new owner of the plant in a stopped broker's folder, as `request` says.
pub async fn recover(
    request: &Request,
    passphrase: &str,
    clock: &dyn Clock,
    entropy: &dyn Entropy,
) -> Result<Recovered, RecoverError> {
    proper_name(&request.owner).map_err(|_| RecoverError::Name(request.owner.clone()))?;
    if request.out.exists() {
        return Err(RecoverError::Exists(request.out.clone()));
    }
    let config = Config::load(&request.dir)?;
    let kek = kek::open(&kek_file(&request.dir))?;
    let store = open::open(&request.dir, &config.store, broker_id(&request.dir)?, entropy).await?;
    let store = store.as_ref();
    let plant: Option<Held<Plant>> = fetch(store, PLANT.to_owned()).await?;
    let plant = plant.ok_or_else(|| RecoverError::NoPlant(request.dir.clone()))?.record;
    let root = root(request, &plant, kit::open(&request.kit, passphrase)?)?;
    let now = clock.now();
    let maker = Maker { root: &root, plant: &plant, kek: &kek, now, entropy };
    let issuing = maker.issuing_key(store, request.issuing_key).await?;
    let (owner, key, chain) = owner(request, &plant, &issuing.issuer, now, entropy)?;
    let address = request.address.clone().unwrap_or_else(|| config.listen.to_string());
    // On disk before the store knows of it: an owner whose key was not kept would be nobody.
    write_context(request, &plant, &address, &key, &chain)?;
    let done = appoint(store, request, &issuing, &owner, now).await;
    if done.is_err() {
        drop(std::fs::remove_dir_all(&request.out));
    }
    done
}

fn broker_id(dir: &Path) -> Result<BrokerId, RecoverError> {
    let file = id_file(dir);
    let text = std::fs::read_to_string(&file).map_err(|source| RecoverError::Id { file, source })?;
    Ok(text.trim().parse()?)
}

/// The plant root with the key of the kit, if they belong together.
fn root(request: &Request, plant: &Plant, key: AuthorityKey) -> Result<Issuer, RecoverError> {
    let certificate = Certificate::from_der(&plant.root.0).ok();
    let certified = certificate
        .as_ref()
        .and_then(|certificate| certificate.tbs_certificate().subject_public_key_info().to_der().ok());
    if certified.is_none_or(|certified| certified != key.spki()) {
        return Err(RecoverError::OtherPlant { kit: request.kit.clone(), plant: plant.domain.to_string() });
    }
    let not_after = certificate
        .map(|certificate| certificate.tbs_certificate().validity().not_after.to_unix_duration().as_secs());
    Ok(Issuer::new(plant.root.0.clone(), UnixTime(not_after.unwrap_or_default()), key)?)
}

/// The new owner with their key and certificate chain.
fn owner(
    request: &Request,
    plant: &Plant,
    issuing: &Issuer,
    now: UnixTime,
    entropy: &dyn Entropy,
) -> Result<(Administrator, AuthorityKey, String), RecoverError> {
    let key = AuthorityKey::generate()?;
    let not_after = now.plus(LIFETIME).min(issuing.not_after());
    let validity = Validity { not_before: now.minus(BACKDATE), not_after };
    let params = profile::administrator(&plant.domain, &request.owner, validity, serial(entropy)?)?;
    let leaf = issuing.sign_certificate(&params, &key.spki())?;
    let owner = Administrator {
        name: request.owner.clone(),
        role: AdminRole::Owner,
        spki: Digest::of(&key.spki()),
        created: now,
        zones: None,
        not_after,
        let_in_by: None,
    };
    Ok((owner, key, pem("CERTIFICATE", &leaf) + &pem("CERTIFICATE", issuing.certificate())))
}

fn write_context(
    request: &Request,
    plant: &Plant,
    address: &str,
    key: &AuthorityKey,
    chain: &str,
) -> Result<(), InitError> {
    let out = &request.out;
    make_private_dir(out).map_err(write(out))?;
    let context = format!("plant = \"{}\"\naddress = \"{address}\"\n", plant.domain);
    put(write_public, &out.join("context.toml"), context.as_bytes())?;
    put(write_public, &out.join("plant-root.pem"), pem("CERTIFICATE", &plant.root.0).as_bytes())?;
    put(write_public, &out.join("admin.pem"), chain.as_bytes())?;
    put(write_secret, &out.join("admin.key"), pem("PRIVATE KEY", &key.to_pkcs8()).as_bytes())
}

/// Stores the new owner, and the new issuing key with it. Whom the former one vouched for goes first: left behind by
/// a power cut, they would count as owners who never come.
async fn appoint(
    store: &dyn Store,
    request: &Request,
    issuing: &IssuingKey,
    owner: &Administrator,
    now: UnixTime,
) -> Result<Recovered, RecoverError> {
    let others: Vec<Held<Administrator>> = list(store, ADMIN).await?;
    let others: Vec<_> = others.into_iter().filter(|held| held.record.name != owner.name).collect();
    let recovered = dismissed(store, issuing, others, now).await?;
    let mut text = format!("{} is an owner by the recovery kit", owner.name);
    if let Some(generation) = issuing.made() {
        text.push_str(&format!(", under the new issuing key {generation}"));
    }
    let event = Event::new(now, "broker", "plant.recover", &request.owner, &text);
    let txn = Txn::new().put(admin_key(&owner.name), stored(owner)?).audit(event.entry());
    store.transact(issuing.kept(txn)?).await?;
    Ok(recovered)
}

/// Who is left, and who is removed because the former issuing key vouched for them.
async fn dismissed(
    store: &dyn Store,
    issuing: &IssuingKey,
    others: Vec<Held<Administrator>>,
    now: UnixTime,
) -> Result<Recovered, RecoverError> {
    let names = |all: &[Held<Administrator>]| all.iter().map(|held| held.record.name.clone()).collect();
    let Some(generation) = issuing.made() else {
        let owners: Vec<_> = others.into_iter().filter(|held| held.record.role == AdminRole::Owner).collect();
        return Ok(Recovered { owners: names(&owners), ..Recovered::default() });
    };
    for step in others.chunks(STEP) {
        let remove = |txn: Txn, held: &Held<Administrator>| {
            let text = "removed: the certificate was of the former issuing key";
            let event = Event::new(now, "broker", "admin.remove", &held.record.name, text);
            txn.unchanged(held.key.clone(), held.version).delete(held.key.clone()).audit(event.entry())
        };
        store.transact(step.iter().fold(Txn::new(), remove)).await?;
    }
    Ok(Recovered { issuing: Some(generation), removed: names(&others), owners: Vec::new() })
}

#[cfg(test)]
mod tests;
