//! Reads the section of a manifest about files.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::super::fault::ManifestProblem;
use super::super::ima::{
    Excluded, ImaRules, MAX_EXCLUDED, MAX_FILES, MAX_KEYS, MAX_PATH, Violations, as_linux_writes,
};
use super::{BANKS, Faults, Fields, MAX_RULE_DIGESTS, Value, is_plain, shortened, string};
use crate::eventlog::ima::key::{ImaKey, ImaKeyError};
use crate::reference::hash_text::HashText;
use crate::tpm::alg::HashValue;

const IMA_FIELDS: &[&str] = &["exclude", "keys", "version1_keys", "violations", "file"];
const FILE_FIELDS: &[&str] = &["path", "digest"];
/// Keys by what they were read from: one listed in both fields stands there twice.
type Keys = BTreeMap<Vec<u8>, ImaKey>;
/// A field that lists keys, and how its keys count.
type KeyField = (&'static str, fn(&[u8]) -> Result<ImaKey, ImaKeyError>);
const KEY_FIELDS: [KeyField; 2] = [("keys", ImaKey::parse), ("version1_keys", ImaKey::parse_version1)];
const EXAMPLE_DIGEST: &str = "\"sha256:<hex digits>\"";

pub(super) fn read(value: &Value<'_>, faults: &mut Faults<'_>) -> ImaRules {
    let Some(table) = value.get_ref().as_table() else {
        faults.wrong_type(value.span(), "ima", "a table", "[ima]");
        return ImaRules::default();
    };
    let fields = Fields::new(table, value.span(), IMA_FIELDS, faults);
    let exclude = fields.optional("exclude").map(|value| read_excluded(value, faults)).unwrap_or_default();
    let mut keys = Keys::new();
    for (field, parse) in KEY_FIELDS {
        if let Some(value) = fields.optional(field) {
            read_keys(value, field, parse, &mut keys, faults);
        }
    }
    let keys = keys.into_values().collect();
    let violations = fields.optional("violations").and_then(|value| read_violations(value, faults));
    let files = fields.optional("file").map(|value| read_files(value, faults)).unwrap_or_default();
    ImaRules { files, exclude, keys, violations: violations.unwrap_or_default() }
}

/// The entries of a list that is not too long.
fn entries<'a, 'i>(
    value: &'a Value<'i>,
    field: &str,
    limit: usize,
    wanted: (&'static str, &'static str),
    faults: &mut Faults<'_>,
) -> &'a [Value<'i>] {
    let Some(list) = value.get_ref().as_array() else {
        faults.wrong_type(value.span(), field, wanted.0, wanted.1);
        return &[];
    };
    if list.len() > limit {
        let what = format!("`{field}`");
        faults.add(value.span(), ManifestProblem::TooLong { what, found: list.len(), limit });
        return &[];
    }
    list
}

fn read_violations(value: &Value<'_>, faults: &mut Faults<'_>) -> Option<Violations> {
    let text = string(value, "violations", "\"refuse\"", faults)?;
    let known = [Violations::Refuse, Violations::Allow].into_iter().find(|known| known.name() == text);
    if known.is_none() {
        faults.wrong_type(value.span(), "violations", "\"refuse\" or \"allow\"", "\"refuse\"");
    }
    known
}

fn read_excluded(value: &Value<'_>, faults: &mut Faults<'_>) -> BTreeSet<Excluded> {
    let wanted = ("a list of paths", "[\"/tmp/**\"]");
    let mut excluded = BTreeSet::new();
    for entry in entries(value, "exclude", MAX_EXCLUDED, wanted, faults) {
        let Some(path) = read_path(entry, "exclude", faults) else { continue };
        let fixed = path.strip_suffix("/**").unwrap_or(&path);
        if !fixed.starts_with('/') || fixed.contains('*') {
            faults.add(entry.span(), ManifestProblem::Excluded(shortened(&path)));
        } else if !excluded.insert(Excluded(path.clone())) {
            faults.add(entry.span(), ManifestProblem::Duplicate(format!("`{}`", shortened(&path))));
        }
    }
    excluded
}

fn read_path(value: &Value<'_>, field: &'static str, faults: &mut Faults<'_>) -> Option<String> {
    let path = string(value, field, "\"/usr/bin/press\"", faults)?;
    if path.len() > MAX_PATH {
        let what = format!("`{field}`");
        faults.add(value.span(), ManifestProblem::TooLong { what, found: path.len(), limit: MAX_PATH });
        return None;
    }
    if path.is_empty() || !path.chars().all(is_plain) {
        faults.add(value.span(), ManifestProblem::NotPlain(field));
        return None;
    }
    Some(path.to_owned())
}

fn read_keys(
    value: &Value<'_>,
    field: &'static str,
    parse: fn(&[u8]) -> Result<ImaKey, ImaKeyError>,
    keys: &mut Keys,
    faults: &mut Faults<'_>,
) {
    let wanted = ("a list of public keys", "[\"<base64 of SubjectPublicKeyInfo>\"]");
    for entry in entries(value, field, MAX_KEYS, wanted, faults) {
        let Some(text) = string(entry, field, "\"<base64>\"", faults) else { continue };
        let not_base64 = || "this is neither PEM nor base64".to_owned();
        let key = key_bytes(text).ok_or_else(not_base64);
        match key.and_then(|der| parse(&der).map_err(|error| error.to_string())) {
            Ok(key) => {
                if keys.insert(key.der().to_vec(), key).is_some() {
                    faults.add(entry.span(), ManifestProblem::Duplicate("a key".to_owned()));
                }
            }
            Err(why) => faults.add(entry.span(), ManifestProblem::Key(why)),
        }
    }
}

/// The bytes of a PEM block of any label, or of bare base64.
fn key_bytes(text: &str) -> Option<Vec<u8>> {
    let text = text.trim();
    let digits: String = match text.strip_prefix("-----BEGIN ") {
        Some(block) => {
            let body = block.split_once("-----")?.1;
            body.split_once("-----END ")?.0.split_ascii_whitespace().collect()
        }
        None => text.to_owned(),
    };
    STANDARD.decode(digits).ok()
}

fn read_files(value: &Value<'_>, faults: &mut Faults<'_>) -> BTreeMap<String, BTreeSet<HashValue>> {
    let mut files = BTreeMap::new();
    for entry in entries(value, "ima.file", MAX_FILES, ("a list of tables", "[[ima.file]]"), faults) {
        let Some(table) = entry.get_ref().as_table() else {
            faults.wrong_type(entry.span(), "ima.file", "a table", "[[ima.file]]");
            continue;
        };
        let fields = Fields::new(table, entry.span(), FILE_FIELDS, faults);
        let path = fields
            .required("path", "path = \"/usr/bin/press\"", faults)
            .and_then(|value| read_path(value, "path", faults));
        let digests = fields
            .required("digest", "digest = [\"sha256:<hex digits>\"]", faults)
            .map(|value| read_digests(value, faults));
        let (Some(path), Some(digests)) = (path, digests) else { continue };
        if files.insert(as_linux_writes(&path), digests).is_some() {
            faults.add(entry.span(), ManifestProblem::Duplicate(format!("file `{}`", shortened(&path))));
        }
    }
    files
}

fn read_digests(value: &Value<'_>, faults: &mut Faults<'_>) -> BTreeSet<HashValue> {
    let mut digests = BTreeSet::new();
    let wanted = ("a list of digests", "[\"sha256:<hex digits>\"]");
    let list = entries(value, "digest", MAX_RULE_DIGESTS, wanted, faults);
    if value.get_ref().as_array().is_some_and(|list| list.is_empty()) {
        faults.add(value.span(), ManifestProblem::Empty("digest".to_owned()));
    }
    for entry in list {
        let Some(text) = string(entry, "digest", EXAMPLE_DIGEST, faults) else { continue };
        match text.parse::<HashText>().ok().filter(|HashText(digest)| BANKS.contains(&digest.alg())) {
            Some(HashText(digest)) if !digests.insert(digest) => {
                faults.add(entry.span(), ManifestProblem::Duplicate(format!("digest {digest}")));
            }
            Some(_) => {}
            None => faults.add(entry.span(), ManifestProblem::FileDigest(shortened(text))),
        }
    }
    digests
}
