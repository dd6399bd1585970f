//! Backup and restore.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use policy::digest::Digest;
use policy::reference::state::ReleaseState;
use policy::rollout::{Budget, Plan, Position, RolloutId, Wave};
use policy::zone::Override;
use tokio::sync::mpsc;

use super::{Bench, NOW, observing, refused};
use crate::admin::authority::{Distrust, distrust};
use crate::admin::backup::restore::{Restored, Staged, restore};
use crate::admin::backup::{CHUNK, backup};
use crate::admin::conduit::Unoffered;
use crate::admin::device::DeviceRef;
use crate::admin::device::view::{Seen, one};
use crate::admin::reach::Scope;
use crate::admin::zone::{Settings, set};
use crate::admin::{Act, graph, token};
use crate::plant::PlantKeys;
use crate::record::Bytes;
use crate::record::device::{Decision, Device, HeldCertificates, TOKEN, Token, device_key, held_key};
use crate::record::golden::{RELEASE, ReleaseRecord, StateChange};
use crate::record::overriding::{OVERRIDE, OverrideRecord, override_key};
use crate::record::plant::{
    ADMIN, AdminRole, Administrator, ISSUING, Issuing, PLANT, Plant, SEALING, Sealing, TRUST, TrustHead,
    admin_key,
};
use crate::record::release_key::{RELEASE_KEY, ReleaseKeyRecord};
use crate::record::rollout::{Rollout, RolloutState, rollout_key};
use crate::record::zone::{
    AuthorityRecord, AuthorityState, RevokedCertificate, authority_key, revoked_key, zone_key,
};
use crate::record::{Held, list, stored};
use crate::secrets::SecretKey;
use crate::server::follow;
use crate::session::Refusal;
use crate::store::Txn;
use crate::store::blobs::MAX_BLOB;
use crate::tls::Tls;
use crate::trust;

pub(super) async fn save(bench: &Bench) -> Vec<u8> {
    let reach = bench.reach(Act::Backup).await;
    let (sink, mut chunks) = mpsc::channel::<Vec<u8>>(1);
    let collect = async {
        let mut file = Vec::new();
        while let Some(chunk) = chunks.recv().await {
            assert!(chunk.len() <= CHUNK, "{}", chunk.len());
            file.extend(chunk);
        }
        file
    };
    let send = async {
        let done = backup(&bench.plant, &reach, &sink).await;
        drop(sink);
        done
    };
    let (done, file) = tokio::join!(send, collect);
    done.unwrap();
    file
}

pub(super) async fn put_back(bench: &Bench, file: &[u8], serials: &[String]) -> Result<Restored, Refusal> {
    let reach = bench.reach(Act::Restore).await;
    let staged = staged(&bench.plant, file).await;
    restore(&bench.plant, &reach, staged, serials).await
}

async fn staged(plant: &crate::plant::Plant, file: &[u8]) -> Staged {
    let mut staged = Staged::create(plant).await.unwrap();
    for chunk in file.chunks(1000) {
        staged.append(chunk).await.unwrap();
    }
    staged
}

pub(super) async fn furnished() -> Bench {
    furnish(Bench::new().await).await
}

pub(super) async fn furnish(bench: Bench) -> Bench {
    bench.zone(&observing("cell-3")).await;
    let press = bench.device("press-7", &["cell-3"]).await;
    bench.attest(&press, "boot-a", Decision::Trusted).await;
    bench.certificate(&press, "cell-3", 0x41).await;
    let request = token::Request {
        zones: vec!["cell-3".parse().unwrap()],
        ek: None,
        device: None,
        lifetime: 0,
        without_tpm: false,
    };
    token::create(&bench.plant, &bench.actor(Act::CreateToken).await, &request).await.unwrap();
    bench
}

#[tokio::test]
async fn zones_that_a_file_made_are_restored() {
    let bench = furnished().await;
    let seen = graph::view(&bench.plant, &Scope::Plant).await.unwrap().document;
    let made = format!("{seen}\n{}", seen.replace("cell-3", "cell-4").replace("schema = 1", ""));
    graph::apply(&bench.plant, &bench.actor(Act::ApplyGraph).await, &made, &seen, Unoffered::Refuse, false)
        .await
        .unwrap();
    let file = save(&bench).await;
    put_back(&bench, &file, &[]).await.unwrap();
    let restored = graph::view(&bench.plant, &Scope::Plant).await.unwrap();
    assert_eq!(restored.zones.len(), 2);
    assert!(trust::view(&bench.plant).await.is_ok(), "their authorities open");
}

#[tokio::test]
async fn an_authority_that_was_distrusted_and_a_revoked_certificate_stay_so() {
    let bench = furnished().await;
    let file = save(&bench).await;
    let (zone, role) = ("cell-3".parse().unwrap(), policy::zone::Role::Caller);
    let wanted = Distrust { zone, role, generation: 1, reason: "its key was stolen".to_owned() };
    distrust(&bench.plant, &bench.actor(Act::DistrustAuthority).await, &wanted, false).await.unwrap();
    let serial = crate::ca::Serial::from_hex(&hex::encode([0x41; 16])).unwrap();
    let revoked = revoked_key(&wanted.zone, policy::zone::Role::Listener, 1, serial);
    let record = RevokedCertificate {
        device: "press-7".parse().unwrap(),
        at: NOW,
        reason: "lost".to_owned(),
        not_after: NOW.plus(60),
    };
    bench.plant.store.transact(Txn::new().put(revoked.clone(), stored(&record).unwrap())).await.unwrap();
    let done = put_back(&bench, &file, &[]).await.unwrap();
    assert!(
        done.notes.iter().any(|note| note.contains("as they were before the restore")),
        "{:?}",
        done.notes
    );
    let all = crate::admin::zone::authorities(&bench.plant, &Scope::Plant).await.unwrap();
    let callers = all.iter().filter(|view| view.record.role == role);
    let states: Vec<_> = callers.map(|view| (view.record.generation, view.record.state)).collect();
    assert_eq!(states, [(1, AuthorityState::Distrusted), (2, AuthorityState::Active)]);
    assert_eq!(bench.read::<RevokedCertificate>(revoked).await.reason, "lost");
}

#[tokio::test]
async fn a_zone_whose_last_authority_was_distrusted_gets_another_after_a_restore() {
    let bench = furnished().await;
    let file = save(&bench).await;
    let key = authority_key(&"cell-3".parse().unwrap(), policy::zone::Role::Caller, 1);
    let record: AuthorityRecord = bench.read(key.clone()).await;
    let gone = stored(&record.turned(AuthorityState::Distrusted, NOW)).unwrap();
    bench.plant.store.transact(Txn::new().put(key, gone)).await.unwrap();
    put_back(&bench, &file, &[]).await.unwrap();
    crate::rotation::turn(&bench.plant).await.unwrap();
    let zone = "cell-3".parse().unwrap();
    let active = crate::authority::active(&bench.plant, &zone, policy::zone::Role::Caller);
    assert_eq!(active.await.unwrap().record.generation, 2);
}

#[tokio::test]
async fn a_restore_begins_an_epoch_and_resurrects_nobody() {
    let bench = furnished().await;
    let file = save(&bench).await;
    assert!(file.starts_with(b"{\"header\":{\"format\":1,\"plant\":\"plant.example\""));
    let press: policy::id::DeviceName = "press-7".parse().unwrap();
    bench.device("press-8", &["cell-3"]).await;
    let before = (bench.revision(), bench.plant.keys.load().sealing_id);

    let serials = [hex::encode([0x41; 16]), hex::encode([0x55; 16])];
    let done = put_back(&bench, &file, &serials).await.unwrap();
    assert_eq!((done.epoch, done.blobs), (2, 2));
    assert!(done.notes.iter().any(|note| note.contains("1 of the 2 serials")), "{:?}", done.notes);
    assert!(bench.revision() > before.0);
    assert_eq!(bench.read::<Plant>(PLANT.to_owned()).await.epoch, 2);
    let keys = bench.plant.keys.load();
    assert_eq!((keys.epoch, keys.sealing_id), (2, before.1 + 1), "challenges of before never open");
    let sealing = list::<Sealing>(bench.plant.store.as_ref(), SEALING).await.unwrap();
    assert_eq!(sealing.len(), 2);
    let tokens = list::<Token>(bench.plant.store.as_ref(), TOKEN).await.unwrap();
    assert!(tokens.is_empty(), "tokens are void");
    assert_eq!(bench.read::<TrustHead>(TRUST.to_owned()).await.n, 1);
    assert_eq!(bench.read::<Device>(device_key(&press)).await.asked, 1);
    refused!(one(&bench.plant, &Scope::Plant, &DeviceRef::Name("press-8".parse().unwrap())).await, NotFound);

    let zone = "cell-3".parse().unwrap();
    let serial = crate::ca::Serial::from_hex(&serials[0]).unwrap();
    let revoked = revoked_key(&zone, policy::zone::Role::Caller, 1, serial);
    assert_eq!(bench.read::<RevokedCertificate>(revoked).await.device, press);
    assert!(bench.read::<HeldCertificates>(held_key(&press, &zone)).await.certificates.is_empty());
    let set = trust::view(&bench.plant).await.unwrap();
    assert_eq!(set.sequence(keys.epoch), (2 << 40) | 1, "devices accept the restored trust sets");
    let event = &bench.events(None, 1).await[0];
    assert_eq!((event.actor.as_str(), event.action.as_str()), ("ada", "plant.restore"));
    let leftovers = std::fs::read_dir(&bench.plant.config.dir).unwrap();
    assert!(
        leftovers.into_iter().all(|file| !file.unwrap().file_name().to_string_lossy().starts_with("restore"))
    );
}

#[tokio::test]
async fn nothing_that_was_ended_since_comes_back() {
    let bench = furnished().await;
    let press: policy::id::DeviceName = "press-7".parse().unwrap();
    let product = "edge-box".parse().unwrap();
    let id = RolloutId { product, number: 1 };
    let (to, waves) = ("edge-box@2.0".parse().unwrap(), vec![Wave::Percent(100)]);
    let rollout = Rollout {
        plan: Plan::new(id.clone(), to, waves, Budget { trust: 1, health: 1 }, (0, 60)).unwrap(),
        from: None,
        state: RolloutState::Running,
        position: Position::default(),
        started_at: NOW,
        started_by: "ada".to_owned(),
        given_up_from: None,
    };
    let device: Device = bench.read(device_key(&press)).await;
    let device = Device { clock_excused: true, clear_expected: Some(NOW.plus(3600)), ..device };
    let excused = OverrideRecord {
        device: press.clone(),
        zones: device.zones.clone(),
        excused: Override { mismatches: [].into(), until: NOW.plus(3600) },
        at: NOW,
        by: "olga".to_owned(),
        approved_by: "sam".to_owned(),
        reason: "line stands".to_owned(),
    };
    let txn = Txn::new()
        .put(rollout_key(&id.product), stored(&rollout).unwrap())
        .put(override_key(&press), stored(&excused).unwrap())
        .put(device_key(&press), stored(&device).unwrap());
    bench.plant.store.transact(txn).await.unwrap();
    let file = save(&bench).await;
    // One person made the backup; since then the zone asks for two.
    bench.administrator("bob", AdminRole::Owner, None).await;
    let two = Settings { two_person: Some(true), ..Settings::default() };
    let zone = "cell-3".parse().unwrap();
    set(&bench.plant, &bench.actor(Act::SetZone).await, &zone, &two, false).await.unwrap();

    put_back(&bench, &file, &[]).await.unwrap();
    let restored: Rollout = bench.read(rollout_key(&id.product)).await;
    let reason = "a backup was restored, and whom it told since then is not known".to_owned();
    assert_eq!(restored.state, RolloutState::Halted { reason });
    let device: Device = bench.read(device_key(&press)).await;
    assert_eq!((device.clock_excused, device.clear_expected), (false, None), "it may have been used up");
    let overrides = list::<OverrideRecord>(bench.plant.store.as_ref(), OVERRIDE).await.unwrap();
    assert!(overrides.is_empty(), "it may have been ended");
    assert!(
        bench.read::<policy::zone::Zone>(zone_key(&zone)).await.two_person,
        "one person does not end that"
    );
}

#[tokio::test]
async fn an_issuing_key_that_was_replaced_stays_replaced_with_those_it_vouched_for() {
    let bench = furnished().await;
    bench.administrator("eve", AdminRole::Owner, None).await;
    let file = save(&bench).await;
    let former: Issuing = bench.read(ISSUING.to_owned()).await;
    let next = Issuing { generation: former.generation + 1, ..former };
    let txn = Txn::new().put(ISSUING, stored(&next).unwrap()).delete(admin_key("eve"));
    bench.plant.store.transact(txn).await.unwrap();
    let keys = PlantKeys::open(bench.plant.store.as_ref(), &bench.plant.kek).await.unwrap();
    bench.plant.keys.store(Arc::new(keys));

    let done = put_back(&bench, &file, &[]).await.unwrap();
    assert!(done.notes.iter().any(|note| note.contains("issuing key of the backup was replaced")));
    assert_eq!(bench.plant.keys.load().issuing_number, next.generation);
    assert!(bench.plant.store.get(&admin_key("eve")).await.unwrap().is_none());
    assert!(bench.plant.store.get(&admin_key("ada")).await.unwrap().is_some());
}

#[tokio::test]
async fn whoever_was_removed_since_and_what_was_withdrawn_does_not_come_back() {
    let bench = furnished().await;
    bench.administrator("eve", AdminRole::Owner, None).await;
    super::golden::pending(&bench, "press-7", "edge-box").await;
    let keys: Vec<Held<ReleaseKeyRecord>> = list(bench.plant.store.as_ref(), RELEASE_KEY).await.unwrap();
    let releases: Vec<Held<ReleaseRecord>> = list(bench.plant.store.as_ref(), RELEASE).await.unwrap();
    let (key, release) = (keys.into_iter().next().unwrap(), releases.into_iter().next().unwrap());
    let file = save(&bench).await;
    // Since then bob came, eve went, the key was lost and the release was found bad.
    bench.administrator("bob", AdminRole::Owner, None).await;
    let change = Some(StateChange { at: NOW, by: "ada".to_owned(), reason: "stolen".to_owned() });
    let gone = ReleaseKeyRecord { removed: change.clone(), compromised: change, ..key.record };
    let bad = ReleaseRecord { state: ReleaseState::Withdrawn, ..release.record };
    let txn = Txn::new()
        .delete(admin_key("eve"))
        .put(key.key.clone(), stored(&gone).unwrap())
        .put(release.key.clone(), stored(&bad).unwrap());
    bench.plant.store.transact(txn).await.unwrap();

    let done = put_back(&bench, &file, &[]).await.unwrap();
    assert!(done.notes.iter().any(|note| note.starts_with("administrators, removed release keys")));
    let owners = list::<Administrator>(bench.plant.store.as_ref(), ADMIN).await.unwrap();
    let owners: Vec<_> = owners.into_iter().map(|held| held.record.name).collect();
    assert_eq!(owners, ["ada", "bob"], "neither is one of them alone again");
    assert!(bench.read::<ReleaseKeyRecord>(key.key).await.compromised.is_some());
    assert_eq!(bench.read::<ReleaseRecord>(release.key).await.state, ReleaseState::Withdrawn);
}

#[tokio::test]
async fn evidence_comes_back_with_its_record() {
    let bench = furnished().await;
    let file = save(&bench).await;
    let Seen::Device(view) =
        one(&bench.plant, &Scope::Plant, &DeviceRef::Name("press-7".parse().unwrap())).await.unwrap()
    else {
        panic!("no device")
    };
    let evidence = view.attested.unwrap().evidence;
    bench.plant.blobs.remove(evidence).await.unwrap();
    put_back(&bench, &file, &[]).await.unwrap();
    assert!(bench.plant.blobs.fetch(evidence, MAX_BLOB).await.is_ok());
}

#[tokio::test]
async fn a_backup_restores_into_another_store_with_the_same_kek_only() {
    let file = save(&furnished().await).await;
    let same = Bench::new().await;
    // The other plant's own administrator does it; afterwards those of the backup count.
    put_back(&same, &file, &[]).await.unwrap();
    assert!(PlantKeys::open(same.plant.store.as_ref(), &same.plant.kek).await.is_ok());

    let other = Bench::with(SecretKey::from_bytes(&[8; 32]).unwrap()).await;
    let before = other.revision();
    let text = refused!(put_back(&other, &file, &[]).await, Malformed);
    assert!(text.contains("does not open under this broker's key-encryption key"), "{text}");
    assert_eq!(other.revision(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_plant_is_served_under_its_own_certificate_and_root() {
    let former = furnished().await;
    let file = save(&former).await;
    let keys = former.plant.keys.load_full();
    let bench = Bench::new().await;
    let reach = bench.reach(Act::Restore).await;
    let (plant, dir) = bench.into_plant();
    let tls = Tls::new(&plant).unwrap();
    let issuer = |tls: &Tls| tls.server().cert[1].to_vec();
    assert_ne!(issuer(&tls), keys.issuing.certificate(), "another plant until then");
    let following = tokio::spawn(follow(Arc::clone(&plant), Arc::clone(&tls), Arc::default()));

    let restored = restore(&plant, &reach, staged(&plant, &file).await, &[]).await.unwrap();
    assert!(restored.notes.iter().any(|note| note.contains("owner's folder")), "{:?}", restored.notes);
    let served = async {
        while issuer(&tls) != keys.issuing.certificate()
            || tls.anchors.load().issuing != keys.issuing.certificate()
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), served).await.expect("the certificate is made anew");
    following.abort();
    let root = std::fs::read_to_string(dir.path().join("plant-root.pem")).unwrap();
    assert_eq!(pem::parse(root).unwrap().contents(), keys.root);
}

/// The lines of a file, changed and with a fresh check sum and proof under `kek`: what a careful vandal who
/// holds the key would write.
fn rewritten(kek: &SecretKey, file: &[u8], change: impl Fn(&str) -> Option<String>) -> Vec<u8> {
    let text = String::from_utf8(file.to_vec()).unwrap();
    let mut out = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with("{\"end\"")) {
        if let Some(line) = change(line) {
            writeln!(out, "{line}").unwrap();
        }
    }
    let sum = Digest::of(&out);
    let mac = serde_json::to_string(&Bytes::from(kek.authenticate(b"touchstone/v1/backup", &sum.0))).unwrap();
    writeln!(out, "{{\"end\":{{\"sha256\":\"{sum}\",\"mac\":{mac}}}}}").unwrap();
    out
}

#[tokio::test]
async fn a_broken_backup_changes_nothing_and_says_what_is_broken() {
    let bench = furnished().await;
    let file = save(&bench).await;
    let before = bench.revision();
    let keep = |line: &str| Some(line.to_owned());
    let without = |start: &'static str| move |line: &str| (!line.starts_with(start)).then(|| line.to_owned());
    // One bit within what a record holds, which no form forbids.
    let mut flipped = file.clone();
    let name = file.windows(14).position(|bytes| bytes == b"device/press-7").unwrap();
    flipped[name + 13] ^= 1;
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (Vec::new(), "does not begin with a backup's header"),
        (b"PK\x03\x04 not ours\n".to_vec(), "does not begin with a backup's header"),
        (file[..file.len() / 2].to_vec(), "was cut off"),
        (file[..file.len() - 1].to_vec(), "was cut off"),
        (flipped, "its check sum does not fit its content"),
        ([file.clone(), b"\n".to_vec()].concat(), "something follows its last line"),
        (
            rewritten(&bench.plant.kek, &file, |line| keep(&line.replace("\"format\":1", "\"format\":2"))),
            "has format 2",
        ),
        (
            rewritten(&bench.plant.kek, &file, without("{\"record\":{\"key\":\"plant\"")),
            "holds no record plant",
        ),
        (
            rewritten(&bench.plant.kek, &file, without("{\"record\":{\"key\":\"admin/")),
            "holds no record admin/",
        ),
        (
            rewritten(&bench.plant.kek, &file, |line| {
                keep(&line.replace("\"key\":\"golden\"", "\"key\":\"silver\""))
            }),
            "of a kind",
        ),
        (
            rewritten(&bench.plant.kek, &file, |line| {
                keep(&line.replace("device/press-7", "attested/press-7"))
            }),
            "does not fit",
        ),
        (rewritten(&bench.plant.kek, &file, without("{\"part\"")), "does not have the bytes"),
        (
            rewritten(&SecretKey::from_bytes(&[9; 32]).unwrap(), &file, keep),
            "was not written by a broker with this `secrets/kek`",
        ),
        (
            rewritten(&bench.plant.kek, &file, |line| {
                keep(&line.replace("\"size\":2", "\"size\":9999999999"))
            }),
            "does not have the",
        ),
        (
            rewritten(&bench.plant.kek, &file, |line| keep(&line.replace("{\"record\"", "{\"rekord\""))),
            "is no line of a backup",
        ),
    ];
    assert_eq!(rewritten(&bench.plant.kek, &file, keep), file, "the rewriting itself breaks nothing");
    for (broken, why) in cases {
        let text = refused!(put_back(&bench, &broken, &[]).await, Malformed);
        assert!(text.contains(why) && text.contains("nothing was restored"), "{why}: {text}");
        assert_eq!(bench.revision(), before, "{why}");
    }
    let text = refused!(put_back(&bench, &file, &["xyz".to_owned()]).await, Malformed);
    assert!(text.contains("`xyz` is no serial"), "{text}");
}

#[tokio::test]
async fn a_changed_byte_anywhere_is_found() {
    let bench = Bench::new().await;
    let file = save(&bench).await;
    let before = bench.revision();
    for at in (0..file.len()).step_by(file.len() / 40) {
        let mut changed = file.clone();
        changed[at] ^= 0x01;
        refused!(put_back(&bench, &changed, &[]).await, Malformed);
    }
    assert_eq!(bench.revision(), before);
    assert_eq!(bench.plant.now(), NOW);
}
