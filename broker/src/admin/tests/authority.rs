//! Authorities are followed by others, and no zone is without one.

use policy::zone::{Role, leaves};

use super::{Bench, NOW, observing, refused};
use crate::admin::authority::{Distrust, activate, distrust, rotate};
use crate::admin::reach::Scope;
use crate::admin::{Act, zone};
use crate::record::device::{Device, device_key};
use crate::record::golden::{GOLDEN, GoldenHead};
use crate::record::stored;
use crate::record::zone::AuthorityState::{self, Active, Distrusted, Old, Prepared};
use crate::rotation::turn;
use crate::store::Txn;
use crate::{authority, trust};

const YEAR: u64 = 365 * 86_400;

async fn states(bench: &Bench, role: Role) -> Vec<AuthorityState> {
    let all = zone::authorities(&bench.plant, &Scope::Plant).await.unwrap();
    all.iter().filter(|view| view.record.role == role).map(|view| view.record.state).collect()
}

async fn signs(bench: &Bench) -> u32 {
    let held = authority::active(&bench.plant, &"cell-3".parse().unwrap(), Role::Caller).await.unwrap();
    held.record.generation
}

async fn believed(bench: &Bench) -> usize {
    trust::view(&bench.plant).await.unwrap().callers().count()
}

/// The device proved itself with the trust set of now.
async fn acknowledge(bench: &Bench, name: &str) {
    let key = device_key(&name.parse().unwrap());
    let device: Device = bench.read(key.clone()).await;
    let sequence = trust::view(&bench.plant).await.unwrap().sequence(bench.plant.keys.load().epoch);
    let device = Device { trust_sequence: sequence, ..device };
    bench.plant.store.transact(Txn::new().put(key, stored(&device).unwrap())).await.unwrap();
}

async fn prepared(devices: &[&str]) -> Bench {
    let bench = Bench::new().await;
    bench.zone(&observing("cell-3")).await;
    for name in devices {
        bench.device(name, &["cell-3"]).await;
    }
    let actor = bench.actor(Act::RotateAuthority).await;
    let zone = "cell-3".parse().unwrap();
    let turned = rotate(&bench.plant, &actor, &zone, Some(Role::Caller), false).await.unwrap();
    assert_eq!(
        (turned.what, turned.stragglers.len()),
        (vec!["cell-3/caller generation 2".to_owned()], devices.len())
    );
    bench
}

#[tokio::test]
async fn the_next_generation_is_believed_before_it_signs() {
    let bench = prepared(&["press-7", "press-8"]).await;
    assert_eq!(states(&bench, Role::Caller).await, [Active, Prepared]);
    assert_eq!(states(&bench, Role::Listener).await, [Active], "only one was asked for");
    assert_eq!((signs(&bench).await, believed(&bench).await), (1, 2));
    acknowledge(&bench, "press-7").await;
    turn(&bench.plant).await.unwrap();
    assert_eq!(states(&bench, Role::Caller).await, [Active, Prepared], "press-8 does not know it");
    acknowledge(&bench, "press-8").await;
    turn(&bench.plant).await.unwrap();
    assert_eq!(states(&bench, Role::Caller).await, [Old, Active]);
    assert_eq!((signs(&bench).await, believed(&bench).await), (2, 2), "what it signed still holds");
    bench.clock.set(NOW.plus(45 * 86_400));
    turn(&bench.plant).await.unwrap();
    assert_eq!(states(&bench, Role::Caller).await, [Distrusted, Active]);
    assert_eq!(believed(&bench).await, 1);
}

#[tokio::test]
async fn a_device_that_stays_dark_holds_nobody_up_for_ever() {
    let bench = prepared(&["press-7"]).await;
    let lifetime = observing("cell-3").timing.certificate_lifetime();
    bench.clock.set(NOW.plus(lifetime - 1));
    turn(&bench.plant).await.unwrap();
    assert_eq!(signs(&bench).await, 1);
    bench.clock.set(NOW.plus(lifetime));
    turn(&bench.plant).await.unwrap();
    assert_eq!(signs(&bench).await, 2);
}

#[tokio::test]
async fn who_activates_before_the_time_is_told_who_does_not_know() {
    let bench = prepared(&["press-7", "press-8"]).await;
    acknowledge(&bench, "press-8").await;
    let (actor, zone) = (bench.actor(Act::ActivateAuthority).await, "cell-3".parse().unwrap());
    let tried = activate(&bench.plant, &actor, &zone, Role::Caller, true).await.unwrap();
    assert_eq!(tried.stragglers.iter().map(|name| name.as_str()).collect::<Vec<_>>(), ["press-7"]);
    assert_eq!(signs(&bench).await, 1, "it was only asked");
    activate(&bench.plant, &actor, &zone, Role::Caller, false).await.unwrap();
    assert_eq!((signs(&bench).await, believed(&bench).await), (2, 2));
    let text = refused!(activate(&bench.plant, &actor, &zone, Role::Caller, false).await, Conflict);
    assert!(text.starts_with("no generation of cell-3/caller is prepared"), "{text}");
    let actor = bench.actor(Act::RotateAuthority).await;
    rotate(&bench.plant, &actor, &zone, Some(Role::Listener), false).await.unwrap();
    let before = bench.revision();
    let text = refused!(rotate(&bench.plant, &actor, &zone, None, false).await, Conflict);
    assert!(text.starts_with("generation 2 of cell-3/listener is prepared already"), "{text}");
    assert_eq!(bench.revision(), before, "nothing of it is done");
    activate(&bench.plant, &bench.actor(Act::ActivateAuthority).await, &zone, Role::Listener, false)
        .await
        .unwrap();
    rotate(&bench.plant, &actor, &zone, None, false).await.unwrap();
    let text = refused!(rotate(&bench.plant, &actor, &zone, None, false).await, Conflict);
    assert!(text.starts_with("generation 3 of cell-3/caller is prepared already"), "{text}");
}

#[tokio::test]
async fn a_stolen_authority_is_believed_nowhere_and_another_signs_at_once() {
    for ready in [false, true] {
        let bench = match ready {
            true => prepared(&["press-7"]).await,
            false => {
                let bench = Bench::new().await;
                bench.zone(&observing("cell-3")).await;
                bench
            }
        };
        let golden = bench.read::<GoldenHead>(GOLDEN.to_owned()).await.n;
        let actor = bench.actor(Act::DistrustAuthority).await;
        let stolen = |generation| Distrust {
            zone: "cell-3".parse().unwrap(),
            role: Role::Caller,
            generation,
            reason: "the host was stolen".to_owned(),
        };
        let text = refused!(distrust(&bench.plant, &actor, &stolen(9), false).await, NotFound);
        assert!(text.starts_with("there is no generation 9 of cell-3/caller"), "{text}");
        distrust(&bench.plant, &actor, &stolen(1), true).await.unwrap();
        assert_eq!(signs(&bench).await, 1, "it was only asked");
        distrust(&bench.plant, &actor, &stolen(1), false).await.unwrap();
        assert_eq!(states(&bench, Role::Caller).await, [Distrusted, Active]);
        assert_eq!((signs(&bench).await, believed(&bench).await), (2, 1));
        assert_eq!(
            bench.read::<GoldenHead>(GOLDEN.to_owned()).await.n,
            golden + 1,
            "every device comes at once"
        );
        turn(&bench.plant).await.unwrap();
        assert_eq!(states(&bench, Role::Caller).await, [Distrusted, Active]);
    }
}

#[tokio::test]
async fn an_authority_that_is_half_over_is_followed_by_itself() {
    let bench = Bench::new().await;
    bench.zone(&observing("cell-3")).await;
    bench.clock.set(NOW.plus(5 * YEAR - 86_400));
    turn(&bench.plant).await.unwrap();
    assert_eq!(states(&bench, Role::Listener).await, [Active]);
    bench.clock.set(NOW.plus(5 * YEAR));
    turn(&bench.plant).await.unwrap();
    assert_eq!(states(&bench, Role::Listener).await, [Active, Prepared]);
    turn(&bench.plant).await.unwrap();
    assert_eq!(states(&bench, Role::Listener).await, [Old, Active], "nobody has to be waited for");
}

#[tokio::test]
async fn a_plant_that_was_off_for_longer_than_its_authorities_live_has_others_within_two_steps() {
    let bench = Bench::new().await;
    bench.zone(&observing("cell-3")).await;
    bench.device("press-7", &["cell-3"]).await;
    bench.clock.set(NOW.plus(11 * YEAR));
    turn(&bench.plant).await.unwrap();
    assert_eq!(states(&bench, Role::Caller).await, [Active, Prepared]);
    turn(&bench.plant).await.unwrap();
    assert_eq!(
        states(&bench, Role::Caller).await,
        [Old, Active],
        "press-7 holds nothing of the one that ended"
    );
    assert_eq!(
        (signs(&bench).await, believed(&bench).await),
        (2, 1),
        "the one that ended is in no trust file"
    );
}

#[tokio::test]
async fn an_authority_has_few_generations_in_trust_files() {
    let bench = prepared(&[]).await;
    let (rotating, activating) =
        (bench.actor(Act::RotateAuthority).await, bench.actor(Act::ActivateAuthority).await);
    let zone = "cell-3".parse().unwrap();
    activate(&bench.plant, &activating, &zone, Role::Caller, false).await.unwrap();
    rotate(&bench.plant, &rotating, &zone, Some(Role::Caller), false).await.unwrap();
    activate(&bench.plant, &activating, &zone, Role::Caller, false).await.unwrap();
    let text = refused!(rotate(&bench.plant, &rotating, &zone, Some(Role::Caller), false).await, Conflict);
    assert!(text.starts_with("3 generations of cell-3/caller are in trust files"), "{text}");
    assert!(text.contains(&format!("leaves them by itself on {}", leaves(bench.plant.now()))), "{text}");
}
