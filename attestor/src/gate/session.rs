//! From a connection to a session, or to a refusal with its reason.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use policy::access::Allowed;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::accept::{Connection, Waiting};
use super::relay::{End, Leftover, Relay};
use super::scratch::CHUNK;
use super::standing::Standing;
use super::tls::{Question, Side, take};
use super::{Gate, Host};
use crate::authorize::Told;
use crate::config::Peer;

/// Why a connection becomes no session.
#[derive(Debug, thiserror::Error)]
enum Refused {
    /// It is not allowed.
    #[error("{}", words(.0))]
    Told(Vec<Told>),
    /// The other end did not finish in time.
    #[error("connecting and the TLS handshake took too long")]
    Late,
    /// The peer could not be reached, or the local server.
    #[error("{to} cannot be reached: {source}")]
    Unreachable {
        /// Who.
        to: String,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The peer hung up, or what it sent is no TLS.
    #[error("the TLS handshake broke: {0}")]
    Broken(#[source] io::Error),
}

fn words(told: &[Told]) -> String {
    told.iter()
        .map(|told| format!("{}; what to do: {}", told.message, told.remedy))
        .collect::<Vec<_>>()
        .join("; ")
}

impl Refused {
    fn code(&self) -> &'static str {
        match self {
            Self::Told(told) => told.first().map_or("unknown", |told| told.code),
            Self::Late => "late",
            Self::Unreachable { .. } => "unreachable",
            Self::Broken(_) => "no-handshake",
        }
    }
}

/// A session's place in the table of its gate; it is given up with the value.
struct Place<H: Host> {
    gate: Arc<Gate<H>>,
    number: u64,
}

impl<H: Host> Drop for Place<H> {
    fn drop(&mut self) {
        self.gate.table.leave(self.number);
    }
}

/// Makes a session of the connection `stream`, if it may be one.
pub(super) async fn begin<H: Host>(
    gate: Arc<Gate<H>>,
    stream: TcpStream,
    from: IpAddr,
    connection: Connection,
    waiting: Waiting,
) {
    let patience = gate.config.limits.handshake;
    let opened = match &gate.config.peer {
        None => timeout(patience, serve(&gate, stream, connection, &waiting)).await,
        Some(peer) => timeout(patience, open(&gate, peer, stream, connection, &waiting)).await,
    };
    if let Err(refused) = opened.unwrap_or(Err(Refused::Late)) {
        gate.refuse(from, refused.code(), &refused);
    }
}

/// A peer opens the service here.
async fn serve<H: Host>(
    gate: &Arc<Gate<H>>,
    mut net: TcpStream,
    held: Connection,
    waiting: &Waiting,
) -> Result<(), Refused> {
    prompt(&net)?;
    let question = gate.question()?;
    let mut tls = question.accept().map_err(no_tls)?;
    let leftover = gate.shake_hands(&question, &mut tls, &mut net, waiting).await?;
    let allowed = question.answer().map_err(Refused::Told)?;
    let (place, cut) = gate.enter(&question.standing, allowed)?;
    let local = connect(&gate.config.connect).await?;
    run(gate, Relay::new(tls, net, local, leftover), cut, (place, held));
    Ok(())
}

/// Local software opens the service of `peer`.
async fn open<H: Host>(
    gate: &Arc<Gate<H>>,
    peer: &Peer,
    local: TcpStream,
    held: Connection,
    waiting: &Waiting,
) -> Result<(), Refused> {
    prompt(&local)?;
    let question = gate.question()?;
    let mut net = connect(&gate.config.connect).await?;
    let mut tls = question.open(peer).map_err(no_tls)?;
    let leftover = gate.shake_hands(&question, &mut tls, &mut net, waiting).await?;
    let allowed = question.answer().map_err(Refused::Told)?;
    let (place, cut) = gate.enter(&question.standing, allowed)?;
    run(gate, Relay::new(tls, net, local, leftover), cut, (place, held));
    Ok(())
}

/// The session has a task of its own: what the handshake needed is given back.
fn run<H: Host, S: Side>(
    gate: &Arc<Gate<H>>,
    relay: Relay<S>,
    cut: oneshot::Receiver<()>,
    held: (Place<H>, Connection),
) {
    let gate = Arc::clone(gate);
    tokio::spawn(async move {
        let end = relay.run(&gate.pool, gate.config.limits.idle, cut).await;
        drop(held);
        match end {
            End::Broken(error) => tracing::debug!(gate = gate.config.name, %error, "a session broke"),
            end => tracing::debug!(gate = gate.config.name, ?end, "a session is over"),
        }
    });
}

/// Small messages wait for each other.
fn prompt(stream: &TcpStream) -> Result<(), Refused> {
    stream.set_nodelay(true).map_err(Refused::Broken)
}

fn no_tls(error: rustls::Error) -> Refused {
    Refused::Broken(io::Error::other(error))
}

async fn connect(to: &str) -> Result<TcpStream, Refused> {
    let unreachable = |source| Refused::Unreachable { to: to.to_owned(), source };
    let stream = TcpStream::connect(to).await.map_err(unreachable)?;
    stream.set_nodelay(true).map_err(unreachable)?;
    Ok(stream)
}

impl<H: Host> Gate<H> {
    /// The question of a handshake that begins now.
    fn question(&self) -> Result<Arc<Question>, Refused> {
        let standing = self.table.stand().map_err(Refused::Told)?;
        let (plant, config) = (self.host.plant().clone(), Arc::clone(&self.config));
        Ok(Question::new(standing, plant, config, self.host.now(), self.host.heard()))
    }

    fn enter(
        self: &Arc<Self>,
        standing: &Arc<Standing>,
        allowed: Allowed,
    ) -> Result<(Place<H>, oneshot::Receiver<()>), Refused> {
        let entered = self.table.enter(
            &self.config,
            self.host.plant(),
            standing,
            allowed,
            (self.host.now(), Instant::now()),
        );
        let (number, cut) = entered.map_err(Refused::Told)?;
        Ok((Place { gate: Arc::clone(self), number }, cut))
    }

    /// The TLS handshake. A refused peer gets its alert.
    async fn shake_hands<S: Side>(
        &self,
        question: &Question,
        tls: &mut S,
        net: &mut TcpStream,
        waiting: &Waiting,
    ) -> Result<Leftover, Refused> {
        let (mut incoming, mut reply, mut leftover) = (Vec::new(), Vec::new(), Leftover::default());
        loop {
            let taken = {
                // Whoever waits for the network holds no turn.
                let _of_address = waiting.turn().acquire().await;
                let _turn = self.signing.acquire().await;
                self.pool.lend(|scratch| {
                    let taken = take(tls, &mut incoming, &mut scratch.plain, &mut reply);
                    leftover.plain.extend_from_slice(scratch.plain.get(..taken.plain).unwrap_or_default());
                    taken
                })
            };
            incoming.drain(..taken.used.min(incoming.len()));
            leftover.ended |= taken.ended;
            if let Some(fault) = taken.fault {
                // Whoever has gone does not want the alert.
                drop(net.write_all(&reply).await);
                return Err(question.refusal(&fault).map_or_else(|| no_tls(fault), Refused::Told));
            }
            net.write_all(&reply).await.map_err(Refused::Broken)?;
            reply.clear();
            if taken.open {
                leftover.partial = incoming;
                return Ok(leftover);
            }
            if incoming.len() >= CHUNK {
                return Err(Refused::Broken(io::ErrorKind::InvalidData.into()));
            }
            if net.read_buf(&mut incoming).await.map_err(Refused::Broken)? == 0 {
                return Err(Refused::Broken(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }
}
