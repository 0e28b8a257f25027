//! Streams of bytes that tests wrap.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use wsforge::runtime::Transport;
use wsforge::{ByteStream, CloseInfo};

/// A transport as a stream.
pub struct Wire(pub Box<dyn Transport>);

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let n = ready!(self.0.poll_read(cx, buf.initialize_unfilled()))?;
        buf.advance(n);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_write(cx, &[IoSlice::new(bytes)])
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_shutdown(cx)
    }
}

/// A WebSocket as a stream, by what it implements for the runtime.
pub enum Tunnel {
    #[cfg(feature = "smol")]
    Smol(ByteStream),
    #[cfg(feature = "tokio")]
    Tokio(ByteStream),
}

impl Tunnel {
    pub fn close_info(&self) -> Option<&CloseInfo> {
        match self {
            #[cfg(feature = "smol")]
            Self::Smol(stream) => stream.close_info(),
            #[cfg(feature = "tokio")]
            Self::Tokio(stream) => stream.close_info(),
        }
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            #[cfg(feature = "smol")]
            Self::Smol(stream) => {
                let room = buf.initialize_unfilled();
                let n = ready!(smol::io::AsyncRead::poll_read(Pin::new(stream), cx, room))?;
                buf.advance(n);
                Poll::Ready(Ok(()))
            }
            #[cfg(feature = "tokio")]
            Self::Tokio(stream) => AsyncRead::poll_read(Pin::new(stream), cx, buf),
        }
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            #[cfg(feature = "smol")]
            Self::Smol(stream) => smol::io::AsyncWrite::poll_write(Pin::new(stream), cx, bytes),
            #[cfg(feature = "tokio")]
            Self::Tokio(stream) => AsyncWrite::poll_write(Pin::new(stream), cx, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            #[cfg(feature = "smol")]
            Self::Smol(stream) => smol::io::AsyncWrite::poll_flush(Pin::new(stream), cx),
            #[cfg(feature = "tokio")]
            Self::Tokio(stream) => AsyncWrite::poll_flush(Pin::new(stream), cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            #[cfg(feature = "smol")]
            Self::Smol(stream) => smol::io::AsyncWrite::poll_close(Pin::new(stream), cx),
            #[cfg(feature = "tokio")]
            Self::Tokio(stream) => AsyncWrite::poll_shutdown(Pin::new(stream), cx),
        }
    }
}

/// A stream that counts its shutdowns, the first of which are not done at once.
pub(super) struct Farewells {
    pub(super) inner: DuplexStream,
    pub(super) hesitates: usize,
    pub(super) shutdowns: Arc<AtomicUsize>,
}

impl AsyncRead for Farewells {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for Farewells {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        assert_eq!(self.shutdowns.load(Ordering::Relaxed), 0, "nothing is written behind it");
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.hesitates > 0 {
            self.hesitates -= 1;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.shutdowns.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// One of tokio's streams as one of those that smol reads and writes.
#[cfg(feature = "smol")]
pub(super) struct Compat<T>(pub(super) T);

#[cfg(feature = "smol")]
impl<T: AsyncRead + Unpin> smol::io::AsyncRead for Compat<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut buf = ReadBuf::new(buf);
        let read = Pin::new(&mut self.0).poll_read(cx, &mut buf);
        read.map_ok(|()| buf.filled().len())
    }
}

#[cfg(feature = "smol")]
impl<T: AsyncWrite + Unpin> smol::io::AsyncWrite for Compat<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
