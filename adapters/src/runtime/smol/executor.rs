//! Which executor a task runs on.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::mem;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Wake, Waker};

use atomic_waker::AtomicWaker;
use smol::Executor;

use super::Smol;
use crate::driver::timer::Timer;

thread_local! {
    /// What runs the task that runs on this thread. It keeps neither alive.
    static CURRENT: RefCell<Weak<Executor<'static>>> = const { RefCell::new(Weak::new()) };
}

/// Runs an executor's tasks until `future` is ready. Connections made within get their tasks there, too:
/// with one executor for each thread they stay on their threads. Without this it is smol's own executor,
/// in a thread of its own, that runs them.
///
/// ```
/// # let serve = async {};
/// smol::block_on(wsforge::smol::run(&Default::default(), serve));
/// ```
///
/// # Cancel safety
///
/// If it is dropped, so is `future`; the executor keeps its tasks.
pub async fn run<T>(executor: &Arc<Executor<'static>>, future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let gate = Arc::new(Gate { is_open: AtomicBool::new(true), runner: AtomicWaker::new() });
    let waker = gate.clone().into();
    let gated = poll_fn(|cx| gate.poll(future.as_mut(), cx, &waker));
    let mut running = pin!(executor.run(gated));
    poll_fn(|cx| {
        let _within = Within(CURRENT.replace(Arc::downgrade(executor)));
        running.as_mut().poll(cx)
    })
    .await
}

/// What keeps a future from being polled whenever the executor is, as that is whenever any task is woken:
/// a server would look for connections each time.
struct Gate {
    is_open: AtomicBool,
    runner: AtomicWaker,
}

impl Gate {
    fn poll<T>(
        &self,
        future: Pin<&mut impl Future<Output = T>>,
        cx: &Context<'_>,
        waker: &Waker,
    ) -> Poll<T> {
        self.runner.register(cx.waker());
        if !self.is_open.swap(false, Ordering::AcqRel) {
            return Poll::Pending;
        }
        future.poll(&mut Context::from_waker(waker))
    }
}

impl Wake for Gate {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_open.store(true, Ordering::Release);
        self.runner.wake();
    }
}

/// While there is one, an executor is the thread's. It has the one before.
struct Within(Weak<Executor<'static>>);

impl Drop for Within {
    fn drop(&mut self) {
        CURRENT.set(mem::take(&mut self.0));
    }
}

/// What runs the task that asks, if that is known.
pub(super) fn current() -> Weak<Executor<'static>> {
    CURRENT.with_borrow(Weak::clone)
}

/// The timer of this thread's executor; the last one who has a connection ends it.
pub(super) fn timer() -> Arc<Timer> {
    thread_local! {
        // Neither keeps the timer, nor the executor.
        static TIMER: RefCell<(Weak<Executor<'static>>, Weak<Timer>)> =
            const { RefCell::new((Weak::new(), Weak::new())) };
    }
    let executor = current();
    TIMER.with_borrow_mut(|(of, known)| {
        if of.ptr_eq(&executor)
            && let Some(timer) = known.upgrade()
        {
            return timer;
        }
        let timer = Timer::new(Arc::new(Smol::default()));
        (*of, *known) = (executor, Arc::downgrade(&timer));
        timer
    })
}
