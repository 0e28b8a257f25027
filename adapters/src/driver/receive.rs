//! What a session is polled for, and who gets what it receives.

use std::ops::ControlFlow;

use wsforge_core::frame::Opcode;
use wsforge_core::{Chunk, Message};

use super::outbox::Piece;
use super::replies::Replies;
use super::slack::Slack;

/// What becomes of what is received.
pub(crate) trait Receive {
    /// What it stops with.
    type Break;

    /// Whether it keeps one message: a large one is then read into memory of its own.
    const KEEPS: bool = false;

    /// Keeps a message that was; only if it [does](Self::KEEPS).
    fn keep(&mut self, message: crate::Message) -> ControlFlow<Self::Break> {
        let _ = message;
        ControlFlow::Continue(())
    }

    /// How long the message is that it keeps; only if it [does](Self::KEEPS).
    fn kept(&self) -> usize {
        0
    }

    fn message(
        &mut self,
        message: Message<'_>,
        replies: &mut Replies<'_>,
    ) -> ControlFlow<Self::Break>;

    /// A ping, which has been answered, or a pong; not while something is waited for to be sent.
    fn control(
        &mut self,
        opcode: Opcode,
        payload: &[u8],
        replies: &mut Replies<'_>,
    ) -> ControlFlow<Self::Break> {
        let _ = (opcode, payload, replies);
        ControlFlow::Continue(())
    }

    /// A piece of a message; only if [pieces](Aim::Pieces) are asked for.
    fn chunk(&mut self, chunk: Chunk<'_>) -> ControlFlow<Self::Break> {
        let _ = chunk;
        ControlFlow::Continue(())
    }
}

/// Nothing comes of it.
#[derive(Debug)]
pub(crate) struct Nothing;

impl Receive for Nothing {
    type Break = ();

    fn message(&mut self, _: Message<'_>, _: &mut Replies<'_>) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// What a poll of a session is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Aim {
    /// To have everything written; what is received meanwhile is kept.
    Empty,
    /// To hand on what is received as it comes.
    Pieces,
    /// To get room for so many bytes that are to be sent; what is received meanwhile is kept.
    Room(Piece, usize),
    /// To hand on whole messages.
    Whole,
}

impl Aim {
    /// Whether what is received is kept, and not handed on.
    pub(super) fn keeps(self) -> bool {
        matches!(self, Self::Empty | Self::Room(..))
    }

    /// Whether it is the writer of a message who waits, and not somebody who has the socket again.
    pub(super) fn streams(self) -> bool {
        matches!(self, Self::Room(Piece::Fragment { .. }, _))
    }

    /// Hands on a message, or keeps it.
    #[inline(always)] // Moving it from place to place would be a good part of an echo.
    pub(super) fn hand_on<R: Receive>(
        self,
        message: Message<'_>,
        slack: &mut Option<Box<Slack>>,
        replies: &mut Replies<'_>,
        receiver: &mut R,
    ) -> ControlFlow<R::Break> {
        if !self.keeps() {
            return receiver.message(message, replies);
        }
        slack.get_or_insert_with(Slack::spare).keep(message);
        ControlFlow::Continue(())
    }

    /// As [`hand_on`](Self::hand_on), a piece of a message.
    pub(super) fn hand_on_chunk<R: Receive>(
        self,
        chunk: Chunk<'_>,
        slack: &mut Option<Box<Slack>>,
        replies: &mut Replies<'_>,
        receiver: &mut R,
    ) -> ControlFlow<R::Break> {
        match self {
            Self::Pieces => return receiver.chunk(chunk),
            Self::Whole => {
                if let Some(message) = slack.get_or_insert_with(Slack::spare).join(chunk) {
                    return receiver.message(message, replies);
                }
            }
            Self::Empty | Self::Room(..) => {
                slack.get_or_insert_with(Slack::spare).keep_chunk(chunk);
            }
        }
        ControlFlow::Continue(())
    }
}
