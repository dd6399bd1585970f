//! A Secure Boot state is read or refused without a panic, and one that counts as enabled rests on a platform
//! key and on an authority that the measured db holds. The events are read by type on the way.
#![no_main]

use libfuzzer_sys::fuzz_target;
use policy::eventlog::tcg::EventLog;
use policy::eventlog::typed::TypedEvent;
use policy::evidence::secure_boot::{Authority, told_by};

fuzz_target!(|bytes: &[u8]| {
    let Ok(log) = EventLog::parse(bytes) else { return };
    for bank in log.banks() {
        for event in log.events() {
            let _ = TypedEvent::parse(event, *bank);
        }
        let Ok(state) = told_by(&log, *bank) else { continue };
        if state.is_enabled() {
            assert!(!state.pk().is_empty() && !state.is_in_setup_mode());
            assert!(state.authorities().iter().any(Authority::is_of_firmware));
        }
    }
});
