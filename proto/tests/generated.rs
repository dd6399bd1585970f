//! The committed code is what the .proto files say: regenerated here and compared.
//!
//! Run with `TOUCHSTONE_REGENERATE=1` to write it anew after a change of the contract.
#![expect(clippy::expect_used, reason = "a failed step of this test is its failure")]

use std::path::{Path, PathBuf};

use prost::Message;

fn generate(out: &Path) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = [
        "types",
        "attestation",
        "watch",
        "authorize",
        "device",
        "golden",
        "release_key",
        "rollout",
        "zone",
        "graph",
        "authority",
        "audit",
        "backup",
        "calendar",
        "change",
        "exposure",
        "administrator",
        "invitation",
        "admin",
    ]
    .map(|name| format!("touchstone/v1/{name}.proto"));
    let descriptors = protox::compile(files, [root]).expect("the contract compiles");
    std::fs::write(out.join("touchstone.v1.fds"), descriptors.encode_to_vec())
        .expect("descriptors are written");
    tonic_prost_build::configure()
        .emit_rerun_if_changed(false)
        .out_dir(out)
        .compile_fds(descriptors)
        .expect("code is generated");
}

#[test]
fn the_committed_code_is_what_the_contract_says() {
    let committed: PathBuf = [env!("CARGO_MANIFEST_DIR"), "src", "gen"].iter().collect();
    if std::env::var_os("TOUCHSTONE_REGENERATE").is_some() {
        generate(&committed);
    }
    let fresh = tempfile::tempdir().expect("a folder for fresh code");
    generate(fresh.path());
    for name in ["touchstone.v1.rs", "touchstone.v1.fds"] {
        let new = std::fs::read(fresh.path().join(name)).expect("fresh code");
        let old = std::fs::read(committed.join(name)).expect("committed code");
        assert!(new == old, "{name} is stale: run TOUCHSTONE_REGENERATE=1 cargo test -p proto");
    }
}
