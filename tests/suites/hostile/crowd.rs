//! A crowd before the port: strangers who only hold their connections do not keep a device or a person out.

use std::net::TcpStream;

use e2e::{World, until};

/// Places of the broker's port.
const PLACES: usize = 64;
/// Far more strangers than places.
const CROWD: usize = 1000;

fn counter(world: &World) -> u64 {
    let shown = world.admin("device show press-1");
    shown["attestation_counter"].as_u64().unwrap_or_else(|| panic!("{shown:#}"))
}

#[test]
fn a_device_proves_itself_in_a_crowd_of_strangers() {
    let Some((mut world, [mut press])) = World::with_devices(["press-1"]) else { return };
    world.stop_broker();
    world.plant.add_end(&format!("[limits]\nconnections = {PLACES}\n"));
    world.start_broker();
    world.admin("zone create press --mode observe");
    world.register(&press, "press");
    press.measure("boot-a");
    press.start();
    press.until_state("trusted");

    let mut crowd = Vec::new();
    for _ in 0..3 {
        crowd.extend((0..CROWD).map(|_| TcpStream::connect(world.address()).expect("the broker listens")));
        let before = counter(&world);
        world.admin("device attest press-1");
        until("the device proved itself", || match counter(&world) {
            after if after > before => Ok(()),
            after => Err(format!("{after} {}", press.last_words())),
        });
    }
    assert_eq!(world.admin("device show press-1")["state"], "trusted");
    drop(crowd);
}
