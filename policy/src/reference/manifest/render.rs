//! The canonical text of a manifest, written by hand so that no library's taste can change what was
//! signed.

use std::fmt::{self, Write};

use super::image::ImageRule;
use super::{EventRule, Expectation, Manifest, SCHEMA};

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
    manifest.images.iter().try_for_each(|rule| write_image(out, rule))
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
        Expectation::OneOf { digests, optional } => {
            write_list(out, "digest", digests)?;
            if *optional {
                writeln!(out, "optional = true")?;
            }
        }
        Expectation::Absent => writeln!(out, "absent = true")?,
    }
    match &rule.name {
        Some(name) => writeln!(out, "name = {}", quoted(name)),
        None => Ok(()),
    }
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
