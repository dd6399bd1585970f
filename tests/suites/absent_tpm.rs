//! A TPM that is not there when the attestor starts: its driver comes later, or its cable is loose. And a device that has none.

use std::fs;
use std::os::unix::net::UnixStream;

use e2e::{Device, World, until};
use serde_json::json;

use crate::zones::now;

#[test]
fn a_device_that_starts_without_its_tpm_answers_meanwhile_and_goes_on_by_itself() {
    let Some((world, [mut press])) = World::with_devices(["press-1"]) else { return };
    world.admin("zone create press --mode observe --least instance-identity=affirming --reattest-every 5s");
    world.register(&press, "press");
    press.add_end("[authorize]\nlisten = \"unix:authorize.sock\"\n");
    press.measure("boot-a");

    // Nobody waits for the files of a device that never had any: whoever starts it learns at once what is missing.
    press.switch_tpm_off();
    press.start();
    assert_eq!(press.until_ended().code(), Some(69), "{}", press.last_words());
    assert!(press.log().contains("software TPM"), "{}", press.log());

    press.switch_tpm_on();
    press.measure("boot-a");
    press.start();
    press.until_state("trusted");
    press.stop();
    press.switch_tpm_off();
    let socket = press.path("authorize.sock");
    drop(std::fs::remove_file(&socket));
    press.start();
    let process = press.attestor_id();
    let status = press.until_status("waiting for its TPM", |status| status["state"] == "starting");
    let problem = status["problem"].as_str().unwrap_or_default();
    assert!(problem.contains("software TPM"), "{status:#}");
    press.until_status("answering", |_| UnixStream::connect(&socket).is_ok());
    assert!(press.delivered("press", "listener.pem").exists(), "software keeps what it was given");

    // Its places are free again for the attestor that has the TPM.
    press.switch_tpm_on();
    press.measure("boot-a");
    let status = press.until_state("trusted");
    assert!(status["problem"].is_null() && status["unbound"].is_null(), "{status:#}");
    press.until_status("answering", |_| UnixStream::connect(&socket).is_ok());
    assert_eq!(press.attestor_id(), process);
}

#[test]
fn a_torn_state_where_there_is_no_tpm_is_told_until_a_person_acts() {
    let Some((world, [mut meter])) = World::with_devices(["meter"]) else { return };
    world.admin("zone create yard --mode enforce --least instance-identity=affirming");
    meter.take_tpm();
    let join = |meter: &mut Device| {
        let token = world.admin("token create --zone yard --device meter --without-tpm");
        meter.give_token(token["token"].as_str().expect("a token"));
        meter.start();
        meter.until_state("trusted");
    };
    join(&mut meter);
    meter.stop();
    // A token counts that was made in a later second than the device was admitted in.
    let joined = now();
    until("a later second", || if now() > joined { Ok(()) } else { Err("the same".to_owned()) });

    let file = meter.path("state/state.json");
    let whole = fs::read(&file).expect("a state");
    fs::write(&file, &whole[..whole.len() / 2]).expect("a file of the device");
    meter.start();
    assert_eq!(meter.until_ended().code(), Some(1), "{}", meter.last_words());
    let (told, status) = (meter.attestor("status", &[]), meter.status());
    assert_eq!((told.status.code(), &status["state"]), (Some(1), &json!("starting")), "{status:#}");
    let problem = status["problem"].as_str().unwrap_or_default();
    assert!(problem.contains("state.json is corrupt: EOF"), "{status:#}");
    assert!(problem.contains("joins again with a new token once the file is deleted"), "{status:#}");
    assert!(meter.delivered("yard", "listener.pem").exists(), "software keeps what it was given");

    fs::remove_file(&file).expect("it is there");
    join(&mut meter);
    assert!(meter.status()["problem"].is_null());
}
