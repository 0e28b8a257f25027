//! What the timer does for a connection whose owner may be away.

use std::task::Waker;
use std::time::Duration;

use wsforge_core::{CloseCode, Timestamp};

use super::super::sync::atomic::Ordering;
use super::{Backlog, Outbox, Phase, TICK, Tick, lock};
use crate::runtime::Transport;

/// How often the age of a connection is looked at that has no other deadline.
const AGE_LOOK: Duration = Duration::from_secs(60);

impl<T: Transport + ?Sized> Outbox<T> {
    /// Looks at the deadlines, and says when to look again. The owner is woken to look at its own.
    pub(crate) fn ring(&self, now: Timestamp, born: Tick) -> Option<Tick> {
        let now = Tick::floor(now);
        let mut state = lock(&self.state);
        // The timer knows one time for each connection: what the session wants, it has to say anew.
        self.rung.store(true, Ordering::Release);
        if state.deadline <= now {
            match state.phase {
                // The session answers that it was too slow, if it reacts at all.
                Phase::Opening if state.owner.is_some() => state.deadline = now + 2 * TICK,
                Phase::Open => {
                    // Judged only now: the socket may have taken something since it last said so.
                    let before = state.backlog.as_ref().map_or(0, |backlog| backlog.len());
                    self.write_unless_corked(&mut state);
                    let stalled =
                        |backlog: &Backlog| backlog.is_unsent() && backlog.len() >= before;
                    // The owner may be writing right now.
                    if !state.corked && state.backlog.as_deref().is_some_and(stalled) {
                        self.fail(&mut state, Phase::Stalled);
                    }
                }
                _ => self.fail(&mut state, Phase::TimedOut),
            }
        }
        // An owner that was woken to write and has not come is busy with something else. Others who send
        // are not to wait for it.
        let away = state.phase.is_served() && state.owner.is_none();
        if away {
            self.write_unless_corked(&mut state);
        }
        let unsent = state.backlog.as_deref().is_some_and(Backlog::is_unsent);
        let age = now.timestamp().since(born.timestamp());
        let mut dropped = None;
        if state.phase == Phase::Open
            && self.endpoint.options.max_age.is_some_and(|max_age| age >= max_age)
        {
            let code = CloseCode::GOING_AWAY;
            let reason = "the connection is too old";
            dropped = Some(self.put_close(&mut state, code, reason, Phase::ClosedBySender));
        }
        let gone = state.phase.is_gone();
        let mut next = state.deadline.min(now + AGE_LOOK);
        if let (Phase::Open, Some(max_age)) = (state.phase, self.endpoint.options.max_age) {
            next = next.min(born + max_age);
        }
        if away && unsent {
            next = now + TICK;
        }
        let owner = state.owner.take();
        self.settle(state);
        drop(dropped);
        if gone {
            self.transport.abort();
        }
        owner.into_iter().for_each(Waker::wake);
        (!gone).then_some(next)
    }

    /// How long after its handshake a connection is looked at for the first time, even if its owner never
    /// comes. Should the owner want it at about the same time, that is one look for both.
    pub(super) fn first_look(&self) -> Option<Duration> {
        let options = &self.endpoint.options;
        let age = options.max_age?.min(AGE_LOOK);
        let silence = [options.protocol.ping_interval, options.protocol.idle_timeout];
        silence.into_iter().flatten().chain([age]).min()
    }
}

#[cfg(all(test, not(wsforge_loom)))]
mod tests {
    use wsforge_core::frame::Opcode;

    use super::super::mock::{Count, frames, opened, opening};
    use super::super::{Piece, Room};
    use super::*;
    use crate::Options;

    fn push(outbox: &Outbox, len: usize) {
        let body = vec![0; len];
        outbox.push(Piece::Message, Opcode::Binary, &(&*body).into(), Room::Any).unwrap();
    }

    /// Says when to look again.
    fn ring(outbox: &Outbox, seconds: u64) -> Option<u64> {
        let now = Timestamp::from_millis(seconds * 1000);
        let next = outbox.ring(now, Tick::floor(now))?;
        Some(next.timestamp().as_millis() / 1000)
    }

    fn options() -> Options {
        Options { write_timeout: Duration::from_secs(10), ..Options::default() }
    }

    #[test]
    fn a_stalled_peer_is_cut_off_and_its_owner_woken() {
        let (outbox, pipe) = opened(options());
        let count = Count::default();
        outbox.sleep(&count.context());
        pipe.room(1);
        push(&outbox, 9);
        assert_eq!(count.get(), 1);
        outbox.sleep(&count.context());
        assert_eq!(ring(&outbox, 9), Some(10));
        assert_eq!(count.get(), 2);
        outbox.sleep(&count.context());
        assert_eq!((ring(&outbox, 10), count.get()), (None, 3));
        assert!(pipe.is_aborted());
        assert_eq!((outbox.phase(), outbox.pending()), (Phase::Stalled, 0));
    }

    #[test]
    fn what_waits_is_written_for_an_owner_that_does_not_come() {
        let (outbox, pipe) = opened(options());
        pipe.room(1);
        push(&outbox, 9);
        push(&outbox, 9);
        for _ in 0..3 {
            pipe.room(1);
            let now = Timestamp::from_millis(1000);
            assert_eq!(outbox.ring(now, Tick::floor(now)), Some(Tick::floor(now) + TICK));
        }
        assert_eq!(pipe.written().len(), 4);
        pipe.room(usize::MAX);
        assert!(ring(&outbox, 2).is_some());
        assert_eq!((frames(&pipe.written()).len(), outbox.pending()), (2, 0));
    }

    #[test]
    fn the_write_is_tried_again_before_it_is_judged() {
        let (outbox, pipe) = opened(options());
        pipe.room(1);
        push(&outbox, 9);
        // The owner does not poll, so nobody has noticed that there is room again.
        pipe.room(1);
        assert!(ring(&outbox, 10).is_some());
        assert_eq!(outbox.phase(), Phase::Open);
        pipe.room(usize::MAX);
        assert!(ring(&outbox, 20).is_some());
        assert_eq!((frames(&pipe.written()).len(), outbox.pending()), (1, 0));
        // With nothing to write there is no such deadline.
        assert_eq!(ring(&outbox, 30), Some(90));
    }

    #[test]
    fn what_a_transport_keeps_to_itself_stalls_too() {
        let (outbox, pipe) = opened(options());
        pipe.only_for_its_owner();
        pipe.keeps(true);
        push(&outbox, 9);
        assert!(outbox.poll_flush(&mut Count::default().context()).is_pending());
        assert_eq!(outbox.pending(), 0);
        assert_eq!((ring(&outbox, 10), outbox.phase()), (None, Phase::Stalled));
    }

    #[test]
    fn an_owner_that_is_writing_is_not_judged() {
        let (outbox, pipe) = opened(options());
        pipe.room(1);
        push(&outbox, 9);
        pipe.room(usize::MAX);
        pipe.meanwhile({
            let outbox = outbox.clone();
            move || {
                push(&outbox, 9);
                assert!(ring(&outbox, 10).is_some());
            }
        });
        assert!(outbox.poll_flush(&mut Count::default().context()).is_ready());
        assert_eq!((outbox.phase(), frames(&pipe.written()).len()), (Phase::Open, 2));
    }

    #[test]
    fn a_handshake_ends_in_time_whether_or_not_somebody_reacts() {
        let (outbox, pipe) = opening(options());
        outbox.finish_by(Tick::ceil(Timestamp::from_millis(5000)));
        let count = Count::default();
        outbox.sleep(&count.context());
        assert!(ring(&outbox, 5).is_some() && !pipe.is_aborted());
        assert_eq!(count.get(), 1);
        // It was woken, and did not come.
        assert_eq!((ring(&outbox, 6), pipe.is_aborted()), (None, true));
    }

    #[test]
    fn a_connection_that_is_too_old_is_closed() {
        let mut options = options();
        options.max_age = Some(Duration::from_secs(100));
        let (outbox, pipe) = opened(options);
        let ring = |seconds| {
            let at = |seconds: u64| Timestamp::from_millis(seconds * 1000);
            outbox.ring(at(seconds), Tick::floor(at(50))).is_some()
        };
        assert!(ring(149) && pipe.written().is_empty());
        assert!(ring(150));
        assert_eq!(frames(&pipe.written())[0].2[..2], 1001u16.to_be_bytes());
        assert_eq!(outbox.phase(), Phase::ClosedBySender);
    }
}
