//! The committed code is what the .proto files say: regenerated here and compared.
//!
//! Run with `TOUCHSTONE_REGENERATE=1` to write it anew after a change of the contract.
#![expect(clippy::expect_used, reason = "a failed step of this test is its failure")]

use std::path::{Path, PathBuf};

use prost::Message;
use prost_types::FileDescriptorSet;

fn generate(out: &Path) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = [
        "types",
        "attestation",
        "watch",
        "authorize",
        "device",
        "token",
        "golden",
        "release_key",
        "rollout",
        "zone",
        "drill",
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
    let descriptors = compile(&files, root, out, true);
    std::fs::write(out.join("touchstone.v1.fds"), descriptors.encode_to_vec())
        .expect("descriptors are written");
    // Its own package has no name, and so no name for its file.
    compile(&["spiffe/workload.proto".to_owned()], root, out, true);
    std::fs::rename(out.join("_.rs"), out.join("spiffe.workload.rs")).expect("the code has a name");
    compile(&["etcd/rpc.proto".to_owned()], root, out, false);
}

/// Writes the code of `files`: clients, and servers if somebody here serves them.
fn compile(files: &[String], root: &Path, out: &Path, served: bool) -> FileDescriptorSet {
    let descriptors = protox::compile(files, [root]).expect("the contract compiles");
    tonic_prost_build::configure()
        .emit_rerun_if_changed(false)
        .build_server(served)
        .out_dir(out)
        .compile_fds(descriptors.clone())
        .expect("code is generated");
    descriptors
}

#[test]
fn the_committed_code_is_what_the_contract_says() {
    let committed: PathBuf = [env!("CARGO_MANIFEST_DIR"), "src", "gen"].iter().collect();
    if std::env::var_os("TOUCHSTONE_REGENERATE").is_some() {
        generate(&committed);
    }
    let fresh = tempfile::tempdir().expect("a folder for fresh code");
    generate(fresh.path());
    for name in ["touchstone.v1.rs", "touchstone.v1.fds", "spiffe.workload.rs", "etcdserverpb.rs"] {
        let new = std::fs::read(fresh.path().join(name)).expect("fresh code");
        let old = std::fs::read(committed.join(name)).expect("committed code");
        assert!(new == old, "{name} is stale: run TOUCHSTONE_REGENERATE=1 cargo test -p proto");
    }
}
