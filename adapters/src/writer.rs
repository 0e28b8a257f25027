use std::task::{Context, Poll, ready};

use bytes::Bytes;
use wsforge_core::Kind;
use wsforge_core::frame::Opcode;

use crate::WebSocket;
use crate::driver::outbox::{Piece, Refusal, Room};
use crate::driver::turn;
use crate::error::Closed;

/// A message that is being sent in pieces, see [`WebSocket::stream`].
///
/// It ends with [`finish`](Self::finish). Dropped before, it leaves the peer with a part of a message, so
/// the connection is closed with 1011; the same happens to one that is [forgotten](std::mem::forget), when
/// the socket is used again.
#[derive(Debug)]
#[must_use = "the message has to be finished"]
pub struct MessageWriter<'a> {
    socket: &'a mut WebSocket,
    /// That of the next fragment: the first says what the message is.
    opcode: Opcode,
    finished: bool,
}

impl<'a> MessageWriter<'a> {
    pub(crate) fn begin(socket: &'a mut WebSocket, kind: Kind) -> Result<Self, Closed> {
        turn::flush();
        socket.outbox().abandon_stream();
        socket.outbox().begin_stream().map_err(|_| Closed)?;
        Ok(Self { socket, opcode: kind.into(), finished: false })
    }

    /// Sends a piece, as a fragment of its own. A text may be cut anywhere, but must be UTF-8 as a whole.
    /// It waits as [`WebSocket::send`] does.
    ///
    /// # Errors
    ///
    /// [`Closed`] if the connection is closing.
    ///
    /// # Cancel safety
    ///
    /// If it is dropped before it is ready, the piece has not been sent.
    pub async fn write(&mut self, piece: impl Into<Bytes>) -> Result<(), Closed> {
        self.put(piece.into(), false).await
    }

    /// Ends the message.
    ///
    /// # Errors
    ///
    /// [`Closed`] if the connection is closing.
    ///
    /// # Cancel safety
    ///
    /// If it is dropped before it is ready, so is the writer: the connection is closed with 1011.
    pub async fn finish(mut self) -> Result<(), Closed> {
        self.put(Bytes::new(), true).await
    }

    async fn put(&mut self, piece: Bytes, last: bool) -> Result<(), Closed> {
        let Self { socket, opcode, finished } = self;
        let fragment = Piece::Fragment { last };
        let len = piece.len();
        let body = piece.into();
        let put = |socket: &mut WebSocket, cx: &mut Context<'_>| loop {
            match socket.outbox().push(fragment, *opcode, &body, Room::Needed) {
                Ok(_) => {
                    *opcode = Opcode::Continuation;
                    *finished = last;
                    socket.outbox().write_through(cx);
                    return Poll::Ready(Ok(()));
                }
                Err(Refusal::Full) => ready!(socket.poll_room(cx, fragment, len)),
                Err(_) => return Poll::Ready(Err(Closed)),
            }
        };
        socket.attend(put).await
    }
}

impl Drop for MessageWriter<'_> {
    fn drop(&mut self) {
        if !self.finished {
            turn::flush();
            self.socket.outbox().abandon_stream();
        }
    }
}
