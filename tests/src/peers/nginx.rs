//! nginx: with a software key any number of workers and a reload, with a key in the TPM one worker and a restart.

use super::{Heard, Place, Refusal, Reload, SERVED, Software, contains, text_of, words};

/// Two workers, the key in software.
#[derive(Debug)]
pub struct Nginx;

/// One worker, the key in the TPM.
#[derive(Debug)]
pub struct NginxInTpm;

impl Software for Nginx {
    fn service(&self) -> &'static str {
        "nginx"
    }

    fn tools(&self) -> &'static [&'static str] {
        &["nginx"]
    }

    fn key_in_tpm(&self) -> bool {
        false
    }

    fn command(&self, place: &Place) -> Vec<String> {
        let of = |file: &str| place.of_service(self.service(), file);
        configured(place, 2, self.service(), &of("server.pem"), &of("server.key"))
    }

    fn reload(&self, _place: &Place) -> Option<Reload> {
        Some(Reload::Signal("HUP"))
    }

    fn refuses(&self, heard: &Heard, log: &str, why: Refusal) -> bool {
        refuses(heard, log, why)
    }
}

impl Software for NginxInTpm {
    fn service(&self) -> &'static str {
        "nginx-tpm"
    }

    fn tools(&self) -> &'static [&'static str] {
        &["nginx"]
    }

    fn key_in_tpm(&self) -> bool {
        true
    }

    fn command(&self, place: &Place) -> Vec<String> {
        configured(place, 1, self.service(), &place.of_zone("listener.pem"), &place.of_zone("listener.key"))
    }

    fn reload(&self, _place: &Place) -> Option<Reload> {
        None
    }

    fn refuses(&self, heard: &Heard, log: &str, why: Refusal) -> bool {
        refuses(heard, log, why)
    }
}

/// nginx completes TLS and answers HTTP 400; only its log says why.
fn refuses(heard: &Heard, log: &str, why: Refusal) -> bool {
    contains(&heard.bytes, b"400 Bad Request")
        && contains(&heard.bytes, b"SSL certificate error")
        && log.contains(words_of(why))
}

/// The last thing that OpenSSL found wrong: nginx lets it go on.
const fn words_of(why: Refusal) -> &'static str {
    match why {
        Refusal::Unknown => "(21:unable to verify the first certificate)",
        Refusal::Revoked => "(23:certificate revoked)",
        Refusal::Expired => "(10:certificate has expired)",
    }
}

fn configured(place: &Place, workers: u8, service: &str, certificate: &str, key: &str) -> Vec<String> {
    let (dir, port) = (text_of(&place.dir), place.port);
    let (inbound, crl) = (place.of_service(service, "inbound.pem"), place.of_service(service, "inbound.crl"));
    // nginx clears its environment; a clock of its own lives there.
    let config = format!(
        "env FAKETIME_TIMESTAMP_FILE;\nenv FAKETIME_NO_CACHE;\nenv FAKETIME_DONT_FAKE_MONOTONIC;\ndaemon off;\npid {dir}/nginx.pid;\nerror_log {dir}/log info;\nworker_processes {workers};\n\
         worker_shutdown_timeout 5s;\nevents {{}}\nhttp {{\naccess_log off;\n\
         client_body_temp_path {dir}/body;\nproxy_temp_path {dir}/proxy;\nfastcgi_temp_path {dir}/fastcgi;\n\
         uwsgi_temp_path {dir}/uwsgi;\nscgi_temp_path {dir}/scgi;\n\
         server {{\nlisten 127.0.0.1:{port} ssl;\nssl_protocols TLSv1.3;\n\
         ssl_certificate {certificate};\nssl_certificate_key {key};\n\
         ssl_client_certificate {inbound};\nssl_crl {crl};\n\
         ssl_verify_client on;\nssl_session_cache off;\nssl_session_tickets off;\n\
         location / {{ return 200 \"{SERVED}\\n\"; }}\n}}\n}}\n"
    );
    let file = place.write("nginx.conf", &config);
    words(&["nginx", "-p", &dir, "-c", &file, "-e", &format!("{dir}/log")])
}
