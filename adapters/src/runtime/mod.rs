#![doc = include_str!("../../docs/runtime.md")]

use std::fmt;
use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind, IoSlice};
use std::mem;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::buf::Limit;

use crate::driver::endpoint::Endpoint;
use crate::driver::opening::Opening;

#[cfg(feature = "smol")]
pub mod smol;
#[cfg(all(feature = "router", feature = "smol"))]
use self::smol as by_smol;

#[cfg(feature = "tokio")]
pub mod tokio;
#[cfg(all(feature = "router", feature = "tokio"))]
use self::tokio as by_tokio;

#[cfg(any(feature = "router", feature = "smol", feature = "tokio"))]
pub(crate) mod tcp;

#[cfg(all(unix, any(feature = "smol", feature = "tokio")))]
mod threads;

mod task;
pub(crate) use task::Stage;
pub use task::Task;

/// Something to wait for.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// One peer's bytes, both ways.
///
/// Everything takes `&self`: the task that owns a connection reads, and whoever has something to send
/// writes. A transport need not keep more than one waker for each direction: only the owner calls
/// [`poll_read`](Self::poll_read), and of those who write one polls at a time, for all.
pub trait Transport: Send + Sync + 'static {
    /// Reads what is there into `buf`, at most once; 0 at the end of the stream.
    ///
    /// A transport that knows that nothing more is there, as after a read that did not fill `buf`,
    /// should remember it, so that neither the next call nor [`poll_readable`](Self::poll_readable)
    /// costs a system call.
    fn poll_read(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>>;

    /// As [`poll_read`](Self::poll_read), into memory that need not be zeroed first.
    ///
    /// By itself it zeroes it.
    fn poll_read_buf(
        &self,
        cx: &mut Context<'_>,
        buf: &mut Limit<&mut Vec<u8>>,
    ) -> Poll<io::Result<usize>> {
        let limit = buf.limit();
        let vec = buf.get_mut();
        let len = vec.len();
        vec.resize(len + limit, 0);
        let polled = self.poll_read(cx, &mut vec[len..]);
        let read = match &polled {
            Poll::Ready(Ok(n)) => (*n).min(limit),
            _ => 0,
        };
        vec.truncate(len + read);
        buf.set_limit(limit - read);
        polled
    }

    /// Waits until there may be something to read. It is asked after a read that did not fill its buffer.
    ///
    /// By itself it says that there may be: then it is read to find out.
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let _ = cx;
        Poll::Ready(Ok(()))
    }

    /// Writes some of `slices` at once, or says [`ErrorKind::WouldBlock`]. It is called under a lock, so
    /// it must neither wait nor wake anybody.
    ///
    /// By itself it always says so: then only the owner writes, as where writing goes through a layer
    /// of encryption.
    fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let _ = slices;
        Err(ErrorKind::WouldBlock.into())
    }

    /// Writes some of `slices`.
    fn poll_write(&self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>>;

    /// Passes on what the transport itself has kept of earlier writes.
    fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let _ = cx;
        Poll::Ready(Ok(()))
    }

    /// Ends the writing side; the peer may still send.
    fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Ends the writing side when all is said, both ways, and the transport is about to be dropped.
    ///
    /// By itself it [shuts it down](Self::poll_shutdown), as where a layer of encryption has a farewell of
    /// its own. Where dropping says as much, it need not do anything.
    fn poll_close(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_shutdown(cx)
    }

    /// Ends both sides at once, so that whatever the owner waits for fails. Anybody may call it.
    fn abort(&self);

    /// Sets what makes it fit for messages, such as `TCP_NODELAY`, before it is used. A server's come
    /// [prepared](Listener::prepare).
    fn prepare(&self) {}

    /// Who the peer is, where peers have addresses.
    fn peer_addr(&self) -> Option<SocketAddr> {
        None
    }
}

impl Transport for Box<dyn Transport> {
    fn poll_read(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        (**self).poll_read(cx, buf)
    }

    fn poll_read_buf(
        &self,
        cx: &mut Context<'_>,
        buf: &mut Limit<&mut Vec<u8>>,
    ) -> Poll<io::Result<usize>> {
        (**self).poll_read_buf(cx, buf)
    }

    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        (**self).poll_readable(cx)
    }

    fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        (**self).try_write(slices)
    }

    fn poll_write(&self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        (**self).poll_write(cx, slices)
    }

    fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        (**self).poll_flush(cx)
    }

    fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        (**self).poll_shutdown(cx)
    }

    fn poll_close(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        (**self).poll_close(cx)
    }

    fn abort(&self) {
        (**self).abort();
    }

    fn prepare(&self) {
        (**self).prepare();
    }

    fn peer_addr(&self) -> Option<SocketAddr> {
        (**self).peer_addr()
    }
}

/// Where connections come in.
pub trait Listener: Send + 'static {
    /// What an accepted connection is.
    type Io: Transport;

    /// Sets what accepted connections are to have from the start, before the first is accepted.
    fn prepare(&mut self) {}

    /// Waits for the next connection, and says who it is from.
    fn poll_accept(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<(Self::Io, Option<SocketAddr>)>>;
}

/// A [`Listener`] of any kind. What it accepts keeps its own type, only that nobody sees it any more.
pub(crate) trait Door: Send {
    /// Waits for the next connection, and begins its handshake.
    fn poll_open(
        &mut self,
        cx: &mut Context<'_>,
        endpoint: &Arc<Endpoint>,
    ) -> Poll<io::Result<(Opening, Option<SocketAddr>)>>;
}

impl<L: Listener> Door for L {
    fn poll_open(
        &mut self,
        cx: &mut Context<'_>,
        endpoint: &Arc<Endpoint>,
    ) -> Poll<io::Result<(Opening, Option<SocketAddr>)>> {
        let accepted = self.poll_accept(cx);
        accepted.map_ok(|(io, peer_addr)| (Opening::new(endpoint, io), peer_addr))
    }
}

/// What runs tasks and waits.
pub trait Runtime: fmt::Debug + Send + Sync + 'static {
    /// Runs `task` beside others. Called from within a task.
    fn spawn(&self, task: Task);

    /// Waits for `duration`. Called from within a task.
    fn sleep(&self, duration: Duration) -> BoxFuture<()>;

    /// Lets other tasks, and what they wait for, have their turn. Called from within a task.
    ///
    /// By itself it ends the task's poll and wakes it. A runtime that would poll it again before it looks for
    /// events should do more.
    fn yield_now(&self) -> BoxFuture<()> {
        let mut yielded = false;
        Box::pin(poll_fn(move |cx| {
            if mem::replace(&mut yielded, true) {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        }))
    }

    /// Whether all tasks that this spawns from where it is called run on this thread. Then what other threads
    /// send to many of its connections is handed to it, rather than written by them. Called from within a task.
    ///
    /// By itself it does not know, and says no.
    fn is_local(&self) -> bool {
        false
    }

    /// Connects to a TCP port of a host, a name or an address. Called from within a task.
    fn connect(&self, host: String, port: u16) -> BoxFuture<io::Result<Box<dyn Transport>>>;
}

/// A [`Runtime`] that we know by name.
#[cfg(feature = "router")]
pub(crate) trait Host: Runtime {
    /// Finds out what `host:port` stands for.
    fn resolve(&self, address: String) -> BoxFuture<io::Result<Vec<SocketAddr>>>;

    /// Accepts from a socket that listens and does not block.
    fn door(&self, listener: std::net::TcpListener) -> io::Result<Box<dyn Door>>;

    /// Runs a server on this thread, with a runtime of its own in which `make` is called, until it is over.
    fn run(
        &self,
        make: Box<dyn FnOnce() -> io::Result<BoxFuture<crate::Report>> + Send>,
    ) -> io::Result<crate::Report>;
}

/// The runtime that runs the task that asks: tokio if that is so, else smol, which anything can run.
///
/// # Errors
///
/// There is none, or none that we know.
#[cfg(feature = "router")]
pub(crate) fn current() -> io::Result<Arc<dyn Host>> {
    #[cfg(feature = "tokio")]
    if let Some(host) = by_tokio::current() {
        return Ok(host);
    }
    #[cfg(feature = "smol")]
    return Ok(Arc::new(by_smol::Smol::default()));
    #[cfg(not(feature = "smol"))]
    Err(io::Error::other("this has to run within an asynchronous runtime, such as tokio's"))
}
