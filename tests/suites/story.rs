//! From a registered TPM to a certificate, through a wrong boot and back.

use std::path::Path;
use std::process::Command;

use e2e::{Device, World, until};
use serde_json::Value;

pub(crate) fn openssl(args: &[&str]) -> String {
    let output = Command::new("openssl").args(args).output().expect("openssl runs");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "openssl {args:?}: {said}");
    said
}

fn text(path: &Path) -> &str {
    path.to_str().expect("run folders have plain names")
}

/// The finding about PCR 4 with what was expected and what was seen.
fn pcr_4(findings: &Value) -> Option<&Value> {
    let list = findings.as_array()?;
    list.iter()
        .find(|finding| finding["pcr"] == 4 && finding["expected"].as_array().is_some_and(|e| !e.is_empty()))
}

fn assert_names_the_kernel(findings: &Value) {
    let finding = pcr_4(findings).unwrap_or_else(|| panic!("no finding about PCR 4 in {findings:#}"));
    assert!(finding["event"].is_u64(), "{finding:#}");
    assert_eq!(finding["event_type"], "EV_EFI_BOOT_SERVICES_APPLICATION", "{finding:#}");
    let seen = finding["seen"].as_str().unwrap_or_default();
    assert!(seen.len() >= 64 && finding["expected"][0] != seen, "{finding:#}");
}

#[test]
fn a_device_is_trusted_for_what_it_booted_and_for_nothing_else() {
    let Some((world, [mut press])) = World::with_devices(["press-1"]) else { return };
    world.admin("zone create press --product edge-box --reattest-every 10s --intra-zone allow");
    world.register(&press, "press");
    press.offer("opcua");
    press.measure("boot-a");
    press.start();
    let refused = press.until_state("refused");
    assert_eq!(refused["denial"]["reason"], "REFERENCE_MISMATCH", "nothing is golden yet: {refused:#}");
    assert_eq!(refused["certificates"], serde_json::json!([]));

    world.make_golden("press-1", "edge-box", "1.0.0");
    press.until_state("trusted");
    assert_eq!(world.admin("device show press-1")["state"], "trusted");
    assert_certificates(&press);

    press.reboot("boot-b");
    let refused = press.until_state("refused");
    assert_eq!(refused["denial"]["reason"], "REFERENCE_MISMATCH");
    assert_names_the_kernel(&refused["denial"]["findings"]);
    let why = world.admin("device why press-1");
    assert_eq!(why["state"], "refused", "{why:#}");
    assert_names_the_kernel(&why["findings"]);
    assert_eq!(
        world.admin("device show press-1")["certificates"],
        serde_json::json!([]),
        "revoked with the boot"
    );

    press.reboot("boot-a");
    press.until_state("trusted");
}

fn assert_certificates(press: &Device) {
    let bundle = |service: &str, file: &str| press.delivered("press", &format!("services/{service}/{file}"));
    let caller = press.delivered("press", "caller.pem");
    let (inbound, outbound) = (bundle("opcua", "inbound.pem"), bundle("opcua", "outbound.pem"));
    until("the caller certificate verifies under the service's trust file", || {
        let output = Command::new("openssl")
            .args(["verify", "-purpose", "sslclient", "-CAfile", text(&inbound), text(&caller)])
            .output();
        let output = output.map_err(|error| error.to_string())?;
        output.status.success().then_some(()).ok_or(String::from_utf8_lossy(&output.stderr).into_owned())
    });
    let listener = press.delivered("press", "listener.pem");
    openssl(&["verify", "-purpose", "sslserver", "-CAfile", text(&outbound), text(&listener)]);
    for (crl, authorities) in [("inbound.crl", &inbound), ("outbound.crl", &outbound)] {
        openssl(&["crl", "-noout", "-CAfile", text(authorities), "-in", text(&bundle("opcua", crl))]);
    }
    assert_leaf(&caller, "TLS Web Client Authentication");
    assert_leaf(&listener, "TLS Web Server Authentication");
}

/// The profile: what strict clients need.
fn assert_leaf(certificate: &Path, usage: &str) {
    let fields = openssl(&["x509", "-noout", "-text", "-in", text(certificate)]);
    let after = |label: &str| {
        let mut lines = fields.lines().skip_while(|line| !line.contains(label)).skip(1);
        lines.next().unwrap_or_else(|| panic!("no {label} in {fields}")).trim().to_owned()
    };
    assert!(fields.contains("CN = press-1.press.plant.example"), "{fields}");
    let mut names: Vec<String> = after("Subject Alternative Name").split(", ").map(str::to_owned).collect();
    names.sort();
    assert_eq!(names, ["DNS:press-1.press.plant.example", "URI:spiffe://press.plant.example/device/press-1"]);
    assert_eq!(after("X509v3 Extended Key Usage"), usage);
    assert_eq!(after("X509v3 Basic Constraints"), "CA:FALSE");
    assert!(fields.contains("X509v3 Key Usage: critical"), "{fields}");
    assert_eq!(after("X509v3 Key Usage"), "Digital Signature");
    assert!(fields.contains("X509v3 Authority Key Identifier"), "{fields}");
    // 128 random bits; the encoding drops leading zeros and adds none to a clear top bit.
    let serial = openssl(&["x509", "-noout", "-serial", "-in", text(certificate)]);
    let digits = serial.trim().trim_start_matches("serial=").len();
    assert!((24..=40).contains(&digits), "{serial}");
}
