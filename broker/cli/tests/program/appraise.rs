//! `touchstone appraise`, run as a program on recorded boots and forged quotes.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot read its answer has failed"
)]

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;

use policy::tpm::alg::HashAlg;
use serde_json::Value;

use crate::evidence::{AK_ATTRIBUTES, Evidence, Key, MAGIC, NONCE, QUOTE, attest, tpm2b};
use crate::tool::{self, Ran, vectors};

/// The messages of all reasons, in one text.
fn reasons(ran: &Ran) -> String {
    let json = ran.json();
    let messages = json["reasons"].as_array().unwrap().iter();
    messages.map(|reason| reason["message"].as_str().unwrap().to_owned()).collect::<Vec<_>>().join("\n")
}

fn notes(ran: &Ran) -> String {
    ran.json()["notes"].to_string()
}

#[test]
fn a_folder_without_a_quote_is_appraised_and_called_unproven() {
    let boot = Evidence::of("boot-a");
    let golden = boot.learned();
    let ran = boot.appraise(&golden, &[]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let json = ran.json();
    assert_eq!((&json["schema"], &json["verdict"]), (&1.into(), &"affirming".into()));
    assert_eq!((&json["pcrs_proven"], &json["release"]), (&false.into(), &"edge@1".into()));
    let claims =
        serde_json::json!({"configuration": 2, "executables": 3, "hardware": 0, "instance-identity": 0});
    assert_eq!(json["claims"], claims);
    assert_eq!(
        (&json["tiers"]["executables"], &json["tiers"]["hardware"]),
        (&"affirming".into(), &"none".into())
    );
    assert!(reasons(&ran).contains("the PCR values are unproven"), "{ran:?}");
    assert!(notes(&ran).contains("hardware and instance-identity are not claimed"), "{ran:?}");

    let table = tool::run(&["appraise", "--evidence", boot.folder(), "--golden", &golden]);
    assert_eq!(table.code, 0, "{table:?}");
    assert!(table.stdout.contains("PCR values      unproven"), "{}", table.stdout);
}

#[test]
fn an_honest_quote_proves_the_values_in_every_form() {
    let boot = Evidence::of("boot-a");
    let golden = boot.learned();
    let key = boot.quote();
    let (quote, area) = (boot.read("quote.bin"), key.area(AK_ATTRIBUTES));
    let forms: [(&str, Vec<u8>); 4] = [
        ("quote.bin", tpm2b(&quote)),
        ("ak.pub", area),
        (
            "pcrs.txt",
            String::from_utf8(boot.read("pcrs.txt"))
                .unwrap()
                .replace('\n', "\r\n")
                .to_lowercase()
                .into_bytes(),
        ),
        ("ak.pub", key.pem().into_bytes()),
    ];
    for (name, bytes) in [("quote.bin", quote)].into_iter().chain(forms) {
        boot.write(name, &bytes);
        let ran = boot.appraise(&golden, &[]);
        assert_eq!((ran.code, &ran.json()["pcrs_proven"]), (0, &true.into()), "{name}: {ran:?}");
        assert_eq!(reasons(&ran), "", "{name}");
        assert_eq!(
            notes(&ran).contains("nothing about the key's attributes"),
            bytes.starts_with(b"-----"),
            "{name}"
        );
    }
}

#[test]
fn another_kernel_is_refused_with_pcr_event_expected_and_seen() {
    let golden = Evidence::of("boot-a");
    let boot = Evidence::of("boot-b");
    boot.quote();
    let ran = boot.appraise(&golden.learned(), &[]);
    assert_eq!((ran.code, &ran.json()["verdict"]), (3, &"contraindicated".into()), "{ran:?}");
    let json = ran.json();
    assert_eq!((&json["release"], &json["closest"]), (&Value::Null, &"edge@1".into()));
    let kernel = json["reasons"].as_array().unwrap().iter().find(|reason| reason["pcr"] == 4).unwrap();
    assert_eq!(kernel["event_type"], "EV_EFI_BOOT_SERVICES_APPLICATION");
    assert!(kernel["event"].is_number() && kernel["seen"] != kernel["expected"][0], "{kernel}");
    for digest in [&kernel["seen"], &kernel["expected"][0]] {
        assert!(digest.as_str().unwrap().starts_with("sha256:"), "{kernel}");
    }
    assert_eq!(json["tiers"]["executables"], "warning");
}

/// A quote that does not hold is a verdict, not a fault of the files.
#[test]
fn a_quote_that_does_not_hold_is_contraindicated() {
    let honest = Evidence::of("boot-a");
    let golden = honest.learned();
    let empty = attest(MAGIC, QUOTE, NONCE, &[], &[0; 32]);
    let other_pcrs = attest(MAGIC, QUOTE, NONCE, &[(0x000b, [0, 0, 0x81])], &[0; 32]);
    let other_values = attest(MAGIC, QUOTE, NONCE, &[(0x000b, [0xff; 3])], &[0; 32]);
    let cases: [(&str, Vec<u8>, &str); 7] = [
        ("magic", honest.attest(0x1234_5678, QUOTE, NONCE), "begins with 0x12345678"),
        ("nonce", honest.attest(MAGIC, QUOTE, b"another"), "answers the nonce"),
        ("no nonce", honest.attest(MAGIC, QUOTE, b""), "answers the nonce"),
        ("empty selection", empty, "not exactly the PCR values"),
        ("other PCRs", other_pcrs, "not exactly the PCR values"),
        ("other values", other_values, "the values are of another time or were changed"),
        ("NV certify", honest.attest(MAGIC, 0x8014, NONCE), "the attest is of type 0x8014"),
    ];
    for (name, attest, reason) in cases {
        let boot = Evidence::of("boot-a");
        let key = boot.quote();
        boot.sign(&key, &attest);
        let ran = boot.appraise(&golden, &[]);
        assert_eq!((ran.code, &ran.json()["verdict"]), (3, &"contraindicated".into()), "{name}: {ran:?}");
        assert!(reasons(&ran).contains(reason), "{name}: {ran:?}");
        let json = ran.json();
        assert_eq!((&json["pcrs_proven"], &json["release"]), (&false.into(), &Value::Null), "{name}");
        for claim in ["instance-identity", "configuration", "executables", "hardware"] {
            assert_eq!(json["claims"][claim], 99, "{name}: {claim}");
        }
    }
}

#[test]
fn a_key_that_did_not_sign_or_may_not_is_contraindicated() {
    let honest = Evidence::of("boot-a");
    let golden = honest.learned();
    let boot = Evidence::of("boot-a");
    let key = boot.quote();
    let stranger = Key::new();
    for (name, ak, reason) in [
        ("another key", tpm2b(&stranger.area(AK_ATTRIBUTES)), "does not verify"),
        ("another key, PEM", stranger.pem().into_bytes(), "does not verify"),
        ("not restricted", tpm2b(&key.area(AK_ATTRIBUTES & !0x0001_0000)), "restricted must be set"),
        ("not fixed", tpm2b(&key.area(AK_ATTRIBUTES & !0x2)), "fixedTPM must be set"),
    ] {
        let ran = boot.write("ak.pub", &ak).appraise(&golden, &[]);
        assert_eq!((ran.code, &ran.json()["claims"]["executables"]), (3, &99.into()), "{name}: {ran:?}");
        assert!(reasons(&ran).contains(reason), "{name}: {ran:?}");
    }
}

#[test]
fn a_changed_log_contradicts_the_values() {
    let boot = Evidence::of("boot-a");
    let golden = boot.learned();
    boot.quote();
    boot.write("eventlog.bin", &Evidence::of("boot-b").read("eventlog.bin"));
    let ran = boot.appraise(&golden, &[]);
    assert_eq!((ran.code, &ran.json()["pcrs_proven"]), (3, &true.into()), "{ran:?}");
    let json = ran.json();
    let reason = &json["reasons"][0];
    assert_eq!(reason["pcr"], 4, "{reason}");
    assert!(reason["seen"] != reason["expected"][0] && reason["seen"].is_string(), "{reason}");
    assert!(reasons(&ran).contains("the log was changed, cut, or is of another boot"), "{ran:?}");
}

#[test]
fn a_quote_that_is_not_whole_is_unusable_and_never_a_folder_without_one() {
    let honest = Evidence::of("boot-a");
    let golden = honest.learned();
    for missing in ["quote.bin", "quote.sig", "ak.pub", "nonce.bin"] {
        let boot = Evidence::of("boot-a");
        boot.quote();
        let ran = boot.remove(missing).appraise(&golden, &[]);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{missing}: {ran:?}");
        assert!(ran.stderr.contains(missing) && ran.stderr.contains("a quote needs it"), "{ran:?}");
        // A link that leads nowhere is there, and not readable.
        symlink("/nonexistent", boot.path(missing)).unwrap();
        let ran = boot.appraise(&golden, &[]);
        assert_eq!((ran.code, ran.stderr.contains(missing)), (2, true), "{missing}: {ran:?}");
    }
    let boot = Evidence::of("boot-a");
    boot.quote();
    let ran = boot.remove("quote.bin").remove("quote.sig").appraise(&golden, &[]);
    assert_eq!((ran.code, &ran.json()["pcrs_proven"]), (0, &false.into()), "{ran:?}");
    assert!(notes(&ran).contains("nonce.bin is there without a quote"), "{ran:?}");
}

#[test]
fn files_that_cannot_be_read_are_unusable_with_a_reason() {
    let honest = Evidence::of("boot-a");
    let golden = honest.learned();
    let sha1: String = format!("sha1:0:{}\n", "00".repeat(20));
    let twice = format!("sha256:0:{}\nsha256:0:{}\n", "00".repeat(32), "01".repeat(32));
    let upper = format!("sha256:16:{}\n", "00".repeat(32));
    for (name, bytes, reason) in [
        ("eventlog.bin", &b"no log"[..], "the firmware log cannot be read"),
        ("eventlog.bin", b"", "the log holds no event"),
        ("pcrs.txt", b"sha256 0 00", "line 1 is not bank:index:hex"),
        ("pcrs.txt", twice.as_bytes(), "line 2 gives sha256 PCR 0 another value"),
        ("pcrs.txt", sha1.as_bytes(), "SHA-1 PCRs prove nothing"),
        ("pcrs.txt", upper.as_bytes(), "PCRs 16 and above only"),
        ("quote.bin", b"", "the quote cannot be read"),
        ("quote.bin", b"no quote, whatever its length may be", "the quote cannot be read"),
        ("quote.sig", b"\0\x18\0\x0b\0", "the quote's signature cannot be read"),
        ("ak.pub", b"no key", "the quote's key cannot be read"),
        ("ak.pub", b"-----BEGIN PRIVATE KEY-----\n", "BEGIN PUBLIC KEY"),
        ("nonce.bin", b"", "the nonce has 0 bytes"),
        ("nonce.bin", &[7; 65], "the nonce has 65 bytes"),
    ] {
        let boot = Evidence::of("boot-a");
        boot.quote();
        if name == "pcrs.txt" {
            boot.remove("quote.bin").remove("quote.sig");
        }
        let ran = boot.write(name, bytes).appraise(&golden, &[]);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{name}: {ran:?}");
        assert!(ran.stderr.contains(reason), "{name}: {ran:?}");
    }
    for missing in ["eventlog.bin", "pcrs.txt"] {
        let boot = Evidence::of("boot-a");
        let ran = boot.remove(missing).appraise(&golden, &[]);
        assert_eq!((ran.code, ran.stderr.contains(missing)), (2, true), "{ran:?}");
    }
    let ran = tool::run(&["appraise", "--evidence", "/nonexistent", "--golden", &golden]);
    assert_eq!((ran.code, ran.stderr.contains("/nonexistent")), (2, true), "{ran:?}");
}

#[test]
fn a_golden_file_that_cannot_be_read_is_not_the_evidences_fault() {
    let boot = Evidence::of("boot-a");
    let golden = boot.learned();
    boot.write("bad.toml", b"schema = 2").write("roots", b"no certificate");
    for line in [
        vec!["--golden", "/nonexistent"],
        vec!["--golden", boot.path("bad.toml").to_str().unwrap()],
        vec!["--golden", &golden, "--roots", boot.path("roots").to_str().unwrap()],
        vec![],
    ] {
        let ran = tool::run(&[&["appraise", "--evidence", boot.folder()], line.as_slice()].concat());
        assert_eq!((ran.code, ran.stdout.as_str()), (64, ""), "{ran:?}");
    }
    // Two texts under one name.
    let other = fs::read_to_string(&golden).unwrap().replace("counter = 1", "counter = 2");
    boot.write("other.toml", other.as_bytes());
    let ran = boot.appraise(&golden, &["--golden", boot.path("other.toml").to_str().unwrap()]);
    assert_eq!((ran.code, ran.stderr.contains("give it a new version")), (64, true), "{ran:?}");
}

#[test]
fn any_of_several_releases_affirms() {
    let (a, b) = (Evidence::of("boot-a"), Evidence::of("boot-b"));
    let golden = a.learned();
    let text = fs::read_to_string(b.learned()).unwrap().replace("version = \"1\"", "version = \"2\"");
    a.write("b.toml", text.as_bytes());
    let both = ["--golden", a.path("b.toml").to_str().unwrap()].map(str::to_owned);
    for (boot, release) in [(&a, "edge@1"), (&b, "edge@2")] {
        let ran = boot.appraise(&golden, &both.each_ref().map(String::as_str));
        assert_eq!((ran.code, &ran.json()["release"]), (0, &release.into()), "{ran:?}");
    }
}

#[test]
fn a_pcr_that_the_release_constrains_and_the_folder_lacks_counts_against_it() {
    let boot = Evidence::of("boot-a");
    let golden = boot.learned();
    let few: Vec<String> = (0..8).map(|pcr| format!("sha256:{pcr}:")).collect();
    let few: Vec<&str> = few.iter().map(String::as_str).collect();
    boot.keep_pcrs(&few).quote();
    let ran = boot.appraise(&golden, &[]);
    assert_eq!((ran.code, &ran.json()["pcrs_proven"]), (3, &true.into()), "{ran:?}");
    assert!(reasons(&ran).contains("PCR 11 is constrained by edge@1 but the evidence lacks it"), "{ran:?}");
    // What is learned from those PCRs alone affirms them.
    let ran = boot.appraise(&boot.learned(), &[]);
    assert_eq!(ran.code, 0, "{ran:?}");
}

#[test]
fn the_log_of_systemd_goes_on_where_the_firmware_ends() {
    let boot = Evidence::of("boot-a");
    let golden = boot.learned();
    boot.extend_pcr_11("sysinit");
    let ran = boot.appraise(&golden, &[]);
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(reasons(&ran).contains("PCR 11"), "{ran:?}");

    // With the log the PCR is explained: the release does not know of the event, one learned now does.
    let digest = HashAlg::Sha256.hash(&[b"sysinit"]);
    let log = format!(
        "\x1e{{\"pcr\":11,\"digests\":[{{\"hashAlg\":\"sha256\",\"digest\":\"{digest}\"}}],\"content_type\":\"systemd\",\
         \"content\":{{\"string\":\"sysinit\",\"eventType\":\"phase\"}}}}\n"
    );
    boot.write("userspace.log", log.as_bytes());
    let ran = boot.appraise(&golden, &[]);
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(reasons(&ran).contains("PCR 11, event 0 (SYSTEMD): edge@1 lists no such event"), "{ran:?}");
    let learned = boot.learned();
    let ran = boot.appraise(&learned, &[]);
    assert_eq!((ran.code, ran.stdout.contains("goes on")), (0, false), "{ran:?}");
    let ran = boot.write("userspace.log", log.repeat(3).as_bytes()).appraise(&learned, &[]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(
        notes(&ran).contains("userspace.log goes on where the PCR values end: its last 2 record(s)"),
        "{ran:?}"
    );

    let ran = boot.write("userspace.log", b"no record").appraise(&golden, &[]);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.stderr.contains("systemd's measurement log cannot be read"), "{ran:?}");
}

/// A record of template `ima-ng` in PCR 10.
fn ima_record(path: &[u8]) -> Vec<u8> {
    let field = |bytes: &[u8]| [&u32::try_from(bytes.len()).unwrap().to_le_bytes(), bytes].concat();
    let data = [field(&[&b"sha256:\0"[..], &[0x11; 32]].concat()), field(&[path, b"\0"].concat())].concat();
    let digest = HashAlg::Sha1.hash(&[&data]);
    [&10_u32.to_le_bytes(), digest.as_bytes(), &field(b"ima-ng"), &field(&data)].concat()
}

#[test]
fn each_fault_of_a_manifest_has_a_line() {
    let boot = Evidence::of("boot-a");
    boot.write(
        "golden.toml",
        b"schema = 2\nproduct = \"edge\"\nversion = \"1\"\ncounter = -1\n[pcrs.sha256]\n0 = [\"aa\"]\n",
    );
    let ran = boot.appraise(boot.path("golden.toml").to_str().unwrap(), &[]);
    assert_eq!((ran.code, ran.stdout.as_str()), (64, ""), "{ran:?}");
    let lines: Vec<&str> = ran.stderr.lines().collect();
    assert!(lines[0].ends_with("golden.toml: the manifest has 3 fault(s)"), "{ran:?}");
    for (line, beginning) in
        [(1, "line 1, column 10: schema 2"), (2, "line 4, column 11: `counter`"), (3, "line 6, ")]
    {
        assert!(lines[line].trim_start().starts_with(beginning), "{ran:?}");
    }
}

#[test]
fn the_list_of_files_is_held_against_its_pcr() {
    let boot = Evidence::of("boot-a");
    let golden = boot.learned();
    let list = fs::read(tool::recorded("boot-a").join("ima.bin")).unwrap();
    let ran = boot.write("ima.bin", &list).appraise(&golden, &[]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(reasons(&ran).contains("files on the device's IMA list were not appraised"), "{ran:?}");
    assert!(!notes(&ran).contains("goes on"), "{ran:?}");
    let longer = [&list[..], &ima_record(b"/tmp/later")].concat();
    let ran = boot.write("ima.bin", &longer).appraise(&golden, &[]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(
        notes(&ran).contains("ima.bin goes on where the PCR values end: its last 1 record(s)"),
        "{ran:?}"
    );

    let other = fs::read(tool::recorded("boot-b").join("ima.bin")).unwrap();
    let ran = boot.write("ima.bin", &other).appraise(&golden, &[]);
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(reasons(&ran).contains("the IMA list does not belong to the boot"), "{ran:?}");

    let mut changed = list.clone();
    // In the path of the last record; an empty signature field of four bytes follows it.
    changed[list.len() - 8] ^= 1;
    let ran = boot.write("ima.bin", &changed).appraise(&golden, &[]);
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(reasons(&ran).contains("is not that of its data; the list was changed"), "{ran:?}");

    let ran = boot.write("ima.bin", &list[..list.len() - 1]).appraise(&golden, &[]);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.stderr.contains("the IMA list cannot be read: offset"), "{ran:?}");
}

#[test]
fn an_ek_certificate_is_held_against_the_roots_and_ties_nothing() {
    let Some(folder) = vectors() else { return };
    let roots = folder.join("ek-roots");
    let roots = roots.to_str().unwrap();
    let boot = Evidence::of("boot-a");
    let golden = boot.learned();
    boot.write("ek.crt", &fs::read(folder.join("ek/infineon-rsa-029.der")).unwrap());
    assert!(notes(&boot.appraise(&golden, &[])).contains("ek.crt is not verified"));

    let ran = boot.appraise(&golden, &["--roots", roots]);
    assert_eq!((ran.code, &ran.json()["claims"]["hardware"]), (0, &0.into()), "{ran:?}");
    assert!(notes(&ran).contains("nothing in the folder ties it to the quote's key"), "{ran:?}");

    boot.write("ek.crt", &fs::read(folder.join("ek/nv-trailing-padding.bin")).unwrap());
    let ran = boot.appraise(&golden, &["--roots", roots]);
    assert_eq!((ran.code, &ran.json()["claims"]["hardware"]), (3, &97.into()), "{ran:?}");
    assert!(reasons(&ran).contains("no manufacturer vouches for the EK certificate"), "{ran:?}");

    let ran = boot.write("ek.crt", b"no certificate").appraise(&golden, &["--roots", roots]);
    assert_eq!((ran.code, ran.stderr.contains("ek.crt: ")), (2, true), "{ran:?}");
}

/// Logs that are refused, and why: fragments, and machines without a strong bank.
const REFUSED: [(&str, i32, &str); 9] = [
    ("go-attestation-ebs-missing.bin", 2, "SHA-1 PCRs prove nothing"),
    ("go-attestation-option-rom.bin", 2, "SHA-1 PCRs prove nothing"),
    ("go-attestation-sb-cert.bin", 3, "PCR 0 has no separator"),
    ("go-attestation-short-no-action.bin", 2, "there is no PCR value"),
    ("tpm2-tools-specid-vendordata.bin", 2, "there is no PCR value"),
    ("tpm2-tools-uefi-sha1.bin", 2, "SHA-1 PCRs prove nothing"),
    ("tpm2-tools-uefiaction.bin", 3, "PCR 0 has no separator"),
    ("tpm2-tools-uefiservices.bin", 3, "PCR 0 has no separator"),
    ("tpm2-tools-uefivar.bin", 3, "PCR 0 has no separator"),
];

/// A folder with a machine's log and the PCR values that are known of it.
fn machine(log: &[u8], pcrs: &Value) -> Evidence {
    let mut text = String::new();
    for (bank, values) in pcrs.as_object().unwrap() {
        for (pcr, value) in values.as_object().unwrap() {
            writeln!(text, "{bank}:{pcr}:{}", value.as_str().unwrap()).unwrap();
        }
    }
    let machine = Evidence::empty();
    machine.write("pcrs.txt", text.as_bytes()).write("eventlog.bin", log);
    machine
}

#[test]
fn logs_of_real_machines_are_affirmed_or_refused_for_a_reason() {
    let Some(folder) = vectors() else { return };
    let text = fs::read_to_string(folder.join("eventlogs/expected.json")).unwrap();
    let expected: serde_json::Map<String, Value> = serde_json::from_str(&text).unwrap();
    for (file, expected) in expected.iter().filter(|(_, expected)| expected["events"].is_number()) {
        let machine = machine(&fs::read(folder.join("eventlogs").join(file)).unwrap(), &expected["pcrs"]);
        if let Some((_, code, reason)) = REFUSED.iter().find(|(name, ..)| name == file) {
            let ran = tool::run(&["golden", "learn", "--from-evidence", machine.folder()]);
            assert_eq!((ran.code, ran.stdout.as_str()), (*code, ""), "{file}: {ran:?}");
            assert!(ran.stderr.contains(reason), "{file}: {ran:?}");
            continue;
        }
        let ran = machine.appraise(&machine.learned(), &[]);
        assert_eq!((ran.code, &ran.json()["verdict"]), (0, &"affirming".into()), "{file}: {ran:?}");
    }
}
