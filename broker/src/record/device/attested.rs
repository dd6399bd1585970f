//! The last attestation of a device, and what was decided about it.

use std::collections::{BTreeMap, BTreeSet};

use policy::digest::Digest;
use policy::id::{DeviceName, ZoneName};
use policy::reference::release::ReleaseId;
use policy::time::UnixTime;
use policy::zone::{OnSilence, TwoSided};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::record::{Bytes, short};
use crate::store::record::Record;

/// Prefix of the last attestation of each device.
pub const ATTESTED: &str = "attested/";

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
    /// It did not answer "attest now" in time, or was silent in a zone that refuses that.
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

/// The last verified attestation of a device; the full result and the evidence are a blob.
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
    /// Blob of the appraisal results: that of the evidence, where they follow it. Records of older brokers have one of JSON.
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
    /// Digest of what the zones found, the time apart. A proof with this one and the same basis says nothing new: then
    /// `evidence` is that of the first which said so. Not known of older records.
    #[serde(default, with = "short::option", skip_serializing_if = "Option::is_none")]
    pub found: Option<Digest>,
    /// Qualifying data of the quote. Not known of older records, whose evidence has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<Bytes>,
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
    /// What zones did about its silence since.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub silent: BTreeMap<ZoneName, OnSilence>,
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
        short::long_digests(from, data)
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

/// Key of a device's last attestation.
#[must_use]
pub fn attested_key(name: &DeviceName) -> String {
    format!("{ATTESTED}{name}")
}
