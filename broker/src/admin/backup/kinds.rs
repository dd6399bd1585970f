//! The kind of record under each key: a backup with a record that this broker cannot read is refused
//! before anything is replaced.

use policy::audit::SignedSeal;

use crate::record::address::{ADDRESS, AddressOwner};
use crate::record::audit::{AUDIT_KEY, AuditSigning, SEAL, SEALS};
use crate::record::boot::{BOOT, EarlierBoot};
use crate::record::change::{CHANGE, Change};
use crate::record::device::{
    AK, ATTESTED, AkOwner, Attested, CertifiedKeyOwner, DEVICE, Device, EK, HELD, HeldCertificates,
    INVENTORY, Inventory, KEY, PENDING, Pending, TOKEN, Token, Tpm,
};
use crate::record::drill::{DRILL, Drill};
use crate::record::golden::{
    GOLDEN, GoldenHead, PRODUCT, ProductCounter, RELEASE, ReleaseRecord, WANTED, WITHDRAWAL, WantedRelease,
    Withdrawal,
};
use crate::record::idevid::{BoxIdentity, IDEVID};
use crate::record::invitation::{INVITATION, Invitation};
use crate::record::leader::{BEAT, Beat, LEADER, Leader, TURNED_AWAY, TurnedAway};
use crate::record::moving::{MOVE, PlannedMove};
use crate::record::overriding::{OVERRIDE, OverrideRecord};
use crate::record::plant::{
    ADMIN, Administrator, EAR, GRANT, ISSUING, Issuing, PLANT, Plant, SEALING, Sealing, TRUST, TokenSigning,
    TrustHead,
};
use crate::record::release_key::{
    COMPROMISE, Compromise, RELEASE_KEY, RELEASE_KEYS, ReleaseKeyRecord, ReleaseKeysHead, THRESHOLD,
    ThresholdRecord,
};
use crate::record::rollout::{HEALTH, HealthRecord, ROLLOUT, Rollout, TOLD, TellRecord};
use crate::record::sbom::{SBOM, SbomRecord};
use crate::record::stage::{STAGE, Stage};
use crate::record::vouched::{MACHINE, Machine, MachineOwner, VOUCHED};
use crate::record::would::{WOULD, WouldRefuse};
use crate::record::zone::{
    AUTHORITY, AuthorityRecord, CONDUIT, NARROWING, Narrowing, REAPPRAISAL, REVOKED, Reappraisal,
    RevokedCertificate, ZONE,
};
use crate::store::record::{DecodeError, Record, decode_staged};
use crate::store::{AUDIT_PREFIX, AuditRecord};

/// A record cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum KindError {
    /// Not of a kind that this broker knows.
    #[error(
        "the record {0:?} is of a kind that this broker does not know; use the broker that made the backup"
    )]
    Unknown(String),
    /// Its kind is known and it cannot be read.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

fn as_kind<R: Record>(key: &str, value: &[u8]) -> Result<(), DecodeError> {
    decode_staged::<R>(key, value).map(drop)
}

type Reads = fn(&str, &[u8]) -> Result<(), DecodeError>;

/// Records that stand alone, by key.
const SINGLE: [(&str, Reads); 12] = [
    (PLANT, as_kind::<Plant>),
    (ISSUING, as_kind::<Issuing>),
    (EAR, as_kind::<TokenSigning>),
    (GRANT, as_kind::<TokenSigning>),
    (TRUST, as_kind::<TrustHead>),
    (GOLDEN, as_kind::<GoldenHead>),
    (RELEASE_KEYS, as_kind::<ReleaseKeysHead>),
    (AUDIT_KEY, as_kind::<AuditSigning>),
    (SEAL, as_kind::<SignedSeal>),
    (LEADER, as_kind::<Leader>),
    (BEAT, as_kind::<Beat>),
    (TURNED_AWAY, as_kind::<TurnedAway>),
];

/// Records of which there are many, by prefix.
const MANY: &[(&str, Reads)] = &[
    (OVERRIDE, as_kind::<OverrideRecord>),
    (WOULD, as_kind::<WouldRefuse>),
    (STAGE, as_kind::<Stage>),
    (SEALING, as_kind::<Sealing>),
    (ADMIN, as_kind::<Administrator>),
    (DEVICE, as_kind::<Device>),
    (ATTESTED, as_kind::<Attested>),
    (BOOT, as_kind::<EarlierBoot>),
    (VOUCHED, as_kind::<Machine>),
    (MACHINE, as_kind::<MachineOwner>),
    (ADDRESS, as_kind::<AddressOwner>),
    (MOVE, as_kind::<PlannedMove>),
    (EK, as_kind::<Tpm>),
    (PENDING, as_kind::<Pending>),
    (TOKEN, as_kind::<Token>),
    (KEY, as_kind::<CertifiedKeyOwner>),
    (AK, as_kind::<AkOwner>),
    (HELD, as_kind::<HeldCertificates>),
    (INVENTORY, as_kind::<Inventory>),
    (IDEVID, as_kind::<BoxIdentity>),
    (ZONE, as_kind::<policy::zone::Zone>),
    (CONDUIT, as_kind::<policy::zone::Conduit>),
    (AUTHORITY, as_kind::<AuthorityRecord>),
    (REVOKED, as_kind::<RevokedCertificate>),
    (REAPPRAISAL, as_kind::<Reappraisal>),
    (NARROWING, as_kind::<Narrowing>),
    (RELEASE, as_kind::<ReleaseRecord>),
    (SBOM, as_kind::<SbomRecord>),
    (RELEASE_KEY, as_kind::<ReleaseKeyRecord>),
    (THRESHOLD, as_kind::<ThresholdRecord>),
    (COMPROMISE, as_kind::<Compromise>),
    (PRODUCT, as_kind::<ProductCounter>),
    (WANTED, as_kind::<WantedRelease>),
    (WITHDRAWAL, as_kind::<Withdrawal>),
    (INVITATION, as_kind::<Invitation>),
    (CHANGE, as_kind::<Change>),
    (DRILL, as_kind::<Drill>),
    (ROLLOUT, as_kind::<Rollout>),
    (TOLD, as_kind::<TellRecord>),
    (HEALTH, as_kind::<HealthRecord>),
    (AUDIT_PREFIX, as_kind::<AuditRecord>),
    (SEALS, as_kind::<SignedSeal>),
];

/// Reads the record as what its key says it is.
pub(super) fn read(key: &str, value: &[u8]) -> Result<(), KindError> {
    let single = SINGLE.iter().find(|(known, _)| *known == key);
    let many = MANY.iter().find(|(prefix, _)| key.starts_with(prefix));
    let (_, reads) = single.or(many).ok_or_else(|| KindError::Unknown(key.to_owned()))?;
    Ok(reads(key, value)?)
}
