//! mbedTLS reads and uses the authorities of a zone without a name constraint.

use std::path::Path;
use std::process::Command;

use super::plant::{Plant, ZONES};

/// The zone `logistics` has no name constraint, and may open the service `field` of press-1; `vision` may not. Says why
/// where it cannot be tried.
pub(super) fn believes_who_may_open(plant: &Plant) {
    let folder = &plant.world.plant;
    let (source, program) =
        (Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/mbedtls.c"), folder.run_path("mbedtls"));
    let mut compiler = Command::new("gcc");
    compiler.arg(source).arg("-o").arg(&program).args(["-lmbedx509", "-lmbedcrypto"]);
    match compiler.output() {
        Ok(output) if output.status.success() => {}
        other => {
            return println!(
                "skipped in part: mbedTLS, which does not build here (libmbedtls-dev): {other:?}"
            );
        }
    }
    let verify_for = |service: &str, device: usize| {
        let inbound =
            |kind: &str| plant.devices[0].delivered(ZONES[0], &format!("services/{service}/inbound.{kind}"));
        let certificate = plant.devices[device].delivered(ZONES[device], "caller.pem");
        let output = Command::new(&program).args([inbound("pem"), inbound("crl"), certificate]).output();
        let output = output.expect("the program runs");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let verify = |device| verify_for("field", device);
    assert_eq!(verify(2), (Some(0), "flags 0x0".to_owned()), "a device of logistics");
    assert_eq!(verify(1), (Some(0), "flags 0x8".to_owned()), "MBEDTLS_X509_BADCERT_NOT_TRUSTED: of vision");
    println!("measured: mbedTLS, of an authority with a critical constraint: {}", verify_for("spare", 1).1);
}
