//! Hooks run for what concerns them, once, and until they ended well.

use std::path::PathBuf;

use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::*;

/// For anything that a test waits for.
const DEADLINE: Duration = Duration::from_secs(20);

fn delivery(files: &[(&str, &str)]) -> Delivery {
    let mut delivery = Delivery::default();
    for (path, authorities) in files {
        let block = |text: char| pem::encode(&pem::Pem::new("CERTIFICATE", text.to_string().into_bytes()));
        delivery.add(PathBuf::from(path), authorities.chars().map(block).collect(), 0o644);
    }
    delivery
}

struct World {
    folder: TempDir,
    hooks: Arc<Hooks>,
    running: JoinSet<()>,
}

const INBOUND: &str = "press/services/mqtt/inbound.pem";

impl World {
    /// An attestor that has not begun, in a folder of its own.
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let hooks = Arc::new(Hooks::new(Vec::new(), folder.path().to_owned()));
        Self { folder, hooks, running: JoinSet::new() }
    }

    fn deliver(&self, inbound: &str) {
        self.show(&[(INBOUND, inbound)]);
    }

    fn show(&self, files: &[(&str, &str)]) {
        self.hooks.show(&delivery(files), || Ok::<_, ()>(())).unwrap();
    }

    /// The hook fails from now on, or no longer.
    fn fail(&self, fails: bool) {
        let file = self.folder.path().join("fail");
        if fails { std::fs::write(file, "").unwrap() } else { std::fs::remove_file(file).unwrap() }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// The attestor begins, or another one takes over. It has a hook of the service mqtt that logs what runs, waits
    /// while there is a file `wait`, and fails while there is a file `fail`.
    fn follow(&mut self) {
        let dir = self.folder.path().to_owned();
        let line = |word: &str| {
            let script = format!(
                "cd \"$0\" && echo {word} >>log && while test -e wait; do sleep 0.01; done && test ! -e fail"
            );
            Action::Command(["/bin/sh", "-c", &script, dir.to_str().unwrap()].map(str::to_owned).to_vec())
        };
        let hook = Hook {
            name: "mosquitto".to_owned(),
            service: Some("mqtt".parse().unwrap()),
            reload: line("reload"),
            restart: line("restart"),
            timeout: DEADLINE,
        };
        self.hooks = Arc::new(Hooks::new(vec![hook.clone()], dir));
        let hooks = Arc::clone(&self.hooks);
        self.running.spawn(async move { follow(&hooks, &hook).await });
    }

    async fn until(&self, holds: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !holds(self) {
            assert!(Instant::now() < deadline, "log: {}, failing: {:?}", self.log(), self.hooks.failing());
            sleep(Duration::from_millis(5)).await;
        }
    }

    async fn until_log(&self, expected: &str) {
        self.until(|world| world.log().split_whitespace().eq(expected.split(' '))).await;
    }
}

#[tokio::test]
async fn a_hook_reloads_and_restarts_when_an_authority_left() {
    let mut world = World::new();
    world.follow();
    world.deliver("a");
    world.until_log("restart").await;
    world.deliver("ab");
    world.until_log("restart reload").await;
    world.deliver("b");
    world.until_log("restart reload restart").await;
    world.show(&[(INBOUND, "b"), ("press/listener.pem", "l"), ("press/services/hmi/inbound.pem", "x")]);
    world.until_log("restart reload restart reload").await;
    // Another service's files are no reason; the log shows that once the next change was told.
    world.show(&[(INBOUND, "b"), ("press/listener.pem", "l"), ("press/services/hmi/inbound.pem", "y")]);
    world.deliver("bc");
    world.until_log("restart reload restart reload reload").await;
}

#[tokio::test]
async fn what_was_told_is_not_told_again_and_what_failed_is() {
    let mut world = World::new();
    world.fail(true);
    world.follow();
    world.deliver("a");
    world.until(|world| world.hooks.failing().len() == 1).await;
    assert!(world.hooks.failing()[0].message.contains("exit status: 1"), "{:?}", world.hooks.failing());
    // The attestor ends before the hook ended well, and another one takes over.
    world.running.shutdown().await;
    world.fail(false);
    world.follow();
    world.deliver("a");
    world.until_log("restart restart").await;
    let told = |world: &World| world.folder.path().join("hooks/mosquitto.json").exists();
    world.until(|world| told(world) && world.hooks.failing().is_empty()).await;
    world.running.shutdown().await;
    world.follow();
    world.deliver("a");
    world.deliver("ab");
    world.until_log("restart restart reload").await;
}

#[tokio::test]
async fn software_may_go_by_what_a_failed_hook_told_it() {
    let mut world = World::new();
    world.follow();
    world.deliver("a");
    world.until_log("restart").await;
    world.until(|world| world.folder.path().join("hooks/mosquitto.json").exists()).await;
    world.fail(true);
    world.deliver("ab");
    world.until(|world| world.hooks.failing().len() == 1).await;
    world.until_log("restart reload").await;
    // Back to the files of before: software may have read the others, and only a restart takes an authority away.
    world.fail(false);
    world.deliver("a");
    world.until_log("restart reload restart").await;
    world.until(|world| world.hooks.failing().is_empty()).await;

    // The same with an attestor that ends in between.
    world.fail(true);
    world.deliver("ab");
    world.until(|world| world.hooks.failing().len() == 1).await;
    world.running.shutdown().await;
    world.fail(false);
    world.follow();
    world.deliver("a");
    world.until_log("restart reload restart reload restart").await;
}

#[tokio::test]
async fn all_is_told_when_every_hook_ended_well() {
    let mut world = World::new();
    world.follow();
    assert!(world.hooks.have_told_all(), "nothing was shown yet");
    std::fs::write(world.folder.path().join("wait"), "").unwrap();
    world.fail(true);
    world.deliver("a");
    assert!(!world.hooks.have_told_all());
    world.until_log("restart").await;
    assert!(!world.hooks.have_told_all(), "it runs");
    std::fs::remove_file(world.folder.path().join("wait")).unwrap();
    world.until(|world| world.hooks.failing().len() == 1).await;
    assert!(!world.hooks.have_told_all(), "it failed");
    world.fail(false);
    tokio::time::timeout(DEADLINE, world.hooks.all_told()).await.unwrap();
    assert!(world.hooks.have_told_all());
}

#[tokio::test]
async fn what_software_could_see_while_its_hook_ran_is_told() {
    let mut world = World::new();
    world.follow();
    world.deliver("a");
    world.until_log("restart").await;
    world.until(|world| world.folder.path().join("hooks/mosquitto.json").exists()).await;
    // A conduit opens and closes while a hook runs for something else.
    std::fs::write(world.folder.path().join("wait"), "").unwrap();
    world.show(&[(INBOUND, "a"), ("press/listener.pem", "l")]);
    world.until_log("restart reload").await;
    world.show(&[(INBOUND, "ab"), ("press/listener.pem", "l")]);
    world.show(&[(INBOUND, "a"), ("press/listener.pem", "l")]);
    std::fs::remove_file(world.folder.path().join("wait")).unwrap();
    world.until_log("restart reload restart").await;
}

#[tokio::test]
async fn what_was_shown_is_told_though_the_attestor_ended_before_its_hook_began() {
    let mut world = World::new();
    world.follow();
    world.deliver("a");
    world.until_log("restart").await;
    world.until(|world| world.folder.path().join("hooks/mosquitto.json").exists()).await;
    world.running.shutdown().await;
    // Nobody runs the hook, and the files themselves cannot be written whole.
    assert_eq!(world.hooks.show(&delivery(&[(INBOUND, "ab")]), || Err::<(), _>("cut")), Err("cut"));
    world.follow();
    world.deliver("a");
    world.until_log("restart restart").await;
}

#[tokio::test]
async fn a_hook_that_does_not_end_fails() {
    let folder = TempDir::new().unwrap();
    let sleeps = Action::Command(["/bin/sleep", "60"].map(str::to_owned).to_vec());
    let hook = Hook {
        name: "slow".to_owned(),
        service: None,
        reload: sleeps.clone(),
        restart: sleeps,
        timeout: Duration::from_millis(20),
    };
    let hooks = Hooks::new(vec![hook.clone()], folder.path().to_owned());
    hooks.show(&delivery(&[]), || Ok::<_, ()>(())).unwrap();
    let run = hooks.begin(&hook).unwrap();
    assert!(!hook.tell(&hooks, run).await);
    assert!(hooks.failing()[0].message.starts_with("it did not end within"));
}

#[test]
fn what_fails_is_run_again_ever_more_seldom() {
    let pauses = std::iter::successors(Some(RETRY), |pause| Some(longer(*pause)));
    let seconds: Vec<u64> = pauses.take(8).map(|pause| pause.as_secs()).collect();
    assert_eq!(seconds, [5, 10, 20, 40, 80, 160, 300, 300]);
}
