/// Which end of the connection this is: [`Server`] or [`Client`].
///
/// A type parameter, so that a server has no masking code and a client owns its source of keys.
pub trait Role: sealed::Sealed {
    /// Whether this end masks what it sends and its peer does not (RFC 6455 section 5.1).
    const CLIENT: bool;

    /// The masking key of the next frame.
    #[doc(hidden)]
    fn next_key(&mut self) -> Option<[u8; 4]>;
}

/// The end that accepted the connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct Server;

impl Role for Server {
    const CLIENT: bool = false;

    fn next_key(&mut self) -> Option<[u8; 4]> {
        None
    }
}

/// The end that opened the connection; `K` supplies its masking keys.
#[derive(Clone, Copy, Debug, Default)]
pub struct Client<K>(pub(crate) K);

impl<K: KeySource> Role for Client<K> {
    const CLIENT: bool = true;

    fn next_key(&mut self) -> Option<[u8; 4]> {
        Some(self.0.next_key())
    }
}

/// Supplies masking keys, one for every frame that a client sends.
///
/// Keys must be unpredictable to whoever chooses the payloads (RFC 6455 section 10.3): draw them from
/// the operating system's generator or one seeded by it. Closures that return a key are sources too.
pub trait KeySource {
    /// A fresh key.
    fn next_key(&mut self) -> [u8; 4];
}

impl<F: FnMut() -> [u8; 4]> KeySource for F {
    fn next_key(&mut self) -> [u8; 4] {
        self()
    }
}

mod sealed {
    use super::{Client, KeySource, Server};

    #[expect(unnameable_types, reason = "nobody else is to implement a role")]
    pub trait Sealed {}
    impl Sealed for Server {}
    impl<K: KeySource> Sealed for Client<K> {}
}
