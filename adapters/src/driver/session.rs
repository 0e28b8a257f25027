//! One connection's receiving side: read, decode, hand on, answer what the protocol wants answered.

use std::io::{self, ErrorKind};
use std::mem;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::BufMut;
use wsforge_core::{
    ClientConnection, CloseCode, Event, Input, Output, ServerConnection, Shutdown, State, Timestamp,
};

use super::entropy::Keys;
use super::halves::{Half, Tasks};
use super::outbox::{Outbox, Phase};
use super::receive::{Aim, Receive};
use super::replies::Replies;
use super::scratch::Scratch;
use super::slack::Slack;
use super::timer::{TICK, Tick};
use super::turn;
use crate::Message;
use crate::close::{CloseInfo, ConnectionError};

mod decode;
use decode::{is_full, owes_little};

/// From this length on a message that is kept is worth memory of its own to read it into.
const LARGE: usize = 16 * 1024;

/// Reads before it is somebody else's turn.
const READS_PER_POLL: usize = 16;

/// See the module. With its box it fills what a runtime leaves free beside a task.
#[derive(Debug)]
pub(crate) struct Session {
    conn: Conn,
    slack: Option<Box<Slack>>,
    /// Since when nobody has asked it to read, and so the peer is not to be judged by its silence.
    away: Tick,
    /// When the timer looks at it.
    armed: Tick,
    /// The last read has left room, so there was no more.
    drained: bool,
}

#[derive(Debug)]
pub(crate) enum Conn {
    /// In a box, as it leaves no room for what tells the two apart.
    Client(Box<ClientConnection<Keys>>),
    Server(ServerConnection),
}

/// On either kind of connection.
macro_rules! conn {
    ($self:expr, $conn:ident => $result:expr) => {
        match &mut $self.conn {
            Conn::Client($conn) => $result,
            Conn::Server($conn) => $result,
        }
    };
}

impl Session {
    /// A session of `conn`; `early` has arrived with the handshake.
    pub(crate) fn new(conn: Conn, early: &[u8]) -> Box<Self> {
        let slack = (!early.is_empty()).then(|| {
            let mut slack = Slack::spare();
            slack.parked.extend_from_slice(early);
            slack
        });
        let (away, armed) = (Tick::NEVER, Tick::NEVER);
        Box::new(Self { conn, slack, away, armed, drained: false })
    }

    /// Reads, and hands on what comes, until `receiver` has had enough. `None` is the end of the connection.
    ///
    /// It keeps everything that it knows in `self`: whoever gives up polling loses nothing.
    pub(crate) fn poll_each<R: Receive>(
        &mut self,
        outbox: &Arc<Outbox>,
        cx: &mut Context<'_>,
        aim: Aim,
        receiver: &mut R,
    ) -> Poll<Option<R::Break>> {
        turn::uncork();
        // What is sent from here on has nothing to wait for.
        outbox.set_gathering(false);
        let polled =
            turn::scope(|| Scratch::with(|scratch| self.work(outbox, cx, aim, scratch, receiver)));
        if polled.is_ready() {
            self.away = Tick::floor(outbox.endpoint.timer.now());
            // Of two tasks, the other may wait.
            if self.tasks().is_none() {
                outbox.leave();
            }
        }
        Slack::recycle_if_idle(&mut self.slack);
        let waiting = self.slack.as_ref().is_some_and(|slack| slack.has_waiting());
        outbox.set_gathering(waiting && polled.is_ready());
        polled
    }

    /// Gives the next of the messages that came with the last one that was received. The way is short:
    /// nothing is read, nobody is waited for, and nothing can be sent.
    #[inline]
    pub(crate) fn next_parked(&mut self, outbox: &Outbox) -> Option<Message> {
        let slack = self.slack.as_mut().filter(|slack| slack.inbox.is_empty())?;
        let parked = slack.parked.get_mut(slack.at..)?;
        let mut input = Input::new(parked, outbox.endpoint.timer.now());
        let message = conn!(self, conn => conn.next_copied(&mut input))?;
        let left = input.len();
        slack.unpark(left);
        if left == 0 {
            self.slacken(outbox);
        }
        Some(message)
    }

    /// As [`next_parked`](Self::next_parked), whatever it is that waits.
    pub(crate) fn next_waiting<R: Receive>(
        &mut self,
        outbox: &Arc<Outbox>,
        receiver: &mut R,
    ) -> Option<R::Break> {
        if !self.has_waiting() {
            return None;
        }
        let now = outbox.endpoint.timer.now();
        let flow = self.hand_on_waiting(outbox, &mut Output::new(), Aim::Whole, now, receiver);
        if !self.has_waiting() {
            self.slacken(outbox);
        }
        flow.break_value()
    }

    /// Nothing waits any more.
    fn slacken(&mut self, outbox: &Outbox) {
        Slack::recycle_if_idle(&mut self.slack);
        outbox.set_gathering(false);
    }

    /// Whoever polled it has given up, and does something else.
    #[inline]
    pub(crate) fn leave(&mut self, outbox: &Outbox) {
        if self.away == Tick::NEVER {
            self.go_away(outbox);
        }
    }

    fn go_away(&mut self, outbox: &Outbox) {
        self.away = Tick::floor(outbox.endpoint.timer.now());
        outbox.leave();
    }

    /// Whom to wake, if it is not just the task that polls `half` now.
    pub(crate) fn tasks_of(
        &mut self,
        outbox: &Outbox,
        half: Half,
        cx: &Context<'_>,
    ) -> Option<Arc<Tasks>> {
        match self.tasks() {
            Some(tasks) => tasks.wait(half, cx),
            None => {
                let tasks = Tasks::of(outbox, half, cx)?;
                self.slack().tasks = Some(tasks);
            }
        }
        self.tasks().cloned()
    }

    /// How it ended, once it has.
    pub(crate) fn info(&self) -> Option<&CloseInfo> {
        self.slack.as_ref()?.info.as_ref()
    }

    /// Whether something has been read that nobody has asked for yet.
    pub(crate) fn has_waiting(&self) -> bool {
        self.slack.as_ref().is_some_and(|slack| slack.has_waiting())
    }

    fn work<R: Receive>(
        &mut self,
        outbox: &Arc<Outbox>,
        cx: &mut Context<'_>,
        aim: Aim,
        scratch: &mut Scratch,
        receiver: &mut R,
    ) -> Poll<Option<R::Break>> {
        let Scratch { buf, output, own, expected } = scratch;
        let mut now = outbox.endpoint.timer.now();
        self.come_back(now);
        for _ in 0..READS_PER_POLL {
            let mut blocked = false;
            if !self.may_just_read(outbox, aim) {
                match self.before_reading(outbox, cx, aim, output, now, receiver) {
                    Before::Done(polled) => return polled,
                    Before::Again => continue,
                    Before::Read { blocked: is_blocked } => blocked = is_blocked,
                }
            }
            if self.drained && outbox.transport.poll_readable(cx).is_pending() {
                match self.rest(outbox, cx, output, blocked, now) {
                    true => return Poll::Pending,
                    false => continue,
                }
            }
            let read = match conn!(self, conn => conn.direct_buf()) {
                Some(mut direct) => {
                    let room = direct.remaining_mut();
                    let read = outbox.transport.poll_read_buf(cx, &mut direct);
                    read.map_ok(|n| Read::Direct(n, room))
                }
                None if R::KEEPS && *expected > 0 => {
                    // One byte more: a read that leaves room tells that nothing follows.
                    own.reserve_exact(*expected + 1);
                    let mut room = (&mut *own).limit(*expected + 1);
                    outbox.transport.poll_read_buf(cx, &mut room).map_ok(Read::Own)
                }
                None => outbox.transport.poll_read(cx, buf).map_ok(Read::Scratch),
            };
            match read {
                Poll::Ready(Ok(Read::Direct(0, _) | Read::Own(0) | Read::Scratch(0))) => {
                    // If that is a failure, the outcome says so.
                    let _ = conn!(self, conn => conn.handle_eof());
                }
                Poll::Ready(Ok(Read::Direct(n, room))) => {
                    self.drained = n < room;
                    now = outbox.endpoint.timer.now();
                    let event = conn!(self, conn => conn.direct_filled(now));
                    if let Some(Event::Message(message)) = event {
                        let mut replies = self.replies(outbox, output, true);
                        let flow = aim.hand_on(message, &mut self.slack, &mut replies, receiver);
                        replies.end(false);
                        if let ControlFlow::Break(found) = flow {
                            return Poll::Ready(Some(found));
                        }
                    }
                }
                Poll::Ready(Ok(Read::Own(n))) => {
                    self.drained = n <= *expected;
                    let read = mem::take(own);
                    // Much shorter ones are copied rather than to keep more memory than they need.
                    let whole = if n < *expected / 2 {
                        Err(read)
                    } else {
                        conn!(self, conn => conn.next_whole(read, now))
                    };
                    let flow = match whole {
                        Ok(message) => receiver.keep(message),
                        Err(mut read) => {
                            *expected = 0;
                            self.receive(outbox, output, &mut read, aim, now, receiver)
                        }
                    };
                    if let ControlFlow::Break(found) = flow {
                        return Poll::Ready(Some(found));
                    }
                }
                Poll::Ready(Ok(Read::Scratch(n))) => {
                    // A transport that claims more than there is room for is broken.
                    let Some(bytes) = buf.get_mut(..n) else {
                        return self.break_off(outbox, ErrorKind::InvalidData.into());
                    };
                    self.drained = n < Scratch::LEN;
                    let flow = self.receive(outbox, output, bytes, aim, now, receiver);
                    // Not the rest of one: that says nothing of how long the next one is.
                    let whole = receiver.kept() < n;
                    if R::KEEPS && n >= LARGE && flow.is_break() && whole && !self.has_waiting() {
                        *expected = n;
                    }
                    if let ControlFlow::Break(found) = flow {
                        return Poll::Ready(Some(found));
                    }
                }
                Poll::Ready(Err(error)) if error.kind() == ErrorKind::Interrupted => {}
                Poll::Ready(Err(error)) => return self.break_off(outbox, error),
                Poll::Pending => {
                    if self.rest(outbox, cx, output, blocked, now) {
                        return Poll::Pending;
                    }
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Whether nothing has to be done before it reads: so it is nearly always.
    #[inline]
    fn may_just_read(&mut self, outbox: &Outbox, aim: Aim) -> bool {
        self.slack.is_none()
            && !aim.keeps()
            && !outbox.wants_attention()
            && conn!(self, conn => conn.wants_shutdown()).is_none()
    }

    /// Hands on what waits, and writes what does, before it reads.
    #[inline(never)]
    fn before_reading<R: Receive>(
        &mut self,
        outbox: &Arc<Outbox>,
        cx: &mut Context<'_>,
        aim: Aim,
        output: &mut Output,
        now: Timestamp,
        receiver: &mut R,
    ) -> Before<R::Break> {
        let mut blocked = false;
        if !aim.keeps()
            && let Some(slack) = self.slack.as_mut().filter(|slack| slack.inbox.is_empty())
            && let Some(mut parting) = slack.parting.take()
        {
            outbox.send_own(&mut parting, true);
        }
        if self.has_waiting_for(aim)
            && !(aim.keeps() && is_full(&self.slack, outbox))
            && owes_little(outbox)
        {
            if let ControlFlow::Break(found) =
                self.hand_on_waiting(outbox, output, aim, now, receiver)
            {
                return Before::Done(Poll::Ready(Some(found)));
            }
            return Before::Again;
        }
        if self.info().is_some() {
            return Before::Done(Poll::Ready(None));
        }
        if outbox.wants_attention() {
            if !aim.streams() {
                outbox.abandon_stream();
            }
            let flushed = outbox.poll_flush(cx);
            self.learn(outbox, now);
            match flushed {
                Poll::Ready(Err(phase)) => return Before::Done(self.finish(outbox, Some(phase))),
                Poll::Ready(Ok(())) => {
                    if aim.keeps() {
                        return Before::Done(Poll::Ready(None));
                    }
                }
                Poll::Pending => blocked = true,
            }
            // By the rule by which the message is taken: else they would take turns for ever.
            if let Aim::Room(piece, len) = aim
                && outbox.has_room(piece, len)
            {
                return Before::Done(Poll::Ready(None));
            }
        } else if aim.keeps() {
            return Before::Done(Poll::Ready(None));
        }
        match conn!(self, conn => conn.wants_shutdown()) {
            None => {}
            // It has closed, and there is nothing more to read; but something to write.
            Some(_) if self.is_parting() && !blocked => return Before::Again,
            Some(_) if self.is_parting() => return Before::Done(Poll::Pending),
            Some(Shutdown::Both) if blocked => return Before::Done(Poll::Pending),
            Some(Shutdown::Both) => {
                // Without a Close there is no deadline for it either.
                let ends = outbox.phase() != Phase::Open && !self.is_half_closed();
                if ends && outbox.transport.poll_close(cx).is_pending() {
                    return Before::Done(Poll::Pending);
                }
                return Before::Done(self.finish(outbox, None));
            }
            Some(Shutdown::Write) if !blocked && !self.is_half_closed() => {
                match outbox.transport.poll_shutdown(cx) {
                    Poll::Ready(_) => self.slack().half_closed = true,
                    Poll::Pending => {}
                }
            }
            Some(_) => {}
        }
        // A peer that does not read is not read from: what it makes us owe is bounded. But one that
        // is sent much of our own accord may be sending as well, and wait for us to read.
        if blocked && (!owes_little(outbox) || aim.keeps() && is_full(&self.slack, outbox)) {
            // While we do not read, its pongs cannot arrive.
            conn!(self, conn => conn.pause(now));
            self.away = Tick::floor(now);
            if self.handle_timeout(outbox, output, now) {
                return Before::Again;
            }
            return Before::Done(Poll::Pending);
        }
        if self.has_waiting_for(aim) {
            // Writing has made room, and what was read before goes first.
            return Before::Again;
        }
        Before::Read { blocked }
    }

    /// What the protocol's clock wants; whether something has changed.
    fn handle_timeout(
        &mut self,
        outbox: &Arc<Outbox>,
        output: &mut Output,
        now: Timestamp,
    ) -> bool {
        let armed = self.armed;
        if outbox.take_rung() || armed <= Tick::floor(now) {
            self.armed = Tick::NEVER;
        } else if let Some(at) = conn!(self, conn => conn.next_timeout())
            && at + TICK > armed.timestamp()
        {
            // Nothing is due, and it is looked at before something is.
            return false;
        }
        let shutdown = conn!(self, conn => conn.wants_shutdown());
        let failed = conn!(self, conn => conn.handle_timeout(now, output)).is_some();
        let ends = conn!(self, conn => conn.state()) != State::Open;
        if !output.is_empty() {
            outbox.send_own(output, ends);
        }
        if let Some(at) = conn!(self, conn => conn.next_timeout()) {
            let at = Tick::ceil(at);
            if at < self.armed {
                self.armed = at;
                outbox.arm(at);
            }
        }
        failed || shutdown != conn!(self, conn => conn.wants_shutdown())
    }

    /// Waits for the peer; `false` if there is something to do first.
    fn rest(
        &mut self,
        outbox: &Arc<Outbox>,
        cx: &mut Context<'_>,
        output: &mut Output,
        blocked: bool,
        now: Timestamp,
    ) -> bool {
        // Whatever wakes it, there may be more by then.
        self.drained = false;
        // What has arrived has been looked at: now its silence counts.
        if self.handle_timeout(outbox, output, now) {
            return false;
        }
        let quiet = outbox.sleep(cx);
        !outbox.has_rung() && (blocked || quiet || self.has_rested(outbox, cx, now))
    }

    /// Writes what was pushed while the session was about to sleep; whether it may sleep now.
    fn has_rested(&mut self, outbox: &Arc<Outbox>, cx: &mut Context<'_>, now: Timestamp) -> bool {
        let state = conn!(self, conn => conn.state());
        let flushed = outbox.poll_flush(cx);
        self.learn(outbox, now);
        !matches!(flushed, Poll::Ready(Err(_))) && state == conn!(self, conn => conn.state())
    }

    /// Lets the connection know that somebody else has closed it.
    fn learn(&mut self, outbox: &Arc<Outbox>, now: Timestamp) {
        if conn!(self, conn => conn.state()) == State::Open
            && matches!(outbox.phase(), Phase::ClosedBySender | Phase::Evicted)
        {
            // The Close itself has been queued.
            let mut queued = Output::new();
            conn!(self, conn => conn.close(CloseCode::NORMAL, "", now, &mut queued));
            outbox.learned();
        }
    }

    /// The deadlines that wait for the peer stood still while nobody was reading.
    fn come_back(&mut self, now: Timestamp) {
        let away = mem::replace(&mut self.away, Tick::NEVER);
        if away == Tick::NEVER {
            return;
        }
        let away = away.timestamp();
        if now.since(away) > TICK {
            conn!(self, conn => conn.pause(away));
        }
        conn!(self, conn => conn.resume(now));
    }

    /// The transport has failed.
    fn break_off<B>(&mut self, outbox: &Arc<Outbox>, error: io::Error) -> Poll<Option<B>> {
        let _ = conn!(self, conn => conn.handle_eof());
        self.end(outbox, Phase::Broken, Some(ConnectionError::Io(error)))
    }

    /// All is over, by itself or because of `phase`.
    fn finish<B>(&mut self, outbox: &Arc<Outbox>, phase: Option<Phase>) -> Poll<Option<B>> {
        let error = match phase.unwrap_or_else(|| outbox.phase()) {
            Phase::Broken | Phase::Lost => Some(io::Error::from(ErrorKind::BrokenPipe).into()),
            Phase::Evicted => Some(ConnectionError::Evicted),
            Phase::Stalled => Some(ConnectionError::Stalled),
            Phase::TimedOut => Some(ConnectionError::TimedOut),
            _ => None,
        };
        if phase.is_some() {
            let _ = conn!(self, conn => conn.handle_eof());
        }
        self.end(outbox, Phase::Ended, error)
    }

    fn end<B>(
        &mut self,
        outbox: &Arc<Outbox>,
        phase: Phase,
        error: Option<ConnectionError>,
    ) -> Poll<Option<B>> {
        outbox.end(phase);
        let outcome = conn!(self, conn => conn.outcome());
        let slack = self.slack();
        let reason = mem::take(&mut slack.reason);
        slack.info = Some(CloseInfo::new(outcome, reason, error));
        Poll::Ready(None)
    }

    /// Whether the peer has closed, and has answers to come before ours to that.
    fn is_parting(&self) -> bool {
        self.slack.as_ref().is_some_and(|slack| slack.parting.is_some())
    }

    fn tasks(&self) -> Option<&Arc<Tasks>> {
        self.slack.as_ref()?.tasks.as_ref()
    }

    fn is_half_closed(&self) -> bool {
        self.slack.as_ref().is_some_and(|slack| slack.half_closed)
    }

    fn has_waiting_for(&self, aim: Aim) -> bool {
        match aim {
            Aim::Pieces | Aim::Whole => self.has_waiting(),
            Aim::Empty | Aim::Room(..) => {
                self.slack.as_ref().is_some_and(|slack| slack.at < slack.parked.len())
            }
        }
    }

    fn replies<'a>(
        &mut self,
        outbox: &'a Arc<Outbox>,
        output: &'a mut Output,
        last: bool,
    ) -> Replies<'a> {
        let open = conn!(self, conn => conn.state()) == State::Open || self.is_parting();
        Replies::new(outbox, output, open, last)
    }

    fn slack(&mut self) -> &mut Slack {
        self.slack.get_or_insert_with(Slack::spare)
    }
}

/// What a session does when it has [seen to the rest](Session::before_reading).
enum Before<B> {
    Again,
    Done(Poll<Option<B>>),
    Read { blocked: bool },
}

enum Read {
    /// Into room for so many bytes.
    Direct(usize, usize),
    Own(usize),
    Scratch(usize),
}
