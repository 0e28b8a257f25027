//! Transports around transports.

use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use wsforge::runtime::Transport;

/// Counts the writes that were taken.
pub struct Counted {
    inner: Box<dyn Transport>,
    writes: Arc<AtomicUsize>,
}

impl Counted {
    pub fn new(inner: impl Transport) -> (Self, Arc<AtomicUsize>) {
        let writes = Arc::default();
        (Self::counting(inner, &writes), writes)
    }

    pub fn counting(inner: impl Transport, writes: &Arc<AtomicUsize>) -> Self {
        Self { inner: Box::new(inner), writes: writes.clone() }
    }
}

impl Transport for Counted {
    fn poll_read(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.inner.poll_read(cx, buf)
    }

    fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let n = self.inner.try_write(slices)?;
        self.writes.fetch_add(1, Ordering::Relaxed);
        Ok(n)
    }

    fn poll_write(&self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let n = ready!(self.inner.poll_write(cx, slices))?;
        self.writes.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(Ok(n))
    }

    fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.poll_flush(cx)
    }

    fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.poll_shutdown(cx)
    }

    fn abort(&self) {
        self.inner.abort();
    }

    fn peer_addr(&self) -> Option<SocketAddr> {
        self.inner.peer_addr()
    }
}

/// Reads and writes a few bytes at a time, and is not ready every other time it is asked.
pub struct Dribble {
    inner: Box<dyn Transport>,
    reads: Turns,
    writes: Turns,
}

impl Dribble {
    /// At most so many bytes at a time.
    pub fn new(inner: impl Transport, reads: usize, writes: usize) -> Self {
        Self { inner: Box::new(inner), reads: Turns::new(reads), writes: Turns::new(writes) }
    }
}

impl Transport for Dribble {
    fn poll_read(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let Some(most) = self.reads.next() else {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        };
        let len = buf.len().min(most);
        self.inner.poll_read(cx, &mut buf[..len])
    }

    fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let most = self.writes.next().ok_or(ErrorKind::WouldBlock)?;
        self.inner.try_write(&[cut(slices, most)])
    }

    fn poll_write(&self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let Some(most) = self.writes.next() else {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        };
        self.inner.poll_write(cx, &[cut(slices, most)])
    }

    fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.poll_flush(cx)
    }

    fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.poll_shutdown(cx)
    }

    fn abort(&self) {
        self.inner.abort();
    }

    fn peer_addr(&self) -> Option<SocketAddr> {
        self.inner.peer_addr()
    }
}

/// Never gets its farewell out. It counts who is gone for good.
pub struct Lingering {
    inner: Box<dyn Transport>,
    gone: Arc<AtomicUsize>,
}

impl Lingering {
    pub fn counting(inner: impl Transport, gone: &Arc<AtomicUsize>) -> Self {
        Self { inner: Box::new(inner), gone: gone.clone() }
    }
}

impl Transport for Lingering {
    fn poll_read(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.inner.poll_read(cx, buf)
    }

    fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.inner.try_write(slices)
    }

    fn poll_write(&self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.inner.poll_write(cx, slices)
    }

    fn poll_shutdown(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }

    fn abort(&self) {
        self.inner.abort();
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        self.gone.fetch_add(1, Ordering::Relaxed);
    }
}

fn cut<'a>(slices: &'a [IoSlice<'_>], most: usize) -> IoSlice<'a> {
    let slice = slices.iter().find(|slice| !slice.is_empty()).map_or(&[][..], |slice| slice);
    IoSlice::new(&slice[..slice.len().min(most)])
}

struct Turns {
    most: usize,
    taken: AtomicUsize,
}

impl Turns {
    fn new(most: usize) -> Self {
        Self { most, taken: AtomicUsize::new(0) }
    }

    /// How much may be taken now, in sizes that come round; every other time nothing.
    fn next(&self) -> Option<usize> {
        let turn = self.taken.fetch_add(1, Ordering::Relaxed);
        (turn % 2 == 1).then_some(1 + turn / 2 * 7 % self.most)
    }
}
