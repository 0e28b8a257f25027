//! Routers in a thread of their own.

#![allow(dead_code, unreachable_pub, missing_debug_implementations, missing_docs)]

use std::net::SocketAddr;
use std::thread::{self, JoinHandle};

use tokio::net::TcpListener;
use tokio::sync::oneshot;
use wsforge::Report;
use wsforge::router::Router;

use crate::raw::Flavor;

pub struct Started {
    pub address: SocketAddr,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<Report>,
}

impl Started {
    pub fn new(flavor: Flavor, router: Router) -> Self {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let run = async move {
            let router = router.shutdown(async { drop(stopped.await) });
            router.listen_on(TcpListener::from_std(listener).unwrap()).await.unwrap()
        };
        let thread = thread::spawn(move || flavor.build().block_on(run));
        Self { address, stop, thread }
    }

    /// Stops it, and says what it says.
    pub fn stop(self) -> Report {
        drop(self.stop);
        self.thread.join().unwrap()
    }
}
