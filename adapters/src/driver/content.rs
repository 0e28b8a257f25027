//! The content of a plain HTTP answer, which may be longer than what a peer is worth in memory.

use std::fmt;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use wsforge_core::Output;

use super::outbox::Outbox;
use super::timer::Tick;
use crate::runtime::BoxFuture;

/// As much is in memory of one peer's content. A socket takes it at once, and a disk gives it at once.
pub(crate) const PIECE: usize = 64 * 1024;

/// Pieces that are written before it is somebody else's turn.
const PIECES_PER_POLL: usize = 16;

/// Gives a piece of the content from an offset on.
type Read = dyn Fn(u64) -> BoxFuture<io::Result<Bytes>> + Send + Sync;

/// What is read a piece at a time.
#[derive(Clone)]
pub(crate) struct Content {
    pub(crate) len: u64,
    read: Arc<Read>,
}

impl Content {
    pub(crate) fn new(
        len: u64,
        read: impl Fn(u64) -> BoxFuture<io::Result<Bytes>> + Send + Sync + 'static,
    ) -> Self {
        Self { len, read: Arc::new(read) }
    }
}

impl From<Bytes> for Content {
    fn from(bytes: Bytes) -> Self {
        Self::new(bytes.len() as u64, move |at| {
            // It is within the bytes, as their length is that of the content.
            let at = at as usize;
            let piece = bytes.slice(at..bytes.len().min(at + PIECE));
            Box::pin(std::future::ready(Ok(piece)))
        })
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Content").field("len", &self.len).finish_non_exhaustive()
    }
}

/// Content on its way to a peer.
pub(crate) struct Streaming {
    content: Content,
    /// How much of it has been handed to the outbox.
    at: u64,
    reading: Option<BoxFuture<io::Result<Bytes>>>,
    /// How much waited for the peer when it was last looked at.
    pending: usize,
    /// When it has to be done, however slowly the peer takes it.
    end: Tick,
}

impl Streaming {
    pub(crate) fn new(content: Content, outbox: &Outbox) -> Self {
        let endpoint = &outbox.endpoint;
        let max_age = endpoint.options.max_age;
        let end = max_age.map_or(Tick::NEVER, |age| Tick::ceil(endpoint.timer.now() + age));
        let this = Self { content, at: 0, reading: None, pending: outbox.pending(), end };
        this.progressed(outbox);
        this
    }

    /// Writes it all; what is not written yet is in `self` and the outbox.
    ///
    /// A piece is read when the one before has been taken. A peer that takes nothing for too long is cut
    /// off by the timer, and so is one whose content does not come.
    pub(crate) fn poll(
        &mut self,
        outbox: &Arc<Outbox>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        for _ in 0..PIECES_PER_POLL {
            let flushed = outbox.poll_flush(cx);
            let pending = outbox.pending();
            if pending < self.pending {
                self.progressed(outbox);
            }
            self.pending = pending;
            ready!(flushed).map_err(|_| ErrorKind::BrokenPipe)?;
            let left = self.content.len - self.at;
            if left == 0 {
                return Poll::Ready(Ok(()));
            }
            let reading = self.reading.get_or_insert_with(|| (self.content.read)(self.at));
            let read = ready!(reading.as_mut().poll(cx));
            self.reading = None;
            let mut piece = read?;
            if piece.is_empty() {
                // The peer has been promised more, and sees by the length that it does not come.
                return Poll::Ready(Err(ErrorKind::UnexpectedEof.into()));
            }
            piece.truncate(usize::try_from(left).unwrap_or(usize::MAX));
            self.at += piece.len() as u64;
            let mut output = Output::new();
            output.put_shared(piece);
            outbox.send_own(&mut output, true);
            self.pending = outbox.pending();
            self.progressed(outbox);
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// The peer has taken something, and has time again.
    fn progressed(&self, outbox: &Outbox) {
        let endpoint = &outbox.endpoint;
        let stalled = Tick::ceil(endpoint.timer.now() + endpoint.options.write_timeout);
        outbox.finish_by(stalled.min(self.end));
    }
}

impl fmt::Debug for Streaming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { content, at, .. } = self;
        f.debug_struct("Streaming")
            .field("content", content)
            .field("at", at)
            .finish_non_exhaustive()
    }
}
