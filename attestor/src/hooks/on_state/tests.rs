//! State hooks run in order, once for each change, and until they ended well.

use std::sync::Arc;

use proto::v1;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::*;
use crate::status::Refusal;
use crate::status::tests::status;

/// For anything that a test waits for.
const DEADLINE: Duration = Duration::from_secs(20);

fn change(state: Word, reason: &str) -> Change {
    Change { state, reason: reason.to_owned() }
}

struct World {
    folder: TempDir,
    hooks: Arc<StateHooks>,
    running: JoinSet<()>,
}

impl World {
    /// Two hooks that log what they are told: the safe state, which fails while there is a file `fail` and waits while
    /// there is a file `wait`, and a lamp, which waits while there is a file `dark`.
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let hooks = Arc::new(StateHooks::new(Vec::new(), folder.path()));
        let mut world = Self { folder, hooks, running: JoinSet::new() };
        world.restart();
        world
    }

    /// The attestor ends, and another one takes over.
    fn restart(&mut self) {
        self.running.abort_all();
        let script = |name: &str, more: &str| {
            let log = format!("{name}:$TOUCHSTONE_STATE:$TOUCHSTONE_REASON:$TOUCHSTONE_DEVICE");
            let line = format!("cd \"$0\" && echo {log} >>log {more}");
            ["/bin/sh", "-c", &line, self.folder.path().to_str().unwrap()].map(str::to_owned).to_vec()
        };
        let safe = "&& while test -e wait; do sleep 0.01; done && test ! -e fail";
        let hook = |name: &str, command, states| StateHook {
            name: name.to_owned(),
            command,
            states,
            timeout: DEADLINE,
        };
        let hooks = vec![
            hook(SAFE_STATE, script("safe", safe), Some(vec![Word::Refused, Word::Pending])),
            hook("lamp", script("lamp", "&& while test -e dark; do sleep 0.01; done"), None),
        ];
        self.hooks = Arc::new(StateHooks::new(hooks, self.folder.path()));
        let hooks = Arc::clone(&self.hooks);
        self.running.spawn(async move { hooks.follow(|| Some("press-7".to_owned())).await });
    }

    fn touch(&self, name: &str) {
        std::fs::write(self.folder.path().join(name), "").unwrap();
    }

    fn remove(&self, name: &str) {
        std::fs::remove_file(self.folder.path().join(name)).unwrap();
    }

    async fn until(&self, holds: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !holds(self) {
            assert!(Instant::now() < deadline, "log: {}, failing: {:?}", self.log(), self.hooks.failing());
            sleep(Duration::from_millis(5)).await;
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    async fn until_log(&self, lines: &[&str]) {
        let wanted = lines.iter().map(|line| format!("{line}:press-7\n")).collect::<String>();
        self.until(|world| world.log() == wanted).await;
    }

    async fn until_kept(&self, state: Word) {
        let file = self.folder.path().join(FOLDER).join(FILE);
        self.until(|_| read(&file).is_some_and(|told| told.change.state == state)).await;
    }
}

#[test]
fn a_device_that_holds_tells_why_the_last_proof_was_none() {
    let mut status = status(Word::Holding);
    let refused = v1::Denial { reason: v1::DenialReason::NotPermitted.into(), ..v1::Denial::default() };
    status.denial = Some(Refusal::new(&refused, status.since));
    assert_eq!(
        Change::of(&status),
        Some(change(Word::Holding, "BROKER_AWAY")),
        "it said so before it went away"
    );
    status.broker.reachable = true;
    assert_eq!(Change::of(&status), Some(change(Word::Holding, "NOT_PERMITTED")));
    status.denial = None;
    assert_eq!(Change::of(&status), Some(change(Word::Holding, "NOT_ATTESTED")));
}

#[tokio::test]
async fn each_change_is_told_in_order_and_the_safe_state_first() {
    let world = World::new();
    world.hooks.note(change(Word::Trusted, ""));
    world.hooks.note(change(Word::Trusted, ""));
    world.until_log(&["lamp:trusted:"]).await;
    // Trust that is lost and comes back while a hook runs is told all the same.
    world.touch("wait");
    world.hooks.note(change(Word::Refused, "QUARANTINED"));
    world.until(|world| world.log().contains("safe:")).await;
    world.hooks.note(change(Word::Refused, "REFERENCE_MISMATCH"));
    world.hooks.note(change(Word::Trusted, ""));
    world.remove("wait");
    world
        .until_log(&[
            "lamp:trusted:",
            "safe:refused:QUARANTINED",
            "lamp:refused:QUARANTINED",
            "safe:refused:REFERENCE_MISMATCH",
            "lamp:refused:REFERENCE_MISMATCH",
            "lamp:trusted:",
        ])
        .await;
}

#[tokio::test]
async fn a_change_is_told_after_a_restart_if_it_was_not_before() {
    let mut world = World::new();
    world.hooks.note(change(Word::Trusted, ""));
    world.until_kept(Word::Trusted).await;
    world.restart();
    world.hooks.note(change(Word::Trusted, ""));
    world.hooks.note(change(Word::Holding, "BROKER_AWAY"));
    world.until_log(&["lamp:trusted:", "lamp:holding:BROKER_AWAY"]).await;
    world.until_kept(Word::Holding).await;
    // Of another boot nothing is known.
    let file = world.folder.path().join(FOLDER).join(FILE);
    let told = std::fs::read_to_string(&file).unwrap().replace(&boot_id(), "another");
    std::fs::write(&file, told).unwrap();
    world.restart();
    world.hooks.note(change(Word::Holding, "BROKER_AWAY"));
    world.until_log(&["lamp:trusted:", "lamp:holding:BROKER_AWAY", "lamp:holding:BROKER_AWAY"]).await;
}

#[tokio::test]
async fn a_hook_that_fails_stops_no_other_and_is_run_again() {
    let mut world = World::new();
    world.touch("fail");
    world.hooks.note(change(Word::Refused, "RETIRED"));
    world.until_log(&["safe:refused:RETIRED", "lamp:refused:RETIRED"]).await;
    world.until(|world| world.hooks.failing().len() == 1).await;
    let [failing] = &world.hooks.failing()[..] else { panic!() };
    assert_eq!((failing.name.as_str(), failing.message.contains("exit status: 1")), (SAFE_STATE, true));
    world.remove("fail");
    world.restart();
    world.hooks.note(change(Word::Refused, "RETIRED"));
    world
        .until_log(&[
            "safe:refused:RETIRED",
            "lamp:refused:RETIRED",
            "safe:refused:RETIRED",
            "lamp:refused:RETIRED",
        ])
        .await;
    world.until_kept(Word::Refused).await;
    assert!(world.hooks.failing().is_empty());
}

#[tokio::test]
async fn a_hook_that_takes_too_long_ends_with_what_it_started() {
    let folder = TempDir::new().unwrap();
    let line = "cd \"$0\"; sleep 60 & echo $! >child; sleep 60";
    let command = ["/bin/sh", "-c", line, folder.path().to_str().unwrap()].map(str::to_owned).to_vec();
    let timeout = Duration::from_secs(1);
    let hook = StateHook { name: "slow".to_owned(), command, states: None, timeout };
    let ended = hook.run(&change(Word::Trusted, ""), "press-7").await;
    assert!(ended.unwrap_err().to_string().starts_with("it did not end within 1 s"));
    let child = std::fs::read_to_string(folder.path().join("child")).unwrap();
    let deadline = Instant::now() + DEADLINE;
    let runs = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.trim()));
        // An orphan that nobody has waited for yet is dead.
        stat.is_ok_and(|stat| !stat.contains(") Z "))
    };
    while runs() {
        assert!(Instant::now() < deadline, "what it started lives on");
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn only_the_newest_changes_wait() {
    let folder = TempDir::new().unwrap();
    let hook = StateHook {
        name: "lamp".to_owned(),
        command: vec!["/bin/true".to_owned()],
        states: None,
        timeout: DEADLINE,
    };
    let hooks = StateHooks::new(vec![hook], folder.path());
    for number in 0..100 {
        hooks.note(change(Word::Refused, &number.to_string()));
    }
    let known = hooks.lock();
    assert_eq!(known.waiting.len(), MAX_WAITING);
    assert_eq!(known.waiting.back(), Some(&change(Word::Refused, "99")));
}

#[tokio::test]
async fn the_safe_state_waits_for_no_hook_of_an_earlier_change() {
    let world = World::new();
    world.touch("dark");
    world.hooks.note(change(Word::Trusted, ""));
    world.until_log(&["lamp:trusted:"]).await;
    world.hooks.note(change(Word::Refused, "REFERENCE_MISMATCH"));
    let safe = "safe:refused:REFERENCE_MISMATCH";
    world.until_log(&["lamp:trusted:", safe]).await;
    world.remove("dark");
    world.until_log(&["lamp:trusted:", safe, "lamp:refused:REFERENCE_MISMATCH"]).await;
    world.until_kept(Word::Refused).await;
}
