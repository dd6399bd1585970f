//! The ACL file of mosquitto: who may read and write which topics, by the name in the certificate.
//!
//! mosquitto takes that name for the user (`use_identity_as_username true`), so an ACL is as good as the certificate.
//! A peer stands in the file while a conduit lets its zone in; with nobody in it, mosquitto refuses everybody.

use std::fmt::Write;
use std::path::Path;

use policy::id::PlantDomain;
use policy::time::UnixTime;

use super::{Delivery, PUBLIC};
use crate::config::{Mqtt, MqttPeer};
use crate::state::State;
use crate::trust::Direction;

/// What the file begins with.
const HEAD: &str = "# Written by touchstone-attestor from [mqtt] in attestor.toml, for mosquitto: acl_file, with\n\
                    # use_identity_as_username true. A change takes effect when mosquitto is told to reload (SIGHUP).\n";

impl Delivery {
    /// Adds the ACL of an MQTT service, beside the trust files of the service.
    pub fn add_acl(&mut self, mqtt: &Mqtt, state: &State, plant: &PlantDomain, now: UnixTime) {
        let Some(trust) = &state.trust else { return };
        let own = trust.listing(&mqtt.service, Direction::Inbound);
        for zone in own.filter(|zone| state.zones.contains(zone)) {
            let mut text = HEAD.to_owned();
            for peer in mqtt.peers.iter().filter(|peer| trust.lets_in(zone, &mqtt.service, &peer.zone, now)) {
                write_peer(&mut text, peer, plant);
            }
            let service = Path::new(zone.as_str()).join("services").join(mqtt.service.as_str());
            self.add(service.join("acl"), text, PUBLIC);
        }
    }
}

fn write_peer(text: &mut String, peer: &MqttPeer, plant: &PlantDomain) {
    for device in &peer.devices {
        let user = plant.trust_domain(&peer.zone).device(device).common_name();
        let own =
            |topic: &String| topic.replace("{device}", device.as_str()).replace("{zone}", peer.zone.as_str());
        let _ = writeln!(text, "\nuser {user}");
        for (access, topics) in [("read", &peer.read), ("write", &peer.write)] {
            for topic in topics.iter().map(own) {
                let _ = writeln!(text, "topic {access} {topic}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authorize::tests::World;
    use crate::trust::tests::NOW;

    fn acl(zone: &str) -> String {
        acl_of(&World::new(), zone, NOW)
    }

    fn acl_of(world: &World, zone: &str, now: UnixTime) -> String {
        let peer = MqttPeer {
            zone: zone.parse().unwrap(),
            devices: vec!["camera-1".parse().unwrap(), "camera-2".parse().unwrap()],
            read: vec!["setpoints/#".to_owned()],
            write: vec!["state/{zone}/{device}".to_owned()],
        };
        let mqtt = Mqtt { service: "opcua".parse().unwrap(), peers: vec![peer] };
        let mut delivery = Delivery::default();
        delivery.add_acl(&mqtt, &world.state, &"plant.example".parse().unwrap(), now);
        let file = &delivery.files[Path::new("press/services/opcua/acl")];
        String::from_utf8(file.bytes.to_vec()).unwrap()
    }

    #[test]
    fn each_device_has_its_topics_by_the_name_in_its_certificate() {
        let text = acl("cell");
        let (_, rules) = text.split_once("\n\n").unwrap();
        assert_eq!(
            rules,
            "user camera-1.cell.plant.example\ntopic read setpoints/#\ntopic write state/cell/camera-1\n\n\
             user camera-2.cell.plant.example\ntopic read setpoints/#\ntopic write state/cell/camera-2\n"
        );
    }

    #[test]
    fn a_zone_that_no_conduit_lets_in_has_no_topics() {
        assert_eq!(acl("vendor"), HEAD);
    }

    #[test]
    fn topics_are_given_in_the_hours_of_the_conduit_until_it_ends() {
        // Sunday the first of January 2023, 22:00.
        let (opens, end) = (UnixTime(1_672_610_400), UnixTime(1_672_610_400 + 5_400));
        let way = |schedule: &str, expires_at| {
            World::with_ways(vec![proto::v1::Way {
                zone: "cell".into(),
                schedule: schedule.into(),
                expires_at,
            }])
        };
        let weekly = way("sun 22:00-23:00", 0);
        assert_eq!(acl_of(&weekly, "cell", opens.minus(1)), HEAD);
        assert!(acl_of(&weekly, "cell", opens).contains("\nuser camera-1.cell.plant.example\n"));
        assert!(acl_of(&weekly, "cell", opens.plus(3_599)).contains("\nuser "));
        assert_eq!(acl_of(&weekly, "cell", opens.plus(3_600)), HEAD);
        let ending = way("", end.0);
        assert!(acl_of(&ending, "cell", end.minus(1)).contains("\nuser "));
        assert_eq!(acl_of(&ending, "cell", end), HEAD);
    }
}
