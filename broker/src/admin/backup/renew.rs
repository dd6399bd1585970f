//! What a restored record becomes: the plant begins a new epoch, and nothing of before counts.

use std::collections::{BTreeMap, BTreeSet};

use policy::id::ZoneName;
use policy::time::UnixTime;
use policy::zone::Zone;

use super::barred::Barred;
use super::ended::Ended;
use super::key_lines::KeyLines;
use crate::record::change::CHANGE;
use crate::record::device::{DEVICE, Device, EK, HELD, HeldCertificates, TOKEN, Tpm};
use crate::record::invitation::INVITATION;
use crate::record::leader::{BEAT, LEADER, TURNED_AWAY};
use crate::record::moving::MOVE;
use crate::record::overriding::OVERRIDE;
use crate::record::plant::{PLANT, Plant, Sealing, TRUST, TrustHead};
use crate::record::rollout::{ROLLOUT, Rollout, RolloutState};
use crate::record::zone::{AuthorityRecord, RevokedCertificate, ZONE};
use crate::record::{RecordError, stored};
use crate::store::record::{decode, decode_staged, encode_staged};

/// The changes of a restore.
#[derive(Debug)]
pub(super) struct Renewal {
    /// The new epoch.
    pub(super) epoch: u64,
    /// The time of the restore.
    pub(super) now: UnixTime,
    /// A sealing key that no challenge was sealed under yet, with its store key.
    pub(super) sealing: (String, Sealing),
    /// What the plant ended since the backup, and its people.
    pub(super) ended: Ended,
    /// The keys of devices without a TPM.
    pub(super) key_lines: KeyLines,
    /// Certificates revoked after the backup was made, as far as it is known, by store key.
    pub(super) revocations: BTreeMap<String, RevokedCertificate>,
    /// Their serials.
    pub(super) revoked: BTreeSet<String>,
    /// Zones that ask for two people now: a backup of before, put back by one person, does not end that.
    pub(super) two_person: BTreeSet<ZoneName>,
    /// The plant's authorities of now, by store key: one that was distrusted since stays so, and no number of a
    /// generation is used twice.
    pub(super) authorities: BTreeMap<String, AuthorityRecord>,
    /// TPMs that are stopped now: a backup of before does not let them in again.
    pub(super) barred: Barred,
    /// What the barred add to the backup's records.
    pub(super) barring: Vec<(String, Vec<u8>)>,
}

impl Renewal {
    /// Records that the backup does not have.
    pub(super) fn added(&self) -> Result<Vec<(String, Vec<u8>)>, RecordError> {
        let mut added = vec![(self.sealing.0.clone(), stored(&self.sealing.1)?)];
        added.extend(self.ended.added());
        for (key, record) in &self.revocations {
            added.push((key.clone(), stored(record)?));
        }
        for (key, record) in &self.authorities {
            added.push((key.clone(), stored(record)?));
        }
        added.extend(self.barring.iter().cloned());
        Ok(added)
    }

    /// The record as it is restored; `None` if it is not.
    pub(super) fn renewed(&self, key: &str, value: Vec<u8>) -> Result<Option<Vec<u8>>, RecordError> {
        if key == PLANT {
            let plant: Plant = decode(key, &value)?;
            return stored(&Plant { epoch: self.epoch, ..plant }).map(Some);
        }
        if key == TRUST {
            return stored(&TrustHead { n: 1, at: self.now }).map(Some);
        }
        // What was made to be used once before must not be used now, nor what may have been ended since.
        let once = [TOKEN, CHANGE, INVITATION, OVERRIDE, MOVE].iter().any(|prefix| key.starts_with(prefix));
        let known = self.revocations.contains_key(key)
            || self.authorities.contains_key(key)
            || self.barred.has_ak(key);
        // Whoever led when the backup was made.
        let led = [LEADER, BEAT, TURNED_AWAY].contains(&key);
        if once || led || known || self.ended.replaces(key) {
            return Ok(None);
        }
        if let Some(now) = self.ended.golden(key) {
            return Ok(Some(now.to_vec()));
        }
        if key.starts_with(DEVICE) {
            let (device, stage) = decode_staged::<Device>(key, &value)?;
            let asked = device.asked.saturating_add(1);
            // An exception for one attestation may have been used up since.
            let device = Device { asked, clock_excused: false, clear_expected: None, ..device };
            let device = self.key_lines.device(key, self.barred.device(device));
            return Ok(Some(encode_staged(&device, stage.as_deref())?));
        }
        if key.starts_with(EK) {
            let (tpm, stage) = decode_staged::<Tpm>(key, &value)?;
            return Ok(Some(encode_staged(&self.barred.tpm(key, tpm), stage.as_deref())?));
        }
        if key.starts_with(ZONE) {
            let (zone, stage) = decode_staged::<Zone>(key, &value)?;
            let two_person = zone.two_person || self.two_person.contains(&zone.name);
            return Ok(Some(encode_staged(&Zone { two_person, ..zone }, stage.as_deref())?));
        }
        if key.starts_with(ROLLOUT) {
            return stored(&halted(decode(key, &value)?)).map(Some);
        }
        if key.starts_with(HELD) && !self.revoked.is_empty() {
            let mut held: HeldCertificates = decode(key, &value)?;
            held.certificates.retain(|certificate| !self.revoked.contains(&certificate.serial));
            return stored(&held).map(Some);
        }
        Ok(Some(value))
    }
}

/// Whom a rollout told since the backup is not known, so it tells nobody before a person has looked.
fn halted(rollout: Rollout) -> Rollout {
    match rollout.state {
        RolloutState::Running => {
            let reason = "a backup was restored, and whom it told since then is not known".to_owned();
            Rollout { state: RolloutState::Halted { reason }, ..rollout }
        }
        _ => rollout,
    }
}
