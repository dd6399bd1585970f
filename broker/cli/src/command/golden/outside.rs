//! `touchstone golden payload` and `attach`: signatures that are made where the key is. Asks no broker.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::Args;
use policy::cause::chain;
use policy::reference::dsse::Unsigned;
use policy::reference::keys::{PublicKey, ReleaseKey};
use serde::Serialize;

use super::envelope::LocalRelease;
use super::signed::{Signing, add};
use crate::failure::{Failure, Result};
use crate::file;
use crate::output::{Report, Sentence, Session};

/// Which release.
#[derive(Debug, Args)]
#[command(after_help = "\
For a release key that is kept elsewhere: on a card, in an HSM, on a machine without a network. What is written is the
pre-authentication encoding of DSSE over the canonical manifest. Sign these very bytes, then attach the signature.
  touchstone golden payload edge.toml --out edge.payload
  openssl dgst -sha256 -sign release.key -out edge.sig edge.payload                    a P-256 key
  openssl pkeyutl -sign -rawin -inkey release.key -in edge.payload -out edge.sig       an Ed25519 key
  touchstone golden attach edge.toml --signature edge.sig --public release.pub")]
pub(crate) struct PayloadArgs {
    /// Reviewed manifest, or a signed release
    file: PathBuf,
    /// File to write [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Whose signature over what.
#[derive(Debug, Args)]
#[command(after_help = "\
The signature is verified, then added to those that the release has. That of a P-256 key is DER or 64 bytes.
  touchstone golden attach edge.toml --signature edge.sig --public release.pub
  touchstone golden attach edge.toml.dsse.json --signature second.sig --public second.pub")]
pub(crate) struct AttachArgs {
    /// Reviewed manifest, or a signed release
    file: PathBuf,
    /// Signature over what `golden payload` wrote
    #[arg(long, value_name = "FILE")]
    signature: PathBuf,
    /// Public key of whoever signed, PEM
    #[arg(long, value_name = "FILE")]
    public: PathBuf,
    /// File to write [default: FILE.dsse.json, or FILE if it is one]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Payload {
    file: String,
    release: String,
    digest: String,
    bytes: usize,
}

/// Writes what is to be signed.
pub(super) fn payload(args: PayloadArgs, session: &Session) -> Result<Report> {
    let release = LocalRelease::read(&args.file)?;
    let bytes = Unsigned::new(&release.manifest).to_be_signed();
    let Some(out) = args.out else {
        // A manifest is text, and so is what precedes it.
        return Ok(Report::raw(String::from_utf8_lossy(&bytes).into_owned()));
    };
    file::write(&out, &bytes)?;
    let fields = Payload {
        file: out.display().to_string(),
        release: release.manifest.id().to_string(),
        digest: release.manifest.digest().to_string(),
        bytes: bytes.len(),
    };
    let text = format!(
        "{}: sign these {} bytes to release {}, then `touchstone golden attach {} --signature SIG --public KEY`",
        fields.file,
        fields.bytes,
        fields.release,
        args.file.display()
    );
    session.report(&Sentence { text, fields })
}

/// Puts a signature into the envelope.
pub(super) fn attach(args: AttachArgs, session: &Session) -> Result<Report> {
    let release = LocalRelease::read(&args.file)?;
    let (_, key) = public_key(&args.public)?;
    let key = ReleaseKey::new(key, BTreeSet::from([release.manifest.product().clone()]))
        .map_err(|e| Failure::unusable(chain(&e)))?;
    let signature = file::read(&args.signature)?;
    let signing = Signing { file: &args.file, release: &release, key: &key, signature: &signature };
    session.report(&add(&signing, args.out)?)
}

/// The public key in a PEM file, with its text. A private key goes no further than here.
pub(super) fn public_key(path: &Path) -> Result<(String, PublicKey)> {
    let text = file::read_text(path)?;
    let key = PublicKey::from_pem(&text);
    let key = key.map_err(|e| Failure::unusable(format!("{}: {}", path.display(), chain(&e))))?;
    Ok((text, key))
}
