//! A certificate that a peer showed is read without a panic, and none is let in where no authority is known.
#![no_main]

use std::collections::BTreeSet;

use libfuzzer_sys::fuzz_target;
use policy::access::{Decision, KnownAuthority, View, decide};
use policy::time::UnixTime;
use policy::zone::{Direction, Role, Way, Ways};

fuzz_target!(|bytes: &[u8]| {
    let (plant, zone) = ("plant.example".parse().unwrap(), "cell-3".parse().unwrap());
    let way = Way { zone, schedule: None, expires: None };
    let own = "archive".parse().unwrap();
    let ways = Ways::stated(own, "opcua".parse().unwrap(), Direction::Inbound, [way.clone()]);
    let revoked = BTreeSet::new();
    // With its own certificate as an authority a peer gets as far as it can.
    let itself = [KnownAuthority { zone: &way.zone, role: Role::Caller, certificate: bytes, revoked: &revoked }];
    for authorities in [&itself[..], &[]] {
        let view = View { plant: &plant, listed: true, ways: &ways, authorities };
        let decision = decide(&view, bytes, UnixTime(1_800_000_000));
        assert!(!authorities.is_empty() || matches!(decision, Decision::Refused { .. }));
    }
});
