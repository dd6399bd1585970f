//! Sessions that a drill holds open, to see whether and when they end.

use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::exit::Exit;
use crate::failure::{Failure, Result};

/// Time in which a session is opened; a gate shakes hands with another meanwhile.
pub(super) const OPENING: Duration = Duration::from_secs(10);
/// A session that is refused ends within this: a gate accepts first and asks the other end then.
const SETTLING: Duration = Duration::from_secs(2);

/// A session, and when it ended.
struct Held {
    address: String,
    ended: watch::Receiver<Option<Instant>>,
}

/// Every session that is watched.
pub(super) struct Sessions {
    held: Vec<Held>,
    across: Vec<String>,
}

impl Sessions {
    /// Opens a session to each address, those `across` an edge of the zone too, and makes sure that it stays open.
    pub(super) async fn open(within: Vec<String>, across: Vec<String>) -> Result<Self> {
        let mut sessions = Vec::new();
        for address in within.into_iter().chain(across.iter().cloned()) {
            let stream = connect(&address).await.map_err(|why| refused(&address, &why))?;
            sessions.push(Held { address, ended: hold(stream) });
        }
        if !sessions.is_empty() {
            sleep(SETTLING).await;
        }
        match sessions.iter().find(|held| held.ended.borrow().is_some()) {
            Some(held) => Err(refused(&held.address, "it ended at once")),
            None => Ok(Self { held: sessions, across }),
        }
    }

    /// Where a session with another zone begins.
    pub(super) fn across(&self) -> &[String] {
        &self.across
    }

    /// Whether one of them is with another zone.
    pub(super) const fn cross(&self) -> bool {
        !self.across.is_empty()
    }

    /// How many there are.
    pub(super) const fn len(&self) -> usize {
        self.held.len()
    }

    /// Those that have ended.
    pub(super) fn ended(&self) -> Vec<String> {
        let ended = self.held.iter().filter(|held| held.ended.borrow().is_some());
        ended.map(|held| held.address.clone()).collect()
    }

    /// How long after `begun` the last of them ended; none if one lives on.
    pub(super) fn last_end(&self, begun: Instant) -> Option<Duration> {
        let ends: Option<Vec<Instant>> = self.held.iter().map(|held| *held.ended.borrow()).collect();
        ends?.into_iter().max().map(|end| end.saturating_duration_since(begun))
    }
}

/// Begins a session with each of `addresses`, of which it is not known whether it is let in. Gives those that were, for as
/// long as `patience`, and those that were not.
pub(super) async fn begin(addresses: &[String], patience: Duration) -> (Vec<String>, Vec<String>) {
    let mut trials = JoinSet::new();
    for address in addresses.iter().cloned() {
        trials.spawn(async move {
            let let_in = match connect(&address).await {
                Ok(stream) => timeout(patience, hold(stream).changed()).await.is_err(),
                Err(_) => false,
            };
            (address, let_in)
        });
    }
    let (let_in, refused): (Vec<_>, Vec<_>) =
        trials.join_all().await.into_iter().partition(|(_, let_in)| *let_in);
    let names = |trials: Vec<(String, bool)>| trials.into_iter().map(|(address, _)| address).collect();
    (names(let_in), names(refused))
}

async fn connect(address: &str) -> std::result::Result<TcpStream, String> {
    match timeout(OPENING, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", OPENING.as_secs())),
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

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_session_that_ends_at_once_was_not_let_in() {
        let (serves, refuses) = (
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
        );
        let [serving, refusing] =
            [&serves, &refuses].map(|listener| listener.local_addr().unwrap().to_string());
        tokio::spawn(async move {
            let mut open = Vec::new();
            while let Ok((stream, _)) = serves.accept().await {
                open.push(stream);
            }
        });
        tokio::spawn(async move { while refuses.accept().await.is_ok() {} });
        let (let_in, refused) = begin(&[serving.clone(), refusing.clone()], Duration::from_secs(3)).await;
        assert_eq!((let_in, refused), (vec![serving], vec![refusing]));
    }
}
