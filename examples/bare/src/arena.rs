use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering};

const LEN: usize = 4 * 1024;

/// Memory that is given out from front to back, and only once.
pub(crate) struct Arena {
    memory: UnsafeCell<[u8; LEN]>,
    given: AtomicUsize,
}

impl Arena {
    pub(crate) const fn new() -> Self {
        Self { memory: UnsafeCell::new([0; LEN]), given: AtomicUsize::new(0) }
    }
}

// SAFETY: no part of the memory is given out twice.
unsafe impl Sync for Arena {}

// SAFETY: what is given out lies within the memory, is aligned, and is nobody else's.
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let start = self.memory.get().cast::<u8>();
        let fit = |given: usize| {
            let padding = start.wrapping_add(given).align_offset(layout.align());
            let end = given.checked_add(padding)?.checked_add(layout.size())?;
            (end <= LEN).then_some(end)
        };
        match self.given.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fit) {
            Ok(given) => {
                let end = fit(given).unwrap_or(LEN);
                start.wrapping_add(end - layout.size())
            }
            Err(_) => ptr::null_mut(),
        }
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}
