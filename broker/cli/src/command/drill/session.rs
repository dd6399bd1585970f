//! Sessions that a drill holds open, to see whether and when they end.

use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::exit::Exit;
use crate::failure::{Failure, Result};

/// Time in which a session is opened; a gate shakes hands with another meanwhile.
const OPENING: Duration = Duration::from_secs(10);
/// A session that is refused ends within this: a gate accepts first and asks the other end then.
const SETTLING: Duration = Duration::from_secs(2);

/// A session, and when it ended.
struct Held {
    address: String,
    ended: watch::Receiver<Option<Instant>>,
}

/// Every session that is watched.
pub(super) struct Sessions(Vec<Held>);

impl Sessions {
    /// Opens a session to each of `addresses`, and makes sure that it stays open.
    pub(super) async fn open(addresses: &[String]) -> Result<Self> {
        let mut sessions = Vec::new();
        for address in addresses {
            let opened = timeout(OPENING, TcpStream::connect(address)).await;
            let why = match opened {
                Ok(Ok(stream)) => {
                    sessions.push(Held { address: address.clone(), ended: hold(stream) });
                    continue;
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no answer within {} s", OPENING.as_secs()),
            };
            return Err(refused(address, &why));
        }
        if !sessions.is_empty() {
            sleep(SETTLING).await;
        }
        match sessions.iter().find(|held| held.ended.borrow().is_some()) {
            Some(held) => Err(refused(&held.address, "it ended at once")),
            None => Ok(Self(sessions)),
        }
    }

    /// How many there are.
    pub(super) const fn len(&self) -> usize {
        self.0.len()
    }

    /// Those that have ended.
    pub(super) fn ended(&self) -> Vec<String> {
        let ended = self.0.iter().filter(|held| held.ended.borrow().is_some());
        ended.map(|held| held.address.clone()).collect()
    }

    /// How long after `begun` the last of them ended; none if one lives on.
    pub(super) fn last_end(&self, begun: Instant) -> Option<Duration> {
        let ends: Option<Vec<Instant>> = self.0.iter().map(|held| *held.ended.borrow()).collect();
        ends?.into_iter().max().map(|end| end.saturating_duration_since(begun))
    }
}

/// Reads until the session ends. What comes is of no interest.
fn hold(mut stream: TcpStream) -> watch::Receiver<Option<Instant>> {
    let (tell, ended) = watch::channel(None);
    tokio::spawn(async move {
        let mut bytes = [0; 1024];
        while matches!(stream.read(&mut bytes).await, Ok(1..)) {}
        tell.send_replace(Some(Instant::now()));
    });
    ended
}

fn refused(address: &str, why: &str) -> Failure {
    Failure::new(Exit::Negative, format!("no session to {address} can be held: {why}"))
        .next("name an address that accepts sessions now; for a gate, `touchstone conduit why` says who may open it")
}
