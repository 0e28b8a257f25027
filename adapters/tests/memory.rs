//! What connections cost in memory while nothing happens: the same after a burst as before.

mod raw;

use std::net::SocketAddr;
use std::pin::pin;
use std::thread;

use allocation_counter::measure;
use futures_util::future::select;
use raw::{Flavor, Listener, Raw, echo, frame};
use tokio::sync::{mpsc, oneshot};
use wsforge::proto::frame::Opcode;
use wsforge::runtime::BoxFuture;
use wsforge::{Answer, Incoming, Report};

const CONNECTIONS: usize = 200;

/// What a runtime and a timer keep for all connections, or as a reserve for the next.
const SHARED: i64 = 16 * 1024;

/// The most that an idle connection may take, heartbeats included.
#[test]
fn an_idle_connection_takes_little_before_a_burst_and_behind_it() {
    an_idle_connection_takes_less_than(850, |flavor, listener| {
        let decide = |_: &Incoming<'_>| Answer::accept();
        flavor.serve(listener, decide, echo).into_future()
    });
}

/// With all that a router adds.
#[cfg(feature = "router")]
#[test]
fn an_idle_connection_of_a_router_takes_little_before_a_burst_and_behind_it() {
    use wsforge::router::{Message, Router, handler};

    an_idle_connection_takes_less_than(900, |_, listener| {
        let echo = handler(|message: Message| async move { message });
        let served = Router::new().default_handler(echo).listen_on(listener);
        Box::pin(async { served.await.unwrap() })
    });
}

/// On each runtime of one thread. Only what that allocates is counted; the peers have one of their own.
fn an_idle_connection_takes_less_than(
    most: i64,
    serve: impl Fn(Flavor, Listener) -> BoxFuture<Report>,
) {
    for flavor in Flavor::ALL.iter().filter(|flavor| flavor.is_single_threaded()) {
        a_connection_takes_less_than(most, *flavor, &serve);
    }
}

fn a_connection_takes_less_than(
    most: i64,
    flavor: Flavor,
    serve: impl Fn(Flavor, Listener) -> BoxFuture<Report>,
) {
    let runtime = flavor.build();
    let (stop, stopped) = oneshot::channel::<()>();
    let (address, server) = runtime.block_on(async {
        let listener = flavor.listen().await;
        let (address, served) = (listener.address, serve(flavor, listener));
        let stopped = async { drop(stopped.await) };
        (address, flavor.spawn(async { drop(select(served, pin!(stopped)).await) }))
    });
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
    drop(stop);
    runtime.block_on(server);
    drop(done);
    peers.join().unwrap();
    let connections = CONNECTIONS as i64;
    let (each, more) = (opened / connections, grown / connections);
    println!("{flavor:?}: {each} bytes each, and {more} more after a burst");
    assert!(opened > connections * 100, "{opened} bytes: they are not counted");
    assert!(opened < connections * most + SHARED, "{flavor:?}: {each} bytes each");
    assert!(grown < SHARED, "{flavor:?}: each has grown by {more} bytes");
}

fn idle(address: SocketAddr) -> Raw {
    let mut peer = Raw::open(address);
    peer.echoes("hello");
    peer
}

/// Much in few messages, and many small ones, all of which are echoed.
fn burst(peer: &mut Raw) {
    for (count, len) in [(4, 64 * 1024), (1000, 10)] {
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
