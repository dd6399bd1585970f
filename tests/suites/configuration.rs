//! The configurations that are shipped as examples.

use std::fs;
use std::path::Path;

fn deployed(name: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(name);
    fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

#[test]
fn the_examples_parse() {
    let etc = Path::new("/etc/touchstone");
    let attestor = attestor::config::Config::parse(etc, &deployed("attestor.toml")).expect("attestor.toml");
    assert_eq!(attestor.services.len(), 1);
    let broker = broker::config::Config::parse(etc, &deployed("broker.toml")).expect("broker.toml");
    assert!(broker.tpm_roots.is_empty(), "a bare machine has none, and a path that is named must be there");
}
