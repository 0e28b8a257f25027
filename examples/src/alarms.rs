use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use slab::Slab;
use wsforge_core::{Timestamp, Wheel};

/// Wakes tasks when their deadlines come, or all of them at once.
///
/// One timer for all connections: a connection costs 32 bytes here, where a timer of the runtime's own
/// would cost a hundred and more.
#[derive(Debug)]
pub struct Alarms(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    tasks: Slab<Waker>,
    wheel: Wheel<usize>,
}

impl Alarms {
    /// How often somebody has to call [`ring`](Self::ring), and so how exact deadlines are.
    pub const TICK: Duration = Duration::from_millis(500);

    /// No tasks yet.
    pub fn new(now: Timestamp) -> Self {
        Self(Mutex::new(Inner { tasks: Slab::new(), wheel: Wheel::new(Self::TICK, 256, now) }))
    }

    /// Adds a task.
    pub fn add(&self, task: Waker) -> usize {
        self.lock().tasks.insert(task)
    }

    /// Says that a task is woken in another way from now on.
    pub fn replace(&self, key: usize, task: Waker) {
        let mut inner = self.lock();
        let old = inner.tasks.get_mut(key).map(|known| std::mem::replace(known, task));
        drop((inner, old));
    }

    /// Removes a task. Its alarms may still ring, for whoever gets its key.
    pub fn remove(&self, key: usize) {
        let task = self.lock().tasks.try_remove(key);
        drop(task);
    }

    /// Wakes the task at `at`, or up to two ticks later.
    pub fn set(&self, key: usize, at: Timestamp) {
        self.lock().wheel.insert(key, at);
    }

    /// Wakes the tasks whose time has come.
    pub fn ring(&self, now: Timestamp) {
        let mut inner = self.lock();
        let Inner { tasks, wheel } = &mut *inner;
        let due: Vec<Waker> = wheel.expire(now).filter_map(|key| tasks.get(key).cloned()).collect();
        drop(inner);
        due.into_iter().for_each(Waker::wake);
    }

    /// Wakes all tasks.
    pub fn ring_all(&self) {
        let tasks: Vec<Waker> = self.lock().tasks.iter().map(|(_, task)| task.clone()).collect();
        tasks.into_iter().for_each(Waker::wake);
    }

    /// Whether there are no tasks.
    pub fn is_empty(&self) -> bool {
        self.lock().tasks.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
