//! A firmware log is parsed, described and replayed without a panic, and strict replay agrees with
//! lenient replay wherever it does not refuse.
#![no_main]

use libfuzzer_sys::fuzz_target;
use policy::eventlog::event::describe;
use policy::eventlog::replay::{replay, replay_all};
use policy::eventlog::tcg::EventLog;

fuzz_target!(|bytes: &[u8]| {
    let Ok(log) = EventLog::parse(bytes) else { return };
    for event in log.events() {
        let _ = describe(event);
    }
    for lenient in replay_all(&log) {
        if let Ok(strict) = replay(&log, lenient.bank()) {
            assert_eq!(strict.values(), &lenient);
        }
    }
});
