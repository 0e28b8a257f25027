//! Streams of bytes, both ways.

use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll};

use smol::io::{AsyncRead, AsyncWrite};

use crate::ByteStream;
use crate::driver::sync::lock_plain;
use crate::runtime::Transport;

/// Any stream of bytes as a transport: one with encryption, or one in memory.
///
/// Only the connection's own task writes to it, so what others send wakes that task.
#[derive(Debug)]
pub struct Io<T>(Mutex<Option<T>>);

impl<T> Io<T> {
    /// Makes a transport of `inner`.
    pub const fn new(inner: T) -> Self {
        Self(Mutex::new(Some(inner)))
    }

    /// Does something with the stream, unless the connection has been aborted.
    fn with<R>(&self, f: impl FnOnce(Pin<&mut T>) -> Poll<io::Result<R>>) -> Poll<io::Result<R>>
    where
        T: Unpin,
    {
        match &mut *lock_plain(&self.0) {
            Some(inner) => f(Pin::new(inner)),
            None => Poll::Ready(Err(ErrorKind::ConnectionAborted.into())),
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Transport for Io<T> {
    fn poll_read(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.with(|inner| inner.poll_read(cx, buf))
    }

    fn poll_write(&self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.with(|inner| inner.poll_write_vectored(cx, slices))
    }

    fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|inner| inner.poll_flush(cx))
    }

    fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|inner| inner.poll_close(cx))
    }

    fn abort(&self) {
        // Dropped when nothing is locked: it is somebody else's.
        let inner = lock_plain(&self.0).take();
        drop(inner);
    }
}

impl AsyncRead for ByteStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Self::poll_read(self.get_mut(), cx, buf)
    }
}

impl AsyncWrite for ByteStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Self::poll_write(self.get_mut(), cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Self::poll_flush(self.get_mut(), cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Self::poll_close(self.get_mut(), cx)
    }
}
