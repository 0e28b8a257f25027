//! What the behaviour tests share: every runtime behind one type, a peer that is worked by hand, and
//! transports that make things hard.
#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    unused_macros,
    reason = "no test uses all of it"
)]

mod crowd;
pub use crowd::{Crowd, Crowded};

mod http;
pub use http::{Reply, plain, reply};

mod raw;
pub use raw::{Frame, MASK, REQUEST, Raw, answer_to, close_body, encode};

mod rt;
pub use rt::{Listener, Rt, Task};

mod streams;
pub use streams::{Tunnel, Wire};

mod transports;
pub use transports::{Counted, Dribble, Lingering};

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use wsforge::{Message, Options, SendError, WebSocket};

/// Writes each behaviour once and tests it on every runtime.
///
/// A behaviour is an `async fn` that gets the [`Rt`] it runs on.
macro_rules! behaviours {
    ($($(#[$attribute:meta])* async fn $name:ident($rt:ident: Rt) $body:block)+) => {$(
        $(#[$attribute])*
        mod $name {
            use super::*;

            async fn behaviour($rt: Rt) $body

            #[cfg(feature = "smol")]
            #[test]
            fn smol_current_thread() {
                Rt::Smol.run(behaviour);
            }

            #[cfg(feature = "smol")]
            #[test]
            fn smol_multi_thread() {
                Rt::SmolThreads.run(behaviour);
            }

            #[cfg(feature = "tokio")]
            #[test]
            fn tokio_current_thread() {
                Rt::Tokio.run(behaviour);
            }

            #[cfg(feature = "tokio")]
            #[test]
            fn tokio_multi_thread() {
                Rt::TokioThreads.run(behaviour);
            }
        }
    )+};
}

/// Polls `future` at most so often, each time when it is woken; then it is dropped.
pub async fn poll_times<F: Future>(times: usize, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = times;
    poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Lets other tasks run.
pub async fn yield_now() {
    let mut yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Yields until `condition` holds. A test that waits in vain ends with its deadline.
pub async fn until(mut condition: impl FnMut() -> bool) {
    while !condition() {
        yield_now().await;
    }
}

/// The texts of all messages to the end.
pub async fn texts(socket: &mut WebSocket) -> Vec<String> {
    let mut texts = Vec::new();
    while let Some(message) = socket.recv().await {
        texts.push(text_of(&message));
    }
    texts
}

pub fn text_of(message: &Message) -> String {
    message.as_text().expect("a text").to_owned()
}

/// Bytes among which a lost, doubled or moved one shows.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..len as u32).map(|i| (i.wrapping_mul(0x9E37_79B1) >> 24) as u8).collect()
}

pub fn options(set: impl FnOnce(&mut Options)) -> Options {
    let mut options = Options::default();
    set(&mut options);
    options
}

/// Frames of these texts in one piece, as a client writes them.
pub fn pipelined(texts: impl IntoIterator<Item = String>) -> Vec<u8> {
    texts.into_iter().flat_map(|text| encode(&Frame::text(&text), Some(MASK))).collect()
}

pub fn numbers(n: usize) -> impl Iterator<Item = String> {
    (0..n).map(|i| i.to_string())
}

pub async fn echo(socket: &mut WebSocket) -> Result<(), SendError> {
    while let Some(message) = socket.recv().await {
        socket.send(message).await?;
    }
    Ok(())
}

/// A server whose writes are counted, from behind its handshake on.
pub async fn counted(rt: Rt) -> (WebSocket, Raw, Arc<AtomicUsize>) {
    let (io, mut raw) = rt.tcp().await;
    let (io, writes) = Counted::new(io);
    let socket = rt.server_over(io, &mut raw, Options::default()).await;
    writes.store(0, Ordering::Relaxed);
    (socket, raw, writes)
}
