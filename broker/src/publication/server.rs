//! TLS of what is published: the operator's certificate, or the one that the broker's own port shows.
//!
//! TLS 1.2 too, for whoever asks: the standard of SPIFFE federation wants Mozilla's "intermediate" of the profile `https_web`
//! (SPIFFE_Federation.md, 5.2.1). All suites that rustls has are ephemeral (ECDHE) with an AEAD, so there is no weaker one to leave out.

use std::future::pending;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::future::Either;
use policy::time::UnixTime;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;

use crate::config::ServerFiles;
use crate::plant::Plant;
use crate::tls::Tls;

/// How often the operator's files are read again: what renews them leaves days for it.
const READ_EVERY: Duration = Duration::from_secs(3600);
/// Most bytes of one of the files.
const MAX_FILE: u64 = 256 << 10;

/// The operator's certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ServerFilesError {
    /// A file cannot be read.
    #[error("publish: {file} cannot be read ({why}); correct broker.toml, or who may read the file")]
    File {
        /// The file.
        file: PathBuf,
        /// Why.
        why: String,
    },
    /// Certificate and key are no pair.
    #[error("publish: {certificate} and {key} are no certificate with its key: {why}")]
    Pair {
        /// The certificate.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
        /// Why.
        why: String,
    },
    /// rustls refused the configuration.
    #[error("publish: TLS cannot be configured: {0}")]
    Rustls(#[from] rustls::Error),
}

/// The configuration of the port, and what keeps its certificate fresh.
pub(super) fn config(
    files: Option<&ServerFiles>,
    own: Arc<Tls>,
    plant: &Arc<Plant>,
) -> Result<(Arc<ServerConfig>, impl Future<Output = ()> + use<>), ServerFilesError> {
    let (shown, reading) = match files {
        None => (Shown::Own(own), Either::Left(pending())),
        Some(files) => {
            let first = read(files)?;
            note_end(plant, &first);
            let shown = Arc::new(ArcSwap::from_pointee(first));
            let reading = read_again(files.clone(), Arc::clone(&shown), Arc::clone(plant));
            (Shown::Files(shown), Either::Right(reading))
        }
    };
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(shown));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok((Arc::new(config), reading))
}

/// Keeps the end of what is shown for the calendar and the metrics.
fn note_end(plant: &Plant, shown: &CertifiedKey) {
    let leaf = shown.cert.first().and_then(|leaf| Certificate::from_der(leaf).ok());
    if let Some(leaf) = leaf {
        let end = leaf.tbs_certificate().validity().not_after.to_unix_duration().as_secs();
        plant.metrics.publishes_until(UnixTime(end));
    }
}

async fn read_again(files: ServerFiles, shown: Arc<ArcSwap<CertifiedKey>>, plant: Arc<Plant>) {
    loop {
        tokio::time::sleep(READ_EVERY).await;
        match read(&files) {
            Ok(fresh) => {
                note_end(&plant, &fresh);
                shown.store(Arc::new(fresh));
            }
            Err(error) => tracing::error!(%error, "the former certificate is shown on"),
        }
    }
}

fn read(files: &ServerFiles) -> Result<CertifiedKey, ServerFilesError> {
    let (certificates, keys) = (blocks(&files.certificate)?, blocks(&files.key)?);
    let pair = |why: String| ServerFilesError::Pair {
        certificate: files.certificate.clone(),
        key: files.key.clone(),
        why,
    };
    let chain: Vec<CertificateDer<'static>> = certificates
        .into_iter()
        .filter(|block| block.tag() == "CERTIFICATE")
        .map(|block| CertificateDer::from(block.into_contents()))
        .collect();
    let key = keys.into_iter().find(|block| block.tag().ends_with("PRIVATE KEY"));
    let key = key.ok_or_else(|| pair("there is no private key".to_owned()))?;
    let key = PrivateKeyDer::try_from(key.into_contents()).map_err(|why| pair(why.to_owned()))?;
    let certified = CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider());
    certified.map_err(|error| pair(error.to_string()))
}

fn blocks(file: &Path) -> Result<Vec<pem::Pem>, ServerFilesError> {
    let fail = |why: String| ServerFilesError::File { file: file.to_owned(), why };
    let length = std::fs::metadata(file).map_err(|error| fail(error.to_string()))?.len();
    if length > MAX_FILE {
        return Err(fail(format!("it has {length} bytes, at most {MAX_FILE}")));
    }
    let text = std::fs::read(file).map_err(|error| fail(error.to_string()))?;
    pem::parse_many(text).map_err(|error| fail(error.to_string()))
}

/// Whose certificate is shown.
#[derive(Debug)]
enum Shown {
    Own(Arc<Tls>),
    Files(Arc<ArcSwap<CertifiedKey>>),
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(match self {
            Self::Own(tls) => tls.server(),
            Self::Files(shown) => shown.load_full(),
        })
    }
}
