//! Devices, their TPMs and certificates, tokens, and those that wait for an administrator.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use policy::digest::Digest;
use policy::evidence::endorsement::Manufacturer;
use policy::evidence::key_order::Turn;
use policy::id::{DeviceName, ServiceName, WorkloadName, ZoneName};
use policy::reference::release::ReleaseId;
use policy::time::{UnixTime, Validity};
use policy::zone::{Role, TwoSided};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::person::{self, Person};
use super::{Bytes, short};
use crate::store::record::Record;

/// Prefix of devices.
pub const DEVICE: &str = "device/";
/// Prefix of the last attestation of each device.
pub const ATTESTED: &str = "attested/";
/// Prefix of TPMs, by EK digest.
pub const EK: &str = "ek/";
/// Prefix of TPMs that wait for an administrator.
pub const PENDING: &str = "pending/";
/// Prefix of join tokens.
pub const TOKEN: &str = "token/";
/// Prefix of AKs.
pub const AK: &str = "ak/";
/// Prefix of certified keys.
pub const KEY: &str = "key/";

/// Prefix of the certificates that a device holds.
pub const HELD: &str = "held/";
/// What stands before the name of a workload there, where that of a service stands by itself.
const WORKLOAD: &str = "workload/";
/// Prefix of inventories.
pub const INVENTORY: &str = "inventory/";

/// Inventory values of one device, each at most [`MAX_VALUE`] bytes: a record has at most 4 KiB.
pub const MAX_INVENTORY: usize = 16;
/// Longest inventory name or value in bytes.
pub const MAX_VALUE: usize = 48;
/// Services that one device may offer.
pub const MAX_SERVICES: usize = 16;
/// Certificates of one zone and role that a device may hold at once. It replaces one after a third of
/// its life, so an honest device holds three.
pub const MAX_HELD: usize = 4;
/// Zones that one device may be in: a gateway joins a few, never many.
pub const MAX_ZONES: usize = 8;

/// EKs of one TPM besides the one that its device enrolled with: the TCG defines seven templates.
pub const MAX_OTHER_EKS: usize = 7;

/// Addresses of a device in one zone, a few interfaces with both families: every certificate that it holds there may
/// name them all, and their record has at most 4 KiB.
pub const MAX_ADDRESSES: usize = 6;
/// Addresses of a device in all its zones: its record has at most 4 KiB, too.
pub const MAX_ALL_ADDRESSES: usize = 24;

/// Where an inventory value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// An administrator or a supplier's list says so.
    Vouched,
    /// The device says so.
    Declared,
    /// Bound to verified evidence.
    Attested,
}

/// A property of a device.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct InventoryValue {
    /// The value.
    pub value: String,
    /// Where it comes from.
    pub source: Source,
    /// Since when.
    pub at: UnixTime,
}

/// An attestation key that is bound to the device's EK.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BoundAk {
    /// TPMT_PUBLIC.
    pub public: Bytes,
    /// Its Name.
    pub name: Bytes,
    /// When it was activated.
    pub since: UnixTime,
}

/// A certificate that the device holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HeldCertificate {
    /// Caller or listener.
    pub role: Role,
    /// Generation of the authority that signed it.
    pub generation: u32,
    /// Serial, hex.
    pub serial: String,
    /// Digest of the certified key.
    #[serde(with = "short")]
    pub spki: Digest,
    /// When it holds.
    pub validity: Validity,
    /// The service that has the key in software; without it and a workload it is the device's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceName>,
    /// The workload that it names, which has the key in software too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<WorkloadName>,
    /// IP addresses that it names.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub addresses: BTreeSet<IpAddr>,
}

/// What a certificate of a device is for whose key is in software.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// The server of a service that the device offers.
    Service(ServiceName),
    /// A workload on it.
    Workload(WorkloadName),
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(service) => write!(f, "{service}"),
            Self::Workload(workload) => write!(f, "workload {workload}"),
        }
    }
}

impl HeldCertificate {
    /// Who has the key in software; None: it is in the TPM.
    #[must_use]
    pub fn holder(&self) -> Option<Holder> {
        let service = self.service.clone().map(Holder::Service);
        service.or_else(|| self.workload.clone().map(Holder::Workload))
    }
}

/// The certificates of one zone, or of one holder's software keys in it, that were issued to a device and have not ended.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct HeldCertificates {
    /// Oldest first.
    pub certificates: Vec<HeldCertificate>,
}

impl Record for HeldCertificates {
    const VERSION: u32 = 2;
    const KIND: &'static str = "held certificates";

    fn upgrade(from: u32, data: Value) -> Option<Value> {
        long_digests(from, data)
    }
}

/// What is known of a device besides what it proves, by name of the property.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Inventory {
    /// At most [`MAX_INVENTORY`] values.
    pub values: BTreeMap<String, InventoryValue>,
}

impl Record for Inventory {
    const VERSION: u32 = 1;
    const KIND: &'static str = "inventory";
}

/// What an administrator decided about a device. Trust is not stored here: it is the last
/// attestation's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Admission {
    /// May attest.
    Admitted,
    /// Retired for good.
    Retired,
}

/// What a device proves itself with. Only an administrator's act makes it another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Prover {
    /// A TPM: the device's AK is in it.
    #[default]
    Tpm,
    /// A key in software, kept where a TPM's AK is: SubjectPublicKeyInfo, and the digest of it as its name.
    Key(KeyLine),
}

/// The keys of a device without a TPM, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct KeyLine {
    /// How many keys came before the current one since it was admitted last.
    pub generation: u64,
    /// Plant epoch in which the current one was accepted. Not known of older records.
    #[serde(default)]
    pub epoch: u64,
    /// SHA-256 of the one before it, and of the first of all: whoever uses them needs no ticket to be found out. Not known
    /// of older records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub former: Option<Digest>,
    /// See `former`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<Digest>,
    /// When all its exchanges would be paid for, if it came at the pace that is allowed for long.
    #[serde(default)]
    pub paid_until: UnixTime,
}

impl Prover {
    /// Whether it is a TPM, as of most devices.
    #[must_use]
    pub const fn is_tpm(&self) -> bool {
        matches!(self, Self::Tpm)
    }
}

/// A device of the plant. Its name belongs to one EK.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Device {
    /// Its name.
    pub name: DeviceName,
    /// Its zones, in order.
    pub zones: Vec<ZoneName>,
    /// Digest of its EK; without a TPM that of its IDevID
    /// ([`box_digest`](policy::evidence::devid::DevIdCertificate::box_digest)), or [`no_ek`].
    #[serde(with = "short")]
    pub ek: Digest,
    /// What it proves itself with.
    #[serde(default, skip_serializing_if = "Prover::is_tpm")]
    pub prover: Prover,
    /// The attestation key, once it was activated.
    pub ak: Option<BoundAk>,
    /// May it attest at all.
    pub admission: Admission,
    /// Who or what admitted it.
    pub admitted_by: String,
    /// When.
    pub admitted_at: UnixTime,
    /// Attestations that were committed; a challenge is used once because this rises.
    pub counter: u64,
    /// Services it offers: name and port.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub services: BTreeMap<String, u16>,
    /// Sequence of the trust set that it held at its last attestation.
    #[serde(default)]
    pub trust_sequence: u64,
    /// Raised by an administrator's "attest now".
    pub asked: u64,
    /// What `asked` was at the last attestation: while it is less, the device is told.
    pub answered: u64,
    /// Set when counters of the TPM may have gone back for a known reason: the next attestation sets
    /// them anew.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub clock_excused: bool,
    /// Until then one fall of the TPM's reset count is the Clear that an administrator announced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clear_expected: Option<UnixTime>,
    /// The zone that it leaves for another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaving: Option<Leaving>,
    /// IP addresses that its certificates may name, by zone.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub addresses: BTreeMap<ZoneName, BTreeSet<IpAddr>>,
}

/// Whose device it is, and who let it in.
#[derive(Debug)]
pub struct Admitted {
    /// Its name.
    pub name: DeviceName,
    /// Digest of its EK; [`no_ek`] without a TPM.
    pub ek: Digest,
    /// What it is to prove itself with.
    pub prover: Prover,
    /// Its zones.
    pub zones: Vec<ZoneName>,
    /// Who or what admitted it.
    pub by: String,
    /// When.
    pub at: UnixTime,
}

impl Device {
    /// A device that was just admitted, and did not prove itself yet.
    #[must_use]
    pub fn new(admitted: Admitted) -> Self {
        let Admitted { name, ek, prover, zones, by, at } = admitted;
        Self {
            name,
            zones,
            ek,
            prover,
            ak: None,
            admission: Admission::Admitted,
            admitted_by: by,
            admitted_at: at,
            counter: 0,
            services: BTreeMap::new(),
            trust_sequence: 0,
            asked: 0,
            answered: 0,
            clock_excused: false,
            clear_expected: None,
            leaving: None,
            addresses: BTreeMap::new(),
        }
    }

    /// Its keys, if it has no TPM.
    #[must_use]
    pub const fn key_line(&self) -> Option<KeyLine> {
        match self.prover {
            Prover::Tpm => None,
            Prover::Key(line) => Some(line),
        }
    }

    /// The turn of its current key, if it has no TPM.
    #[must_use]
    pub fn turn(&self) -> Option<Turn> {
        let KeyLine { epoch, generation, .. } = self.key_line()?;
        Some(Turn { epoch, line: self.admitted_at, generation })
    }

    /// Whether the key with this digest is the one that it proves itself with now.
    #[must_use]
    pub fn has_key(&self, key: Digest) -> bool {
        self.ak.as_ref().is_some_and(|ak| *ak.name.0 == key.0)
    }
}

impl Device {
    /// Ends a move that is under way: the device is out of the zone that it was leaving, arrived or not. Who lets it in
    /// again puts it where it was to be.
    pub fn end_move(&mut self) {
        if let Some(leaving) = self.leaving.take() {
            self.zones.retain(|zone| *zone != leaving.from);
            self.addresses.remove(&leaving.from);
        }
    }
}

/// For how many seconds a device that moves gets new certificates of the zone that it leaves: within a week somebody
/// has seen that the new zone does not take it, and moves it back or mends it.
const MOST_MOVING: u64 = 7 * 86_400;

/// A move that is under way: the device is in both zones until it says that it delivered the certificates of the new one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaving {
    /// The zone that it leaves.
    pub from: ZoneName,
    /// The zone that it goes to.
    pub to: ZoneName,
    /// Since when.
    pub since: UnixTime,
}

impl Leaving {
    /// The last moment at which the device gets new certificates of the zone that it leaves.
    #[must_use]
    pub const fn due(&self) -> UnixTime {
        self.since.plus(MOST_MOVING)
    }
}

impl Record for Device {
    const VERSION: u32 = 2;
    const KIND: &'static str = "device";

    fn upgrade(from: u32, data: Value) -> Option<Value> {
        long_digests(from, data)
    }
}

/// What was decided about an attestation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decision {
    /// Every zone trusts it.
    Trusted,
    /// A zone in observe would have refused it.
    WouldRefuse,
    /// An enforcing zone refused it.
    Refused,
    /// It did not answer "attest now" in time.
    Silent,
}

impl Decision {
    /// The decision as commands show it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Trusted => "trusted",
            Self::WouldRefuse => "would-refuse",
            Self::Refused => "refused",
            Self::Silent => "silent",
        }
    }
}

/// The last verified attestation of a device; the full result and the evidence are blobs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Attested {
    /// When.
    pub at: UnixTime,
    /// What was decided.
    pub decision: Decision,
    /// Verdict of the appraisal, for lists.
    pub verdict: String,
    /// The release that matched, or the closest.
    pub release: Option<String>,
    /// Blob of the appraisal results, JSON.
    #[serde(with = "short")]
    pub result: Digest,
    /// Blob of the evidence, as `CompleteRequest`; without the logs if `logs` names them.
    #[serde(with = "short")]
    pub evidence: Digest,
    /// Blobs of its logs, which devices that boot alike share. Records of older brokers have them in `evidence`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logs: Option<StoredLogs>,
    /// Digest of everything that its appraisal depended on besides golden values, zone and time: devices
    /// with the same one are appraised alike. Not known of older records.
    #[serde(default, with = "short::option", skip_serializing_if = "Option::is_none")]
    pub basis: Option<Digest>,
    /// Names what vouched for TPMs then: another broker configuration may make something else of the same evidence.
    /// Not known of older records.
    #[serde(default, with = "short::option", skip_serializing_if = "Option::is_none")]
    pub vouched: Option<Digest>,
    /// Revision of the golden values that it was appraised under.
    pub golden: u64,
    /// TPM reset counter.
    pub reset_count: u32,
    /// TPM restart counter.
    pub restart_count: u32,
    /// TPM clock, ms.
    pub clock: u64,
    /// Whether the TPM says that its clock never showed more: false after a power cut, which is no fault
    ///. Not known of older records.
    #[serde(default)]
    pub clock_safe: Option<bool>,
    /// Since then the TPM came with a clock that does not follow this one, and that is on record.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub clone_alarm: bool,
    /// TPM firmware version.
    pub firmware_version: u64,
    /// The releases that the quote proved it to run, one for each product of its zones at most. Not known of
    /// older records.
    #[serde(default)]
    pub running: Option<Vec<ReleaseId>>,
    /// Hooks of its attestor that it said fail.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub failing_hooks: BTreeSet<String>,
    /// Workloads on it that one program may be.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub two_sided: BTreeSet<TwoSided>,
    /// Why the certificates that it earned ended before the next attestation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<String>,
}

impl Attested {
    /// The releases that the device proved to run.
    #[must_use]
    pub fn running(&self) -> Vec<ReleaseId> {
        match (&self.running, self.decision) {
            (Some(running), _) => running.clone(),
            // Of an older record the release is the one that matched only if it was trusted.
            (None, Decision::Trusted) => {
                self.release.iter().filter_map(|release| release.parse().ok()).collect()
            }
            (None, Decision::WouldRefuse | Decision::Refused | Decision::Silent) => Vec::new(),
        }
    }
}

impl Record for Attested {
    const VERSION: u32 = 2;
    const KIND: &'static str = "attestation";

    fn upgrade(from: u32, data: Value) -> Option<Value> {
        long_digests(from, data)
    }
}

/// Blobs of the logs of one attestation; none for a log that was not sent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredLogs {
    /// The firmware's.
    #[serde(default, with = "short::option", skip_serializing_if = "Option::is_none")]
    pub firmware: Option<Digest>,
    /// systemd's.
    #[serde(default, with = "short::option", skip_serializing_if = "Option::is_none")]
    pub userspace: Option<Digest>,
    /// The attestor's, of images.
    #[serde(default, with = "short::option", skip_serializing_if = "Option::is_none")]
    pub images: Option<Digest>,
    /// The full chunks of the IMA list; what follows them is with the evidence.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ima: Vec<Digest>,
}

impl StoredLogs {
    /// Every blob of them.
    pub fn blobs(&self) -> impl Iterator<Item = Digest> + '_ {
        [self.firmware, self.userspace, self.images].into_iter().flatten().chain(self.ima.iter().copied())
    }
}

/// Who stopped a device, and why.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Quarantine {
    /// When.
    pub at: UnixTime,
    /// Administrator.
    pub by: String,
    /// For people.
    pub reason: String,
    /// The clone alarm that a person looked at before somebody stopped the device again: it is in force once more when that
    /// stop ends, since only a token ends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beneath: Option<Box<Quarantine>>,
}

/// Who stops a device that was copied.
pub const BROKER: &str = "broker";

impl Quarantine {
    /// Whether two copies of the device are about: the broker found it out.
    #[must_use]
    pub fn is_clone_alarm(&self) -> bool {
        self.by == BROKER
    }
}

/// A TPM. Quarantine and retirement are held here, so they outlive the device record.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Tpm {
    /// The device it belongs to.
    pub device: Option<DeviceName>,
    /// Registered by digest by an administrator, not learned from the enrollment it admits.
    pub registered: bool,
    /// Set while it is quarantined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantine: Option<Quarantine>,
    /// Barred for good: its mainboard was replaced, or the device retired.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retired: bool,
    /// `TPM_PT_MANUFACTURER` by the first EK certificate that held: it stays known when the device sends
    /// none. Not known of older records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manufacturer: Option<[u8; 4]>,
    /// Its further EKs, as its device named them: each is certified. At most [`MAX_OTHER_EKS`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_eks: Vec<Digest>,
}

impl Tpm {
    /// Whether somebody stopped it: quarantined, retired or replaced.
    #[must_use]
    pub const fn is_barred(&self) -> bool {
        self.retired || self.quarantine.is_some()
    }

    /// Whose TPM it is, if an EK certificate ever said so.
    #[must_use]
    pub fn manufacturer(&self) -> Option<Manufacturer> {
        self.manufacturer.map(Manufacturer)
    }
}

impl Record for Tpm {
    const VERSION: u32 = 1;
    const KIND: &'static str = "TPM";
}

/// A TPM that proved itself and waits for an administrator.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Pending {
    /// Digest of its EK.
    pub ek: Digest,
    /// The name it asks for.
    pub name: Option<DeviceName>,
    /// The zones it asks for.
    pub zones: Vec<ZoneName>,
    /// What its TPM is, for people.
    pub tpm: String,
    /// When it first asked.
    pub since: UnixTime,
}

impl Record for Pending {
    const VERSION: u32 = 1;
    const KIND: &'static str = "pending device";
}

/// A one-time join token. The proof is an HMAC under the secret, so the secret itself is needed; it is
/// stored wrapped, never hashed and never in clear.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Token {
    /// The secret under the KEK.
    pub wrapped_secret: Bytes,
    /// Zones it admits to.
    pub zones: Vec<ZoneName>,
    /// Only this TPM may use it.
    pub ek: Option<Digest>,
    /// Name that the device gets.
    pub device: Option<DeviceName>,
    /// When it ends.
    pub expires: UnixTime,
    /// Who made it.
    pub by: String,
    /// That person as an administrator, and who approved it, if two were needed. Not known of older records.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub people: Vec<Person>,
    /// Plant epoch it was made in: a restore voids it.
    pub epoch: u64,
    /// When it was made.
    #[serde(default)]
    pub made: UnixTime,
    /// It is for a device without a TPM, and for no other.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub without_tpm: bool,
}

impl Token {
    /// Everybody who stands for it, who asked for it first.
    #[must_use]
    pub fn people(&self) -> Vec<Person> {
        person::people(&self.people, &self.by)
    }
}

impl Record for Token {
    const VERSION: u32 = 1;
    const KIND: &'static str = "join token";
}

/// Which EK an AK was activated under: all EKs of a TPM share the AK, and the IDevID that is in it. Under which one the
/// TPM is known that named another, too.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AkOwner {
    /// Digest of the EK.
    #[serde(with = "short")]
    pub ek: Digest,
}

impl Record for AkOwner {
    const VERSION: u32 = 2;
    const KIND: &'static str = "attestation key";

    fn upgrade(from: u32, data: Value) -> Option<Value> {
        long_digests(from, data)
    }
}

/// Whose a certified key is: a key is never certified for two zones, roles or devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertifiedKeyOwner {
    /// The device.
    pub device: DeviceName,
    /// The zone.
    pub zone: ZoneName,
    /// The role.
    pub role: Role,
    /// When the certificate of a key in software ends, for which alone it was made: the key comes no more. None of a key
    /// in a TPM, which is certified again and again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<UnixTime>,
}

impl Record for CertifiedKeyOwner {
    const VERSION: u32 = 1;
    const KIND: &'static str = "certified key";
}

/// Data of the first version, which wrote every digest in its long form: it is read, too.
fn long_digests(from: u32, data: Value) -> Option<Value> {
    (from == 1).then_some(data)
}

/// Key of an AK, by its Name.
#[must_use]
pub fn ak_key(name: &[u8]) -> String {
    format!("{AK}{}", Digest::of(name).hex())
}

/// Key of the [owner](AkOwner) of an EK that a device named besides its own: like its AK, it tells a TPM under all its EKs.
#[must_use]
pub fn other_ek_key(ek: &Digest) -> String {
    format!("{AK}{}", Digest::of_parts(&[b"touchstone/v1/other-ek ", &ek.0]).hex())
}

/// Key of a device.
#[must_use]
pub fn device_key(name: &DeviceName) -> String {
    format!("{DEVICE}{name}")
}

/// Key of a device's last attestation.
#[must_use]
pub fn attested_key(name: &DeviceName) -> String {
    format!("{ATTESTED}{name}")
}

/// Prefix of the certificates that a device holds, by zone.
#[must_use]
pub fn held_prefix(name: &DeviceName) -> String {
    format!("{HELD}{name}/")
}

/// Key of the certificates that a device holds in a zone.
#[must_use]
pub fn held_key(name: &DeviceName, zone: &ZoneName) -> String {
    format!("{HELD}{name}/{zone}")
}

/// Key of the certificates for the software keys of one holder on a device in a zone.
#[must_use]
pub fn held_outside_key(name: &DeviceName, zone: &ZoneName, holder: &Holder) -> String {
    match holder {
        Holder::Service(service) => format!("{HELD}{name}/{zone}/{service}"),
        Holder::Workload(workload) => format!("{HELD}{name}/{zone}/{WORKLOAD}{workload}"),
    }
}

/// The zone, and the holder if it is one of software keys, of a record of certificates, from what follows
/// [`held_prefix`] in its key.
#[must_use]
pub fn held_place(rest: &str) -> Option<(ZoneName, Option<Holder>)> {
    let Some((zone, holder)) = rest.split_once('/') else { return Some((rest.parse().ok()?, None)) };
    let holder = match holder.strip_prefix(WORKLOAD) {
        Some(workload) => Holder::Workload(workload.parse().ok()?),
        None => Holder::Service(holder.parse().ok()?),
    };
    Some((zone.parse().ok()?, Some(holder)))
}

/// Key of a device's inventory.
#[must_use]
pub fn inventory_key(name: &DeviceName) -> String {
    format!("{INVENTORY}{name}")
}

/// What stands where the EK of a device without a TPM would: no TPM has it, because no SubjectPublicKeyInfo begins so.
#[must_use]
pub fn no_ek(name: &DeviceName) -> Digest {
    Digest::of_parts(&[b"touchstone/v1/no-ek ", name.as_str().as_bytes()])
}

/// Key of a TPM.
#[must_use]
pub fn ek_key(ek: &Digest) -> String {
    format!("{EK}{}", ek.hex())
}

/// Key of a pending device.
#[must_use]
pub fn pending_key(ek: &Digest) -> String {
    format!("{PENDING}{}", ek.hex())
}

/// Key of a token.
#[must_use]
pub fn token_key(id: &str) -> String {
    format!("{TOKEN}{id}")
}

/// Key of a certified key.
#[must_use]
pub fn certified_key(spki: &Digest) -> String {
    format!("{KEY}{}", spki.hex())
}
