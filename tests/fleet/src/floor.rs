//! The floor of a re-attestation: a server that does nothing but what nobody can leave out, in a process of its own.
//!
//! It speaks the same TLS as the broker and takes and gives messages of the same size; of each it computes the bare
//! cryptography and hashes, and it commits one write of a record's size, together with those of others at that moment. It
//! looks at nothing, decides nothing and remembers nothing else.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use attestor::client::Connection;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, UnparsedPublicKey,
};
use broker::config::Backend;
use broker::grpc::connection;
use broker::plant::Plant;
use broker::server;
use broker::store::Txn;
use broker::tls::Tls;
use policy::eventlog::tcg::EventLog;
use prost::Message as _;
use proto::v1;
use proto::v1::attestation_server::{Attestation, AttestationServer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tonic::{Request, Response, Status, Streaming};

use crate::device::{Device, Kind};
use crate::plant;
use crate::server::Server;

/// Bytes that a re-attestation writes: the records of a device and an entry of the audit.
const RECORD: usize = 2_500;
/// Bytes of a certificate without its signature.
const UNSIGNED: usize = 450;
/// Records that are written again and again.
const RECORDS: u64 = 1_000;
/// Bytes of a P-256 signature as it is verified, and of x, y and their lengths.
const COORDINATE: usize = 32;
const BEGIN: &str = "begin.response";
const COMPLETE: &str = "complete.response";
const REQUEST: &str = "complete.request";
const LOG: &str = "log";

/// What was said at a real re-attestation.
#[derive(Clone)]
pub struct Said {
    begin: v1::BeginAttestationRequest,
    begun: v1::BeginAttestationResponse,
    request: v1::CompleteRequest,
    response: v1::CompleteResponse,
    /// The log, whether it was sent or left out.
    log: Vec<u8>,
}

impl Said {
    /// What `device` and its broker say at an exchange of this kind.
    pub async fn record(device: &mut Device, connection: &Connection, kind: Kind) -> Self {
        use attestor::client::Calls as _;
        let begin = device.begin_attestation();
        let begun = connection.begin_attestation(begin.clone()).await.expect("a challenge");
        let request = device.complete_attestation(begun.clone(), kind);
        let response = connection.complete_attestation(request.clone()).await.expect("an answer");
        device.adopt(response.clone(), kind);
        Self { begin, begun, request, response, log: device.log().to_vec() }
    }

    /// Says it again to a server of floors.
    pub async fn again(&self, connection: &Connection) {
        use attestor::client::Calls as _;
        connection.begin_attestation(self.begin.clone()).await.expect("the floor answers");
        connection.complete_attestation(self.request.clone()).await.expect("the floor answers");
    }
}

/// Starts the server in `dir` that does the least for what was said.
pub async fn start(dir: &Path, said: &Said, connections: usize) -> Server {
    plant::initialize(dir, connections, Backend::Sled).await;
    let write = |name: &str, bytes: Vec<u8>| fs::write(dir.join(name), bytes).expect("a file of the run");
    write(BEGIN, said.begun.encode_to_vec());
    write(COMPLETE, said.response.encode_to_vec());
    write(REQUEST, said.request.encode_to_vec());
    write(LOG, said.log.clone());
    let mut command = Command::new(std::env::current_exe().expect("a program knows where it is"));
    command.arg("floor").arg(dir);
    Server::start(command, dir)
}

/// Serves in `dir`, until the process ends.
pub async fn serve(dir: &Path) {
    let plant = server::open(dir).await.expect("the plant opens");
    let tls = Tls::new(&plant).expect("a certificate");
    let acceptor = TlsAcceptor::from(Arc::new(tls.config(Arc::clone(&plant.clock)).expect("TLS")));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let least = Least::read(dir, Arc::clone(&plant));
    let incoming = connection::accept(listener, acceptor, tls, plant);
    // Whole at once, for whoever waits for it.
    fs::write(dir.join("address.new"), address.to_string()).expect("a file of the run");
    fs::rename(dir.join("address.new"), dir.join("address")).expect("a file of the run");
    let service = AttestationServer::new(least).max_decoding_message_size(16 << 20);
    let served = tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming).await;
    served.expect("the server goes on");
}

/// What nobody can leave out.
struct Least {
    plant: Arc<Plant>,
    begun: v1::BeginAttestationResponse,
    response: v1::CompleteResponse,
    bare: Bare,
    written: AtomicU64,
}

impl Least {
    fn read(dir: &Path, plant: Arc<Plant>) -> Self {
        let read = |name: &str| fs::read(dir.join(name)).expect("a file of the run");
        let request = v1::CompleteRequest::decode(&*read(REQUEST)).expect("a request");
        Self {
            plant,
            begun: v1::BeginAttestationResponse::decode(&*read(BEGIN)).expect("an answer"),
            response: v1::CompleteResponse::decode(&*read(COMPLETE)).expect("an answer"),
            bare: Bare::of(&request, read(LOG)),
            written: AtomicU64::new(0),
        }
    }
}

#[tonic::async_trait]
impl Attestation for Least {
    async fn begin(
        &self,
        _: Request<v1::BeginAttestationRequest>,
    ) -> Result<Response<v1::BeginAttestationResponse>, Status> {
        self.bare.seal();
        Ok(Response::new(self.begun.clone()))
    }

    async fn complete(
        &self,
        request: Request<v1::CompleteRequest>,
    ) -> Result<Response<v1::CompleteResponse>, Status> {
        let request = request.get_ref();
        self.bare.seal();
        self.bare.hash();
        self.bare.verify();
        for _ in &request.identity_keys {
            // Its request and its certification are verified, and a certificate is signed.
            self.bare.verify();
            self.bare.verify();
            self.bare.sign();
        }
        let n = self.written.fetch_add(1, Ordering::Relaxed) % RECORDS;
        let txn = Txn::new().put(format!("floor/{n}"), vec![b'7'; RECORD]);
        self.plant.store.transact(txn).await.map_err(|error| Status::internal(error.to_string()))?;
        Ok(Response::new(self.response.clone()))
    }

    async fn complete_in_parts(
        &self,
        _: Request<Streaming<v1::CompletePart>>,
    ) -> Result<Response<v1::CompleteResponse>, Status> {
        Err(Status::unimplemented("no list is that long here"))
    }
}

/// The bare operations on the bytes of one request.
pub struct Bare {
    point: Vec<u8>,
    quote: Vec<u8>,
    signature: Vec<u8>,
    log: Vec<u8>,
    extends: usize,
    rest: Vec<u8>,
    sealed: Vec<u8>,
    signer: EcdsaKeyPair,
    sealer: LessSafeKey,
}

impl Bare {
    /// Of what was said.
    pub fn said(said: &Said) -> Self {
        Self::of(&said.request, said.log.clone())
    }

    fn of(request: &v1::CompleteRequest, log: Vec<u8>) -> Self {
        // x and y, each behind two bytes of length, end the public area and the signature.
        let last = |bytes: &[u8]| {
            let (_, end) = bytes.split_at(bytes.len() - 2 * (COORDINATE + 2));
            [&end[2..COORDINATE + 2], &end[COORDINATE + 4..]].concat()
        };
        let parsed = EventLog::parse(&log).expect("a log");
        let extends = parsed.events().iter().filter(|event| event.extends().is_some()).count();
        let key = UnboundKey::new(&AES_256_GCM, &[7; 32]).expect("a key");
        Self {
            point: [vec![4], last(&request.ak_public)].concat(),
            quote: request.quote.clone(),
            signature: last(&request.quote_signature),
            rest: v1::CompleteRequest { firmware_log: Vec::new(), ..request.clone() }.encode_to_vec(),
            sealed: request.sealed.clone(),
            extends,
            log,
            signer: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key"),
            sealer: LessSafeKey::new(key),
        }
    }

    /// Verifies a signature.
    pub fn verify(&self) {
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &self.point);
        key.verify(&self.quote, &self.signature).expect("the quote's signature");
    }

    /// Makes one.
    pub fn sign(&self) {
        self.signer.sign(&SystemRandom::new(), &[7; UNSIGNED]).expect("a signature");
    }

    /// Hashes the log, an extend of each of its events, and the rest of the evidence.
    pub fn hash(&self) {
        let mut pcr = digest(&SHA256, &self.log);
        for _ in 0..self.extends {
            pcr = digest(&SHA256, &[pcr.as_ref(), pcr.as_ref()].concat());
        }
        std::hint::black_box((pcr, digest(&SHA256, &self.rest)));
    }

    /// Seals a challenge, which takes as long as to open one.
    pub fn seal(&self) {
        let mut sealed = self.sealed.clone();
        let nonce = Nonce::assume_unique_for_key([7; 12]);
        self.sealer.seal_in_place_append_tag(nonce, Aad::empty(), &mut sealed).expect("it is sealed");
        std::hint::black_box(sealed);
    }
}
