//! A TPM that is not there when the attestor starts: its driver comes later, or its cable is loose.

use std::os::unix::net::UnixStream;

use e2e::World;

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
