//! What a release asks of Secure Boot, and what each difference is told as.

use policy::appraisal::claims::{Claim, ClaimValue};
use policy::appraisal::finding::{Finding, FindingKind};
use policy::appraisal::{Forecast, Verdict, forecast};
use policy::digest::Digest;
use policy::eventlog::tcg::EventLog;
use policy::evidence::HardwareProof;
use policy::evidence::recorded::RecordedEvidence;
use policy::evidence::secure_boot::{SecureBootState, told_by};
use policy::reference::hash_text::HashText;
use policy::reference::manifest::Manifest;
use policy::reference::state::ReleaseState::Active;
use policy::tpm::alg::{HashAlg, HashValue};

use crate::boot::{Boot, NOW, boot_rules, manifest, pcr, policy_of, reference};
use crate::recorded_boot::recorded;

const GLOBAL: &str = "61dfe48bca93d211aa0d00e098032b8c";
const SECURITY: &str = "cbb219d73a3d9645a3bcdad00e67656f";
const SHIM: &str = "50ab5d6046e00043abb63dd810dd8b23";
const X509: &str = "a159c0a5e494a74a87b5ab155c2bf072";
const OWNER: [u8; 16] = [0x77; 16];

/// What a machine has in PCR 7.
#[derive(Clone)]
struct Machine {
    secure_boot: u8,
    pk: Vec<u8>,
    kek: Vec<u8>,
    db: Vec<u8>,
    dbx: Vec<u8>,
    before: Vec<(u32, Vec<u8>)>,
    authorities: Vec<Vec<u8>>,
}

fn list(certificate: &[u8]) -> Vec<u8> {
    let mut out = hex::decode(X509).unwrap();
    for len in [28 + 16 + certificate.len(), 0, 16 + certificate.len()] {
        out.extend(u32::try_from(len).unwrap().to_le_bytes());
    }
    [&out[..], &OWNER, certificate].concat()
}

fn variable(guid: &str, name: &str, value: &[u8]) -> Vec<u8> {
    let mut out = hex::decode(guid).unwrap();
    out.extend(u64::try_from(name.len()).unwrap().to_le_bytes());
    out.extend(u64::try_from(value.len()).unwrap().to_le_bytes());
    out.extend(name.encode_utf16().flat_map(u16::to_le_bytes));
    [&out[..], value].concat()
}

fn of_db(certificate: &[u8]) -> Vec<u8> {
    variable(SECURITY, "db", &[&OWNER[..], certificate].concat())
}

impl Machine {
    fn new() -> Self {
        Self {
            secure_boot: 1,
            pk: list(b"platform"),
            kek: list(b"exchange"),
            db: [list(b"vendor"), list(b"other")].concat(),
            dbx: Vec::new(),
            before: Vec::new(),
            authorities: vec![of_db(b"vendor")],
        }
    }

    /// The state that its log tells.
    fn state(&self) -> SecureBootState {
        let mut log = Vec::new();
        let mut write = |kind: u32, data: &[u8]| {
            log.extend([7_u32.to_le_bytes(), kind.to_le_bytes()].concat());
            log.extend(HashAlg::Sha1.hash(&[data]).as_bytes());
            log.extend(u32::try_from(data.len()).unwrap().to_le_bytes());
            log.extend(data);
        };
        for (kind, data) in &self.before {
            write(*kind, data);
        }
        let keys = [(GLOBAL, "PK", &self.pk), (GLOBAL, "KEK", &self.kek), (SECURITY, "db", &self.db)];
        write(0x8000_0001, &variable(GLOBAL, "SecureBoot", &[self.secure_boot]));
        for (guid, name, value) in keys.into_iter().chain([(SECURITY, "dbx", &self.dbx)]) {
            write(0x8000_0001, &variable(guid, name, value));
        }
        write(4, &[0; 4]);
        for authority in &self.authorities {
            write(0x8000_00e0, authority);
        }
        told_by(&EventLog::parse(&log).unwrap(), HashAlg::Sha1).unwrap()
    }

    /// `[secure_boot]` of a release that lists these fields as the machine has them.
    fn section(&self, fields: &[&str]) -> String {
        let state = self.state();
        let mut text = "[secure_boot]\nenabled = true\n".to_owned();
        for field in fields {
            let digests: Vec<String> = match *field {
                "pk" => vec![state.pk().digest().hex()],
                "kek" => vec![state.kek().digest().hex()],
                "db" => vec![state.db().digest().hex()],
                "dbx" => vec![state.dbx().digest().hex()],
                _ => state.authorities().iter().map(|authority| authority.identity().hex()).collect(),
            };
            let quoted: Vec<String> = digests.iter().map(|digest| format!("\"{digest}\"")).collect();
            text += &format!("{field} = [{}]\n", quoted.join(","));
        }
        text
    }

    fn appraised(&self, release: &Manifest) -> Forecast {
        let (state, replayed) = (self.state(), Boot::of("k").replayed());
        let seen = replayed.measurements().with_secure_boot(&state);
        let policy = policy_of(&["edge-box"], policy::appraisal::policy::Mode::Enforce);
        forecast(&seen, &reference(&[(release.clone(), Active)]), &policy, NOW)
    }
}

const ALL: [&str; 5] = ["pk", "kek", "db", "dbx", "authorities"];

/// A release of the boot `k` that says of PCR 7 only this.
fn release(section: &str) -> Manifest {
    manifest("1.4.0", 7, &(Boot::of("k").values(&[0, 2]) + &boot_rules("k") + section))
}

/// A release of the boot `k` on the machine as it is.
fn of(machine: &Machine) -> Manifest {
    release(&machine.section(&ALL))
}

/// The only reason of a refusal.
#[expect(clippy::panic, reason = "the test has failed that has another number of reasons")]
fn reason(forecast: &Forecast) -> Finding {
    let [finding] = forecast.record().findings.as_slice() else { panic!("{:#?}", forecast.record()) };
    assert_eq!(forecast.record().verdict, Verdict::Contraindicated);
    assert_eq!(finding.pcr, Some(7));
    finding.clone()
}

fn claims(forecast: &Forecast) -> (ClaimValue, ClaimValue) {
    let claims = &forecast.record().claims;
    (claims.value(Claim::Executables), claims.value(Claim::Configuration))
}

fn text(digest: Digest) -> HashText {
    HashText(HashValue::new(HashAlg::Sha256, &digest.0).unwrap())
}

#[test]
fn a_whole_section_stands_for_pcr_7() {
    let machine = Machine::new();
    let forecast = machine.appraised(&of(&machine));
    assert_eq!(forecast.record().verdict, Verdict::Affirming, "{:#?}", forecast.record());
    assert_eq!(claims(&forecast), (ClaimValue::BOOT_APPROVED, ClaimValue::APPROVED));
    assert!(!forecast.record().not_appraised.contains(&7));
}

#[test]
fn a_section_with_fewer_lists_leaves_pcr_7_unconstrained() {
    let machine = Machine::new();
    for left_out in ALL {
        let fields: Vec<&str> = ALL.into_iter().filter(|field| *field != left_out).collect();
        let forecast = machine.appraised(&release(&machine.section(&fields)));
        assert_eq!(forecast.record().verdict, Verdict::Warning, "{left_out}");
        let [finding] = forecast.record().findings.as_slice() else { panic!("{left_out}") };
        assert_eq!((finding.kind, finding.pcr), (FindingKind::NotConstrained, Some(7)));
    }
}

#[test]
fn secure_boot_must_be_on() {
    let honest = Machine::new();
    let off = Machine { secure_boot: 0, ..honest.clone() };
    let finding = reason(&off.appraised(&of(&honest)));
    assert_eq!((finding.kind, finding.claim), (FindingKind::SecureBootState, Claim::Configuration));
    assert!(finding.sentence.contains("SecureBoot is 0"), "{}", finding.sentence);
    assert_eq!(claims(&off.appraised(&of(&honest))), (ClaimValue::BOOT_APPROVED, ClaimValue::UNAVAILABLE));
    let audit = (0x8000_0001, variable(GLOBAL, "AuditMode", &[1]));
    let audited = Machine { before: vec![audit], ..honest.clone() };
    let finding = reason(&audited.appraised(&of(&honest)));
    assert!(finding.sentence.contains("audit mode"), "{}", finding.sentence);
    let keyless = Machine { pk: Vec::new(), ..honest.clone() };
    let kinds: Vec<_> =
        keyless.appraised(&of(&honest)).record().findings.iter().map(|f| f.name.clone().unwrap()).collect();
    assert_eq!(kinds, ["SecureBoot", "PK"]);
}

#[test]
fn each_key_variable_is_named_with_what_was_expected_and_seen() {
    let honest = Machine::new();
    let more = [list(b"vendor"), list(b"other"), list(b"intruder")].concat();
    for (name, machine) in [
        ("PK", Machine { pk: list(b"intruder"), ..honest.clone() }),
        ("KEK", Machine { kek: list(b"intruder"), ..honest.clone() }),
        ("db", Machine { db: more, ..honest.clone() }),
        ("dbx", Machine { dbx: list(b"revoked"), ..honest.clone() }),
    ] {
        let forecast = machine.appraised(&of(&honest));
        let finding = reason(&forecast);
        assert_eq!((finding.kind, finding.name.as_deref()), (FindingKind::SecureBootState, Some(name)));
        let of = |state: &SecureBootState| match name {
            "PK" => state.pk().digest(),
            "KEK" => state.kek().digest(),
            "db" => state.db().digest(),
            _ => state.dbx().digest(),
        };
        assert_eq!(finding.expected, [text(of(&honest.state()))]);
        assert_eq!(finding.seen, Some(text(of(&machine.state()))));
        assert_eq!(claims(&forecast), (ClaimValue::BOOT_APPROVED, ClaimValue::UNAVAILABLE));
    }
}

#[test]
fn every_authority_used_is_a_listed_one() {
    let honest = Machine::new();
    let other = Machine { authorities: vec![of_db(b"vendor"), of_db(b"other")], ..honest.clone() };
    let forecast = other.appraised(&of(&honest));
    let finding = reason(&forecast);
    assert_eq!((finding.kind, finding.claim), (FindingKind::Authority, Claim::Executables));
    assert_eq!(finding.expected, [text(Digest::of(b"vendor"))]);
    assert_eq!(finding.seen, Some(text(Digest::of(b"other"))));
    assert_eq!(finding.event.as_ref().map(|event| event.position), Some(7));
    assert_eq!(claims(&forecast), (ClaimValue::UNRECOGNISED, ClaimValue::APPROVED));
    // A list is of what may vouch, not of what must.
    assert_eq!(honest.appraised(&of(&other)).record().verdict, Verdict::Affirming);
}

#[test]
fn shims_state_counts_as_an_authority() {
    let honest = Machine::new();
    let level = |text: &[u8]| {
        let authorities = vec![of_db(b"vendor"), variable(SHIM, "SbatLevel", text)];
        Machine { authorities, ..Machine::new() }
    };
    let (old, new) = (level(b"sbat,1,2021030218\n"), level(b"sbat,1,2023012900\n"));
    assert_eq!(new.appraised(&of(&new)).record().verdict, Verdict::Affirming);
    for release in [of(&new), of(&honest)] {
        let finding = reason(&old.appraised(&release));
        assert_eq!((finding.kind, finding.name.as_deref()), (FindingKind::Authority, Some("SbatLevel")));
    }
}

#[test]
fn what_is_not_understood_is_not_accepted() {
    let honest = Machine::new();
    for (event, name) in [
        ((0x8000_0007, b"UEFI Debug Mode".to_vec()), "UEFI Debug Mode"),
        ((0x8000_0007, b"DMA Protection Disabled".to_vec()), "DMA Protection Disabled"),
        ((0x8000_0001, variable(SECURITY, "dbt", b"x")), "dbt"),
        ((0x8000_0001, variable(SHIM, "SecureBoot", &[1])), "SecureBoot"),
    ] {
        let odd = Machine { before: vec![event], ..honest.clone() };
        let finding = reason(&odd.appraised(&of(&honest)));
        assert_eq!((finding.kind, finding.name.as_deref()), (FindingKind::SecureBootState, Some(name)));
        assert!(finding.seen.is_some());
        // Not even a release that lists everything it can.
        reason(&odd.appraised(&of(&odd)));
    }
}

#[test]
fn evidence_without_a_state_satisfies_no_section() {
    let release = of(&Machine::new());
    let forecast = Boot::of("k").forecast(&reference(&[(release, Active)]));
    let finding = reason(&forecast);
    assert_eq!(finding.kind, FindingKind::SecureBootState);
    assert!(finding.sentence.contains("does not tell its state"), "{}", finding.sentence);
}

/// A release of the real boot `boot-a` is written from what its log tells; the same machine with Secure Boot off
/// is refused for that.
#[test]
fn a_release_is_written_from_a_real_log() {
    let (log, pcrs) = recorded("boot-a");
    let state = told_by(&EventLog::parse(&log).unwrap(), HashAlg::Sha256).unwrap();
    let mut rules = "[pcrs.sha256]\n".to_owned();
    for index in [0, 2, 4] {
        rules += &format!("{index} = [\"{}\"]\n", pcrs.value(pcr(index)).unwrap());
    }
    rules += "[secure_boot]\nenabled = true\n";
    for (field, digest) in [
        ("pk", state.pk().digest()),
        ("kek", state.kek().digest()),
        ("db", state.db().digest()),
        ("dbx", state.dbx().digest()),
        ("authorities", state.authorities()[0].identity()),
    ] {
        rules += &format!("{field} = [\"{}\"]\n", digest.hex());
    }
    let release = reference(&[(manifest("1.4.0", 7, &rules), Active)]);
    let policy = policy_of(&["edge-box"], policy::appraisal::policy::Mode::Enforce);
    let appraised = |boot: &str| {
        let (log, pcrs) = recorded(boot);
        let evidence = RecordedEvidence::replay(pcrs, &log, HardwareProof::Endorsed).unwrap();
        forecast(&evidence.measurements(), &release, &policy, NOW).record().clone()
    };
    assert_eq!(appraised("boot-a").verdict, Verdict::Affirming, "{:#?}", appraised("boot-a"));
    let off = appraised("boot-c");
    assert_eq!(off.verdict, Verdict::Contraindicated);
    let names: Vec<_> = off.findings.iter().filter(|f| f.pcr == Some(7)).map(|f| f.name.clone()).collect();
    assert_eq!(names, [Some("SecureBoot".to_owned()), Some("dbx".to_owned())]);
}

/// A value is nothing to people; what the PCR tells beside it says which of the two it was.
#[test]
fn a_value_of_the_pcr_that_differs_is_told_with_the_state() {
    let told = |accepted: &str, booted: &str| {
        let value = recorded(accepted).1.value(pcr(7)).unwrap().to_string();
        let rules = format!("[pcrs.sha256]\n7 = [\"{value}\"]\n");
        let release = reference(&[(manifest("1.4.0", 7, &rules), Active)]);
        let policy = policy_of(&["edge-box"], policy::appraisal::policy::Mode::Enforce);
        let (log, pcrs) = recorded(booted);
        let evidence = RecordedEvidence::replay(pcrs, &log, HardwareProof::Endorsed).unwrap();
        let record = forecast(&evidence.measurements(), &release, &policy, NOW).record().clone();
        record.findings.iter().find(|f| f.pcr == Some(7)).map(|f| f.sentence.clone()).unwrap_or_default()
    };
    let off = told("boot-a", "boot-c");
    assert!(
        off.starts_with("PCR 7 has a value that edge-box@1.4.0 does not list (Secure Boot is off); "),
        "{off}"
    );
    let on = told("boot-c", "boot-a");
    assert!(
        on.contains("(Secure Boot is on, CN=Touchstone test vector db (of db) vouched for what was started)"),
        "{on}"
    );
}
