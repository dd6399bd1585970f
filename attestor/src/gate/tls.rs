//! TLS of a gate: version 1.3, its own certificate, and peers believed as the standing decides. No session is resumed: it
//! would not meet the decision again.
//!
//! rustls is used without buffers of its own, so that a session in which nothing moves has none.

use std::sync::{Arc, OnceLock};

use policy::access::Allowed;
use policy::id::PlantDomain;
use policy::time::UnixTime;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConnectionData, Resumption, UnbufferedClientConnection};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime as TlsTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ServerConnectionData, UnbufferedServerConnection};
use rustls::sign::SingleCertAndKey;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, CommonState, DigitallySignedStruct, DistinguishedName, Error, OtherError,
    PeerIncompatible, ServerConfig, SignatureScheme,
};

use super::scratch::Scratch;
use super::standing::Standing;
use crate::authorize::Told;
use crate::config::{GateConfig, Peer};

/// Asks the standing about the peer of one handshake, and keeps the answer.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) standing: Arc<Standing>,
    config: Arc<GateConfig>,
    plant: PlantDomain,
    now: UnixTime,
    /// Whether the broker is heard.
    heard: bool,
    provider: Arc<CryptoProvider>,
    answer: OnceLock<Result<Allowed, Vec<Told>>>,
}

/// A TLS connection of either side.
pub(super) trait Side: Send + 'static {
    /// Of rustls.
    type Data;

    /// Looks at records that came in.
    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;

    /// What both sides have.
    fn common(&self) -> &CommonState;
}

impl Side for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }

    fn common(&self) -> &CommonState {
        self
    }
}

impl Side for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }

    fn common(&self) -> &CommonState {
        self
    }
}

impl Question {
    pub(super) fn new(
        standing: Arc<Standing>,
        plant: PlantDomain,
        config: Arc<GateConfig>,
        now: UnixTime,
        heard: bool,
    ) -> Arc<Self> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        Arc::new(Self { standing, plant, config, now, heard, provider, answer: OnceLock::new() })
    }

    /// What the standing said, once the peer showed its certificate.
    pub(super) fn answer(&self) -> Result<Allowed, Vec<Told>> {
        self.answer.get().cloned().unwrap_or_else(|| Err(nothing_shown()))
    }

    /// Why the peer was refused, if that is what the handshake broke by.
    pub(super) fn refusal(&self, fault: &Error) -> Option<Vec<Told>> {
        match (self.answer.get(), fault) {
            (Some(Err(reasons)), _) => Some(reasons.clone()),
            (None, Error::NoCertificatesPresented) => Some(nothing_shown()),
            _ => None,
        }
    }

    /// Accepts a connection of a peer.
    pub(super) fn accept(self: &Arc<Self>) -> Result<UnbufferedServerConnection, Error> {
        let builder = ServerConfig::builder_with_provider(Arc::clone(&self.provider));
        let identity = Arc::new(SingleCertAndKey::from(Arc::clone(&self.standing.identity)));
        let mut config = builder
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(Arc::<Self>::clone(self))
            .with_cert_resolver(identity);
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        UnbufferedServerConnection::new(Arc::new(config))
    }

    /// Opens a connection to `peer`.
    pub(super) fn open(self: &Arc<Self>, peer: &Peer) -> Result<UnbufferedClientConnection, Error> {
        let name = self.plant.trust_domain(&peer.zone).device(&peer.device).dns_name();
        let name = ServerName::try_from(name).map_err(|error| Error::Other(OtherError(Arc::new(error))))?;
        let builder = ClientConfig::builder_with_provider(Arc::clone(&self.provider));
        let identity = Arc::new(SingleCertAndKey::from(Arc::clone(&self.standing.identity)));
        let mut config = builder
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::<Self>::clone(self))
            .with_client_cert_resolver(identity);
        config.resumption = Resumption::disabled();
        UnbufferedClientConnection::new(Arc::new(config), name)
    }

    fn ask(&self, certificate: &CertificateDer<'_>) -> Result<(), Error> {
        let decided = self.standing.decide(&self.plant, &self.config, certificate, self.now, self.heard);
        match self.answer.get_or_init(|| decided) {
            Ok(_) => Ok(()),
            Err(_) => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    fn signed(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn nothing_shown() -> Vec<Told> {
    let remedy = "let the peer show the certificate of its device, caller.pem";
    Told::new("no-certificate-shown", "the peer showed no certificate", remedy)
}

const fn no_tls12<T>() -> Result<T, Error> {
    Err(Error::PeerIncompatible(PeerIncompatible::Tls12NotOffered))
}

impl ClientCertVerifier for Question {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: TlsTime,
    ) -> Result<ClientCertVerified, Error> {
        self.ask(leaf).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signed(message, leaf, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}

impl ServerCertVerifier for Question {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: TlsTime,
    ) -> Result<ServerCertVerified, Error> {
        self.ask(leaf).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signed(message, leaf, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}

/// What records came to.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// Bytes of whole records, which are done with.
    pub(super) used: usize,
    /// Bytes for local software.
    pub(super) plain: usize,
    /// Both sides have proved who they are.
    pub(super) open: bool,
    /// The peer sends no more (close_notify).
    pub(super) ended: bool,
    /// The connection cannot go on.
    pub(super) fault: Option<Error>,
}

/// Takes whole records from `incoming`: what they hold goes to `plain`, which has as much room, what TLS itself has to
/// say to `reply`.
pub(super) fn take<S: Side>(
    tls: &mut S,
    incoming: &mut [u8],
    plain: &mut [u8],
    reply: &mut Vec<u8>,
) -> Taken {
    let mut taken = Taken::default();
    loop {
        let rest = incoming.get_mut(taken.used..).unwrap_or_default();
        let UnbufferedStatus { discard, state } = tls.process(rest);
        // After a fault rustls is asked for its alert, and never again: it would look at the same records anew.
        let mut more = taken.fault.is_none();
        match state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while let Some(Ok(record)) = traffic.next_record() {
                    let end = taken.plain.saturating_add(record.payload.len());
                    // Never more than came in.
                    if let Some(room) = plain.get_mut(taken.plain..end) {
                        room.copy_from_slice(record.payload);
                        taken.plain = end;
                    }
                }
            }
            Ok(ConnectionState::EncodeTlsData(mut data)) => encode(&mut data, reply),
            Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
            Ok(ConnectionState::PeerClosed) => taken.ended = true,
            Ok(ConnectionState::WriteTraffic(_)) => (taken.open, more) = (true, false),
            Ok(_) => more = false,
            Err(fault) => taken.fault = taken.fault.or(Some(fault)),
        }
        taken.used = taken.used.saturating_add(discard);
        if !more {
            taken.open &= !tls.common().is_handshaking();
            return taken;
        }
    }
}

fn encode<D>(data: &mut rustls::unbuffered::EncodeTlsData<'_, D>, reply: &mut Vec<u8>) {
    let at = reply.len();
    if let Err(EncodeError::InsufficientSize(needed)) = data.encode(&mut []) {
        reply.resize(at.saturating_add(needed.required_size), 0);
        // It has the size that was asked for.
        drop(data.encode(reply.get_mut(at..).unwrap_or_default()));
    }
}

/// What is sent.
#[derive(Debug, Clone, Copy)]
pub(super) enum Sent {
    /// As many bytes of local software.
    Bytes(usize),
    /// It sends no more.
    End,
}

/// Seals what is in `scratch.plain`, with whatever TLS itself has to say before it. `partial` is the begin of a record
/// that came in. Gives the number of bytes in `scratch.sealed`.
pub(super) fn seal<S: Side>(
    tls: &mut S,
    partial: &mut [u8],
    sent: Sent,
    scratch: &mut Scratch,
) -> Result<usize, Error> {
    let mut at = 0_usize;
    let full = |error: EncryptError| Error::General(error.to_string());
    loop {
        let room = scratch.sealed.get_mut(at..).unwrap_or_default();
        match tls.process(partial).state? {
            ConnectionState::EncodeTlsData(mut data) => {
                let wrote = data.encode(room).map_err(|error| Error::General(error.to_string()))?;
                at = at.saturating_add(wrote);
            }
            ConnectionState::TransmitTlsData(data) => data.done(),
            ConnectionState::WriteTraffic(mut traffic) => {
                let wrote = match sent {
                    Sent::Bytes(count) => {
                        traffic.encrypt(scratch.plain.get(..count).unwrap_or_default(), room).map_err(full)?
                    }
                    Sent::End => traffic.queue_close_notify(room).map_err(full)?,
                };
                return Ok(at.saturating_add(wrote));
            }
            other => return Err(Error::General(format!("nothing can be sent in the state {other:?}"))),
        }
    }
}
