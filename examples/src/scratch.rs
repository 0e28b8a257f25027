use std::cell::Cell;

use wsforge_core::Output;

/// The buffers of a turn: what is read into, and what is gathered to be written.
///
/// A thread needs one, however many sessions it serves, since a turn never waits.
#[derive(Debug)]
pub struct Scratch {
    pub(crate) buf: Vec<u8>,
    pub(crate) output: Output,
}

impl Scratch {
    /// A 64 KiB message and its header are read in one piece. Where memory is zeroed lazily, pages
    /// that are never read into are never there.
    const LEN: usize = 512 * 1024;

    /// Runs `turn` with this thread's buffers: taken and put back, not borrowed, so that a turn inside
    /// a turn would find others.
    pub fn with<T>(turn: impl FnOnce(&mut Self) -> T) -> T {
        thread_local! {
            static SCRATCH: Cell<Option<Box<Scratch>>> = const { Cell::new(None) };
        }
        let mut scratch = SCRATCH.take().unwrap_or_default();
        let result = turn(&mut scratch);
        SCRATCH.set(Some(scratch));
        result
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self { buf: vec![0; Self::LEN], output: Output::new() }
    }
}
