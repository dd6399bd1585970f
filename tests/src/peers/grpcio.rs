//! grpcio for Python, with a software key. It asks for its files at every handshake, and takes no CRL; with the interceptor
//! that is shipped it asks the attestor about every call.

use std::path::Path;
use std::process::Command;

use super::{Heard, Place, Refusal, Reload, SERVED, Software, text_of, words};

/// Debian's own Python, for which its packages are.
pub const PYTHON: &str = "/usr/bin/python3";

/// A server of Python's grpcio.
#[derive(Debug)]
pub struct Grpcio;

impl Grpcio {
    /// Whether grpcio is here; if not, that is said.
    pub fn is_here() -> bool {
        let modules = Command::new(PYTHON).args(["-c", "import grpc, google.protobuf"]).output();
        let here = modules.is_ok_and(|output| output.status.success());
        if !here {
            println!("skipped: python3-grpcio is not installed; deploy/packages.sh names its package");
        }
        here
    }

    /// The program that serves and asks.
    pub fn program() -> String {
        text_of(&Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/grpc_peer.py"))
    }
}

impl Software for Grpcio {
    fn service(&self) -> &'static str {
        "grpcio"
    }

    fn tools(&self) -> &'static [&'static str] {
        &[PYTHON]
    }

    fn key_in_tpm(&self) -> bool {
        false
    }

    fn command(&self, place: &Place) -> Vec<String> {
        let files = text_of(&place.files.join("services").join(self.service()));
        words(&[PYTHON, &Self::program(), "serve", &files, &place.port.to_string(), SERVED])
    }

    fn reload(&self, _place: &Place) -> Option<Reload> {
        None
    }

    fn reads_by_itself(&self) -> bool {
        true
    }

    fn alpn(&self) -> Vec<Vec<u8>> {
        vec![b"h2".to_vec()]
    }

    /// A call without a message, in HTTP/2 (RFC 9113): preface, settings, header fields as literals (RFC 7541, section
    /// 6.2.2), and the empty message of gRPC.
    fn request(&self) -> Vec<u8> {
        let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
            let length = u8::try_from(payload.len()).expect("a short frame");
            [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
        };
        let text = |text: &str| {
            let length = u8::try_from(text.len()).ok().filter(|length| *length < 127).expect("a short text");
            [&[length], text.as_bytes()].concat()
        };
        let fields = [
            (":method", "POST"),
            (":scheme", "https"),
            (":path", "/press.Press/State"),
            (":authority", "press"),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
        ];
        let fields = fields.map(|(name, value)| [vec![0], text(name), text(value)].concat()).concat();
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        [preface, frame(4, 0, 0, &[]), frame(1, 4, 1, &fields), frame(0, 1, 1, &[0; 5])].concat()
    }

    /// It says no more of a certificate than that it cannot be verified, and that to its log.
    fn refuses(&self, heard: &Heard, log: &str, why: Refusal) -> bool {
        why != Refusal::Revoked && heard.bytes.is_empty() && log.contains("certificate verify failed")
    }
}

/// A server of Python's grpcio that asks about every call. Its TLS lets in whoever may open [`GrpcioAsking::LOBBY`].
#[derive(Debug)]
pub struct GrpcioAsking;

impl GrpcioAsking {
    /// The service whose files its TLS has: another than it serves, so that what is asked decides.
    pub const LOBBY: &'static str = "lobby";
}

impl Software for GrpcioAsking {
    fn service(&self) -> &'static str {
        "grpcio-asking"
    }

    fn tools(&self) -> &'static [&'static str] {
        Grpcio.tools()
    }

    fn key_in_tpm(&self) -> bool {
        false
    }

    fn command(&self, place: &Place) -> Vec<String> {
        let files = text_of(&place.files.join("services").join(Self::LOBBY));
        let (port, socket) = (place.port.to_string(), text_of(&place.authorize));
        let program = Grpcio::program();
        let (program, zone) = (program.as_str(), place.zone.as_str());
        words(&[PYTHON, program, "serve-asking", &files, &port, SERVED, &socket, zone, self.service()])
    }

    fn reload(&self, _place: &Place) -> Option<Reload> {
        None
    }

    fn reads_by_itself(&self) -> bool {
        true
    }

    /// Its threads wait for hours where libfaketime puts their clock ahead.
    fn takes_clock(&self) -> bool {
        false
    }
}
