use std::fmt;

use wsforge_core::frame::MAX_HEADER_LEN;
use wsforge_core::{Body, KeySource, Kind, Output, SendError};

use super::entropy::Keys;
use super::outbox::{Outbox, Piece, Room, server_header};
use super::turn;

/// The way back while a message is lent, see [`WebSocket::for_each`](crate::WebSocket::for_each).
///
/// What is sent here leaves in one write when all messages of a read have been handled.
pub struct Replies<'a> {
    /// Not its `Arc`: where the outbox lies behind that would be computed at each look, as it has a size of
    /// its own.
    outbox: &'a Outbox,
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
    pub(crate) fn new(outbox: &'a Outbox, output: &'a mut Output, open: bool, last: bool) -> Self {
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
        if let Body::Copy(bytes) = body
            && bytes.len() < IN_PLACE
            && self.corked
            && !turn::has_plans()
            && !self.outbox.wants_attention()
            && !self.outbox.is_client()
        {
            // One more of those that leave together.
            self.output.put_frame(&server_header(kind, bytes.len()), body);
            return Ok(());
        }
        self.send_first(kind, body)
    }

    /// Sends a message, and finds the way for those after it.
    #[inline(never)]
    fn send_first(&mut self, kind: Kind, body: Body<'_>) -> Result<(), SendError> {
        if !self.open {
            return Err(SendError::Closed);
        }
        if turn::has_plans() {
            self.leave(false);
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
            header.mask = self.outbox.is_client().then(|| Keys.next_key());
            self.output.put_frame(&header, body);
            return Ok(());
        }
        self.send_slowly(kind, body)
    }

    fn send_in_place(&mut self, kind: Kind, body: Body<'_>) -> Result<(), SendError> {
        // What others have sent meanwhile, this task too, goes first.
        if !self.corked || self.outbox.wants_attention() {
            return self.send_slowly(kind, body);
        }
        let header = server_header(kind, body.len());
        let mut head = [0; MAX_HEADER_LEN];
        let head_len = header.encode(&mut head);
        self.corked = false;
        self.outbox.uncork(self.output, &head[..head_len], &body, false);
        Ok(())
    }

    #[inline(never)]
    fn send_slowly(&mut self, kind: Kind, body: Body<'_>) -> Result<(), SendError> {
        self.leave(false);
        self.slow = true;
        match self.outbox.push(Piece::Message, kind.into(), &body, Room::Owed) {
            Ok(_) => Ok(()),
            Err(_) => {
                self.open = false;
                Err(SendError::Closed)
            }
        }
    }

    /// See [`Outbox::ignores_peer`].
    #[cfg(feature = "router")]
    pub(crate) fn ignores_peer(&self) -> bool {
        self.outbox.ignores_peer()
    }

    pub(crate) fn is_slow(&self) -> bool {
        self.slow
    }

    /// Sends what has been gathered here.
    fn leave(&mut self, ends: bool) {
        if std::mem::take(&mut self.corked) {
            self.outbox.uncork(self.output, &[], &Body::Copy(&[]), ends);
        } else if !self.output.is_empty() {
            self.outbox.send_own(self.output, ends);
        }
    }

    /// The turn is over. If the connection `ends`, its Close is the last that was gathered.
    pub(crate) fn end(mut self, ends: bool) {
        if self.corked || !self.output.is_empty() {
            // What the owner has gathered outside goes first.
            turn::uncork();
            self.leave(ends);
        }
    }
}

/// Who handles a message may panic: what was sent before that leaves.
impl Drop for Replies<'_> {
    fn drop(&mut self) {
        self.leave(false);
    }
}

impl fmt::Debug for Replies<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replies").field("gathered", &self.output.len()).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(wsforge_loom)))]
mod tests {
    use std::ops::ControlFlow;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::pin::pin;

    use wsforge_core::frame::{Header, Opcode};
    use wsforge_core::hub::Audience;
    use wsforge_core::{Output, ServerConnection, Timestamp};

    use super::*;
    use crate::driver::outbox::mock::{Count, Pipe, frames, opened};
    use crate::driver::session::{Conn, Session};
    use crate::{FanOut, Options, WebSocket};

    /// A connection whose peer has sent `n` messages, their numbers.
    fn received(n: u8) -> (WebSocket, Pipe) {
        let (outbox, pipe) = opened(Options::default());
        let mut sent = Output::new();
        for n in 0..n {
            let mask = Some([1, 2, 3, 4]);
            let header = Header { fin: true, rsv1: false, opcode: Opcode::Binary, mask, len: 1 };
            sent.put_frame(&header, [n][..].into());
        }
        sent.slices().for_each(|bytes| pipe.sends(bytes));
        let config = outbox.endpoint.config.clone();
        let conn = ServerConnection::after_handshake(config, Timestamp::ZERO);
        (WebSocket::new(outbox, Session::new(Conn::Server(conn), &[])), pipe)
    }

    /// What the peer got: of each message, its first two bytes.
    fn bodies(pipe: &Pipe) -> Vec<[u8; 2]> {
        frames(&pipe.written()).into_iter().map(|(.., body)| [body[0], body[1]]).collect()
    }

    /// One of these from each message's handler.
    fn each(n: u8, what: &[u8]) -> Vec<[u8; 2]> {
        (0..n).flat_map(|n| what.iter().map(move |what| [n, *what])).collect()
    }

    fn serve(socket: &mut WebSocket, mut f: impl FnMut(u8, &mut Replies<'_>)) {
        let mut serving = pin!(socket.for_each(|message, replies| {
            f(message.as_bytes()[0], replies);
            ControlFlow::<()>::Continue(())
        }));
        let count = Count::default();
        assert!(turn::scope(|| serving.as_mut().poll(&mut count.context())).is_pending());
    }

    /// Rule 10.
    #[test]
    fn a_reply_a_broadcast_and_a_reply_arrive_in_that_order() {
        // The last reply is copied, or offered to the socket where it lies.
        for len in [2, IN_PLACE] {
            let (mut socket, pipe) = received(3);
            let fan_out = FanOut::new();
            let _member = fan_out.join(&socket.sender()).unwrap();
            serve(&mut socket, |n, replies| {
                replies.send(Kind::Binary, &[n, b'a']).unwrap();
                fan_out.send(Audience::All, Kind::Binary, &[n, b'b']);
                let mut last = vec![b'c'; len];
                last[0] = n;
                replies.send(Kind::Binary, &last).unwrap();
            });
            assert_eq!(bodies(&pipe), each(3, b"abc"));
        }
    }

    /// As before, but the broadcast has reached the outbox before the last reply is sent.
    #[test]
    fn a_reply_does_not_overtake_what_was_sent_another_way() {
        for (messages, len) in [(1, 2), (1, IN_PLACE), (3, 2), (3, IN_PLACE)] {
            let (mut socket, pipe) = received(messages);
            let fan_out = FanOut::new();
            let sender = socket.sender();
            let member = fan_out.join(&sender).unwrap();
            serve(&mut socket, |n, replies| {
                replies.send(Kind::Binary, &[n, b'a']).unwrap();
                fan_out.send(Audience::All, Kind::Binary, &[n, b'b']);
                // Before anything changes membership, what was sent leaves.
                member.subscribe("group").unwrap();
                sender.try_send(vec![n, b'c']).unwrap();
                let mut last = vec![b'd'; len];
                last[0] = n;
                replies.send(Kind::Binary, &last).unwrap();
            });
            assert_eq!(bodies(&pipe), each(messages, b"abcd"));
        }
    }

    #[test]
    fn what_a_read_is_replied_with_leaves_in_one_write() {
        let (mut socket, pipe) = received(9);
        serve(&mut socket, |n, replies| replies.send(Kind::Binary, &[n, b'a']).unwrap());
        assert_eq!((bodies(&pipe), pipe.writes()), (each(9, b"a"), 1));
    }

    #[test]
    fn a_reply_behind_a_close_is_refused() {
        for len in [2, IN_PLACE] {
            let (mut socket, pipe) = received(1);
            let sender = socket.sender();
            serve(&mut socket, |n, replies| {
                replies.send(Kind::Binary, &[n, b'a']).unwrap();
                sender.close(wsforge_core::CloseCode::NORMAL, "");
                let late = vec![0; len];
                assert_eq!(replies.send(Kind::Binary, &late), Err(SendError::Closed));
            });
            let opcodes: Vec<_> = frames(&pipe.written()).into_iter().map(|f| f.1).collect();
            assert_eq!(opcodes, [Opcode::Binary, Opcode::Close]);
        }
    }

    /// Rule 23.
    #[test]
    fn what_was_sent_before_a_panic_leaves() {
        let (mut socket, pipe) = received(3);
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            serve(&mut socket, |n, replies| {
                replies.send(Kind::Binary, &[n, b'a']).unwrap();
                assert!(n < 1, "as it should");
            });
        }));
        assert!(panicked.is_err());
        assert_eq!(bodies(&pipe), each(2, b"a"));
        assert!(!socket.outbox().wants_attention(), "nothing is left");
    }

    /// Rule 10, and 16: the naive loop gathers.
    #[test]
    fn a_loop_of_receiving_and_sending_keeps_the_order_and_writes_once() {
        for broadcasts in [false, true] {
            let (mut socket, pipe) = received(5);
            let fan_out = FanOut::new();
            let _member = fan_out.join(&socket.sender()).unwrap();
            let mut serving = pin!(async {
                while let Some(message) = socket.recv().await {
                    let n = message.as_bytes()[0];
                    socket.send(vec![n, b'a']).await.unwrap();
                    if broadcasts {
                        fan_out.send(Audience::All, Kind::Binary, &[n, b'b']);
                    }
                    socket.send(vec![n, b'c']).await.unwrap();
                }
            });
            let count = Count::default();
            assert!(turn::scope(|| serving.as_mut().poll(&mut count.context())).is_pending());
            assert_eq!(bodies(&pipe), each(5, if broadcasts { b"abc" } else { b"ac" }));
            if !broadcasts {
                // All but the last message's replies, and these two.
                assert_eq!(pipe.writes(), 2);
            }
        }
    }
}
