use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;

use crate::driver::turn;

/// What a runtime runs beside others.
///
/// It is a pointer, so that a runtime's own part of a task stays small, and to what the task is at the
/// moment, so that a connection does not hold on to the memory of its handshake.
#[must_use = "a task does nothing unless it is run"]
pub struct Task(Pin<Box<dyn Stage>>);

/// What a task is for some time.
pub(crate) trait Stage: Send {
    /// Does some of its work, and says what the task is next: `None` if all is done.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Task>>;
}

impl Task {
    pub(crate) fn new(future: impl Future<Output = ()> + Send + 'static) -> Self {
        Self::staged(Last { future })
    }

    pub(crate) fn staged(stage: impl Stage + 'static) -> Self {
        Self(Box::pin(stage))
    }
}

impl Future for Task {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        while let Some(next) = ready!(self.0.as_mut().poll(cx)) {
            *self = next;
        }
        Poll::Ready(())
    }
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").finish_non_exhaustive()
    }
}

pin_project! {
    struct Last<F> {
        #[pin]
        future: F,
    }
}

impl<F: Future<Output = ()> + Send> Stage for Last<F> {
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Task>> {
        // What it gathers leaves when it returns.
        turn::scope(|| self.project().future.poll(cx)).map(|()| None)
    }
}
