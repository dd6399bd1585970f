//! Bytes, both ways, between a TLS connection and a plain one.
//!
//! Each direction reads only once all that it read before is written: a slow reader slows its writer down, and holds
//! at most a chunk. Buffers are borrowed when there is something to read.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

use super::scratch::{CHUNK, Pool};
use super::tls::{Sent, Side, seal, take};

/// How a session ended.
#[derive(Debug)]
pub(super) enum End {
    /// Both sides said that they are done.
    Done,
    /// It is not allowed any more.
    Cut,
    /// Nothing moved for too long.
    Idle,
    /// A connection broke.
    Broken(io::Error),
}

/// A session.
#[derive(Debug)]
pub(super) struct Relay<S> {
    tls: S,
    net: TcpStream,
    local: TcpStream,
    /// The begin of a record whose rest has not come.
    partial: Vec<u8>,
    to_local: Rest,
    to_net: Rest,
    /// The peer sends no more.
    net_ended: bool,
    /// Local software sends no more.
    local_ended: bool,
    /// That was passed on.
    local_told: bool,
    net_told: bool,
    /// When something moved last.
    moved: Instant,
}

/// What could not be written at once.
#[derive(Debug, Default)]
struct Rest {
    bytes: Vec<u8>,
    at: usize,
}

impl Rest {
    /// Writes it; then nothing of it is kept.
    fn flush(&mut self, to: &mut TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.bytes.get(self.at..).filter(|rest| !rest.is_empty()) {
            match ready!(Pin::new(&mut *to).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                wrote => self.at = self.at.saturating_add(wrote),
            }
        }
        *self = Self::default();
        Poll::Ready(Ok(()))
    }

    /// Writes `bytes`, and keeps what does not go at once.
    fn write(&mut self, bytes: &[u8], to: &mut TcpStream, cx: &mut Context<'_>) -> io::Result<()> {
        let mut at = 0_usize;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            match Pin::new(&mut *to).poll_write(cx, rest)? {
                Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(wrote) => at = at.saturating_add(wrote),
                Poll::Pending => {
                    *self = Self { bytes: rest.to_vec(), at: 0 };
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

/// What a handshake left over.
#[derive(Debug, Default)]
pub(super) struct Leftover {
    /// What the peer sent with the end of its handshake.
    pub(super) plain: Vec<u8>,
    /// The begin of a record.
    pub(super) partial: Vec<u8>,
    /// The peer sends no more.
    pub(super) ended: bool,
}

impl<S: Side> Relay<S> {
    pub(super) fn new(tls: S, net: TcpStream, local: TcpStream, leftover: Leftover) -> Self {
        Self {
            tls,
            net,
            local,
            partial: leftover.partial,
            to_local: Rest { bytes: leftover.plain, at: 0 },
            to_net: Rest::default(),
            net_ended: leftover.ended,
            local_ended: false,
            local_told: false,
            net_told: false,
            moved: Instant::now(),
        }
    }

    /// Moves bytes until both sides are done, nothing moved for `idle`, or `cut` is heard. Whatever else ends it, the end of
    /// this process too, resets both connections: what was cut off must not look like an end, and what the kernel still holds
    /// of it is not sent.
    pub(super) async fn run(mut self, pool: &Pool, idle: Duration, mut cut: oneshot::Receiver<()>) -> End {
        drop((self.net.set_zero_linger(), self.local.set_zero_linger()));
        let mut asleep = pin!(sleep_until(self.moved + idle));
        let end = poll_fn(|cx| {
            match self.poll(cx, pool, &mut cut) {
                Poll::Ready(Ok(end)) => return Poll::Ready(end),
                Poll::Ready(Err(error)) => return Poll::Ready(End::Broken(error)),
                Poll::Pending => {}
            }
            while asleep.as_mut().poll(cx).is_ready() {
                let due = self.moved + idle;
                if due <= Instant::now() {
                    return Poll::Ready(End::Idle);
                }
                asleep.as_mut().reset(due);
            }
            Poll::Pending
        })
        .await;
        if let End::Done = end {
            // What the kernel still holds is to arrive.
            drop((close_in_order(&self.net), close_in_order(&self.local)));
        }
        end
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        pool: &Pool,
        cut: &mut oneshot::Receiver<()>,
    ) -> Poll<io::Result<End>> {
        loop {
            // Before each step, however busy it is. Whoever would cut it is gone, too: better closed.
            if Pin::new(&mut *cut).poll(cx).is_ready() {
                return Poll::Ready(Ok(End::Cut));
            }
            let (inward, outward) = (self.inward(cx, pool)?, self.outward(cx, pool)?);
            if self.local_told && self.net_told {
                return Poll::Ready(Ok(End::Done));
            }
            if inward.is_pending() && outward.is_pending() {
                return Poll::Pending;
            }
            self.moved = Instant::now();
        }
    }

    /// From the peer to local software: ready if something moved.
    fn inward(&mut self, cx: &mut Context<'_>, pool: &Pool) -> io::Result<Poll<()>> {
        if !self.to_local.is_empty() {
            return pending_or(self.to_local.flush(&mut self.local, cx));
        }
        if self.local_told {
            return Ok(Poll::Pending);
        }
        if self.net_ended {
            let told = pending_or(Pin::new(&mut self.local).poll_shutdown(cx))?;
            self.local_told = told.is_ready();
            return Ok(told);
        }
        if self.net.poll_read_ready(cx)?.is_pending() {
            return Ok(Poll::Pending);
        }
        pool.lend(|scratch| {
            let held = self.partial.len();
            let room = scratch.sealed.get_mut(..CHUNK).unwrap_or_default();
            if let Some(begin) = room.get_mut(..held) {
                begin.copy_from_slice(&self.partial);
            }
            let mut read = ReadBuf::new(room);
            read.advance(held);
            if Pin::new(&mut self.net).poll_read(cx, &mut read)?.is_pending() {
                return Ok(Poll::Pending);
            }
            let incoming = read.filled_mut();
            if incoming.len() == held {
                // Nobody who cuts the connection must be able to make half a message look whole.
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed without close_notify"));
            }
            let mut reply = Vec::new();
            let taken = take(&mut self.tls, incoming, &mut scratch.plain, &mut reply);
            self.partial = incoming.get(taken.used..).unwrap_or_default().to_vec();
            self.net_ended = taken.ended;
            self.reply(&reply, cx)?;
            if let Some(fault) = taken.fault {
                return Err(io::Error::new(io::ErrorKind::InvalidData, fault));
            }
            let plain = scratch.plain.get(..taken.plain).unwrap_or_default();
            self.to_local.write(plain, &mut self.local, cx)?;
            Ok(Poll::Ready(()))
        })
    }

    /// Sends what TLS itself has to say: a key update, or an alert.
    fn reply(&mut self, reply: &[u8], cx: &mut Context<'_>) -> io::Result<()> {
        match self.to_net.is_empty() {
            true => self.to_net.write(reply, &mut self.net, cx),
            false if self.to_net.bytes.len().saturating_add(reply.len()) <= 2 * CHUNK => {
                self.to_net.bytes.extend_from_slice(reply);
                Ok(())
            }
            false => Err(io::Error::other("the peer asks for more than it reads")),
        }
    }

    /// From local software to the peer: ready if something moved.
    fn outward(&mut self, cx: &mut Context<'_>, pool: &Pool) -> io::Result<Poll<()>> {
        if !self.to_net.is_empty() {
            return pending_or(self.to_net.flush(&mut self.net, cx));
        }
        if self.net_told {
            return Ok(Poll::Pending);
        }
        if self.local_ended {
            let told = pending_or(Pin::new(&mut self.net).poll_shutdown(cx))?;
            self.net_told = told.is_ready();
            return Ok(told);
        }
        if self.local.poll_read_ready(cx)?.is_pending() {
            return Ok(Poll::Pending);
        }
        pool.lend(|scratch| {
            let mut read = ReadBuf::new(&mut scratch.plain);
            if Pin::new(&mut self.local).poll_read(cx, &mut read)?.is_pending() {
                return Ok(Poll::Pending);
            }
            let sent = match read.filled().len() {
                0 => Sent::End,
                count => Sent::Bytes(count),
            };
            self.local_ended = matches!(sent, Sent::End);
            let sealed = seal(&mut self.tls, &mut self.partial, sent, scratch)
                .map_err(|fault| io::Error::new(io::ErrorKind::InvalidData, fault))?;
            let sealed = scratch.sealed.get(..sealed).unwrap_or_default();
            self.to_net.write(sealed, &mut self.net, cx)?;
            Ok(Poll::Ready(()))
        })
    }
}

/// What was written before the connection closes arrives.
#[expect(deprecated, reason = "it takes a time to linger back, and sets none that could block")]
fn close_in_order(stream: &TcpStream) -> io::Result<()> {
    stream.set_linger(None)
}

/// Errors apart.
fn pending_or(poll: Poll<io::Result<()>>) -> io::Result<Poll<()>> {
    match poll {
        Poll::Ready(result) => result.map(Poll::Ready),
        Poll::Pending => Ok(Poll::Pending),
    }
}
