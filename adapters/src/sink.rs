use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use futures_sink::Sink;
use wsforge_core::CloseCode;

use crate::driver::halves::Half;
use crate::driver::outbox::{Piece, Room};
use crate::driver::turn;
use crate::error::Closed;
use crate::sender::push;
use crate::{Message, WebSocket};

/// Two tasks may have the [`Sink`] and this, as two halves of it.
impl Stream for WebSocket {
    type Item = Message;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        self.get_mut().poll_half(Half::Read, cx, Self::poll_recv)
    }
}

/// Messages are gathered until they are flushed, or too much of them is. Closing sends a Close with 1000
/// behind them; receive on to the end.
///
/// Two tasks may have the [`Stream`] and this, as two halves of it. For those who can do without the traits,
/// [`WebSocket::split`] is the simpler way.
impl Sink<Message> for WebSocket {
    type Error = SinkError;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SinkError>> {
        let this = self.get_mut();
        this.outbox().abandon_stream();
        while !this.outbox().has_room(Piece::Fed, 0) {
            ready!(this.poll_half(Half::Write, cx, |this, cx| this.poll_room(cx, Piece::Fed, 0)));
        }
        Poll::Ready(if this.outbox().is_closed() { Err(SinkError::Closed(None)) } else { Ok(()) })
    }

    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), SinkError> {
        match push(self.outbox(), Piece::Fed, &message, Room::Any) {
            Ok(_) => Ok(()),
            Err(_) => Err(SinkError::Closed(Some(message))),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SinkError>> {
        // What is in the way is known then.
        turn::flush();
        let flushed = self.get_mut().poll_half(Half::Write, cx, Self::poll_flushed);
        flushed.map_err(|Closed| SinkError::Closed(None))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SinkError>> {
        let this = self.get_mut();
        this.sender().close(CloseCode::NORMAL, "");
        let flushed = ready!(this.poll_half(Half::Write, cx, Self::poll_flushed));
        // After a closing handshake everything has left.
        let clean = this.close_info().is_some_and(|info| info.clean);
        Poll::Ready(if clean { Ok(()) } else { flushed.map_err(|Closed| SinkError::Closed(None)) })
    }
}

/// Why a sink takes no more.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SinkError {
    /// The connection is closing; a message that was not taken comes back.
    #[error("the connection is closed")]
    Closed(Option<Message>),
}
