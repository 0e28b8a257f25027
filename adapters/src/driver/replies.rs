use std::fmt;
use std::sync::Arc;

use wsforge_core::frame::MAX_HEADER_LEN;
use wsforge_core::{Body, KeySource, Kind, Output, SendError};

use super::entropy::Keys;
use super::outbox::{Outbox, Piece, Room, server_header};
use super::turn;

/// The way back while a message is lent, see [`WebSocket::for_each`](crate::WebSocket::for_each).
///
/// What is sent here leaves in one write when all messages of a read have been handled.
pub struct Replies<'a> {
    outbox: &'a Arc<Outbox>,
    pub(crate) output: &'a mut Output,
    /// The connection has not begun to close.
    open: bool,
    /// The outbox knows that something is gathered here.
    corked: bool,
    /// Something goes another way, so what is sent here has to follow it.
    slow: bool,
    /// No message of this read follows.
    pub(crate) last: bool,
}

/// Replies from this length on are offered to the socket where they lie. Below, a copy costs less than
/// a write of their own.
const IN_PLACE: usize = 1024;

impl<'a> Replies<'a> {
    pub(crate) fn new(
        outbox: &'a Arc<Outbox>,
        output: &'a mut Output,
        open: bool,
        last: bool,
    ) -> Self {
        Self { outbox, output, open, corked: false, slow: false, last }
    }

    /// Sends a message. It never waits: who sends much more than the peer reads gets no further
    /// messages until the peer has read.
    ///
    /// A text's bytes must be UTF-8, as those of a received text are.
    ///
    /// # Errors
    ///
    /// [`SendError::Closed`] if the connection is closing.
    #[inline]
    pub fn send<'m>(&mut self, kind: Kind, body: impl Into<Body<'m>>) -> Result<(), SendError> {
        let body = body.into();
        if !self.open {
            return Err(SendError::Closed);
        }
        if turn::has_plans() {
            self.uncork();
            turn::flush();
        }
        let large = body.len() >= IN_PLACE && self.last && !self.outbox.is_client();
        if large && !self.slow && (self.corked || self.output.is_empty()) {
            return self.send_in_place(kind, body);
        }
        if !self.corked && !self.slow {
            self.corked = self.outbox.cork();
            self.slow = !self.corked;
        }
        if self.corked && !self.outbox.wants_attention() {
            let mut header = server_header(kind, body.len());
            if self.outbox.is_client() {
                header.mask = Some(Keys.next_key());
                self.output.put_frame(&header, body);
            } else {
                self.output.put_frame(&header, body);
            }
            return Ok(());
        }
        self.send_slowly(kind, body)
    }

    fn send_in_place(&mut self, kind: Kind, body: Body<'_>) -> Result<(), SendError> {
        if !self.corked {
            return self.send_slowly(kind, body);
        }
        let header = server_header(kind, body.len());
        let mut head = [0; MAX_HEADER_LEN];
        let head_len = header.encode(&mut head);
        self.corked = false;
        self.outbox.uncork(self.output, &head[..head_len], body, false);
        Ok(())
    }

    #[inline(never)]
    fn send_slowly(&mut self, kind: Kind, body: Body<'_>) -> Result<(), SendError> {
        self.uncork();
        self.slow = true;
        match self.outbox.push(Piece::Message, kind.into(), body, Room::Owed) {
            Ok(_) => Ok(()),
            Err(_) => {
                self.open = false;
                Err(SendError::Closed)
            }
        }
    }

    pub(crate) fn is_slow(&self) -> bool {
        self.slow
    }

    fn uncork(&mut self) {
        if self.corked || !self.output.is_empty() {
            self.corked = false;
            self.outbox.uncork(self.output, &[], (&[]).into(), false);
        }
    }

    /// The turn is over. If the connection `ends`, its Close is the last that was gathered.
    pub(crate) fn end(self, ends: bool) {
        if self.corked || !self.output.is_empty() {
            // What the owner has gathered outside goes first.
            turn::uncork();
            self.outbox.uncork(self.output, &[], (&[]).into(), ends);
        }
    }
}

impl fmt::Debug for Replies<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replies").field("gathered", &self.output.len()).finish_non_exhaustive()
    }
}
