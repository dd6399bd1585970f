//! Restores a backup: staged, inspected whole, then put in place at once.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use policy::zone::Zone;
use tokio::io::AsyncWriteExt;
use tokio::runtime::Handle;

use super::barred::Barred;
use super::ended::Ended;
use super::format::{Piece, Reader};
use super::inspect::{Inspected, inspect};
use super::key_lines::KeyLines;
use super::renew::Renewal;
use crate::admin::reach::Reach;
use crate::ca::Serial;
use crate::init;
use crate::plant::{Plant, PlantKeys, adopt_keys};
use crate::ports::random;
use crate::record::zone::{AUTHORITY, AuthorityRecord, AuthorityState, REVOKED, RevokedCertificate, ZONE};
use crate::record::{Held, list};
use crate::session::Refusal;
use crate::store::{Content, ReplaceError, Txn};

/// Largest file that is staged: the evidence of ten thousand devices, and room for years of audit.
const MAX_FILE: u64 = 16 << 30;
/// Most serials that a restore takes.
const MAX_SERIALS: usize = 100_000;

/// A file that is being received; it is removed when this is dropped.
#[derive(Debug)]
pub struct Staged {
    path: PathBuf,
    file: tokio::fs::File,
    size: u64,
}

impl Drop for Staged {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(file = %self.path.display(), %error, "a staged backup stays; remove it by hand");
        }
    }
}

impl Staged {
    /// An empty file in the broker's folder, readable by the broker only.
    pub async fn create(plant: &Plant) -> Result<Self, Refusal> {
        let name: [u8; 8] = random(plant.entropy.as_ref()).map_err(Refusal::internal)?;
        let path = plant.config.dir.join(format!("restore-{}.tmp", hex::encode(name)));
        let mut options = tokio::fs::OpenOptions::new();
        let opened = options.write(true).create_new(true).mode(0o600).open(&path).await;
        let file = opened.map_err(|error| unwritten(&path, &error))?;
        Ok(Self { path, file, size: 0 })
    }

    /// Appends what came.
    pub async fn append(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        self.size = self.size.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        if self.size > MAX_FILE {
            return Err(Refusal::malformed(format!("the backup has more than {MAX_FILE} bytes")));
        }
        self.file.write_all(bytes).await.map_err(|error| unwritten(&self.path, &error))
    }

    async fn close(&mut self) -> Result<(), Refusal> {
        self.file.flush().await.map_err(|error| unwritten(&self.path, &error))
    }
}

fn unwritten(path: &Path, error: &io::Error) -> Refusal {
    Refusal::internal(format!("{} cannot be written: {error}; check the disk", path.display()))
}

/// What a restore came to.
#[derive(Debug)]
pub struct Restored {
    /// The plant's epoch from now on.
    pub epoch: u64,
    /// Records that were restored.
    pub records: usize,
    /// Blobs that were restored.
    pub blobs: usize,
    /// What the restore cannot know, and what follows.
    pub notes: Vec<String>,
}

fn parse_serials(serials: &[String]) -> Result<BTreeSet<Serial>, Refusal> {
    if serials.len() > MAX_SERIALS {
        return Err(Refusal::malformed(format!(
            "{} serials; at most {MAX_SERIALS} are taken",
            serials.len()
        )));
    }
    let parse = |text: &String| {
        Serial::from_hex(text).ok_or_else(|| {
            let shown: String = text.chars().take(40).collect();
            Refusal::malformed(format!("`{shown}` is no serial of this plant, they have 32 hex digits"))
        })
    };
    serials.iter().map(parse).collect()
}

/// Replaces the broker's whole state. `serials` (hex) are of certificates that were revoked after the
/// backup was made. Run it in a task of its own: once the store was replaced, the keys must follow.
pub async fn restore(
    plant: &Plant,
    reach: &Reach,
    mut staged: Staged,
    serials: &[String],
) -> Result<Restored, Refusal> {
    let serials = parse_serials(serials)?;
    staged.close().await?;
    let given = serials.len();
    let (path, kek, now) = (staged.path.clone(), plant.kek.clone(), plant.now());
    let inspected = blocking(move || inspect(&path, &kek, &serials, now)).await?;
    let inspected = inspected.map_err(|fault| Refusal::malformed(fault.to_string()))?;
    put_blobs(plant, &staged.path).await?;
    let epoch = plant.keys.load().epoch.max(inspected.header.plant_epoch).saturating_add(1);
    let known = Known::of(plant, &inspected).await?;
    let mut notes = notes(&inspected, given, &plant.keys.load());
    notes.extend(known.barred.note(&inspected));
    let restored = Restored { epoch, records: inspected.records, blobs: inspected.blobs, notes };
    let (past, made) = (inspected.header.revision, inspected.header.made_at);
    let content = content(&staged.path, renewal(plant, inspected, known, epoch).await?)?;
    plant.store.replace_all(content, past).await.map_err(refusal)?;
    adopt_keys(plant).await.map_err(Refusal::internal)?;
    let text = format!("the state of {made} was restored; plant epoch {epoch} begins");
    let event = reach.event(plant.now(), plant.domain().as_str(), &text);
    plant.store.transact(Txn::new().audit(event.entry())).await.map_err(Refusal::internal)?;
    Ok(restored)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work).await.map_err(Refusal::internal)
}

/// Puts every blob: they are there before the records that name them.
async fn put_blobs(plant: &Plant, file: &Path) -> Result<(), Refusal> {
    let (file, blobs, runtime) = (file.to_owned(), plant.blobs.clone(), Handle::current());
    let put = move || -> Result<(), Refusal> {
        let source = BufReader::new(File::open(&file).map_err(Refusal::internal)?);
        let mut reader = Reader::open(source).map_err(Refusal::internal)?;
        while let Some(piece) = reader.next().map_err(Refusal::internal)? {
            if let Piece::Blob(_, bytes) = piece {
                runtime.block_on(blobs.put(bytes)).map_err(Refusal::internal)?;
            }
        }
        Ok(())
    };
    blocking(put).await?
}

/// What a plant that is still here knows of its own authorities, of what they revoked, and of whom it stopped.
#[derive(Default)]
struct Known {
    barred: Barred,
    ended: Ended,
    key_lines: KeyLines,
    authorities: BTreeMap<String, AuthorityRecord>,
    revocations: BTreeMap<String, RevokedCertificate>,
}

impl Known {
    async fn of(plant: &Plant, inspected: &Inspected) -> Result<Self, Refusal> {
        if plant.keys.load().plant_id != inspected.header.plant_id {
            return Ok(Self::default());
        }
        let authorities: Vec<Held<AuthorityRecord>> = list(plant.store.as_ref(), AUTHORITY).await?;
        let authorities =
            authorities.into_iter().map(|held| match inspected.zones.contains(&held.record.zone) {
                true => (held.key, held.record),
                // Its zone is gone with the restore; the number of its generation stays used.
                false => (held.key, held.record.turned(AuthorityState::Distrusted, plant.now())),
            });
        let revocations: Vec<Held<RevokedCertificate>> = list(plant.store.as_ref(), REVOKED).await?;
        Ok(Self {
            barred: Barred::of(plant).await?,
            ended: Ended::of(plant, inspected).await?,
            key_lines: KeyLines::of(plant).await?,
            authorities: authorities.collect(),
            revocations: revocations.into_iter().map(|held| (held.key, held.record)).collect(),
        })
    }
}

async fn renewal(plant: &Plant, inspected: Inspected, known: Known, epoch: u64) -> Result<Renewal, Refusal> {
    let Known { authorities, mut revocations, barred, ended, key_lines } = known;
    let barring = barred.added(&inspected)?;
    revocations.extend(inspected.revocations);
    let mut revoked = inspected.revoked;
    revoked.extend(revocations.keys().filter_map(|key| key.rsplit('/').next()).map(str::to_owned));
    let zones: Vec<Held<Zone>> = list(plant.store.as_ref(), ZONE).await?;
    let two_person = zones.into_iter().map(|held| held.record).filter(|zone| zone.two_person);
    let (now, id) = (plant.now(), inspected.sealing.max(plant.keys.load().sealing_id).saturating_add(1));
    let key = init::sealing_key(id, &plant.kek, now, plant.entropy.as_ref()).map_err(Refusal::internal)?;
    Ok(Renewal {
        epoch,
        now,
        sealing: (init::sealing_name(id), key),
        ended,
        key_lines,
        revocations,
        revoked,
        two_person: two_person.map(|zone| zone.name).collect(),
        authorities,
        barred,
        barring,
    })
}

/// Whether the plant replaced the issuing key of its backup since that was made.
fn is_replaced(keys: &PlantKeys, inspected: &Inspected) -> bool {
    keys.plant_id == inspected.header.plant_id && keys.issuing_number > inspected.issuing
}

/// The records of the file as they are restored.
fn content(file: &Path, renewal: Renewal) -> Result<Content, Refusal> {
    let source = BufReader::new(File::open(file).map_err(Refusal::internal)?);
    let mut reader = Some(Reader::open(source).map_err(Refusal::internal)?);
    let added = renewal.added()?.into_iter().map(Ok);
    let rest = std::iter::from_fn(move || {
        let next = next_record(reader.as_mut()?, &renewal).transpose();
        // After the end or a fault there is nothing more to read.
        if !matches!(next, Some(Ok(_))) {
            reader = None;
        }
        next
    });
    Ok(Box::new(added.chain(rest)))
}

fn next_record(
    reader: &mut Reader<BufReader<File>>,
    renewal: &Renewal,
) -> io::Result<Option<(String, Vec<u8>)>> {
    while let Some(piece) = reader.next().map_err(io::Error::other)? {
        let Piece::Record(key, value) = piece else { continue };
        if let Some(value) = renewal.renewed(&key, value).map_err(io::Error::other)? {
            return Ok(Some((key, value)));
        }
    }
    Ok(None)
}

fn refusal(error: ReplaceError) -> Refusal {
    match error {
        ReplaceError::Source(_) | ReplaceError::Limit(_) | ReplaceError::PastTooHigh { .. } => {
            Refusal::malformed(error.to_string())
        }
        ReplaceError::Poisoned { .. }
        | ReplaceError::Unwritten { .. }
        | ReplaceError::Away { .. }
        | ReplaceError::Overtaken
        | ReplaceError::OutcomeUnknown { .. } => Refusal::internal(error),
    }
}

fn notes(inspected: &Inspected, given: usize, replaced: &PlantKeys) -> Vec<String> {
    let mut notes = vec![
        format!(
            "what happened after {} is not known: certificates issued since then stay valid until they end unless their serial was given and the backup knows it",
            inspected.header.made_at
        ),
        match replaced.plant_id == inspected.header.plant_id {
            true => "authorities and revoked certificates are as they were before the restore".to_owned(),
            false => "authorities that were distrusted and certificates that were revoked since then are believed again: repeat `touchstone authority distrust`".to_owned(),
        },
        match replaced.plant_id == inspected.header.plant_id {
            true => "administrators, removed release keys and withdrawn releases are as they were before the restore".to_owned(),
            false => "quarantines, replaced and retired devices, removed administrators and release keys, and withdrawn releases of that time have to be repeated".to_owned(),
        },
        "every join token, invitation and override ended, and what waited for a second person; make new ones"
            .to_owned(),
        "zones that asked for two people before the restore still do".to_owned(),
        "rollouts that were under way are halted; look at `touchstone golden rollout status`, then resume them"
            .to_owned(),
    ];
    if replaced.plant_id != inspected.header.plant_id {
        notes.push(
            "the plant that init made here is gone: use owner's folder and recovery kit of the plant \
             that was restored, and delete those of init"
                .to_owned(),
        );
    }
    if is_replaced(replaced, inspected) {
        notes.push("the issuing key of the backup was replaced since: the one of now stays".to_owned());
    }
    if replaced.plant_id != inspected.header.plant_id {
        notes.push(
            "of devices without a TPM, the first that comes with a key of after the backup is believed; let those join \
             again that may have been copied"
                .to_owned(),
        );
    }
    let unknown = given.saturating_sub(inspected.revoked.len());
    if unknown > 0 {
        notes.push(format!(
            "{unknown} of the {given} serials given are of no certificate in this backup and could not be revoked"
        ));
    }
    if inspected.lacking > 0 {
        notes.push(format!(
            "{} evidence files were replaced while the backup was made and are not in it; their devices attest again",
            inspected.lacking
        ));
    }
    notes
}
