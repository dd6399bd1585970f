//! A list of devices in TOML, and what a list says of a device.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use policy::digest::Digest;
use policy::id::{DeviceName, ZoneName};
use proto::v1::DeviceEntry;
use serde::Deserialize;
use toml::Spanned;

use crate::failure::{Failure, Result};
use crate::file;

/// What a list may say of a device beside its name, EK and zones: the live inventory.
pub(super) const INVENTORY: [&str; 10] = [
    "kind",
    "manufacturer",
    "model",
    "serial",
    "firmware",
    "update_mechanism",
    "owner",
    "criticality",
    "depends_on",
    "location",
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    device: Vec<Spanned<ListedDevice>>,
}

/// One `[[device]]`.
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
pub(super) fn inventory<const N: usize>(values: [(&str, Option<String>); N]) -> HashMap<String, String> {
    let stated = |(name, value): (&str, Option<String>)| value.map(|value| (name.to_owned(), value));
    values.into_iter().filter_map(stated).filter(|(_, value)| !value.is_empty()).collect()
}

/// Which line said a name or an EK first: each belongs to one device.
#[derive(Default)]
pub(super) struct Lines {
    names: BTreeMap<DeviceName, usize>,
    eks: BTreeMap<Digest, usize>,
}

impl Lines {
    /// Takes the device of `line`; says what stands in an earlier one.
    pub(super) fn take(
        &mut self,
        name: &DeviceName,
        ek: Digest,
        line: usize,
    ) -> std::result::Result<(), String> {
        if let Some(first) = self.names.insert(name.clone(), line) {
            return Err(format!("device `{name}` stands at line {first} already"));
        }
        match self.eks.insert(ek, line) {
            Some(first) => Err(format!("`ek` of `{name}` stands at line {first} already")),
            None => Ok(()),
        }
    }
}

/// Reads a list in TOML.
pub(super) fn read(path: &Path, text: &str) -> Result<Vec<DeviceEntry>> {
    let list: List = toml::from_str(text).map_err(|e| Failure::unusable(file::toml_fault(path, text, &e)))?;
    let mut lines = Lines::default();
    let mut entries = Vec::new();
    for device in list.device {
        let line = file::line_of(text, device.span().start);
        let device = device.into_inner();
        lines.take(&device.name, device.ek, line).map_err(|what| {
            Failure::unusable(format!("{}: line {line}: {what}", path.display()))
                .next("a name and an EK belong to one device")
        })?;
        entries.push(device.into());
    }
    Ok(entries)
}
