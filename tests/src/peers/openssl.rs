//! openssl s_server with its key in the TPM. It reads its files once.

use super::{Place, Reload, Software, contains, text_of, words};

/// openssl s_server.
#[derive(Debug)]
pub struct OpensslServer;

impl Software for OpensslServer {
    fn service(&self) -> &'static str {
        "openssl"
    }

    fn tools(&self) -> &'static [&'static str] {
        &["openssl"]
    }

    fn key_in_tpm(&self) -> bool {
        true
    }

    fn command(&self, place: &Place) -> Vec<String> {
        let of = |file: &str| place.of_service(self.service(), file);
        // -CRL reads only the first CRL of a file.
        let script = format!(
            "cat {} {} >{}/trust.pem && exec openssl s_server -accept 127.0.0.1:{} -www -tls1_3 -num_tickets 0 \
             -cert {} -key {} -Verify 1 -verify_return_error -CAfile {}/trust.pem -crl_check",
            of("inbound.pem"),
            of("inbound.crl"),
            text_of(&place.dir),
            place.port,
            place.of_zone("listener.pem"),
            place.of_zone("listener.key"),
            text_of(&place.dir),
        );
        words(&["sh", "-c", &script])
    }

    fn reload(&self, _place: &Place) -> Option<Reload> {
        None
    }

    /// Its page about itself.
    fn serves(&self, heard: &[u8]) -> bool {
        contains(heard, b"HTTP/1.0 200 ok")
    }
}
