use std::collections::VecDeque;
use std::sync::{Mutex, OnceLock};

use wsforge_core::hub::MemberId;

use crate::driver::sync::lock_plain;

/// Who is told of those who come to groups and leave them, in the order in which they do.
pub(crate) struct Presence<P> {
    watch: OnceLock<Watch<P>>,
    events: Mutex<Events<P>>,
}

pub(crate) type Watch<P> = Box<dyn Fn(&Event<P>) + Send + Sync>;

struct Events<P> {
    queue: VecDeque<Event<P>>,
    /// Somebody tells them.
    told: bool,
}

/// A member has come to a group, or left it.
pub(crate) struct Event<P> {
    pub(crate) peer: P,
    pub(crate) member: MemberId,
    pub(crate) group: Box<str>,
    pub(crate) joined: bool,
}

impl<P> Default for Presence<P> {
    fn default() -> Self {
        let events = Events { queue: VecDeque::new(), told: false };
        Self { watch: OnceLock::new(), events: Mutex::new(events) }
    }
}

impl<P> Presence<P> {
    /// From now on `watch` is called. `false` if somebody else watches already.
    pub(crate) fn watch(&self, watch: Watch<P>) -> bool {
        self.watch.set(watch).is_ok()
    }

    pub(crate) fn is_watched(&self) -> bool {
        self.watch.get().is_some()
    }

    /// Something has happened; called under the lock under which it has.
    pub(crate) fn note(&self, event: Event<P>) {
        lock_plain(&self.events).queue.push_back(event);
    }

    /// Tells what has happened, when nothing is locked; unless somebody does already.
    pub(crate) fn tell(&self) {
        /// Also when it panics: the next one goes on.
        struct Told<'a, P>(&'a Mutex<Events<P>>);
        impl<P> Drop for Told<'_, P> {
            fn drop(&mut self) {
                lock_plain(self.0).told = false;
            }
        }
        let Some(watch) = self.watch.get() else { return };
        let mut events = lock_plain(&self.events);
        if std::mem::replace(&mut events.told, true) {
            return;
        }
        let told = Told(&self.events);
        while let Some(event) = events.queue.pop_front() {
            drop(events);
            watch(&event);
            drop(event);
            events = lock_plain(&self.events);
        }
        // Under the same lock under which nothing was left.
        events.told = false;
        drop(events);
        std::mem::forget(told);
    }
}
