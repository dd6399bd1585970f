//! The files of `device import`: what the attestor's `identify` prints, or a supplier's list.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use policy::digest::Digest;
use policy::id::{DeviceName, ZoneName};
use proto::v1::DeviceEntry;
use serde::Deserialize;
use toml::Spanned;

use crate::failure::{Failure, Result};
use crate::file;
use crate::output::SCHEMA;

/// What `touchstone-attestor identify -o json` prints; what is not needed here is passed over.
#[derive(Deserialize)]
struct Identity {
    schema: u32,
    #[serde(default)]
    device: Option<DeviceName>,
    ek_digest: Digest,
    #[serde(default)]
    manufacturer: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    device: Vec<Spanned<ListedDevice>>,
}

/// One `[[device]]`: its place, and what the list says about it (design: the live inventory).
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListedDevice {
    name: DeviceName,
    #[serde(default)]
    zones: Vec<ZoneName>,
    ek: Digest,
    kind: Option<String>,
    manufacturer: Option<String>,
    model: Option<String>,
    serial: Option<String>,
    firmware: Option<String>,
    update_mechanism: Option<String>,
    owner: Option<String>,
    criticality: Option<String>,
    depends_on: Option<String>,
    location: Option<String>,
}

impl From<ListedDevice> for DeviceEntry {
    fn from(device: ListedDevice) -> Self {
        Self {
            name: device.name.to_string(),
            zones: device.zones.iter().map(ToString::to_string).collect(),
            ek_digest: device.ek.0.to_vec(),
            inventory: inventory([
                ("kind", device.kind),
                ("manufacturer", device.manufacturer),
                ("model", device.model),
                ("serial", device.serial),
                ("firmware", device.firmware),
                ("update_mechanism", device.update_mechanism),
                ("owner", device.owner),
                ("criticality", device.criticality),
                ("depends_on", device.depends_on),
                ("location", device.location),
            ]),
        }
    }
}

/// The values that are stated.
fn inventory<const N: usize>(values: [(&str, Option<String>); N]) -> HashMap<String, String> {
    let stated = |(name, value): (&str, Option<String>)| value.map(|value| (name.to_owned(), value));
    values.into_iter().filter_map(stated).filter(|(_, value)| !value.is_empty()).collect()
}

/// Reads the devices of a file, JSON or TOML.
pub(super) fn read(path: &Path) -> Result<Vec<DeviceEntry>> {
    let text = file::read_text(path)?;
    if text.trim_start().starts_with('{') { read_identity(path, &text) } else { read_list(path, &text) }
}

fn read_identity(path: &Path, text: &str) -> Result<Vec<DeviceEntry>> {
    let identity: Identity = serde_json::from_str(text).map_err(|e| {
        Failure::unusable(format!("{}: {e}", path.display()))
            .next("make the file on the device with `touchstone-attestor identify -o json`")
    })?;
    if identity.schema != SCHEMA {
        let what = format!("{}: `schema` is {}, this tool reads {SCHEMA}", path.display(), identity.schema);
        return Err(Failure::unusable(what).next("use a touchstone as new as the attestor"));
    }
    Ok(vec![DeviceEntry {
        name: identity.device.map(|name| name.to_string()).unwrap_or_default(),
        zones: Vec::new(),
        ek_digest: identity.ek_digest.0.to_vec(),
        inventory: inventory([("manufacturer", Some(identity.manufacturer))]),
    }])
}

fn read_list(path: &Path, text: &str) -> Result<Vec<DeviceEntry>> {
    let list: List = toml::from_str(text).map_err(|e| Failure::unusable(file::toml_fault(path, text, &e)))?;
    let mut names = BTreeMap::new();
    let mut eks = BTreeMap::new();
    let mut entries = Vec::new();
    for device in list.device {
        let line = file::line_of(text, device.span().start);
        let device = device.into_inner();
        let twice = |what: String, first: usize| {
            Failure::unusable(format!(
                "{}: line {line}: {what} stands at line {first} already",
                path.display()
            ))
            .next("a name and an EK belong to one device")
        };
        if let Some(first) = names.insert(device.name.clone(), line) {
            return Err(twice(format!("device `{}`", device.name), first));
        }
        if let Some(first) = eks.insert(device.ek, line) {
            return Err(twice(format!("`ek` of `{}`", device.name), first));
        }
        entries.push(device.into());
    }
    Ok(entries)
}

/// Adds the zones of the command line and makes sure that each device has a name.
pub(super) fn complete(path: &Path, entries: &mut [DeviceEntry], zones: &[ZoneName]) -> Result<()> {
    for entry in entries {
        if entry.name.is_empty() {
            let what = format!("{}: `device` is empty, the device has no name yet", path.display());
            return Err(Failure::unusable(what).next("give it one with --name NAME"));
        }
        for zone in zones {
            if !entry.zones.iter().any(|has| has == zone.as_str()) {
                entry.zones.push(zone.to_string());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> std::result::Result<Vec<DeviceEntry>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("devices");
        std::fs::write(&path, text).unwrap();
        read(&path).map_err(|failure| failure.text())
    }

    fn ek(byte: &str) -> String {
        format!("sha256:{}", byte.repeat(32))
    }

    #[test]
    fn what_identify_prints_is_read() {
        let text = format!(
            r#"{{"schema":1,"device":"press-7","ek_digest":"{}","ek_certificate":null,"manufacturer":"IFX","later":[1]}}"#,
            ek("ab")
        );
        let entries = read_text(&text).unwrap();
        assert_eq!(entries[0].name, "press-7");
        assert_eq!(entries[0].ek_digest, [0xab; 32]);
        assert_eq!(entries[0].inventory["manufacturer"], "IFX");
        assert_eq!(entries[0].inventory.len(), 1);
    }

    #[test]
    fn a_list_is_read_and_completed() {
        let text = format!(
            "[[device]]\nname = \"press-7\"\nzones = [\"cell-3\"]\nek = \"{}\"\nowner = \"line 3\"\n",
            ek("ab")
        );
        let mut entries = read_text(&text).unwrap();
        let zones = ["cell-3".parse().unwrap(), "lab".parse().unwrap()];
        complete(Path::new("list.toml"), &mut entries, &zones).unwrap();
        assert_eq!(entries[0].zones, ["cell-3", "lab"]);
        assert_eq!(entries[0].inventory["owner"], "line 3");
    }

    #[test]
    fn faults_name_line_and_field() {
        let cases = [
            (
                "[[device]]\nname = \"press-7\"\nek = \"sha256:ab\"\n".to_owned(),
                "line 3: `sha256:ab` is not a digest",
            ),
            ("[[device]]\nname = \"press-7\"\n".to_owned(), "missing field `ek`"),
            (
                format!("[[device]]\nname = \"Press\"\nek = \"{}\"\n", ek("ab")),
                "line 2: `Press` is no device name",
            ),
            (
                format!("[[device]]\nname = \"a\"\nek = \"{}\"\nower = \"x\"\n", ek("ab")),
                "line 4: unknown field `ower`",
            ),
            ("{\"schema\":1,\n\"device\":\"a\"}".to_owned(), "missing field `ek_digest`"),
            (format!("{{\"schema\":2,\"ek_digest\":\"{}\"}}", ek("ab")), "`schema` is 2"),
        ];
        for (text, reason) in cases {
            let failure = read_text(&text).unwrap_err();
            assert!(failure.contains(reason), "{failure}");
        }
    }

    #[test]
    fn one_tpm_is_one_device() {
        let text = format!(
            "[[device]]\nname = \"a\"\nek = \"{0}\"\n\n[[device]]\nname = \"b\"\nek = \"{0}\"\n",
            ek("ab")
        );
        let failure = read_text(&text).unwrap_err();
        assert!(failure.contains("line 5: `ek` of `b` stands at line 1 already"), "{failure}");
    }

    #[test]
    fn a_device_without_a_name_asks_for_one() {
        let mut entries = read_text(&format!("{{\"schema\":1,\"ek_digest\":\"{}\"}}", ek("ab"))).unwrap();
        let failure = complete(Path::new("id.json"), &mut entries, &[]).unwrap_err().text();
        assert!(failure.contains("--name NAME"), "{failure}");
    }
}
