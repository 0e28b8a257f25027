//! What is sent to many, of which a slow peer may not get all.

use std::io::{ErrorKind, IoSlice};
use std::mem;

use bytes::Bytes;
use wsforge_core::hub::{Bundle, MailboxLimits, Offer, Run};

use super::{Backlog, Outbox, Phase, State, lock};
use crate::runtime::Transport;

/// What became of a bundle that was offered to a peer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Offered {
    pub(crate) fate: Fate,
    /// How many frames were dropped because too much waits for the peer, those of before too.
    pub(crate) dropped: usize,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fate {
    /// The connection is closing.
    Closed,
    /// All of it has been dropped.
    Dropped,
    /// Too much waited for the peer, so it has been closed.
    Evicted,
    /// Some of it waits for the peer.
    Queued,
    /// The socket has taken all of it.
    Written,
}

impl<T: Transport + ?Sized> Outbox<T> {
    /// Sends what `claim` gives. That is called under the lock: of several who offer the peer the same, one
    /// gets it, and whoever comes later finds it sent.
    ///
    /// If too much waits for the peer, some of it is dropped, or all and a Close follows.
    pub(crate) fn offer<'b>(&self, claim: impl FnOnce() -> Option<&'b Bundle>) -> Option<Offered> {
        let mut state = lock(&self.state);
        let bundle = claim()?;
        if state.phase != Phase::Open {
            return Some(Offered { fate: Fate::Closed, dropped: 0 });
        }
        let clear = state.backlog.is_none() && !state.corked && !state.streaming;
        let mut written = 0;
        if clear {
            match self.transport.try_write(&[IoSlice::new(&bundle.bytes)]) {
                Ok(n) if n > 0 => written = n,
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Ok(_) | Err(_) => self.fail(&mut state, Phase::Broken),
            }
            // Nobody counts what a shared bundle is worth: that would be a write which threads share.
            if state.phase != Phase::Open || written == bundle.bytes.len() {
                let fate = if written > 0 { Fate::Written } else { Fate::Closed };
                self.settle(state);
                return Some(Offered { fate, dropped: 0 });
            }
        }
        let mut spent = Vec::new();
        let (offered, evicted) = self.queue_runs(&mut state, bundle, written, &mut spent);
        if written > 0 {
            self.write_unless_corked(&mut state);
        } else if clear && offered.fate == Fate::Queued {
            self.block(&mut state);
        }
        if offered.dropped > 0 && self.endpoint.slow.lag(self.key, offered.dropped) {
            // It wants to know.
            state.wakes = true;
        }
        // Behind what was only gathered so far, it leaves with that.
        self.settle(state);
        drop((evicted, spent));
        Some(offered)
    }

    /// Lets the runs of a bundle wait, all that may, but for the `written` bytes of it. What is to be dropped
    /// when nothing is locked goes to `spent`, or is given.
    fn queue_runs(
        &self,
        state: &mut State,
        bundle: &Bundle,
        written: usize,
        spent: &mut Vec<Bytes>,
    ) -> (Offered, impl Sized + use<T>) {
        let (mut waits, mut dropped, mut skip) = (false, 0, written);
        for run in &bundle.runs {
            if skip >= run.bytes.len() {
                skip -= run.bytes.len();
                continue;
            }
            let backlog = state.backlog.get_or_insert_with(Backlog::spare);
            if skip > 0 {
                backlog.begin_run(run.bytes.slice(mem::take(&mut skip)..));
                waits = true;
                continue;
            }
            match backlog.offer(run.clone(), state.streaming, &self.limits_for(run)) {
                Offer::Queued { dropped: older, .. } => {
                    waits = true;
                    for run in older {
                        dropped += run.frames;
                        spent.push(run.bytes);
                    }
                }
                Offer::Dropped(run) => {
                    dropped += run.frames;
                    spent.push(run.bytes);
                }
                Offer::Evict(run, code) => {
                    spent.push(run.bytes);
                    let evicted = self.evict(state, code);
                    return (Offered { fate: Fate::Evicted, dropped }, Some(evicted));
                }
                // Of one that is doomed, which is not open.
                Offer::Refused(run) => spent.push(run.bytes),
            }
        }
        let fate = if waits { Fate::Queued } else { Fate::Dropped };
        (Offered { fate, dropped }, None)
    }

    /// How much may wait for this peer, and what happens then: what was said of the connection counts before
    /// what was said of the group, and that before what was said of the server.
    fn limits_for(&self, run: &Run) -> MailboxLimits {
        let options = &self.endpoint.options;
        let mut limits = options.mailbox;
        if let Some(policy) = self.endpoint.slow.policy(self.key).or(run.policy) {
            limits.policy = policy;
        }
        if options.budget.is_spent() {
            limits.max_bytes = 0;
        }
        limits
    }
}
