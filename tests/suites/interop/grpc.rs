//! The contract as others read it: Python's grpcio calls the broker by the committed descriptors.

use std::fs;
use std::path::Path;
use std::process::Command;

use e2e::peers::{Grpcio, PYTHON};
use e2e::{Device, World, until};
use tempfile::TempDir;

fn call(world: &World, method: &str, more: &[&str]) -> String {
    call_as(world, &world.plant.path("owner"), method, more)
}

/// With the certificate in `context`, a folder as administrators have.
fn call_as(world: &World, context: &Path, method: &str, more: &[&str]) -> String {
    let room = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut python = Command::new(PYTHON);
    python.arg(room.join("peers/grpc_client.py")).arg(world.address());
    python.arg(room.join("../proto/src/gen/touchstone.v1.fds")).arg(context);
    let output = python.arg(method).args(more).output().expect("python runs");
    let said = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&said).into_owned()
}

/// A program on a device without a TPM, which has the device's key in a file.
struct Asking<'a> {
    world: &'a World,
    folder: TempDir,
}

impl<'a> Asking<'a> {
    fn on(world: &'a World, device: &Device, zone: &str) -> Self {
        let folder = TempDir::new().expect("a run folder");
        for (held, name) in [("caller.pem", "admin.pem"), ("caller.key", "admin.key")] {
            fs::copy(device.delivered(zone, held), folder.path().join(name)).expect("a copy");
        }
        fs::copy(world.plant.path("plant-root.pem"), folder.path().join("plant-root.pem")).expect("a copy");
        Self { world, folder }
    }

    /// What the broker says of a peer that shows `certificate`.
    fn about(&self, certificate: &Path, service: &str, direction: &str) -> String {
        let text = fs::read_to_string(certificate).expect("a certificate");
        // The first block of PEM is base64, as JSON has bytes.
        let leaf: String = text.lines().skip(1).take_while(|line| !line.starts_with("-----")).collect();
        let request = serde_json::json!({
            "peer_certificate": leaf,
            "service": service,
            "direction": direction,
            "grant": direction == "DIRECTION_INBOUND",
        });
        call_as(self.world, self.folder.path(), "Authorize/Authorize", &[&request.to_string()])
    }
}

#[test]
fn grpcio_asks_whether_a_peer_may_open_a_service() {
    if !Grpcio::is_here() {
        return;
    }
    let Some((world, [mut press, mut historian])) = World::with_devices(["press-1", "historian-1"]) else {
        return;
    };
    let open = "--mode observe --least instance-identity=affirming";
    world.admin(&format!("zone create press {open}"));
    world.admin(&format!("zone create archive {open} --software-keys allow"));
    world.register(&press, "press");
    historian.take_tpm();
    let token = world.admin("token create --zone archive --device historian-1 --without-tpm");
    historian.give_token(token["token"].as_str().expect("a token"));
    historian.offer_in_software("history");
    historian.offer_in_software("setpoints");
    press.measure("boot-a");
    for device in [&mut press, &mut historian] {
        device.start();
        device.until_state("trusted");
    }
    let shown = press.delivered("press", "caller.pem");
    let asked = |service: &str, direction: &str| {
        // The certificate of a device without a TPM is soon followed by another.
        Asking::on(&world, &historian, "archive").about(&shown, service, direction)
    };
    let refused = |service: &str, direction: &str, code: &str| {
        until(&format!("refused: {code}"), || match asked(service, direction) {
            told if told.starts_with("OK") && !told.contains("'allowed'") && told.contains(code) => Ok(()),
            told => Err(told),
        });
    };
    refused("history", "DIRECTION_INBOUND", "'no-conduit'");
    world.admin("conduit allow --from press --to archive --service history");
    let inside = asked("history", "DIRECTION_INBOUND");
    for part in ["'allowed': True", "'peer': 'spiffe://press.plant.example/device/press-1", "'grant': 'ey"] {
        assert!(inside.contains(part), "{part}: {inside}");
    }
    refused("setpoints", "DIRECTION_INBOUND", "'no-conduit'");
    refused("ssh", "DIRECTION_INBOUND", "'not-offered'");
    refused("history", "DIRECTION_OUTBOUND", "'code'");
    world.admin("device quarantine press-1 --reason test");
    refused("history", "DIRECTION_INBOUND", "'revoked'");
}

#[test]
fn grpcio_administers_with_a_certificate_and_is_refused_without() {
    if !Grpcio::is_here() {
        return;
    }
    let Some((world, _off)) = World::with_devices(["press-1"]) else { return };
    world.admin("zone create press --mode observe");
    let healthy = call(&world, "Check", &["anonymous"]);
    assert!(healthy.starts_with("OK {'status': 1}"), "SERVING is 1: {healthy}");
    let zones = call(&world, "ListZones", &[]);
    assert!(zones.starts_with("OK") && zones.contains("'name': 'press'"), "{zones}");
    let refused = call(&world, "ListZones", &["anonymous"]);
    assert!(
        refused.starts_with("PERMISSION_DENIED this call needs an administrator's certificate"),
        "{refused}"
    );
}
