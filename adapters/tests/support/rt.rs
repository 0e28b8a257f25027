//! The runtimes. Tests name none of them.

#[cfg(feature = "smol")]
use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::panic::resume_unwind;
use std::pin::{Pin, pin};
use std::sync::Arc;
#[cfg(feature = "smol")]
use std::sync::Weak;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use futures_util::future::{Either, select};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;
#[cfg(feature = "router")]
use wsforge::router::Router;
use wsforge::runtime::{self, Transport};
use wsforge::{
    AcceptError, Acceptor, Answer, Connect, Handshake, Incoming, Options, Report, Serve, WebSocket,
};

use super::raw::Raw;
#[cfg(feature = "smol")]
use super::streams::Compat;
use super::streams::{Farewells, Tunnel, Wire};

/// Far more than any behaviour takes.
const DEADLINE: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug)]
pub enum Rt {
    #[cfg(feature = "smol")]
    Smol,
    #[cfg(feature = "smol")]
    SmolThreads,
    #[cfg(feature = "tokio")]
    Tokio,
    #[cfg(feature = "tokio")]
    TokioThreads,
}

#[cfg(feature = "smol")]
thread_local! {
    /// What runs this thread's tasks.
    static EXECUTOR: RefCell<Weak<smol::Executor<'static>>> = const { RefCell::new(Weak::new()) };
}

impl Rt {
    /// One of them, where it does not matter which.
    #[cfg(feature = "tokio")]
    pub const ANY: Self = Self::Tokio;
    #[cfg(all(feature = "smol", not(feature = "tokio")))]
    pub const ANY: Self = Self::Smol;

    pub const ALL: &[Self] = &[
        #[cfg(feature = "smol")]
        Self::Smol,
        #[cfg(feature = "smol")]
        Self::SmolThreads,
        #[cfg(feature = "tokio")]
        Self::Tokio,
        #[cfg(feature = "tokio")]
        Self::TokioThreads,
    ];

    /// That which runs the task that asks, for one that was not told.
    pub fn here() -> Self {
        #[cfg(feature = "tokio")]
        if tokio::runtime::Handle::try_current().is_ok() {
            return Self::Tokio;
        }
        Self::ALL[0]
    }

    /// Runs a behaviour, and fails if it hangs, even if it never yields.
    pub fn run<F: Future<Output = ()>>(self, behaviour: impl FnOnce(Self) -> F + Send + 'static) {
        let (running, over) = mpsc::channel::<()>();
        let thread = thread::spawn(move || {
            let _running = running;
            let runtime = self.build();
            runtime.block_on(behaviour(self));
            runtime.shut_down();
        });
        assert_ne!(over.recv_timeout(DEADLINE), Err(RecvTimeoutError::Timeout), "it hangs");
        if let Err(panic) = thread.join() {
            resume_unwind(panic);
        }
    }

    pub fn build(self) -> Runtime {
        match self {
            #[cfg(feature = "smol")]
            Self::Smol => Runtime::Smol(Arc::default(), None),
            #[cfg(feature = "smol")]
            Self::SmolThreads => {
                let executor = Arc::default();
                let (stop, stopped) = oneshot::channel();
                let other = Arc::clone(&executor);
                thread::spawn(move || smol_block_on(&other, async { drop(stopped.await) }));
                Runtime::Smol(executor, Some(stop))
            }
            #[cfg(feature = "tokio")]
            Self::Tokio | Self::TokioThreads => {
                let mut builder = match self {
                    Self::TokioThreads => tokio::runtime::Builder::new_multi_thread(),
                    _ => tokio::runtime::Builder::new_current_thread(),
                };
                Runtime::Tokio(builder.worker_threads(2).enable_all().build().unwrap())
            }
        }
    }

    /// Whether tasks run one after the other, and so what is gathered stays so until one yields.
    pub const fn is_single_threaded(self) -> bool {
        match self {
            #[cfg(feature = "smol")]
            Self::Smol => true,
            #[cfg(feature = "smol")]
            Self::SmolThreads => false,
            #[cfg(feature = "tokio")]
            Self::Tokio => true,
            #[cfg(feature = "tokio")]
            Self::TokioThreads => false,
        }
    }

    pub fn runtime(self) -> Box<dyn runtime::Runtime> {
        match self {
            #[cfg(feature = "smol")]
            Self::Smol | Self::SmolThreads => Box::new(wsforge::smol::Smol::default()),
            #[cfg(feature = "tokio")]
            Self::Tokio | Self::TokioThreads => Box::new(wsforge::tokio::Tokio),
        }
    }

    /// Runs `task` beside others; await what it gives.
    pub fn spawn<T: Send + 'static>(
        self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> Task<T> {
        let (tx, rx) = oneshot::channel();
        let task = async move {
            let _ = tx.send(task.await);
        };
        match self {
            #[cfg(feature = "smol")]
            Self::Smol | Self::SmolThreads => EXECUTOR.with_borrow(|executor| {
                executor.upgrade().expect("an executor").spawn(task).detach();
            }),
            #[cfg(feature = "tokio")]
            Self::Tokio | Self::TokioThreads => drop(tokio::spawn(task)),
        }
        Task(rx)
    }

    /// How many tasks the runtime has that runs this one, or 0 if it does not say.
    pub fn tasks(self) -> usize {
        match self {
            #[cfg(feature = "smol")]
            Self::Smol | Self::SmolThreads => 0,
            #[cfg(feature = "tokio")]
            Self::Tokio | Self::TokioThreads => {
                tokio::runtime::Handle::current().metrics().num_alive_tasks()
            }
        }
    }

    pub async fn sleep(self, duration: Duration) {
        self.runtime().sleep(duration).await;
    }

    /// What `future` gives, if it does so in time.
    pub async fn within<T>(self, duration: Duration, future: impl Future<Output = T>) -> Option<T> {
        match select(pin!(future), pin!(self.sleep(duration))).await {
            Either::Left((output, _)) => Some(output),
            Either::Right(_) => None,
        }
    }

    /// A listener on a port of its own.
    pub async fn listen(self) -> Listener {
        self.listen_on(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap()
    }

    /// Whether what our listeners accept does not wait to fill packets.
    pub async fn accepts_without_delay(self) -> bool {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        match self {
            #[cfg(feature = "smol")]
            Self::Smol | Self::SmolThreads => {
                let mut listener = wsforge::smol::listen(address).unwrap();
                let _peer = TcpStream::connect(listener.get_ref().local_addr().unwrap()).unwrap();
                let (io, _) =
                    poll_fn(|cx| runtime::Listener::poll_accept(&mut listener, cx)).await.unwrap();
                SockRef::from(&io).tcp_nodelay().unwrap()
            }
            #[cfg(feature = "tokio")]
            Self::Tokio | Self::TokioThreads => {
                let mut listener = wsforge::tokio::listen(address).unwrap();
                let _peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
                let accepted = poll_fn(|cx| runtime::Listener::poll_accept(&mut listener, cx));
                SockRef::from(&accepted.await.unwrap().0).tcp_nodelay().unwrap()
            }
        }
    }

    /// A listener on this address. Called within a task.
    pub fn listen_on(self, address: SocketAddr) -> io::Result<Listener> {
        Ok(match self {
            #[cfg(feature = "smol")]
            Self::Smol | Self::SmolThreads => {
                let listener = wsforge::smol::listen(address)?;
                Listener { address: listener.get_ref().local_addr()?, accept: boxed(listener) }
            }
            #[cfg(feature = "tokio")]
            Self::Tokio | Self::TokioThreads => {
                let listener = wsforge::tokio::listen(address)?;
                Listener { address: listener.local_addr()?, accept: boxed(listener) }
            }
        })
    }

    /// A listener that is there already. Called within a task.
    pub fn listener(self, listener: std::net::TcpListener) -> Listener {
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let accept = match self {
            #[cfg(feature = "smol")]
            Self::Smol | Self::SmolThreads => boxed(smol::Async::new(listener).unwrap()),
            #[cfg(feature = "tokio")]
            Self::Tokio | Self::TokioThreads => {
                boxed(tokio::net::TcpListener::from_std(listener).unwrap())
            }
        };
        Listener { address, accept }
    }

    /// A socket of the system as a transport.
    pub fn transport(self, socket: TcpStream) -> Box<dyn Transport> {
        socket.set_nonblocking(true).unwrap();
        match self {
            #[cfg(feature = "smol")]
            Self::Smol | Self::SmolThreads => Box::new(smol::Async::new(socket).unwrap()),
            #[cfg(feature = "tokio")]
            Self::Tokio | Self::TokioThreads => {
                Box::new(tokio::net::TcpStream::from_std(socket).unwrap())
            }
        }
    }

    /// A stream of bytes as a transport.
    pub fn io(
        self,
        inner: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Box<dyn Transport> {
        match self {
            #[cfg(feature = "smol")]
            Self::Smol | Self::SmolThreads => Box::new(wsforge::smol::Io::new(Compat(inner))),
            #[cfg(feature = "tokio")]
            Self::Tokio | Self::TokioThreads => Box::new(wsforge::tokio::Io::new(inner)),
        }
    }

    /// Two ends of a connection in memory that holds so many bytes in each direction.
    pub fn pipe(self, capacity: usize) -> (Box<dyn Transport>, Box<dyn Transport>) {
        let (a, b) = tokio::io::duplex(capacity);
        (self.io(a), self.io(b))
    }

    /// As [`pipe`](Self::pipe), and how often each end was shut down: of the first end, only the second
    /// attempt succeeds.
    pub fn counted_pipe(self, capacity: usize) -> [(Box<dyn Transport>, Arc<AtomicUsize>); 2] {
        let (a, b) = tokio::io::duplex(capacity);
        [(a, 1), (b, 0)].map(|(inner, hesitates)| {
            let shutdowns = Arc::default();
            let io = Farewells { inner, hesitates, shutdowns: Arc::clone(&shutdowns) };
            (self.io(io), shutdowns)
        })
    }

    /// A connection with whoever listens there, as a stream.
    pub fn wire(self, address: SocketAddr) -> Wire {
        // The listener's queue takes it at once.
        Wire(self.transport(TcpStream::connect(address).unwrap()))
    }

    /// A WebSocket as a stream.
    pub fn tunnel(self, socket: WebSocket) -> Tunnel {
        match self {
            #[cfg(feature = "smol")]
            Self::Smol | Self::SmolThreads => Tunnel::Smol(socket.into_io()),
            #[cfg(feature = "tokio")]
            Self::Tokio | Self::TokioThreads => Tunnel::Tokio(socket.into_io()),
        }
    }

    /// Two ends of a Unix socket.
    #[cfg(unix)]
    pub fn unix_pair(self) -> (Box<dyn Transport>, Box<dyn Transport>) {
        match self {
            #[cfg(feature = "smol")]
            Self::Smol | Self::SmolThreads => {
                // One of each kind.
                let (a, b) = std::os::unix::net::UnixStream::pair().unwrap();
                let a = smol::Async::new(a).unwrap();
                (Box::new(a), Box::new(wsforge::smol::Socket::new(b).unwrap()))
            }
            #[cfg(feature = "tokio")]
            Self::Tokio | Self::TokioThreads => {
                let (a, b) = tokio::net::UnixStream::pair().unwrap();
                (Box::new(a), Box::new(b))
            }
        }
    }

    /// A listener on a Unix socket that is there already. Called within a task.
    #[cfg(unix)]
    pub fn unix_listener(self, listener: std::os::unix::net::UnixListener) -> Listener {
        listener.set_nonblocking(true).unwrap();
        let accept = match self {
            #[cfg(feature = "smol")]
            Self::Smol | Self::SmolThreads => boxed(smol::Async::new(listener).unwrap()),
            #[cfg(feature = "tokio")]
            Self::Tokio | Self::TokioThreads => {
                boxed(tokio::net::UnixListener::from_std(listener).unwrap())
            }
        };
        // It has none.
        Listener { address: SocketAddr::from(([0, 0, 0, 0], 0)), accept }
    }

    #[cfg(unix)]
    pub async fn connect_unix(self, path: &std::path::Path) -> Box<dyn Transport> {
        match self {
            #[cfg(feature = "smol")]
            Self::Smol | Self::SmolThreads => {
                let socket = std::os::unix::net::UnixStream::connect(path).unwrap();
                Box::new(wsforge::smol::Socket::new(socket).unwrap())
            }
            #[cfg(feature = "tokio")]
            Self::Tokio | Self::TokioThreads => {
                Box::new(tokio::net::UnixStream::connect(path).await.unwrap())
            }
        }
    }

    pub async fn accept(self, io: impl Transport) -> Result<Handshake, AcceptError> {
        match self {
            #[cfg(feature = "smol")]
            Self::Smol | Self::SmolThreads => wsforge::smol::accept(io).await,
            #[cfg(feature = "tokio")]
            Self::Tokio | Self::TokioThreads => wsforge::tokio::accept(io).await,
        }
    }

    pub fn acceptor(self, options: Options) -> Acceptor {
        match self {
            #[cfg(feature = "smol")]
            Self::Smol | Self::SmolThreads => wsforge::smol::acceptor(options),
            #[cfg(feature = "tokio")]
            Self::Tokio | Self::TokioThreads => wsforge::tokio::acceptor(options),
        }
    }

    pub fn connect(self, url: impl Into<String>) -> Connect {
        match self {
            #[cfg(feature = "smol")]
            Self::Smol | Self::SmolThreads => wsforge::smol::connect(url),
            #[cfg(feature = "tokio")]
            Self::Tokio | Self::TokioThreads => wsforge::tokio::connect(url),
        }
    }

    pub fn serve<L, D, H, F>(self, listener: L, decide: D, handle: H) -> Serve<L, D, H>
    where
        L: runtime::Listener,
        D: Fn(&Incoming<'_>) -> Answer + Send + Sync + 'static,
        H: Fn(WebSocket) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        match self {
            #[cfg(feature = "smol")]
            Self::Smol | Self::SmolThreads => wsforge::smol::serve(listener, decide, handle),
            #[cfg(feature = "tokio")]
            Self::Tokio | Self::TokioThreads => wsforge::tokio::serve(listener, decide, handle),
        }
    }

    /// Servers on several threads, each with a listener.
    #[cfg(unix)]
    pub fn workers<F: Future<Output: Send>>(
        self,
        n: usize,
        address: SocketAddr,
        serve: impl Fn(Listener) -> F + Sync,
    ) -> io::Result<Vec<F::Output>> {
        match self {
            #[cfg(feature = "smol")]
            Self::Smol | Self::SmolThreads => wsforge::smol::workers(n, address, |listener| {
                let address = listener.get_ref().local_addr().unwrap();
                serve(Listener { address, accept: boxed(listener) })
            }),
            #[cfg(feature = "tokio")]
            Self::Tokio | Self::TokioThreads => wsforge::tokio::workers(n, address, |listener| {
                let address = listener.local_addr().unwrap();
                serve(Listener { address, accept: boxed(listener) })
            }),
        }
    }

    /// Runs a router on this listener.
    #[cfg(feature = "router")]
    pub async fn route(self, router: Router, listener: std::net::TcpListener) -> Report {
        listener.set_nonblocking(true).unwrap();
        let report = match self {
            #[cfg(feature = "smol")]
            Self::Smol | Self::SmolThreads => {
                router.listen_on(smol::Async::new(listener).unwrap()).await
            }
            #[cfg(feature = "tokio")]
            Self::Tokio | Self::TokioThreads => {
                router.listen_on(tokio::net::TcpListener::from_std(listener).unwrap()).await
            }
        };
        report.unwrap()
    }

    /// A server's and a client's transport, over TCP.
    pub async fn tcp(self) -> (Box<dyn Transport>, Raw) {
        let mut listener = self.listen().await;
        let client = self.raw(listener.address);
        (listener.accept().await, client)
    }

    /// A raw client of this address; its connection waits to be accepted.
    pub fn raw(self, address: SocketAddr) -> Raw {
        // The listener's queue takes it at once.
        let socket = TcpStream::connect(address).unwrap();
        socket.set_nodelay(true).unwrap();
        let other = socket.try_clone().unwrap();
        Raw::client(self.transport(socket)).with_socket(other)
    }

    /// A server's connection with a client worked by hand.
    pub async fn server(self, options: Options) -> (WebSocket, Raw) {
        let (io, mut raw) = self.tcp().await;
        (self.server_over(io, &mut raw, options).await, raw)
    }

    /// A server's connection over `io`, whose other end is `raw`.
    pub async fn server_over(
        self,
        io: impl Transport,
        raw: &mut Raw,
        options: Options,
    ) -> WebSocket {
        let acceptor = self.acceptor(options);
        let accept = async { acceptor.accept(io).await.unwrap().accept().await.unwrap() };
        tokio::join!(accept, raw.open()).0
    }

    /// A client's connection with a server worked by hand.
    pub async fn client(self, options: Options) -> (WebSocket, Raw) {
        let mut listener = self.listen().await;
        let address = listener.address;
        let accept = async {
            let mut raw = Raw::server(listener.accept().await);
            raw.answer().await;
            raw
        };
        let connect =
            async { self.connect(format!("ws://{address}/")).options(options).await.unwrap() };
        tokio::join!(connect, accept)
    }

    /// A server's and a client's connection, over TCP.
    pub async fn pair(self, server: Options, client: Options) -> (WebSocket, WebSocket) {
        let mut listener = self.listen().await;
        let address = listener.address;
        let acceptor = self.acceptor(server);
        let accept = async {
            let io = listener.accept().await;
            acceptor.accept(io).await.unwrap().accept().await.unwrap()
        };
        let connect =
            async { self.connect(format!("ws://{address}/")).options(client).await.unwrap() };
        tokio::join!(accept, connect)
    }

    /// A server's and a client's connection over the two ends of something.
    pub async fn pair_over(
        self,
        (server, client): (impl Transport, impl Transport),
        options: Options,
    ) -> (WebSocket, WebSocket) {
        let acceptor = self.acceptor(options.clone());
        let accept = async { acceptor.accept(server).await.unwrap().accept().await.unwrap() };
        let connect = async {
            self.connect("ws://a.example/").options(options).over(client).await.unwrap().0
        };
        tokio::join!(accept, connect)
    }
}

/// A runtime that has been made.
pub enum Runtime {
    /// What runs tasks, and another thread that does so until this is dropped.
    #[cfg(feature = "smol")]
    Smol(Arc<smol::Executor<'static>>, Option<oneshot::Sender<()>>),
    #[cfg(feature = "tokio")]
    Tokio(tokio::runtime::Runtime),
}

impl Runtime {
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        match self {
            #[cfg(feature = "smol")]
            Self::Smol(executor, _) => smol_block_on(executor, future),
            #[cfg(feature = "tokio")]
            Self::Tokio(runtime) => runtime.block_on(future),
        }
    }

    /// Ends it, and does not wait for that.
    fn shut_down(self) {
        match self {
            #[cfg(feature = "smol")]
            Self::Smol(..) => {}
            #[cfg(feature = "tokio")]
            Self::Tokio(runtime) => runtime.shutdown_background(),
        }
    }
}

type Accepted = (Box<dyn Transport>, Option<SocketAddr>);

pub struct Listener {
    pub address: SocketAddr,
    accept: Box<dyn runtime::Listener<Io = Box<dyn Transport>>>,
}

impl Listener {
    pub async fn accept(&mut self) -> Box<dyn Transport> {
        poll_fn(|cx| self.accept.poll_accept(cx)).await.unwrap().0
    }
}

impl Listener {
    /// As it is, but that `wrap` is put around every transport.
    pub fn wrap<T: Transport>(
        self,
        wrap: impl FnMut(Box<dyn Transport>) -> T + Send + 'static,
    ) -> Self {
        Self { address: self.address, accept: Box::new(Wrapping(self, wrap)) }
    }
}

impl runtime::Listener for Listener {
    type Io = Box<dyn Transport>;

    fn prepare(&mut self) {
        self.accept.prepare();
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Accepted>> {
        self.accept.poll_accept(cx)
    }
}

/// A listener, and what is put around what it accepts.
struct Wrapping<L, W>(L, W);

impl<L, T, W> runtime::Listener for Wrapping<L, W>
where
    L: runtime::Listener,
    T: Transport,
    W: FnMut(L::Io) -> T + Send + 'static,
{
    type Io = Box<dyn Transport>;

    fn prepare(&mut self) {
        self.0.prepare();
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Accepted>> {
        let accepted = self.0.poll_accept(cx);
        accepted.map_ok(|(io, address)| (Box::new((self.1)(io)) as Box<dyn Transport>, address))
    }
}

fn boxed<L: runtime::Listener>(listener: L) -> Box<dyn runtime::Listener<Io = Box<dyn Transport>>> {
    Box::new(Wrapping(listener, |io| io))
}

/// A task that has been spawned; awaited, it gives its result, and panics if the task did.
pub struct Task<T>(oneshot::Receiver<T>);

impl<T> Future for Task<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        Pin::new(&mut self.0).poll(cx).map(|result| result.expect("the task panicked"))
    }
}

#[cfg(feature = "smol")]
fn smol_block_on<T>(executor: &Arc<smol::Executor<'static>>, future: impl Future<Output = T>) -> T {
    EXECUTOR.set(Arc::downgrade(executor));
    smol::block_on(wsforge::smol::run(executor, future))
}
