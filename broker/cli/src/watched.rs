//! A connection that remembers the TLS alert it ended with.
//!
//! In TLS 1.3 a server refuses a client's certificate after the client believes the handshake done.
//! The gRPC channel then only knows that its connection closed; this is where the reason is kept.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use rustls::AlertDescription;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The alert that a connection ended with, if it did.
#[derive(Clone, Debug, Default)]
pub(crate) struct LastAlert(Arc<OnceLock<AlertDescription>>);

impl LastAlert {
    /// Why the connection is no more.
    pub(crate) fn error(&self) -> io::Error {
        match self.0.get() {
            Some(alert) => io::Error::other(rustls::Error::AlertReceived(*alert)),
            None => io::Error::other("the broker closed the connection"),
        }
    }

    fn note(&self, error: &io::Error) {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref());
        if let Some(rustls::Error::AlertReceived(alert)) = tls {
            // The first alert is the reason; a later one follows from it.
            let _ = self.0.set(*alert);
        }
    }
}

/// A stream whose fatal alert is kept in a [`LastAlert`].
#[derive(Debug)]
pub(crate) struct Watched<S> {
    stream: S,
    alert: LastAlert,
}

impl<S> Watched<S> {
    /// Watches `stream`.
    pub(crate) const fn new(stream: S, alert: LastAlert) -> Self {
        Self { stream, alert }
    }

    fn noted<T>(&self, result: io::Result<T>) -> Poll<io::Result<T>> {
        if let Err(error) = &result {
            self.alert.note(error);
        }
        Poll::Ready(result)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let result = ready!(Pin::new(&mut self.stream).poll_read(context, buffer));
        self.noted(result)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = ready!(Pin::new(&mut self.stream).poll_write(context, bytes));
        self.noted(result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = ready!(Pin::new(&mut self.stream).poll_flush(context));
        self.noted(result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
