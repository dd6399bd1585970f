//! The canonical text of a manifest, written by hand so that no library's taste can change what was
//! signed.

use std::fmt::{self, Write};

use super::ima::{self, Excluded, ImaRules};
use super::image::ImageRule;
use super::sbom::SbomRef;
use super::secure_boot::{KeyVariable, SecureBootRule};
use super::{EventRule, Expectation, Manifest, SCHEMA};
use crate::digest::Digest;
use crate::reference::hash_text::HashText;

pub(super) fn render(manifest: &Manifest) -> String {
    let mut out = String::new();
    // Writing to a String does not fail; an error would only shorten text that is compared anyway.
    let _infallible = write_manifest(&mut out, manifest);
    out
}

fn write_manifest(out: &mut String, manifest: &Manifest) -> fmt::Result {
    writeln!(out, "schema = {SCHEMA}")?;
    writeln!(out, "product = {}", quoted(manifest.product().as_str()))?;
    writeln!(out, "version = {}", quoted(manifest.version().as_str()))?;
    writeln!(out, "counter = {}", manifest.counter)?;
    if let Some(description) = &manifest.description {
        writeln!(out, "description = {}", quoted(description))?;
    }
    for (bank, rules) in &manifest.pcrs {
        writeln!(out, "\n[pcrs.{bank}]")?;
        for (pcr, values) in rules {
            write_list(out, &pcr.to_string(), values)?;
        }
    }
    manifest.events.iter().try_for_each(|rule| write_event(out, rule))?;
    manifest.images.iter().try_for_each(|rule| write_image(out, rule))?;
    manifest.ima().map_or(Ok(()), |rules| write_ima(out, rules))?;
    manifest.secure_boot.as_ref().map_or(Ok(()), |rule| write_secure_boot(out, rule))?;
    manifest.sboms.iter().try_for_each(|sbom| write_sbom(out, sbom))
}

fn write_sbom(out: &mut String, sbom: &SbomRef) -> fmt::Result {
    writeln!(out, "\n[[sbom]]\ndigest = \"{}\"\nformat = \"{}\"", sbom.digest, sbom.format)?;
    sbom.name.as_ref().map_or(Ok(()), |name| writeln!(out, "name = {}", quoted(name)))
}

fn write_ima(out: &mut String, rules: &ImaRules) -> fmt::Result {
    writeln!(out, "\n[ima]")?;
    if !rules.exclude.is_empty() {
        write_texts(out, "exclude", rules.exclude.iter().map(Excluded::as_str))?;
    }
    for (field, version1) in [("keys", false), ("version1_keys", true)] {
        let keys = ima::key_texts(rules.keys(), version1);
        if !keys.is_empty() {
            write_texts(out, field, keys.iter().map(String::as_str))?;
        }
    }
    writeln!(out, "violations = {}", quoted(rules.violations().name()))?;
    for (path, digests) in rules.files() {
        writeln!(out, "\n[[ima.file]]\npath = {}", quoted(path))?;
        let digests: Vec<HashText> = digests.iter().copied().map(HashText).collect();
        write_list(out, "digest", digests)?;
    }
    Ok(())
}

fn write_texts<'t>(out: &mut String, key: &str, texts: impl Iterator<Item = &'t str>) -> fmt::Result {
    writeln!(out, "{key} = [")?;
    for text in texts {
        writeln!(out, "  {},", quoted(text))?;
    }
    writeln!(out, "]")
}

fn write_secure_boot(out: &mut String, rule: &SecureBootRule) -> fmt::Result {
    writeln!(out, "\n[secure_boot]\nenabled = true")?;
    let keys = KeyVariable::ALL.map(|variable| (variable.field(), rule.keys(variable)));
    for (field, list) in keys.into_iter().chain([("authorities", rule.authorities())]) {
        if let Some(digests) = list {
            write_list(out, field, digests.iter().map(Digest::hex))?;
        }
    }
    Ok(())
}

fn write_image(out: &mut String, rule: &ImageRule) -> fmt::Result {
    writeln!(out, "\n[[image]]")?;
    if let Some(path) = &rule.path {
        writeln!(out, "path = {}", quoted(path))?;
    }
    write_list(out, "digest", &rule.digests)?;
    if rule.optional {
        writeln!(out, "optional = true")?;
    }
    match &rule.name {
        Some(name) => writeln!(out, "name = {}", quoted(name)),
        None => Ok(()),
    }
}

fn write_event(out: &mut String, rule: &EventRule) -> fmt::Result {
    writeln!(out, "\n[[event]]\npcr = {}\ntype = {}", rule.pcr, quoted(&rule.event_type.to_string()))?;
    match &rule.expectation {
        Expectation::OneOf { digests, optional, early } => {
            write_list(out, "digest", digests)?;
            if *optional {
                writeln!(out, "optional = true")?;
            }
            if *early {
                writeln!(out, "early = true")?;
            }
        }
        Expectation::Absent => writeln!(out, "absent = true")?,
    }
    let texts = [("name", &rule.name), ("variant", &rule.variant)];
    texts
        .into_iter()
        .filter_map(|(field, text)| Some((field, text.as_ref()?)))
        .try_for_each(|(field, text)| writeln!(out, "{field} = {}", quoted(text)))
}

/// One digest stays on the line of its key; several get a line each, so that a review shows which
/// one changed.
fn write_list<T: fmt::Display>(
    out: &mut String,
    key: &str,
    values: impl IntoIterator<Item = T, IntoIter: ExactSizeIterator>,
) -> fmt::Result {
    let mut values = values.into_iter();
    if values.len() == 1 {
        return values.try_for_each(|value| writeln!(out, "{key} = [\"{value}\"]"));
    }
    writeln!(out, "{key} = [")?;
    values.try_for_each(|value| writeln!(out, "  \"{value}\","))?;
    writeln!(out, "]")
}

/// A TOML basic string; the texts of a manifest have no control characters.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
