//! Randomness: masking keys and the keys of handshakes.

use std::cell::RefCell;

use wsforge_core::KeySource;

/// Draws masking keys from the operating system's generator, many at a time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Keys;

impl KeySource for Keys {
    fn next_key(&mut self) -> [u8; 4] {
        random()
    }
}

/// A system call for each masking key would cost more than the frame.
const DRAWN: usize = 1024;

/// `N` random bytes that nobody else gets.
///
/// # Panics
///
/// If the operating system has no randomness: there is no going on without (RFC 6455 section 10.3).
pub(crate) fn random<const N: usize>() -> [u8; N] {
    thread_local! {
        static POOL: RefCell<Pool> = const { RefCell::new(Pool { bytes: [0; DRAWN], at: DRAWN }) };
    }
    POOL.with_borrow_mut(Pool::draw)
}

struct Pool {
    bytes: [u8; DRAWN],
    at: usize,
}

impl Pool {
    fn draw<const N: usize>(&mut self) -> [u8; N] {
        if DRAWN - self.at < N {
            getrandom::fill(&mut self.bytes).expect("the operating system has randomness");
            self.at = 0;
        }
        let mut drawn = [0; N];
        let fresh = &mut self.bytes[self.at..self.at + N];
        drawn.copy_from_slice(fresh);
        // Used keys are not kept where a bug could show them.
        fresh.fill(0);
        self.at += N;
        drawn
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_key_comes_twice() {
        let keys: HashSet<[u8; 16]> = (0..10_000).map(|_| random()).collect();
        assert_eq!(keys.len(), 10_000);
        // Of four bytes some do, but not many.
        let keys: HashSet<[u8; 4]> = (0..10_000).map(|_| Keys.next_key()).collect();
        assert!(keys.len() > 9_990, "{}", keys.len());
    }

    #[test]
    fn every_byte_varies() {
        let mut seen = [0_u8; 16];
        for _ in 0..100 {
            for (seen, byte) in seen.iter_mut().zip(random::<16>()) {
                *seen |= byte;
            }
        }
        assert_eq!(seen, [0xff; 16]);
    }
}
