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
    /// How many of them were in the bundle.
    pub(crate) refused: usize,
}

impl Offered {
    const fn whole(fate: Fate) -> Self {
        Self { fate, dropped: 0, refused: 0 }
    }
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
            return Some(Offered::whole(Fate::Closed));
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
                return Some(Offered::whole(fate));
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
        let (mut waits, mut dropped, mut refused, mut skip) = (false, 0, 0, written);
        for run in &bundle.runs {
            if skip >= run.bytes.len() {
                skip -= run.bytes.len();
                continue;
            }
            let backlog = state.backlog.get_or_insert_with(Backlog::spare);
            if skip > 0 {
                let rest = run.bytes.slice(mem::take(&mut skip)..);
                backlog.begin_run(apart(rest, bundle.within));
                waits = true;
                continue;
            }
            let run = Run { bytes: apart(run.bytes.clone(), bundle.within), ..*run };
            match backlog.offer(self.with_policy(run), state.streaming, &self.limits()) {
                Offer::Queued { dropped: older, .. } => {
                    waits = true;
                    for run in older {
                        dropped += run.frames;
                        spent.push(run.bytes);
                    }
                }
                Offer::Dropped(run) => {
                    dropped += run.frames;
                    refused += run.frames;
                    spent.push(run.bytes);
                }
                Offer::Evict(run, code) => {
                    spent.push(run.bytes);
                    let evicted = self.evict(state, code);
                    return (Offered { fate: Fate::Evicted, dropped, refused }, Some(evicted));
                }
                // Of one that is doomed, which is not open.
                Offer::Refused(run) => spent.push(run.bytes),
            }
        }
        let fate = if waits { Fate::Queued } else { Fate::Dropped };
        (Offered { fate, dropped, refused }, None)
    }

    /// What was said of the connection counts before what was said of the group, which the run has; and that
    /// before what was said of the server.
    fn with_policy(&self, mut run: Run) -> Run {
        run.policy = self.endpoint.slow.policy(self.key).or(run.policy);
        run
    }

    /// How much may wait for this peer.
    fn limits(&self) -> MailboxLimits {
        let options = &self.endpoint.options;
        let mut limits = options.mailbox;
        if options.budget.is_spent() {
            limits.max_bytes = 0;
        }
        limits
    }
}

/// What waits of a buffer that is so long: in memory of its own if it is the smaller part, as it would keep all
/// of the buffer and is not counted for that.
fn apart(bytes: Bytes, within: usize) -> Bytes {
    if bytes.len() < within / 2 { Bytes::copy_from_slice(&bytes) } else { bytes }
}

#[cfg(all(test, not(wsforge_loom)))]
mod tests {
    use std::sync::Arc;
    use std::task::Context;

    use wsforge_core::frame::Opcode;
    use wsforge_core::hub::{Class, SlowConsumer};
    use wsforge_core::{CloseCode, Output};

    use super::super::mock::{Count, Pipe, bundle, endpoint, frame, frames, opened, opened_at};
    use super::super::{Piece, Room};
    use super::*;
    use crate::{Budget, Options};

    fn options(policy: SlowConsumer) -> Options {
        let mut options = Options::default();
        options.mailbox.policy = policy;
        options.mailbox.max_bytes = 100;
        options
    }

    fn offer(outbox: &Outbox, bundle: &Bundle) -> (Fate, usize) {
        let Offered { fate, dropped, .. } = outbox.offer(|| Some(bundle)).unwrap();
        (fate, dropped)
    }

    /// One of 40 bytes.
    fn message(n: u8) -> Bundle {
        bundle(&[n; 38])
    }

    fn about(key: u64, n: u8) -> Bundle {
        let mut bundle = message(n);
        bundle.runs[0].key = Some(key);
        bundle
    }

    /// What the peer gets once it reads: of each message its first byte.
    fn got(outbox: &Outbox, pipe: &Pipe) -> Vec<u8> {
        pipe.room(usize::MAX);
        assert!(outbox.poll_flush(&mut Count::default().context()).is_ready());
        frames(&pipe.written()).into_iter().map(|(.., body)| body[0]).collect()
    }

    #[test]
    fn what_does_not_fit_goes_by_the_policy() {
        let drops = |policy| {
            let (outbox, pipe) = opened(options(policy));
            pipe.room(0);
            let offers = [1, 2, 3].map(|n| offer(&outbox, &message(n)));
            (offers[2], outbox.take_lagged(), got(&outbox, &pipe))
        };
        assert_eq!(drops(SlowConsumer::DropNewest), ((Fate::Dropped, 1), 1, vec![1, 2]));
        assert_eq!(drops(SlowConsumer::DropOldest), ((Fate::Queued, 1), 1, vec![2, 3]));
        assert_eq!(drops(SlowConsumer::KeepNewest), ((Fate::Queued, 1), 1, vec![2, 3]));
        let code = CloseCode::new(4000).unwrap();
        assert_eq!(drops(SlowConsumer::Disconnect(code)), ((Fate::Evicted, 0), 0, vec![15]));
    }

    #[test]
    fn only_the_newest_of_a_key_waits_and_stands_last() {
        let (outbox, pipe) = opened(options(SlowConsumer::KeepNewest));
        pipe.room(0);
        let offers = [about(7, 1), about(8, 2), about(7, 3)].map(|bundle| offer(&outbox, &bundle));
        assert_eq!(offers[2], (Fate::Queued, 1));
        assert_eq!((outbox.pending(), got(&outbox, &pipe)), (80, vec![2, 3]));
    }

    #[test]
    fn what_the_socket_has_begun_to_take_is_never_dropped() {
        for policy in [SlowConsumer::DropOldest, SlowConsumer::KeepNewest] {
            let (outbox, pipe) = opened(options(policy));
            pipe.room(1);
            for n in 1..9 {
                offer(&outbox, &about(7, n));
            }
            assert_eq!(got(&outbox, &pipe), [1, 8]);
        }
    }

    #[test]
    fn of_a_bundle_what_is_whole_may_wait_or_be_dropped_by_itself() {
        let class = Class::Broadcast;
        let bytes = Bytes::from(
            [frame(Opcode::Binary, &[1; 38]), frame(Opcode::Binary, &[2; 38])].concat(),
        );
        let runs = [0..40, 40..80].map(|at| Run {
            bytes: bytes.slice(at),
            frames: 1,
            class,
            key: None,
            policy: None,
        });
        let bundle = Bundle { bytes, within: 80, runs: runs.to_vec(), frames: 2 };
        for written in 0..80 {
            let (outbox, pipe) = opened(options(SlowConsumer::DropOldest));
            pipe.room(written);
            assert_eq!(offer(&outbox, &bundle), (Fate::Queued, 0), "{written}");
            let (fate, dropped) = offer(&outbox, &message(3));
            assert_eq!(fate, Fate::Queued);
            // The second of them while nothing of it has left; with nothing of the first, that.
            assert_eq!(dropped, usize::from(written < 20), "{written}");
            let got = got(&outbox, &pipe);
            match written {
                0 => assert_eq!(got, [2, 3]),
                1..20 => assert_eq!(got, [1, 3]),
                _ => assert_eq!(got, [1, 2, 3]),
            }
        }
    }

    #[test]
    fn a_policy_of_the_connection_counts_before_that_of_the_group_and_that_before_the_servers() {
        let (outbox, pipe) = opened(options(SlowConsumer::DropNewest));
        pipe.room(0);
        for n in 1..3 {
            offer(&outbox, &message(n));
        }
        let mut grouped = message(3);
        grouped.runs[0].policy = Some(SlowConsumer::DropOldest);
        assert_eq!(offer(&outbox, &message(3)), (Fate::Dropped, 1));
        assert_eq!(offer(&outbox, &grouped), (Fate::Queued, 1));
        outbox.set_policy(Some(SlowConsumer::DropNewest));
        assert_eq!(offer(&outbox, &grouped), (Fate::Dropped, 1));
        outbox.set_policy(None);
        assert_eq!(offer(&outbox, &grouped), (Fate::Queued, 1));
        assert_eq!(outbox.take_lagged(), 4);
        assert_eq!(outbox.take_lagged(), 0);
    }

    #[test]
    fn what_waits_for_the_end_of_a_streamed_message_goes_by_the_policy_too() {
        let (outbox, pipe) = opened(options(SlowConsumer::DropOldest));
        outbox.begin_stream().unwrap();
        let fragment = |opcode, last| {
            outbox.push(Piece::Fragment { last }, opcode, &[9][..].into(), Room::Any).unwrap();
        };
        fragment(Opcode::Binary, false);
        let offers = [1, 2, 3].map(|n| offer(&outbox, &message(n)));
        assert_eq!(offers[2], (Fate::Queued, 1));
        fragment(Opcode::Continuation, true);
        assert_eq!(got(&outbox, &pipe), [9, 9, 2, 3]);
    }

    #[test]
    fn what_was_sent_to_one_is_not_dropped_for_what_goes_to_many() {
        let (outbox, pipe) = opened(options(SlowConsumer::DropOldest));
        pipe.room(0);
        assert!(outbox.cork());
        for n in [1, 2] {
            outbox.push(Piece::Message, Opcode::Binary, &[n; 38][..].into(), Room::Any).unwrap();
        }
        outbox.uncork(&mut Output::new(), &[], &wsforge_core::Body::Copy(&[]), false);
        assert_eq!(offer(&outbox, &message(3)), (Fate::Dropped, 1));
        assert_eq!(got(&outbox, &pipe), [1, 2]);
    }

    #[test]
    fn an_owner_that_wants_to_know_is_woken_to_learn_what_it_missed() {
        for asked in [false, true] {
            let (outbox, pipe) = opened(options(SlowConsumer::DropNewest));
            if asked {
                outbox.endpoint.slow.tell();
            }
            pipe.room(0);
            for n in 1..3 {
                offer(&outbox, &message(n));
            }
            let owner = Count::default();
            assert!(outbox.poll_flush(&mut owner.context()).is_pending());
            offer(&outbox, &message(3));
            assert_eq!(owner.get(), usize::from(asked));
        }
    }

    #[test]
    fn when_the_budget_is_spent_nothing_more_waits_behind_something() {
        let budget = Budget::new(100);
        let options = Options { budget: budget.clone(), ..Options::default() };
        let endpoint = endpoint(options);
        let peers = [(); 3].map(|()| opened_at(&endpoint));
        for (n, (outbox, pipe)) in peers.iter().enumerate() {
            outbox.set_policy(Some(SlowConsumer::DropNewest));
            pipe.room(0);
            assert_eq!(offer(outbox, &message(1)), (Fate::Queued, 0));
            assert_eq!(budget.waiting(), 40 * (n + 1));
        }
        let (first, pipe) = &peers[0];
        assert_eq!(offer(first, &message(2)), (Fate::Dropped, 1));
        let push = |room| first.push(Piece::Message, Opcode::Binary, &[3][..].into(), room);
        assert!(push(Room::Needed).is_err());
        // Who has nothing that waits is not slow.
        let (fourth, other) = opened_at(&endpoint);
        assert_eq!(offer(&fourth, &message(1)), (Fate::Written, 0));
        drop((fourth, other));
        assert_eq!(got(first, pipe), [1]);
        assert_eq!(budget.waiting(), 80);
        assert_eq!(offer(first, &message(2)), (Fate::Written, 0));
        drop(peers);
        assert_eq!(budget.waiting(), 0);
    }

    #[test]
    fn those_for_whom_most_waits_are_closed_first_until_less_does() {
        let budget = Budget::new(1000);
        let endpoint = endpoint(Options { budget: budget.clone(), ..Options::default() });
        let peers = [300, 600, 200].map(|len| {
            let (outbox, pipe) = opened_at(&endpoint);
            pipe.room(0);
            offer(&outbox, &bundle(&vec![1; len]));
            (outbox, pipe)
        });
        budget.shed();
        let phases = || peers.each_ref().map(|(outbox, _)| outbox.phase());
        assert_eq!(phases(), [Phase::Open, Phase::Evicted, Phase::Open]);
        assert!(budget.waiting() < 600, "{}", budget.waiting());
        // Not again, when it is not spent.
        budget.shed();
        assert_eq!(phases(), [Phase::Open, Phase::Evicted, Phase::Open]);
    }

    /// Bytes that say when nobody has them any more.
    struct Watched {
        bytes: Vec<u8>,
        _alive: Arc<()>,
    }

    impl AsRef<[u8]> for Watched {
        fn as_ref(&self) -> &[u8] {
            &self.bytes
        }
    }

    #[test]
    fn a_small_part_that_waits_does_not_keep_what_it_lay_in() {
        let (len, alive) = (40, Arc::new(()));
        for (larger, written, kept) in [(500, 0, false), (500, 3, false), (79, 0, true)] {
            let (outbox, pipe) = opened(Options::default());
            pipe.room(written);
            let small = frame(Opcode::Binary, &vec![1; len - 2]);
            let bytes = [small, vec![0; larger - len]].concat();
            let buffer = Watched { bytes, _alive: alive.clone() };
            let mut bundle = message(1);
            bundle.bytes = Bytes::from_owner(buffer).slice(..len);
            bundle.within = larger;
            bundle.runs[0].bytes = bundle.bytes.clone();
            assert_eq!(offer(&outbox, &bundle), (Fate::Queued, 0));
            drop(bundle);
            assert_eq!(Arc::strong_count(&alive), 1 + usize::from(kept));
            assert_eq!(got(&outbox, &pipe), [1]);
        }
    }

    #[test]
    fn an_offer_that_was_claimed_by_another_is_none() {
        let (outbox, pipe) = opened(Options::default());
        assert_eq!(outbox.offer(|| None), None);
        assert!(pipe.written().is_empty() && Arc::strong_count(&outbox) == 1);
        assert!(outbox.sleep(&Context::from_waker(std::task::Waker::noop())));
    }
}
