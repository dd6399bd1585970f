//! `[mqtt]`: which peers of an MQTT broker on this device may read and write which topics.

use std::collections::BTreeMap;

use policy::id::{DeviceName, ServiceName, ZoneName};
use serde::Deserialize;

use super::Faults;

/// Longest topic filter in bytes; MQTT allows 65,535, nobody can review that.
const MAX_TOPIC: usize = 256;
/// Most peers, devices of one, and topics of one: what a person keeps in one file.
const MAX_PEERS: usize = 256;
const MAX_DEVICES: usize = 256;
const MAX_TOPICS: usize = 64;

/// Who may do what on one MQTT service of this device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mqtt {
    /// The service that the MQTT broker is.
    pub service: ServiceName,
    /// Its peers.
    pub peers: Vec<MqttPeer>,
}

/// Devices of one zone, and their topics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MqttPeer {
    /// The zone that a conduit lets in.
    pub zone: ZoneName,
    /// The devices.
    pub devices: Vec<DeviceName>,
    /// Topic filters that each of them reads; `{device}` and `{zone}` stand for its own.
    pub read: Vec<String>,
    /// Topic filters that each of them writes.
    pub write: Vec<String>,
}

/// The section as it is written.
#[derive(Debug, Deserialize)]
pub(super) struct RawMqtt {
    service: Option<String>,
    #[serde(default, rename = "peer")]
    peers: Vec<RawPeer>,
    #[serde(flatten)]
    unknown: BTreeMap<String, toml::Value>,
}

/// One `[[mqtt.peer]]`.
#[derive(Debug, Deserialize)]
struct RawPeer {
    zone: Option<String>,
    #[serde(default)]
    devices: Vec<String>,
    #[serde(default)]
    read: Vec<String>,
    #[serde(default)]
    write: Vec<String>,
    #[serde(flatten)]
    unknown: BTreeMap<String, toml::Value>,
}

pub(super) fn mqtt(raw: Option<&RawMqtt>, offered: &[ServiceName], faults: &mut Faults) -> Option<Mqtt> {
    let raw = raw?;
    faults.unknown("mqtt.", &raw.unknown);
    faults.bounded("mqtt.peer", raw.peers.len(), MAX_PEERS);
    let service = faults.required("mqtt.service", raw.service.as_ref(), "mqtt");
    let service: Option<ServiceName> = service.and_then(|text| faults.parsed("mqtt.service", text));
    if service.as_ref().is_some_and(|service| !offered.contains(service)) {
        faults.add("mqtt.service", "this device offers no such service; name it in a [[service]] too");
    }
    let peers = raw.peers.iter().take(MAX_PEERS).filter_map(|raw| peer(raw, faults)).collect();
    Some(Mqtt { service: service?, peers })
}

fn peer(raw: &RawPeer, faults: &mut Faults) -> Option<MqttPeer> {
    faults.unknown("mqtt.peer.", &raw.unknown);
    let zone = faults.required("mqtt.peer.zone", raw.zone.as_ref(), "cell-3");
    let zone = zone.and_then(|text| faults.parsed("mqtt.peer.zone", text));
    faults.bounded("mqtt.peer.devices", raw.devices.len(), MAX_DEVICES);
    if raw.devices.is_empty() {
        faults.add("mqtt.peer.devices", "name the devices; an ACL of mosquitto knows no zones");
    }
    let devices = raw.devices.iter().take(MAX_DEVICES);
    let devices = devices.filter_map(|name| faults.parsed("mqtt.peer.devices", name)).collect();
    let read = topics("mqtt.peer.read", &raw.read, faults);
    let write = topics("mqtt.peer.write", &raw.write, faults);
    Some(MqttPeer { zone: zone?, devices, read, write })
}

fn topics(key: &str, raw: &[String], faults: &mut Faults) -> Vec<String> {
    faults.bounded(key, raw.len(), MAX_TOPICS);
    for topic in raw.iter().take(MAX_TOPICS).filter(|topic| !is_filter(topic)) {
        let shown: String = topic.chars().filter(|c| !c.is_control()).take(40).collect();
        faults.add(
            key,
            format_args!(
                "`{shown}` is no topic filter; write levels, + for one and # at the end for all below; of the peer stand for \
                 themselves {{device}} and {{zone}} only"
            ),
        );
    }
    raw.to_vec()
}

/// Whether it is a topic filter (MQTT 5.0, section 4.7) that stands in one line of an ACL file as it is.
fn is_filter(topic: &str) -> bool {
    let levels: Vec<&str> = topic.split('/').collect();
    let last = levels.len().saturating_sub(1);
    let wild = |(at, level): (usize, &&str)| match *level {
        "+" => true,
        "#" => at == last,
        other => !other.contains(['+', '#']),
    };
    let written = topic.replace("{device}", "").replace("{zone}", "");
    let plain = |c: char| !c.is_control() && !c.is_whitespace() && c != '%';
    !topic.is_empty()
        && topic.len() <= MAX_TOPIC
        && topic.chars().all(plain)
        && !written.contains(['{', '}'])
        && levels.iter().enumerate().all(wild)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Option<Mqtt>, Vec<String>) {
        let mut faults = Faults(Vec::new());
        let raw: RawMqtt = toml::from_str(text).unwrap();
        let found = mqtt(Some(&raw), &["mqtt".parse().unwrap()], &mut faults);
        (found, faults.0)
    }

    #[test]
    fn peers_are_read_with_their_topics() {
        let (found, faults) = read(
            "service = \"mqtt\"\n[[peer]]\nzone = \"cell-3\"\ndevices = [\"press-7\"]\nread = [\"#\", \"a/+/b\"]\n\
             write = [\"state/{device}/#\"]\n",
        );
        assert_eq!(faults, Vec::<String>::new());
        assert_eq!(found.unwrap().peers[0].write, ["state/{device}/#"]);
    }

    #[test]
    fn what_mosquitto_would_read_otherwise_is_refused() {
        let peer = "[[peer]]\nzone = \"cell-3\"\ndevices = [\"press-7\"]\n";
        for topic in ["", "a/#/b", "a+", "a b", "a\\nuser admin", "%u/a", "a/{devcie}", "{a}"] {
            let (_, faults) = read(&format!("service = \"mqtt\"\n{peer}write = [\"{topic}\"]\n"));
            assert!(faults[0].starts_with("mqtt.peer.write: "), "{topic}: {faults:?}");
        }
        let (_, faults) = read("service = \"opcua\"\n[[peer]]\nzone = \"Cell\"\ntopic = 1\n");
        let keys = ["mqtt.service", "mqtt.peer.topic", "mqtt.peer.zone", "mqtt.peer.devices"];
        assert!(faults.iter().zip(keys).all(|(fault, key)| fault.starts_with(key)), "{faults:?}");
    }
}
