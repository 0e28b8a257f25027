//! Threads that serve together.

use std::io;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::thread;

use crate::Report;
use crate::driver::sync::lock_plain;

/// What they and the one who waits for them tell each other.
#[derive(Default)]
pub(super) struct Workers(Mutex<State>);

#[derive(Default)]
struct State {
    stopped: bool,
    running: usize,
    report: Report,
    /// Why one of them could not serve.
    failed: Option<io::Error>,
    /// Who waits for a change.
    waiting: Vec<Waker>,
}

impl Workers {
    /// Starts one, which is to end when [all are stopped](Self::poll_stopped).
    pub(super) fn spawn(
        self: &Arc<Self>,
        serve: impl FnOnce() -> io::Result<Report> + Send + 'static,
    ) -> io::Result<()> {
        let worker = Worker { of: self.clone(), result: None };
        lock_plain(&self.0).running += 1;
        let work = move || {
            let mut worker = worker;
            worker.result = Some(serve());
        };
        thread::Builder::new().name("wsforge-worker".to_owned()).spawn(work).map(drop)
    }

    pub(super) fn stop(&self) {
        self.change(|state| state.stopped = true);
    }

    pub(super) fn poll_stopped(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = lock_plain(&self.0);
        if state.stopped { Poll::Ready(()) } else { state.wait(cx) }
    }

    /// Waits until all have ended.
    pub(super) fn poll_ended(&self, cx: &Context<'_>) -> Poll<io::Result<Report>> {
        let mut state = lock_plain(&self.0);
        if state.running > 0 {
            return state.wait(cx);
        }
        Poll::Ready(match state.failed.take() {
            Some(error) => Err(error),
            None => Ok(state.report),
        })
    }

    fn change(&self, change: impl FnOnce(&mut MutexGuard<'_, State>)) {
        let mut state = lock_plain(&self.0);
        change(&mut state);
        let waiting = mem::take(&mut state.waiting);
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
    }
}

impl State {
    fn wait<T>(&mut self, cx: &Context<'_>) -> Poll<T> {
        if !self.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            self.waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }
}

/// One of them, until it has ended: then it says how.
struct Worker {
    of: Arc<Workers>,
    result: Option<io::Result<Report>>,
}

impl Drop for Worker {
    fn drop(&mut self) {
        let result = self.result.take();
        self.of.change(|state| {
            state.running -= 1;
            match result.unwrap_or_else(|| Err(io::Error::other("a worker panicked"))) {
                Ok(report) => state.report = state.report + report,
                Err(error) => {
                    // The others are no use without it: who listens wants to know.
                    state.stopped = true;
                    state.failed = Some(error);
                }
            }
        });
    }
}
