//! Everything on tokio. No other file of this crate names it.

use std::cell::RefCell;
use std::io::{self, ErrorKind, IoSlice, Read};
use std::net::{Shutdown, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, ready};
#[cfg(unix)]
use std::thread;
use std::time::Duration;

use bytes::buf::Limit;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
#[cfg(unix)]
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::{Handle, RuntimeFlavor};

#[cfg(unix)]
use super::threads::share_out;
use super::{BoxFuture, Listener, Runtime, Task, Transport, tcp};
#[cfg(feature = "router")]
use super::{Door, Host};
use crate::driver::sync::lock_plain;
use crate::driver::timer::Timer;
use crate::{
    AcceptError, Acceptor, Answer, ByteStream, Connect, Handshake, Incoming, Options, Serve, Tcp,
    WebSocket,
};

/// Waits for a peer's request, with default [`Options`]; answer it with what that gives.
///
/// `io` is a TCP or Unix socket, or any other stream in an [`Io`].
///
/// # Errors
///
/// Why there is no request. The peer has been told.
///
/// # Cancel safety
///
/// If it is dropped, so is the connection.
pub async fn accept(io: impl Transport) -> Result<Handshake, AcceptError> {
    acceptor(Options::default()).accept(io).await
}

/// An [`Acceptor`] with these options. Call it within a runtime.
pub fn acceptor(options: Options) -> Acceptor {
    Acceptor::with_timer(options, timer())
}

/// Connects to a `ws://` URL, when what it gives is awaited.
pub fn connect(url: impl Into<String>) -> Connect {
    Connect::with_timer(Arc::new(Tokio), url.into(), timer)
}

/// Serves connections, when what it gives is awaited: `decide` answers each request, and `handle` runs as
/// a task of its own for each connection.
pub fn serve<L, D, H, F>(listener: L, decide: D, handle: H) -> Serve<L, D, H>
where
    L: Listener,
    D: Fn(&Incoming<'_>) -> Answer + Send + Sync + 'static,
    H: Fn(WebSocket) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    Serve::on(Arc::new(Tokio), listener, decide, handle)
}

/// Listens on a TCP port as a server should: a short restart finds it free, a rush of connections fits its
/// queue, and what it accepts does not wait to fill packets (`TCP_NODELAY`).
///
/// # Errors
///
/// The address is taken, or not ours.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::from_std(tcp::listen(&[address], &Tcp::default(), false)?)
}

/// Runs `n` threads with a runtime and a listener each, all on the same address: `serve` gets the listener
/// and runs on the thread. The kernel spreads the connections. Blocks until all are done.
///
/// # Errors
///
/// The address is taken or not ours, or a thread or runtime cannot be made.
///
/// # Panics
///
/// If `serve` does on one of them.
#[cfg(unix)]
pub fn workers<F: Future>(
    n: usize,
    address: SocketAddr,
    serve: impl Fn(TcpListener) -> F + Sync,
) -> io::Result<Vec<F::Output>>
where
    F::Output: Send,
{
    let runtimes = (0..n.max(1)).map(|_| worker()).collect::<io::Result<Vec<_>>>()?;
    let mut listeners = Vec::new();
    let mut address = address;
    for runtime in runtimes {
        let guard = runtime.enter();
        let listener = TcpListener::from_std(tcp::listen(&[address], &Tcp::default(), true)?)?;
        // The first one picks the port, if any will do.
        address = listener.local_addr()?;
        drop(guard);
        listeners.push((runtime, listener));
    }
    let thread = |_| thread::Builder::new().name("wsforge-worker".into());
    share_out(listeners, thread, |(runtime, listener)| {
        runtime.block_on(async { serve(listener).await })
    })
}

/// A runtime for a thread that serves connections and does nothing else.
fn worker() -> io::Result<tokio::runtime::Runtime> {
    // By itself it asks for events after every 61 tasks. With a thousand connections that do little each,
    // the system calls are 3 to 5 % of what a message costs; so many turns take a millisecond.
    const EVENT_INTERVAL: u32 = 256;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .event_interval(EVENT_INTERVAL)
        .build()
}

/// The timer of this thread's runtime; the last one who has a connection ends it.
fn timer() -> Arc<Timer> {
    thread_local! {
        // Neither keeps the timer, nor the runtime.
        static TIMER: RefCell<Option<(tokio::runtime::Id, Weak<Timer>)>> = const { RefCell::new(None) };
    }
    let id = Handle::current().id();
    TIMER.with_borrow_mut(|known| {
        if let Some((of, timer)) = known
            && *of == id
            && let Some(timer) = timer.upgrade()
        {
            return timer;
        }
        let timer = Timer::new(Arc::new(Tokio));
        *known = Some((id, Arc::downgrade(&timer)));
        timer
    })
}

#[cfg(feature = "router")]
impl From<tokio::task::JoinError> for crate::router::Error {
    fn from(error: tokio::task::JoinError) -> Self {
        Self::Other(error.into())
    }
}

#[cfg(feature = "router")]
impl From<tokio::time::error::Elapsed> for crate::router::Error {
    fn from(_: tokio::time::error::Elapsed) -> Self {
        Self::TimedOut
    }
}

/// Tokio as a runtime.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tokio;

impl Runtime for Tokio {
    fn spawn(&self, task: Task) {
        // Outside of a runtime there is nobody to run it.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(task);
        }
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<()> {
        Box::pin(tokio::time::sleep(duration))
    }

    fn yield_now(&self) -> BoxFuture<()> {
        Box::pin(tokio::task::yield_now())
    }

    fn is_local(&self) -> bool {
        let runtime = Handle::try_current();
        runtime.is_ok_and(|runtime| runtime.runtime_flavor() == RuntimeFlavor::CurrentThread)
    }

    fn connect(&self, host: String, port: u16) -> BoxFuture<io::Result<Box<dyn Transport>>> {
        Box::pin(async move {
            let stream = TcpStream::connect((host, port)).await?;
            Ok(Box::new(stream) as Box<dyn Transport>)
        })
    }
}

#[cfg(feature = "router")]
impl Host for Tokio {
    fn resolve(&self, address: String) -> BoxFuture<io::Result<Vec<SocketAddr>>> {
        Box::pin(async move { Ok(tokio::net::lookup_host(address).await?.collect()) })
    }

    fn door(&self, listener: std::net::TcpListener) -> io::Result<Box<dyn Door>> {
        Ok(Box::new(TcpListener::from_std(listener)?))
    }

    fn run(
        &self,
        make: Box<dyn FnOnce() -> io::Result<BoxFuture<crate::Report>> + Send>,
    ) -> io::Result<crate::Report> {
        worker()?.block_on(async { Ok(make()?.await) })
    }
}

/// Tokio, if that runs this.
#[cfg(feature = "router")]
pub(crate) fn current() -> Option<Arc<dyn Host>> {
    Handle::try_current().is_ok().then(|| Arc::new(Tokio) as _)
}

/// A socket of the operating system, on either kind of address.
trait Socket {
    /// Reads with `read`, once, which has room for `room` bytes.
    fn poll_with(
        &self,
        cx: &mut Context<'_>,
        room: usize,
        read: impl FnMut() -> io::Result<usize>,
    ) -> Poll<io::Result<usize>>;
}

macro_rules! socket {
    ($socket:ty, $prepare:expr, $peer_addr:expr) => {
        impl Socket for $socket {
            #[inline]
            fn poll_with(
                &self,
                cx: &mut Context<'_>,
                room: usize,
                mut read: impl FnMut() -> io::Result<usize>,
            ) -> Poll<io::Result<usize>> {
                // A peer that always has more to say is not to keep others waiting.
                let coop = ready!(tokio::task::coop::poll_proceed(cx));
                loop {
                    let mut short = 0;
                    // A read that does not fill the buffer has emptied the socket. Saying so here, where
                    // tokio knows which readiness was meant, saves the read that would find out.
                    let read = self.try_io(Interest::READABLE, || {
                        let n = read()?;
                        if cfg!(unix) && n > 0 && n < room {
                            short = n;
                            return Err(ErrorKind::WouldBlock.into());
                        }
                        Ok(n)
                    });
                    match read {
                        Err(_) if short > 0 => {
                            coop.made_progress();
                            return Poll::Ready(Ok(short));
                        }
                        Err(error) if error.kind() == ErrorKind::WouldBlock => {
                            ready!(self.poll_read_ready(cx))?;
                        }
                        read => {
                            coop.made_progress();
                            return Poll::Ready(read);
                        }
                    }
                }
            }
        }

        impl Transport for $socket {
            fn poll_read(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
                self.poll_with(cx, buf.len(), || (&*SockRef::from(self)).read(buf))
            }

            fn poll_read_buf(
                &self,
                cx: &mut Context<'_>,
                buf: &mut Limit<&mut Vec<u8>>,
            ) -> Poll<io::Result<usize>> {
                self.poll_with(cx, buf.limit(), || self.try_read_buf(buf))
            }

            fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.poll_read_ready(cx)
            }

            fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
                match slices {
                    [slice] => <$socket>::try_write(self, slice),
                    _ => self.try_write_vectored(slices),
                }
            }

            fn poll_write(
                &self,
                cx: &mut Context<'_>,
                slices: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                loop {
                    match Transport::try_write(self, slices) {
                        Err(error) if error.kind() == ErrorKind::WouldBlock => {
                            ready!(self.poll_write_ready(cx))?;
                        }
                        written => return Poll::Ready(written),
                    }
                }
            }

            fn poll_shutdown(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(SockRef::from(self).shutdown(Shutdown::Write))
            }

            fn poll_close(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(()))
            }

            fn abort(&self) {
                // It may be closed already.
                let _ = SockRef::from(self).shutdown(Shutdown::Both);
            }

            fn prepare(&self) {
                $prepare(self);
            }

            fn peer_addr(&self) -> Option<SocketAddr> {
                $peer_addr(self)
            }
        }
    };
}

socket!(TcpStream, |socket: &TcpStream| drop(socket.set_nodelay(true)), |socket: &TcpStream| {
    socket.peer_addr().ok()
});
#[cfg(unix)]
socket!(UnixStream, |_: &UnixStream| {}, |_: &UnixStream| None);

impl Listener for TcpListener {
    type Io = TcpStream;

    fn prepare(&mut self) {
        // Accepted sockets inherit it on Linux. Without, they are only slower.
        let _ = SockRef::from(&*self).set_tcp_nodelay(true);
    }

    fn poll_accept(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<(TcpStream, Option<SocketAddr>)>> {
        let (stream, address) = ready!(Self::poll_accept(self, cx))?;
        if !cfg!(target_os = "linux") {
            // It may be reset already, which is for whoever reads from it to find out.
            let nodelay = SockRef::from(&*self).tcp_nodelay();
            let _ = nodelay.and_then(|on| stream.set_nodelay(on));
        }
        Poll::Ready(Ok((stream, Some(address))))
    }
}

#[cfg(unix)]
impl Listener for UnixListener {
    type Io = UnixStream;

    fn poll_accept(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<(UnixStream, Option<SocketAddr>)>> {
        Self::poll_accept(self, cx).map_ok(|(stream, _)| (stream, None))
    }
}

/// Any stream of bytes as a transport: one with encryption, or one in memory.
///
/// Only the connection's own task writes to it, so what others send wakes that task.
#[derive(Debug)]
pub struct Io<T>(Mutex<Option<T>>);

impl<T> Io<T> {
    /// Makes a transport of `inner`.
    pub const fn new(inner: T) -> Self {
        Self(Mutex::new(Some(inner)))
    }

    /// Does something with the stream, unless the connection has been aborted.
    fn with<R>(&self, f: impl FnOnce(Pin<&mut T>) -> Poll<io::Result<R>>) -> Poll<io::Result<R>>
    where
        T: Unpin,
    {
        match &mut *lock_plain(&self.0) {
            Some(inner) => f(Pin::new(inner)),
            None => Poll::Ready(Err(ErrorKind::ConnectionAborted.into())),
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Transport for Io<T> {
    fn poll_read(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buf = ReadBuf::new(buf);
        ready!(self.with(|inner| inner.poll_read(cx, &mut buf)))?;
        Poll::Ready(Ok(buf.filled().len()))
    }

    fn poll_read_buf(
        &self,
        cx: &mut Context<'_>,
        buf: &mut Limit<&mut Vec<u8>>,
    ) -> Poll<io::Result<usize>> {
        // It knows nothing between two polls, so there may be a new one for each.
        self.with(|inner| pin!(inner.get_mut().read_buf(buf)).poll(cx))
    }

    fn poll_write(&self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.with(|inner| inner.poll_write_vectored(cx, slices))
    }

    fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|inner| inner.poll_flush(cx))
    }

    fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|inner| inner.poll_shutdown(cx))
    }

    fn abort(&self) {
        // Dropped when nothing is locked: it is somebody else's.
        let inner = lock_plain(&self.0).take();
        drop(inner);
    }
}

impl AsyncRead for ByteStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = ready!(Self::poll_read(self.get_mut(), cx, buf.initialize_unfilled()))?;
        buf.advance(read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ByteStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Self::poll_write(self.get_mut(), cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Self::poll_flush(self.get_mut(), cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_close(cx)
    }
}
