//! What `deploy/package` makes, and that it installs, upgrades and goes away on a clean Debian without a network.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use attestor::testing::{command, missing_tool};
use e2e::program;
use tempfile::TempDir;

const UNIT: &str = "usr/lib/systemd/system/touchstone-attestor.service";

/// The packages and the kit, with an attestor's package that carries a release; they go with this value.
struct Packages {
    folder: TempDir,
    release: String,
}

fn sh(line: &str) -> Output {
    command("bash").args(["-euo", "pipefail", "-c", line]).output().expect("bash runs")
}

/// What a line of shell prints.
fn done(line: &str) -> String {
    let output = sh(line);
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{line}: {}{}", said(&output.stdout), said(&output.stderr));
    said(&output.stdout) + &said(&output.stderr)
}

impl Packages {
    /// Packs the programs under test. None, with the reason said, where there is nothing to pack with.
    fn make() -> Option<Self> {
        if let Some(tool) = missing_tool(&["dpkg-deb", "dpkg-shlibdeps", "jq", "strip"]) {
            eprintln!("skipped: {tool} is not installed; deploy/packages.sh names its package");
            return None;
        }
        let folder = TempDir::new().expect("a run folder");
        let release =
            envelope("b3Vycw==", &format!(r#"{{"keyid":"k","sig":"{}"}}"#, folder.path().display()));
        fs::write(folder.path().join("edge.dsse.json"), &release).expect("a release");
        let packages = Self { folder, release };
        let built = program("touchstone");
        let built = built.parent().expect("a folder").display();
        let (script, out) = (packages.script(), packages.path(""));
        done(&format!(
            "{script} --binaries {built} --golden {out}/edge.dsse.json --out {out}/made",
            out = out.display()
        ));
        done(&format!(
            "cd {} && tar -xzf made/touchstone-kit_*.tar.gz && mv touchstone-kit_* kit",
            out.display()
        ));
        Some(packages)
    }

    #[expect(clippy::unused_self, reason = "it is about what makes them")]
    fn script(&self) -> String {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/package").display().to_string()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

#[test]
fn packages_hold_programs_units_pages_and_what_they_are_made_of() {
    let Some(packages) = Packages::make() else { return };
    let kit = packages.path("kit");
    done(&format!("cd {} && sha256sum --strict --quiet --check SHA256SUMS", kit.display()));
    let kit = kit.display();
    let fields = done(&format!("dpkg-deb --field {kit}/touchstone-attestor_*.deb Package Depends"));
    assert!(fields.contains("libtss2-esys-3.0.2-0 (>= ") && fields.contains("tpm-udev"), "{fields}");
    let fields = done(&format!("dpkg-deb --field {kit}/touchstone-broker_*.deb Depends"));
    assert!(!fields.contains("tss2"), "the broker's machine needs no TPM library: {fields}");

    done(&format!(
        "cd {kit} && dpkg-deb -x touchstone-attestor_*.deb a && dpkg-deb -x touchstone-broker_*.deb b"
    ));
    let unit = done(&format!("cat {kit}/a/{UNIT}"));
    assert!(unit.contains("/usr/bin/touchstone-attestor run") && !unit.contains("/usr/local"), "{unit}");
    for file in [
        "bin/touchstone",
        "share/man/man1/touchstone-device-why.1.gz",
        "share/zsh/vendor-completions/_touchstone",
    ] {
        done(&format!("test -s {kit}/b/usr/{file}"));
    }
    for example in ["attestor.toml", "nginx-authorize.conf", "grpcio_authorize.py"] {
        done(&format!("test -s {kit}/a/usr/share/doc/touchstone-attestor/examples/{example}"));
    }
    let release = format!(
        "dpkg-deb --fsys-tarfile {kit}/touchstone-attestor_*.deb | tar -xO ./usr/share/touchstone/golden/edge.dsse.json"
    );
    assert_eq!(done(&release), packages.release, "it carries the golden release");
    let made_of = done(&format!(
        "jq -r '.components[] | .name, .hashes[0].alg' {kit}/a/usr/share/doc/touchstone-attestor/sbom.cdx.json"
    ));
    assert!(made_of.contains("tss-esapi\nSHA-256\n") && !made_of.contains("sled\n"), "{made_of}");
    done(&format!("! grep -rlF '{}' {kit}/a/usr/share {kit}/b/usr/share", env!("CARGO_MANIFEST_DIR")));
}

/// What `touchstone golden sign` writes, around this payload and these signatures.
fn envelope(payload: &str, signatures: &str) -> String {
    let kind = policy::reference::dsse::PAYLOAD_TYPE;
    format!(r#"{{"payloadType":"{kind}","payload":"{payload}","signatures":[{signatures}]}}"#)
}

#[test]
fn a_release_that_nobody_signed_is_not_packed() {
    let folder = TempDir::new().expect("a run folder");
    let file = folder.path().join("edge.dsse.json");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/package");
    let signature = r#"{"keyid":"k","sig":"c2ln"}"#;
    let unsigned = [
        "product = \"edge\"\n".to_owned(),
        envelope("b3Vycw==", ""),
        envelope("b3Vycw==", r#"{"keyid":"k","sig":""}"#),
        envelope("", signature),
        envelope("b3Vycw==", signature).replace("release", "plan"),
        r#"{"signatures":[]}"#.to_owned(),
    ];
    for content in unsigned {
        fs::write(&file, &content).expect("a file");
        let refused = sh(&format!("{} --golden {}", script.display(), file.display()));
        let said = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(64), "{content}: {said}");
        assert!(said.contains("edge.dsse.json is no signed release; make it with"), "{content}: {said}");
    }
}

/// In a kit: the same packages with a higher version.
const NEWER: &str = "mkdir newer && for file in touchstone-*.deb; do dpkg-deb -R $file tree && \
    sed -i 's/^Version: .*/&+1/' tree/DEBIAN/control && dpkg-deb -Znone -b tree newer >/dev/null && rm -r tree; done";

/// A Debian of its own in a folder; it goes with this value.
struct Debian(TempDir);

impl Debian {
    /// None, with the reason said, where none can be made.
    fn new() -> Option<Self> {
        if let Some(tool) = missing_tool(&["debootstrap", "chroot"]) {
            eprintln!("skipped: {tool} is not installed; deploy/packages.sh names its package");
            return None;
        }
        if done("id -u").trim() != "0" {
            eprintln!("skipped: only root can make a tree of Debian's");
            return None;
        }
        let folder = TempDir::new().expect("a run folder");
        let make = "timeout 300 debootstrap --variant=minbase --include=udev bookworm";
        let made = sh(&format!("{make} {} >{0}.log 2>&1", folder.path().display()));
        if !made.status.success() {
            let log = fs::read_to_string(format!("{}.log", folder.path().display())).unwrap_or_default();
            eprintln!(
                "skipped: debootstrap cannot make a tree here: {}",
                log.lines().last().unwrap_or("it says nothing")
            );
            return None;
        }
        Some(Self(folder))
    }

    /// Runs a line in the tree, as root.
    fn run(&self, line: &str) -> String {
        done(&format!("chroot {} /bin/sh -euc '{line}'", self.0.path().display()))
    }
}

impl Debian {
    /// Lets maintainer scripts find a systemd, which notes what it is told.
    fn run_systemd(&self) {
        self.run("mkdir -p /run/systemd/system");
        let stub = self.0.path().join("usr/bin/systemctl");
        fs::write(&stub, "#!/bin/sh\necho \"$*\" >>/told\n").expect("a file of the tree");
        self.run("chmod 755 /usr/bin/systemctl; touch /told");
    }

    /// What it was told since it was asked last.
    fn told(&self) -> String {
        self.run("cat /told; : >/told")
    }

    /// Everything that packages and people may leave; not the lists of users and packages, and logs.
    fn files(&self) -> BTreeSet<String> {
        let lists =
            "-path /var/lib/dpkg -o -path /var/log -o -path /var/cache -o -name \"*-\" -path \"/etc/*\"";
        let found = self.run(&format!("find /etc /usr /var /opt /srv /run \\( {lists} \\) -prune -o -print"));
        found.lines().map(str::to_owned).collect()
    }
}

impl Drop for Debian {
    fn drop(&mut self) {
        let log = format!("{}.log", self.0.path().display());
        drop(Command::new("rm").arg("-f").arg(log).status());
    }
}

#[test]
fn the_kit_installs_upgrades_and_is_purged_on_a_clean_debian_without_a_network() {
    let Some(packages) = Packages::make() else { return };
    if !fs::read_dir(packages.path("kit/dependencies")).is_ok_and(|mut found| found.next().is_some()) {
        eprintln!("skipped: the packages of the TPM library could not be fetched");
        return;
    }
    let Some(debian) = Debian::new() else { return };
    done(&format!("cd {} && {NEWER}", packages.path("kit").display()));
    done(&format!("cp -r {} {}/kit", packages.path("kit").display(), debian.0.path().display()));

    debian.run("dpkg -i /kit/dependencies/*.deb 2>&1");
    debian.run_systemd();
    let before = debian.files();
    let said = debian.run("dpkg -i /kit/*.deb 2>&1");
    assert!(
        said.contains("write /etc/touchstone/attestor.toml next") && said.contains("make a plant next"),
        "{said}"
    );
    for name in ["touchstone", "touchstone-broker", "touchstone-attestor"] {
        assert!(debian.run(&format!("{name} --version")).starts_with(name));
    }
    assert!(debian.run("id touchstone-attestor").contains("(tss)"), "its group opens the TPM");
    debian.run("runuser -u touchstone-broker -- touchstone-broker init --plant plant.example --address 127.0.0.1:8443");
    debian.run("install -d -m 700 -o touchstone-attestor -g tss /var/lib/touchstone-attestor");
    let delivered = "/run/touchstone/generations/1 /run/touchstone-attestor";
    debian.run(&format!("install -d -o touchstone-attestor -g tss {delivered} /opt/plc"));
    debian.run(
        "echo \"deliver = \\\"/opt/plc\\\" # ours\" >/etc/touchstone/attestor.toml; \
         echo state >/var/lib/touchstone-attestor/state; echo key >/run/touchstone/generations/1/server.key; \
         ln -s generations/1 /run/touchstone/current; echo log >/run/touchstone-attestor/firmware.log",
    );
    let told = debian.told();
    for unit in ["touchstone-broker.service", "touchstone-attestor.service"] {
        assert!(told.contains(&format!(" preset {unit}")), "it starts with the system: {told}");
    }
    upgrade(&debian);
    remove_and_purge(&debian, &before);
}

/// State and configuration stay, and what ran goes on as the new one.
fn upgrade(debian: &Debian) {
    let said = debian.run("dpkg -i /kit/newer/*.deb 2>&1");
    assert!(!said.contains("next"), "an upgrade has nothing to begin: {said}");
    assert!(debian.run("dpkg-query -W touchstone-*").lines().all(|line| line.ends_with("+1")), "{said}");
    let told = debian.told();
    for (unit, how) in [("touchstone-broker", ""), ("touchstone-attestor", "--no-block ")] {
        let restart = format!("{how}try-restart {unit}.service");
        assert_eq!(told.matches(&restart).count(), 1, "it runs on as the new one, if it ran: {told}");
    }
    assert!(!told.contains("stop") && told.starts_with("daemon-reload"), "{told}");
    let kept =
        "/etc/touchstone/attestor.toml /var/lib/touchstone-attestor/state /var/lib/touchstone/broker.toml";
    let kept = debian
        .run(&format!("cat {kept}; stat -c \"%a %U\" /var/lib/touchstone-attestor /var/lib/touchstone"));
    assert!(kept.starts_with("deliver = \"/opt/plc\" # ours\nstate\n"), "{kept}");
    assert!(kept.ends_with("700 touchstone-attestor\n700 touchstone-broker\n"), "{kept}");
}

/// What people wrote stays, and the plant.
fn remove_and_purge(debian: &Debian, before: &BTreeSet<String>) {
    debian.run("dpkg --remove touchstone-attestor touchstone-broker 2>&1");
    let told = debian.told();
    assert!(
        told.contains("stop touchstone-broker.service") && told.contains("stop touchstone-attestor.service"),
        "{told}"
    );
    debian.run(
        "test -d /var/lib/touchstone -a -s /var/lib/touchstone-attestor/state -a ! -e /usr/bin/touchstone",
    );
    debian.run("test -s /run/touchstone/current/server.key -a -s /run/touchstone-attestor/firmware.log");
    let said = debian.run("dpkg --purge touchstone-attestor touchstone-broker 2>&1");
    for folder in ["/var/lib/touchstone-attestor", "/run/touchstone", "/run/touchstone-attestor"] {
        assert!(said.contains(&format!("keys and certificates in {folder} are deleted")), "{said}");
    }
    assert!(said.contains("/opt/plc, which attestor.toml names, is kept"), "{said}");
    assert!(said.contains("/var/lib/touchstone is kept: it is the plant"), "{said}");
    let after = debian.files();
    assert_eq!(before.difference(&after).collect::<Vec<_>>(), Vec::<&String>::new(), "what was there before");
    let ours = |path: &str| path.starts_with("/var/lib/touchstone/") || path == "/var/lib/touchstone";
    let left: Vec<_> = after.difference(before).filter(|path| !ours(path)).collect();
    assert_eq!(left, ["/etc/touchstone", "/etc/touchstone/attestor.toml", "/opt/plc"]);
}
