//! `touchstone golden sign`: a release key's signature over a reviewed manifest. Asks no broker.

use std::path::{Path, PathBuf};

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use clap::Args;
use policy::cause::chain;
use policy::digest::Digest;
use policy::reference::dsse::{Envelope, Unsigned};
use serde::Serialize;

use super::envelope::LocalRelease;
use crate::context;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::file;
use crate::output::{Report, Sentence, Session, words};

/// What to sign, with which key.
#[derive(Debug, Args)]
#[command(after_help = "\
FILE may be a signed release, too: the signature is added to those that it has.
The manifest is written in canonical form before it is signed; comments are not part of it.")]
pub(crate) struct SignArgs {
    /// Reviewed manifest
    file: PathBuf,
    /// Release key, P-256 in PKCS#8 PEM [default: release.key of the context]
    #[arg(long, value_name = "KEYFILE")]
    key: Option<PathBuf>,
    /// File to write [default: FILE.dsse.json]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Serialize)]
struct Signed {
    file: String,
    release: String,
    digest: String,
    key_id: String,
}

/// Signs and writes the envelope.
pub(super) fn run(args: SignArgs, session: &Session) -> Result<Report> {
    let release = LocalRelease::read(&args.file)?;
    let key = ReleaseKey::read(&match args.key {
        Some(key) => key,
        None => session.release_key()?,
    })?;
    let unsigned = Unsigned::new(&release.manifest);
    let signature = key.sign(&unsigned.to_be_signed())?;
    let mut envelope = Envelope::new(&unsigned, &[(key.id, signature)]);
    if let Some(earlier) = &release.envelope {
        envelope = merged(&args.file, earlier, &envelope)?;
    }
    let out = args.out.unwrap_or_else(|| default_out(&args.file, release.envelope.is_some()));
    file::write(&out, format!("{}\n", envelope.to_json()).as_bytes())?;
    let fields = Signed {
        file: out.display().to_string(),
        release: release.manifest.id().to_string(),
        digest: release.manifest.digest().to_string(),
        key_id: key.id.to_string(),
    };
    let short = words::short(&fields.key_id);
    let text = format!(
        "{}: {} signed by release key {short}; apply it with `touchstone golden apply {}`",
        fields.file, fields.release, fields.file
    );
    session.report(&Sentence { text, fields })
}

fn merged(path: &Path, earlier: &[u8], ours: &Envelope) -> Result<Envelope> {
    let fault = |why: String| Failure::unusable(format!("{}: {why}", path.display()));
    let earlier = Envelope::parse(earlier).map_err(|e| fault(chain(&e)))?;
    earlier.merge(ours).ok_or_else(|| {
        fault(
            "its manifest is not in canonical form, so a second signature would be over another text"
                .to_owned(),
        )
        .next("sign the manifest itself again with every key")
    })
}

fn default_out(path: &Path, is_envelope: bool) -> PathBuf {
    if is_envelope {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(".dsse.json");
    PathBuf::from(name)
}

/// A private release key with its id: the SHA-256 of its public key's SubjectPublicKeyInfo.
struct ReleaseKey {
    pair: EcdsaKeyPair,
    id: Digest,
}

impl ReleaseKey {
    fn read(path: &Path) -> Result<Self> {
        let pkcs8 = context::read_key(path)?;
        let fault = || {
            Failure::unusable(format!("{}: no P-256 private key", path.display()))
                .next("make one with: openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256")
        };
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &pkcs8).map_err(|_| fault())?;
        let spki: PublicKeyX509Der<'_> = pair.public_key().as_der().map_err(|_| fault())?;
        let id = Digest::of(spki.as_ref());
        Ok(Self { pair, id })
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>> {
        let signature = self.pair.sign(&SystemRandom::new(), message);
        let failed = |_| Failure::new(Exit::Internal, "the release key could not sign");
        signature.map(|signature| signature.as_ref().to_vec()).map_err(failed)
    }
}
