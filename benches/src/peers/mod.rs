//! Each library behind the same face.

mod fastwebsockets;
pub use fastwebsockets::FastWebSockets;

mod tokio_websockets;
pub use tokio_websockets::TokioWebSockets;

mod tungstenite;
pub use tungstenite::Tungstenite;

mod wsforge;
pub use wsforge::{Growing, Lent, Owned, Reader, Wsforge};

use std::pin::pin;
use std::task::{Context, Poll, Waker};

/// What a future gives that never waits, as its transport is always ready.
///
/// # Panics
///
/// If it waits.
pub fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the wire is always ready"),
    }
}
