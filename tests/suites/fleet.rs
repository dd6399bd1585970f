//! Mixed fleets: machines without a TPM behind a gateway that vouches for them.

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
    let devices = world.admin("device list")["devices"].as_array().map(Vec::len);
    assert_eq!(devices, Some(1), "a machine is no device and gets no certificate");

    world.admin("device quarantine gateway --reason odd");
    until_state(&world, "plc-1", "ended");
    world.admin("device readmit gateway --reason cleaned");
    until_state(&world, "plc-1", "vouched");
    world.admin("device vouch drop plc-2 --by gateway");
    until_state(&world, "plc-2", "pending");
}
