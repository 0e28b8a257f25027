use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use wsforge::runtime::{BoxFuture, Runtime, Task, Transport};

use crate::link::{Calls, Door, End};

/// A thread that runs tasks when they are woken and waits when there are none. Whoever connects to anything
/// in it comes to its one listener.
pub(crate) struct World {
    queue: Arc<Queue>,
    alarms: Arc<Mutex<Vec<(Instant, Waker)>>>,
    calls: Arc<Calls>,
}

impl World {
    /// Of this thread.
    pub(crate) fn new() -> Self {
        let queue = Queue { jobs: Mutex::default(), thread: thread::current() };
        Self { queue: Arc::new(queue), alarms: Arc::default(), calls: Arc::default() }
    }

    pub(crate) fn listener(&self) -> Door {
        Door(self.calls.clone())
    }

    /// Runs all tasks until `main` is done.
    pub(crate) fn run<T>(&self, main: impl Future<Output = T>) -> T {
        let waker = self.queue.clone().into();
        let mut main = pin!(main);
        loop {
            // In each round, as there are few.
            if let Poll::Ready(done) = main.as_mut().poll(&mut Context::from_waker(&waker)) {
                return done;
            }
            let round = std::mem::take(&mut *lock(&self.queue.jobs));
            round.into_iter().for_each(Job::run);
            let next = self.ring();
            if !lock(&self.queue.jobs).is_empty() {
                continue;
            }
            // Whoever wakes a task, or `main`, ends this, even if that came before it.
            match next {
                Some(next) => thread::park_timeout(next.saturating_duration_since(Instant::now())),
                None => thread::park(),
            }
        }
    }

    /// Wakes those whose time has come, and says when the next one's does.
    fn ring(&self) -> Option<Instant> {
        let now = Instant::now();
        let due: Vec<_> = lock(&self.alarms).extract_if(.., |(at, _)| *at <= now).collect();
        due.into_iter().for_each(|(_, waker)| waker.wake());
        lock(&self.alarms).iter().map(|(at, _)| *at).min()
    }
}

impl Runtime for World {
    fn spawn(&self, task: Task) {
        let queue = self.queue.clone();
        let task = Mutex::new(Some(task));
        Arc::new(Job { task, is_queued: AtomicBool::new(false), queue }).wake();
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<()> {
        let (end, alarms) = (Instant::now() + duration, self.alarms.clone());
        Box::pin(poll_fn(move |cx| {
            if end <= Instant::now() {
                return Poll::Ready(());
            }
            lock(&alarms).push((end, cx.waker().clone()));
            Poll::Pending
        }))
    }

    fn connect(&self, _: String, _: u16) -> BoxFuture<io::Result<Box<dyn Transport>>> {
        let calls = self.calls.clone();
        Box::pin(async move {
            let (here, there) = End::pair();
            calls.push(there);
            Ok(Box::new(here) as Box<dyn Transport>)
        })
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("World")
    }
}

/// The tasks that have been woken.
struct Queue {
    jobs: Mutex<VecDeque<Arc<Job>>>,
    thread: Thread,
}

impl Wake for Queue {
    fn wake(self: Arc<Self>) {
        self.thread.unpark();
    }
}

/// A task, until it is done.
struct Job {
    task: Mutex<Option<Task>>,
    is_queued: AtomicBool,
    queue: Arc<Queue>,
}

impl Job {
    fn run(self: Arc<Self>) {
        // Whatever wakes it from now on wants it to run once more.
        self.is_queued.store(false, Ordering::Release);
        let waker = self.clone().into();
        let mut task = lock(&self.task);
        if let Some(running) = &mut *task
            && pin!(running).poll(&mut Context::from_waker(&waker)).is_ready()
        {
            *task = None;
        }
    }
}

impl Wake for Job {
    fn wake(self: Arc<Self>) {
        if !self.is_queued.swap(true, Ordering::AcqRel) {
            lock(&self.queue.jobs).push_back(self.clone());
            self.queue.thread.unpark();
        }
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
