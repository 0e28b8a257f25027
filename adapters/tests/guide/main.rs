//! The code of the performance guide runs as it stands there.
#![cfg(feature = "tokio")]

mod live;
#[path = "../raw/mod.rs"]
#[macro_use]
mod raw;
#[path = "../router/mod.rs"]
mod router;
mod snippets;

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use live::Program;
use raw::{Flavor, Raw};
use router::Started;
use snippets::*;
use tokio::runtime::{Builder, Runtime};
use tokio::task::AbortHandle;
use wsforge::prelude::*;
use wsforge::proto::frame::Opcode;
use wsforge::runtime::BoxFuture;

/// What a peer gets for a message.
fn answer(router: Router, opcode: Opcode, payload: impl AsRef<[u8]>) -> (Opcode, Vec<u8>) {
    let server = Started::new(Flavor::TokioThreads, router);
    let mut peer = server.open();
    peer.send_frame(opcode, payload);
    let frame = peer.frame();
    peer.close();
    server.stop();
    (frame.opcode, frame.payload)
}

fn text_answer(handler: Arc<dyn Handler>, text: &str) -> String {
    let router = Router::new().default_handler(handler);
    let (opcode, payload) = answer(router, Opcode::Text, text);
    assert_eq!(opcode, Opcode::Text);
    String::from_utf8(payload).unwrap()
}

/// A server that says who has come, with this handler and so many peers, and what they are called.
fn with_peers(
    handler: Arc<dyn Handler>,
    n: usize,
) -> (Started, Arc<ConnectionManager>, Vec<(Raw, String)>) {
    let (came, comes) = mpsc::channel();
    let router =
        Router::new().default_handler(handler).on_connect(move |_, id| came.send(id).unwrap());
    let manager = router.connection_manager();
    let server = Started::new(Flavor::TokioThreads, router);
    let open = |_| (server.open(), comes.recv().unwrap());
    let peers = (0..n).map(open).collect();
    (server, manager, peers)
}

fn stop(server: Started, peers: Vec<(Raw, String)>) {
    peers.into_iter().for_each(|(peer, _)| peer.close());
    server.stop();
}

/// The snippets are for tokio.
fn tokio_runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio_runtime().block_on(future)
}

/// Runs a task on a thread of its own until it is aborted.
fn task(
    future: impl Future<Output = ()> + Send + 'static,
) -> (AbortHandle, thread::JoinHandle<()>) {
    let runtime = tokio_runtime();
    let task = runtime.spawn(future);
    let abort = task.abort_handle();
    (abort, thread::spawn(move || drop(runtime.block_on(task))))
}

#[test]
fn connection_limit_counts_connections() {
    let program = Program::run(connection_limit::main);
    Raw::open(program.address).close();
    program.stop();
}

#[test]
fn heartbeats_run_beside_the_server() {
    let program = Program::run(heartbeats::main);
    Raw::open(program.address).close();
    program.stop();
}

#[test]
fn heartbeats_reach_all() {
    let monitors: [fn(Arc<ConnectionManager>) -> BoxFuture<()>; 2] = [
        |manager| Box::pin(heartbeats::heartbeat_monitor(manager)),
        |manager| Box::pin(keeping_alive::keep_alive_task(manager)),
    ];
    for monitor in monitors {
        let (server, manager, mut peers) = with_peers(handler(|| ()), 2);
        // Its first tick is at once.
        let (abort, thread) = task(monitor(manager));
        for (peer, _) in &mut peers {
            let ping = peer.frame();
            assert_eq!((ping.opcode, ping.payload), (Opcode::Ping, vec![]));
        }
        abort.abort();
        thread.join().unwrap();
        stop(server, peers);
    }
}

#[test]
fn binary_formats_come_back() {
    let json = handler(binary_formats::json_handler);
    assert_eq!(text_answer(json, r#"{ "a" : [1] }"#), r#"{"a":[1]}"#);
    let router = Router::new().default_handler(handler(binary_formats::binary_handler));
    assert_eq!(answer(router, Opcode::Binary, [0, 255]), (Opcode::Binary, vec![0, 255]));
}

#[test]
fn batches_leave_when_they_are_full_and_when_it_is_time() {
    let (server, manager, mut peers) = with_peers(handler(|| ()), 2);
    let batcher = Arc::new(batching::MessageBatcher::new(2));
    run(async {
        batcher.add(Message::text("a"), &manager).await;
        batcher.add(Message::text("b"), &manager).await;
    });
    assert!(peers.iter_mut().all(|(peer, _)| peer.frame().payload == b"a\nb"));
    run(batcher.add(Message::text("c"), &manager));
    let (abort, thread) = task(batching::flush_batch_periodically(batcher, manager));
    assert!(peers.iter_mut().all(|(peer, _)| peer.frame().payload == b"c"));
    abort.abort();
    thread.join().unwrap();
    stop(server, peers);
}

#[test]
fn large_payloads_are_compressed() {
    use std::io::Read;

    let compress = || Router::new().default_handler(handler(compression::compress_handler));
    let small = vec![7; 1024];
    assert_eq!(answer(compress(), Opcode::Binary, &small), (Opcode::Binary, small));
    let large = vec![7; 1025];
    let (opcode, payload) = answer(compress(), Opcode::Binary, &large);
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(&*payload).read_to_end(&mut unpacked).unwrap();
    assert_eq!((opcode, unpacked), (Opcode::Binary, large));
}

#[test]
fn a_smart_broadcast_reaches_the_others() {
    let smart = handler(needless_broadcasts::smart_broadcast);
    let (server, manager, mut peers) = with_peers(smart, 3);
    peers[0].0.send_frame(Opcode::Text, "a");
    assert!(peers[1..].iter_mut().all(|(peer, _)| peer.frame().payload == b"a"));
    // It has not got its own.
    manager.broadcast(Message::text("b"));
    assert!(peers.iter_mut().all(|(peer, _)| peer.frame().payload == b"b"));
    stop(server, peers);
}

#[test]
fn a_room_is_told() {
    let (server, manager, mut peers) = with_peers(handler(|| ()), 3);
    let ids = peers[..2].iter().map(|(_, id)| id.clone()).collect();
    let rooms = targeted_broadcasts::RoomManager::new(HashMap::from([("a".into(), ids)]));
    run(async {
        let tell = targeted_broadcasts::room_broadcast;
        tell("nowhere", Message::text("nobody"), &rooms, &manager).await;
        tell("a", Message::text("a"), &rooms, &manager).await;
    });
    manager.broadcast(Message::text("b"));
    for (peer, _) in &mut peers[..2] {
        assert_eq!(peer.frame().payload, b"a");
    }
    assert!(peers.iter_mut().all(|(peer, _)| peer.frame().payload == b"b"));
    stop(server, peers);
}

#[test]
fn handlers_process_and_format() {
    for handler in
        [handler(async_operations::slow_handler), handler(async_operations::fast_handler)]
    {
        assert_eq!(text_answer(handler.clone(), "[1, 2]"), "[1,2]");
        assert_eq!(text_answer(handler, "[1, 2"), "Error: invalid message");
    }
}

#[test]
fn data_structures_are_shared() {
    use data_structures::{CachedData, User, UserStore};

    let (store, cache) = (Arc::new(UserStore::default()), Arc::new(CachedData::default()));
    let put = |State(store): State<UserStore>| {
        store.users.insert(7, User { name: "Ada" });
        store.users.get(&7).map(|user| user.name)
    };
    let get = async |State(cache): State<Arc<CachedData>>| cache.data.read().await["a"].clone();
    run(async { cache.data.write().await.insert("a".into(), "b".into()) });
    let router = || Router::new().with_state(store.clone()).with_state(cache.clone());
    let said = |handler| answer(router().default_handler(handler), Opcode::Text, "").1;
    assert_eq!((said(handler(put)), said(handler(get))), (b"Ada".to_vec(), b"b".to_vec()));
}

#[test]
fn buffers_are_used_again() {
    run(async {
        let pool = buffers::BufferPool::default();
        let mut buffer = pool.get().await;
        buffer.extend_from_slice(b"a");
        let at = buffer.as_ptr();
        pool.return_buffer(buffer).await;
        let buffer = pool.get().await;
        assert_eq!((buffer.as_ptr(), buffer.len()), (at, 0));
    });
}

#[test]
fn a_message_that_is_too_large_is_refused() {
    let limited = || handler(size_limits::size_limited_handler);
    assert_eq!(text_answer(limited(), &"a".repeat(1024 * 1024)), "processed");
    assert_eq!(text_answer(limited(), &"a".repeat(1024 * 1024 + 1)), "Error: Message too large");
}

#[test]
fn metrics_count() {
    let metrics = Arc::new(snippets::metrics::Metrics::new());
    let count = |message: Message, State(metrics): State<Arc<snippets::metrics::Metrics>>| {
        metrics.record_message_received(message.as_bytes().len());
        metrics.stats()
    };
    let router = Router::new().with_state(metrics).default_handler(handler(count));
    let (_, stats) = answer(router, Opcode::Text, "a");
    let rate = String::from_utf8(stats).unwrap();
    let rate: f64 = rate.strip_prefix("Messages/sec: ").unwrap().parse().unwrap();
    assert!(rate > 0.0);
}

#[test]
fn a_monitored_handler_broadcasts() {
    let (server, _, mut peers) = with_peers(handler(monitoring::monitored_handler), 2);
    peers[0].0.send_frame(Opcode::Text, "a");
    assert!(peers.iter_mut().all(|(peer, _)| peer.frame().payload == b"a"));
    stop(server, peers);
}

#[test]
fn what_is_too_much_is_refused() {
    let router = Router::new()
        .with_state(Arc::new(RateLimiter::new(0.001, 1)))
        .default_handler(handler(degradation::rate_limited_handler));
    let server = Started::new(Flavor::TokioThreads, router);
    let mut peer = server.open();
    peer.send_frame(Opcode::Text, "a");
    assert_eq!(peer.frame().payload, b"processed");
    peer.send_frame(Opcode::Text, "a");
    assert_eq!(peer.frame().payload, b"Error: Rate limit exceeded");
    peer.close();
    server.stop();
}

#[test]
fn blocking_work_is_done_elsewhere() {
    assert_eq!(text_answer(handler(blocking_work::efficient_async), "[1, 2]"), "[1,2]");
}

#[test]
fn eight_threads_serve() {
    let program = Program::run(snippets::runtime::main);
    Raw::open(program.address).close();
    program.stop();
}

#[test]
fn a_configured_socket_can_be_listened_on() {
    let router = Router::new().default_handler(handler(|text: &str| text.to_owned()));
    let (listens, address) = mpsc::channel();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = thread::spawn(move || {
        run(async move {
            let socket = sockets::configure_socket().await.unwrap();
            socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
            let listener = socket.listen(16).unwrap();
            listens.send(listener.local_addr().unwrap()).unwrap();
            router.shutdown(async { drop(stopped.await) }).listen_on(listener).await.unwrap()
        })
    });
    let mut peer = Raw::open(address.recv().unwrap());
    peer.echoes("a");
    peer.close();
    drop(stop);
    server.join().unwrap();
}

#[test]
fn both_broadcasts_reach_all() {
    let (server, manager, mut peers) = with_peers(handler(|| ()), 3);
    run(cloning::bad_broadcast(Message::text("a"), &manager));
    run(not_cloning::good_broadcast(Message::text("b"), &manager));
    for (peer, _) in &mut peers {
        assert_eq!((peer.frame().payload, peer.frame().payload), (b"a".to_vec(), b"b".to_vec()));
    }
    stop(server, peers);
}

#[test]
fn both_sleeps_are_slept() {
    for handler in [handler(blocking::blocking_handler), handler(sleeping::async_handler)] {
        let begun = Instant::now();
        assert_eq!(text_answer(handler, "a"), "done");
        assert!(begun.elapsed() >= Duration::from_secs(1));
    }
}
