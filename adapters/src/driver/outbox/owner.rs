//! What only the session does, which owns the connection.

use std::io::ErrorKind;
use std::mem;
use std::task::{Context, Poll, Waker};

use wsforge_core::hub::{Class, Run};
use wsforge_core::{Body, Output};

use super::super::sync::MutexGuard;
use super::super::sync::atomic::Ordering;
use super::{Backlog, Outbox, Phase, State, TICK, Tick, lock};
use crate::runtime::Transport;

impl<T: Transport + ?Sized> Outbox<T> {
    /// Lets others send: the handshake's answer has been written, or stands first.
    pub(crate) fn open(&self) {
        let mut state = lock(&self.state);
        if state.phase == Phase::Opening {
            state.phase = Phase::Open;
            state.deadline = Tick::NEVER;
            if state.backlog.is_some() {
                self.block(&mut state);
            }
        }
        self.settle_own(state);
        if let Some(first) = self.first_look() {
            self.arm(Tick::floor(self.endpoint.timer.now()) + first);
        }
    }

    /// Says by when what goes on has to be done: the handshake, or the next step of a long answer.
    pub(crate) fn finish_by(&self, at: Tick) {
        let mut state = lock(&self.state);
        state.deadline = at;
        self.settle_own(state);
    }

    /// Whether the timer has looked at it since the session last said when it wants to be.
    pub(crate) fn has_rung(&self) -> bool {
        self.rung.load(Ordering::Acquire)
    }

    /// Whether the session has to say anew when it wants to be looked at.
    pub(crate) fn take_rung(&self) -> bool {
        self.rung.load(Ordering::Relaxed) && self.rung.swap(false, Ordering::Acquire)
    }

    /// Looks at the session at `at`.
    pub(crate) fn arm(&self, at: Tick) {
        self.endpoint.timer.arm(self.key, at);
    }

    pub(crate) const fn is_client(&self) -> bool {
        self.client
    }

    /// Whether anything but the plain road is to be taken.
    pub(crate) fn wants_attention(&self) -> bool {
        self.attention.load(Ordering::Acquire)
    }

    /// Says whether messages of the last read still wait to be received.
    pub(crate) fn set_gathering(&self, gathering: bool) {
        self.gathering.store(gathering, Ordering::Relaxed);
    }

    /// From now on the session gathers, and what others push goes behind that. Not if something waits
    /// already: then `false`.
    pub(crate) fn cork(&self) -> bool {
        self.catch_up();
        let mut state = lock(&self.state);
        let clear = state.phase == Phase::Open && state.backlog.is_none() && !state.streaming;
        clear && !mem::replace(&mut state.corked, true)
    }

    /// Writes what has been gathered since [`cork`](Self::cork), and a frame behind it.
    pub(crate) fn uncork(&self, output: &mut Output, head: &[u8], body: &Body<'_>, ends: bool) {
        self.send(output, head, body, ends, true);
    }

    /// Writes what the session has, behind what somebody may have gathered. If the connection `ends`
    /// with it, nothing follows.
    pub(crate) fn send_own(&self, output: &mut Output, ends: bool) {
        self.send(output, &[], &Body::Copy(&[]), ends, false);
    }

    fn send(&self, output: &mut Output, head: &[u8], body: &Body<'_>, ends: bool, uncorks: bool) {
        let mut spent = Vec::new();
        let mut state = lock(&self.state);
        let clear = state.phase == Phase::Open && state.backlog.is_none();
        if !clear || ends || state.corked && !uncorks {
            return self.send_behind(state, output, head, body, ends, uncorks);
        }
        state.corked = false;
        self.write(&mut state, output, head, body, &mut spent);
        self.owe(&mut state, 0);
        self.settle(state);
        output.clear();
        drop(spent);
    }

    /// As [`send`](Self::send), where something stands before it, or nothing may follow.
    #[inline(never)]
    fn send_behind(
        &self,
        mut state: MutexGuard<'_, State>,
        output: &mut Output,
        head: &[u8],
        body: &Body<'_>,
        ends: bool,
        uncorks: bool,
    ) {
        let (mut dropped, mut spent) = ((None, None, None), Vec::new());
        // Not a cork that another thread has set, whose turn goes on.
        let corked = uncorks && mem::take(&mut state.corked);
        let before = self.waiting(&state);
        // A Close is out, and the session does not know: what it has may be data, or another Close.
        let late = matches!(state.phase, Phase::ClosedBySender | Phase::Evicted);
        if state.phase.is_gone() || late && !corked {
            dropped.0 = Some(mem::take(output));
        } else if state.backlog.is_none() && !state.corked {
            self.write(&mut state, output, head, body, &mut spent);
        } else {
            let behind = state.corked;
            let backlog = state.backlog.get_or_insert_with(Backlog::spare);
            if corked || !behind && !backlog.has_queue() {
                // What stands in the queue was pushed after the cork was set.
                backlog.append(output);
                backlog.put(head, body.clone(), 0);
                if ends && corked {
                    dropped.1 = Some(backlog.clear());
                }
            } else {
                backlog.push_output(output, Class::Control);
                backlog.push_run(
                    Run {
                        bytes: [head, body].concat().into(),
                        frames: 1,
                        class: Class::Reply,
                        key: None,
                        policy: None,
                    },
                    false,
                );
            }
            self.write_unless_corked(&mut state);
        }
        self.owe(&mut state, before);
        if ends && matches!(state.phase, Phase::Opening | Phase::Open) {
            state.phase = Phase::Closing;
            state.streaming = false;
            dropped.2 = state.backlog.as_mut().map(|backlog| backlog.take_held());
            state.deadline = self.cut_at();
        }
        self.settle(state);
        output.clear();
        drop((dropped, spent));
    }

    /// Writes what waits. Its task is woken when it can go on, and when there is something new for it.
    pub(crate) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<Result<(), Phase>> {
        self.poll_flush_as(Who::Owner, cx)
    }

    /// Writes what waits, if the owner was woken to do so and has not come: it may be waiting for another
    /// peer. This task is woken when it can go on, unless the owner does.
    pub(crate) fn poll_flush_for_owner(&self, cx: &mut Context<'_>) -> Poll<Result<(), Phase>> {
        self.poll_flush_as(Who::Guest, cx)
    }

    fn poll_flush_as(&self, who: Who, cx: &mut Context<'_>) -> Poll<Result<(), Phase>> {
        loop {
            let mut state = lock(&self.state);
            match who {
                Who::Guest if state.corked || state.owner.is_some() => return Poll::Pending,
                Who::Guest => {}
                Who::Owner => own(&mut state, cx),
            }
            if state.phase.is_gone() {
                return Poll::Ready(Err(state.phase));
            }
            if state.corked {
                // A turn on another thread, which handed the connection over before it ended, or a guest.
                state.wakes = true;
                return Poll::Pending;
            }
            let Some(backlog) = &mut state.backlog else {
                self.settle_own(state);
                return Poll::Ready(Ok(()));
            };
            // The lock is not held while the transport works.
            let mut front = backlog.take_front();
            state.corked = true;
            drop(state);

            let before = front.len();
            let written = front.write_to(|slices| match self.transport.poll_write(cx, slices) {
                Poll::Ready(written) => written,
                Poll::Pending => Err(ErrorKind::WouldBlock.into()),
            });
            let flushed = match written {
                Ok(true) => self.transport.poll_flush(cx),
                Ok(false) => Poll::Pending,
                Err(error) => Poll::Ready(Err(error)),
            };

            let mut state = lock(&self.state);
            state.corked = false;
            if front.len() < before {
                self.progressed(&mut state);
            }
            let mut more = false;
            if let Some(backlog) = &mut state.backlog {
                backlog.restore(&mut front, flushed.is_pending());
                more = backlog.has_queue();
            }
            match flushed {
                Poll::Ready(Ok(())) => {
                    let gone = state.phase.is_gone();
                    self.settle_as(who, state);
                    if !more && !gone {
                        return Poll::Ready(Ok(()));
                    }
                }
                Poll::Ready(Err(_)) => {
                    self.fail(&mut state, Phase::Broken);
                    self.settle_as(who, state);
                }
                // Somebody has ended it meanwhile, and could not wake who writes.
                Poll::Pending if state.phase.is_gone() => {
                    let phase = state.phase;
                    self.settle_as(who, state);
                    return Poll::Ready(Err(phase));
                }
                Poll::Pending => {
                    self.block(&mut state);
                    state.wakes = state.wakes && matches!(who, Who::Guest);
                    self.settle_as(who, state);
                    return Poll::Pending;
                }
            }
        }
    }

    fn settle_as(&self, who: Who, state: MutexGuard<'_, State>) {
        match who {
            Who::Guest => self.settle(state),
            Who::Owner => self.settle_own(state),
        }
    }

    /// Writes what can be written now of what the owner has sent: on some transports nobody else does.
    pub(crate) fn write_through(&self, cx: &mut Context<'_>) {
        if self.wants_attention() {
            // What the peer does not take yet is written later, and who receives learns of a failure.
            let _ = self.poll_flush(cx);
        }
    }

    /// Remembers whom to wake when there is something to do; `false` if there is now.
    pub(crate) fn sleep(&self, cx: &Context<'_>) -> bool {
        let mut state = lock(&self.state);
        own(&mut state, cx);
        !self.wants_attention()
    }

    /// Who is to be woken when there is something to do, if it is not `waker`'s task. Asked only while
    /// something is in somebody's way.
    pub(crate) fn owner_beside(&self, waker: &Waker) -> Option<Waker> {
        if !self.wants_attention() {
            return None;
        }
        lock(&self.state).owner.as_ref().filter(|owner| !owner.will_wake(waker)).cloned()
    }

    /// The owner does something else: it need not be woken, and is not waited for.
    #[inline]
    pub(crate) fn leave(&self) {
        if self.wants_attention() {
            let mut state = lock(&self.state);
            let owner = state.owner.take();
            self.settle_own(state);
            drop(owner);
        }
    }

    /// The session has learned of a Close: all that it still sends are answers to pings.
    pub(crate) fn learned(&self) {
        let mut state = lock(&self.state);
        if state.phase == Phase::ClosedBySender {
            state.phase = Phase::Closing;
        }
    }

    /// Nothing more is sent, and the transport ends: with the outbox, or soon if somebody keeps that.
    pub(crate) fn end(&self, phase: Phase) {
        let mut state = lock(&self.state);
        self.fail(&mut state, phase);
        self.settle_own(state);
        // A system call that is rarely needed.
        self.arm(Tick::floor(self.endpoint.timer.now()) + TICK);
    }
}

/// Who writes what waits.
#[derive(Clone, Copy, Debug)]
enum Who {
    /// One who waits for room.
    Guest,
    Owner,
}

/// First it is said whom to wake, then looked whether there is something to do.
fn own(state: &mut State, cx: &Context<'_>) {
    state.wakes = false;
    match &mut state.owner {
        Some(owner) => owner.clone_from(cx.waker()),
        owner => *owner = Some(cx.waker().clone()),
    }
}

#[cfg(all(test, not(wsforge_loom)))]
mod tests {
    use wsforge_core::frame::Opcode::{Binary, Close};

    use super::super::mock::{Count, frame, frames, offer, opened};
    use super::super::{Piece, Room};
    use super::*;
    use crate::{CloseCode, Options};

    fn push(outbox: &Outbox, body: &[u8]) {
        outbox.push(Piece::Message, Binary, &body.into(), Room::Any).unwrap();
    }

    fn gathered(frames: &[&[u8]]) -> Output {
        let mut output = Output::new();
        frames.iter().for_each(|body| output.put(&frame(Binary, body)));
        output
    }

    fn bodies(bytes: &[u8]) -> Vec<Vec<u8>> {
        frames(bytes).into_iter().map(|(.., body)| body).collect()
    }

    /// Rule 11.
    #[test]
    fn what_others_push_goes_behind_what_is_gathered_and_wakes_nobody() {
        let (outbox, pipe) = opened(Options::default());
        let count = Count::default();
        assert!(outbox.sleep(&count.context()) && outbox.cork());
        push(&outbox, b"other");
        assert!(offer(&outbox, b"broadcast").is_taken());
        assert_eq!((pipe.writes(), count.get()), (0, 0));
        outbox.uncork(&mut gathered(&[b"own"]), &[], &Body::Copy(&[]), false);
        assert_eq!(bodies(&pipe.written()), [&b"own"[..], b"other", b"broadcast"]);
        assert_eq!((pipe.writes(), count.get()), (1, 0));
        assert!(!outbox.wants_attention());
    }

    #[test]
    fn what_the_owner_has_in_hand_is_not_lost_to_whoever_looks_meanwhile() {
        for pushes in [false, true] {
            let (outbox, pipe) = opened(Options::default());
            pipe.room(2);
            push(&outbox, b"first");
            pipe.room(3);
            pipe.meanwhile({
                let outbox = outbox.clone();
                move || {
                    outbox.flush_now();
                    if pushes {
                        push(&outbox, b"second");
                    }
                }
            });
            let mut cx = Context::from_waker(std::task::Waker::noop());
            assert!(outbox.poll_flush(&mut cx).is_pending());
            pipe.room(usize::MAX);
            assert_eq!(outbox.poll_flush(&mut cx), Poll::Ready(Ok(())));
            let sent = [&b"first"[..], b"second"];
            assert_eq!(bodies(&pipe.written()), sent[..1 + usize::from(pushes)]);
        }
    }

    /// Rule 15.
    #[test]
    fn what_the_kernel_refuses_is_kept_and_the_owner_woken_once() {
        let (outbox, pipe) = opened(Options::default());
        let count = Count::default();
        assert!(outbox.sleep(&count.context()));
        pipe.room(4);
        (0..10).for_each(|n| push(&outbox, &[n]));
        assert_eq!((count.get(), outbox.pending()), (1, 26));
        assert!(!outbox.sleep(&count.context()), "there is something to do");
        assert!(outbox.poll_flush(&mut count.context()).is_pending());
        push(&outbox, &[10]);
        assert_eq!(count.get(), 1);
        pipe.room(usize::MAX);
        assert_eq!(count.get(), 2, "the transport wakes who polled it");
        assert!(outbox.poll_flush(&mut count.context()).is_ready());
        assert_eq!(bodies(&pipe.written()), (0..=10).map(|n| vec![n]).collect::<Vec<_>>());
    }

    /// Rule 13: the task that polls may be another one each time.
    #[test]
    fn the_task_that_polled_last_is_the_one_that_is_woken() {
        let (outbox, pipe) = opened(Options::default());
        let (first, second) = (Count::default(), Count::default());
        outbox.sleep(&first.context());
        outbox.sleep(&second.context());
        pipe.room(0);
        push(&outbox, b"a");
        assert_eq!((first.get(), second.get()), (0, 1));
    }

    #[test]
    fn a_close_that_is_gathered_is_the_last_frame() {
        let (outbox, pipe) = opened(Options::default());
        assert!(outbox.cork());
        push(&outbox, b"other");
        assert!(outbox.close(CloseCode::NORMAL, "theirs"));
        let mut own = gathered(&[b"own"]);
        own.put(&frame(Close, &[3, 232]));
        outbox.uncork(&mut own, &[], &Body::Copy(&[]), true);
        assert!(outbox.poll_flush(&mut Count::default().context()).is_ready());
        let written = frames(&pipe.written());
        let opcodes: Vec<_> = written.iter().map(|(_, opcode, _)| *opcode).collect();
        assert_eq!(opcodes, [Binary, Close]);
    }

    #[test]
    fn a_close_of_others_goes_behind_what_is_gathered() {
        let (outbox, pipe) = opened(Options::default());
        let count = Count::default();
        assert!(outbox.sleep(&count.context()) && outbox.cork());
        assert!(outbox.close(CloseCode::NORMAL, ""));
        outbox.uncork(&mut gathered(&[b"own"]), &[], &Body::Copy(&[]), false);
        // Out of its turn, what it has is too late.
        outbox.uncork(&mut gathered(&[b"late"]), &[], &Body::Copy(&[]), false);
        let written = frames(&pipe.written());
        let opcodes: Vec<_> = written.iter().map(|(_, opcode, _)| *opcode).collect();
        assert_eq!((opcodes, &*written[0].2), (vec![Binary, Close], &b"own"[..]));
        assert!(!outbox.sleep(&count.context()), "the session has yet to learn of it");
    }

    #[test]
    fn a_transport_that_fails_ends_it() {
        let (outbox, pipe) = opened(Options::default());
        let count = Count::default();
        outbox.sleep(&count.context());
        pipe.abort();
        push(&outbox, b"a");
        assert_eq!((outbox.phase(), count.get()), (Phase::Lost, 1));
        assert_eq!(outbox.poll_flush(&mut count.context()), Poll::Ready(Err(Phase::Lost)));
    }
}
