//! Mixed fleets: machines without a TPM behind a gateway that vouches for them.

use std::fs;
use std::path::Path;

use attestor::ports::{Clock, System};
use e2e::{Device, World, until};
use serde_json::Value;

fn machines(world: &World) -> Vec<Value> {
    world.admin("device vouch list")["machines"].as_array().expect("machines").clone()
}

fn until_state(world: &World, machine: &str, state: &str) {
    until(&format!("{machine} is {state}"), || {
        let all = machines(world);
        match all.iter().any(|one| one["name"] == machine && one["state"] == state) {
            true => Ok(()),
            false => Err(format!("{all:#?}")),
        }
    });
}

fn vouch(device: &mut Device, name: &str, serial: &str) {
    device.add_end(&format!(
        "[[vouches]]\nname = \"{name}\"\nkind = \"PLC\"\naddress = \"10.9.0.7\"\nserial = \"{serial}\"\n"
    ));
}

#[test]
fn a_gateway_vouches_for_a_plc_that_a_person_accepted_and_only_while_it_is_trusted() {
    let Some((world, [mut gateway])) = World::with_devices(["gateway"]) else { return };
    world.admin("zone create press --mode observe --least instance-identity=affirming --reattest-every 5s");
    world.register(&gateway, "press");
    vouch(&mut gateway, "plc-1", "A1");
    vouch(&mut gateway, "plc-2", "B2");
    gateway.measure("boot-a");
    gateway.start();
    gateway.until_state("trusted");
    until_state(&world, "plc-1", "pending");

    let before = world.store();
    let stranger = ["device", "vouch", "accept", "plc-9", "--by", "gateway"];
    assert!(world.tool(&stranger).refused(3).contains("states no machine plc-9"));
    let other = "device vouch accept plc-1 --by gateway --kind PLC --machine-address 10.9.0.7 --serial Z9";
    let told = world.tool(&other.split(' ').collect::<Vec<_>>()).refused(3);
    assert!(told.contains("states plc-1 otherwise") && told.contains("A1"), "{told}");
    let taken = "device vouch accept gateway --by gateway --kind PLC";
    let told = world.tool(&taken.split(' ').collect::<Vec<_>>()).refused(3);
    assert!(told.contains("gateway is a device of its own"), "{told}");
    assert_eq!(world.store(), before, "a refusal changes nothing");

    world.admin("device vouch accept plc-1 --by gateway");
    until_state(&world, "plc-1", "vouched");
    until_state(&world, "plc-2", "pending");
    let listed = world.admin("device list");
    assert_eq!(
        listed["devices"].as_array().map(Vec::len),
        Some(1),
        "a machine is no device and gets no certificate"
    );
    assert_eq!(listed["machines"].as_array().map(Vec::len), Some(2), "{listed:#}");
    let listed = world.admin("device list --state vouched --zone press");
    assert_eq!(listed["devices"].as_array().map(Vec::len), Some(0), "{listed:#}");
    let machine = &listed["machines"][0];
    assert_eq!(
        (&machine["name"], &machine["vouched_by"]),
        (&"plc-1".into(), &"gateway".into()),
        "{listed:#}"
    );

    world.admin("device quarantine gateway --reason odd");
    until_state(&world, "plc-1", "ended");
    world.admin("device readmit gateway --reason cleaned");
    until_state(&world, "plc-1", "vouched");
    world.admin("device vouch drop plc-2 --by gateway");
    until_state(&world, "plc-2", "pending");
}

/// The number of the device's key, as the broker knows it.
fn generation(world: &World, name: &str) -> u64 {
    world.admin(&format!("device show {name}"))["key_generation"].as_u64().expect("a number")
}

fn until_key_after(world: &World, name: &str, number: u64) {
    until(&format!("{name} has another key"), || match generation(world, name) {
        now if now > number => Ok(()),
        now => Err(format!("it is number {now}")),
    });
}

fn join(world: &World, device: &mut Device) {
    let name = device.name().to_owned();
    let token = world.admin(&format!("token create --zone yard --device {name} --without-tpm"));
    device.give_token(token["token"].as_str().expect("a token"));
}

fn copy_files(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for file in fs::read_dir(from).expect("a folder") {
        let file = file.expect("a file").path();
        fs::copy(&file, to.join(file.file_name().expect("a name"))).expect("a copy");
    }
}

#[test]
fn a_device_without_a_tpm_rotates_its_key_and_a_copy_of_it_stops_both() {
    let Some((world, [mut meter, press])) = World::with_devices(["meter", "press"]) else { return };
    world.admin("zone create yard --mode enforce --least instance-identity=affirming --reattest-every 5s");
    world.admin("zone create cell --mode observe --reattest-every 5s");
    world.register(&press, "cell");
    let refused = |line: &str| world.tool(&line.split(' ').collect::<Vec<_>>()).refused(3);
    let told = refused("token create --zone cell --device meter --without-tpm");
    assert!(told.contains("zone cell asks for hardware"), "{told}");
    let told = refused("token create --zone yard --device press --without-tpm");
    assert!(told.contains("there is a device press already"), "{told}");

    meter.take_tpm();
    let ordinary = world.admin("token create --zone yard --device meter");
    meter.give_token(ordinary["token"].as_str().expect("a token"));
    meter.start();
    meter.until_status("told why", |status| status["denial"]["message"].to_string().contains("join token"));
    meter.stop();
    join(&world, &mut meter);
    meter.start();
    meter.until_state("trusted");
    let shown = world.admin("device show meter");
    assert_eq!(shown["attested"]["claims"]["hardware"], 97, "{shown:#}");
    let key = fs::read_to_string(meter.delivered("yard", "caller.key")).expect("a key");
    assert!(key.starts_with("-----BEGIN PRIVATE KEY-----"), "{key}");

    let number = generation(&world, "meter");
    until_key_after(&world, "meter", number);
    meter.stop();
    copy_files(&meter.path("state"), &meter.path("copy"));
    meter.start();
    until_key_after(&world, "meter", generation(&world, "meter"));
    meter.stop();
    copy_files(&meter.path("state"), &meter.path("latest"));
    copy_files(&meter.path("copy"), &meter.path("state"));
    meter.start();
    meter.until_state("quarantined");
    let alarm = System::default().now();
    let shown = world.admin("device show meter");
    assert_eq!(shown["state"], "quarantined", "{shown:#}");
    let events = world.admin("audit list --action device.clone-alarm");
    assert_eq!(events["events"].as_array().map(Vec::len), Some(1), "{events:#}");
    let status = world.admin("status").to_string();
    assert!(status.contains("clone alarm"), "{status}");
    meter.stop();
    copy_files(&meter.path("latest"), &meter.path("state"));
    meter.start();
    meter.until_status("stopped too", |status| {
        status["stopped"] == false && status["denial"]["message"].to_string().contains("clone alarm")
    });
    meter.stop();

    let readmitted = world.admin("device readmit meter --reason cleaned");
    let next = readmitted["next_command"].as_str().expect("what is next");
    assert_eq!(next, "touchstone token create --without-tpm --device meter --zone yard");
    assert_eq!(world.admin("device why meter")["next_command"], next);
    until("the second of the alarm is over", || match System::default().now() > alarm {
        true => Ok(()),
        false => Err("not yet".to_owned()),
    });
    join(&world, &mut meter);
    fs::remove_dir_all(meter.path("state")).expect("the state is removed");
    meter.start();
    meter.until_state("trusted");
}
