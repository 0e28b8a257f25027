use std::io::{self, IoSlice, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A transport in memory that is always ready: it gives the same bytes over and over, as many as are
/// asked for, and takes all that is written.
///
/// Reading copies, as a socket does. Writing does not: that copy is the kernel's, and the same for all.
#[derive(Debug, Default)]
pub struct Wire {
    source: Bytes,
    at: usize,
    recording: bool,
    /// What was written, if it is recorded.
    pub written: Vec<u8>,
}

impl Wire {
    /// Gives `source` over and over.
    pub fn new(source: impl Into<Bytes>) -> Self {
        Self { source: source.into(), ..Self::default() }
    }

    /// Gives nothing, and keeps what is written.
    pub fn recording() -> Self {
        Self { recording: true, ..Self::default() }
    }

    /// Reads into memory that nobody has written to before.
    pub fn read_buf(&mut self, buf: &mut impl BufMut) {
        buf.put_slice(self.next(buf.remaining_mut()));
    }

    fn next(&mut self, room: usize) -> &[u8] {
        if self.at == self.source.len() {
            self.at = 0;
        }
        let rest = &self.source[self.at..];
        let bytes = &rest[..rest.len().min(room)];
        self.at += bytes.len();
        bytes
    }

    fn take(&mut self, bytes: &[u8]) -> usize {
        if self.recording {
            self.written.extend_from_slice(bytes);
        }
        std::hint::black_box(bytes).len()
    }
}

impl Read for Wire {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let bytes = self.next(buf.len());
        buf[..bytes.len()].copy_from_slice(bytes);
        Ok(bytes.len())
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(self.take(bytes))
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(slices.iter().map(|slice| self.take(slice)).sum())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ReadBuf::put_slice(buf, self.next(buf.remaining()));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(self.write(bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(self.write_vectored(slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
