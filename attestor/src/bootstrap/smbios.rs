//! SMBIOS type 11, "OEM strings" (DSP0134, section 7.12): where systemd, too, looks for credentials.

use std::io::ErrorKind;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{Found, Source, SourceError, read};

/// The type of a structure with strings for everybody.
const OEM_STRINGS: u8 = 11;
/// Most structures of this type that are read: firmware has one or two, a hypervisor one.
const MAX_STRUCTURES: usize = 16;
/// Begins a string that holds a credential (systemd.system-credentials(7)), and one in base64.
const TEXT: &str = "io.systemd.credential:";
const BINARY: &str = "io.systemd.credential.binary:";

/// The value `name`, if a string of the structures in `folder` has it.
pub(super) fn find(folder: &Path, name: &'static str) -> Result<Option<Found>, SourceError> {
    for number in 0..MAX_STRUCTURES {
        let file = folder.join(format!("{OEM_STRINGS}-{number}/raw"));
        let source = Source::Smbios(file.clone());
        let refuse = |fault: String| SourceError { name, origin: source.clone(), fault };
        let raw = match read(&file) {
            Ok(Some(raw)) => raw,
            Ok(None) => return Ok(None),
            // systemd reads them for a service, as credentials; the service itself may not.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => return Ok(None),
            Err(error) => return Err(refuse(error.to_string())),
        };
        let strings = strings(&raw).ok_or_else(|| refuse("the structure is cut short".to_owned()))?;
        for string in strings {
            let text = value(string, TEXT, name).map(|value| Ok(value.as_bytes().to_vec()));
            let decoded = || value(string, BINARY, name).map(|value| STANDARD.decode(value));
            let Some(value) = text.or_else(decoded) else { continue };
            let value = value.map_err(|error| refuse(format!("it is no base64: {error}")))?;
            return Found::new(name, value, source).map(Some);
        }
    }
    Ok(None)
}

fn value<'a>(string: &'a str, kind: &str, name: &str) -> Option<&'a str> {
    string.strip_prefix(kind)?.strip_prefix(name)?.strip_prefix('=')
}

/// The strings of a structure: they follow its formatted part, each with a zero byte, and end with an empty one.
fn strings(raw: &[u8]) -> Option<Vec<&str>> {
    let (kind, length) = (*raw.first()?, usize::from(*raw.get(1)?));
    if kind != OEM_STRINGS || length < 5 {
        return None;
    }
    let mut rest = raw.get(length..)?;
    let mut strings = Vec::new();
    loop {
        let end = rest.iter().position(|byte| *byte == 0)?;
        let (string, more) = rest.split_at_checked(end)?;
        if string.is_empty() {
            return Some(strings);
        }
        // What is no text is nothing of ours.
        strings.extend(std::str::from_utf8(string).ok());
        rest = more.get(1..)?;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_bytes_make_it_fail(bytes: Vec<u8>) {
            let _ = strings(&bytes);
        }

        #[test]
        fn strings_are_read_as_they_were_written(written in prop::collection::vec("[a-z:=.]{1,20}", 0..5)) {
            let mut raw = vec![OEM_STRINGS, 5, 0, 0, u8::try_from(written.len()).unwrap()];
            for string in &written {
                raw.extend(string.as_bytes());
                raw.push(0);
            }
            raw.extend([0; 2]);
            prop_assert_eq!(strings(&raw).unwrap(), written);
        }
    }
}
