use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use wsforge_core::hub::SlowConsumer;
use wsforge_core::{Body, CloseCode, Kind, Output};

use crate::Message;
use crate::driver::backlog::Ticket;
use crate::driver::outbox::{Outbox, Piece, Pushed, Refusal, Room};
use crate::driver::turn;
use crate::error::{PingError, SendError};
use wsforge_core::frame::{MAX_CONTROL_LEN, Opcode};

/// Sends to one peer, from anywhere: clone it as often as you like.
///
/// What it sends goes to the socket at once. What the socket refuses is written by whoever polls the
/// [`WebSocket`](crate::WebSocket) or [`Receiver`](crate::Receiver) of the connection; while nobody does, by
/// those who wait to [send](Self::send) more. Everything sent, by whomever, leaves in the order in which it
/// was accepted.
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
        let message = message.into();
        let (kind, body) = parts(&message);
        let mut waiting = Waiting::new(&self.outbox);
        let pushed = poll_fn(|cx| waiting.poll(kind.into(), &body, cx)).await;
        pushed.map_err(|refusal| refused(refusal, message))
    }

    /// As [`send`](Self::send), but waits for so long at the most.
    ///
    /// # Errors
    ///
    /// [`SendError::Full`] if there was no room by then, and [`SendError::Closed`], with the message.
    ///
    /// # Cancel safety
    ///
    /// If it is dropped before it is ready, the message has not been sent.
    pub async fn send_within(
        &self,
        message: impl Into<Message>,
        patience: Duration,
    ) -> Result<(), SendError> {
        let message = message.into();
        let (kind, body) = parts(&message);
        let pushed = push_within(&self.outbox, kind.into(), &body, patience).await;
        pushed.map_err(|refusal| refused(refusal, message))
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
            Err(refusal) => Err(refused(refusal, message)),
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
        match self.outbox.push(Piece::Control, Opcode::Ping, &payload.into(), Room::Needed) {
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

    /// Says what happens when too much waits for the peer of what is sent to many, whatever its groups and
    /// its server say; `None` for that.
    pub fn set_slow_consumer(&self, policy: Option<SlowConsumer>) {
        self.outbox.set_policy(policy);
    }

    /// How many messages to many the peer has missed, as they were dropped, since this was asked.
    pub fn take_lagged(&self) -> u64 {
        self.outbox.take_lagged()
    }

    /// The number of bytes that wait for the peer.
    pub fn pending(&self) -> usize {
        self.outbox.pending()
    }

    /// Whether nothing more can be sent.
    pub fn is_closed(&self) -> bool {
        self.outbox.is_closed()
    }
}

fn refused(refusal: Refusal, message: Message) -> SendError {
    match refusal {
        Refusal::Full => SendError::Full(message),
        _ => SendError::Closed(message),
    }
}

/// One who waits for room; until it gives up.
struct Waiting<'a> {
    outbox: &'a Arc<Outbox>,
    ticket: Option<Ticket>,
}

impl<'a> Waiting<'a> {
    const fn new(outbox: &'a Arc<Outbox>) -> Self {
        Self { outbox, ticket: None }
    }

    fn poll(
        &mut self,
        opcode: Opcode,
        body: &Body<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Refusal>> {
        let pushed = self.poll_push(opcode, body, cx);
        if pushed.is_pending() && self.outbox.poll_flush_for_owner(cx).is_ready() {
            return self.poll_push(opcode, body, cx);
        }
        pushed
    }

    fn poll_push(
        &mut self,
        opcode: Opcode,
        body: &Body<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Refusal>> {
        let room = Room::Awaited(&mut self.ticket, cx);
        match push_body(self.outbox, Piece::Message, opcode, body.clone(), room) {
            Err(Refusal::Full) => Poll::Pending,
            pushed => Poll::Ready(pushed.map(drop)),
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.outbox.give_up(ticket);
        }
    }
}

/// Sends a message when there is room, which is waited for so long at the most.
pub(crate) async fn push_within(
    outbox: &Arc<Outbox>,
    opcode: Opcode,
    body: &Body<'_>,
    patience: Duration,
) -> Result<(), Refusal> {
    let mut late = outbox.endpoint.timer.sleep(patience);
    let mut waiting = Waiting::new(outbox);
    poll_fn(|cx| match waiting.poll(opcode, body, cx) {
        Poll::Pending => late.as_mut().poll(cx).map(|()| Err(Refusal::Full)),
        pushed => pushed,
    })
    .await
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
    let pushed = outbox.push(piece, opcode, &body, room)?;
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

#[cfg(all(test, not(wsforge_loom)))]
mod tests {
    use std::pin::pin;

    use super::*;
    use crate::Options;
    use crate::driver::outbox::mock::{Count, Pipe, frames, opened};

    /// A sender whose peer reads nothing, and for whom too much waits.
    fn stalled() -> (Sender, Pipe) {
        let (outbox, pipe) = opened(Options::default());
        pipe.room(0);
        let sender = Sender { outbox };
        while sender.try_send(vec![0; 10_000]).is_ok() {}
        (sender, pipe)
    }

    /// Its owner is there, to write when there is room.
    fn stalled_and_owned() -> (Sender, Pipe, Count) {
        let (sender, pipe) = stalled();
        let owner = Count::default();
        assert!(sender.outbox.poll_flush(&mut owner.context()).is_pending());
        (sender, pipe, owner)
    }

    #[test]
    fn nothing_is_left_of_those_who_give_up() {
        let (sender, pipe, owner) = stalled_and_owned();
        let (given_up, waits) = (Count::default(), Count::default());
        let (unused, mut waiting) = (given_up.held(), pin!(sender.send(vec![0; 10_000])));
        assert!(waiting.as_mut().poll(&mut waits.context()).is_pending());
        for _ in 0..100 {
            let mut sending = Box::pin(sender.send(vec![0; 10_000]));
            for _ in 0..3 {
                assert!(sending.as_mut().poll(&mut given_up.context()).is_pending());
                assert!(given_up.held() > unused);
            }
            drop(sending);
            assert_eq!(given_up.held(), unused);
        }
        pipe.room(usize::MAX);
        assert!(sender.outbox.poll_flush(&mut owner.context()).is_ready());
        assert_eq!((given_up.get(), waits.get()), (0, 1));
        assert!(waiting.as_mut().poll(&mut waits.context()).is_ready());
        assert!(!sender.outbox.wants_attention());
    }

    #[test]
    fn who_sends_much_behind_little_is_woken_when_there_is_more_room_and_not_before() {
        let (outbox, pipe) = opened(Options::default());
        pipe.room(0);
        let sender = Sender { outbox };
        sender.try_send(vec![0; 1000]).unwrap();
        let count = Count::default();
        let mut sending = pin!(sender.send(vec![0; 300_000]));
        assert!(sending.as_mut().poll(&mut count.context()).is_pending());
        assert_eq!(count.get(), 0);
        pipe.room(usize::MAX);
        assert_eq!(count.get(), 1);
        assert!(sending.as_mut().poll(&mut count.context()).is_ready());
    }

    /// As in a proxy, where whoever receives waits for another peer. Here, no timer comes to the rescue.
    #[test]
    fn who_waits_writes_for_an_owner_that_does_something_else() {
        let (sender, pipe) = stalled();
        let (first, second) = (Count::default(), Count::default());
        let mut sendings = [(); 2].map(|()| Box::pin(sender.send(vec![1; 10_000])));
        assert!(sendings[0].as_mut().poll(&mut first.context()).is_pending());
        assert!(sendings[1].as_mut().poll(&mut second.context()).is_pending());
        for room in [1, usize::MAX] {
            pipe.room(room);
            assert!(second.get() > 0, "the transport wakes who polled it last");
            assert!(sendings[1].as_mut().poll(&mut second.context()).is_ready() == (room > 1));
        }
        assert_eq!(first.get(), 1);
        assert!(sendings[0].as_mut().poll(&mut first.context()).is_ready());
        assert_eq!((frames(&pipe.written()).len() > 2, sender.pending()), (true, 0));
    }

    #[test]
    fn an_owner_that_is_there_writes_by_itself() {
        let (sender, pipe, owner) = stalled_and_owned();
        let count = Count::default();
        let mut sending = pin!(sender.send(vec![0; 10_000]));
        assert!(sending.as_mut().poll(&mut count.context()).is_pending());
        pipe.room(usize::MAX);
        assert_eq!((owner.get(), count.get()), (1, 0));
        assert!(sender.outbox.poll_flush(&mut owner.context()).is_ready());
        assert_eq!(count.get(), 1);
    }

    #[test]
    fn each_of_those_who_wait_is_woken_where_it_was_polled_last() {
        let (sender, pipe, owner) = stalled_and_owned();
        let counts = [(); 3].map(|()| Count::default());
        let mut sendings = [(); 2].map(|()| Box::pin(sender.send(vec![0; 10_000])));
        assert!(sendings[0].as_mut().poll(&mut counts[0].context()).is_pending());
        assert!(sendings[1].as_mut().poll(&mut counts[1].context()).is_pending());
        assert!(sendings[0].as_mut().poll(&mut counts[2].context()).is_pending());
        pipe.room(usize::MAX);
        assert!(sender.outbox.poll_flush(&mut owner.context()).is_ready());
        assert_eq!(counts.each_ref().map(Count::get), [0, 1, 1]);
        // One who was woken before and waits again is one of those.
        pipe.room(0);
        while sender.try_send(vec![0; 10_000]).is_ok() {}
        assert!(sender.outbox.poll_flush(&mut owner.context()).is_pending());
        assert!(sendings[0].as_mut().poll(&mut counts[0].context()).is_pending());
        drop(sendings);
        pipe.room(usize::MAX);
        assert!(sender.outbox.poll_flush(&mut owner.context()).is_ready());
        assert_eq!(counts.each_ref().map(Count::get), [0, 1, 1]);
    }
}
