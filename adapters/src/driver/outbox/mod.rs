//! One peer's way out, shared by its session and by everyone who sends to it.
//!
//! Who has something for the peer writes it to the socket at once, under a small lock. What the socket
//! refuses becomes a [`Backlog`], and only then the peer's own task is woken, to write it when there is
//! room. Everything leaves in the order in which it was handed over, and in whole frames.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Waker};

use wsforge_core::frame::{Header, Opcode};
use wsforge_core::hub::{Class, SlowConsumer};
use wsforge_core::{Body, CloseCode, KeySource, Kind};

use super::backlog::{Backlog, Ticket};
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

mod offer;
pub(crate) use offer::{Fate, Offered};

mod owner;

#[cfg(all(test, not(wsforge_loom)))]
mod tests;

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

impl State {
    /// Whether there is nothing but the plain road: nothing waits, and nothing but time will end it.
    fn is_plain(&self) -> bool {
        self.phase == Phase::Open
            && self.backlog.is_none()
            && !self.streaming
            && self.deadline == Tick::NEVER
    }
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
    /// As the one before, when neither side had closed.
    Lost,
    /// The peer took nothing for too long.
    Stalled,
    /// The handshake or the end took too long.
    TimedOut,
}

impl Phase {
    pub(crate) fn is_gone(self) -> bool {
        self >= Self::Ended
    }

    /// Whether the timer writes for an owner that does not come, also when all that is left is the Close.
    fn is_served(self) -> bool {
        self != Self::Opening && !self.is_gone()
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
    /// Not if too much waits; this task is woken when that has changed, unless it
    /// [gives up](Outbox::give_up) before.
    Awaited(&'a mut Option<Ticket>, &'a mut Context<'cx>),
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
        body: &Body<'_>,
        room: Room<'_, '_>,
    ) -> Result<Pushed, Refusal> {
        self.catch_up();
        let mut state = lock(&self.state);
        if state.phase != Phase::Open {
            return Err(Refusal::Closed);
        }
        let (owed, before) = (matches!(room, Room::Owed), self.waiting(&state));
        if !matches!(room, Room::Any | Room::Owed) && !self.has_room_for(&state, piece, body.len())
        {
            if let (Room::Awaited(ticket, cx), Some(backlog)) = (room, &mut state.backlog) {
                backlog.wait(*ticket.get_or_insert_with(Ticket::new), cx);
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
        if clear && !held && !gathered && header.mask.is_none() {
            self.write_frame(&mut state, &header, body);
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

    /// One who waited for room does so no more.
    pub(crate) fn give_up(&self, ticket: Ticket) {
        let mut state = lock(&self.state);
        let waker = state.backlog.as_mut().and_then(|backlog| backlog.give_up(ticket));
        self.settle(state);
        drop(waker);
    }

    /// Begins a fragmented message: data of others waits until its last fragment.
    pub(crate) fn begin_stream(&self) -> Result<(), Refusal> {
        self.catch_up();
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

    /// Ends what is being streamed: its writer is gone, so it will never be whole.
    pub(crate) fn abandon_stream(&self) {
        if self.wants_attention() && lock(&self.state).streaming {
            self.close(CloseCode::INTERNAL, "a message was not finished");
        }
    }

    /// Queues a Close behind everything; the session learns of it and waits for the answer. `false` if
    /// one side has closed before.
    pub(crate) fn close(&self, code: CloseCode, reason: &str) -> bool {
        self.catch_up();
        let mut state = lock(&self.state);
        if state.phase != Phase::Open {
            return false;
        }
        let dropped = self.put_close(&mut state, code, reason, Phase::ClosedBySender);
        self.settle(state);
        drop(dropped);
        true
    }

    /// Gets what was sent to many, and has not come to this one: it goes before whatever is sent now.
    #[inline]
    pub(crate) fn catch_up(&self) {
        let inbox = &self.endpoint.timer.inbox;
        if inbox.is_behind() {
            inbox.catch_up(self);
        }
    }

    /// Closes it if something waits, and drops that: memory is needed for others. What the socket has begun to
    /// take cannot be dropped; if that is long, the connection is cut off.
    pub(crate) fn shed(&self) {
        /// What one message may take that is no longer than most.
        const LONG: usize = 64 * 1024;
        let mut state = lock(&self.state);
        if state.phase != Phase::Open || self.waiting(&state) == 0 {
            return;
        }
        let dropped = self.evict(&mut state, CloseCode::TRY_AGAIN_LATER);
        let cut = self.waiting(&state) > LONG;
        if cut {
            self.fail(&mut state, Phase::Stalled);
        }
        self.settle(state);
        if cut {
            self.transport.abort();
        }
        drop(dropped);
    }

    /// Ends it at once, and wakes its owner to see that, also where it was over before.
    pub(crate) fn cut_off(&self) {
        let mut state = lock(&self.state);
        self.fail(&mut state, Phase::TimedOut);
        state.wakes = true;
        self.settle(state);
        self.transport.abort();
    }

    /// Writes what waits, as far as the socket takes it now.
    pub(crate) fn flush_now(&self) {
        let mut state = lock(&self.state);
        self.write_unless_corked(&mut state);
        self.settle(state);
    }

    /// Says what happens when too much waits, instead of what the endpoint says.
    pub(crate) fn set_policy(&self, policy: Option<SlowConsumer>) {
        self.endpoint.slow.set_policy(self.key, policy);
    }

    /// How many frames to many have been dropped since this was asked.
    pub(crate) fn take_lagged(&self) -> u64 {
        self.endpoint.slow.take_lagged(self.key)
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

    /// Whether nothing that the peer has sent counts any more: it [is closed](Self::is_closed), and not
    /// just because the socket has failed.
    #[cfg(feature = "router")]
    pub(crate) fn ignores_peer(&self) -> bool {
        self.wants_attention() && !matches!(self.phase(), Phase::Open | Phase::Lost)
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
            || !self.endpoint.options.budget.is_spent()
                && bytes.saturating_add(len) <= self.endpoint.config.high_water
                && frames < self.endpoint.options.mailbox.max_frames
    }

    /// Drops what waits but for what has been begun, and closes.
    fn evict(&self, state: &mut State, code: CloseCode) -> impl Sized + use<T> {
        let dropped = state.backlog.as_mut().map(|backlog| backlog.clear());
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
        self.queue(state, &header, &Body::Copy(&body), Class::Control, false, false);
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
            let lost = state.phase == Phase::Open && phase == Phase::Broken;
            state.phase = if lost { Phase::Lost } else { phase };
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
    fn settle_own(&self, state: MutexGuard<'_, State>) {
        if state.is_plain() {
            // On nearly every way.
            self.attention.store(false, Ordering::Release);
        } else {
            self.settle_rest(state);
        }
    }

    fn settle_rest(&self, mut state: MutexGuard<'_, State>) {
        let (gone, open) = (state.phase.is_gone(), state.phase == Phase::Open);
        let (mut idle, mut senders, mut at) = (None, None, state.deadline);
        let mut spent = Vec::new();
        if let Some(backlog) = &mut state.backlog {
            spent = backlog.take_spent();
            let low = backlog.len() <= self.endpoint.config.high_water / 2;
            if !open || low && backlog.has_made_room() {
                senders = Some(backlog.take_waiting());
            }
            let (blocked, is_idle) = (backlog.is_unsent(), backlog.is_idle());
            // What the owner has in hand is not seen here, and comes back.
            if open && !blocked && !state.corked {
                (state.deadline, at) = (Tick::NEVER, Tick::NEVER);
            } else if state.phase.is_served() && blocked && state.owner.is_none() {
                // Soon, to see whether its owner has come.
                at = at.min(Tick::floor(self.endpoint.timer.now()) + TICK);
            }
            if gone || is_idle && !state.corked {
                idle = state.backlog.take();
            }
        }
        if let Some(backlog) = &mut state.backlog {
            let (budget, len) = (&self.endpoint.options.budget, backlog.len());
            backlog.charge.set(budget, len);
            if budget.is_spent() {
                self.endpoint.timer.shed_soon(budget);
            }
        }
        let attention = state.backlog.is_some() || state.streaming || state.phase != Phase::Open;
        self.attention.store(attention, Ordering::Release);
        drop(state);
        if at != Tick::NEVER {
            self.endpoint.timer.arm(self.key, at);
        }
        senders.into_iter().flatten().for_each(Waker::wake);
        drop(spent);
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
