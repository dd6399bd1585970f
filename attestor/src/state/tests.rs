//! The state file: what survives, what is refused.

use rcgen::{CertificateParams, KeyPair, PublicKeyData, SanType};

use std::path::Path;

use policy::id::PlantDomain;

use super::*;
use crate::config::{KeyPlace, Service, Workload};
use crate::role::Role;
use crate::software_key::{Holder, SoftwareKey};
use crate::svid::Asked;
use crate::trust::tests::{NOW, Plant, set};
use crate::trust::{Direction, Expected, Seen};

/// The blob of an identity key with the point of `key`; no TPM can load it.
pub(crate) fn identity_key(key: &KeyPair) -> IdentityKey {
    // TPMT_PUBLIC of template.rs: ECC, SHA-256, attributes, no policy, no symmetric, no scheme, P-256, no KDF.
    let head = hex::decode("0023000b0004047200000010001000030010").unwrap();
    let point = key.der_bytes();
    let area = [&head, [0, 32].as_slice(), &point[1..33], &[0, 32], &point[33..]].concat();
    let sized = |bytes: &[u8]| [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat();
    IdentityKey::Tpm(IdentityKeyBlob::parse(sized(&area), sized(&[0xab; 126]), 0x8100_0001).unwrap())
}

/// A certificate for the key, as the broker issues it to press-1.
pub(crate) fn svid(seat: &Seat, key: &KeyPair, plant: &PlantDomain) -> HeldSvid {
    svid_from(seat, key, plant, 1975)
}

/// The same that begins with this year.
pub(crate) fn svid_from(seat: &Seat, key: &KeyPair, plant: &PlantDomain, year: i32) -> HeldSvid {
    let device = "press-1".parse().unwrap();
    let uri = plant.trust_domain(&seat.zone).device(&device).to_string();
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(uri.as_str().try_into().unwrap())];
    (params.not_before, params.not_after) =
        (rcgen::date_time_ymd(year, 1, 1), rcgen::date_time_ymd(2030, 1, 1));
    let der = params.self_signed(key).unwrap().der().to_vec();
    let asked = Asked { seat, point: key.der_bytes(), plant, device: &device, workload: None };
    HeldSvid::accept(vec![der], &asked, NOW).unwrap()
}

/// Holders of a device without workloads.
fn offering(services: &[Service]) -> Holders<'_> {
    Holders { services, workloads: &[] }
}

/// A software key of press-1 for opcua.
pub(crate) fn software_key(plant: &Plant) -> (SoftwareSeat, HeldSoftwareKey) {
    let seat =
        SoftwareSeat { zone: "press".parse().unwrap(), holder: Holder::Service("opcua".parse().unwrap()) };
    let key = SoftwareKey::generate().unwrap();
    let pair = KeyPair::try_from(key.pkcs8()).unwrap();
    let svid = svid(&seat.own(), &pair, &plant.domain);
    let device = "press-1".parse().unwrap();
    let held = HeldSoftwareKey::take(key, &seat, &plant.domain, &device, |_| Ok(svid)).unwrap();
    (seat, held)
}

/// press-1, trusted in the zone press.
pub(crate) fn trusted(plant: &Plant) -> State {
    let device: DeviceName = "press-1".parse().unwrap();
    let expected =
        Expected { root: &plant.root, plant: &plant.domain, device: &device, seen: Seen::default() };
    let trust = TrustSet::verify(plant.sign(&set()), &expected, NOW).unwrap();
    let mut state = State {
        zones: vec!["press".parse().unwrap()],
        trust_sequence: trust.sequence(),
        issuing_number: trust.issuing_number(),
        trust: Some(Arc::new(trust)),
        clock_floor: NOW,
        last_attestation: Some(NOW),
        device: Some(device),
        ..State::default()
    };
    for role in Role::ALL {
        let (seat, key) = (Seat { zone: "press".parse().unwrap(), role }, KeyPair::generate().unwrap());
        state.keys.insert(seat.clone(), identity_key(&key));
        state.svids.insert(seat.clone(), svid(&seat, &key, &plant.domain));
    }
    state
}

fn saved(dir: &Path, plant: &Plant) -> State {
    let mut state = trusted(plant);
    state.software_keys.extend([software_key(plant)]);
    state.closed = state.trust.iter().flat_map(|trust| trust.places()).collect();
    state.void.extend(state.svids.keys().next().cloned());
    let keeper = Keeper::load(dir, &plant.domain, &plant.root).unwrap();
    keeper.update(|held| *held = state.clone()).unwrap();
    state
}

#[test]
fn everything_survives_a_restart() {
    let (dir, plant) = (tempfile::tempdir().unwrap(), Plant::new());
    let state = saved(dir.path(), &plant);
    let keeper = Keeper::load(dir.path(), &plant.domain, &plant.root).unwrap();
    keeper.read(|read| {
        assert_eq!((&read.device, &read.zones), (&state.device, &state.zones));
        assert_eq!((&read.keys, &read.svids), (&state.keys, &state.svids));
        assert_eq!(read.software_keys, state.software_keys);
        assert_eq!((&read.trust, read.trust_sequence), (&state.trust, 7));
        assert_eq!((&read.void, read.issuing_number), (&state.void, 2));
        assert_eq!((read.clock_floor, read.last_attestation), (NOW, Some(NOW)));
    });
}

#[test]
fn the_highest_numbers_are_at_least_those_of_the_set_that_is_held() {
    let (dir, plant) = (tempfile::tempdir().unwrap(), Plant::new());
    saved(dir.path(), &plant);
    let file = dir.path().join(FILE);
    let text = std::fs::read_to_string(&file).unwrap();
    let lower = text
        .replace("\"trust_sequence\": 7", "\"trust_sequence\": 6")
        .replace("\"issuing_number\": 2", "\"issuing_number\": 1");
    assert_ne!(lower, text);
    std::fs::write(&file, lower).unwrap();
    let keeper = Keeper::load(dir.path(), &plant.domain, &plant.root).unwrap();
    assert_eq!(keeper.read(|read| (read.trust_sequence, read.issuing_number)), (7, 2));
}

#[test]
fn what_is_of_another_name_goes_with_it_and_the_state_is_read_back() {
    let (dir, plant) = (tempfile::tempdir().unwrap(), Plant::new());
    let state = saved(dir.path(), &plant);
    let keeper = Keeper::load(dir.path(), &plant.domain, &plant.root).unwrap();
    keeper.update(|held| held.take_name("press-1".parse().unwrap())).unwrap();
    keeper.read(|same| assert_eq!((&same.svids, &same.trust), (&state.svids, &state.trust)));
    keeper.update(|held| held.take_name("press-2".parse().unwrap())).unwrap();
    Keeper::load(dir.path(), &plant.domain, &plant.root).unwrap().read(|read| {
        assert_eq!(read.device.as_ref().unwrap().as_str(), "press-2");
        assert!(read.svids.is_empty() && read.void.is_empty() && read.software_keys.is_empty());
        assert_eq!((read.trust.is_none(), read.trust_sequence, read.issuing_number), (true, 7, 2));
        assert_eq!(read.keys, state.keys, "the TPM is the same");
    });
}

#[test]
fn the_file_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let (dir, plant) = (tempfile::tempdir().unwrap(), Plant::new());
    saved(dir.path(), &plant);
    let mode = std::fs::metadata(dir.path().join(FILE)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_change_that_cannot_be_saved_did_not_happen() {
    let (dir, plant) = (tempfile::tempdir().unwrap(), Plant::new());
    let keeper = Keeper::load(dir.path(), &plant.domain, &plant.root).unwrap();
    // A folder in the place of the file that is renamed.
    std::fs::create_dir(dir.path().join("state.json.new")).unwrap();
    let error = keeper.update(|state| state.trust_sequence = 9).unwrap_err();
    assert!(error.to_string().contains("free space"), "{error}");
    assert_eq!(keeper.read(|state| state.trust_sequence), 0);
}

#[test]
fn a_corrupt_file_is_refused_with_its_name_and_the_remedy() {
    let plant = Plant::new();
    let other = Plant::new();
    type Damage = fn(&str) -> String;
    let cases: [(&str, Damage); 3] = [
        ("version 2", |text| text.replace("\"version\": 1", "\"version\": 2")),
        ("unknown field", |text| text.replace("\"zones\"", "\"zonen\"")),
        ("does not name", |text| text.replace("\"press-1\"", "\"press-2\"")),
    ];
    for (reason, damage) in cases {
        let dir = tempfile::tempdir().unwrap();
        saved(dir.path(), &plant);
        let file = dir.path().join(FILE);
        std::fs::write(&file, damage(&std::fs::read_to_string(&file).unwrap())).unwrap();
        let error = Keeper::load(dir.path(), &plant.domain, &plant.root).unwrap_err().to_string();
        assert!(error.contains(reason) && error.contains("state.json is corrupt"), "{reason}: {error}");
        assert!(error.contains("joins again with a new token once the file is deleted"), "{error}");
    }
    let dir = tempfile::tempdir().unwrap();
    saved(dir.path(), &plant);
    let error = Keeper::load(dir.path(), &plant.domain, &other.root).unwrap_err().to_string();
    assert!(error.contains("not signed by the pinned plant root"), "{error}");
}

#[test]
fn a_file_that_is_cut_anywhere_is_corrupt() {
    let (dir, plant) = (tempfile::tempdir().unwrap(), Plant::new());
    saved(dir.path(), &plant);
    let whole = std::fs::read(dir.path().join(FILE)).unwrap();
    let end = whole.trim_ascii_end().len();
    for length in 0..end {
        let reason = stored::parse(&whole[..length], &plant.domain, &plant.root).unwrap_err();
        assert!(reason.contains("EOF"), "{length} of {end}: {reason}");
    }
    assert!(stored::parse(&whole[..end], &plant.domain, &plant.root).is_ok(), "that was all");
}

#[test]
fn a_certificate_that_is_worth_nothing_is_asked_for_anew_and_shown_until_then() {
    let plant = Plant::new();
    let mut state = trusted(&plant);
    let (seat, held) = software_key(&plant);
    state.software_keys.insert(seat.clone(), held);
    let fresh = state.svids[&seat.own()].not_before();
    assert!(state.due(fresh).is_empty() && !state.lacks_certificates());
    state.void.insert(seat.own());
    assert_eq!(state.due(fresh), [seat.own()]);
    assert_eq!(state.due_software_keys(offering(&[service("opcua", KeyPlace::Software)]), fresh), [seat]);
    assert!(state.lacks_certificates());
    assert_eq!((state.holding().count(), state.svids.len()), (1, 2));
}

#[test]
fn a_device_that_lost_trust_holds_nothing_and_shows_what_it_showed() {
    let plant = Plant::new();
    let mut state = trusted(&plant);
    let (seat, held) = software_key(&plant);
    state.software_keys.insert(seat.clone(), held);
    let fresh = state.svids[&seat.own()].not_before();
    assert!(!state.lost_trust());
    state.void_certificates();
    assert_eq!((state.holding().count(), state.holding_software_keys().count()), (0, 0));
    assert_eq!((state.first_end(), state.due(fresh).len()), (None, 2));
    assert_eq!(state.due_software_keys(offering(&[service("opcua", KeyPlace::Software)]), fresh), [seat]);
    assert_eq!((state.svids.len(), state.software_keys.len()), (2, 1), "software keeps its files");
    assert!(!state.lost_trust(), "nobody refused it: its authorities may be distrusted");
    state.refusal = Some(Refusal::new(&proto::v1::Denial::default(), NOW));
    assert!(state.lost_trust());
}

#[test]
fn a_device_that_moved_forgets_the_keys_of_its_old_zone() {
    let mut state = trusted(&Plant::new());
    assert!(!state.lacks_keys());
    state.keep_zones(vec!["cell".parse().unwrap()]);
    assert!(state.keys.is_empty() && state.svids.is_empty() && state.lacks_keys());
}

fn service(name: &str, key: KeyPlace) -> Service {
    Service { name: name.parse().unwrap(), port: 443, key }
}

#[test]
fn a_software_key_is_made_with_the_devices_own_and_for_whoever_wants_one() {
    let plant = Plant::new();
    let mut state = trusted(&plant);
    let (inside, outside) = ([service("opcua", KeyPlace::Tpm)], [service("opcua", KeyPlace::Software)]);
    assert_eq!(state.due_software_keys(offering(&inside), NOW), []);
    let (seat, held) = software_key(&plant);
    assert_eq!(
        state.due_software_keys(offering(&outside), NOW),
        std::slice::from_ref(&seat),
        "there is none"
    );
    state.software_keys.insert(seat.clone(), held);
    let own = state.svids[&seat.own()].clone();
    let fresh = own.not_before();
    assert_eq!(state.due_software_keys(offering(&outside), fresh), [], "it ends with the device's own");
    let third = fresh.plus(own.not_after().since(fresh) / 3);
    let (last, every) = (third.minus(state.reattest_every().as_secs()), state.reattest_every().as_secs());
    assert_eq!((every, state.due(last)), (60, vec![]), "the next proof comes in time");
    assert_eq!(
        state.due_software_keys(offering(&outside), last.plus(1)),
        std::slice::from_ref(&seat),
        "the device's own is replaced"
    );
    state.svids.remove(&seat.own());
    assert_eq!(state.due_software_keys(offering(&outside), fresh), [seat], "the device's own is gone");

    state.keep_software_keys(offering(&outside));
    assert_eq!(state.software_keys.len(), 1);
    state.keep_software_keys(offering(&inside));
    assert!(state.software_keys.is_empty(), "the service uses the TPM now");
}

#[test]
fn software_keys_go_with_the_certificates_of_the_device() {
    let plant = Plant::new();
    let mut state = trusted(&plant);
    state.software_keys.extend([software_key(&plant)]);
    let mut moved = state.clone();
    moved.keep_zones(vec!["cell".parse().unwrap()]);
    assert!(moved.software_keys.is_empty());
    state.void.extend(state.svids.keys().next().cloned());
    state.forget_keys();
    assert!(state.keys.is_empty() && state.svids.is_empty() && state.void.is_empty());
    assert!(state.software_keys.is_empty());
}

#[test]
fn a_workload_has_a_key_in_the_zone_that_its_device_moves_to_before_the_device_leaves_the_other() {
    let from = "press";
    for to in ["cell", "vision"] {
        let plant = Plant::new();
        let mut state = trusted(&plant);
        let fresh = state.svids.values().next().unwrap().not_before();
        let own = |zone: &str| {
            Role::ALL.map(|role| {
                let (seat, key) = (Seat { zone: zone.parse().unwrap(), role }, KeyPair::generate().unwrap());
                let held = svid(&seat, &key, &plant.domain);
                (seat, held)
            })
        };
        let (_, held) = software_key(&plant);
        let (name, service) = ("hmi".parse().unwrap(), "opcua".parse().unwrap());
        let hmi = Workload { name, service, role: Role::Listener, zone: None, uid: Some(990), gid: None };
        let holders = |workload| Holders { services: &[], workloads: std::slice::from_ref(workload) };
        let [old, new] = [from, to].map(|zone| hmi.seat(&[zone.parse().unwrap()]).unwrap());
        let both: Vec<ZoneName> = vec![to.parse().unwrap(), from.parse().unwrap()];

        // A device that comes into both at once needs one key.
        let mut began = state.clone();
        began.keep_zones(both.clone());
        assert_eq!(began.due_software_keys(holders(&hmi), fresh), std::slice::from_ref(&old));

        state.software_keys.insert(old.clone(), held.clone());
        let sorted: Vec<ZoneName> = {
            let mut zones = both.clone();
            zones.sort();
            zones
        };
        state.keep_zones(sorted);
        assert_eq!(hmi.seat(&state.zones), Some(old.clone()), "it stays where it is");
        assert_eq!(state.due_software_keys(holders(&hmi), fresh), std::slice::from_ref(&new));
        let named = Workload { zone: Some(from.parse().unwrap()), ..hmi.clone() };
        assert_eq!(state.due_software_keys(holders(&named), fresh), [], "it says where it is");

        state.svids.extend(own(to));
        assert_eq!(state.due_software_keys(holders(&hmi), fresh), [], "it is asked for once");
        state.software_keys.insert(new.clone(), held);
        state.keep_software_keys(holders(&hmi));
        assert_eq!(state.software_keys.len(), 2);
        state.keep_zones(vec![to.parse().unwrap()]);
        assert_eq!(state.software_keys.keys().collect::<Vec<_>>(), [&new]);
        assert_eq!(state.due_software_keys(holders(&hmi), fresh), []);
    }
}

#[test]
fn a_state_file_of_before_software_keys_is_read() {
    let (dir, plant) = (tempfile::tempdir().unwrap(), Plant::new());
    let state = trusted(&plant);
    let text = String::from_utf8(stored::write(&state)).unwrap();
    assert!(!text.contains("software_keys") && !text.contains("refused_keys"));
    std::fs::write(dir.path().join(FILE), text).unwrap();
    let keeper = Keeper::load(dir.path(), &plant.domain, &plant.root).unwrap();
    assert_eq!(keeper.read(|read| read.svids.len()), 2);
}

#[test]
fn a_trust_file_that_is_named_no_more_stays_until_it_is_named_again() {
    let plant = Plant::new();
    let mut state = trusted(&plant);
    let device: DeviceName = "press-1".parse().unwrap();
    let expected =
        Expected { root: &plant.root, plant: &plant.domain, device: &device, seen: Seen::default() };
    let take = |state: &mut State, files: Vec<proto::v1::TrustFile>| {
        let signed = plant.sign(&proto::v1::TrustSet { files, ..set() });
        state.take_trust(TrustSet::verify(signed, &expected, NOW).unwrap());
    };
    let mut files = set().files;
    let outbound = files.split_off(1);
    take(&mut state, files);
    let closed: Vec<Direction> = state.closed.iter().map(|place| place.direction).collect();
    assert_eq!(closed, [Direction::Outbound]);
    take(&mut state, Vec::new());
    assert_eq!(state.closed.len(), 2, "the first is not forgotten");
    take(&mut state, outbound);
    let closed: Vec<Direction> = state.closed.iter().map(|place| place.direction).collect();
    assert_eq!(closed, [Direction::Inbound]);
    state.keep_zones(vec!["cell".parse().unwrap()]);
    assert!(state.closed.is_empty(), "a zone that the device left");
}

#[test]
fn a_corrupt_file_is_set_aside_and_said() {
    let (dir, plant) = (tempfile::tempdir().unwrap(), Plant::new());
    saved(dir.path(), &plant);
    let file = dir.path().join(FILE);
    let torn = &std::fs::read(&file).unwrap()[..1000];
    std::fs::write(&file, torn).unwrap();
    let refused = Keeper::load(dir.path(), &plant.domain, &plant.root).unwrap_err();
    assert!(matches!(refused, LoadStateError::Corrupt { .. }), "{refused}");
    let keeper = Keeper::load_or_set_aside(dir.path(), &plant.domain, &plant.root).unwrap();
    assert!(keeper.read(|state| state.device.is_none() && !state.holds_any()));
    let lost = |keeper: &Keeper| keeper.read(|state| state.lost.clone()).unwrap_or_default();
    let said = lost(&keeper);
    assert!(said.contains("is corrupt: ") && said.contains("set aside as"), "{said}");
    assert_eq!(std::fs::read(dir.path().join(CORRUPT)).unwrap(), torn);
    // That is so until something is issued, however often the attestor starts.
    let load = || Keeper::load_or_set_aside(dir.path(), &plant.domain, &plant.root).unwrap();
    let again = load();
    let said = lost(&again);
    assert!(said.contains("was corrupt and set aside as"), "{said}");
    again.update(|state| state.zones = vec!["cell".parse().unwrap()]).unwrap();
    assert_eq!(lost(&load()), said);
    again.update(|state| state.lost = None).unwrap();
    assert_eq!(lost(&load()), "");
}

#[test]
fn a_state_of_another_tpm_is_forgotten_but_for_what_was_learnt_of_the_plant() {
    let plant = Plant::new();
    let mut state = trusted(&plant);
    state.software_keys.extend([software_key(&plant)]);
    state.belong_to(vec![1]);
    assert!(state.holds_any(), "the first is its own");
    state.belong_to(vec![1]);
    assert!(state.holds_any());
    state.belong_to(vec![2]);
    assert!(state.device.is_none() && state.keys.is_empty() && state.svids.is_empty());
    assert!(state.software_keys.is_empty() && state.trust.is_none());
    assert_eq!((state.trust_sequence, state.issuing_number, state.clock_floor), (7, 2, NOW));
    assert_eq!(state.tpm, Some(vec![2]));
}

#[test]
fn what_is_lost_is_announced_and_read_while_a_disk_hangs() {
    let (dir, plant) = (tempfile::tempdir().unwrap(), Plant::new());
    saved(dir.path(), &plant);
    let keeper = Keeper::load(dir.path(), &plant.domain, &plant.root).unwrap();
    let on_disk = || Keeper::load(dir.path(), &plant.domain, &plant.root).unwrap().read(State::holds_any);
    let changes = keeper.changes();
    std::thread::scope(|scope| {
        // As good as a save that does not end.
        let hanging = keeper.saved.lock().unwrap();
        let (updating, losing) = (
            scope.spawn(|| keeper.update(|state| state.clock_floor = NOW.plus(9)).unwrap()),
            scope.spawn(|| keeper.insist(State::void_certificates).unwrap()),
        );
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while keeper.read(State::holds_any) || !changes.has_changed().unwrap() {
            assert!(std::time::Instant::now() < deadline, "never lost");
            std::thread::yield_now();
        }
        assert!(on_disk(), "it is not saved yet");
        drop(hanging);
        losing.join().unwrap();
        updating.join().unwrap();
    });
    assert!(!on_disk());
    assert_eq!(keeper.read(|state| (state.holds_any(), state.clock_floor)), (false, NOW.plus(9)));
}

#[test]
fn what_counts_whatever_the_disk_says_is_saved_when_it_can_be() {
    let (dir, plant) = (tempfile::tempdir().unwrap(), Plant::new());
    saved(dir.path(), &plant);
    let keeper = Keeper::load(dir.path(), &plant.domain, &plant.root).unwrap();
    let reader = Keeper::load(dir.path(), &plant.domain, &plant.root).unwrap();
    let blocked = dir.path().join("state.json.new");
    std::fs::create_dir(&blocked).unwrap();
    assert!(keeper.update(State::void_certificates).is_err());
    assert!(keeper.read(State::holds_any), "what could not be saved is not so");
    assert!(keeper.insist(|state| state.last_attestation = Some(NOW.plus(1))).is_err());
    assert!(!reader.reread(&plant.domain, &plant.root).unwrap(), "what the file says goes on to be so");
    assert!(keeper.insist(State::void_certificates).is_err());
    assert!(!keeper.read(State::holds_any), "lost is lost");
    assert!(reader.reread(&plant.domain, &plant.root).unwrap());
    assert!(reader.is_outdated() && reader.read(State::holds_any), "it knows that it does not know");
    assert!(keeper.catch_up().is_err());
    std::fs::remove_dir(blocked).unwrap();
    keeper.catch_up().unwrap();
    assert!(reader.reread(&plant.domain, &plant.root).unwrap());
    assert!(!reader.is_outdated() && !reader.read(State::holds_any));
    let again = Keeper::load(dir.path(), &plant.domain, &plant.root).unwrap();
    assert!(!again.read(State::holds_any));
}
