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

impl World {
    fn new() -> Self {
        Self { folder: TempDir::new().unwrap(), hooks: Arc::default(), running: JoinSet::new() }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// A hook of the service mqtt that logs what runs, and fails while there is a file `fail`.
    fn follow(&mut self) {
        let dir = self.folder.path().to_owned();
        let line = |word: &str| {
            let script = format!("cd \"$0\" && echo {word} >>log && test ! -e fail");
            ["/bin/sh", "-c", &script, dir.to_str().unwrap()].map(str::to_owned).to_vec()
        };
        let hook = Hook {
            name: "mosquitto".to_owned(),
            service: Some("mqtt".parse().unwrap()),
            reload: line("reload"),
            restart: line("restart"),
            timeout: DEADLINE,
        };
        let hooks = Arc::clone(&self.hooks);
        self.running.spawn(async move { follow(&hooks, &hook, &dir).await });
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
    let deliver =
        |inbound: &str| world.hooks.delivered(delivery(&[("press/services/mqtt/inbound.pem", inbound)]));
    deliver("a");
    world.until_log("restart").await;
    deliver("ab");
    world.until_log("restart reload").await;
    deliver("b");
    world.until_log("restart reload restart").await;
    world.hooks.delivered(delivery(&[
        ("press/services/mqtt/inbound.pem", "b"),
        ("press/listener.pem", "l"),
        ("press/services/hmi/inbound.pem", "x"),
    ]));
    world.until_log("restart reload restart reload").await;
    // Another service's files are no reason; the log shows that once the next change was told.
    world.hooks.delivered(delivery(&[
        ("press/services/mqtt/inbound.pem", "b"),
        ("press/listener.pem", "l"),
        ("press/services/hmi/inbound.pem", "y"),
    ]));
    deliver("bc");
    world.until_log("restart reload restart reload reload").await;
}

#[tokio::test]
async fn what_was_told_is_not_told_again_and_what_failed_is() {
    let mut world = World::new();
    std::fs::write(world.folder.path().join("fail"), "").unwrap();
    world.follow();
    world.hooks.delivered(delivery(&[("press/services/mqtt/inbound.pem", "a")]));
    world.until(|world| world.hooks.failing().len() == 1).await;
    assert!(world.hooks.failing()[0].message.contains("exit status: 1"), "{:?}", world.hooks.failing());
    // The attestor ends before the hook ended well, and another one takes over.
    world.running.shutdown().await;
    std::fs::remove_file(world.folder.path().join("fail")).unwrap();
    world.follow();
    world.until_log("restart restart").await;
    let told = |world: &World| world.folder.path().join("hooks/mosquitto.json").exists();
    world.until(|world| told(world) && world.hooks.failing().is_empty()).await;
    world.running.shutdown().await;
    world.follow();
    world.hooks.delivered(delivery(&[("press/services/mqtt/inbound.pem", "ab")]));
    world.until_log("restart restart reload").await;
}

#[tokio::test]
async fn a_hook_that_does_not_end_fails() {
    let (world, files) = (World::new(), delivery(&[]));
    let sleeps = ["/bin/sleep", "60"].map(str::to_owned).to_vec();
    let hook = Hook {
        name: "slow".to_owned(),
        service: None,
        reload: sleeps.clone(),
        restart: sleeps,
        timeout: Duration::from_millis(20),
    };
    assert!(!hook.tell(&world.hooks, None, &Seen::of(&files, None), world.folder.path()).await);
    assert!(world.hooks.failing()[0].message.starts_with("it did not end within"));
}
