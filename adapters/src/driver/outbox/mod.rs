//! One peer's way out, shared by its session and by everyone who sends to it.
//!
//! Who has something for the peer writes it to the socket at once, under a small lock. What the socket
//! refuses becomes a [`Backlog`], and only then the peer's own task is woken, to write it when there is
//! room. Everything leaves in the order in which it was handed over, and in whole frames.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Waker};

use bytes::Bytes;
use wsforge_core::frame::{Header, MAX_HEADER_LEN, Opcode};
use wsforge_core::hub::{Class, Run};
use wsforge_core::{Body, CloseCode, KeySource, Kind, Output};

use super::backlog::Backlog;
use super::endpoint::Endpoint;
use super::entropy::Keys;
use super::sync::atomic::{AtomicBool, Ordering};
use super::sync::{Mutex, MutexGuard, lock};
use super::timer::{TICK, Tick};
use crate::runtime::Transport;

mod deadline;

#[cfg(test)]
pub(crate) mod mock;

#[cfg(all(test, wsforge_loom))]
mod models;

mod owner;

mod write;

/// See the module. Of a TCP connection it fills 104 bytes of memory, its counts included: what fits
/// between two blocks that the runtime allocates.
pub(crate) struct Outbox<T: ?Sized = dyn Transport> {
    pub(crate) endpoint: Arc<Endpoint>,
    key: u32,
    client: bool,
    /// Whether anything but the plain road is to be taken: something waits, a fragmented message is
    /// being sent, or the end has begun. Set under the lock, read without.
    attention: AtomicBool,
    /// Whether messages of the last read still wait to be received: then what is sent is gathered.
    gathering: AtomicBool,
    /// Whether the timer has looked at it since its session last asked to be looked at.
    rung: AtomicBool,
    state: Mutex<State>,
    pub(crate) transport: T,
}

struct State {
    phase: Phase,
    /// The owner has bytes in hand that go first: its turn's, or the backlog's front.
    corked: bool,
    /// Somebody is inside a fragmented message.
    streaming: bool,
    /// The owner has something to do that it does not know of.
    wakes: bool,
    /// When the timer ends the connection if nothing changes.
    deadline: Tick,
    owner: Option<Waker>,
    backlog: Option<Box<Backlog>>,
}

/// How far a connection is, as those see it who send.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Phase {
    /// Only the handshake's answer is written.
    Opening,
    Open,
    /// The session has sent a Close, or answered one, or has learned of one.
    Closing,
    /// A sender has queued a Close; the session has yet to learn of it.
    ClosedBySender,
    /// As the one before, as too much waited for the peer.
    Evicted,
    /// The session is over, and nothing goes out any more.
    Ended,
    /// The socket failed.
    Broken,
    /// The peer took nothing for too long.
    Stalled,
    /// The handshake or the end took too long.
    TimedOut,
}

impl Phase {
    pub(crate) fn is_gone(self) -> bool {
        self >= Self::Ended
    }
}

/// Why a frame was not taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Refusal {
    Closed,
    /// Too much waits.
    Full,
    /// Another fragmented message is being sent.
    Streaming,
}

/// What a frame is a part of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Piece {
    Control,
    /// A message that waits to be flushed.
    Fed,
    /// A fragment of the message that is being streamed.
    Fragment {
        last: bool,
    },
    Message,
}

/// Whether a frame is sent however much waits before it.
#[derive(Debug)]
pub(crate) enum Room<'a, 'cx> {
    /// It is.
    Any,
    /// Not if too much waits; this task is woken when that has changed.
    Awaited(&'a mut Context<'cx>),
    /// Not if too much waits.
    Needed,
    /// It is, and the peer is not read from while too much of this kind waits.
    Owed,
}

/// What became of a frame that was taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Pushed {
    /// It waits for the end of the turn, which somebody has to end.
    Gathered,
    /// It is on its way, or waits for the peer.
    Sent,
}

impl Outbox {
    /// A peer's way out, known to its timer. Nobody may send before it is [opened](Self::open).
    pub(crate) fn register(
        endpoint: &Arc<Endpoint>,
        transport: impl Transport,
        client: bool,
    ) -> Arc<Self> {
        endpoint
            .timer
            .register(|key| Arc::new(Outbox::new(endpoint.clone(), key, client, transport)))
    }
}

impl<T: Transport> Outbox<T> {
    fn new(endpoint: Arc<Endpoint>, key: u32, client: bool, transport: T) -> Self {
        endpoint.enter();
        let state = State {
            phase: Phase::Opening,
            corked: false,
            streaming: false,
            wakes: false,
            deadline: Tick::NEVER,
            owner: None,
            backlog: None,
        };
        Self {
            endpoint,
            key,
            client,
            attention: AtomicBool::new(true),
            gathering: AtomicBool::new(false),
            rung: AtomicBool::new(false),
            state: Mutex::new(state),
            transport,
        }
    }
}

/// What everyone may do who sends.
impl<T: Transport + ?Sized> Outbox<T> {
    /// Sends a frame, if there is the `room` that it needs.
    pub(crate) fn push(
        &self,
        piece: Piece,
        opcode: Opcode,
        body: Body<'_>,
        room: Room<'_, '_>,
    ) -> Result<Pushed, Refusal> {
        let mut state = lock(&self.state);
        if state.phase != Phase::Open {
            return Err(Refusal::Closed);
        }
        let (owed, before) = (matches!(room, Room::Owed), self.waiting(&state));
        if !matches!(room, Room::Any | Room::Owed) && !self.has_room_for(&state, piece, body.len())
        {
            if let (Room::Awaited(cx), Some(backlog)) = (room, &mut state.backlog) {
                backlog.wait(cx);
            }
            return Err(Refusal::Full);
        }
        let data = matches!(piece, Piece::Fed | Piece::Message);
        let held = data && state.streaming;
        let gathered = piece == Piece::Fed
            || piece == Piece::Message && self.gathering.load(Ordering::Relaxed);
        let class = if data { Class::Reply } else { Class::Control };
        let fin = piece != Piece::Fragment { last: false };
        let header = self.header(opcode, fin, body.len());
        let clear = !state.corked && state.backlog.is_none();
        if clear && !held && !gathered && header.mask.is_none() && in_place(&body) {
            let mut head = [0; MAX_HEADER_LEN];
            let head_len = header.encode(&mut head);
            self.write(&mut state, &mut Output::new(), &head[..head_len], body);
        } else {
            self.queue(&mut state, &header, body, class, held, gathered);
        }
        if owed {
            self.owe(&mut state, before);
        }
        if piece == (Piece::Fragment { last: true }) {
            state.streaming = false;
            if let Some(backlog) = &mut state.backlog {
                backlog.release();
                self.write_unless_corked(&mut state);
            }
        }
        self.settle(state);
        Ok(if gathered { Pushed::Gathered } else { Pushed::Sent })
    }

    /// Begins a fragmented message: data of others waits until its last fragment.
    pub(crate) fn begin_stream(&self) -> Result<(), Refusal> {
        let mut state = lock(&self.state);
        if state.phase != Phase::Open {
            return Err(Refusal::Closed);
        }
        if state.streaming {
            return Err(Refusal::Streaming);
        }
        state.streaming = true;
        self.settle(state);
        Ok(())
    }

    /// Sends frames that go to many. A peer for whom too much waits is evicted: what can be dropped is,
    /// and a Close follows.
    pub(crate) fn offer(&self, bytes: &Bytes, frames: usize) -> Result<(), Refusal> {
        let mut state = lock(&self.state);
        if state.phase != Phase::Open {
            return Err(Refusal::Closed);
        }
        if state.backlog.is_none() && !state.corked && !state.streaming {
            self.write(&mut state, &mut Output::new(), &[], Body::Shared(bytes.clone()));
            self.settle(state);
            return Ok(());
        }
        let limits = &self.endpoint.options.mailbox;
        let State { backlog, streaming, .. } = &mut *state;
        let backlog = backlog.get_or_insert_with(Backlog::spare);
        if !backlog.is_empty()
            && (backlog.len().saturating_add(bytes.len()) > limits.max_bytes
                || backlog.frames().saturating_add(frames) > limits.max_frames)
        {
            let dropped = self.evict(&mut state);
            self.settle(state);
            drop(dropped);
            return Err(Refusal::Full);
        }
        let run = Run { bytes: bytes.clone(), frames, class: Class::Broadcast, key: None };
        backlog.push_run(run, *streaming);
        // Behind what was only gathered so far, it leaves with that.
        self.settle(state);
        Ok(())
    }

    /// Queues a Close behind everything; the session learns of it and waits for the answer. `false` if
    /// one side has closed before.
    pub(crate) fn close(&self, code: CloseCode, reason: &str) -> bool {
        let mut state = lock(&self.state);
        if state.phase != Phase::Open {
            return false;
        }
        let dropped = self.put_close(&mut state, code, reason, Phase::ClosedBySender);
        self.settle(state);
        drop(dropped);
        true
    }

    /// Ends it at once, and wakes its owner to see that.
    pub(crate) fn cut_off(&self) {
        let mut state = lock(&self.state);
        self.fail(&mut state, Phase::TimedOut);
        self.settle(state);
        self.transport.abort();
    }

    /// Writes what waits, as far as the socket takes it now.
    pub(crate) fn flush_now(&self) {
        let mut state = lock(&self.state);
        self.write_unless_corked(&mut state);
        self.settle(state);
    }

    pub(crate) const fn key(&self) -> u32 {
        self.key
    }

    pub(crate) fn phase(&self) -> Phase {
        lock(&self.state).phase
    }

    /// Whether messages of the last read still wait to be received.
    #[inline]
    pub(crate) fn is_gathering(&self) -> bool {
        self.gathering.load(Ordering::Relaxed)
    }

    /// Whether nothing more can be sent.
    pub(crate) fn is_closed(&self) -> bool {
        self.wants_attention() && self.phase() != Phase::Open
    }

    /// Whether `len` bytes would be taken now, or never.
    pub(crate) fn has_room(&self, piece: Piece, len: usize) -> bool {
        let state = lock(&self.state);
        state.phase != Phase::Open || self.has_room_for(&state, piece, len)
    }

    /// How many bytes wait.
    pub(crate) fn pending(&self) -> usize {
        self.waiting(&lock(&self.state))
    }

    /// How many of them wait because of what the peer has sent.
    pub(crate) fn owed(&self) -> usize {
        lock(&self.state).backlog.as_ref().map_or(0, |backlog| backlog.owed())
    }

    fn waiting(&self, state: &State) -> usize {
        state.backlog.as_ref().map_or(0, |backlog| backlog.len())
    }

    /// What more waits than `before` is owed to the peer.
    fn owe(&self, state: &mut State, before: usize) {
        if let Some(backlog) = &mut state.backlog {
            backlog.owe(backlog.len().saturating_sub(before));
        }
    }

    /// The header of a frame to this peer.
    #[inline]
    pub(crate) fn header(&self, opcode: Opcode, fin: bool, len: usize) -> Header {
        let mask = self.client.then(|| Keys.next_key());
        Header { fin, rsv1: false, opcode, mask, len: len as u64 }
    }

    fn has_room_for(&self, state: &State, piece: Piece, len: usize) -> bool {
        let Some(backlog) = &state.backlog else { return true };
        let (mut bytes, mut frames) = (backlog.len(), backlog.frames());
        if matches!(piece, Piece::Fragment { .. }) {
            // What is held waits for these fragments, so they must not wait for it.
            bytes -= backlog.held_bytes();
            frames -= backlog.held_frames();
        }
        bytes == 0
            || bytes.saturating_add(len) <= self.endpoint.config.high_water
                && frames < self.endpoint.options.mailbox.max_frames
    }

    /// Drops what waits but for what has been begun, and closes.
    fn evict(&self, state: &mut State) -> impl Sized + use<T> {
        let dropped = state.backlog.as_mut().map(|backlog| backlog.clear());
        let code = CloseCode::TRY_AGAIN_LATER;
        (dropped, self.put_close(state, code, "too much waits to be read", Phase::Evicted))
    }

    /// Gives what is to be dropped when the lock is not held.
    fn put_close(
        &self,
        state: &mut State,
        code: CloseCode,
        reason: &str,
        phase: Phase,
    ) -> impl Sized + use<T> {
        let reason = &reason[..reason.floor_char_boundary(123)];
        let body = [&code.get().to_be_bytes(), reason.as_bytes()].concat();
        let header = self.header(Opcode::Close, true, body.len());
        // A control frame may stand inside a fragmented message, which will never end then.
        state.streaming = false;
        let held = state.backlog.as_mut().map(|backlog| backlog.take_held());
        self.queue(state, &header, body.as_slice().into(), Class::Control, false, false);
        if !state.phase.is_gone() {
            state.phase = phase;
            state.deadline = self.cut_at();
            state.wakes = true;
        }
        held
    }

    /// When a connection is cut that has begun to close, should its session not end it before.
    pub(crate) fn cut_at(&self) -> Tick {
        Tick::ceil(self.endpoint.timer.now() + self.endpoint.config.close_timeout) + 2 * TICK
    }

    fn fail(&self, state: &mut State, phase: Phase) {
        if !state.phase.is_gone() {
            state.phase = phase;
            state.deadline = Tick::NEVER;
            state.wakes = true;
        }
    }

    /// Ends what was done under the lock: who is to be woken is so behind it.
    fn settle(&self, mut state: MutexGuard<'_, State>) {
        let owner = if state.wakes && !state.corked {
            state.wakes = false;
            state.owner.take()
        } else {
            None
        };
        self.settle_own(state);
        owner.into_iter().for_each(Waker::wake);
    }

    /// As [`settle`](Self::settle), by the owner, who need not be woken.
    fn settle_own(&self, mut state: MutexGuard<'_, State>) {
        let (gone, open) = (state.phase.is_gone(), state.phase == Phase::Open);
        let (mut idle, mut senders, mut at) = (None, Vec::new(), state.deadline);
        if let Some(backlog) = &mut state.backlog {
            if !open || backlog.len() <= self.endpoint.config.high_water / 2 {
                senders = backlog.take_waiting();
            }
            let (blocked, is_idle) = (backlog.is_unsent(), backlog.is_idle());
            // What the owner has in hand is not seen here, and comes back.
            if open && !blocked && !state.corked {
                (state.deadline, at) = (Tick::NEVER, Tick::NEVER);
            } else if open && at != Tick::NEVER && state.owner.is_none() {
                // Soon, to see whether its owner has come.
                at = at.min(Tick::floor(self.endpoint.timer.now()) + TICK);
            }
            if gone || is_idle && !state.corked {
                idle = state.backlog.take();
            }
        }
        let attention = state.backlog.is_some() || state.streaming || state.phase != Phase::Open;
        self.attention.store(attention, Ordering::Release);
        drop(state);
        if at != Tick::NEVER {
            self.endpoint.timer.arm(self.key, at);
        }
        senders.into_iter().for_each(Waker::wake);
        if let Some(idle) = idle {
            idle.recycle();
        }
    }
}

/// The header of a message from a server.
#[inline]
pub(crate) fn server_header(kind: Kind, len: usize) -> Header {
    Header { fin: true, rsv1: false, opcode: kind.into(), mask: None, len: len as u64 }
}

/// Whether a body is worth to be written from where it lies: one that is only lent would be copied, and
/// one that is short is copied in less time than the system takes to look at two pieces.
fn in_place(body: &Body<'_>) -> bool {
    matches!(body, Body::Copy(bytes) if bytes.len() > Output::COPY_LIMIT)
}

impl<T: ?Sized> Drop for Outbox<T> {
    fn drop(&mut self) {
        // First the place, as the key is somebody else's then.
        self.endpoint.leave(self.key);
        self.endpoint.timer.remove(self.key);
    }
}

impl<T: ?Sized> fmt::Debug for Outbox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").field("key", &self.key).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(wsforge_loom)))]
mod tests {
    use std::time::Duration;

    use wsforge_core::Timestamp;
    use wsforge_core::frame::Opcode::{Binary, Close, Continuation, Ping};

    use super::mock::{Count, frame, frames, opened};
    use super::*;
    use crate::Options;

    fn push(outbox: &Outbox, body: &[u8]) -> Result<Pushed, Refusal> {
        outbox.push(Piece::Message, Binary, body.into(), Room::Needed)
    }

    fn fragment(outbox: &Outbox, opcode: Opcode, body: &[u8], last: bool) {
        let pushed = outbox.push(Piece::Fragment { last }, opcode, body.into(), Room::Needed);
        assert_eq!(pushed, Ok(Pushed::Sent));
    }

    fn offer(outbox: &Outbox, body: &[u8]) -> Result<(), Refusal> {
        outbox.offer(&frame(Binary, body).into(), 1)
    }

    /// The code of a Close.
    fn code(body: &[u8]) -> u16 {
        u16::from_be_bytes([body[0], body[1]])
    }

    /// Rule 11.
    #[test]
    fn others_data_waits_for_the_end_of_a_streamed_message_and_control_frames_pass() {
        let (outbox, pipe) = opened(Options::default());
        outbox.begin_stream().unwrap();
        assert_eq!(outbox.begin_stream(), Err(Refusal::Streaming));
        fragment(&outbox, Binary, b"1", false);
        push(&outbox, b"reply").unwrap();
        offer(&outbox, b"broadcast").unwrap();
        outbox.push(Piece::Control, Ping, (&[]).into(), Room::Any).unwrap();
        fragment(&outbox, Continuation, b"2", true);
        offer(&outbox, b"behind").unwrap();
        let written = frames(&pipe.written());
        let opcodes: Vec<_> = written.iter().map(|(_, opcode, _)| *opcode).collect();
        assert_eq!(opcodes, [Binary, Ping, Continuation, Binary, Binary, Binary]);
        let bodies: Vec<_> = written.iter().map(|(.., body)| &body[..]).collect();
        assert_eq!(bodies, [&b"1"[..], b"", b"2", b"reply", b"broadcast", b"behind"]);
        assert_eq!(outbox.pending(), 0);
    }

    /// What was begun while the socket was full is not held against a peer that has read it.
    #[test]
    fn a_stream_that_was_once_blocked_goes_on_at_once_and_is_not_stalled() {
        let write_timeout = Duration::from_secs(1);
        let (outbox, pipe) = opened(Options { write_timeout, ..Options::default() });
        outbox.begin_stream().unwrap();
        pipe.room(1);
        fragment(&outbox, Binary, b"1", false);
        push(&outbox, b"held").unwrap();
        pipe.room(usize::MAX);
        assert!(outbox.poll_flush(&mut Count::default().context()).is_ready());
        fragment(&outbox, Continuation, b"2", false);
        assert_eq!(frames(&pipe.written()).len(), 2);
        let late = Timestamp::from_millis(60_000);
        assert!(outbox.ring(late, Tick::floor(late)).is_some());
        assert_eq!(outbox.phase(), Phase::Open);
        fragment(&outbox, Continuation, b"3", true);
        assert_eq!(frames(&pipe.written()).len(), 4);
    }

    /// Rule 12.
    #[test]
    fn who_is_evicted_gets_what_was_begun_then_a_close_and_nothing_more() {
        let mut options = Options::default();
        options.mailbox.max_bytes = 100;
        let (outbox, pipe) = opened(options);
        let count = Count::default();
        outbox.sleep(&count.context());
        pipe.room(3);
        offer(&outbox, &[1; 60]).unwrap();
        offer(&outbox, &[2; 30]).unwrap();
        assert_eq!(offer(&outbox, &[3; 30]), Err(Refusal::Full));
        assert_eq!(outbox.phase(), Phase::Evicted);
        assert_eq!(offer(&outbox, &[4; 30]), Err(Refusal::Closed));
        assert_eq!(push(&outbox, &[5; 30]), Err(Refusal::Closed));
        assert!(!outbox.close(CloseCode::NORMAL, ""));
        pipe.room(usize::MAX);
        assert!(outbox.poll_flush(&mut count.context()).is_ready());
        let written = frames(&pipe.written());
        assert_eq!(written.len(), 2, "{written:?}");
        assert_eq!((written[0].1, &*written[0].2), (Binary, &[1; 60][..]));
        assert_eq!((written[1].1, code(&written[1].2)), (Close, 1013));
    }

    #[test]
    fn many_frames_are_too_much_too() {
        let mut options = Options::default();
        options.mailbox.max_frames = 3;
        let (outbox, pipe) = opened(options);
        pipe.room(0);
        // The first is the transport's, and cannot be dropped.
        let offers: Vec<_> = (0..5).map(|n| offer(&outbox, &[n])).collect();
        assert_eq!(offers, [Ok(()), Ok(()), Ok(()), Ok(()), Err(Refusal::Full)]);
    }

    #[test]
    fn who_is_evicted_is_woken_and_cut_off_after_the_time_to_close() {
        let mut options = Options::default();
        options.mailbox.max_bytes = 100;
        options.protocol.close_timeout = Duration::from_secs(5);
        let (outbox, pipe) = opened(options);
        let count = Count::default();
        pipe.room(3);
        offer(&outbox, &[1; 200]).unwrap();
        outbox.sleep(&count.context());
        assert_eq!((offer(&outbox, &[2; 30]), count.get()), (Err(Refusal::Full), 1));
        let ring = |ms| {
            let now = Timestamp::from_millis(ms);
            outbox.ring(now, Tick::floor(now)).is_some()
        };
        assert!(ring(5_000) && !pipe.is_aborted());
        assert!(!ring(5_300) && pipe.is_aborted());
        assert_eq!(outbox.phase(), Phase::TimedOut);
    }

    /// A shared body is queued apart from its header, and both are dropped or none.
    #[test]
    fn an_eviction_tears_no_frame_whatever_the_length_of_what_was_taken_before() {
        let large = Bytes::from(vec![7; 2000]);
        for first in 65_500..65_560 {
            let mut options = Options::default();
            options.mailbox.max_bytes = 80_000;
            let (outbox, pipe) = opened(options);
            // So that the queue is used: its front is the owner's.
            assert!(outbox.cork());
            offer(&outbox, &vec![1; first]).unwrap();
            let body = Body::Shared(large.clone());
            outbox.push(Piece::Message, Binary, body, Room::Any).unwrap();
            pipe.room(3);
            outbox.uncork(&mut Output::new(), &[], (&[]).into(), false);
            assert_eq!(offer(&outbox, &vec![1; 80_000]), Err(Refusal::Full));
            pipe.room(usize::MAX);
            assert!(outbox.poll_flush(&mut Count::default().context()).is_ready());
            assert_eq!(frames(&pipe.written()).last().unwrap().1, Close);
        }
    }

    /// Rule 13, and what a close means to those who wait.
    #[test]
    fn who_waits_for_room_is_woken_when_there_is_some_or_never_will_be() {
        for closes in [false, true] {
            let (outbox, pipe) = opened(Options::default());
            pipe.room(0);
            push(&outbox, &vec![0; 1 << 20]).unwrap();
            let count = Count::default();
            for _ in 0..3 {
                let room = Room::Awaited(&mut count.context());
                let refused = outbox.push(Piece::Message, Binary, b"x"[..].into(), room);
                assert_eq!((refused, count.get()), (Err(Refusal::Full), 0));
            }
            if closes {
                outbox.close(CloseCode::NORMAL, "");
            } else {
                pipe.room(usize::MAX);
                outbox.flush_now();
            }
            assert_eq!(count.get(), 1, "closes: {closes}");
        }
    }

    #[test]
    fn a_second_close_is_none() {
        let (outbox, pipe) = opened(Options::default());
        assert!(outbox.close(CloseCode::NORMAL, &"é".repeat(70)));
        assert!(!outbox.close(CloseCode::GOING_AWAY, ""));
        // As the session would that has not learned of it.
        let mut own = Output::new();
        own.put(&frame(Close, &[3, 232]));
        outbox.uncork(&mut own, &[], (&[]).into(), true);
        let written = frames(&pipe.written());
        assert_eq!(written.len(), 1);
        // At most 123 bytes of reason, and whole characters.
        assert_eq!(str::from_utf8(&written[0].2[2..]), Ok(&*"é".repeat(61)));
    }

    #[test]
    fn only_the_handshake_is_written_before_it_is_done() {
        let (outbox, pipe) = mock::opening(Options::default());
        assert_eq!(push(&outbox, b"a"), Err(Refusal::Closed));
        assert_eq!(offer(&outbox, b"a"), Err(Refusal::Closed));
        assert!(!outbox.close(CloseCode::NORMAL, ""));
        let mut answer = Output::new();
        answer.put(b"HTTP/1.1 101");
        pipe.room(5);
        outbox.uncork(&mut answer, &[], (&[]).into(), false);
        outbox.open();
        push(&outbox, b"a").unwrap();
        pipe.room(usize::MAX);
        assert!(outbox.poll_flush(&mut Count::default().context()).is_ready());
        assert_eq!(pipe.written(), [b"HTTP/1.1 101", &*frame(Binary, b"a")].concat());
    }
}
