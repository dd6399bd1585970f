//! mosquitto with its key in the TPM. A reload takes new CRLs and only ever adds authorities.

use super::{Place, Reload, SERVED, Software, contains, words};

/// mosquitto.
#[derive(Debug)]
pub struct Mosquitto;

/// The topic of the tests.
pub(super) const TOPIC: &str = "press";

impl Software for Mosquitto {
    fn service(&self) -> &'static str {
        "mosquitto"
    }

    fn tools(&self) -> &'static [&'static str] {
        &["mosquitto"]
    }

    fn key_in_tpm(&self) -> bool {
        true
    }

    fn command(&self, place: &Place) -> Vec<String> {
        let of = |file: &str| place.of_service(self.service(), file);
        // `user` counts when the tests run as root, whose run folders are for nobody else.
        let config = format!(
            "user root\nlistener {} 127.0.0.1\ncertfile {}\nkeyfile {}\ncafile {}\ncrlfile {}\n\
             require_certificate true\nuse_identity_as_username true\ntls_version tlsv1.3\n",
            place.port,
            place.of_zone("listener.pem"),
            place.of_zone("listener.key"),
            of("inbound.pem"),
            of("inbound.crl"),
        );
        words(&["mosquitto", "-c", &place.write("mosquitto.conf", &config)])
    }

    fn reload(&self, _place: &Place) -> Option<Reload> {
        Some(Reload::Signal("HUP"))
    }

    fn restarts_on_removal(&self) -> bool {
        true
    }

    /// CONNECT, SUBSCRIBE and PUBLISH on one topic: what is published comes back (MQTT 3.1.1, sections 3.1, 3.8, 3.3).
    fn request(&self) -> Vec<u8> {
        let text = |text: &str| {
            let length = u16::try_from(text.len()).expect("a short text").to_be_bytes();
            [&length, text.as_bytes()].concat()
        };
        let packet = |kind: u8, body: Vec<u8>| {
            let length =
                u8::try_from(body.len()).ok().filter(|length| *length < 128).expect("a short packet");
            [&[kind, length], &body[..]].concat()
        };
        let connect = [text("MQTT"), vec![4, 2, 0, 60], text("")].concat();
        let subscribe = [vec![0, 1], text(TOPIC), vec![0]].concat();
        let publish = [text(TOPIC), SERVED.as_bytes().to_vec()].concat();
        [packet(0x10, connect), packet(0x82, subscribe), packet(0x30, publish)].concat()
    }

    fn serves(&self, heard: &[u8]) -> bool {
        contains(heard, SERVED.as_bytes())
    }
}
