use std::any::{Any, TypeId};
use std::mem;
use std::sync::{Arc, Mutex};

use crate::driver::sync::lock_plain;

/// What the application keeps with one connection: one value of each type, of which there are few.
#[derive(Default)]
pub(crate) struct Data(Vec<(TypeId, Arc<dyn Any + Send + Sync>)>);

impl Data {
    /// Puts a value in, and gives the one that was in its place.
    pub(crate) fn insert<T: Any + Send + Sync>(data: &Mutex<Self>, value: T) -> Option<Arc<T>> {
        let value = Arc::new(value);
        let mut data = lock_plain(data);
        let before = match data.0.iter_mut().find(|(id, _)| *id == TypeId::of::<T>()) {
            Some((_, before)) => Some(mem::replace(before, value)),
            None => {
                data.0.push((TypeId::of::<T>(), value));
                None
            }
        };
        drop(data);
        before?.downcast().ok()
    }

    pub(crate) fn get<T: Any + Send + Sync>(data: &Mutex<Self>) -> Option<Arc<T>> {
        let data = lock_plain(data);
        let (_, value) = data.0.iter().find(|(id, _)| *id == TypeId::of::<T>())?;
        let value = value.clone();
        drop(data);
        value.downcast().ok()
    }

    /// Takes everything; it is dropped where no lock is held.
    pub(crate) fn take(data: &Mutex<Self>) -> Self {
        mem::take(&mut lock_plain(data))
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
