use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Message;
use crate::runtime::Runtime;

/// Gathers short texts to send them as one, each on a line of its own.
///
/// A batch is complete when it is large enough, or when its first text has waited long enough. Who adds a
/// text gets the batch that this completes, to send it; [`run`](Self::run) sends those whose time is up. For
/// batches of groups, and of what only the newest counts of, there is [`Conflater`](super::Conflater).
///
/// ```
/// use wsforge::router::{Message, MessageBatcher};
///
/// let batcher = MessageBatcher::new(3);
/// assert_eq!(batcher.add("a"), None);
/// assert_eq!(batcher.add("b"), None);
/// assert_eq!(batcher.add("c"), Some(Message::text("a\nb\nc")));
/// ```
///
/// ```no_run
/// # #[tokio::main] async fn main() {
/// # use std::sync::Arc;
/// # use wsforge::router::{ConnectionManager, MessageBatcher};
/// # let (batcher, manager) = (Arc::new(MessageBatcher::new(3)), ConnectionManager::new());
/// tokio::spawn(batcher.run(wsforge::tokio::Tokio, move |batch| manager.broadcast(batch)));
/// # }
/// ```
#[derive(Debug)]
pub struct MessageBatcher {
    max_messages: usize,
    max_bytes: usize,
    max_delay: Duration,
    pending: Mutex<Pending>,
}

#[derive(Debug, Default)]
struct Pending {
    text: String,
    messages: usize,
    /// When the first one was added.
    since: Option<Instant>,
}

impl MessageBatcher {
    /// Batches of so many texts at most, of 16 KiB, and after 100 ms.
    pub fn new(max_messages: usize) -> Self {
        Self {
            max_messages,
            max_bytes: 16 * 1024,
            max_delay: Duration::from_millis(100),
            pending: Mutex::default(),
        }
    }

    /// Sets the bytes from which on a batch is complete.
    pub const fn max_bytes(mut self, max_bytes: usize) -> Self {
        self.max_bytes = max_bytes;
        self
    }

    /// Sets how long a text waits for others.
    pub const fn max_delay(mut self, max_delay: Duration) -> Self {
        self.max_delay = max_delay;
        self
    }

    /// Adds a text, and gives the batch that is complete with it.
    #[must_use = "a batch is the caller's to send"]
    pub fn add(&self, text: &str) -> Option<Message> {
        self.add_at(text, Instant::now())
    }

    /// As [`add`](Self::add), for a caller that knows the time.
    #[must_use = "a batch is the caller's to send"]
    pub fn add_at(&self, text: &str, now: Instant) -> Option<Message> {
        let mut pending = self.lock();
        if pending.messages > 0 {
            pending.text.push('\n');
        }
        pending.text.push_str(text);
        pending.messages += 1;
        let since = *pending.since.get_or_insert(now);
        let complete = pending.messages >= self.max_messages
            || pending.text.len() >= self.max_bytes
            || now.saturating_duration_since(since) >= self.max_delay;
        if complete { pending.take() } else { None }
    }

    /// Gives what waits, complete or not.
    #[must_use = "a batch is the caller's to send"]
    pub fn flush(&self) -> Option<Message> {
        self.lock().take()
    }

    /// Gives what waits, if its time is up.
    #[must_use = "a batch is the caller's to send"]
    pub fn flush_due(&self, now: Instant) -> Option<Message> {
        let mut pending = self.lock();
        let due = pending
            .since
            .is_some_and(|since| now.saturating_duration_since(since) >= self.max_delay);
        if due { pending.take() } else { None }
    }

    /// When the time of what waits is up.
    pub fn deadline(&self) -> Option<Instant> {
        self.lock().since.and_then(|since| since.checked_add(self.max_delay))
    }

    /// Sends what has waited long enough, for ever; run it as a task.
    ///
    /// A text waits for at most twice [`max_delay`](Self::max_delay).
    ///
    /// # Cancel safety
    ///
    /// If it is dropped, what waits is still there.
    pub async fn run(self: Arc<Self>, runtime: impl Runtime, send: impl Fn(Message)) {
        loop {
            let now = Instant::now();
            if let Some(batch) = self.flush_due(now) {
                send(batch);
            }
            let wait = self
                .deadline()
                .map_or(self.max_delay, |deadline| deadline.saturating_duration_since(now));
            // What is not due waits for some time, however short.
            runtime.sleep(wait.max(Duration::from_millis(1))).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pending {
    fn take(&mut self) -> Option<Message> {
        let Self { text, messages, .. } = std::mem::take(self);
        (messages > 0).then(|| Message::text(text))
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::sync::mpsc;
    use std::task::{Context, Waker};

    use super::super::testing::Clock;
    use super::*;

    const DELAY: Duration = Duration::from_millis(100);

    #[test]
    fn a_batch_is_complete_when_it_is_large_enough() {
        let batcher = MessageBatcher::new(3).max_bytes(9);
        let now = Instant::now();
        let add = |text| batcher.add_at(text, now);
        assert_eq!((add("a"), add(""), add("b")), (None, None, Some("a\n\nb".into())));
        assert_eq!((add("abcd"), add("efgh")), (None, Some("abcd\nefgh".into())));
        assert_eq!(add("123456789"), Some("123456789".into()));
        assert_eq!((batcher.flush(), batcher.deadline()), (None, None));
        // One that is empty is a text all the same.
        assert_eq!((add(""), batcher.flush(), batcher.flush()), (None, Some("".into()), None));
    }

    #[test]
    fn a_batch_is_complete_when_its_first_text_has_waited() {
        let batcher = MessageBatcher::new(9).max_delay(DELAY);
        let now = Instant::now();
        assert_eq!(batcher.add_at("a", now), None);
        assert_eq!(batcher.add_at("b", now + DELAY / 2), None);
        assert_eq!(batcher.deadline(), Some(now + DELAY));
        assert_eq!(batcher.flush_due(now + DELAY * 99 / 100), None);
        assert_eq!(batcher.flush_due(now + DELAY), Some("a\nb".into()));
        assert_eq!(batcher.add_at("c", now), None);
        assert_eq!(batcher.add_at("d", now + DELAY), Some("c\nd".into()));
    }

    #[test]
    fn a_batcher_of_no_delay_gathers_nothing() {
        let batcher = MessageBatcher::new(9).max_delay(Duration::ZERO);
        assert_eq!(batcher.add("a"), Some("a".into()));
    }

    #[test]
    fn the_task_sends_what_has_waited() {
        let batcher = Arc::new(MessageBatcher::new(9).max_delay(Duration::from_secs(3600)));
        let (slept, sleeps) = mpsc::channel();
        let (send, sent) = mpsc::channel();
        let mut run =
            pin!(batcher.clone().run(Clock(slept), move |batch| send.send(batch).unwrap()));
        let mut poll =
            || assert!(run.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        poll();
        assert_eq!(sleeps.recv().unwrap(), Duration::from_secs(3600));
        assert_eq!(batcher.add("a"), None);
        poll();
        let rest = sleeps.recv().unwrap();
        assert!(rest <= Duration::from_secs(3600) && rest > Duration::from_secs(3000));
        assert!(sent.try_recv().is_err());
        // An hour ago.
        batcher.lock().since = Instant::now().checked_sub(Duration::from_secs(3600));
        poll();
        assert_eq!(sent.recv().unwrap(), Message::text("a"));
        assert_eq!(sleeps.recv().unwrap(), Duration::from_secs(3600));
    }
}
