//! Routers in a thread of their own.

#![allow(dead_code, unreachable_pub, missing_debug_implementations, missing_docs)]

use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use tokio::sync::oneshot;
use wsforge::Report;
use wsforge::proto::hub::Audience;
use wsforge::router::{Connection, ConnectionManager, Message, Router};

use crate::raw::{Crowd, FOREVER, Flavor, Raw, TINY};

pub struct Started {
    pub address: SocketAddr,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<Report>,
}

impl Started {
    pub fn new(flavor: Flavor, router: Router) -> Self {
        Self::serving(flavor, router, None, move |router, listener| flavor.route(router, listener))
    }

    /// One whose sockets are full soon.
    pub fn tiny(flavor: Flavor, router: Router) -> Self {
        let serve = move |router, listener| flavor.route(router, listener);
        Self::serving(flavor, router, Some(TINY), serve)
    }

    /// One that others may join, too.
    pub fn crowded(flavor: Flavor, router: Router, crowd: &Arc<Crowd>) -> Self {
        let crowd = crowd.clone();
        let serve = async move |router: Router, listener| {
            router.listen_on(crowd.before(flavor.listener(listener))).await.unwrap()
        };
        Self::serving(flavor, router, Some(TINY), serve)
    }

    fn serving<F: Future<Output = Report>>(
        flavor: Flavor,
        router: Router,
        buffers: Option<usize>,
        serve: impl FnOnce(Router, TcpListener) -> F + Send + 'static,
    ) -> Self {
        // Not every test's peers answer a Close.
        let router = router.close_timeout(Duration::from_millis(500));
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        if let Some(size) = buffers {
            // Those who are accepted inherit it.
            socket.set_send_buffer_size(size).unwrap();
            socket.set_recv_buffer_size(size).unwrap();
        }
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        // More than wait by themselves.
        socket.listen(1024).unwrap();
        let listener = TcpListener::from(socket);
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let router = router.shutdown(async { drop(stopped.await) });
        let run = async move || serve(router, listener).await;
        let thread = thread::spawn(move || flavor.build().block_on(run()));
        Self { address, stop, thread }
    }

    pub fn open(&self) -> Raw {
        Raw::open(self.address)
    }

    /// Sends a request and gives the status and the body of the answer.
    pub fn ask(&self, request: impl AsRef<[u8]>) -> (u16, String) {
        let mut peer = Raw::connect(self.address);
        peer.send(request);
        let status = peer.status();
        if status == 101 {
            return (status, String::new());
        }
        (status, String::from_utf8(peer.rest()).unwrap())
    }

    /// Lets it stop, and does not wait for that.
    pub fn stops(self) -> JoinHandle<Report> {
        drop(self.stop);
        self.thread
    }

    /// Stops it, and says what it says.
    pub fn stop(self) -> Report {
        self.stops().join().unwrap()
    }
}

/// Notes what happens, to be looked at elsewhere.
pub struct Notes<T = String>(Receiver<T>);

impl<T> Notes<T> {
    pub fn new() -> (Sender<T>, Self) {
        let (sender, receiver) = mpsc::channel();
        (sender, Self(receiver))
    }

    /// The next one, for which it waits.
    pub fn next(&self) -> T {
        self.0.recv_timeout(FOREVER).expect("something happens")
    }

    pub fn try_next(&self) -> Option<T> {
        self.0.try_recv().ok()
    }

    /// All that are left, when nobody notes any more.
    pub fn rest(self) -> Vec<T> {
        self.0.iter().collect()
    }
}

/// A router, and each connection as it comes.
pub fn noting(router: Router) -> (Router, Notes<Connection>) {
    let (note, notes) = Notes::new();
    let router = router.on_connect(move |manager, id| {
        let connection = manager.get(&id).expect("it is there");
        assert_eq!(connection.id(), &id);
        note.send(connection).unwrap();
    });
    (router, notes)
}

/// Waits until something is so.
pub fn until(what: impl Fn() -> bool) {
    let begun = Instant::now();
    while !what() {
        assert!(begun.elapsed() < FOREVER, "it never is");
        thread::yield_now();
    }
}

/// Sends to one who does not read, until the sockets are full and some more waits; says how often.
pub fn stall(manager: &ConnectionManager, connection: &Connection) -> u64 {
    let only = [connection.member_id()];
    let send = || drop(manager.send_to(Audience::Only(&only), Message::binary(vec![0; 8 * 1024])));
    crate::raw::stall(|| connection.pending(), send)
}

/// A text that begins with a number, with 4 KiB behind it.
pub fn numbered(n: usize) -> Message {
    Message::text(format!("{n} {:4096}", ""))
}

/// A gate that handlers wait at.
#[derive(Clone)]
pub struct Gate(tokio::sync::watch::Sender<bool>);

impl Gate {
    pub fn shut() -> Self {
        Self(tokio::sync::watch::Sender::new(false))
    }

    pub fn open(&self) {
        self.0.send_replace(true);
    }

    pub async fn pass(&self) {
        let _ = self.0.subscribe().wait_for(|open| *open).await;
    }
}

/// A frame's payload as text.
pub fn text(peer: &mut Raw) -> String {
    String::from_utf8(peer.frame().payload).unwrap()
}

/// Whether nothing has arrived so far.
pub fn is_quiet(peer: &Raw) -> bool {
    peer.0.set_nonblocking(true).unwrap();
    let read = (&peer.0).read(&mut [0]);
    peer.0.set_nonblocking(false).unwrap();
    matches!(read, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}
