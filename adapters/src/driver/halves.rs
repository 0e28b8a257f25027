//! Two tasks at one connection, where one receives and the other sends.

use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use super::outbox::Outbox;
use super::sync::lock_plain;
use crate::WebSocket;

/// What a task does with a connection that it may share with another.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Half {
    Read,
    Write,
}

/// The tasks of the two halves. A connection knows only one to wake: it wakes both.
#[derive(Debug)]
pub(crate) struct Tasks(Mutex<[Option<Waker>; 2]>);

impl WebSocket {
    /// Polls for one half. If another task waits with the other half, both are woken from then on.
    ///
    /// It is only asked who else waits when something is in the way of whoever sends; a half that just
    /// receives is not disturbed by anybody.
    pub(crate) fn poll_half<T>(
        &mut self,
        half: Half,
        cx: &mut Context<'_>,
        poll: impl FnOnce(&mut Self, &mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let Some(tasks) = self.tasks(half, cx) else { return poll(self, cx) };
        let polled = poll(self, &mut Context::from_waker(&tasks.clone().into()));
        // What the one has done may be what the other waits for.
        match half {
            Half::Read if self.close_info().is_some() || !self.outbox().wants_attention() => {
                tasks.wake_half(Half::Write);
            }
            Half::Write if self.has_news() => tasks.wake_half(Half::Read),
            _ => {}
        }
        polled
    }
}

impl Tasks {
    /// Those of a connection whose owner, so far, is another task than the one that polls `half` now. None if
    /// there is no other.
    pub(crate) fn of(outbox: &Outbox, half: Half, cx: &Context<'_>) -> Option<Arc<Self>> {
        let other = outbox.owner_beside(cx.waker())?;
        let own = cx.waker().clone();
        let tasks = match half {
            Half::Read => [own, other],
            Half::Write => [other, own],
        };
        Some(Arc::new(Self(Mutex::new(tasks.map(Some)))))
    }

    /// Remembers who polls `half`.
    pub(crate) fn wait(&self, half: Half, cx: &Context<'_>) {
        let slot = &mut lock_plain(&self.0)[half as usize];
        match slot {
            Some(waker) => waker.clone_from(cx.waker()),
            None => *slot = Some(cx.waker().clone()),
        }
    }

    fn wake_half(&self, half: Half) {
        let waker = lock_plain(&self.0)[half as usize].take();
        waker.into_iter().for_each(Waker::wake);
    }
}

impl Wake for Tasks {
    fn wake(self: Arc<Self>) {
        self.wake_half(Half::Read);
        self.wake_half(Half::Write);
    }
}
