use std::cell::Cell;
use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;

use wsforge_core::{Chunk, Kind, Message, Output, Payload};

use super::halves::Tasks;
use crate::CloseInfo;

/// What a session has only now and then: what it has read but not handed on, and how it ended.
#[derive(Debug, Default)]
pub(crate) struct Slack {
    /// Bytes that have been read and not decoded, from `at` on.
    pub(crate) parked: Vec<u8>,
    pub(crate) at: usize,
    /// Messages that arrived while their receiver was sending.
    pub(crate) inbox: VecDeque<Kept>,
    pub(crate) inbox_bytes: usize,
    /// The message that is being put together from chunks, for a receiver of whole ones.
    pub(crate) partial: Vec<u8>,
    /// The answer to the peer's Close, which came while something was being sent or kept: who closes
    /// behind what it has sent gets the answers to that first.
    pub(crate) parting: Option<Output>,
    /// What the peer's Close said.
    pub(crate) reason: String,
    pub(crate) half_closed: bool,
    pub(crate) info: Option<CloseInfo>,
    /// If there are two tasks that poll.
    pub(crate) tasks: Option<Arc<Tasks>>,
}

/// Something received that waits.
#[derive(Debug)]
pub(crate) enum Kept {
    Chunk { kind: Kind, first: bool, last: bool, payload: Vec<u8> },
    Message(Message<'static>),
}

impl Kept {
    /// The memory that it takes: even messages without bytes take some.
    pub(crate) fn size(&self) -> usize {
        let payload = match self {
            Self::Chunk { payload, .. } => payload.len(),
            Self::Message(message) => message.as_bytes().len(),
        };
        size_of::<Self>() + payload
    }
}

impl Slack {
    const KEPT_CAPACITY: usize = 64 * 1024;

    pub(crate) fn spare() -> Box<Self> {
        SPARE.take().unwrap_or_default()
    }

    /// Keeps its memory for the next on this thread, if it is of no more use here.
    pub(crate) fn recycle_if_idle(slack: &mut Option<Box<Self>>) {
        if slack.as_ref().is_some_and(|slack| slack.is_idle())
            && let Some(mut slack) = slack.take()
            && slack.parked.capacity() <= Self::KEPT_CAPACITY
        {
            slack.parked.clear();
            slack.at = 0;
            SPARE.set(Some(slack));
        }
    }

    /// All but the last `left` of the bytes that were parked have been decoded.
    #[inline]
    pub(crate) fn unpark(&mut self, left: usize) {
        self.at = self.parked.len() - left;
        if left == 0 {
            self.parked.clear();
            self.parked.shrink_to(Self::KEPT_CAPACITY);
            self.at = 0;
        }
    }

    /// Keeps a message that nobody receives now.
    pub(crate) fn keep(&mut self, message: Message<'_>) {
        self.push(Kept::Message(message.into_owned()));
    }

    /// Keeps a piece of one.
    pub(crate) fn keep_chunk(&mut self, Chunk { kind, first, last, payload }: Chunk<'_>) {
        self.push(Kept::Chunk { kind, first, last, payload: payload.to_vec() });
    }

    fn push(&mut self, kept: Kept) {
        self.inbox_bytes += kept.size();
        self.inbox.push_back(kept);
    }

    /// Puts a message together; gives it with its last chunk.
    pub(crate) fn join(&mut self, chunk: Chunk<'_>) -> Option<Message<'static>> {
        if chunk.first {
            // Somebody took the rest of the one before in pieces.
            self.partial.clear();
        }
        self.partial.extend_from_slice(chunk.payload);
        if !chunk.last {
            return None;
        }
        let whole = mem::take(&mut self.partial);
        Some(match chunk.kind {
            Kind::Binary => Message::Binary(Payload::Owned(whole)),
            // The core has looked at it in its pieces.
            Kind::Text => Message::Text(String::from_utf8(whole).unwrap_or_default().into()),
        })
    }

    /// Whether something has been read that has not been handed on.
    pub(crate) fn has_waiting(&self) -> bool {
        self.at < self.parked.len() || !self.inbox.is_empty()
    }

    fn is_idle(&self) -> bool {
        !self.has_waiting()
            && self.partial.is_empty()
            && self.parting.is_none()
            && self.reason.is_empty()
            && !self.half_closed
            && self.info.is_none()
            && self.tasks.is_none()
    }
}

thread_local! {
    static SPARE: Cell<Option<Box<Slack>>> = const { Cell::new(None) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_without_bytes_count_too() {
        let mut slack = Slack::default();
        for n in 1..=1000 {
            slack.keep(Message::Text(String::new().into()));
            assert!(slack.inbox_bytes >= n * size_of::<Kept>());
        }
    }
}
