//! Reads the image rules of a manifest.

use std::collections::BTreeSet;

use super::super::fault::ManifestProblem;
use super::super::image::{ImageRule, MAX_IMAGE_RULES};
use super::super::{MAX_RULE_DIGESTS, MAX_RULE_NAME};
use super::{Faults, Fields, Value, shortened, string};
use crate::budget::MAX_IMAGE_PATH;
use crate::digest::Digest;

const IMAGE_FIELDS: &[&str] = &["path", "digest", "optional", "name"];

pub(super) fn read(value: &Value<'_>, faults: &mut Faults<'_>) -> Vec<ImageRule> {
    let mut rules = BTreeSet::new();
    let wanted = ("a list of tables", "[[image]]");
    for entry in entries(value, "image", MAX_IMAGE_RULES, wanted, faults) {
        let Some(table) = entry.get_ref().as_table() else {
            faults.wrong_type(entry.span(), "image", "a table", "[[image]]");
            continue;
        };
        let fields = Fields::new(table, entry.span(), IMAGE_FIELDS, faults);
        if let Some(rule) = read_rule(&fields, faults)
            && !rules.insert(rule)
        {
            faults.add(entry.span(), ManifestProblem::Duplicate("an image rule".to_owned()));
        }
    }
    rules.into_iter().collect()
}

fn read_rule(fields: &Fields<'_, '_>, faults: &mut Faults<'_>) -> Option<ImageRule> {
    let path = fields.text("path", MAX_IMAGE_PATH, faults);
    let optional = fields.flag("optional", faults);
    let name = fields.text("name", MAX_RULE_NAME, faults);
    let value = fields.required("digest", "digest = [\"sha256:<64 hex digits>\"]", faults)?;
    let digests = read_digests(value, faults);
    (!digests.is_empty()).then_some(ImageRule { path, digests, optional, name })
}

fn read_digests(value: &Value<'_>, faults: &mut Faults<'_>) -> BTreeSet<Digest> {
    let wanted = ("a list of digests", "[\"sha256:<64 hex digits>\"]");
    let list = entries(value, "digest", MAX_RULE_DIGESTS, wanted, faults);
    if value.get_ref().as_array().is_some_and(|list| list.is_empty()) {
        faults.add(value.span(), ManifestProblem::Empty("digest".to_owned()));
    }
    let mut digests = BTreeSet::new();
    for entry in list {
        let Some(text) = string(entry, "digest", "\"sha256:<64 hex digits>\"", faults) else { continue };
        match text.parse::<Digest>() {
            Ok(digest) if !digests.insert(digest) => {
                faults.add(entry.span(), ManifestProblem::Duplicate(format!("digest {digest}")));
            }
            Ok(_) => {}
            Err(_) => {
                let (found, wanted) = (shortened(text), "sha256".to_owned());
                faults.add(entry.span(), ManifestProblem::Digest { found, wanted });
            }
        }
    }
    digests
}

/// The entries of a list that is not too long.
pub(super) fn entries<'a, 'i>(
    value: &'a Value<'i>,
    field: &str,
    limit: usize,
    (wanted, example): (&'static str, &'static str),
    faults: &mut Faults<'_>,
) -> &'a [Value<'i>] {
    let Some(list) = value.get_ref().as_array() else {
        faults.wrong_type(value.span(), field, wanted, example);
        return &[];
    };
    if list.len() > limit {
        let what = format!("`{field}`");
        faults.add(value.span(), ManifestProblem::TooLong { what, found: list.len(), limit });
        return &[];
    }
    list
}
