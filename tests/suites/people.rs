//! Several administrators: invited, limited to zones, two for one change; and a new owner from the recovery kit.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use e2e::{Answer, BrokerFolder, World};
use serde_json::Value;

fn run(world: &World, who: &Path, line: &str) -> Answer {
    world.tool_as(who, &line.split(' ').collect::<Vec<_>>())
}

/// Id of the change that a call of `who` waits as.
fn waits(world: &World, who: &Path, line: &str) -> String {
    let answer = run(world, who, line);
    assert_eq!((answer.code, &answer.json["waits"]), (6, &Value::Bool(true)), "{answer:?}");
    answer.json["change"].as_str().expect("a change").to_owned()
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().expect("a list").iter().filter_map(|one| one["name"].as_str()).collect()
}

#[test]
fn an_invited_person_sees_and_changes_what_is_theirs() {
    let Some((world, [press, other])) = World::with_devices(["press-1", "db-1"]) else { return };
    for zone in ["press", "historian"] {
        world.admin(&format!("zone create {zone} --mode observe"));
    }
    world.register(&press, "press");
    world.register(&other, "historian");
    let invited = world.admin("admin invite bob --role operator --zone press --for 1h");
    let code = invited["code"].as_str().expect("a code").to_owned();
    assert_eq!(world.admin("admin list")["administrators"][1]["invited_by"], "alice");

    // Another plant's root, a code that was changed, and the same code twice.
    let stranger = world.plant.run_path("tpm-roots.pem").display().to_string();
    let out = world.plant.run_path("nobody").display().to_string();
    let said = world.tool(&["admin", "accept", &code, "--root", &stranger, "--out", &out]).refused(2);
    assert!(said.contains("not the plant root that the code is for"), "{said}");
    let at = code.find('.').expect("parts") + 20;
    let flipped = if &code[at..=at] == "0" { "1" } else { "0" };
    let mut wrong = code.clone();
    wrong.replace_range(at..=at, flipped);
    let said = world.accept("wrong", &wrong).refused(3);
    assert!(said.contains("unknown, used or over"), "{said}");
    assert!(!world.plant.run_path("wrong").exists(), "a refusal leaves no folder");
    // Without a file, the root that the broker shows must have the fingerprint in the code.
    let pin = code[..code.find('@').expect("a plant")].rfind('.').expect("parts") + 1;
    let flipped = if &code[pin..=pin] == "0" { "1" } else { "0" };
    let mut elsewhere = code.clone();
    elsewhere.replace_range(pin..=pin, flipped);
    let said = world.accept_by_code("elsewhere", &elsewhere).refused(4);
    assert!(said.contains("shows no plant root that has the fingerprint in the code"), "{said}");
    let done = world.accept_by_code("bob", &code).done();
    let roots = [world.plant.run_path("bob").join("plant-root.pem"), world.plant.path("plant-root.pem")];
    let [shown, known] = roots.map(|path| fs::read_to_string(path).expect("a plant root").replace('\r', ""));
    assert_eq!(shown, known);
    assert_eq!((&done["name"], &done["role"]), (&Value::from("bob"), &Value::from("operator")), "{done:#}");
    world.accept("again", &code).refused(3);

    let bob = world.plant.run_path("bob");
    let key = fs::metadata(bob.join("admin.key")).expect("a key").permissions().mode();
    assert_eq!(key & 0o777, 0o600);
    assert_eq!(names(&run(&world, &bob, "device list").done()["devices"]), ["press-1"]);
    let said = run(&world, &bob, "device show db-1").refused(3);
    assert!(said.contains("no device db-1 in your zones (press)"), "{said}");
    run(&world, &bob, "device quarantine press-1 --reason test").done();
    let said = run(&world, &bob, "token create --zone historian").refused(5);
    assert!(said.contains("token.create touches zone historian; bob is limited to press"), "{said}");
    let said = run(&world, &bob, "zone set press --two-person on").refused(5);
    assert!(said.contains("zone.set needs the role security; bob has the role operator"), "{said}");
    run(&world, &bob, "admin renew").done();
    run(&world, &bob, "status").done();

    world.admin("admin remove bob");
    let said = run(&world, &bob, "status").refused(5);
    assert!(said.contains("no longer, registered"), "{said}");
    world.tool(&["admin", "remove", "alice"]).refused(3);
}

#[test]
fn a_join_token_ends_with_whoever_made_it_and_when_it_is_revoked() {
    let Some((world, [mut press])) = World::with_devices(["press-1"]) else { return };
    world.admin("zone create press --mode observe --token-admits");
    press.measure("boot-a");
    let mut refused = |token: &str, why: &str| {
        press.give_token(token);
        press.start();
        press.until_status(why, |status| status["denial"]["message"].to_string().contains(why));
        press.stop();
    };
    let made = |answer: Value| answer["token"].as_str().expect("a token").to_owned();

    let bob = world.invite("bob", "--role operator --zone press");
    let token = made(run(&world, &bob, "token create --zone press").done());
    world.admin("admin remove bob");
    refused(&token, "made by bob, who may not let devices into press any more");

    let token = made(world.admin("token create --zone press --for 2h"));
    let id = token.split('.').nth(1).expect("an id").to_owned();
    let listed = world.admin("token list");
    let mut by: Vec<&Value> =
        listed["tokens"].as_array().expect("a list").iter().map(|one| &one["by"]).collect();
    by.sort_by_key(ToString::to_string);
    assert_eq!(by, ["alice", "bob"], "{listed:#}");
    let secret = token.rsplit('.').next().expect("a secret");
    assert!(listed.to_string().contains(&id) && !listed.to_string().contains(secret), "{listed:#}");
    world.admin(&format!("token revoke {id}"));
    refused(&token, "the join token is unknown, used, expired");
    world.tool(&["token", "revoke", &id]).refused(3);

    let token = made(world.admin("token create --zone press"));
    press.give_token(&token);
    press.start();
    press.until_state("trusted");
}

#[test]
fn a_change_is_carried_out_by_two() {
    let Some((world, [_press])) = World::with_devices(["press-1"]) else { return };
    world.admin("zone create press --mode observe");
    world.admin("zone create historian --mode observe");
    let said = world.tool(&["zone", "set", "press", "--two-person", "on"]).refused(3);
    assert!(said.contains("only alice could approve"), "{said}");
    let eve = world.invite("eve", "--role security");
    let owner = world.plant.path("owner");
    // Whom the only owner let in counts as that owner.
    let said = world.tool(&["zone", "set", "press", "--two-person", "on"]).refused(3);
    assert!(said.contains("alice, eve are not two people"), "{said}");
    let bob = world.invite("bob", "--role owner");
    world.admin("zone set press --two-person on");

    let id = waits(&world, &owner, "conduit allow --from press --to historian --service opcua");
    assert_eq!(world.admin("conduit list")["conduits"], Value::Array(Vec::new()));
    let said = world.tool(&["change", "approve", &id]).refused(5);
    assert!(said.contains("nobody approves their own"), "{said}");
    let said = run(&world, &eve, &format!("change approve {id}")).refused(5);
    assert!(said.contains("alice alone let in eve; another owner confirms them"), "{said}");
    let confirmed = waits(&world, &bob, "admin role eve security");
    world.admin(&format!("change approve {confirmed}"));
    let shown = run(&world, &eve, &format!("change show {id}")).done();
    assert_eq!((&shown["subject"], &shown["by"]), (&"press -> historian opcua".into(), &"alice".into()));
    run(&world, &eve, &format!("change approve {id} --dry-run")).done();
    run(&world, &eve, &format!("change approve {id}")).done();
    assert_eq!(world.admin("conduit list")["conduits"][0]["service"], "opcua");
    let told = world.admin("audit list").to_string();
    assert!(told.contains("approved by eve") && told.contains("change.approve"), "{told}");

    // Off needs two itself; a token's secret goes to whoever approves.
    let id = waits(&world, &owner, "token create --zone press");
    let off = waits(&world, &eve, "zone set press --two-person off");
    let said = run(&world, &eve, &format!("change approve {id}")).refused(5);
    assert!(said.contains("token.create needs the role operator; eve has the role security"), "{said}");
    // Where there are two owners, both let in whoever comes.
    let invited = waits(&world, &owner, "admin invite olga --role operator --zone historian");
    let made = run(&world, &bob, &format!("change approve {invited}")).done();
    world.accept("olga", made["secret"].as_str().expect("a code")).done();
    let olga = world.plant.run_path("olga");
    run(&world, &olga, &format!("change approve {id}")).refused(3);
    world.admin(&format!("change approve {off}"));
    let waiting = world.admin("change list");
    assert_eq!(names(&waiting["changes"]).len(), 0, "changes have ids, no names");
    world.admin(&format!("change reject {id}"));
    world.admin("conduit close --from press --to historian --service opcua");
}

#[test]
fn the_recovery_kit_makes_an_owner_when_all_are_lost() {
    let Some((mut world, [mut press])) = World::with_devices(["press-1"]) else { return };
    world.admin("zone create press --mode observe");
    world.register(&press, "press");
    press.measure("boot-a");
    press.start();
    press.until_state("trusted");
    let bob = world.invite("bob", "--role viewer");
    let kit = world.plant.run_path("kit");
    fs::rename(world.plant.path("recovery-kit"), &kit).expect("the kit was taken offline");
    let (lost, out) = (world.plant.run_path("lost"), world.plant.run_path("new").display().to_string());
    fs::rename(world.plant.path("owner"), &lost).expect("the owner's folder");
    let passphrase = BrokerFolder::passphrase();
    let recover = |world: &World, passphrase: &str, more: &[&str]| {
        world.plant.recover(&kit, passphrase, &[&["--owner", "alice", "--out", &out], more].concat())
    };

    let said = recover(&world, passphrase, &[]).refused(64);
    assert!(said.contains("stop the broker first"), "{said}");
    assert!(!Path::new(&out).exists(), "nothing was made");
    world.stop_broker();
    let said = recover(&world, "aaaa bbbb", &[]).refused(64);
    assert!(said.contains("does not open the recovery kit"), "{said}");
    let answer = recover(&world, &passphrase.replace(' ', ""), &[]);
    assert_eq!(answer.code, 0, "{answer:?}");
    world.start_broker();
    let new = world.plant.run_path("new");
    run(&world, &new, "status").done();
    let said = run(&world, &lost, "status").refused(5);
    assert!(said.contains("no longer, registered"), "the lost key counts no more: {said}");
    run(&world, &bob, "status").done();
    let told = run(&world, &new, "audit list").done().to_string();
    assert!(
        told.contains("plant.recover") && told.contains("alice is an owner by the recovery kit"),
        "{told}"
    );

    // A new issuing key: every certificate of before ends, devices go on.
    world.stop_broker();
    fs::rename(&new, world.plant.run_path("former")).expect("the folder of before");
    let answer = recover(&world, passphrase, &["--issuing-key"]);
    assert_eq!(answer.code, 0, "{answer:?}");
    world.start_broker();
    run(&world, &new, "status").done();
    assert_eq!(names(&run(&world, &new, "admin list").done()["administrators"]), ["alice"]);
    run(&world, &bob, "status").refused(5);
    run(&world, &world.plant.run_path("former"), "status").refused(5);
    run(&world, &new, "device attest press-1").done();
    press.until_status("trusted under the new key", |status| {
        status["state"] == "trusted" && status["broker"]["reachable"] == true
    });
    let invited = run(&world, &new, "admin invite bob --role viewer").done();
    fs::remove_dir_all(&bob).expect("the folder of before");
    world.accept("bob", invited["code"].as_str().expect("a code")).done();
    run(&world, &bob, "status").done();
}
