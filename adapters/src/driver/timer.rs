//! Deadlines: one timer for all connections of a server, or of a runtime's thread.

use std::fmt;
use std::future::poll_fn;
use std::mem;
use std::ops::{Add, ControlFlow};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use slab::Slab;
use wsforge_core::{Timestamp, Wheel};

use super::budget::Budget;
use super::fan::inbox::{AT_ONCE, Inbox, Next, SLICE};
use super::outbox::Outbox;
use super::sync::lock_plain;
use crate::runtime::{BoxFuture, Runtime, Task};

/// How exact deadlines are, and the clock is.
pub(crate) const TICK: Duration = Duration::from_millis(100);

/// The most that passes from one tick to the next, however late that comes.
const MOST_AT_ONCE: Duration = Duration::from_secs(1);

/// A time in ticks: half the size of a [`Timestamp`], and good for 13 years.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Tick(u32);

impl Tick {
    pub(crate) const NEVER: Self = Self(u32::MAX);

    /// The last tick at or before `at`.
    pub(crate) fn floor(at: Timestamp) -> Self {
        Self(u32::try_from(at.as_millis() / TICK.as_millis() as u64).unwrap_or(u32::MAX))
    }

    /// The first tick at or after `at`.
    pub(crate) fn ceil(at: Timestamp) -> Self {
        Self(u32::try_from(at.as_millis().div_ceil(TICK.as_millis() as u64)).unwrap_or(u32::MAX))
    }

    /// How many ticks have passed since `before`.
    pub(crate) fn since(self, before: Self) -> u32 {
        self.0.saturating_sub(before.0)
    }

    pub(crate) fn timestamp(self) -> Timestamp {
        Timestamp::from_millis(u64::from(self.0) * TICK.as_millis() as u64)
    }
}

impl Add<Duration> for Tick {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self::ceil(self.timestamp() + duration)
    }
}

/// A clock, and who is to be looked at when.
///
/// Its task runs while there are connections.
pub(crate) struct Timer {
    runtime: Arc<dyn Runtime>,
    epoch: Instant,
    /// Milliseconds since the epoch, as of the last tick. Reading the clock itself would be a
    /// noticeable part of a turn.
    now: AtomicU64,
    /// Those that have passed since the epoch and do not count.
    lost: AtomicU64,
    /// What is being sent to many of its connections.
    pub(crate) inbox: Inbox,
    /// A budget that is spent.
    sheds: Mutex<Option<Budget>>,
    registry: Mutex<Registry>,
}

struct Registry {
    entries: Slab<Entry>,
    wheel: Wheel<u32>,
    /// Those to be flushed when the task that gathered for them has yielded.
    late: Vec<Weak<Outbox>>,
    /// The timer's task; there is one while there are entries.
    task: Option<Waker>,
    running: bool,
}

struct Entry {
    outbox: Weak<Outbox>,
    /// When it is looked at. The wheel may hold its key for other times too; those do not count.
    alarm: Tick,
    born: Tick,
}

impl Timer {
    pub(crate) fn new(runtime: Arc<dyn Runtime>) -> Arc<Self> {
        let wheel = Wheel::new(TICK, 512, Timestamp::ZERO);
        let registry =
            Registry { entries: Slab::new(), wheel, late: Vec::new(), task: None, running: false };
        Arc::new(Self {
            runtime,
            epoch: Instant::now(),
            now: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            inbox: Inbox::default(),
            sheds: Mutex::default(),
            registry: Mutex::new(registry),
        })
    }

    /// What time it is, as of the last tick. It never goes back, and does not jump: neither when somebody
    /// sets the machine's clock, nor when the process has been stopped for a while.
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.now.load(Ordering::Relaxed))
    }

    /// Adds a connection: `make` gets its key.
    pub(crate) fn register(self: &Arc<Self>, make: impl FnOnce(u32) -> Arc<Outbox>) -> Arc<Outbox> {
        let mut registry = lock_plain(&self.registry);
        let starts = !mem::replace(&mut registry.running, true);
        if starts {
            self.read_clock();
        }
        // A quarter of slack at the most, where doubling would take as much again.
        let len = registry.entries.len();
        if len == registry.entries.capacity() {
            registry.entries.reserve_exact(len / 4 + 16);
        }
        let vacant = registry.entries.vacant_entry();
        let outbox = make(vacant.key() as u32);
        let born = Tick::floor(self.now());
        vacant.insert(Entry { outbox: Arc::downgrade(&outbox), alarm: Tick::NEVER, born });
        drop(registry);
        if starts {
            let running = Running { timer: self.clone(), ended: false };
            self.runtime.spawn(Task::new(running.run()));
        }
        outbox
    }

    /// Runs a task beside others.
    pub(crate) fn spawn(&self, task: Task) {
        self.runtime.spawn(task);
    }

    /// Removes a connection, which nobody has any more.
    pub(crate) fn remove(&self, key: u32) {
        self.inbox.forget(key);
        let entry = lock_plain(&self.registry).entries.try_remove(key as usize);
        drop(entry);
    }

    /// Looks at a connection at `at`, or a tick later, unless it is looked at before.
    pub(crate) fn arm(&self, key: u32, at: Tick) {
        let Registry { entries, wheel, .. } = &mut *lock_plain(&self.registry);
        if let Some(entry) = entries.get_mut(key as usize)
            && at < entry.alarm
        {
            entry.alarm = at;
            wheel.insert(key, at.timestamp());
        }
    }

    /// Flushes `outbox` when the task that runs now has yielded.
    pub(crate) fn flush_soon(&self, outbox: &Arc<Outbox>) {
        let mut registry = lock_plain(&self.registry);
        // Who gathers much is called once, unless others do so too.
        let known = |late: &Weak<Outbox>| std::ptr::addr_eq(late.as_ptr(), Arc::as_ptr(outbox));
        if !registry.late.last().is_some_and(known) {
            registry.late.push(Arc::downgrade(outbox));
        }
        let task = registry.task.take();
        drop(registry);
        if let Some(task) = task {
            task.wake();
        }
    }

    /// Sends what somebody has added to the inbox, or has it sent.
    pub(crate) fn deliver(&self, next: Next) {
        let more = match next {
            Next::Caller => self.inbox.run(AT_ONCE),
            Next::Clear => {
                self.inbox.clear();
                false
            }
            Next::Other => false,
            Next::Task => true,
        };
        if !more {
            return;
        }
        let mut registry = lock_plain(&self.registry);
        let (running, task) = (registry.running, registry.task.take());
        drop(registry);
        match task {
            Some(task) => task.wake(),
            None if running => {}
            // There is nobody else.
            None => {
                if self.inbox.begin() {
                    self.inbox.run(usize::MAX);
                }
            }
        }
    }

    /// Takes a budget back at the next tick.
    pub(crate) fn shed_soon(&self, budget: &Budget) {
        lock_plain(&self.sheds).get_or_insert_with(|| budget.clone());
    }

    /// How long there has been a connection.
    pub(crate) fn age(&self, key: u32) -> Duration {
        let registry = lock_plain(&self.registry);
        let born = registry.entries.get(key as usize).map(|entry| entry.born.timestamp());
        born.map_or(Duration::ZERO, |born| self.now().since(born))
    }

    /// Waits for `duration`.
    pub(crate) fn sleep(&self, duration: Duration) -> BoxFuture<()> {
        self.runtime.sleep(duration)
    }

    /// All connections.
    pub(crate) fn outboxes(&self) -> Vec<Arc<Outbox>> {
        let registry = lock_plain(&self.registry);
        registry.entries.iter().filter_map(|(_, entry)| entry.outbox.upgrade()).collect()
    }

    fn read_clock(&self) -> Timestamp {
        let passed = u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX);
        let counted = passed.saturating_sub(self.lost.load(Ordering::Relaxed));
        // Whatever keeps the timer from running keeps peers from being heard.
        let most = self.now.load(Ordering::Relaxed).saturating_add(MOST_AT_ONCE.as_millis() as u64);
        let now = counted.min(most);
        self.lost.fetch_add(counted - now, Ordering::Relaxed);
        Timestamp::from_millis(self.now.fetch_max(now, Ordering::Relaxed).max(now))
    }

    /// Does what is due; whether there is nothing left to wait for, and nobody runs it any more.
    fn tick(&self) -> bool {
        let now = self.read_clock();
        let spent = lock_plain(&self.sheds).take();
        spent.iter().for_each(Budget::shed);
        for (key, outbox, born) in self.due(now) {
            // It says when it wants to be looked at again, the owner aside.
            if let Some(at) = outbox.ring(now, born) {
                self.arm(key, at);
            }
        }
        let mut registry = lock_plain(&self.registry);
        if !registry.entries.is_empty() || !registry.late.is_empty() {
            return false;
        }
        registry.wheel = Wheel::new(TICK, 512, now);
        registry.entries.shrink_to_fit();
        let ended = self.end(&mut registry);
        drop(registry);
        drop(ended);
        true
    }

    /// Nobody runs it any more. Gives what is to be dropped when nothing is locked.
    ///
    /// The next connection starts another task, and what that one is to send must not be lost here.
    fn end(&self, registry: &mut Registry) -> impl Sized + use<> {
        registry.running = false;
        (registry.task.take(), self.inbox.abandon())
    }

    /// Waits for the next tick, and does what it is woken for meanwhile.
    async fn wait(&self) {
        let mut tick = self.runtime.sleep(TICK);
        let mut next = poll_fn(|cx| {
            if self.runtime.is_local() {
                self.inbox.stay();
            }
            let mut registry = lock_plain(&self.registry);
            let waker = registry.task.replace(cx.waker().clone());
            let late = mem::take(&mut registry.late);
            drop((registry, waker));
            for outbox in late.iter().filter_map(Weak::upgrade) {
                outbox.flush_now();
            }
            if tick.as_mut().poll(cx).is_ready() {
                return Poll::Ready(ControlFlow::Break(()));
            }
            if self.inbox.begin() && self.inbox.run(SLICE) {
                return Poll::Ready(ControlFlow::Continue(()));
            }
            Poll::Pending
        });
        while (&mut next).await.is_continue() {
            self.runtime.yield_now().await;
        }
    }

    fn due(&self, now: Timestamp) -> Vec<(u32, Arc<Outbox>, Tick)> {
        let Registry { entries, wheel, .. } = &mut *lock_plain(&self.registry);
        let today = Tick::floor(now);
        let keys = wheel.expire(now);
        keys.filter_map(|key| {
            let entry = entries.get_mut(key as usize).filter(|entry| entry.alarm <= today)?;
            entry.alarm = Tick::NEVER;
            Some((key, entry.outbox.upgrade()?, entry.born))
        })
        .collect()
    }
}

/// The timer's task. If it is dropped, as with its runtime, the next connection starts another.
struct Running {
    timer: Arc<Timer>,
    ended: bool,
}

impl Running {
    async fn run(mut self) {
        while !self.ended {
            self.timer.wait().await;
            self.ended = self.timer.tick();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended {
            let mut registry = lock_plain(&self.timer.registry);
            let ended = self.timer.end(&mut registry);
            drop(registry);
            drop(ended);
        }
    }
}

impl fmt::Debug for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let connections = lock_plain(&self.registry).entries.len();
        f.debug_struct("Timer").field("connections", &connections).finish_non_exhaustive()
    }
}
