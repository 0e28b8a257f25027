//! What connections cost in memory while nothing happens: the same after a burst as before.
#![cfg(feature = "tokio")]

mod raw;

use std::net::SocketAddr;
use std::thread;

use allocation_counter::measure;
use raw::{Raw, echo, frame};
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::sync::mpsc;
use wsforge::proto::frame::Opcode;
use wsforge::runtime::BoxFuture;
use wsforge::tokio::{listen, serve};
use wsforge::{Answer, Incoming, Report};

const CONNECTIONS: usize = 200;

/// What a runtime and a timer keep for all connections, or as a reserve for the next.
const SHARED: i64 = 16 * 1024;

/// The most that an idle connection may take, heartbeats included.
#[test]
fn an_idle_connection_takes_little_before_a_burst_and_behind_it() {
    an_idle_connection_takes_less_than(850, |listener| {
        let decide = |_: &Incoming<'_>| Answer::accept();
        serve(listener, decide, echo).into_future()
    });
}

/// With all that a router adds.
#[cfg(feature = "router")]
#[test]
fn an_idle_connection_of_a_router_takes_little_before_a_burst_and_behind_it() {
    use wsforge::router::{Message, Router, handler};

    an_idle_connection_takes_less_than(900, |listener| {
        let echo = handler(|message: Message| async move { message });
        let served = Router::new().default_handler(echo).listen_on(listener);
        Box::pin(async { served.await.unwrap() })
    });
}

/// Only what the server's thread allocates is counted; the peers have one of their own.
fn an_idle_connection_takes_less_than(
    most: i64,
    serve: impl FnOnce(TcpListener) -> BoxFuture<Report>,
) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let guard = runtime.enter();
    let listener = listen(([127, 0, 0, 1], 0).into()).unwrap();
    let address = listener.local_addr().unwrap();
    drop(guard);
    let server = runtime.spawn(serve(listener));
    let (next, mut done) = mpsc::channel(1);
    let peers = thread::spawn(move || {
        let mut first = Raw::open(address);
        // The thread's buffers are there from then on.
        burst(&mut first);
        next.blocking_send(()).unwrap();
        let mut peers: Vec<_> = (0..CONNECTIONS).map(|_| idle(address)).collect();
        next.blocking_send(()).unwrap();
        peers.iter_mut().for_each(burst);
        next.blocking_send(()).unwrap();
        // They stay until they have been counted, and nobody listens any more.
        while next.blocking_send(()).is_ok() {}
        drop((first, peers));
    });
    let mut phase = || measure(|| runtime.block_on(done.recv()).unwrap()).bytes_current;
    phase();
    let (opened, grown) = (phase(), phase());
    server.abort();
    drop(done);
    peers.join().unwrap();
    let connections = CONNECTIONS as i64;
    println!("{} bytes each, and {} more after a burst", opened / connections, grown / connections);
    assert!(opened > connections * 100, "{opened} bytes: they are not counted");
    assert!(opened < connections * most + SHARED, "{} bytes each", opened / connections);
    assert!(grown < SHARED, "each has grown by {} bytes", grown / connections);
}

fn idle(address: SocketAddr) -> Raw {
    let mut peer = Raw::open(address);
    peer.echoes("hello");
    peer
}

/// Much in few messages, and many small ones, all of which are echoed.
fn burst(peer: &mut Raw) {
    for (count, len) in [(16, 64 * 1024), (1000, 10)] {
        let sent = frame(true, Opcode::Binary, &vec![7; len]).repeat(count);
        let mut writer = Raw::with(peer.0.try_clone().unwrap());
        thread::scope(|scope| {
            scope.spawn(move || writer.send(sent));
            for _ in 0..count {
                assert_eq!(peer.frame().payload.len(), len);
            }
        });
    }
}
