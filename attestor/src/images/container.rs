//! The digest of a container image, as a file states it: an OCI image layout's `index.json` (OCI Image Format
//! Specification 1.1, image layout), or text that is a digest or ends in `@` and one.
//!
//! It is believed as far as whoever writes that file is: to have the layers hashed, name the layout in `folders`.

use std::io::{self, Read};
use std::path::Path;

use policy::digest::Digest;
use serde::Deserialize;

use super::hash::Content;
use super::open::{self, Place};

/// Longest such file in bytes: an index has some hundred bytes for each image.
const MAX_FILE: u64 = 256 * 1024;
/// What names an image in an index.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Descriptor {
    digest: String,
    size: u64,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
}

/// The digest that `file` states for the image `name`.
pub(super) fn stated(file: &Path, name: &str) -> io::Result<Content> {
    let place = Place::of_file(file).ok_or(io::ErrorKind::InvalidFilename)?;
    let (file, _) = open::file(&place)?;
    let mut text = String::new();
    file.take(MAX_FILE).read_to_string(&mut text)?;
    parse(&text, name).ok_or_else(|| {
        io::Error::other(format!(
            "it states no digest of `{name}`: write sha256:<64 hex digits>, or name an OCI layout's index.json with one \
             image, or with one of that name"
        ))
    })
}

fn parse(text: &str, name: &str) -> Option<Content> {
    let text = text.trim();
    if !text.starts_with('{') {
        let digest = text.rsplit_once('@').map_or(text, |(_, digest)| digest);
        return digest.starts_with("sha256:").then(|| digest.parse().ok())?.map(of_text);
    }
    let index: Index = serde_json::from_str(text).ok()?;
    let named = |descriptor: &&Descriptor| descriptor.annotations.get(REF_NAME).is_some_and(|of| of == name);
    let found = match index.manifests.as_slice() {
        [one] => one,
        several => several.iter().find(named)?,
    };
    Some(Content { digest: found.digest.parse().ok()?, size: found.size })
}

fn of_text(digest: Digest) -> Content {
    Content { digest, size: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(byte: &str) -> String {
        format!("sha256:{}", byte.repeat(32))
    }

    #[test]
    fn a_digest_is_read_from_text_or_an_index() {
        let digest = |text: &str| parse(text, "historian").map(|content| content.digest.to_string());
        assert_eq!(digest(&format!("{}\n", hex("ab"))), Some(hex("ab")));
        assert_eq!(digest(&format!("registry.example/historian:7@{}", hex("ab"))), Some(hex("ab")));
        let one = |byte: &str, name: &str| {
            let annotations = format!("{{\"{REF_NAME}\":\"{name}\"}}");
            format!("{{\"digest\":\"{}\",\"size\":7,\"annotations\":{annotations}}}", hex(byte))
        };
        let index = |of: &[String]| format!("{{\"schemaVersion\":2,\"manifests\":[{}]}}", of.join(","));
        assert_eq!(digest(&index(&[one("ab", "other")])), Some(hex("ab")));
        assert_eq!(digest(&index(&[one("ab", "other"), one("cd", "historian")])), Some(hex("cd")));
        assert_eq!(
            digest(&index(&[one("ab", "a"), one("cd", "b")])),
            None,
            "which of them it is, nobody says"
        );
        for wrong in ["", "sha256:ab", "sha512:ab", &"ab".repeat(32), "{", "{\"manifests\":[]}", "x@"] {
            assert_eq!(digest(wrong), None, "{wrong}");
        }
    }
}
