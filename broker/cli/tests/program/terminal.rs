//! What a person at a terminal sees: script(1) of util-linux runs the program on a real pseudo-terminal.
#![expect(clippy::unwrap_used, reason = "a test that cannot run its terminal has failed")]

use std::fs;
use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use proto::v1::*;

use crate::fake_broker::FakeBroker;
use crate::tool::until;

/// Ctrl-C, as a terminal sends it.
const INTERRUPT: &str = "\u{3}";
/// Cursor home, erase the page.
const CLEAR: &str = "\u{1b}[H\u{1b}[2J";

/// A terminal in which the program runs.
struct Terminal {
    script: Child,
    keyboard: ChildStdin,
    screen: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Terminal {
    /// Runs `touchstone` there; none, with the reason said, where script(1) is missing.
    fn run(broker: &FakeBroker, line: &str) -> Option<Self> {
        // exec: script(1) asks $SHELL or sh, and a dash that stays would be what Ctrl-C ends.
        let command =
            format!("exec {} --context {} {line}", env!("CARGO_BIN_EXE_touchstone"), broker.context());
        let script = Command::new("script")
            .args(["-qefc", &command, "/dev/null"])
            .env("TERM", "xterm")
            .env_remove("NO_COLOR")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let Ok(mut script) = script else {
            eprintln!("skipped: script of util-linux is not installed");
            return None;
        };
        let (keyboard, mut output) = (script.stdin.take().unwrap(), script.stdout.take().unwrap());
        let screen = Arc::new(Mutex::new(Vec::new()));
        let shown = Arc::clone(&screen);
        let reader = thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Some(read) = output.read(&mut buffer).ok().filter(|read| *read > 0) {
                shown.lock().unwrap().extend(buffer.iter().take(read));
            }
        });
        Some(Self { script, keyboard, screen, reader })
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.screen.lock().unwrap()).into_owned()
    }

    fn until(&self, text: &str) {
        until(text, || self.text().contains(text));
    }

    fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
        self.keyboard.flush().unwrap();
    }

    /// The exit code, and everything that was shown.
    fn end(mut self) -> (i32, String) {
        let code = self.script.wait().unwrap().code().unwrap();
        self.reader.join().unwrap();
        (code, String::from_utf8_lossy(&self.screen.lock().unwrap()).into_owned())
    }
}

#[test]
fn a_page_is_watched_until_ctrl_c_and_ends_as_it_was_last() {
    let broker = FakeBroker::start();
    let quiet = GetStatusResponse { plant: "plant.example".to_owned(), ..GetStatusResponse::default() };
    let attention = Attention { subject: "press-7".to_owned(), ..Attention::default() };
    let loud = GetStatusResponse { attention: vec![attention], ..quiet.clone() };
    broker.answers("get_status", &quiet);
    for _ in 0..20 {
        broker.answers("get_status", &loud);
    }
    let Some(mut terminal) = Terminal::run(&broker, "status --watch") else { return };
    terminal.until("Nothing needs you.");
    terminal.until("press-7");
    terminal.press(INTERRUPT);
    let (code, shown) = terminal.end();
    assert_eq!((code, shown.matches(CLEAR).count()), (1, 2), "{shown:?}");
}

#[test]
fn colours_are_for_terminals_and_for_those_who_want_them() {
    let broker = FakeBroker::start();
    let device = Device { state: "trusted".to_owned(), ..Device::default() };
    let list = ListDevicesResponse { devices: vec![device], ..Default::default() };
    broker.answers("list_devices", &list).answers("list_devices", &list).answers("list_devices", &list);
    let Some(terminal) = Terminal::run(&broker, "device list") else { return };
    let (code, shown) = terminal.end();
    assert_eq!((code, shown.contains("\u{1b}[32mtrusted")), (0, true), "{shown:?}");
    let Some(terminal) = Terminal::run(&broker, "device list -o json") else { return };
    assert!(!terminal.end().1.contains('\u{1b}'));
    assert!(!broker.run(&["device", "list"]).stdout.contains('\u{1b}'));
}

#[test]
fn whoever_is_asked_decides() {
    let broker = FakeBroker::start();
    let answer = SetReleaseStateResponse { running: vec!["press-7".to_owned()], ..Default::default() };
    for _ in 0..3 {
        broker.answers("set_release_state", &answer);
    }
    for (keys, code, calls, said) in
        [("n\n", 3, 1, "nothing was changed"), ("y\n", 0, 3, "edge@1.4 is active")]
    {
        let Some(mut terminal) = Terminal::run(&broker, "golden activate edge@1.4") else { return };
        terminal.until("Make edge@1.4 active? [y/N]");
        terminal.press(keys);
        let (ended, shown) = terminal.end();
        assert_eq!((ended, shown.contains(said)), (code, true), "{shown:?}");
        assert_eq!(broker.asked::<SetReleaseStateRequest>("set_release_state").len(), calls);
    }
}

/// The screen of an import whose broker goes away before it answers.
fn import(options: &str, sees: Option<&str>) -> Option<String> {
    let broker = FakeBroker::start();
    broker.hangs("import_list");
    let list = broker.path("list.csv");
    fs::write(&list, format!("name,ek\npress-7,sha256:{}\n", "ab".repeat(32))).unwrap();
    let terminal = Terminal::run(&broker, &format!("device import {} {options}", list.display()))?;
    until("the list", || !broker.asked::<ImportListRequest>("import_list").is_empty());
    sees.into_iter().for_each(|text| terminal.until(text));
    drop(broker);
    let (code, shown) = terminal.end();
    assert_eq!(code, 4, "{shown:?}");
    Some(shown)
}

#[test]
fn long_work_is_shown_on_a_terminal_and_wiped_away() {
    let Some(shown) = import("", Some("sending devices")) else { return };
    // Erase the line (ECMA-48, EL), then what stays.
    let (_, after) = shown.rsplit_once("\u{1b}[2K").unwrap();
    assert!(after.contains("touchstone: the broker did not answer"), "{shown:?}");
    assert!(!after.contains("sending devices"), "{shown:?}");
    let Some(shown) = import("-o json", None) else { return };
    assert!(!shown.contains("sending devices"), "{shown:?}");
}
