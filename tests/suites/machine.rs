//! Real boots: OVMF, systemd's stub, Linux and a TPM in a virtual machine, with our attestor in the guest and our broker
//! on the host. Each way of tampering is one boot, refused by the name of what was changed.

use std::fs;
use std::path::Path;

use attestor::plant::PlantRoot;
use e2e::{BOOT, Disks, Machine, World, until_within};
use serde_json::{Value, json};

const PRODUCT: &str = "edge-box";
/// The attestor's own files: what they hold is proven in other ways, and changes with each certificate.
const OWN_FILES: &str = "exclude = [\"/state/**\"]";

/// What the broker says of the machine, once `holds`.
fn until_why(world: &World, machine: &Machine, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    until_within(BOOT, &format!("{} is {what}", machine.name()), || {
        let answer = world.tool(&["device", "why", machine.name()]);
        let why = answer.json;
        match holds(&why) {
            true => Ok(why),
            false => Err(format!("{why:#}\n{}", machine.console())),
        }
    })
}

fn until_trusted(world: &World, machine: &Machine) {
    until_why(world, machine, "trusted", |why| why["state"] == "trusted");
}

/// Waits until the machine is refused for a mismatch that names all of these.
fn until_refused(world: &World, machine: &Machine, names: &[&str]) {
    let why = until_why(world, machine, &format!("refused for {names:?}"), |why| {
        let text = why.to_string();
        why["state"] == "refused" && names.iter().all(|name| text.contains(name))
    });
    assert!(why["findings"].is_array(), "{why:#}");
}

/// Makes a release of the image `image`, of the machine's firmware and of its files, signs and applies it.
fn make_golden(world: &World, machine: &Machine, image: &Path) {
    let [learned, release] = ["learned.toml", "1.toml"].map(|name| world.plant.run_path(name));
    let name = machine.name();
    world.admin(&format!(
        "golden learn --from {name} --product {PRODUCT} --version 0 --out {}",
        learned.display()
    ));
    let (files, image) = (machine.files(), image.display());
    world.admin(&format!(
        "golden predict --uki {image} --base {} --ima-tree {} --ima-files all --version 1 --out {}",
        learned.display(),
        files.display(),
        release.display()
    ));
    let predicted = fs::read_to_string(&release).expect("golden predict writes a manifest");
    let allowed = predicted.replacen("\n[ima]\n", &format!("\n[ima]\n{OWN_FILES}\n"), 1);
    assert_ne!(allowed, predicted);
    fs::write(&release, allowed).expect("a file of the run");
    apply(world, &release);
}

/// Makes a release of the next image, all else as it was; signs and applies it.
fn predict_next(world: &World, image: &Path) {
    let [base, release] = ["1.toml", "2.toml"].map(|name| world.plant.run_path(name));
    let (image, base, out) = (image.display(), base.display(), release.display());
    world.admin(&format!("golden predict --uki {image} --base {base} --version 2 --out {out}"));
    apply(world, &release);
}

fn apply(world: &World, manifest: &Path) {
    let (manifest, signed) = (manifest.display(), manifest.with_extension("dsse.json"));
    let signed = signed.display();
    world.admin(&format!("golden sign {manifest} --out {signed}"));
    world.admin(&format!("golden apply {signed} --yes"));
}

#[test]
fn a_machine_is_trusted_for_its_boot_and_refused_by_name_for_every_other() {
    let Some(disks) = Disks::made() else { return };
    let Some((world, [device])) = World::with_devices(["press-1"]) else { return };
    world.admin(&format!("zone create press --product {PRODUCT} --reattest-every 30s"));
    world.register(&device, "press");
    let root = PlantRoot::load(&world.plant.path("plant-root.pem")).expect("the plant's root").spki_digest();
    let mut machine = Machine::of(device, &disks).told_by_smbios(&root.to_string());

    machine.boot("good");
    until_refused(&world, &machine, &["no active golden release"]);
    make_golden(&world, &machine, &disks.path("good.efi"));
    until_trusted(&world, &machine);
    // It proves itself again beside a list of IMA that grew by its own certificates.
    let first = world.admin("device show press-1")["attested"]["at"].clone();
    world.admin("device attest press-1");
    until_attested(&world, &machine, |attested| attested["at"] != first && attested["at"].is_string());

    let changes: [(&str, &[&str]); 5] = [
        ("kernel", &["unified kernel image is not", "section .linux is not"]),
        ("initramfs", &["initrd is not", "section .initrd is not"]),
        ("cmdline", &["kernel command line is not", "section .cmdline is not"]),
        ("signer", &["PCR 7", "Touchstone test vector other (of db) vouched for what was started"]),
        // What the stub finds beside the image becomes a part of the initramfs.
        ("credential", &["initrd is not", "PCR 12 has a value"]),
    ];
    for (disk, names) in changes {
        machine.boot(disk);
        until_refused(&world, &machine, names);
    }
    machine.boot_with("good", "off.fd");
    until_refused(&world, &machine, &["PCR 7", "Secure Boot is off"]);

    machine.pack(&[("stranger", "#!/bin/busybox sh\n")]);
    machine.boot("good");
    until_refused(&world, &machine, &["/payload/stranger"]);
    machine.pack(&[]);
    machine.boot("good");
    until_trusted(&world, &machine);
}

/// How often its TPM was switched on, by its last proof.
fn resets(world: &World, machine: &Machine) -> u64 {
    let shown = world.admin(&format!("device show {}", machine.name()));
    shown["attested"]["reset_count"].as_u64().unwrap_or_else(|| panic!("it was attested: {shown:#}"))
}

fn until_booted(world: &World, machine: &Machine, resets: u64) {
    until_attested(world, machine, |attested| attested["reset_count"] == resets);
}

fn until_release(world: &World, machine: &Machine, release: &str) {
    until_attested(world, machine, |attested| attested["release"] == release);
}

fn until_attested(world: &World, machine: &Machine, holds: impl Fn(&Value) -> bool) {
    until_within(BOOT, &format!("{} has proven itself", machine.name()), || {
        let shown = world.admin(&format!("device show {}", machine.name()));
        holds(&shown["attested"]).then_some(()).ok_or_else(|| format!("{shown:#}\n{}", machine.console()))
    });
}

/// Of a TPM that nobody registered the broker knows that it waits for a person, and it issued nothing to it.
fn is_a_stranger(world: &World) {
    let listed = world.admin("device list --state pending");
    let [waiting] = listed["devices"].as_array().expect("devices").as_slice() else { panic!("{listed:#}") };
    assert_eq!((&waiting["certificates"], &waiting["attested"]), (&json!([]), &Value::Null), "{waiting:#}");
    let ek = waiting["ek_digest"].as_str().expect("a digest");
    // Certificates are issued to devices that were let in, and no such device has its TPM.
    let listed = world.admin("device list");
    let of_it = |device: &&Value| device["ek_digest"] == ek && device["state"] != "pending";
    assert_eq!(listed["devices"].as_array().expect("devices").iter().filter(of_it).count(), 0, "{listed:#}");
    let why = world.admin(&format!("device why {ek}"));
    assert!(why["next_command"].as_str().is_some_and(|next| next.contains("device admit")), "{why:#}");
    let events = world.admin("audit list --limit 1000");
    let about = |event: &&Value| event["subject"] == ek || event["actor"] == ek;
    let events: Vec<&Value> = events["events"].as_array().expect("events").iter().filter(about).collect();
    assert!(events.iter().any(|event| event["action"] == "device.pending"), "{events:#?}");
    assert!(events.iter().all(|event| event["serials"].as_array().is_none_or(Vec::is_empty)), "{events:#?}");
}

#[test]
fn a_machine_comes_back_by_itself_is_updated_and_its_disk_opens_no_door_for_another() {
    let Some(disks) = Disks::made() else { return };
    let Some((world, devices)) = World::with_devices(["press-1", "press-2", "press-3"]) else { return };
    world.admin(&format!("zone create press --product {PRODUCT} --reattest-every 30s"));
    devices.iter().take(2).for_each(|device| world.register(device, "press"));
    let [mut updated, mut late, mut other] = devices.map(|device| Machine::of(device, &disks));

    updated.boot("good");
    until_refused(&world, &updated, &["no active golden release"]);
    make_golden(&world, &updated, &disks.path("good.efi"));
    until_trusted(&world, &updated);
    let booted = resets(&world, &updated);
    updated.switch_off();
    updated.boot("good");
    until_booted(&world, &updated, booted + 1);
    until_trusted(&world, &updated);
    updated.cut_power();
    updated.boot("good");
    until_booted(&world, &updated, booted + 2);
    until_trusted(&world, &updated);

    // Copies of its disks beside it: a TPM that nobody registered is a stranger, whatever name it asks for, and the
    // other one is who it is.
    updated.switch_off();
    other.take_disks_of(&updated);
    late.take_disks_of(&updated);
    updated.boot("good");
    other.boot("good");
    late.boot("good");
    for copy in [&other, &late] {
        copy.until_console("is of another TPM: the disk was copied");
    }
    other.until_console("the device is now pending");
    is_a_stranger(&world);
    until_trusted(&world, &late);
    until_booted(&world, &updated, booted + 3);
    until_trusted(&world, &updated);
    other.cut_power();

    // An update of which nothing was seen but the image.
    predict_next(&world, &disks.path("next.efi"));
    updated.switch_off();
    updated.boot("next");
    until_release(&world, &updated, "edge-box@2");
    until_trusted(&world, &updated);
    until_release(&world, &late, "edge-box@1");
    until_trusted(&world, &late);
    world.admin("golden withdraw edge-box@1 --reason test --yes");
    until_refused(&world, &late, &["edge-box@1", "withdrawn"]);
    until_trusted(&world, &updated);
}
