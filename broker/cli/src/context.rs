//! The context folder: which plant, where its broker is, and who the administrator is.
//!
//! `touchstone-broker init` makes it. Keys in it must be readable by their owner only.

use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use policy::id::PlantDomain;
use policy::time::{UnixTime, Validity};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::Deserialize;
use x509_cert::Certificate;
use x509_cert::der::{Decode, Encode};
use x509_cert::time::Time;

use crate::args::Global;
use crate::contexts;
use crate::failure::{Failure, Result};
use crate::file;

/// The bits of "group and others may do something with this file".
const OTHERS: u32 = 0o077;

/// An opened context folder.
pub(crate) struct Context {
    /// Name of the plant; the broker's certificate is for a name below it.
    pub(crate) plant: PlantDomain,
    /// `host:port` that is dialled.
    pub(crate) address: String,
    /// The only trust anchors: the plant root.
    pub(crate) plant_root: Vec<CertificateDer<'static>>,
    /// Who asks; nobody, for whoever accepts an invitation.
    pub(crate) identity: Option<Identity>,
    /// The folder.
    pub(crate) folder: PathBuf,
}

/// An administrator's certificate and key.
pub(crate) struct Identity {
    /// The certificate, leaf first.
    pub(crate) chain: Vec<CertificateDer<'static>>,
    /// The key.
    pub(crate) key: PrivateKeyDer<'static>,
}

impl Identity {
    /// From when to when the certificate holds; none if it cannot be read.
    pub(crate) fn validity(&self) -> Option<Validity> {
        let certificate = Certificate::from_der(self.chain.first()?).ok()?;
        let validity = certificate.tbs_certificate().validity();
        let instant = |time: Time| UnixTime(time.to_unix_duration().as_secs());
        Some(Validity { not_before: instant(validity.not_before), not_after: instant(validity.not_after) })
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("plant", &self.plant).field("address", &self.address).finish()
    }
}

/// What `context.toml` says.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ContextFile {
    pub(crate) plant: PlantDomain,
    pub(crate) address: String,
}

impl ContextFile {
    /// Reads that of `folder`.
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("context.toml");
        let text = fs::read_to_string(&path).map_err(|e| {
            Failure::unusable(format!("{}: {e}", path.display())).next(
                "name a context with --context or TOUCHSTONE_CONTEXT (`touchstone context list` shows yours); `touchstone-broker init` makes one, and `touchstone admin accept`",
            )
        })?;
        toml::from_str(&text).map_err(|e| Failure::unusable(file::toml_fault(&path, &text, &e)))
    }
}

impl Context {
    /// Opens the folder that the command line, the environment or the default names.
    pub(crate) fn open(global: &Global) -> Result<Self> {
        let folder = contexts::folder(global)?;
        let written = ContextFile::read(&folder)?;
        let plant_root = read_certificates(&folder.join("plant-root.pem")).map_err(incomplete)?;
        let identity = Identity {
            chain: read_certificates(&folder.join("admin.pem")).map_err(incomplete)?,
            key: read_tls_key(&folder.join("admin.key")).map_err(incomplete)?,
        };
        let address = global.address.clone().unwrap_or(written.address);
        Ok(Self { plant: written.plant, address, plant_root, identity: Some(identity), folder })
    }

    /// The file in the context folder with the key that signs golden releases.
    pub(crate) fn release_key(global: &Global) -> Result<PathBuf> {
        Ok(contexts::folder(global)?.join("release.key"))
    }
}

/// The SubjectPublicKeyInfo of a certificate; none if it cannot be read.
pub(crate) fn spki(certificate: &[u8]) -> Option<Vec<u8>> {
    Certificate::from_der(certificate).ok()?.tbs_certificate().subject_public_key_info().to_der().ok()
}

/// Says what to do about a context folder in which something is missing or broken.
fn incomplete(failure: Failure) -> Failure {
    failure.hint("a context folder is whole or of no use: copy it again from where it was made (`touchstone context add NAME DIR`), or name another with --context".to_owned())
}

/// PEM of one object.
pub(crate) fn pem(tag: &str, der: &[u8]) -> String {
    pem::encode(&pem::Pem::new(tag, der))
}

/// PEM of a certificate chain, leaf first.
pub(crate) fn pem_chain(chain: &[Vec<u8>]) -> String {
    chain.iter().map(|certificate| pem("CERTIFICATE", certificate)).collect()
}

/// The certificates of a PEM file.
pub(crate) fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let bytes = file::read(path)?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&bytes)
        .collect::<std::result::Result<_, _>>()
        .map_err(|e| Failure::unusable(format!("{}: not a certificate in PEM: {e}", path.display())))?;
    if certificates.is_empty() {
        return Err(Failure::unusable(format!("{}: holds no certificate", path.display()))
            .next("copy it again from the folder that `touchstone-broker init` made"));
    }
    Ok(certificates)
}

fn read_tls_key(path: &Path) -> Result<PrivateKeyDer<'static>> {
    Ok(PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(read_key(path)?)))
}

/// The DER of a PKCS#8 private key in PEM that only its owner may read.
pub(crate) fn read_key(path: &Path) -> Result<Vec<u8>> {
    let metadata = fs::metadata(path).map_err(|e| Failure::unusable(format!("{}: {e}", path.display())))?;
    if metadata.permissions().mode() & OTHERS != 0 {
        return Err(Failure::unusable(format!("{}: this private key is readable by others", path.display()))
            .next(format!("chmod 600 {}", path.display())));
    }
    let key = PrivatePkcs8KeyDer::from_pem_slice(&file::read(path)?).map_err(|e| {
        Failure::unusable(format!("{}: not a PKCS#8 private key in PEM: {e}", path.display()))
    })?;
    Ok(key.secret_pkcs8_der().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;

    #[test]
    fn a_key_that_others_may_read_is_refused_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.key");
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let failure = read_key(&path).unwrap_err();
        assert_eq!(failure.exit(), Exit::UnusableInput);
        assert!(failure.text().contains("readable by others\nchmod 600 /"), "{}", failure.text());
    }

    #[test]
    fn a_context_file_with_a_fault_names_file_line_and_field() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("context.toml"), "plant = \"plant.example\"\nadress = \"x:1\"\n")
            .unwrap();
        let global = Global { context: Some(folder.path().to_owned()), ..Global::default() };
        let text = Context::open(&global).unwrap_err().text();
        assert!(
            text.contains("context.toml") && text.contains("line 2") && text.contains("adress"),
            "{text}"
        );
    }
}
