//! The contract as others read it: Python's grpcio calls the broker by the committed descriptors.

use std::path::Path;
use std::process::Command;

use e2e::World;

/// Debian's own Python, for which its packages are.
const PYTHON: &str = "/usr/bin/python3";

fn call(world: &World, method: &str, more: &[&str]) -> String {
    let room = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut python = Command::new(PYTHON);
    python.arg(room.join("peers/grpc_client.py")).arg(world.address());
    python.arg(room.join("../proto/src/gen/touchstone.v1.fds")).arg(world.plant.path("owner"));
    let output = python.arg(method).args(more).output().expect("python runs");
    let said = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&said).into_owned()
}

#[test]
fn grpcio_administers_with_a_certificate_and_is_refused_without() {
    let modules = Command::new(PYTHON).args(["-c", "import grpc, google.protobuf"]).output();
    if !modules.is_ok_and(|output| output.status.success()) {
        println!("skipped: python3-grpcio is not installed; deploy/packages.sh names its package");
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
