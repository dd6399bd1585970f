//! A client with its device's key: an honest one, which believes what its device was delivered, and a thief, which
//! speaks with anybody.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use attestor::tpm::{EsapiTpm, TpmHandle, TpmIdentityKey};
use attestor::tss2_key;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature};
use rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime,
};
use rustls::sign::{CertifiedKey, SigningKey, SingleCertAndKey};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, RootCertStore, SignatureScheme, StreamOwned,
};

use super::Server;
use crate::device::Device;

/// Time that a server has to say something.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a client shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// The device's certificate for clients.
    Caller,
    /// Its certificate for servers, which no client should have.
    Listener,
}

/// Everything that a server said.
pub struct Heard {
    /// To the application.
    pub bytes: Vec<u8>,
    /// How the connection ended; empty: in order, or with what was awaited.
    pub ended: String,
}

impl std::fmt::Debug for Heard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}, ended {:?}", String::from_utf8_lossy(&self.bytes), self.ended)
    }
}

/// A client on a device.
#[derive(Debug, Clone)]
pub struct Client {
    tpm: TpmHandle,
    files: PathBuf,
    honest: bool,
}

impl Client {
    /// An honest client on `device`, a member of `zone`.
    pub fn on(device: &Device, zone: &str) -> Self {
        let tpm = TpmHandle::start(EsapiTpm::new(device.tpm())).expect("a thread for the TPM");
        Self { tpm, files: device.delivered(zone, ""), honest: true }
    }

    /// The same client, believing anybody.
    #[must_use]
    pub fn thief(&self) -> Self {
        Self { honest: false, ..self.clone() }
    }

    /// Asks `server` and returns what it says.
    pub fn ask(&self, server: &Server, shown: Shown) -> Heard {
        let mut bytes = Vec::new();
        let ended = self.talk(server, shown, &mut bytes).err().unwrap_or_default();
        Heard { bytes, ended }
    }

    fn talk(&self, server: &Server, shown: Shown, heard: &mut Vec<u8>) -> Result<(), String> {
        let said = |error: std::io::Error| error.to_string();
        let mut config = self.config(server.software.service(), shown)?;
        config.alpn_protocols = server.software.alpn();
        let tcp = TcpStream::connect(("127.0.0.1", server.port())).map_err(said)?;
        tcp.set_read_timeout(Some(PATIENCE)).map_err(said)?;
        let name = ServerName::try_from(server.host.clone()).expect("a name");
        let connection = ClientConnection::new(Arc::new(config), name).map_err(|error| error.to_string())?;
        let mut tls = StreamOwned::new(connection, tcp);
        tls.write_all(&server.software.request()).map_err(said)?;
        let mut buffer = [0; 4096];
        while !server.software.serves(heard) {
            match tls.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => heard.extend(buffer.iter().take(count)),
                // A server that closes without close_notify has said all the same.
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(())
    }

    /// What it opens connections to `service` with.
    pub fn config(&self, service: &str, shown: Shown) -> Result<ClientConfig, String> {
        // One delivery as a whole, while the next one may come.
        let files = fs::canonicalize(&self.files).map_err(|error| error.to_string())?;
        let name = match shown {
            Shown::Caller => "caller",
            Shown::Listener => "listener",
        };
        let key =
            fs::read_to_string(files.join(name).with_extension("key")).map_err(|error| error.to_string())?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let key: Arc<dyn SigningKey> = match tss2_key::parse(&key) {
            Ok(key) => Arc::new(TpmIdentityKey::new(self.tpm.clone(), key)),
            // The device has no TPM.
            Err(_) => {
                let key = pem::parse(key).expect("a key").into_contents();
                let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key));
                provider.key_provider.load_private_key(key).expect("a key in software")
            }
        };
        let chain = blocks(&files.join(name).with_extension("pem"))?.into_iter().map(CertificateDer::from);
        let certified = CertifiedKey::new(chain.collect(), key);
        let verifier = match self.honest {
            true => believing(&files.join("services").join(service), &provider)?,
            false => Arc::new(Anybody(Arc::clone(&provider))),
        };
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        config.resumption = Resumption::disabled();
        Ok(config)
    }
}

fn blocks(file: &Path) -> Result<Vec<Vec<u8>>, String> {
    let text = fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(pem::parse_many(text).expect("PEM").into_iter().map(|block| block.contents().to_vec()).collect())
}

/// As strict as the delivered files make it.
fn believing(folder: &Path, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, String> {
    let mut roots = RootCertStore::empty();
    for authority in blocks(&folder.join("outbound.pem"))? {
        roots.add(CertificateDer::from(authority)).expect("an authority");
    }
    let crls = blocks(&folder.join("outbound.crl"))?.into_iter().map(CertificateRevocationListDer::from);
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    Ok(verifier.with_crls(crls).build().expect("a verifier"))
}

/// Believes every server.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.3 only".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
