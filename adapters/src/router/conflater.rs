use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Message;
use crate::runtime::Runtime;

/// Gathers the newest text of each key, to send those of a group as one, each on a line of its own: prices
/// that change more often than anybody wants to know.
///
/// A text takes the place of what waits with its key, and stands at the end. A group's batch is complete when
/// it is large enough, or when its first key has waited long enough, however often that has changed since. Who
/// puts a text gets the batch that this completes, to send it; [`run`](Self::run) sends those whose time is up.
///
/// It conflates for all before anything is sent, so that each key costs one text in a batch. What still is too
/// much for a slow peer, its [`SlowConsumer`](crate::SlowConsumer) says.
///
/// ```
/// use wsforge::router::{Conflater, Message};
///
/// let conflater = Conflater::new(2);
/// assert_eq!(conflater.put("metals", "Au", "Au 2400"), None);
/// assert_eq!(conflater.put("metals", "Au", "Au 2401"), None);
/// assert_eq!(conflater.put("metals", "Ag", "Ag 30"), Some(Message::text("Au 2401\nAg 30")));
/// ```
///
/// ```no_run
/// # #[tokio::main] async fn main() {
/// # use std::sync::Arc;
/// # use wsforge::router::{ConnectionManager, Conflater};
/// # let (conflater, manager) = (Arc::new(Conflater::new(100)), ConnectionManager::new());
/// let send = move |group: &str, batch| manager.broadcast_group(group, batch);
/// tokio::spawn(conflater.run(wsforge::tokio::Tokio, send));
/// # }
/// ```
#[derive(Debug)]
pub struct Conflater {
    max_texts: usize,
    max_bytes: usize,
    max_delay: Duration,
    /// Of those for which something waits.
    groups: Mutex<BTreeMap<String, Pending>>,
}

/// What waits for one group.
#[derive(Debug)]
struct Pending {
    /// In the order in which they came, each by a number.
    texts: BTreeMap<u64, String>,
    /// The numbers of those that have a key.
    keys: HashMap<String, u64>,
    /// How long the batch is.
    bytes: usize,
    next: u64,
    /// When the first one came, though something newer may be in its place.
    since: Instant,
}

impl Conflater {
    /// Batches of so many texts at most, of 16 KiB, and after 100 ms.
    pub const fn new(max_texts: usize) -> Self {
        Self {
            max_texts,
            max_bytes: 16 * 1024,
            max_delay: Duration::from_millis(100),
            groups: Mutex::new(BTreeMap::new()),
        }
    }

    /// Sets the bytes from which on a batch is complete.
    pub const fn max_bytes(mut self, max_bytes: usize) -> Self {
        self.max_bytes = max_bytes;
        self
    }

    /// Sets how long a text waits for others, and a key for something newer.
    pub const fn max_delay(mut self, max_delay: Duration) -> Self {
        self.max_delay = max_delay;
        self
    }

    /// Puts a text in the place of what waits for the group with this key, and gives the group's batch if
    /// that is complete.
    #[must_use = "a batch is the caller's to send"]
    pub fn put(&self, group: &str, key: &str, text: &str) -> Option<Message> {
        self.put_at(group, key, text, Instant::now())
    }

    /// As [`put`](Self::put), for a caller that knows the time.
    #[must_use = "a batch is the caller's to send"]
    pub fn put_at(&self, group: &str, key: &str, text: &str, now: Instant) -> Option<Message> {
        self.push(group, Some(key), text, now)
    }

    /// Adds a text that nothing replaces, and gives the group's batch if that is complete.
    #[must_use = "a batch is the caller's to send"]
    pub fn add(&self, group: &str, text: &str) -> Option<Message> {
        self.add_at(group, text, Instant::now())
    }

    /// As [`add`](Self::add), for a caller that knows the time.
    #[must_use = "a batch is the caller's to send"]
    pub fn add_at(&self, group: &str, text: &str, now: Instant) -> Option<Message> {
        self.push(group, None, text, now)
    }

    /// Gives what waits, complete or not, each group's by its name.
    #[must_use = "batches are the caller's to send"]
    pub fn flush(&self) -> Vec<(String, Message)> {
        std::mem::take(&mut *self.lock()).into_iter().map(batch).collect()
    }

    /// Gives what waits for the groups whose time is up.
    #[must_use = "batches are the caller's to send"]
    pub fn flush_due(&self, now: Instant) -> Vec<(String, Message)> {
        let mut groups = self.lock();
        let is_due = |pending: &Pending| self.is_due(pending, now);
        let due = groups.iter().filter(|(_, pending)| is_due(pending));
        let due: Vec<String> = due.map(|(group, _)| group.clone()).collect();
        due.iter().filter_map(|group| groups.remove_entry(group)).map(batch).collect()
    }

    /// When the next group's time is up.
    pub fn deadline(&self) -> Option<Instant> {
        let first = self.lock().values().map(|pending| pending.since).min();
        first.and_then(|since| since.checked_add(self.max_delay))
    }

    /// Sends what has waited long enough, for ever; run it as a task.
    ///
    /// A text waits for at most twice [`max_delay`](Self::max_delay).
    ///
    /// # Cancel safety
    ///
    /// If it is dropped, what waits is still there.
    pub async fn run(self: Arc<Self>, runtime: impl Runtime, send: impl Fn(&str, Message)) {
        loop {
            let now = Instant::now();
            for (group, batch) in self.flush_due(now) {
                send(&group, batch);
            }
            let wait = self
                .deadline()
                .map_or(self.max_delay, |deadline| deadline.saturating_duration_since(now));
            // What is not due waits for some time, however short.
            runtime.sleep(wait.max(Duration::from_millis(1))).await;
        }
    }

    fn push(&self, group: &str, key: Option<&str>, text: &str, now: Instant) -> Option<Message> {
        let mut groups = self.lock();
        // Most often it is there, and no name is copied.
        if !groups.contains_key(group) {
            groups.insert(group.to_owned(), Pending::new(now));
        }
        let pending = groups.get_mut(group)?;
        pending.push(key, text);
        let complete = pending.texts.len() >= self.max_texts
            || pending.bytes >= self.max_bytes
            || self.is_due(pending, now);
        let complete = if complete { groups.remove(group) } else { None };
        complete.map(Message::from)
    }

    fn is_due(&self, pending: &Pending, now: Instant) -> bool {
        now.saturating_duration_since(pending.since) >= self.max_delay
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Pending>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pending {
    fn new(since: Instant) -> Self {
        Self { texts: BTreeMap::new(), keys: HashMap::new(), bytes: 0, next: 0, since }
    }

    fn push(&mut self, key: Option<&str>, text: &str) {
        let n = self.next;
        self.next += 1;
        let before = match key.and_then(|key| self.keys.get_mut(key)) {
            Some(at) => self.texts.remove(&std::mem::replace(at, n)),
            None => {
                self.keys.extend(key.map(|key| (key.to_owned(), n)));
                None
            }
        };
        let line_end = usize::from(!self.texts.is_empty());
        self.bytes -= before.map_or(0, |before| before.len() + line_end);
        self.bytes += text.len() + line_end;
        self.texts.insert(n, text.to_owned());
    }
}

impl From<Pending> for Message {
    fn from(pending: Pending) -> Self {
        let texts: Vec<String> = pending.texts.into_values().collect();
        Self::text(texts.join("\n"))
    }
}

fn batch((group, pending): (String, Pending)) -> (String, Message) {
    (group, pending.into())
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::sync::mpsc;
    use std::task::{Context, Waker};

    use proptest::prelude::*;

    use super::super::testing::Clock;
    use super::*;

    const DELAY: Duration = Duration::from_millis(100);

    fn due(batches: &[(&str, &str)]) -> Vec<(String, Message)> {
        batches.iter().map(|(group, text)| ((*group).into(), (*text).into())).collect()
    }

    #[test]
    fn what_is_newer_takes_the_place_of_what_is_older_and_stands_at_the_end() {
        let conflater = Conflater::new(9);
        let now = Instant::now();
        let put = |key, text| assert_eq!(conflater.put_at("g", key, text, now), None);
        put("a", "a1");
        put("b", "b1");
        assert_eq!(conflater.add_at("g", "and", now), None);
        put("c", "c1");
        put("a", "a2");
        assert_eq!(conflater.add_at("g", "and", now), None);
        put("b", "");
        assert_eq!(conflater.flush(), due(&[("g", "and\nc1\na2\nand\n")]));
        assert_eq!((conflater.flush(), conflater.deadline()), (vec![], None));
        // Nothing of before is known any more.
        put("b", "b3");
        put("a", "a3");
        assert_eq!(conflater.flush(), due(&[("g", "b3\na3")]));
    }

    #[test]
    fn a_batch_is_complete_when_its_group_has_enough() {
        let conflater = Conflater::new(3).max_bytes(9);
        let now = Instant::now();
        let put = |group, key, text| conflater.put_at(group, key, text, now);
        assert_eq!(
            (put("g", "a", "1"), put("g", "b", "2"), put("h", "c", "3")),
            (None, None, None)
        );
        assert_eq!((put("g", "a", "4"), put("g", "b", "5")), (None, None));
        assert_eq!(put("g", "c", "6"), Some("4\n5\n6".into()));
        assert_eq!((put("h", "d", "abcdef"), put("h", "d", "g")), (None, None));
        // Those that were replaced do not count.
        assert_eq!(put("h", "d", "abcdefg"), Some("3\nabcdefg".into()));
        assert_eq!(conflater.add_at("h", "123456789", now), Some("123456789".into()));
        assert_eq!(conflater.flush(), vec![]);
    }

    #[test]
    fn a_batch_is_complete_when_its_first_key_has_waited() {
        let conflater = Conflater::new(9).max_delay(DELAY);
        let now = Instant::now();
        let put = |group, text, at| conflater.put_at(group, "key", text, at);
        assert_eq!(put("h", "1", now + DELAY / 2), None);
        assert_eq!((put("g", "1", now), put("g", "2", now + DELAY / 2)), (None, None));
        assert_eq!(conflater.deadline(), Some(now + DELAY));
        assert_eq!(conflater.flush_due(now + DELAY * 99 / 100), vec![]);
        assert_eq!(conflater.flush_due(now + DELAY), due(&[("g", "2")]));
        assert_eq!(conflater.deadline(), Some(now + DELAY * 3 / 2));
        assert_eq!(put("h", "2", now + DELAY * 3 / 2), Some("2".into()));
        assert_eq!(
            Conflater::new(9).max_delay(Duration::ZERO).put("g", "key", "1"),
            Some("1".into())
        );
        assert_eq!(Conflater::new(9).max_delay(Duration::ZERO).add("g", "1"), Some("1".into()));
    }

    #[test]
    fn the_task_sends_what_has_waited() {
        const HOUR: Duration = Duration::from_secs(3600);
        let conflater = Arc::new(Conflater::new(9).max_delay(HOUR));
        let (slept, sleeps) = mpsc::channel();
        let (send, sent) = mpsc::channel();
        let note = move |group: &str, batch| send.send((group.to_owned(), batch)).unwrap();
        let mut run = pin!(conflater.clone().run(Clock(slept), note));
        let mut poll =
            || assert!(run.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        poll();
        assert_eq!(sleeps.recv().unwrap(), HOUR);
        let ago =
            |minutes: u64| Instant::now().checked_sub(Duration::from_secs(60 * minutes)).unwrap();
        assert_eq!(conflater.put("later", "key", "a"), None);
        for group in ["b", "a", "half"] {
            assert_eq!(conflater.put_at(group, "key", group, ago(30)), None);
        }
        for group in ["a", "b"] {
            conflater.lock().get_mut(group).unwrap().since = ago(60);
        }
        poll();
        let rest = sleeps.recv().unwrap();
        assert!(rest <= HOUR / 2 && rest > HOUR / 3, "{rest:?}");
        assert_eq!(sent.try_iter().collect::<Vec<_>>(), due(&[("a", "a"), ("b", "b")]));
    }

    #[derive(Clone, Debug)]
    enum Op {
        Put { group: u8, key: Option<u8>, len: usize },
        Pass(u64),
        Flush,
        FlushDue,
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            8 => (0..3_u8, proptest::option::of(0..6_u8), 0..20_usize)
                .prop_map(|(group, key, len)| Op::Put { group, key, len }),
            2 => (0..40_u64).prop_map(Op::Pass),
            1 => Just(Op::Flush),
            2 => Just(Op::FlushDue),
        ]
    }

    /// All that was put since the last batch, and when the first of it was.
    type Log = (Instant, Vec<(Option<u8>, String)>);

    /// What of it nothing newer has replaced.
    fn newest((_, log): &Log) -> Vec<&str> {
        let is_newest = |at: usize| {
            log[at].0.is_none_or(|key| log[at + 1..].iter().all(|later| later.0 != Some(key)))
        };
        (0..log.len()).filter(|at| is_newest(*at)).map(|at| &*log[at].1).collect()
    }

    proptest! {
        #[test]
        fn nothing_is_lost_but_what_something_newer_has_replaced(
            ops in proptest::collection::vec(op(), 0..200),
            max_texts in 1..8_usize,
            max_bytes in 1..60_usize,
        ) {
            let conflater = Conflater::new(max_texts).max_bytes(max_bytes).max_delay(DELAY);
            let mut model = BTreeMap::<String, Log>::new();
            let mut now = Instant::now();
            for (n, op) in ops.into_iter().enumerate() {
                let take = |model: &mut BTreeMap<String, Log>, only_due: bool| {
                    let mut batches = Vec::new();
                    model.retain(|group, log| {
                        let stays = only_due && now - log.0 < DELAY;
                        if !stays {
                            batches.push((group.clone(), Message::text(newest(log).join("\n"))));
                        }
                        stays
                    });
                    batches
                };
                match op {
                    Op::Put { group, key, len } => {
                        let (group, text) = (group.to_string(), format!("{n} {:len$}", ""));
                        let given = match key {
                            Some(key) => conflater.put_at(&group, &key.to_string(), &text, now),
                            None => conflater.add_at(&group, &text, now),
                        };
                        let log = model.entry(group.clone()).or_insert_with(|| (now, Vec::new()));
                        log.1.push((key, text));
                        let texts = newest(log);
                        let batch = texts.join("\n");
                        let complete = texts.len() >= max_texts
                            || batch.len() >= max_bytes
                            || now - log.0 >= DELAY;
                        prop_assert_eq!(given, complete.then(|| Message::text(batch)));
                        if complete {
                            model.remove(&group);
                        }
                    }
                    Op::Pass(millis) => now += Duration::from_millis(millis),
                    Op::Flush => prop_assert_eq!(conflater.flush(), take(&mut model, false)),
                    Op::FlushDue => prop_assert_eq!(conflater.flush_due(now), take(&mut model, true)),
                }
                let groups = conflater.lock();
                prop_assert!(groups.keys().eq(model.keys()));
                for pending in groups.values() {
                    prop_assert!(pending.texts.len() < max_texts && pending.bytes < max_bytes);
                    prop_assert!(pending.keys.len() <= pending.texts.len());
                }
                drop(groups);
                let first = model.values().map(|log| log.0).min();
                prop_assert_eq!(conflater.deadline(), first.map(|since| since + DELAY));
            }
        }
    }
}
