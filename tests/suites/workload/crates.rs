//! The crates `spiffe` and `spiffe-rustls` as their own examples have them. Sources are opened once and follow the
//! Workload API from then on, as those of a program that runs.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, ServerConfig};
use spiffe::X509Source;
use spiffe_rustls::{authorizer, mtls_client, mtls_server};

use super::peer::talk;

/// How soon a source asks again whose stream ended.
const SOON: Duration = Duration::from_millis(100);
const LATER: Duration = Duration::from_secs(1);
/// Longer than certificates last here.
const AHEAD: Duration = Duration::from_secs(2 * 24 * 3600);

/// A program that follows the Workload API at `socket`.
pub(super) async fn source(socket: &Path) -> X509Source {
    let source = X509Source::builder().endpoint(format!("unix:{}", socket.display()));
    source.reconnect_backoff(SOON, LATER).build().await.expect("the Workload API answers")
}

/// A server and a client, each with whom it means to meet.
#[derive(Clone)]
pub(super) struct Ends {
    accepts: Arc<ServerConfig>,
    opens: Arc<ClientConfig>,
    sources: [X509Source; 2],
}

impl Ends {
    /// `client`, named `who`, opens `server`, named `whom`.
    pub(super) fn of((server, whom): (&X509Source, &str), (client, who): (&X509Source, &str)) -> Self {
        let accepts = mtls_server(server.clone()).authorize(authorizer::exact([who]).expect("a SPIFFE ID"));
        let opens = mtls_client(client.clone()).authorize(authorizer::exact([whom]).expect("a SPIFFE ID"));
        Self {
            accepts: Arc::new(accepts.build().expect("a server")),
            opens: Arc::new(opens.build().expect("a client")),
            sources: [server.clone(), client.clone()],
        }
    }

    /// What server and client show now, DER.
    pub(super) fn shown(&self) -> [Option<Vec<u8>>; 2] {
        self.sources.each_ref().map(|source| source.svid().ok().map(|svid| svid.leaf().as_bytes().to_vec()))
    }

    /// The same with a server whose clock is ahead.
    pub(super) fn with_server_ahead(mut self) -> Self {
        let mut accepts = ServerConfig::clone(&self.accepts);
        accepts.time_provider = Arc::new(Ahead);
        self.accepts = Arc::new(accepts);
        self
    }

    /// Ok once something of the application was served.
    pub(super) async fn meet(&self) -> Result<(), String> {
        // The name counts for nothing: a peer is who its SPIFFE ID says.
        talk(Arc::clone(&self.accepts), Arc::clone(&self.opens), "localhost".to_owned()).await
    }
}

#[derive(Debug)]
struct Ahead;

impl TimeProvider for Ahead {
    fn current_time(&self) -> Option<UnixTime> {
        let now = Duration::from_secs(UnixTime::now().as_secs());
        Some(UnixTime::since_unix_epoch(now + AHEAD))
    }
}
