//! Images that the attestor measures itself: from a file on the device to the word of the broker.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use attestor::tpm::{EsapiTpm, PcrBank, PcrIndex, Tpm};
use e2e::{Device, World, until};
use policy::digest::Digest;
use policy::eventlog::image::{ImageKind, ImageLog, ImageMeasurement};
use policy::tpm::alg::HashAlg;
use serde_json::Value;

/// So long that nothing is proven on schedule.
const ZONE: &str = "zone create press --product edge-box --reattest-every 4h";
const BANKS: [HashAlg; 2] = [HashAlg::Sha256, HashAlg::Sha384];

/// A device that measures the files of its folder `plc`.
fn measuring(device: &mut Device, files: &[(&str, &str)]) {
    fs::create_dir(device.path("plc")).expect("a folder of the device");
    for (name, content) in files {
        put(device, name, content);
    }
    let (folder, log) = (device.path("plc"), device.path("images.log"));
    device.add_end(&format!("[images]\nfolders = [\"{}\"]\nlog = \"{}\"\n", folder.display(), log.display()));
}

/// Puts a file in its place as updaters do: whole.
fn put(device: &Device, name: &str, content: &str) {
    let fresh = device.path("fresh");
    fs::write(&fresh, content).expect("a file of the device");
    fs::rename(fresh, file(device, name)).expect("it is put in its place");
}

fn file(device: &Device, name: &str) -> PathBuf {
    device.path("plc").join(name)
}

fn finding<'a>(findings: &'a Value, word: &str) -> Option<&'a Value> {
    let has = |finding: &&Value| finding["message"].as_str().is_some_and(|text| text.contains(word));
    findings.as_array()?.iter().find(has)
}

/// The status, once the last refusal has a finding with this word.
fn until_refused(device: &Device, word: &str) -> Value {
    let status = device.until_status(&format!("refused: {word}"), |status| {
        status["state"] == "refused" && finding(&status["denial"]["findings"], word).is_some()
    });
    finding(&status["denial"]["findings"], word).expect("it was just found").clone()
}

fn entries(device: &Device) -> Vec<ImageMeasurement> {
    let log = ImageLog::parse(&fs::read(device.path("images.log")).expect("an image log")).expect("a log");
    log.entries().iter().map(|entry| entry.image.clone()).collect()
}

fn image(device: &Device, name: &str, content: &str) -> ImageMeasurement {
    let (digest, size) = (Digest::of(content.as_bytes()), u64::try_from(content.len()).expect("a length"));
    ImageMeasurement { kind: ImageKind::File, path: file(device, name).display().to_string(), digest, size }
}

#[test]
fn a_changed_image_is_refused_by_name_until_the_device_restarts() {
    let Some((world, [mut press])) = World::with_devices(["press-1"]) else { return };
    world.admin(ZONE);
    world.register(&press, "press");
    measuring(&mut press, &[("press.bin", "program"), ("model", "weights")]);
    press.measure("boot-a");
    press.start();
    press.until_status("refused, nothing is golden yet", |status| status["state"] == "refused");
    let release = world.make_golden("press-1", "edge-box", "1.0.0");
    let manifest = fs::read_to_string(release.with_extension("").with_extension("toml")).expect("a manifest");
    assert_eq!(manifest.matches("[[image]]").count(), 2, "golden learn gives both: {manifest}");
    let trusted = press.until_state("trusted");
    assert_eq!((&trusted["images"]["measured"], &trusted["images"]["entries"]), (&2.into(), &2.into()));

    put(&press, "press.bin", "patched");
    let found = until_refused(&press, "press.bin has digest");
    let [expected, seen] = ["program", "patched"].map(|content| Digest::of(content.as_bytes()).to_string());
    assert_eq!(
        (&found["pcr"], &found["expected"]),
        (&13.into(), &serde_json::json!([expected])),
        "{found:#}"
    );
    assert_eq!(found["seen"], seen, "{found:#}");
    let why = world.admin("device why press-1");
    let told = finding(&why["findings"], "press.bin has digest").unwrap_or_else(|| panic!("{why:#}"));
    assert!(told["message"].as_str().is_some_and(|text| text.contains("restart the device")), "{told:#}");
    assert_eq!(world.admin("device show press-1")["certificates"], serde_json::json!([]), "revoked with it");

    put(&press, "press.bin", "program");
    until_refused(&press, "it is an approved one again: restart the device, whose PCR 13");
    press.reboot("boot-a");
    press.until_state("trusted");
    assert_eq!(entries(&press).len(), 2, "the log began anew with the boot");

    fs::remove_file(file(&press, "model")).expect("a file of the device");
    until_refused(&press, "model was removed while the device ran");
    put(&press, "model", "weights");
    press.reboot("boot-a");
    press.until_state("trusted");
    put(&press, "plugin", "who put this here");
    until_refused(&press, "plugin has digest");
}

/// The two places between log and PCR where a kill leaves them apart, and then any other moment.
#[test]
fn an_attestor_that_is_killed_while_it_measures_goes_on_where_it_was() {
    let Some((world, [mut press])) = World::with_devices(["press-1"]) else { return };
    world.admin(ZONE);
    world.register(&press, "press");
    let names = ["a", "b", "c", "d", "e", "f"];
    measuring(&mut press, &names.map(|name| (name, name)));
    press.measure("boot-a");
    press.start();
    press.until_state("refused");
    world.make_golden("press-1", "edge-box", "1.0.0");
    press.until_state("trusted");
    for name in &names[1..] {
        fs::remove_file(file(&press, name)).expect("a file of the device");
    }
    press.reboot("boot-a");
    until_refused(&press, "was not measured");

    for (name, first_bank) in [("b", false), ("c", true)] {
        press.cut_power();
        put(&press, name, name);
        let entry = image(&press, name, name);
        let mut log = fs::read(press.path("images.log")).expect("an image log");
        log.extend(entry.to_record(&BANKS));
        fs::write(press.path("images.log"), log).expect("the log is written");
        if first_bank {
            let digest = HashAlg::Sha256.hash(&[entry.measured_text().as_bytes()]);
            extend(&press, PcrBank::Sha256, digest.as_bytes());
        }
        press.start();
        let count = entries(&press).len();
        press.until_status("on with its log", |status| status["images"]["entries"] == count);
    }
    assert_eq!(entries(&press), ["a", "b", "c"].map(|name| image(&press, name, name)));

    for (name, life) in ["d", "e", "f"].into_iter().zip([0, 40, 520]) {
        put(&press, name, name);
        // No condition to wait for: any moment must do.
        thread::sleep(Duration::from_millis(life));
        press.cut_power();
        press.start();
    }
    press.until_state("trusted");
    let mut measured = entries(&press);
    measured.sort_by(|a, b| a.path.cmp(&b.path));
    assert_eq!(measured, names.map(|name| image(&press, name, name)), "each once, whenever it was killed");
}

#[test]
fn a_pcr_that_others_extended_is_refused_and_the_device_says_so() {
    let Some((world, [mut press])) = World::with_devices(["press-1"]) else { return };
    world.admin(ZONE);
    world.register(&press, "press");
    measuring(&mut press, &[("press.bin", "program")]);
    press.measure("boot-a");
    press.start();
    press.until_state("refused");
    world.make_golden("press-1", "edge-box", "1.0.0");
    press.until_state("trusted");
    press.cut_power();
    extend(&press, PcrBank::Sha256, &[7; 32]);
    press.start();
    until_refused(&press, "does not explain PCR 13");
    let status = press.until_status("at a loss", |status| status["images"]["problems"][0].is_string());
    let problem = status["images"]["problems"][0].as_str().expect("a problem").to_owned();
    assert!(problem.contains("entries were lost, or other software extends that PCR"), "{problem}");
    let words = String::from_utf8(press.attestor("status", &[]).stdout).expect("text");
    assert!(words.contains(&problem), "{words}");
    press.reboot("boot-a");
    press.until_state("trusted");
}

/// A device that does not measure what its release lists, and one whose log is left out, gain nothing.
#[test]
fn a_device_that_measures_nothing_is_refused_by_a_release_with_images() {
    let Some((world, [mut press, mut lathe])) = World::with_devices(["press-1", "lathe-1"]) else { return };
    world.admin(ZONE);
    world.register(&press, "press");
    world.register(&lathe, "press");
    measuring(&mut press, &[("press.bin", "program")]);
    for device in [&mut press, &mut lathe] {
        device.measure("boot-a");
        device.start();
        device.until_state("refused");
    }
    world.make_golden("press-1", "edge-box", "1.0.0");
    press.until_state("trusted");
    until_refused(&lathe, "press.bin, which edge-box@1.0.0 asks for, was not measured");
    press.cut_power();
    fs::remove_file(press.path("images.log")).expect("the log of the device");
    press.start();
    until_refused(&press, "does not explain PCR 13");
    until("the broker keeps it", || {
        let state = world.admin("device show press-1")["state"].clone();
        (state == "refused").then_some(()).ok_or(state.to_string())
    });
}

fn extend(device: &Device, bank: PcrBank, digest: &[u8]) {
    let mut tpm = EsapiTpm::new(device.tpm());
    tpm.extend(PcrIndex::try_from(13).expect("a PCR"), bank, digest).expect("the TPM extends");
    tpm.release();
}
