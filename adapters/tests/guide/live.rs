//! A router that a program listens with on a port that it has not asked for: so the guide's programs run
//! as they are, several at a time, and end.

#![allow(unreachable_pub)]

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use tokio::net::TcpListener;
use tokio::sync::oneshot;
use wsforge::router::{self, ConnectionId, ConnectionManager, Result};

thread_local! {
    /// Where the program on this thread says that it listens, and what stops it.
    static LIVE: RefCell<Option<(mpsc::Sender<SocketAddr>, oneshot::Receiver<()>)>> =
        const { RefCell::new(None) };
}

/// A program that runs.
pub struct Program {
    pub address: SocketAddr,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<Result<()>>,
}

impl Program {
    pub fn run(main: fn() -> Result<()>) -> Self {
        let (listens, address) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let thread = thread::spawn(move || {
            LIVE.set(Some((listens, stopped)));
            main()
        });
        Self { address: address.recv().unwrap(), stop, thread }
    }

    pub fn stop(self) {
        drop(self.stop);
        self.thread.join().unwrap().unwrap();
    }
}

pub struct Router(router::Router);

impl Router {
    pub fn new() -> Self {
        Self(router::Router::new())
    }

    pub fn on_connect<F>(self, hook: F) -> Self
    where
        F: Fn(&Arc<ConnectionManager>, ConnectionId) + Send + Sync + 'static,
    {
        Self(self.0.on_connect(hook))
    }

    pub fn on_disconnect<F>(self, hook: F) -> Self
    where
        F: Fn(&Arc<ConnectionManager>, ConnectionId) + Send + Sync + 'static,
    {
        Self(self.0.on_disconnect(hook))
    }

    pub fn connection_manager(&self) -> Arc<ConnectionManager> {
        self.0.connection_manager()
    }

    /// As the router's, but for the address.
    pub async fn listen(self, address: &str) -> Result<()> {
        assert_eq!(address, "0.0.0.0:8080");
        let (listens, stopped) = LIVE.take().expect("run as a program");
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        listens.send(listener.local_addr()?).unwrap();
        self.0.shutdown(async { drop(stopped.await) }).listen_on(listener).await.map(drop)
    }
}
