use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::part::Part;
use crate::driver::outbox::Outbox;
use crate::driver::sync::lock_plain;
use crate::runtime::Transport;

/// What is to be sent to many of those who share a timer, in the order in which they get it.
///
/// Whoever adds something sends it at once, to some hundred members; the timer's task goes on from there, so
/// that other connections have their turn in between. Where the timer has a thread of its own, only that
/// one does: others hand their part over. Who wants to send to one member alone [catches up](Self::catch_up)
/// on what that one is still to get, so nobody waits and nothing is overtaken.
#[derive(Default)]
pub(crate) struct Inbox {
    /// Whether there is anything in it.
    behind: AtomicBool,
    queue: Mutex<Queue>,
    /// The thread that the timer runs on, if that is always the same.
    home: AtomicUsize,
}

#[derive(Default)]
struct Queue {
    parts: VecDeque<Arc<Part>>,
    /// How many of the first one's targets somebody sees to, or has.
    begun: usize,
    runner: Runner,
}

/// Who goes through it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Runner {
    #[default]
    Nobody,
    /// Somebody does.
    One,
    /// The timer's task will.
    Task,
}

/// Who is to go on with what was added.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Next {
    /// Who has added it: it [runs](Inbox::run) it.
    Caller,
    /// Too much is in it, so who has added something [clears](Inbox::clear) it.
    Clear,
    /// Somebody who does so by itself.
    Other,
    /// The timer's task, which has to be woken.
    Task,
}

/// So many peers are written to before it is looked again who has left.
pub(crate) const AT_A_TIME: usize = 256;

/// So many small messages are sent at once. It takes a few milliseconds.
pub(crate) const AT_ONCE: usize = 1024;

/// So many until other tasks have their turn.
pub(crate) const SLICE: usize = 256;

/// With more than this in it, whoever adds something sends all that is there: who sends is not to be quicker
/// than what is sent.
const MAX_PARTS: usize = 64;

impl Inbox {
    /// Whether something in it has not reached everybody.
    #[inline]
    pub(crate) fn is_behind(&self) -> bool {
        self.behind.load(Ordering::Acquire)
    }

    /// Adds something; it counts from now on. What is to be sent `here` is not left to the timer's thread.
    pub(crate) fn add(&self, part: Part, here: bool) -> Next {
        let mut queue = lock_plain(&self.queue);
        queue.parts.push_back(Arc::new(part));
        self.behind.store(true, Ordering::Release);
        if queue.runner != Runner::Nobody {
            return if queue.parts.len() > MAX_PARTS { Next::Clear } else { Next::Other };
        }
        if here || self.is_home() {
            queue.runner = Runner::One;
            Next::Caller
        } else {
            queue.runner = Runner::Task;
            Next::Task
        }
    }

    /// Goes through it, for about so many small messages; whether there is more. Only for those who have
    /// been told to.
    pub(crate) fn run(&self, messages: usize) -> bool {
        /// Goes on with the rest when a transport panics.
        struct Panics<'a>(&'a Inbox);
        impl Drop for Panics<'_> {
            fn drop(&mut self) {
                self.0.give_up();
            }
        }
        let mut left = messages;
        loop {
            let mut done = None;
            let mut queue = lock_plain(&self.queue);
            if queue.parts.front().is_some_and(|part| queue.begun == part.len()) {
                done = queue.parts.pop_front();
                queue.begun = 0;
            }
            let Some(part) = queue.parts.front().cloned() else {
                queue.runner = Runner::Nobody;
                self.behind.store(false, Ordering::Release);
                return false;
            };
            if left == 0 {
                queue.runner = Runner::Task;
                return true;
            }
            let begun = queue.begun;
            let some = (left / part.cost()).clamp(1, AT_A_TIME).min(part.len() - begun);
            queue.begun += some;
            drop((queue, done));
            let panics = Panics(self);
            part.reach(begun..begun + some);
            std::mem::forget(panics);
            left = left.saturating_sub(some * part.cost());
        }
    }

    /// Who was to go through it does not: the timer's task will, at its next tick.
    pub(crate) fn give_up(&self) {
        lock_plain(&self.queue).runner = Runner::Nobody;
    }

    /// Whether the timer's task is to [run](Self::run) it; if so, it does from now on.
    pub(crate) fn begin(&self) -> bool {
        if !self.is_behind() {
            return false;
        }
        let mut queue = lock_plain(&self.queue);
        let begins = queue.runner != Runner::One && !queue.parts.is_empty();
        if begins {
            queue.runner = Runner::One;
        }
        begins
    }

    /// Sends what is in it to one connection before it is its turn.
    #[cold]
    pub(crate) fn catch_up<T: Transport + ?Sized>(&self, outbox: &Outbox<T>) {
        for part in self.parts() {
            part.catch_up(outbox);
        }
    }

    /// Goes through all that is in it, whoever else does. That one finds nothing left to do.
    pub(crate) fn clear(&self) {
        if !self.is_behind() {
            return;
        }
        for part in self.parts() {
            let all = 0..part.len();
            all.clone()
                .step_by(AT_A_TIME)
                .for_each(|at| part.reach(at..all.end.min(at + AT_A_TIME)));
        }
    }

    /// A connection is gone.
    pub(crate) fn forget(&self, key: u32) {
        if self.is_behind() {
            self.parts().iter().for_each(|part| part.forget(key));
        }
    }

    /// Its timer is polled on this thread, and on no other.
    pub(crate) fn stay(&self) {
        self.home.store(this_thread(), Ordering::Relaxed);
    }

    /// Gives what is in it, to be dropped when nothing is locked: nobody will go through it any more.
    pub(crate) fn abandon(&self) -> impl Sized + use<> {
        let mut queue = lock_plain(&self.queue);
        let parts = std::mem::take(&mut queue.parts);
        queue.begun = 0;
        // Who goes through it right now finds nothing more.
        if queue.runner == Runner::Task {
            queue.runner = Runner::Nobody;
        }
        self.home.store(0, Ordering::Relaxed);
        self.behind.store(false, Ordering::Release);
        parts
    }

    fn is_home(&self) -> bool {
        let home = self.home.load(Ordering::Relaxed);
        home == 0 || home == this_thread()
    }

    fn parts(&self) -> Vec<Arc<Part>> {
        lock_plain(&self.queue).parts.iter().cloned().collect()
    }
}

/// A number that no other thread has that runs now.
fn this_thread() -> usize {
    thread_local!(static HERE: u8 = const { 0 });
    HERE.with(|here| std::ptr::from_ref(here).addr())
}
