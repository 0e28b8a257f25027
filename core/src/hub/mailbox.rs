use alloc::collections::VecDeque;

use bytes::Bytes;

use crate::Output;

/// A bounded queue of what waits for one member. It has no lock and wakes nobody; whoever has those
/// puts it behind them.
///
/// What it counts are bytes and frames that wait, in all classes. A member for whom too much waits is
/// to be disconnected: it is *doomed*, takes nothing more, and its owner ends it.
#[derive(Debug, Default)]
pub struct Mailbox {
    runs: VecDeque<Run>,
    bytes: usize,
    frames: usize,
    doomed: bool,
}

/// Whole frames that stay together: queued whole, and dropped whole if at all.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Run {
    /// The frames as they go over the wire.
    pub bytes: Bytes,
    /// How many frames that is.
    pub frames: usize,
    /// What kind of frames they are.
    pub class: Class,
    /// What the frames are about, if only the newest of that matters.
    pub key: Option<u64>,
}

/// What a run is, and so what a policy may do with it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Class {
    /// Sent to many; the only class that may be dropped for one of them.
    Broadcast,
    /// Control frames, and fragments: the connection breaks without them.
    Control,
    /// Sent to this member.
    Reply,
}

/// How much may wait for a member.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct MailboxLimits {
    /// Bytes. Default: 1 MiB.
    pub max_bytes: usize,
    /// Frames. Default: 4,096.
    pub max_frames: usize,
}

impl Default for MailboxLimits {
    fn default() -> Self {
        Self { max_bytes: 1024 * 1024, max_frames: 4096 }
    }
}

/// What became of a run.
#[derive(Debug, Eq, PartialEq)]
#[must_use = "a refused run comes back, and a doomed member must be ended"]
pub enum Offer {
    /// Too much waits: the member is doomed from now on. End it; this is said once.
    Evict(Run),
    /// It waits now.
    Queued {
        /// Whether nothing waited before: then the mailbox's owner sleeps.
        wake: bool,
    },
    /// The member is doomed.
    Refused(Run),
}

impl Mailbox {
    /// An empty mailbox, without memory of its own.
    pub const fn new() -> Self {
        Self { runs: VecDeque::new(), bytes: 0, frames: 0, doomed: false }
    }

    /// Queues a run, if no more waits with it than may. An empty mailbox takes any: a member for whom
    /// nothing waits is not slow.
    pub fn offer(&mut self, run: Run, limits: &MailboxLimits) -> Offer {
        if self.doomed {
            return Offer::Refused(run);
        }
        let bytes = self.bytes.saturating_add(run.bytes.len());
        let frames = self.frames.saturating_add(run.frames);
        if !self.is_empty() && (bytes > limits.max_bytes || frames > limits.max_frames) {
            self.doomed = true;
            return Offer::Evict(run);
        }
        match self.push(run) {
            Ok(wake) => Offer::Queued { wake },
            Err(run) => Offer::Refused(run),
        }
    }

    /// Queues a run whatever its length: for those who have looked at how much waits before, and would
    /// rather wait than lose the member. Tells whether nothing waited.
    ///
    /// # Errors
    ///
    /// The run, if the member is doomed.
    pub fn push(&mut self, run: Run) -> Result<bool, Run> {
        if self.doomed {
            return Err(run);
        }
        let first = self.runs.is_empty();
        self.bytes += run.bytes.len();
        self.frames += run.frames;
        self.runs.push_back(run);
        Ok(first)
    }

    /// Takes the run that has waited longest.
    pub fn pop(&mut self) -> Option<Run> {
        let run = self.runs.pop_front()?;
        self.bytes -= run.bytes.len();
        self.frames -= run.frames;
        Some(run)
    }

    /// Moves what waits to the end of `output`, in order.
    pub fn drain_into(&mut self, output: &mut Output) {
        self.take().for_each(|run| output.put_shared(run.bytes));
    }

    /// Takes what waits: to write it, or, of a doomed member, to drop it where no lock is held.
    pub fn take(&mut self) -> impl Iterator<Item = Run> + use<> {
        (self.bytes, self.frames) = (0, 0);
        core::mem::take(&mut self.runs).into_iter()
    }

    /// The number of bytes that wait.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The number of frames that wait.
    pub const fn frames(&self) -> usize {
        self.frames
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Whether it takes nothing more.
    pub const fn is_doomed(&self) -> bool {
        self.doomed
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    fn run(len: usize, frames: usize) -> Run {
        Run { bytes: vec![len as u8; len].into(), frames, class: Class::Broadcast, key: None }
    }

    fn limits(max_bytes: usize, max_frames: usize) -> MailboxLimits {
        MailboxLimits { max_bytes, max_frames }
    }

    #[test]
    fn limits_hold_to_the_byte_and_the_frame() {
        for (limits, more) in [(limits(100, 100), run(1, 1)), (limits(1000, 5), run(0, 1))] {
            let mut mailbox = Mailbox::new();
            assert_eq!(mailbox.offer(run(60, 3), &limits), Offer::Queued { wake: true });
            assert_eq!(mailbox.offer(run(40, 2), &limits), Offer::Queued { wake: false });
            assert_eq!((mailbox.bytes(), mailbox.frames()), (100, 5));
            assert_eq!(mailbox.offer(more.clone(), &limits), Offer::Evict(more.clone()));
            // Nothing follows a gap.
            assert!(mailbox.is_doomed());
            assert_eq!(mailbox.offer(run(0, 0), &limits), Offer::Refused(run(0, 0)));
            assert_eq!(mailbox.take().collect::<Vec<_>>(), [run(60, 3), run(40, 2)]);
            assert!(mailbox.is_empty() && mailbox.bytes() == 0 && mailbox.frames() == 0);
            assert_eq!(mailbox.offer(run(0, 0), &limits), Offer::Refused(run(0, 0)));
        }
    }

    #[test]
    fn an_empty_mailbox_takes_any_run() {
        let mut mailbox = Mailbox::new();
        let offer = mailbox.offer(run(200, 9), &limits(100, 5));
        assert_eq!(offer, Offer::Queued { wake: true });
    }

    #[test]
    fn who_has_looked_before_may_queue_more_than_is_offered() {
        let limits = limits(100, 5);
        let mut mailbox = Mailbox::new();
        assert_eq!(mailbox.pop(), None);
        assert_eq!(mailbox.push(run(200, 9)), Ok(true));
        assert_eq!(mailbox.push(run(1, 1)), Ok(false));
        assert_eq!((mailbox.bytes(), mailbox.frames(), mailbox.is_doomed()), (201, 10, false));
        assert_eq!(mailbox.pop(), Some(run(200, 9)));
        assert_eq!((mailbox.bytes(), mailbox.frames(), mailbox.is_empty()), (1, 1, false));
        // What was taken out has made room.
        assert_eq!(mailbox.offer(run(99, 4), &limits), Offer::Queued { wake: false });
        assert_eq!(mailbox.offer(run(1, 0), &limits), Offer::Evict(run(1, 0)));
        assert_eq!(mailbox.push(run(0, 0)), Err(run(0, 0)));
        assert_eq!(mailbox.pop(), Some(run(1, 1)));
        assert_eq!(mailbox.pop(), Some(run(99, 4)));
        assert_eq!((mailbox.pop(), mailbox.bytes(), mailbox.frames()), (None, 0, 0));
    }

    proptest! {
        /// Against a plain list: what was queued comes out whole, once and in order.
        #[test]
        fn behaves_like_a_list(
            steps in prop::collection::vec(
                prop_oneof![3 => (0..3000usize, 1..4usize).prop_map(Some), 1 => Just(None)],
                1..60,
            ),
        ) {
            let limits = limits(6000, 10);
            let (mut mailbox, mut model, mut doomed) = (Mailbox::new(), Vec::<Run>::new(), false);
            for step in steps {
                let Some((len, frames)) = step else {
                    let mut output = Output::new();
                    mailbox.drain_into(&mut output);
                    let written: Vec<u8> = output.slices().flatten().copied().collect();
                    let expected: Vec<u8> = model.drain(..).flat_map(|run| run.bytes).collect();
                    prop_assert_eq!(written, expected);
                    continue;
                };
                let sum = |get: fn(&Run) -> usize| model.iter().map(get).sum::<usize>();
                let fits = model.is_empty()
                    || sum(|run| run.bytes.len()) + len <= limits.max_bytes
                        && sum(|run| run.frames) + frames <= limits.max_frames;
                let run = run(len, frames);
                let expected = match (doomed, fits) {
                    (true, _) => Offer::Refused(run.clone()),
                    (false, false) => Offer::Evict(run.clone()),
                    (false, true) => Offer::Queued { wake: model.is_empty() },
                };
                doomed |= !fits;
                if matches!(expected, Offer::Queued { .. }) {
                    model.push(run.clone());
                }
                prop_assert_eq!(mailbox.offer(run, &limits), expected);
                prop_assert_eq!(mailbox.bytes(), model.iter().map(|run| run.bytes.len()).sum::<usize>());
            }
        }
    }
}
