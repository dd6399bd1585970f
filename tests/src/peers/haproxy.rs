//! HAProxy with a software key: deploy/haproxy-hook replaces its certificate at runtime and reloads it for everything
//! else.

use std::path::Path;

use super::{Place, Reload, SERVED, Software, text_of, words};

/// HAProxy.
#[derive(Debug)]
pub struct Haproxy;

impl Software for Haproxy {
    fn service(&self) -> &'static str {
        "haproxy"
    }

    fn tools(&self) -> &'static [&'static str] {
        &["haproxy", "socat"]
    }

    fn key_in_tpm(&self) -> bool {
        false
    }

    fn command(&self, place: &Place) -> Vec<String> {
        let dir = text_of(&place.dir);
        let of = |file: &str| place.of_service(self.service(), file);
        let config = format!(
            "global\n  stats socket {dir}/admin.sock mode 600 level admin expose-fd listeners\n  tune.ssl.cachesize 0\n\
             defaults\n  mode http\n  timeout client 10s\n  timeout server 10s\n  timeout connect 10s\n\
             frontend press\n  bind 127.0.0.1:{} ssl crt {dir}/haproxy.pem ca-file {} crl-file {} verify required \
             ssl-min-ver TLSv1.3 no-tls-tickets\n  http-request return status 200 content-type text/plain string \
             \"{SERVED}\"\n",
            place.port,
            of("inbound.pem"),
            of("inbound.crl"),
        );
        let config = place.write("haproxy.cfg", &config);
        words(&["haproxy", "-W", "-db", "-S", &format!("{dir}/master.sock"), "-f", &config])
    }

    fn reload(&self, place: &Place) -> Option<Reload> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/haproxy-hook");
        let files = place.files.join("services").join(self.service());
        let [script, files] = [&script, &files].map(|path| text_of(path));
        let [pem, socket, master] =
            ["haproxy.pem", "admin.sock", "master.sock"].map(|name| text_of(&place.dir.join(name)));
        Some(Reload::Program(words(&["/bin/sh", &script, &files, &pem, &socket, &master])))
    }
}
