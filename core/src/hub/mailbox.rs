use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::{Class, Run, SlowConsumer};
use crate::{CloseCode, Output};

/// A bounded queue of what waits for one member. It has no lock and wakes nobody; whoever has those
/// puts it behind them.
///
/// What it counts are bytes and frames that wait, in all classes. When too much waits, a
/// [policy](SlowConsumer) says what gives way: runs, or the member. That one is *doomed* then, takes
/// nothing more, and its owner ends it.
#[derive(Debug, Default)]
pub struct Mailbox {
    runs: VecDeque<Run>,
    bytes: usize,
    frames: usize,
    doomed: bool,
}

/// How much may wait for a member, and what happens when more would.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct MailboxLimits {
    /// Bytes. Default: 1 MiB.
    pub max_bytes: usize,
    /// Frames. Default: 4,096.
    pub max_frames: usize,
    /// What happens, unless a [run](Run::policy) has a policy of its own. Default: to disconnect the
    /// member with [`CloseCode::TRY_AGAIN_LATER`].
    pub policy: SlowConsumer,
}

impl Default for MailboxLimits {
    fn default() -> Self {
        Self { max_bytes: 1024 * 1024, max_frames: 4096, policy: SlowConsumer::default() }
    }
}

/// What became of a run.
///
/// All that gives way is handed back: it may be somebody's own memory, which may not be dropped under a
/// lock.
#[derive(Debug, Eq, PartialEq)]
#[must_use = "dropped runs come back, and a doomed member must be ended"]
pub enum Offer {
    /// It is dropped itself; nothing has changed.
    Dropped(Run),
    /// Too much waits: the member is doomed from now on. End it with this code; this is said once.
    Evict(Run, CloseCode),
    /// It waits now.
    Queued {
        /// Whether nothing waited before: then the mailbox's owner sleeps.
        wake: bool,
        /// What was dropped for it, in the order in which it waited.
        dropped: Vec<Run>,
    },
    /// The member is doomed.
    Refused(Run),
}

impl Mailbox {
    /// An empty mailbox, without memory of its own.
    pub const fn new() -> Self {
        Self { runs: VecDeque::new(), bytes: 0, frames: 0, doomed: false }
    }

    /// Queues a run, if no more waits with it than may; otherwise its policy says what gives way. An empty
    /// mailbox takes any: a member for whom nothing waits is not slow.
    pub fn offer(&mut self, run: Run, limits: &MailboxLimits) -> Offer {
        self.offer_behind(0, run, limits)
    }

    /// As [`offer`](Self::offer), for a member for whom `before` bytes wait elsewhere, in front of the
    /// mailbox: they count, and nothing can drop them. While there are any, its owner is awake.
    pub fn offer_behind(&mut self, before: usize, run: Run, limits: &MailboxLimits) -> Offer {
        if self.doomed {
            return Offer::Refused(run);
        }
        let wake = before == 0 && self.is_empty();
        if wake {
            self.append(run);
            return Offer::Queued { wake, dropped: Vec::new() };
        }
        let policy = run.policy.unwrap_or(limits.policy);
        let Some(victims) = self.victims(before, &run, policy, limits) else {
            return match policy {
                SlowConsumer::Disconnect(code) => self.evict(run, code),
                _ if run.class == Class::Broadcast => Offer::Dropped(run),
                _ => self.evict(run, CloseCode::TRY_AGAIN_LATER),
            };
        };
        let dropped = self.take_out(&victims);
        self.append(run);
        Offer::Queued { wake, dropped }
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
        self.append(run);
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

    fn append(&mut self, run: Run) {
        self.bytes += run.bytes.len();
        self.frames += run.frames;
        self.runs.push_back(run);
    }

    fn evict(&mut self, run: Run, code: CloseCode) -> Offer {
        self.doomed = true;
        Offer::Evict(run, code)
    }

    /// The places of the runs that are to give way to a new one, in their order; none may be needed.
    /// `None` if it would not fit even so: then nothing gives way for nothing.
    fn victims(
        &self,
        before: usize,
        run: &Run,
        policy: SlowConsumer,
        limits: &MailboxLimits,
    ) -> Option<Vec<usize>> {
        let mut bytes = before.checked_add(self.bytes)?.checked_add(run.bytes.len())?;
        let mut frames = self.frames.checked_add(run.frames)?;
        let key =
            run.key.filter(|_| policy == SlowConsumer::KeepNewest && run.class == Class::Broadcast);
        let is_replaced = |waiting: &Run| key.is_some() && waiting.key == key;
        let droppable = || {
            self.runs.iter().enumerate().filter(|(_, waiting)| {
                let policy = waiting.policy.unwrap_or(limits.policy);
                waiting.class == Class::Broadcast && !matches!(policy, SlowConsumer::Disconnect(_))
            })
        };
        let mut replaced = droppable().filter(|(_, waiting)| is_replaced(waiting));
        let mut others = droppable().filter(|(_, waiting)| !is_replaced(waiting));
        let mut victims = Vec::new();
        loop {
            let next = key.and_then(|_| replaced.next());
            if next.is_none() && bytes <= limits.max_bytes && frames <= limits.max_frames {
                break;
            }
            let (at, waiting) = next.or_else(|| match policy {
                SlowConsumer::Disconnect(_) => None,
                SlowConsumer::DropNewest if run.class == Class::Broadcast => None,
                SlowConsumer::DropNewest => others.next_back(),
                SlowConsumer::DropOldest | SlowConsumer::KeepNewest => others.next(),
            })?;
            bytes -= waiting.bytes.len();
            frames -= waiting.frames;
            victims.push(at);
        }
        victims.sort_unstable();
        Some(victims)
    }

    /// Takes out the runs at these places, which are in order.
    fn take_out(&mut self, victims: &[usize]) -> Vec<Run> {
        // Most often they stand at the front, and nothing is moved.
        let first = victims.iter().enumerate().take_while(|(n, at)| n == *at).count();
        let mut dropped: Vec<Run> = self.runs.drain(..first).collect();
        if let Some(at) = victims.get(first) {
            let mut victims = victims[first..].iter().peekable();
            let behind = self.runs.split_off(at - first);
            for (at, run) in (*at..).zip(behind) {
                match victims.next_if(|victim| **victim == at) {
                    Some(_) => dropped.push(run),
                    None => self.runs.push_back(run),
                }
            }
        }
        for run in &dropped {
            self.bytes -= run.bytes.len();
            self.frames -= run.frames;
        }
        dropped
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    fn run(len: usize, frames: usize) -> Run {
        let bytes = vec![len as u8; len].into();
        Run { bytes, frames, class: Class::Broadcast, key: None, policy: None }
    }

    fn limits(max_bytes: usize, max_frames: usize) -> MailboxLimits {
        MailboxLimits { max_bytes, max_frames, ..MailboxLimits::default() }
    }

    fn queued(wake: bool, dropped: impl Into<Vec<Run>>) -> Offer {
        Offer::Queued { wake, dropped: dropped.into() }
    }

    #[test]
    fn limits_hold_to_the_byte_and_the_frame() {
        for (limits, more) in [(limits(100, 100), run(1, 1)), (limits(1000, 5), run(0, 1))] {
            let mut mailbox = Mailbox::new();
            assert_eq!(mailbox.offer(run(60, 3), &limits), queued(true, []));
            assert_eq!(mailbox.offer(run(40, 2), &limits), queued(false, []));
            assert_eq!((mailbox.bytes(), mailbox.frames()), (100, 5));
            assert_eq!(
                mailbox.offer(more.clone(), &limits),
                Offer::Evict(more.clone(), CloseCode::TRY_AGAIN_LATER)
            );
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
        assert_eq!(offer, queued(true, []));
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
        assert_eq!(mailbox.offer(run(99, 4), &limits), queued(false, []));
        assert_eq!(
            mailbox.offer(run(1, 0), &limits),
            Offer::Evict(run(1, 0), CloseCode::TRY_AGAIN_LATER)
        );
        assert_eq!(mailbox.push(run(0, 0)), Err(run(0, 0)));
        assert_eq!(mailbox.pop(), Some(run(1, 1)));
        assert_eq!(mailbox.pop(), Some(run(99, 4)));
        assert_eq!((mailbox.pop(), mailbox.bytes(), mailbox.frames()), (None, 0, 0));
    }

    /// A run of a class and with a key, whose bytes are its name.
    fn named(name: &'static str, class: Class, key: Option<u64>) -> Run {
        Run { bytes: name.into(), frames: 1, class, key, policy: None }
    }

    fn waiting(mailbox: &mut Mailbox) -> Vec<Run> {
        mailbox.take().collect()
    }

    #[test]
    fn each_policy_drops_what_it_says() {
        let [a, b, c] = ["aaa", "bbb", "ccc"].map(|name| named(name, Class::Broadcast, None));
        let reply = named("reply", Class::Reply, None);
        let full = |policy| {
            let limits = MailboxLimits { policy, ..limits(11, 9) };
            let mut mailbox = Mailbox::new();
            for run in [&a, &reply, &b] {
                assert!(matches!(mailbox.offer(run.clone(), &limits), Offer::Queued { .. }));
            }
            (mailbox, limits)
        };
        let (mut mailbox, limits) = full(SlowConsumer::Disconnect(CloseCode::POLICY));
        assert_eq!(mailbox.offer(c.clone(), &limits), Offer::Evict(c.clone(), CloseCode::POLICY));

        let (mut mailbox, limits) = full(SlowConsumer::DropNewest);
        assert_eq!(mailbox.offer(c.clone(), &limits), Offer::Dropped(c.clone()));
        let pong = named("pong", Class::Control, None);
        assert_eq!(mailbox.offer(pong.clone(), &limits), queued(false, [a.clone(), b.clone()]));
        assert_eq!(waiting(&mut mailbox), [reply.clone(), pong]);

        for policy in [SlowConsumer::DropOldest, SlowConsumer::KeepNewest] {
            let (mut mailbox, limits) = full(policy);
            assert_eq!(mailbox.offer(c.clone(), &limits), queued(false, [a.clone()]));
            assert_eq!((mailbox.bytes(), mailbox.frames()), (11, 3));
            assert_eq!(
                mailbox.offer(reply.clone(), &limits),
                queued(false, [b.clone(), c.clone()])
            );
            assert_eq!(mailbox.offer(reply.clone(), &limits), {
                Offer::Evict(reply.clone(), CloseCode::TRY_AGAIN_LATER)
            });
            assert!(mailbox.is_doomed());
            assert_eq!(waiting(&mut mailbox), [reply.clone(), reply.clone()]);
        }
    }

    #[test]
    fn the_newest_of_a_key_takes_the_place_of_the_others() {
        let of = |name, key| named(name, Class::Broadcast, Some(key));
        let limits = MailboxLimits { policy: SlowConsumer::KeepNewest, ..limits(8, 9) };
        let mut mailbox = Mailbox::new();
        assert_eq!(mailbox.offer(of("a1", 1), &limits), queued(true, []));
        // Although it is the only one that waits: its owner is awake.
        assert_eq!(mailbox.offer(of("a2", 1), &limits), queued(false, [of("a1", 1)]));
        assert_eq!(mailbox.offer(of("b1", 2), &limits), queued(false, []));
        let reply = named("a!", Class::Reply, Some(1));
        assert_eq!(mailbox.offer(reply.clone(), &limits), queued(false, []));
        assert_eq!(mailbox.offer(of("a3", 1), &limits), queued(false, [of("a2", 1)]));
        assert_eq!(mailbox.offer(of("c1", 3), &limits), queued(false, []));
        assert_eq!(mailbox.offer(of("d1", 4), &limits), queued(false, [of("b1", 2)]));
        // Neither the new one nor the old one would reach the peer.
        assert_eq!(mailbox.offer(of("a4, too long", 1), &limits), {
            Offer::Dropped(of("a4, too long", 1))
        });
        assert_eq!(waiting(&mut mailbox), [reply, of("a3", 1), of("c1", 3), of("d1", 4)]);
    }

    #[test]
    fn nothing_is_dropped_for_nothing() {
        let [a, b] = ["aaa", "bbb"].map(|name| named(name, Class::Broadcast, None));
        let long = named("longer than all that may wait", Class::Broadcast, None);
        let limits = MailboxLimits { policy: SlowConsumer::DropOldest, ..limits(6, 9) };
        let mut mailbox = Mailbox::new();
        assert_eq!(mailbox.offer(a.clone(), &limits), queued(true, []));
        assert_eq!(mailbox.offer(long.clone(), &limits), Offer::Dropped(long));
        // Somebody wants to be disconnected rather than to lose this.
        let whole = Run { policy: Some(SlowConsumer::default()), ..b };
        assert_eq!(mailbox.offer(whole.clone(), &limits), queued(false, []));
        let more = named("cccc", Class::Broadcast, None);
        assert_eq!(mailbox.offer(more.clone(), &limits), Offer::Dropped(more));
        assert_eq!(mailbox.offer(whole.clone(), &limits), {
            Offer::Evict(whole.clone(), CloseCode::TRY_AGAIN_LATER)
        });
        assert_eq!(waiting(&mut mailbox), [a, whole]);
    }

    #[test]
    fn what_waits_elsewhere_counts() {
        let limits = MailboxLimits { policy: SlowConsumer::DropOldest, ..limits(100, 5) };
        let mut mailbox = Mailbox::new();
        assert_eq!(mailbox.offer_behind(0, run(200, 1), &limits), queued(true, []));
        assert_eq!(waiting(&mut mailbox), [run(200, 1)]);
        assert_eq!(mailbox.offer_behind(1, run(100, 1), &limits), Offer::Dropped(run(100, 1)));
        assert_eq!(mailbox.offer_behind(60, run(40, 1), &limits), queued(false, []));
        assert_eq!(mailbox.offer_behind(60, run(39, 1), &limits), queued(false, [run(40, 1)]));
        assert_eq!(mailbox.offer_behind(61, run(1, 5), &limits), queued(false, [run(39, 1)]));
        let most = usize::MAX;
        assert_eq!(mailbox.offer_behind(most, run(1, 1), &limits), Offer::Dropped(run(1, 1)));
        assert_eq!(waiting(&mut mailbox), [run(1, 5)]);
    }
}
