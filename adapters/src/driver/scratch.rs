use std::cell::Cell;

use wsforge_core::Output;

/// The buffers of a turn: what is read into, and what is gathered to be written.
///
/// A thread needs one, however many connections it serves, since a turn never waits.
#[derive(Debug)]
pub(crate) struct Scratch {
    pub(crate) buf: Vec<u8>,
    pub(crate) output: Output,
    /// Memory for a large message to keep, if one is expected: it is read into that, and not copied.
    pub(crate) own: Vec<u8>,
    /// How long that is expected to be with its header, as the last one was; or 0.
    pub(crate) expected: usize,
}

impl Scratch {
    /// A 64 KiB message and its header are read in one piece. Where memory is zeroed lazily, pages
    /// that are never read into are never there.
    pub(crate) const LEN: usize = 512 * 1024;

    /// Runs `turn` with this thread's buffers: taken and put back, not borrowed, so that a turn inside
    /// a turn finds others.
    pub(crate) fn with<T>(turn: impl FnOnce(&mut Self) -> T) -> T {
        thread_local! {
            static SCRATCH: Cell<Option<Box<Scratch>>> = const { Cell::new(None) };
        }
        let mut scratch = SCRATCH.take().unwrap_or_default();
        let result = turn(&mut scratch);
        debug_assert!(scratch.output.is_empty(), "a turn writes or keeps what it has gathered");
        SCRATCH.set(Some(scratch));
        result
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self { buf: vec![0; Self::LEN], output: Output::new(), own: Vec::new(), expected: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_inside_a_turn_has_buffers_of_its_own() {
        Scratch::with(|outer| {
            outer.buf[0] = 7;
            Scratch::with(|inner| assert_eq!((inner.buf[0], inner.buf.len()), (0, Scratch::LEN)));
            assert_eq!(outer.buf[0], 7);
        });
    }

    #[test]
    fn the_buffers_are_kept() {
        let at = |scratch: &mut Scratch| scratch.buf.as_ptr();
        assert_eq!(Scratch::with(at), Scratch::with(at));
    }
}
