use std::any::{Any, TypeId};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// What middleware leaves for those that come after it, for the time of one message.
///
/// A value is found by the name that it was left under, and by its type. Clones share their values. While
/// there are none it takes no memory but its own.
#[derive(Default)]
pub struct Extensions(OnceLock<Arc<Mutex<Vec<Entry>>>>);

/// A message has a handful of them, so they are looked through.
#[derive(Clone)]
struct Entry {
    name: Box<str>,
    id: TypeId,
    value: Arc<dyn Any + Send + Sync>,
}

impl Extensions {
    /// No values.
    pub const fn new() -> Self {
        Self(OnceLock::new())
    }

    /// Leaves a value, in place of the one of this name.
    pub fn insert<T: Send + Sync + 'static>(&self, name: impl Into<String>, value: T) {
        let name = name.into().into_boxed_str();
        let entry = Entry { name, id: TypeId::of::<T>(), value: Arc::new(value) };
        let mut entries = lock(self.shared());
        let before = entries.iter().position(|other| other.name == entry.name);
        let before = before.map(|at| entries.remove(at));
        entries.push(entry);
        drop(entries);
        // Not under the lock: dropping it may run anything.
        drop(before);
    }

    /// The value of this name, if it is a `T`.
    pub fn get<T: Send + Sync + 'static>(&self, name: &str) -> Option<Arc<T>> {
        self.find(|entry| *entry.name == *name)
    }

    /// The `T` that was left last, whatever its name.
    pub fn get_by_type<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.find(|entry| entry.id == TypeId::of::<T>())
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.0.get().is_none_or(|entries| lock(entries).is_empty())
    }

    fn find<T: Send + Sync + 'static>(&self, is: impl Fn(&Entry) -> bool) -> Option<Arc<T>> {
        let entries = lock(self.0.get()?);
        let value = entries.iter().rev().find(|entry| is(entry))?.value.clone();
        drop(entries);
        value.downcast().ok()
    }

    fn shared(&self) -> &Arc<Mutex<Vec<Entry>>> {
        self.0.get_or_init(Arc::default)
    }
}

fn lock(entries: &Mutex<Vec<Entry>>) -> MutexGuard<'_, Vec<Entry>> {
    entries.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Clone for Extensions {
    fn clone(&self) -> Self {
        Self(OnceLock::from(self.shared().clone()))
    }
}

impl fmt::Debug for Extensions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = match self.0.get() {
            Some(entries) => lock(entries).iter().map(|entry| entry.name.clone()).collect(),
            None => Vec::new(),
        };
        f.debug_set().entries(names).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_by_its_name_and_by_its_type() {
        let extensions = Extensions::new();
        assert!(extensions.is_empty() && extensions.get::<u8>("n").is_none());
        extensions.insert("n", 7_u8);
        extensions.insert("m", 8_u8);
        extensions.insert("s", "seven");
        assert_eq!(extensions.get::<u8>("n").as_deref(), Some(&7));
        assert_eq!(extensions.get_by_type::<u8>().as_deref(), Some(&8));
        assert_eq!(extensions.get_by_type::<&str>().as_deref(), Some(&"seven"));
        assert!(extensions.get::<u16>("n").is_none() && extensions.get_by_type::<u16>().is_none());
        assert!(!extensions.is_empty());
        assert_eq!(format!("{extensions:?}"), r#"{"n", "m", "s"}"#);
    }

    #[test]
    fn the_last_value_of_a_name_counts() {
        let extensions = Extensions::new();
        extensions.insert("n", 7_u8);
        extensions.insert("n", 8_u16);
        assert!(extensions.get_by_type::<u8>().is_none());
        assert_eq!(extensions.get::<u16>("n").as_deref(), Some(&8));
    }

    #[test]
    fn clones_share_what_is_left_later() {
        let extensions = Extensions::new();
        let clone = extensions.clone();
        assert!(clone.is_empty());
        extensions.insert("n", 7_u8);
        assert_eq!(clone.get::<u8>("n").as_deref(), Some(&7));
    }
}
