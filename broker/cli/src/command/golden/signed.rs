//! A signature goes into the envelope of its release.

use std::path::{Path, PathBuf};

use policy::cause::chain;
use policy::reference::dsse::{Envelope, EnvelopeError, Unsigned};
use policy::reference::keys::ReleaseKey;
use serde::Serialize;

use super::envelope::LocalRelease;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::file;
use crate::output::{Sentence, words};

/// A signature over the release in a file.
pub(super) struct Signing<'a> {
    /// The file that was signed, a manifest or an envelope.
    pub(super) file: &'a Path,
    /// What it holds.
    pub(super) release: &'a LocalRelease,
    /// Who signed.
    pub(super) key: &'a ReleaseKey,
    /// The signature; of a P-256 key in DER or as two numbers.
    pub(super) signature: &'a [u8],
}

/// What was written.
#[derive(Debug, Serialize)]
pub(super) struct Signed {
    file: String,
    release: String,
    digest: String,
    key_id: String,
    /// It had a signature of this key, which is left as it was.
    already: bool,
}

/// Writes the envelope with the signature, which is verified first, beside those that the release has.
pub(super) fn add(signing: &Signing<'_>, out: Option<PathBuf>) -> Result<Sentence<Signed>> {
    let Signing { file, release, key, .. } = signing;
    let fault = |why: String| Failure::unusable(format!("{}: {why}", file.display()));
    let unsigned = Unsigned::new(&release.manifest);
    let signature = unsigned.signed_by(key, signing.signature).map_err(|e| fault(chain(&e)))?;
    let ours = Envelope::new(&unsigned, &[signature]);
    let refused = |e: EnvelopeError| fault(chain(&e));
    let earlier = release.envelope.as_deref().map(Envelope::parse).transpose().map_err(refused)?;
    let already = earlier.as_ref().is_some_and(|earlier| earlier.is_signed_by(key));
    let out = out.map_or_else(|| default_out(file, earlier.is_some()), Ok)?;
    let envelope = match earlier {
        Some(earlier) if already => earlier,
        Some(earlier) => earlier.merge(&ours).map_err(refused)?,
        None => ours,
    };
    file::write(&out, format!("{}\n", envelope.to_json()).as_bytes())?;
    let fields = Signed {
        file: out.display().to_string(),
        release: release.manifest.id().to_string(),
        digest: release.manifest.digest().to_string(),
        key_id: key.id().to_string(),
        already,
    };
    let (short, was) = (words::short(&fields.key_id), if already { "was signed before" } else { "signed" });
    let text = format!(
        "{}: {} {was} by release key {short}; apply it with `touchstone golden apply {}`",
        fields.file, fields.release, fields.file
    );
    Ok(Sentence { text, fields })
}

fn default_out(path: &Path, is_envelope: bool) -> Result<PathBuf> {
    if path == Path::new("-") {
        let what = "standard input has no name, so the signed release has none either";
        return Err(Failure::new(Exit::Usage, what).next("say where to write it with --out FILE"));
    }
    if is_envelope {
        return Ok(path.to_owned());
    }
    let mut name = path.as_os_str().to_owned();
    name.push(".dsse.json");
    Ok(PathBuf::from(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_from_standard_input_is_written_where_it_is_said() {
        let failure = default_out(Path::new("-"), true).unwrap_err();
        assert_eq!(failure.exit(), Exit::Usage);
        assert!(failure.text().contains("--out FILE"), "{}", failure.text());
        assert_eq!(default_out(Path::new("a.toml"), false).unwrap(), Path::new("a.toml.dsse.json"));
        assert_eq!(default_out(Path::new("a.json"), true).unwrap(), Path::new("a.json"));
    }
}
