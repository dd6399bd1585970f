//! Release keys of two people: one in the tool, one in openssl; removed, and compromised.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::{World, until};
use serde_json::Value;

/// Runs openssl with the words of `line`, in `folder`.
fn openssl(folder: &Path, line: &str) {
    let output =
        Command::new("openssl").args(line.split(' ')).current_dir(folder).output().expect("openssl runs");
    assert!(output.status.success(), "openssl {line}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A folder with the key pair of somebody.
fn key_pair(world: &World, name: &str, algorithm: &str) -> PathBuf {
    let folder = world.plant.run_path(name);
    fs::create_dir(&folder).expect("a folder of the run");
    openssl(&folder, &format!("genpkey {algorithm} -out release.key"));
    openssl(&folder, "pkey -in release.key -pubout -out release.pub");
    folder
}

fn key<'a>(list: &'a Value, name: &str) -> &'a Value {
    let keys = list["keys"].as_array().expect("a list of keys");
    keys.iter().find(|key| key["name"] == name).unwrap_or_else(|| panic!("no key {name} in {list:#}"))
}

#[test]
fn two_people_sign_and_what_a_stolen_key_vouched_for_ends() {
    let Some((world, [mut press])) = World::with_devices(["press-1"]) else { return };
    world.admin("zone create press --product edge-box --reattest-every 10s");
    world.register(&press, "press");
    press.measure("boot-a");
    press.start();
    press.until_state("refused");

    let build = key_pair(&world, "build", "-algorithm ED25519");
    let audit = key_pair(&world, "audit", "-algorithm EC -pkeyopt ec_paramgen_curve:P-256");
    for (name, folder) in [("build", &build), ("audit", &audit)] {
        let public = folder.join("release.pub");
        world.admin(&format!("golden key add {name} --public {} --product edge-box", public.display()));
    }
    let said = world.tool(&["golden", "key", "threshold", "edge-box", "4"]).refused(3);
    assert!(said.contains("edge-box has 3 release keys in force"), "{said}");
    world.admin("golden key threshold edge-box 2");
    world.admin("golden key remove init");
    let said = world.tool(&["golden", "key", "remove", "audit"]).refused(3);
    assert!(said.contains("without the release key audit, edge-box would have 1 of the 2 keys"), "{said}");
    assert_eq!(key(&world.admin("golden key list"), "init")["state"], "removed");

    // One signs with the tool, the other what the tool wrote.
    let manifest = world.plant.run_path("edge.toml");
    let (file, signed) = (manifest.display().to_string(), format!("{}.dsse.json", manifest.display()));
    world.admin(&format!("golden learn --from press-1 --product edge-box --version 1.0.0 --out {file}"));
    let apply = ["golden", "apply", &signed, "--yes"];
    world.admin(&format!("golden sign {file}"));
    let said = world.tool(&apply).refused(3);
    assert!(
        said.contains("signed by the release key init") && said.contains("which was removed on"),
        "{said}"
    );
    fs::remove_file(&signed).expect("the envelope");
    world.admin(&format!("golden sign {file} --key {}", build.join("release.key").display()));
    let said = world.tool(&apply).refused(3);
    assert!(said.contains("edge-box@1.0.0 is signed by 1 of 2 needed keys"), "{said}");
    world.admin(&format!("golden payload {file} --out {}", audit.join("payload").display()));
    openssl(&audit, "dgst -sha256 -sign release.key -out signature payload");
    let (signature, public) = (audit.join("signature"), audit.join("release.pub"));
    world.admin(&format!(
        "golden attach {signed} --signature {} --public {}",
        signature.display(),
        public.display()
    ));
    world.tool(&apply).done();
    press.until_state("trusted");

    // A removed key signs nothing new, and what it signed counts on.
    let spare = key_pair(&world, "spare", "-algorithm ED25519");
    let public = spare.join("release.pub");
    world.admin(&format!("golden key rotate audit --public {}", public.display()));
    assert_eq!(press.until_state("trusted")["state"], "trusted");
    let said = world.tool(&apply).refused(3);
    assert!(said.contains("signed by the release key audit"), "{said}");
    assert_eq!(world.admin("golden list")["releases"][0]["accepted"], true);

    // Stolen, it takes the release along: the device is refused, and gets no other certificate.
    let public = key_pair(&world, "unused", "-algorithm ED25519").join("release.pub");
    let line = format!("golden key rotate build --public {} --compromised", public.display());
    let said = world.tool(&line.split(' ').collect::<Vec<_>>()).refused(64);
    assert!(said.contains("--yes") && said.contains("--dry-run"), "{said}");
    let told = world.admin(&format!("{line} --dry-run"));
    assert_eq!(
        (&told["compromised"], &told["void"][0]),
        (&true.into(), &"edge-box@1.0.0".into()),
        "{told:#}"
    );
    let told = world.admin("golden key remove build --compromised --dry-run");
    assert_eq!(
        (&told["void"][0], &told["running"][0]),
        (&"edge-box@1.0.0".into(), &"press-1".into()),
        "{told:#}"
    );
    assert_eq!(told["groups"][0]["outcome"], "loses", "{told:#}");
    let reason =
        ["golden", "key", "remove", "build", "--compromised", "--yes", "--reason", "a laptop was stolen"];
    let done = world.tool(&reason).done();
    assert_eq!(
        (&done["short"][0]["needed"], &done["short"][0]["available"]),
        (&2.into(), &1.into()),
        "{done:#}"
    );
    press.until_state("refused");
    let release = world.admin("golden list")["releases"][0].clone();
    assert_eq!((&release["state"], &release["accepted"]), (&"active".into(), &false.into()), "{release:#}");
    assert_eq!(release["void"], "1 of 2 needed keys vouch for it, since build is compromised", "{release:#}");
    until("what the device held is revoked", || {
        let events = world.admin("audit list").to_string();
        if events.contains("release-key.compromised") { Ok(()) } else { Err(events) }
    });
    let held = &world.admin("device show press-1")["certificates"];
    assert!(held.as_array().is_none_or(Vec::is_empty), "no certificate is left, none is new: {held:#}");

    // Signed again by whoever is left and somebody new, the same release counts.
    let next = key_pair(&world, "next", "-algorithm ED25519");
    world.admin(&format!(
        "golden key add next --public {} --product edge-box",
        next.join("release.pub").display()
    ));
    fs::remove_file(&signed).expect("the envelope");
    for folder in [&spare, &next] {
        let from = if Path::new(&signed).exists() { &signed } else { &file };
        world.admin(&format!("golden sign {from} --key {}", folder.join("release.key").display()));
    }
    world.tool(&apply).done();
    press.until_state("trusted");
}
