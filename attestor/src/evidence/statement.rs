//! The statement: what the device says of itself, in the bytes that quote and Certify bind.

use std::collections::BTreeMap;

use policy::digest::Digest;
use policy::id::{DeviceName, WorkloadName, ZoneName};
use policy::time::UnixTime;
use policy::tpm::alg::HashAlg;
use policy::tpm::public::Name;
use prost::Message;
use proto::v1;

use super::challenge::VERSION;
use super::{Challenge, Prover, RequestedKey};
use crate::config::{Service, Vouched};
use crate::durable;
use crate::join_token::JoinToken;

/// Where Linux says which boot this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// Longest boot id in bytes: a UUID and a line end.
const MAX_BOOT_ID: u64 = 64;

/// Who states, and what.
#[derive(Debug)]
pub struct Subject {
    /// Why.
    pub purpose: v1::Purpose,
    /// The name it has, or asks for.
    pub device: Option<DeviceName>,
    /// The zones it has, or asks for.
    pub zones: Vec<ZoneName>,
    /// The services it offers.
    pub services: Vec<Service>,
    /// Machines behind it that it vouches for.
    pub vouches: Vec<Vouched>,
    /// Declared properties.
    pub inventory: BTreeMap<String, String>,
    /// Requests for software keys.
    pub software_keys: Vec<v1::SoftwareKey>,
    /// What its health command said.
    pub health: Option<v1::Health>,
    /// Its hooks that fail, by name.
    pub failing_hooks: Vec<String>,
    /// Its workloads that one program may be, as client and server.
    pub two_sided: Vec<(WorkloadName, WorkloadName)>,
    /// A join token, at enrollment.
    pub token: Option<JoinToken>,
    /// Serial number of a certificate it holds, or empty.
    pub held_serial: Vec<u8>,
    /// Serial numbers of the certificates that its software has.
    pub delivered: Vec<Vec<u8>>,
    /// Sequence of the trust set that it holds.
    pub trust_sequence: u64,
    /// SHA-256 of the pinned plant root's key.
    pub pinned_root: Digest,
    /// Its clock.
    pub now: UnixTime,
}

/// What the device proves itself with, as it states it.
#[derive(Debug, Default)]
pub(super) struct Proving {
    /// Name of the EK; empty without a TPM.
    pub(super) ek_name: Vec<u8>,
    /// Name of the AK, or digest of the key that is expected.
    pub(super) ak_name: Vec<u8>,
    /// The keys that ask for certificates.
    pub(super) identity_keys: Vec<v1::StatedKey>,
    /// Certificates of the TPM's other EKs.
    pub(super) other_ek_certificates: Vec<Vec<u8>>,
    /// Digests of the device's key and of the next; empty with a TPM.
    pub(super) device_keys: [Vec<u8>; 2],
}

impl Proving {
    /// By a TPM.
    pub(super) fn by_tpm(prover: &Prover, keys: &[RequestedKey]) -> Self {
        Self {
            ek_name: prover.endorsement_key_name(),
            ak_name: prover.attestation_key_name(),
            identity_keys: keys.iter().map(stated_key).collect(),
            other_ek_certificates: prover.other_certificates().map(<[u8]>::to_vec).collect(),
            device_keys: Default::default(),
        }
    }
}

/// The logs that are sent.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Logs<'a> {
    pub(super) firmware: &'a [u8],
    pub(super) userspace: &'a [u8],
    pub(super) images: &'a [u8],
}

impl Logs<'_> {
    /// An empty firmware log is stated as well: that there is none is part of the evidence. Another log is
    /// stated where it is sent.
    fn stated(self) -> Vec<v1::StatedLog> {
        let others = [(v1::LogKind::Userspace, self.userspace), (v1::LogKind::Images, self.images)];
        let sent = others.into_iter().filter(|(_, log)| !log.is_empty());
        std::iter::once((v1::LogKind::Firmware, self.firmware))
            .chain(sent)
            .map(|(kind, log)| stated_log(kind, log))
            .collect()
    }
}

/// Encodes the statement, once: these bytes are hashed and sent.
pub(super) fn encode(proving: Proving, challenge: &Challenge, subject: &Subject, logs: Logs<'_>) -> Vec<u8> {
    let Proving { ek_name, ak_name, identity_keys, other_ek_certificates, device_keys } = proving;
    let [device_key, next_key] = device_keys;
    let prove = |token: &JoinToken| token.prove(challenge.sealed(), &ek_name, &ak_name);
    let statement = v1::Statement {
        version: VERSION,
        versions_offered: vec![VERSION],
        purpose: subject.purpose.into(),
        device: subject.device.as_ref().map(ToString::to_string).unwrap_or_default(),
        zones: subject.zones.iter().map(ToString::to_string).collect(),
        identity_keys,
        pcr_bank: challenge.bank_id(),
        pcr_mask: challenge.mask(),
        logs: logs.stated(),
        boot_id: boot_id(),
        claims: subject.inventory.iter().map(claim).collect(),
        services: subject.services.iter().map(service).collect(),
        join_token_proof: subject.token.as_ref().map(prove).unwrap_or_default(),
        join_token_id: subject.token.as_ref().map(|token| token.id().to_owned()).unwrap_or_default(),
        held_serial: subject.held_serial.clone(),
        pinned_root: subject.pinned_root.0.to_vec(),
        device_time: subject.now.0,
        software_keys: subject.software_keys.iter().map(stated_software_key).collect(),
        other_ek_certificates,
        health: subject.health.clone(),
        failing_hooks: subject.failing_hooks.clone(),
        two_sided: subject.two_sided.iter().map(two_sided).collect(),
        trust_sequence: subject.trust_sequence,
        vouches: subject.vouches.iter().map(vouched).collect(),
        delivered: Some(v1::Delivered { serials: subject.delivered.clone() }),
        ek_name,
        ak_name,
        device_key,
        next_key,
    };
    statement.encode_to_vec()
}

fn stated_key(key: &RequestedKey) -> v1::StatedKey {
    v1::StatedKey {
        zone: key.seat.zone.to_string(),
        role: key.seat.role.to_wire().into(),
        // The identity key template says SHA-256 (tpm/template.rs).
        name: Name::of(HashAlg::Sha256, key.key.public_area()).to_bytes(),
        csr_digest: Digest::of(&key.request).0.to_vec(),
    }
}

fn stated_software_key(key: &v1::SoftwareKey) -> v1::StatedSoftwareKey {
    let csr_digest = Digest::of(&key.csr).0.to_vec();
    let (zone, service, workload) = (key.zone.clone(), key.service.clone(), key.workload.clone());
    v1::StatedSoftwareKey { zone, service, workload, role: key.role, csr_digest }
}

fn stated_log(kind: v1::LogKind, log: &[u8]) -> v1::StatedLog {
    let digest = Digest::of(log).0.to_vec();
    // The log's bound (policy::budget) is far below the largest length.
    let length = u64::try_from(log.len()).unwrap_or(u64::MAX);
    v1::StatedLog { kind: kind.into(), digest, offset: 0, length }
}

fn claim((name, value): (&String, &String)) -> v1::Claim {
    v1::Claim { name: name.clone(), value: value.clone() }
}

fn vouched(machine: &Vouched) -> v1::VouchedMachine {
    let Vouched { name, kind, address, serial } = machine.clone();
    v1::VouchedMachine { name: name.to_string(), kind, address, serial }
}

fn two_sided((client, server): &(WorkloadName, WorkloadName)) -> v1::TwoSided {
    v1::TwoSided { client: client.to_string(), server: server.to_string() }
}

fn service(service: &Service) -> v1::OfferedService {
    v1::OfferedService { name: service.name.to_string(), port: service.port.into() }
}

/// Empty where the kernel does not say: the broker then has the TPM's reset counter alone.
pub(crate) fn boot_id() -> String {
    let read = durable::read_bounded(BOOT_ID.as_ref(), MAX_BOOT_ID).unwrap_or_default();
    String::from_utf8(read).unwrap_or_default().trim().to_owned()
}
