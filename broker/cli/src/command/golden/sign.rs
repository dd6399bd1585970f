//! `touchstone golden sign`: a release key's signature over a reviewed manifest. Asks no broker.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use clap::Args;
use policy::cause::chain;
use policy::id::ProductName;
use policy::reference::dsse::Unsigned;
use policy::reference::keys::ReleaseKey;

use super::envelope::LocalRelease;
use super::signed::{Signing, add};
use crate::context;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::output::{Report, Session};

/// What to sign, with which key.
#[derive(Debug, Args)]
#[command(after_help = "\
FILE may be a signed release, too: the signature is added to those that it has.
The manifest is written in canonical form before it is signed; comments are not part of it.
A key that must not come to this machine signs what `touchstone golden payload` writes.
  touchstone golden sign edge.toml
  touchstone golden sign edge.toml.dsse.json --key second.key")]
pub(crate) struct SignArgs {
    /// Reviewed manifest
    file: PathBuf,
    /// Release key, P-256 or Ed25519 in PKCS#8 PEM [default: release.key of the context]
    #[arg(long, value_name = "KEYFILE")]
    key: Option<PathBuf>,
    /// File to write [default: FILE.dsse.json]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Signs and writes the envelope.
pub(super) fn run(args: SignArgs, session: &Session) -> Result<Report> {
    let release = LocalRelease::read(&args.file)?;
    let path = match args.key {
        Some(key) => key,
        None => session.release_key()?,
    };
    let key = PrivateKey::read(&path)?;
    let public = key.public(release.manifest.product(), &path)?;
    let signature = key.sign(&Unsigned::new(&release.manifest).to_be_signed())?;
    let signing = Signing { file: &args.file, release: &release, key: &public, signature: &signature };
    session.report(&add(&signing, args.out)?)
}

/// A private release key.
enum PrivateKey {
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl PrivateKey {
    fn read(path: &Path) -> Result<Self> {
        let pkcs8 = context::read_key(path)?;
        if let Ok(pair) = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &pkcs8) {
            return Ok(Self::P256(pair));
        }
        // OpenSSL leaves the public half out (RFC 8410, section 7); it is made from the private one.
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&pkcs8);
        pair.map(Self::Ed25519).map_err(|_| unusable(path))
    }

    /// Its public half, for releases of `product`.
    fn public(&self, product: &ProductName, path: &Path) -> Result<ReleaseKey> {
        let spki: std::result::Result<PublicKeyX509Der<'_>, _> = match self {
            Self::P256(pair) => pair.public_key().as_der(),
            Self::Ed25519(pair) => pair.public_key().as_der(),
        };
        let spki = spki.map_err(|_| unusable(path))?;
        ReleaseKey::from_spki(spki.as_ref(), BTreeSet::from([product.clone()]))
            .map_err(|e| Failure::unusable(format!("{}: {}", path.display(), chain(&e))))
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>> {
        match self {
            Self::P256(pair) => {
                let failed = |_| Failure::new(Exit::Internal, "the release key could not sign");
                let signature = pair.sign(&SystemRandom::new(), message).map_err(failed)?;
                Ok(signature.as_ref().to_vec())
            }
            Self::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
        }
    }
}

fn unusable(path: &Path) -> Failure {
    Failure::unusable(format!("{}: no P-256 or Ed25519 private key", path.display())).next(
        "make one with: openssl genpkey -algorithm ED25519, or -algorithm EC -pkeyopt ec_paramgen_curve:P-256",
    )
}
