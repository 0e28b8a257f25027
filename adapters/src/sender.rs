use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use wsforge_core::{Body, CloseCode, Kind, Output};

use crate::Message;
use crate::driver::outbox::{Outbox, Piece, Pushed, Refusal, Room};
use crate::driver::turn;
use crate::error::{PingError, SendError};
use wsforge_core::frame::{MAX_CONTROL_LEN, Opcode};

/// Sends to one peer, from anywhere: clone it as often as you like.
///
/// What it sends goes to the socket at once. What the socket refuses is written by whoever polls the
/// [`WebSocket`](crate::WebSocket) or [`Receiver`](crate::Receiver) of the connection. Everything sent,
/// by whomever, leaves in the order in which it was accepted.
#[derive(Clone, Debug)]
pub struct Sender {
    pub(crate) outbox: Arc<Outbox>,
}

impl Sender {
    /// Sends a message, and waits as long as too much waits for the peer.
    ///
    /// # Errors
    ///
    /// [`SendError::Closed`] with the message, if the connection is closing.
    ///
    /// # Cancel safety
    ///
    /// If it is dropped before it is ready, the message has not been sent.
    pub async fn send(&self, message: impl Into<Message>) -> Result<(), SendError> {
        let mut message = Some(message.into());
        poll_fn(|cx| self.poll_send(cx, &mut message)).await
    }

    /// Sends a message, unless too much waits for the peer.
    ///
    /// # Errors
    ///
    /// [`SendError::Full`] and [`SendError::Closed`], with the message.
    pub fn try_send(&self, message: impl Into<Message>) -> Result<(), SendError> {
        let message = message.into();
        match push(&self.outbox, Piece::Message, &message, Room::Needed) {
            Ok(_) => Ok(()),
            Err(Refusal::Full) => Err(SendError::Full(message)),
            Err(_) => Err(SendError::Closed(message)),
        }
    }

    /// Sends a ping. Any answer shows that the peer is alive; the connection pings by itself, too.
    ///
    /// # Errors
    ///
    /// [`PingError`].
    pub fn ping(&self, payload: &[u8]) -> Result<(), PingError> {
        if payload.len() > MAX_CONTROL_LEN {
            return Err(PingError::TooLong);
        }
        match self.outbox.push(Piece::Control, Opcode::Ping, payload.into(), Room::Needed) {
            // One for whom much waits is known to be slow.
            Ok(_) | Err(Refusal::Full) => Ok(()),
            Err(_) => Err(PingError::Closed),
        }
    }

    /// Starts the closing handshake behind all that has been sent; the receiver sees its end. It does
    /// nothing if one side has closed before.
    ///
    /// `reason` is cut at 123 bytes, between characters.
    pub fn close(&self, code: CloseCode, reason: &str) {
        turn::flush();
        self.outbox.close(code, reason);
    }

    /// The number of bytes that wait for the peer.
    pub fn pending(&self) -> usize {
        self.outbox.pending()
    }

    /// Whether nothing more can be sent.
    pub fn is_closed(&self) -> bool {
        self.outbox.is_closed()
    }

    pub(crate) fn poll_send(
        &self,
        cx: &mut Context<'_>,
        message: &mut Option<Message>,
    ) -> Poll<Result<(), SendError>> {
        let Some(sent) = message.take() else { return Poll::Ready(Ok(())) };
        match push(&self.outbox, Piece::Message, &sent, Room::Awaited(cx)) {
            Ok(_) => Poll::Ready(Ok(())),
            Err(Refusal::Full) => {
                *message = Some(sent);
                Poll::Pending
            }
            Err(_) => Poll::Ready(Err(SendError::Closed(sent))),
        }
    }
}

/// Sends a message, and sees to it that it leaves.
pub(crate) fn push(
    outbox: &Arc<Outbox>,
    piece: Piece,
    message: &Message,
    room: Room<'_, '_>,
) -> Result<Pushed, Refusal> {
    let (kind, body) = parts(message);
    push_body(outbox, piece, kind.into(), body, room)
}

/// As [`push`], without owning the message.
pub(crate) fn push_body(
    outbox: &Arc<Outbox>,
    piece: Piece,
    opcode: Opcode,
    body: Body<'_>,
    room: Room<'_, '_>,
) -> Result<Pushed, Refusal> {
    if turn::has_plans() {
        turn::flush();
    }
    // What the owner has gathered goes first.
    turn::uncork();
    let pushed = outbox.push(piece, opcode, body, room)?;
    if pushed == Pushed::Gathered {
        turn::gathered(outbox);
    }
    Ok(pushed)
}

/// Short messages are copied, where sharing them would cost more.
fn parts(message: &Message) -> (Kind, Body<'_>) {
    let bytes = message.as_bytes();
    if bytes.len() <= Output::COPY_LIMIT {
        return (message.kind(), Body::Copy(bytes));
    }
    (message.kind(), Body::Shared(message.clone().into_bytes()))
}
