//! The device's statement: checked against what came with it and what was sealed, field by field.
//!
//! Quote and Certify sign its digest, so whatever passes here is what the TPM vouched for.

use std::collections::{BTreeMap, BTreeSet};

use policy::appraisal::Prover;
use policy::budget::MAX_SOFTWARE_KEYS;
use policy::digest::Digest;
use policy::id::{DeviceName, ServiceName, ZoneName};
use policy::zone::{Role, TwoSided};
use prost::Message;
use proto::v1;

use super::challenge::{Challenge, Purpose, VERSION};
use super::{Refusal, role_from_wire, vouched};
use crate::record::device::{MAX_INVENTORY, MAX_SERVICES, MAX_VALUE, MAX_ZONES};
use crate::record::vouched::About;

/// Largest statement: a few certificates of other EKs and a page of claims.
pub(super) const MAX_STATEMENT: usize = 32 * 1024;
/// Most certificates that a device says it delivered: one of each role in each of its zones.
const MAX_DELIVERED: usize = 2 * MAX_ZONES;

/// Most hooks that a device names as failing: one tells a person where to look.
const MAX_FAILING_HOOKS: usize = 8;
/// Longest name of a hook in bytes.
const MAX_HOOK_NAME: usize = 40;
/// Most pairs of workloads that one program may be: of as many as have software keys, half open and half serve.
const MAX_TWO_SIDED: usize = MAX_SOFTWARE_KEYS * MAX_SOFTWARE_KEYS / 4;

/// What the device says of itself, well formed and agreeing with the request it came in.
#[derive(Debug)]
pub struct BoundStatement {
    /// The name it has or asks for.
    pub device: Option<DeviceName>,
    /// The zones it asks for.
    pub zones: Vec<ZoneName>,
    /// Declared properties.
    pub claims: BTreeMap<String, String>,
    /// Services it offers.
    pub services: BTreeMap<String, u16>,
    /// Sequence of the trust set that it holds; 0 if it holds none.
    pub trust_sequence: u64,
    /// Id and proof of a join token.
    pub token: Option<TokenProof>,
    /// Its software keys, by the digest of their requests.
    pub software_keys: Vec<v1::StatedSoftwareKey>,
    /// Further EK certificates of the same TPM, DER.
    pub other_ek_certificates: Vec<Vec<u8>>,
    /// The device's own clock.
    pub device_time: u64,
    /// What its health command said; none: it has none.
    pub health: Option<StatedHealth>,
    /// Serials of the certificates that its software has, hex; none: it does not say.
    pub delivered: Option<BTreeSet<String>>,
    /// Digests of the keys of a key proof; empty with a TPM.
    pub device_keys: [Vec<u8>; 2],
    /// Machines behind it that it vouches for.
    pub vouches: BTreeMap<DeviceName, About>,
    /// Its hooks that fail, by name; older attestors name none.
    pub failing_hooks: BTreeSet<String>,
    /// Its workloads that one program may be; older attestors name none.
    pub two_sided: BTreeSet<TwoSided>,
}

/// The result of a device's health command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatedHealth {
    /// Its exit code; none: it ended without one, or not at all.
    pub exit_code: Option<u8>,
    /// It still runs: this is the result of before, and counted already.
    pub unfinished: bool,
}

/// A join token's public id and the HMAC that proves its secret.
#[derive(Debug)]
pub struct TokenProof {
    /// Its id, hex.
    pub id: String,
    /// The HMAC.
    pub proof: Vec<u8>,
}

impl BoundStatement {
    /// Reads the statement of `request` and compares it with request and challenge.
    pub fn bind(request: &v1::CompleteRequest, challenge: &Challenge) -> Result<Self, Refusal> {
        if request.statement.len() > MAX_STATEMENT {
            return Err(malformed(format!(
                "it has {} bytes, at most {MAX_STATEMENT}",
                request.statement.len()
            )));
        }
        let stated = v1::Statement::decode(request.statement.as_slice())
            .map_err(|_| malformed("it is no protobuf message of its type".to_owned()))?;
        if stated.version != VERSION {
            return Err(Refusal::Version(vec![stated.version]));
        }
        agree_with_challenge(&stated, challenge)?;
        agree_with_keys(&stated, request, challenge.prover)?;
        agree_with_logs(&stated, request)?;
        let device = optional_name(&stated.device)?;
        if challenge.device.is_some()
            && device.is_some()
            && device != challenge.device
            && challenge.purpose != Purpose::Enroll
        {
            return Err(mismatch("device"));
        }
        Ok(Self {
            device,
            zones: zones(&stated.zones)?,
            claims: claims(&stated.claims)?,
            services: services(&stated.services)?,
            trust_sequence: stated.trust_sequence,
            token: token(&stated),
            software_keys: stated.software_keys,
            other_ek_certificates: stated.other_ek_certificates,
            device_time: stated.device_time,
            health: stated.health.as_ref().map(health).transpose()?,
            delivered: stated.delivered.as_ref().map(delivered).transpose()?,
            device_keys: [stated.device_key, stated.next_key],
            vouches: vouched::read(&stated.vouches)?,
            failing_hooks: failing_hooks(&stated.failing_hooks)?,
            two_sided: two_sided(&stated.two_sided)?,
        })
    }
}

fn malformed(why: String) -> Refusal {
    Refusal::malformed(format!("statement: {why}"))
}

fn mismatch(field: &str) -> Refusal {
    Refusal::EvidenceInvalid(format!("the statement's {field} is not the one of this session"))
}

fn agree_with_challenge(stated: &v1::Statement, challenge: &Challenge) -> Result<(), Refusal> {
    let purpose = match challenge.purpose {
        Purpose::Enroll => v1::Purpose::Enroll,
        Purpose::Renew => v1::Purpose::Renew,
        Purpose::OnDemand => v1::Purpose::OnDemand,
    };
    let [a, b, c] = challenge.selection().bitmap();
    let mask = u32::from_le_bytes([a, b, c, 0]);
    let bank = u32::from(challenge.selection().bank.id());
    if stated.purpose() != purpose {
        return Err(mismatch("purpose"));
    }
    if stated.ak_name != challenge.ak_name.0 {
        return Err(mismatch("AK Name"));
    }
    if challenge.purpose == Purpose::Enroll && stated.ek_name != challenge.ek_name.0 {
        return Err(mismatch("EK Name"));
    }
    if (stated.pcr_bank, stated.pcr_mask) != (bank, mask) {
        return Err(mismatch("PCR selection"));
    }
    Ok(())
}

/// Every key of the request is stated, in the same order, with the digest of its CSR. Only one in a TPM has a Name.
fn agree_with_keys(
    stated: &v1::Statement,
    request: &v1::CompleteRequest,
    prover: Prover,
) -> Result<(), Refusal> {
    if stated.identity_keys.len() != request.identity_keys.len() {
        return Err(mismatch("number of identity keys"));
    }
    for (said, sent) in stated.identity_keys.iter().zip(&request.identity_keys) {
        let same = said.zone == sent.zone
            && said.role == sent.role
            && said.csr_digest == Digest::of(&sent.csr).0
            && match prover {
                Prover::Tpm => sent.public.get(2..).is_some_and(|public| said.name == name_of(public)),
                Prover::Key => said.name.is_empty() && sent.public.is_empty(),
            };
        if !same {
            return Err(mismatch("identity key"));
        }
    }
    Ok(())
}

/// The Name of a public area with nameAlg SHA-256, the only one our keys have.
fn name_of(public: &[u8]) -> Vec<u8> {
    let mut name = vec![0x00, 0x0b];
    name.extend_from_slice(&Digest::of(public).0);
    name
}

/// Every log of the request, with those that were [left out](super::by_digest), is stated with its digest, offset and length, and no other. The firmware's
/// is always stated, the others where they are sent. IMA's is never: it is read after the quote, whose PCRs
/// bind it.
fn agree_with_logs(stated: &v1::Statement, request: &v1::CompleteRequest) -> Result<(), Refusal> {
    let linux = [(v1::LogKind::Userspace, &request.userspace_log), (v1::LogKind::Images, &request.image_log)];
    let sent = linux.into_iter().filter(|(_, log)| !log.is_empty());
    let logs: Vec<_> = std::iter::once((v1::LogKind::Firmware, &request.firmware_log)).chain(sent).collect();
    if stated.logs.len() != logs.len() {
        return Err(mismatch("list of logs"));
    }
    for (said, (kind, log)) in stated.logs.iter().zip(logs) {
        let length = u64::try_from(log.len()).unwrap_or(u64::MAX);
        let same = said.kind() == kind
            && said.digest == Digest::of(log).0
            && (said.offset, said.length) == (0, length);
        if !same {
            return Err(mismatch(log_name(kind)));
        }
    }
    Ok(())
}

const fn log_name(kind: v1::LogKind) -> &'static str {
    match kind {
        v1::LogKind::Firmware => "firmware log",
        v1::LogKind::Ima => "IMA log",
        v1::LogKind::Userspace => "userspace log",
        v1::LogKind::Images => "image log",
        v1::LogKind::Unspecified => "log",
    }
}

fn optional_name(text: &str) -> Result<Option<DeviceName>, Refusal> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|error: policy::id::NameError| malformed(error.to_string()))
}

fn zones(names: &[String]) -> Result<Vec<ZoneName>, Refusal> {
    if names.len() > MAX_ZONES {
        return Err(malformed(format!("it asks for {} zones, at most {MAX_ZONES}", names.len())));
    }
    names
        .iter()
        .map(|name| name.parse().map_err(|e: policy::id::NameError| malformed(e.to_string())))
        .collect()
}

fn claims(claims: &[v1::Claim]) -> Result<BTreeMap<String, String>, Refusal> {
    let short =
        |text: &str| !text.is_empty() && text.len() <= MAX_VALUE && !text.chars().any(char::is_control);
    if claims.len() > MAX_INVENTORY || !claims.iter().all(|claim| short(&claim.name) && short(&claim.value)) {
        return Err(malformed(format!(
            "at most {MAX_INVENTORY} claims of at most {MAX_VALUE} printable bytes are taken"
        )));
    }
    Ok(claims.iter().map(|claim| (claim.name.clone(), claim.value.clone())).collect())
}

fn services(services: &[v1::OfferedService]) -> Result<BTreeMap<String, u16>, Refusal> {
    if services.len() > MAX_SERVICES {
        return Err(malformed(format!("it offers {} services, at most {MAX_SERVICES}", services.len())));
    }
    services
        .iter()
        .map(|service| {
            let name: ServiceName =
                service.name.parse().map_err(|e: policy::id::NameError| malformed(e.to_string()))?;
            let port = u16::try_from(service.port)
                .map_err(|_| malformed(format!("service {name} has port {}", service.port)))?;
            Ok((name.to_string(), port))
        })
        .collect()
}

/// The fault is for the device's own log: only that there is one counts.
fn health(stated: &v1::Health) -> Result<StatedHealth, Refusal> {
    let code = u8::try_from(stated.exit_code)
        .map_err(|_| malformed(format!("a health command cannot end with {}", stated.exit_code)))?;
    let exit_code = stated.fault.is_empty().then_some(code);
    Ok(StatedHealth { exit_code, unfinished: stated.unfinished })
}

fn delivered(stated: &v1::Delivered) -> Result<BTreeSet<String>, Refusal> {
    // RFC 5280, section 4.1.2.2: a serial number has at most 20 bytes.
    let serials = &stated.serials;
    if serials.len() > MAX_DELIVERED || serials.iter().any(|serial| serial.len() > 20) {
        return Err(malformed(format!(
            "at most {MAX_DELIVERED} serials of delivered certificates are taken"
        )));
    }
    Ok(serials.iter().map(hex::encode).collect())
}

fn failing_hooks(names: &[String]) -> Result<BTreeSet<String>, Refusal> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let named = |name: &String| (1..=MAX_HOOK_NAME).contains(&name.len()) && name.chars().all(plain);
    match names.len() <= MAX_FAILING_HOOKS && names.iter().all(named) {
        true => Ok(names.iter().cloned().collect()),
        false => Err(malformed(format!(
            "at most {MAX_FAILING_HOOKS} failing hooks are taken, each of at most {MAX_HOOK_NAME} of a-z, 0-9 and -"
        ))),
    }
}

fn two_sided(pairs: &[v1::TwoSided]) -> Result<BTreeSet<TwoSided>, Refusal> {
    if pairs.len() > MAX_TWO_SIDED {
        return Err(malformed(format!(
            "at most {MAX_TWO_SIDED} pairs of workloads of one program are taken"
        )));
    }
    let name = |name: &String| name.parse().map_err(|e: policy::id::NameError| malformed(e.to_string()));
    let pair =
        |pair: &v1::TwoSided| Ok(TwoSided { client: name(&pair.client)?, server: name(&pair.server)? });
    pairs.iter().map(pair).collect()
}

fn token(stated: &v1::Statement) -> Option<TokenProof> {
    let id = stated.join_token_id.clone();
    let well_formed = (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_hexdigit());
    well_formed.then(|| TokenProof { id, proof: stated.join_token_proof.clone() })
}

/// The zone and role that a key on the wire is for.
pub(super) fn key_purpose(key: &v1::IdentityKey) -> Result<(ZoneName, Role), Refusal> {
    let zone = key.zone.parse().map_err(|e: policy::id::NameError| malformed(e.to_string()))?;
    let role =
        role_from_wire(key.role()).ok_or_else(|| malformed("an identity key has no role".to_owned()))?;
    Ok((zone, role))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failing_hooks_are_few_and_have_plain_names() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(failing_hooks(&[]).unwrap(), BTreeSet::new());
        let two = failing_hooks(&names(&["nginx", "safe-state"])).unwrap();
        assert_eq!(two.into_iter().collect::<Vec<_>>(), ["nginx", "safe-state"]);
        let long = "x".repeat(MAX_HOOK_NAME + 1);
        for bad in [names(&[""]), names(&["a b"]), names(&["\u{1b}[2J"]), names(&[&long]), names(&["a"; 9])] {
            let refused = failing_hooks(&bad).unwrap_err();
            assert!(format!("{refused:?}").contains("at most 8 failing hooks"), "{bad:?}: {refused:?}");
        }
    }

    #[test]
    fn programs_of_both_sides_are_few_and_have_names_of_workloads() {
        let pair = |client: &str, server: &str| v1::TwoSided { client: client.into(), server: server.into() };
        let one = two_sided(&[pair("historian", "hmi")]).unwrap();
        assert_eq!(one.into_iter().map(|pair| pair.server.to_string()).collect::<Vec<_>>(), ["hmi"]);
        let refused = two_sided(&[pair("a/b", "hmi")]).unwrap_err();
        assert!(format!("{refused:?}").contains("a/b"), "{refused:?}");
        let refused = two_sided(&vec![pair("a", "b"); MAX_TWO_SIDED + 1]).unwrap_err();
        assert!(format!("{refused:?}").contains("at most 4 pairs"), "{refused:?}");
    }

    fn stated(kind: v1::LogKind, log: &[u8]) -> v1::StatedLog {
        let length = log.len().try_into().unwrap();
        v1::StatedLog { kind: kind.into(), digest: Digest::of(log).0.to_vec(), offset: 0, length }
    }

    fn judge(logs: Vec<v1::StatedLog>) -> Result<(), String> {
        let request = v1::CompleteRequest {
            firmware_log: b"firmware".to_vec(),
            userspace_log: b"systemd".to_vec(),
            ..v1::CompleteRequest::default()
        };
        let stated = v1::Statement { logs, ..v1::Statement::default() };
        agree_with_logs(&stated, &request).map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn a3_every_log_that_is_sent_is_stated_and_no_other() {
        use v1::LogKind::{Firmware, Images, Userspace};
        let firmware = || stated(Firmware, b"firmware");
        assert_eq!(judge(vec![firmware(), stated(Userspace, b"systemd")]), Ok(()));
        let refused = |what: &str| Err(format!("the statement's {what} is not the one of this session"));
        assert_eq!(judge(vec![firmware()]), refused("list of logs"));
        assert_eq!(
            judge(vec![firmware(), stated(Userspace, b"systemd"), stated(Images, b"")]),
            refused("list of logs")
        );
        assert_eq!(judge(vec![firmware(), stated(Userspace, b"other")]), refused("userspace log"));
        assert_eq!(judge(vec![firmware(), stated(Images, b"systemd")]), refused("userspace log"));
        assert_eq!(judge(vec![stated(Userspace, b"systemd"), firmware()]), refused("firmware log"));
        let shifted = v1::StatedLog { offset: 1, ..stated(Userspace, b"systemd") };
        assert_eq!(judge(vec![firmware(), shifted]), refused("userspace log"));
        let ima = stated(v1::LogKind::Ima, b"");
        assert_eq!(judge(vec![firmware(), stated(Userspace, b"systemd"), ima]), refused("list of logs"));
    }
}
