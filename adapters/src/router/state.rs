use std::any::{Any, TypeId};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// What handlers share: one value of each type. Clones are the same state.
///
/// A value is found by its own type and by that of the `Arc` around it, so that a handler may ask for
/// `State<T>` as well as for `State<Arc<T>>`.
#[derive(Clone, Default)]
pub struct AppState(Arc<RwLock<Values>>);

type Value = Arc<dyn Any + Send + Sync>;

#[derive(Default)]
struct Values {
    own: BTreeMap<TypeId, Value>,
    /// The same under `TypeId::of::<Arc<T>>()`, each an `Arc<Arc<T>>`.
    shared: BTreeMap<TypeId, Value>,
}

impl AppState {
    /// A state without values.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a value in place of the one of its type.
    pub fn insert<T: Send + Sync + 'static>(&self, value: Arc<T>) {
        let shared = Arc::new(value.clone());
        let mut values = self.write();
        let before = (
            values.own.insert(TypeId::of::<T>(), value),
            values.shared.insert(TypeId::of::<Arc<T>>(), shared),
        );
        drop(values);
        // Not under the lock: dropping them may run anything.
        drop(before);
    }

    /// The value of type `T`.
    pub fn get<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        let id = TypeId::of::<T>();
        let values = self.read();
        let value = values.own.get(&id).or_else(|| values.shared.get(&id))?.clone();
        drop(values);
        value.downcast().ok()
    }

    /// Whether there is a value of type `T`.
    pub fn contains<T: Send + Sync + 'static>(&self) -> bool {
        let id = TypeId::of::<T>();
        let values = self.read();
        values.own.contains_key(&id) || values.shared.contains_key(&id)
    }

    /// Takes the value out that was inserted as an `Arc<T>`.
    pub fn remove<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        let mut values = self.write();
        let value = values.own.remove(&TypeId::of::<T>())?;
        let shared = values.shared.remove(&TypeId::of::<Arc<T>>());
        drop(values);
        drop(shared);
        value.downcast().ok()
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        self.read().own.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Drops all values.
    pub fn clear(&self) {
        let values = std::mem::take(&mut *self.write());
        drop(values);
    }

    fn read(&self) -> RwLockReadGuard<'_, Values> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Values> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for AppState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppState").field("len", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_by_its_type_and_by_that_of_its_arc() {
        let state = AppState::new();
        assert!(state.is_empty() && !state.contains::<u8>() && state.get::<u8>().is_none());
        let value = Arc::new(7_u8);
        state.clone().insert(value.clone());
        assert_eq!(state.len(), 1);
        assert!(Arc::ptr_eq(&state.get::<u8>().unwrap(), &value));
        assert!(Arc::ptr_eq(&*state.get::<Arc<u8>>().unwrap(), &value));
        assert!(state.contains::<u8>() && state.contains::<Arc<u8>>() && !state.contains::<u16>());
    }

    #[test]
    fn there_is_one_value_of_a_type() {
        let state = AppState::new();
        state.insert(Arc::new(7_u8));
        state.insert(Arc::new(8_u8));
        state.insert(Arc::new("eight"));
        assert_eq!((state.len(), *state.get::<u8>().unwrap()), (2, 8));
        assert_eq!(**state.get::<Arc<u8>>().unwrap(), 8);
    }

    #[test]
    fn what_is_removed_is_found_no_more() {
        let state = AppState::new();
        state.insert(Arc::new(7_u8));
        state.insert(Arc::new(8_u16));
        assert_eq!(state.remove::<u8>().as_deref(), Some(&7));
        assert!(!state.contains::<u8>() && !state.contains::<Arc<u8>>());
        assert_eq!((state.remove::<u8>(), state.len()), (None, 1));
        state.clear();
        assert!(state.is_empty() && !state.contains::<Arc<u16>>());
    }

    #[test]
    fn what_a_value_does_when_it_is_dropped_finds_the_state_unlocked() {
        struct Drops(AppState);
        impl Drop for Drops {
            fn drop(&mut self) {
                self.0.insert(Arc::new(1_u8));
            }
        }
        let state = AppState::new();
        state.insert(Arc::new(Drops(state.clone())));
        state.insert(Arc::new(Drops(AppState::new())));
        assert!(state.remove::<u8>().is_some(), "the first one's drop has put it there");
        state.clear();
    }
}
