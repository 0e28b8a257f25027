//! Routers: many peers at once, and one that does as much as many.

mod raw;
mod router;

use std::fs;
use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant};

use raw::{FOREVER, Flavor, REQUEST, Raw, frame, yield_now};
use router::{Gate, Started, text};
use tokio::sync::oneshot;
use wsforge::Rate;
use wsforge::proto::CloseCode;
use wsforge::proto::frame::Opcode;
use wsforge::proto::hub::Audience;
use wsforge::router::{Connection, Message, Router, handler};
use wsforge::runtime::{Listener, Transport};

fn echo() -> Router {
    Router::new().default_handler(handler(|message: Message| message))
}

/// A thousand, or as many as there are descriptors for in each of the tests that run at once.
fn many() -> usize {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let open = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    (open.unwrap_or(1024_usize).saturating_sub(200) / 16).min(1000)
}

/// Answers the Close that it gets, unless that has taken so long that it is too late.
fn goes_away(peer: &mut Raw) {
    assert_eq!(peer.frame().code(), 1001);
    let _ = peer.0.write_all(&frame(true, Opcode::Close, &1001_u16.to_be_bytes()));
}

/// A listener that has no descriptors while it is told so, and counts how often that was seen.
struct Scarce {
    listener: raw::Listener,
    out: Arc<AtomicBool>,
    failed: Arc<AtomicUsize>,
}

impl Listener for Scarce {
    type Io = Box<dyn Transport>;

    fn poll_accept(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<(Self::Io, Option<SocketAddr>)>> {
        if self.out.load(Ordering::SeqCst) {
            self.failed.fetch_add(1, Ordering::SeqCst);
            // EMFILE.
            return Poll::Ready(Err(io::Error::from_raw_os_error(24)));
        }
        self.listener.poll_accept(cx)
    }
}

on_each_runtime! {
    /// Attack D1, and defect C7.
    fn a_server_that_can_accept_nobody_waits_until_it_can(flavor: Flavor) {
        let (out, failed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (listens, address) = mpsc::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let (is_out, counted) = (out.clone(), failed.clone());
        let run = async move {
            let listener = flavor.listen().await;
            listens.send(listener.address).unwrap();
            let listener = Scarce { listener, out: is_out, failed: counted };
            let router = echo().max_connections(2).shutdown(async { drop(stopped.await) });
            router.listen_on(listener).await.unwrap()
        };
        let serving = thread::spawn(move || flavor.build().block_on(run));
        let address = address.recv().unwrap();
        let (mut first, mut second) = (Raw::open(address), Raw::open(address));
        out.store(true, Ordering::SeqCst);
        let mut waits = Raw::connect(address);
        waits.send(REQUEST);
        let begun = Instant::now();
        let before = loop {
            match failed.load(Ordering::SeqCst) {
                0 => assert!(begun.elapsed() < FOREVER),
                failed => break failed,
            }
            first.echoes("not held up");
        };
        let begun = Instant::now();
        thread::sleep(Duration::from_millis(500));
        let again = failed.load(Ordering::SeqCst) - before;
        // Twenty a second are meant.
        let most = begun.elapsed().as_millis() as usize / 25;
        assert!((1..=most).contains(&again), "{again} of {most}");
        out.store(false, Ordering::SeqCst);
        // There is a descriptor again, but no place.
        assert_eq!(waits.status(), 503);
        assert_eq!(waits.rest(), b"too many connections");
        drop(waits);
        second.echoes("still here");
        first.close();
        second.close();
        Raw::open(address).close();
        drop(stop);
        let report = serving.join().unwrap();
        assert_eq!((report.opened, report.turned_away, report.cut), (3, 1, 0));
    }

    /// Attack D3: all are sent away, and come back at once.
    fn all_who_come_back_at_once_are_answered_and_let_in_as_far_as_there_is_room(flavor: Flavor) {
        let most = Arc::new(AtomicUsize::new(0));
        let seen = most.clone();
        let peers = many();
        let router = echo().max_connections(peers).on_connect(move |manager, _| {
            seen.fetch_max(manager.count(), Ordering::SeqCst);
        });
        let manager = router.connection_manager();
        let server = Started::new(flavor, router);
        let mut old: Vec<_> = (0..peers).map(|_| server.open()).collect();
        while manager.count() < peers {
            thread::yield_now();
        }
        assert_eq!(manager.close(Audience::All, CloseCode::GOING_AWAY, "again"), peers as u64);
        let mut refused = 0;
        let mut open = Vec::new();
        let begun = Instant::now();
        while open.len() < peers {
            assert!(begun.elapsed() < FOREVER, "{} are in", open.len());
            let mut storm: Vec<_> =
                (open.len()..peers).map(|_| Raw::connect(server.address)).collect();
            storm.iter_mut().for_each(|peer| peer.send(REQUEST));
            for mut peer in storm {
                match peer.status() {
                    101 => open.push(peer),
                    status => {
                        assert_eq!((status, peer.rest()), (503, b"too many connections".to_vec()));
                        refused += 1;
                    }
                }
            }
            // Their places are free when they are gone.
            for mut peer in old.drain(..) {
                goes_away(&mut peer);
                assert_eq!(peer.rest(), b"");
            }
        }
        open.iter_mut().for_each(|peer| peer.echoes("hello again"));
        assert_eq!(most.load(Ordering::SeqCst), peers);
        open.into_iter().for_each(Raw::close);
        let report = server.stop();
        assert!(refused > 0);
        assert_eq!((report.opened, report.turned_away, report.cut), (2 * peers, refused, 0));
    }

    /// Attack D4.
    fn a_server_of_many_stops_in_time_though_one_handler_does_not_care(flavor: Flavor) {
        const PATIENCE: Duration = Duration::from_secs(1);
        let never = Gate::shut();
        let router = Router::new().patience(PATIENCE).default_handler(handler(
            move |connection: Connection| {
                let never = never.clone();
                async move {
                    connection.send_text("begun").unwrap();
                    never.pass().await;
                }
            },
        ));
        let manager = router.connection_manager();
        let server = Started::new(flavor, router);
        let mut busy = server.open();
        busy.send_frame(Opcode::Text, "");
        assert_eq!(text(&mut busy), "begun");
        let mut peers: Vec<_> = (1..many()).map(|_| server.open()).collect();
        while manager.count() < peers.len() + 1 {
            thread::yield_now();
        }
        let begun = Instant::now();
        let stopping = server.stops();
        peers.iter_mut().for_each(goes_away);
        assert_eq!(busy.frame().code(), 1001);
        let report = stopping.join().unwrap();
        let took = begun.elapsed();
        assert!((PATIENCE - Duration::from_millis(200)..FOREVER).contains(&took), "{took:?}");
        assert_eq!((report.opened, report.closed, report.cut), (peers.len() + 1, peers.len(), 1));
        // Its handler ends in a task of its own.
        while manager.count() > 0 {
            assert!(begun.elapsed() < FOREVER);
            thread::yield_now();
        }
    }

    /// Attack D9: what it sends waits in its own socket, and no task is made for it.
    fn one_who_floods_is_handled_at_the_rate_that_it_may_have(flavor: Flavor) {
        const RATE: Rate = Rate { per_second: 2000, burst: 500 };
        let (handled, tasks) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (counts, alive) = (handled.clone(), tasks.clone());
        let router = Router::new()
            .message_rate(Some(RATE))
            .route("/echo", handler(|text: &str| text.to_owned()))
            .default_handler(handler(move || {
                counts.fetch_add(1, Ordering::SeqCst);
                let alive = alive.clone();
                async move {
                    yield_now().await;
                    alive.fetch_max(flavor.tasks(), Ordering::SeqCst);
                }
            }));
        let server = Started::new(flavor, router);
        let (mut other, mut peer) = (server.open(), server.open());
        let begun = Instant::now();
        let flood = peer.0.try_clone().unwrap();
        let flooding = thread::spawn(move || {
            let sent = frame(true, Opcode::Binary, b"a hundred thousand of them");
            // It is cut in the end.
            let _ = (&flood).write_all(&sent.repeat(100_000));
        });
        let mut most = Vec::new();
        while begun.elapsed() < Duration::from_secs(1) {
            other.echoes("/echo");
            let handled = handled.load(Ordering::SeqCst);
            let brought = begun.elapsed().as_millis() as usize * RATE.per_second as usize / 1000;
            most.push((handled, brought));
        }
        // The clock that counts is at most a tick ahead.
        let allowed = |brought| RATE.burst as usize + brought + RATE.per_second as usize / 10;
        assert!(most.iter().all(|(handled, brought)| *handled <= allowed(*brought)), "{most:?}");
        assert!(most.last().unwrap().0 > RATE.burst as usize, "{most:?}");
        // Those of the two connections, and of their timer.
        assert!(tasks.load(Ordering::SeqCst) <= 3, "{tasks:?}");
        peer.0.shutdown(Shutdown::Both).unwrap();
        flooding.join().unwrap();
        peer.rest();
        other.close();
        server.stop();
    }
}
