//! `key_owner` and `key_group` of a service: who may read the file of its software key.

use std::collections::BTreeMap;

use policy::id::ServiceName;

use super::raw::RawService;
use super::workload::number;
use super::{Faults, KeyPlace, Service};

/// Whom a key's file is given to, beside the attestor's own user and group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyOwner {
    /// The user; none: the attestor's own.
    pub user: Option<u32>,
    /// The group, which may read the file then; none: nobody but the user.
    pub group: Option<u32>,
}

/// Those that are stated.
pub(super) fn key_owners(
    raw: &[RawService],
    services: &[Service],
    faults: &mut Faults,
) -> BTreeMap<ServiceName, KeyOwner> {
    let mut owners = BTreeMap::new();
    for stated in raw.iter().filter(|one| one.key_owner.is_some() || one.key_group.is_some()) {
        let user = number("service.key_owner", stated.key_owner, faults);
        let group = number("service.key_group", stated.key_group, faults);
        let service = services.iter().find(|one| Some(one.name.as_str()) == stated.name.as_deref());
        let Some(service) = service else { continue };
        match service.key {
            KeyPlace::Software => drop(owners.insert(service.name.clone(), KeyOwner { user, group })),
            KeyPlace::Tpm => faults.add(
                "service.key_owner",
                format_args!(
                    "the key of {} is in the TPM and has no file of its own; write key = \"software\", or take the line out",
                    service.name
                ),
            ),
        }
    }
    owners
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::{Config, KeyOwner};

    fn parse(service: &str) -> Result<Config, String> {
        let text = format!(
            "broker = \"broker:8443\"\nplant = \"plant.example\"\nplant_root = \"root.pem\"\ntpm = \"none\"\n\
             device = \"press-1\"\n[[service]]\nname = \"hmi\"\nport = 443\n{service}"
        );
        Config::parse(Path::new("/etc"), &text).map_err(|faults| faults.concat())
    }

    #[test]
    fn a_software_key_has_an_owner_and_no_other_has() {
        let config = parse("key = \"software\"\nkey_group = 120\n").unwrap();
        let owner = KeyOwner { user: None, group: Some(120) };
        assert_eq!(config.key_owners, [("hmi".parse().unwrap(), owner)].into());
        assert!(parse("key = \"software\"\n").unwrap().key_owners.is_empty());
        let why = parse("key_group = 120\n").unwrap_err();
        assert!(why.contains("service.key_owner") && why.contains("has no file of its own"), "{why}");
        let why = parse("key = \"software\"\nkey_owner = -1\n").unwrap_err();
        assert!(why.contains("service.key_owner") && why.contains("`id NAME` tells it"), "{why}");
    }
}
