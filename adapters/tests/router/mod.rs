//! Routers in a thread of their own.

#![allow(dead_code, unreachable_pub, missing_debug_implementations, missing_docs)]

use std::io::Read;
use std::net::SocketAddr;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use tokio::sync::oneshot;
use wsforge::Report;
use wsforge::router::Router;

use crate::raw::{FOREVER, Flavor, Raw};

pub struct Started {
    pub address: SocketAddr,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<Report>,
}

impl Started {
    pub fn new(flavor: Flavor, router: Router) -> Self {
        // Not every test's peers answer a Close.
        let router = router.close_timeout(Duration::from_millis(500));
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        // More than wait by themselves.
        socket.listen(1024).unwrap();
        let listener = std::net::TcpListener::from(socket);
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let run = async move {
            let router = router.shutdown(async { drop(stopped.await) });
            flavor.route(router, listener).await
        };
        let thread = thread::spawn(move || flavor.build().block_on(run));
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
