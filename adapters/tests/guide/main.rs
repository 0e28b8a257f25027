//! The code of the performance guide runs as it stands there.
#![cfg(feature = "router")]

#[cfg(feature = "tokio")]
mod live;
#[path = "../raw/mod.rs"]
#[macro_use]
mod raw;
#[path = "../router/mod.rs"]
mod router;
mod snippets;
#[cfg(feature = "tokio")]
mod tokio_only;

use std::collections::HashMap;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use raw::{Flavor, Raw};
use router::Started;
use snippets::*;
use wsforge::prelude::*;
use wsforge::proto::frame::Opcode;

/// What a peer gets for a message.
fn answer(
    flavor: Flavor,
    router: Router,
    opcode: Opcode,
    payload: impl AsRef<[u8]>,
) -> (Opcode, Vec<u8>) {
    let server = Started::new(flavor, router);
    let mut peer = server.open();
    peer.send_frame(opcode, payload);
    let frame = peer.frame();
    peer.close();
    server.stop();
    (frame.opcode, frame.payload)
}

fn text_answer(flavor: Flavor, handler: Arc<dyn Handler>, text: &str) -> String {
    let router = Router::new().default_handler(handler);
    let (opcode, payload) = answer(flavor, router, Opcode::Text, text);
    assert_eq!(opcode, Opcode::Text);
    String::from_utf8(payload).unwrap()
}

/// A server that says who has come, with this handler and so many peers, and what they are called.
fn with_peers(
    flavor: Flavor,
    handler: Arc<dyn Handler>,
    n: usize,
) -> (Started, Arc<ConnectionManager>, Vec<(Raw, String)>) {
    let (came, comes) = mpsc::channel();
    let router =
        Router::new().default_handler(handler).on_connect(move |_, id| came.send(id).unwrap());
    let manager = router.connection_manager();
    let server = Started::new(flavor, router);
    let open = |_| (server.open(), comes.recv().unwrap());
    let peers = (0..n).map(open).collect();
    (server, manager, peers)
}

fn stop(server: Started, peers: Vec<(Raw, String)>) {
    peers.into_iter().for_each(|(peer, _)| peer.close());
    server.stop();
}

fn takes_a_second(flavor: Flavor, handler: Arc<dyn Handler>) {
    let begun = Instant::now();
    assert_eq!(text_answer(flavor, handler, "a"), "done");
    assert!(begun.elapsed() >= Duration::from_secs(1));
}

on_each_runtime! {
    fn binary_formats_come_back(flavor: Flavor) {
        let json = handler(binary_formats::json_handler);
        assert_eq!(text_answer(flavor, json, r#"{ "a" : [1] }"#), r#"{"a":[1]}"#);
        let router = Router::new().default_handler(handler(binary_formats::binary_handler));
        assert_eq!(answer(flavor, router, Opcode::Binary, [0, 255]), (Opcode::Binary, vec![0, 255]));
    }

    fn batches_leave_when_they_are_full(flavor: Flavor) {
        let (server, manager, mut peers) = with_peers(flavor, handler(|| ()), 2);
        let batcher = Arc::new(batching::MessageBatcher::new(2));
        flavor.build().block_on(async {
            batcher.add(Message::text("a"), &manager).await;
            batcher.add(Message::text("b"), &manager).await;
        });
        assert!(peers.iter_mut().all(|(peer, _)| peer.frame().payload == b"a\nb"));
        stop(server, peers);
    }

    fn large_payloads_are_compressed(flavor: Flavor) {
        use std::io::Read;

        let compress = || Router::new().default_handler(handler(compression::compress_handler));
        let small = vec![7; 1024];
        assert_eq!(answer(flavor, compress(), Opcode::Binary, &small), (Opcode::Binary, small));
        let large = vec![7; 1025];
        let (opcode, payload) = answer(flavor, compress(), Opcode::Binary, &large);
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(&*payload).read_to_end(&mut unpacked).unwrap();
        assert_eq!((opcode, unpacked), (Opcode::Binary, large));
    }

    fn a_smart_broadcast_reaches_the_others(flavor: Flavor) {
        let smart = handler(needless_broadcasts::smart_broadcast);
        let (server, manager, mut peers) = with_peers(flavor, smart, 3);
        peers[0].0.send_frame(Opcode::Text, "a");
        assert!(peers[1..].iter_mut().all(|(peer, _)| peer.frame().payload == b"a"));
        // It has not got its own.
        manager.broadcast(Message::text("b"));
        assert!(peers.iter_mut().all(|(peer, _)| peer.frame().payload == b"b"));
        stop(server, peers);
    }

    fn a_room_is_told(flavor: Flavor) {
        let (server, manager, mut peers) = with_peers(flavor, handler(|| ()), 3);
        let ids = peers[..2].iter().map(|(_, id)| id.clone()).collect();
        let rooms = targeted_broadcasts::RoomManager::new(HashMap::from([("a".into(), ids)]));
        flavor.build().block_on(async {
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

    fn handlers_process_and_format(flavor: Flavor) {
        for handler in
            [handler(async_operations::slow_handler), handler(async_operations::fast_handler)]
        {
            assert_eq!(text_answer(flavor, handler.clone(), "[1, 2]"), "[1,2]");
            assert_eq!(text_answer(flavor, handler, "[1, 2"), "Error: invalid message");
        }
    }

    fn data_structures_are_shared(flavor: Flavor) {
        use data_structures::{CachedData, User, UserStore};

        let (store, cache) = (Arc::new(UserStore::default()), Arc::new(CachedData::default()));
        let put = |State(store): State<UserStore>| {
            store.users.insert(7, User { name: "Ada" });
            store.users.get(&7).map(|user| user.name)
        };
        let get = async |State(cache): State<Arc<CachedData>>| cache.data.read().await["a"].clone();
        flavor.build().block_on(async { cache.data.write().await.insert("a".into(), "b".into()) });
        let router = || Router::new().with_state(store.clone()).with_state(cache.clone());
        let said = |handler| answer(flavor, router().default_handler(handler), Opcode::Text, "").1;
        assert_eq!((said(handler(put)), said(handler(get))), (b"Ada".to_vec(), b"b".to_vec()));
    }

    fn buffers_are_used_again(flavor: Flavor) {
        flavor.build().block_on(async {
            let pool = buffers::BufferPool::default();
            let mut buffer = pool.get().await;
            buffer.extend_from_slice(b"a");
            let at = buffer.as_ptr();
            pool.return_buffer(buffer).await;
            let buffer = pool.get().await;
            assert_eq!((buffer.as_ptr(), buffer.len()), (at, 0));
        });
    }

    fn a_message_that_is_too_large_is_refused(flavor: Flavor) {
        let limited = || handler(size_limits::size_limited_handler);
        assert_eq!(text_answer(flavor, limited(), &"a".repeat(1024 * 1024)), "processed");
        assert_eq!(text_answer(flavor, limited(), &"a".repeat(1024 * 1024 + 1)), "Error: Message too large");
    }

    fn metrics_count(flavor: Flavor) {
        let metrics = Arc::new(snippets::metrics::Metrics::new());
        let count = |message: Message, State(metrics): State<Arc<snippets::metrics::Metrics>>| {
            metrics.record_message_received(message.as_bytes().len());
            metrics.stats()
        };
        let router = Router::new().with_state(metrics).default_handler(handler(count));
        let (_, stats) = answer(flavor, router, Opcode::Text, "a");
        let rate = String::from_utf8(stats).unwrap();
        let rate: f64 = rate.strip_prefix("Messages/sec: ").unwrap().parse().unwrap();
        assert!(rate > 0.0);
    }

    fn a_monitored_handler_broadcasts(flavor: Flavor) {
        let (server, _, mut peers) = with_peers(flavor, handler(monitoring::monitored_handler), 2);
        peers[0].0.send_frame(Opcode::Text, "a");
        assert!(peers.iter_mut().all(|(peer, _)| peer.frame().payload == b"a"));
        stop(server, peers);
    }

    fn what_is_too_much_is_refused(flavor: Flavor) {
        let router = Router::new()
            .with_state(Arc::new(RateLimiter::new(0.001, 1)))
            .default_handler(handler(degradation::rate_limited_handler));
        let server = Started::new(flavor, router);
        let mut peer = server.open();
        peer.send_frame(Opcode::Text, "a");
        assert_eq!(peer.frame().payload, b"processed");
        peer.send_frame(Opcode::Text, "a");
        assert_eq!(peer.frame().payload, b"Error: Rate limit exceeded");
        peer.close();
        server.stop();
    }

    fn both_broadcasts_reach_all(flavor: Flavor) {
        let (server, manager, mut peers) = with_peers(flavor, handler(|| ()), 3);
        flavor.build().block_on(cloning::bad_broadcast(Message::text("a"), &manager));
        flavor.build().block_on(not_cloning::good_broadcast(Message::text("b"), &manager));
        for (peer, _) in &mut peers {
            assert_eq!((peer.frame().payload, peer.frame().payload), (b"a".to_vec(), b"b".to_vec()));
        }
        stop(server, peers);
    }

    fn a_handler_that_blocks_answers_when_it_is_done(flavor: Flavor) {
        takes_a_second(flavor, handler(blocking::blocking_handler));
    }
}
