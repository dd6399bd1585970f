//! What a plant publishes, asked for with curl as other trust domains and Margo clients do.

use std::fs;
use std::process::Stdio;

use attestor::testing::{command, missing_tool};
use e2e::World;
use serde_json::Value;

/// What curl is answered: the status, and the document.
fn ask(world: &World, path: &str, more: &[&str]) -> (u16, String) {
    let address = fs::read_to_string(world.plant.path("publish-address")).expect("the broker says where");
    let host = "broker.control.plant.example";
    let (_, port) = address.trim().rsplit_once(':').expect("an address");
    let root = world.plant.text("plant-root.pem");
    let mut curl = command("curl");
    curl.args([
        "-sS",
        "--max-time",
        "20",
        "--proto",
        "=https",
        "--tlsv1.3",
        "--path-as-is",
        "--cacert",
        &root,
    ]);
    curl.args(["--resolve", &format!("{host}:{port}:127.0.0.1"), "-w", "\n%{http_code}"]).args(more);
    let output = curl.arg(format!("https://{host}:{port}{path}")).output().expect("curl runs");
    assert!(output.status.success(), "{path}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    let (page, status) = text.rsplit_once('\n').expect("a status");
    (status.parse().expect("a status"), page.to_owned())
}

/// What openssl says of a handshake with the port.
fn handshake(world: &World, options: &[&str]) -> String {
    let address = fs::read_to_string(world.plant.path("publish-address")).expect("the broker says where");
    let mut client = command("openssl");
    client.args(["s_client", "-brief", "-connect", address.trim(), "-CAfile"]);
    client.arg(world.plant.path("plant-root.pem")).args(["-verify_return_error"]).args(options);
    let output = client.stdin(Stdio::null()).output().expect("openssl runs");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Mozilla's "intermediate", which the standard of SPIFFE federation asks for.
fn speaks_tls_as_the_standard_wants(world: &World) {
    let versions = [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")];
    for (option, named) in versions {
        let said = handshake(world, &[option]);
        assert!(said.contains(named) && said.contains("Verification: OK"), "{said}");
    }
    // As weak as a client may be: it offers everything that it knows.
    let weak = |version: &str, suites: &str| {
        handshake(world, &[version, "-cipher", &format!("{suites}:@SECLEVEL=0")])
    };
    let refused = |said: &str| said.contains("alert handshake failure") && !said.contains("ESTABLISHED");
    let old = weak("-tls1_1", "ALL");
    assert!(refused(&old), "{old}");
    for suites in ["ECDHE-ECDSA-AES256-SHA384", "ECDHE-ECDSA-AES128-SHA", "AES128-GCM-SHA256"] {
        let said = weak("-tls1_2", suites);
        assert!(refused(&said), "{suites}: {said}");
    }
}

fn json(world: &World, path: &str) -> Value {
    let (status, page) = ask(world, path, &[]);
    assert_eq!(status, 200, "{path}: {page}");
    serde_json::from_str(&page).unwrap_or_else(|error| panic!("{path}: {error}: {page}"))
}

#[test]
fn other_trust_domains_and_margo_clients_find_the_bundle_of_each_zone() {
    if let Some(tool) = missing_tool(&["curl", "openssl"]) {
        eprintln!("skipped: {tool} is not installed; deploy/packages.sh names its package");
        return;
    }
    let Some((mut world, [_press])) = World::with_devices(["press-1"]) else { return };
    world.stop_broker();
    world.plant.add_end(
        "[publish]\nlisten = \"127.0.0.1:0\"\nurl = \"https://trust.plant.example\"\nmargo_zone = \"press\"\n",
    );
    world.start_broker();
    speaks_tls_as_the_standard_wants(&world);
    for zone in ["press", "archive"] {
        world.admin(&format!("zone create {zone} --mode observe --least instance-identity=affirming"));
        let bundle = json(&world, &format!("/zones/{zone}/bundle.json"));
        assert_eq!(bundle["keys"].as_array().map(Vec::len), Some(2), "{bundle}");
        let found = json(&world, &format!("/zones/{zone}/margo.json"));
        assert_eq!(found["trustDomain"], format!("{zone}.plant.example"));
        assert_eq!(found["trustBundleUri"], format!("https://trust.plant.example/zones/{zone}/bundle.json"));
    }
    assert_eq!(json(&world, "/.well-known/margo"), json(&world, "/zones/press/margo.json"));
    let keys = json(&world, "/.well-known/jwks.json");
    assert_eq!(keys["keys"].as_array().map(Vec::len), Some(2), "of results and of grants: {keys}");

    let (_, head) = ask(&world, "/zones/press/bundle.json", &["-I"]);
    let tag = head.lines().find_map(|line| line.strip_prefix("etag: ")).expect("a tag").trim().to_owned();
    let again = format!("If-None-Match: {tag}");
    assert_eq!(ask(&world, "/zones/press/bundle.json", &["-H", &again]), (304, String::new()));
    for gone in ["/zones/vendor/bundle.json", "/zones/../zones/press", "/"] {
        assert_eq!(ask(&world, gone, &[]).0, 404, "{gone}");
    }
    assert_eq!(ask(&world, "/zones/press/bundle.json", &["-d", "{}"]).0, 405);
    // What changed is another document.
    world.admin("authority rotate press --role caller");
    let (status, page) = ask(&world, "/zones/press/bundle.json", &["-H", &again]);
    assert!(status == 200 && page.matches("x5c").count() == 3, "{status} {page}");
}
