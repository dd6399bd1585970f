//! The files of `device import`: what the attestor's `identify` prints, or a list.

use std::path::Path;

use policy::digest::Digest;
use policy::id::DeviceName;
use proto::v1::DeviceEntry;
use serde::Deserialize;

use super::list::inventory;
use super::{list, table};
use crate::failure::{Failure, Result};
use crate::file;
use crate::output::SCHEMA;

/// What `touchstone-attestor identify -o json` prints; what is not needed here is passed over.
#[derive(Deserialize)]
struct Identity {
    schema: u32,
    #[serde(default)]
    device: Option<DeviceName>,
    #[serde(default)]
    ek_digest: Option<Digest>,
    /// Of a device without a TPM.
    #[serde(default)]
    idevid_digest: Option<Digest>,
    #[serde(default)]
    manufacturer: String,
}

/// Reads the devices of a file in the form that its first line shows.
pub(super) fn read(path: &Path) -> Result<Vec<DeviceEntry>> {
    let text = file::read_text(path)?;
    // Spreadsheets mark UTF-8 by a first character that is no text.
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let first = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
    match first {
        None => Err(Failure::unusable(format!("{}: empty, no device", path.display()))),
        Some(line) if line.starts_with('{') => read_identities(path, text),
        Some(line) if line.starts_with('[') || line.contains('=') => list::read(path, text),
        Some(_) => table::read(path, text),
    }
}

fn read_identities(path: &Path, text: &str) -> Result<Vec<DeviceEntry>> {
    serde_json::Deserializer::from_str(text).into_iter().map(|read| entry(path, read)).collect()
}

fn entry(path: &Path, read: serde_json::Result<Identity>) -> Result<DeviceEntry> {
    let identity = read.map_err(|e| {
        Failure::unusable(format!("{}: {e}", path.display()))
            .next("make the file on the device with `touchstone-attestor identify -o json`")
    })?;
    if identity.schema != SCHEMA {
        let what = format!("{}: `schema` is {}, this tool reads {SCHEMA}", path.display(), identity.schema);
        return Err(Failure::unusable(what).next("use a touchstone as new as the attestor"));
    }
    let digest = identity.ek_digest.or(identity.idevid_digest).ok_or_else(|| {
        Failure::unusable(format!("{}: missing field `ek_digest` or `idevid_digest`", path.display()))
            .next("make the file on the device with `touchstone-attestor identify -o json`")
    })?;
    Ok(DeviceEntry {
        name: identity.device.map(|name| name.to_string()).unwrap_or_default(),
        zones: Vec::new(),
        ek_digest: digest.0.to_vec(),
        inventory: inventory([("manufacturer", Some(identity.manufacturer).filter(|name| !name.is_empty()))]),
    })
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
    fn a_device_without_a_tpm_is_registered_by_its_idevid() {
        let idevid = format!(r#"{{"schema":1,"device":"meter-4","idevid_digest":"{}"}}"#, ek("ab"));
        assert_eq!(read_text(&idevid).unwrap()[0].ek_digest, [0xab; 32]);
        let both = idevid
            .replace("idevid_digest", "ek_digest")
            .replace('}', &format!(r#","idevid_digest":"{}"}}"#, ek("cd")));
        assert_eq!(read_text(&both).unwrap()[0].ek_digest, [0xab; 32], "its TPM names it");
    }

    #[test]
    fn identities_may_follow_one_another() {
        let one =
            |byte: &str| format!("{{\"schema\":1,\"device\":\"d-{byte}\",\"ek_digest\":\"{}\"}}\n", ek(byte));
        let entries = read_text(&(one("ab") + &one("cd"))).unwrap();
        assert_eq!(entries.iter().map(|entry| entry.name.as_str()).collect::<Vec<_>>(), ["d-ab", "d-cd"]);
    }

    #[test]
    fn a_list_is_read() {
        let text = format!(
            "# Line 3\n[[device]]\nname = \"press-7\"\nzones = [\"cell-3\"]\nek = \"{}\"\nowner = \"line 3\"\n",
            ek("ab")
        );
        let entries = read_text(&text).unwrap();
        assert_eq!(entries[0].zones, ["cell-3"]);
        assert_eq!(entries[0].inventory["owner"], "line 3");
    }

    #[test]
    fn a_table_is_read_by_its_columns() {
        let text = format!(
            "\u{feff}Name, EK ,zones,owner\npress-7,{},cell-3; lab,\"line 3, north\"\n\npress-8,{},,\n",
            ek("ab"),
            ek("cd")
        );
        let entries = read_text(&text).unwrap();
        assert_eq!(
            (entries[0].name.as_str(), entries[0].zones.join("+")),
            ("press-7", "cell-3+lab".to_owned())
        );
        assert_eq!(entries[0].inventory["owner"], "line 3, north");
        assert_eq!((entries[1].ek_digest[0], entries[1].inventory.len()), (0xcd, 0));
    }

    #[test]
    fn every_fault_of_a_table_is_told_with_its_line() {
        let text = format!(
            "name,ek,zones\npress-7,{0},\nPress,{0},\npress-8,sha256:ab,\npress-9,{1},cell_3\npress-7,{1},\nshort\n",
            ek("ab"),
            ek("cd")
        );
        let failure = read_text(&text).unwrap_err();
        for reason in [
            "line 3: `Press` is no device name",
            "line 4: `sha256:ab` is not a digest",
            "line 5: `cell_3` is no zone name",
            "line 6: device `press-7` stands at line 2 already",
            "line 7: ",
        ] {
            assert!(failure.contains(reason), "{reason}: {failure}");
        }
        let failure = read_text("name,ekk\n").unwrap_err();
        assert!(failure.contains("column `ekk` is not known"), "{failure}");
        assert!(failure.contains("there is no column `ek`"), "{failure}");
        let failure = read_text("name,EK,name\n").unwrap_err();
        assert!(failure.contains("column `name` stands there twice"), "{failure}");
        for nobody in ["# nothing\n", "name,ek\n", "name,ek\n\n# press-7\n"] {
            assert!(read_text(nobody).unwrap_err().contains("no device"), "{nobody}");
        }
    }

    #[test]
    fn a_quote_that_is_not_closed_takes_no_devices_with_it() {
        let text = format!("name,ek,owner\npress-7,{},\"line 3\npress-8,{},line 4\n", ek("ab"), ek("cd"));
        let failure = read_text(&text).unwrap_err();
        assert!(failure.contains("line 2: a value goes over several lines; close its quote"), "{failure}");
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
            ("{\"schema\":1,\n\"device\":\"a\"}".to_owned(), "missing field `ek_digest` or `idevid_digest`"),
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
}
