//! Sessions that a drill holds open, to see whether and when they end.

use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::report::Bound;
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

/// What became of sessions that were begun.
#[derive(Debug, Default)]
pub(super) struct Begun {
    /// Those that were let in.
    let_in: Vec<String>,
    /// Those that were taken, and ended at once.
    refused: Vec<String>,
    /// Where nothing took the connection, and why: what a gate would have done with it is not known.
    unreached: Vec<(String, String)>,
}

impl Begun {
    /// What gates did with them without the broker, against what their zone says.
    pub(super) fn by_gate_fail(&self, gate_fail: &str) -> Vec<Bound> {
        let Self { let_in, refused, unreached } = self;
        let tried = let_in.len() + refused.len();
        let judged = (tried > 0).then(|| match gate_fail {
            "closed" => Bound::none("other zones that gates let in without the broker", tried, let_in),
            _ => Bound::none("other zones that gates kept out without the broker", tried, refused),
        });
        let addresses: Vec<String> = unreached.iter().map(|(address, _)| address.clone()).collect();
        let all = tried + addresses.len();
        let unseen = (!addresses.is_empty())
            .then(|| Bound::none("gates that took no connection, unjudged here", all, &addresses));
        judged.into_iter().chain(unseen).collect()
    }

    /// What they say nothing of, and why.
    pub(super) fn unjudged(&self) -> impl Iterator<Item = String> {
        self.unreached.iter().map(|(address, why)| {
            format!("gate_fail at {address} (it took no connection: {why}; see that its gate runs)")
        })
    }
}

/// Begins a session with each of `addresses`, of which it is not known whether it is let in, for as long as `patience`.
pub(super) async fn begin(addresses: &[String], patience: Duration) -> Begun {
    let mut trials = JoinSet::new();
    for address in addresses.iter().cloned() {
        trials.spawn(async move {
            let let_in = match connect(&address).await {
                Ok(stream) => Ok(timeout(patience, hold(stream).changed()).await.is_err()),
                Err(why) => Err(why),
            };
            (address, let_in)
        });
    }
    let mut begun = Begun::default();
    for (address, let_in) in trials.join_all().await {
        match let_in {
            Ok(true) => begun.let_in.push(address),
            Ok(false) => begun.refused.push(address),
            Err(why) => begun.unreached.push((address, why)),
        }
    }
    begun
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
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    #[tokio::test]
    async fn a_session_that_ends_at_once_was_not_let_in_and_one_that_nothing_takes_says_nothing() {
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
        let deaf = TcpSocket::new_v4().unwrap();
        deaf.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let absent = deaf.local_addr().unwrap().to_string();
        let all = [serving.clone(), refusing.clone(), absent.clone()];
        let Begun { let_in, refused, unreached } = begin(&all, Duration::from_secs(3)).await;
        assert_eq!((let_in, refused), (vec![serving], vec![refusing]));
        let [(address, why)] = &unreached[..] else { panic!("{unreached:?}") };
        assert!(*address == absent && why.contains("refused"), "{unreached:?}");
    }

    fn kept(begun: &Begun, gate_fail: &str) -> Vec<bool> {
        begun.by_gate_fail(gate_fail).iter().map(Bound::is_kept).collect()
    }

    #[test]
    fn what_gates_do_without_the_broker_is_judged_by_the_zone() {
        let one = || vec!["10.9.0.7:502".to_owned()];
        let let_in = Begun { let_in: one(), ..Begun::default() };
        let refused = Begun { refused: one(), ..Begun::default() };
        assert_eq!((kept(&let_in, "open"), kept(&refused, "open")), (vec![true], vec![false]));
        assert_eq!((kept(&let_in, "closed"), kept(&refused, "closed")), (vec![false], vec![true]));
    }

    #[test]
    fn a_gate_that_takes_no_connection_keeps_no_promise() {
        let unreached = || vec![("10.9.0.8:502".to_owned(), "no answer".to_owned())];
        let nobody = Begun { unreached: unreached(), ..Begun::default() };
        assert_eq!((kept(&nobody, "open"), kept(&nobody, "closed")), (vec![false], vec![false]));
        let refused = vec!["10.9.0.7:502".to_owned()];
        let beside = Begun { refused, unreached: unreached(), ..Begun::default() };
        assert_eq!(kept(&beside, "closed"), [true, false]);
        let said: Vec<String> = beside.unjudged().collect();
        assert!(said.len() == 1 && said.concat().starts_with("gate_fail at 10.9.0.8:502 "), "{said:?}");
    }
}
