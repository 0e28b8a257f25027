use std::fmt;
use std::io::{self, ErrorKind};
use std::ops::ControlFlow;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use wsforge_core::frame::Opcode;
use wsforge_core::{Body, Chunk, CloseCode, Message};

use crate::driver::halves::Half;
use crate::driver::outbox::{Piece, Refusal, Room};
use crate::driver::receive::{Aim, Nothing, Receive};
use crate::driver::replies::Replies;
use crate::driver::turn;
use crate::sender::push_body;
use crate::{CloseInfo, Sender, WebSocket};

/// A [`WebSocket`] as a stream of bytes, for tunnels: what is written leaves in binary messages, and what
/// is read are the bytes of the messages that arrive, of either kind, without their boundaries.
///
/// With the feature `tokio` it is an `AsyncRead` and `AsyncWrite` of tokio, with `smol` one of smol. The two
/// halves may be used by two tasks. Like the `WebSocket` itself it makes progress only while one of them is
/// polled: keep reading, or pings stay unanswered.
///
/// A WebSocket has no half-closed state that lasts. Closing the writing side sends a Close with 1000: what
/// the peer sends before it has read that still arrives, and it cannot send more. Within
/// [`Config::close_timeout`](crate::proto::Config::close_timeout) all is over, so let the two ends of a
/// tunnel agree on who has said everything. A Close of the peer, whatever its code, is the end of what is
/// read; an end without one is [`ErrorKind::UnexpectedEof`].
///
/// With [`Delivery::Chunks`](crate::proto::Delivery::Chunks) the bytes of a long message are read as they
/// come, and none of it is kept.
pub struct ByteStream {
    socket: WebSocket,
    sender: Sender,
    /// What is left of what was received last.
    rest: Bytes,
}

/// The most that is sent as one message. Whoever receives it may have limits, and waits for its end.
const MAX_MESSAGE_LEN: usize = 64 * 1024;

impl ByteStream {
    pub(crate) fn new(socket: WebSocket) -> Self {
        let sender = socket.sender();
        Self { socket, sender, rest: Bytes::new() }
    }

    /// Reads some bytes; 0 at the peer's Close.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::UnexpectedEof`] if the connection has ended without a Close.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        if !self.rest.is_empty() || buf.is_empty() {
            let len = self.rest.len().min(buf.len());
            buf[..len].copy_from_slice(&self.rest.split_to(len));
            return Poll::Ready(Ok(len));
        }
        let Self { socket, rest, .. } = self;
        let read = |socket: &mut WebSocket, cx: &mut Context<'_>| {
            socket.poll_each(cx, Aim::Pieces, &mut Fill { buf, rest })
        };
        Poll::Ready(match ready!(socket.poll_half(Half::Read, cx, read)) {
            Some(len) => Ok(len),
            None => self.end().map(|()| 0),
        })
    }

    /// Sends some of `bytes` as a message. It waits as long as too much waits for the peer.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BrokenPipe`] if the connection is closing.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let bytes = &bytes[..bytes.len().min(MAX_MESSAGE_LEN)];
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        loop {
            let body = Body::Copy(bytes);
            let outbox = self.socket.outbox();
            match push_body(outbox, Piece::Message, Opcode::Binary, body, Room::Needed) {
                Ok(_) => {
                    let len = bytes.len();
                    return self.socket.poll_half(Half::Write, cx, |socket, cx| {
                        socket.outbox().write_through(cx);
                        Poll::Ready(Ok(len))
                    });
                }
                Err(Refusal::Full) => ready!(self.work(cx, Aim::Room(Piece::Message, bytes.len()))),
                Err(_) => return Poll::Ready(Err(ErrorKind::BrokenPipe.into())),
            }
        }
    }

    /// Waits until all that was written has left.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BrokenPipe`] if the connection ended before.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        turn::flush();
        self.socket.outbox().flush_now();
        while self.socket.outbox().pending() > 0 {
            ready!(self.work(cx, Aim::Empty));
        }
        let gone = self.socket.outbox().phase().is_gone();
        // After a closing handshake everything has.
        let clean = self.socket.close_info().is_some_and(|info| info.clean);
        Poll::Ready(if gone && !clean { Err(ErrorKind::BrokenPipe.into()) } else { Ok(()) })
    }

    /// Sends a Close with 1000 behind all that was written, and waits until it has left. Read on to the end.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BrokenPipe`] if the connection ended before.
    pub fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.sender.close(CloseCode::NORMAL, "");
        self.poll_flush(cx)
    }

    /// How the connection ended, once it has.
    pub fn close_info(&self) -> Option<&CloseInfo> {
        self.socket.close_info()
    }

    /// Drives the connection for the half that writes.
    fn work(&mut self, cx: &mut Context<'_>, aim: Aim) -> Poll<()> {
        self.socket.poll_half(Half::Write, cx, |socket, cx| {
            socket.poll_each(cx, aim, &mut Nothing).map(|_| ())
        })
    }

    /// Whether the end is a proper one.
    fn end(&self) -> io::Result<()> {
        match self.socket.close_info() {
            Some(info) if info.clean => Ok(()),
            Some(CloseInfo { error: Some(error), .. }) => {
                Err(io::Error::new(ErrorKind::UnexpectedEof, error.to_string()))
            }
            _ => Err(ErrorKind::UnexpectedEof.into()),
        }
    }
}

impl fmt::Debug for ByteStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByteStream").field("socket", &self.socket).finish_non_exhaustive()
    }
}

/// Fills a buffer, and keeps the rest.
struct Fill<'a> {
    buf: &'a mut [u8],
    rest: &'a mut Bytes,
}

impl Fill<'_> {
    fn take(&mut self, bytes: &[u8]) -> ControlFlow<usize> {
        if bytes.is_empty() {
            return ControlFlow::Continue(());
        }
        let (now, later) = bytes.split_at(bytes.len().min(self.buf.len()));
        self.buf[..now.len()].copy_from_slice(now);
        *self.rest = Bytes::copy_from_slice(later);
        ControlFlow::Break(now.len())
    }
}

impl Receive for Fill<'_> {
    type Break = usize;

    fn message(&mut self, message: Message<'_>, _: &mut Replies<'_>) -> ControlFlow<usize> {
        self.take(message.as_bytes())
    }

    fn chunk(&mut self, chunk: Chunk<'_>) -> ControlFlow<usize> {
        self.take(chunk.payload)
    }
}
