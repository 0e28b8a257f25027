//! What the timer does for a connection whose owner may be away.

use std::task::Waker;
use std::time::Duration;

use wsforge_core::{CloseCode, Timestamp};

use super::super::sync::atomic::Ordering;
use super::{Outbox, Phase, TICK, Tick, lock};
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
                    let after = state.backlog.as_ref().map_or(0, |backlog| backlog.len());
                    if after > 0 && after >= before {
                        self.fail(&mut state, Phase::Stalled);
                    }
                }
                _ => self.fail(&mut state, Phase::TimedOut),
            }
        }
        let age = now.timestamp().since(born.timestamp());
        if state.phase == Phase::Open
            && self.endpoint.options.max_age.is_some_and(|max_age| age >= max_age)
        {
            let code = CloseCode::GOING_AWAY;
            self.put_close(&mut state, code, "the connection is too old", Phase::ClosedBySender);
        }
        let gone = state.phase.is_gone();
        let mut next = state.deadline.min(now + AGE_LOOK);
        if let (Phase::Open, Some(max_age)) = (state.phase, self.endpoint.options.max_age) {
            next = next.min(born + max_age);
        }
        let owner = state.owner.take();
        self.settle(state);
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
