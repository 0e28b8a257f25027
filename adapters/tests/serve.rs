//! Servers: whom they accept, how many, and how they end.

mod raw;

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, ready};
use std::thread;
use std::time::{Duration, Instant};

use raw::{End, FOREVER, Flavor, REQUEST, Raw, Server, Setup, TINY, echo, echo_server};
use tokio::sync::watch;
use wsforge::proto::CloseCode;
use wsforge::proto::frame::Opcode;
use wsforge::runtime::Listener;
use wsforge::{Answer, Options};

const LOCAL: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

/// Set in a process that a test has made, to say that it is the server.
const CHILD: &str = "WSFORGE_TEST_CHILD";

on_each_runtime! {
    fn each_request_is_decided(flavor: Flavor) {
        let (asked, asks) = mpsc::channel();
        let decide = move |incoming: &wsforge::Incoming<'_>| {
            asked.send(incoming.peer_addr).unwrap();
            match incoming.request.path() {
                "/chat" => Answer::accept().header("X-Room", "chat"),
                path => Answer::reject(404).body(format!("no {path} here")),
            }
        };
        let server = Server::decide(flavor, Setup::default(), decide, echo);
        let mut peer = Raw::connect(server.address);
        peer.send(REQUEST);
        assert!(peer.head().contains("\r\nX-Room: chat\r\n"));
        assert_eq!(asks.recv_timeout(FOREVER).unwrap(), Some(peer.0.local_addr().unwrap()));
        peer.echoes("hello");
        let mut lost = Raw::connect(server.address);
        lost.send(REQUEST.replace("/chat", "/other"));
        assert_eq!(lost.status(), 404);
        assert_eq!(lost.rest(), b"no /other here");
        drop(lost);
        peer.close();
        let report = server.stop();
        assert_eq!((report.opened, report.turned_away, report.cut), (1, 0, 0));
    }

    fn a_panic_of_a_handler_ends_its_connection_only(flavor: Flavor) {
        let server = Server::start(flavor, Setup::default(), |mut socket| async move {
            while let Some(message) = socket.recv().await {
                assert_ne!(message.as_bytes(), b"panic", "as it was told to");
                let _ = socket.send(message).await;
            }
        });
        let (mut one, mut other) = (Raw::open(server.address), Raw::open(server.address));
        one.echoes("hello");
        one.send_frame(Opcode::Text, "panic");
        assert_eq!(one.frame().code(), 1011);
        other.echoes("still here");
        drop(one);
        Raw::open(server.address).close();
        other.close();
        server.stop();
    }

    /// One peer does not answer the Close, and one handler takes no notice.
    fn a_server_that_stops_closes_all_and_waits_but_not_for_ever(flavor: Flavor) {
        let setup = Setup { patience: Duration::from_millis(600), ..Setup::default() };
        let (ended, ends) = mpsc::channel();
        let server = Server::start(flavor, setup, move |mut socket| {
            let ended = ended.clone();
            async move {
                while let Some(message) = socket.recv().await {
                    if message.as_bytes() == b"sleep" {
                        std::future::pending::<()>().await;
                    }
                    let _ = socket.send(message).await;
                }
                let _ = ended.send(End::from(socket.close_info().unwrap()));
            }
        });
        let mut peers: Vec<_> = (0..100).map(|_| Raw::open(server.address)).collect();
        for peer in &mut peers {
            peer.echoes("hello");
        }
        let mut asleep = peers.pop().unwrap();
        asleep.send_frame(Opcode::Text, "sleep");
        let mut halfway = Raw::connect(server.address);
        halfway.send(&REQUEST[..20]);
        let stopping = thread::spawn(move || server.stop());
        let mut mute = peers.pop().unwrap();
        for peer in peers.iter_mut().chain([&mut mute, &mut asleep]) {
            let close = peer.frame();
            assert_eq!((close.code(), &close.payload[2..]), (1001, &b"the server stops"[..]));
        }
        for mut peer in peers {
            peer.send_frame(Opcode::Close, 1001_u16.to_be_bytes());
            assert_eq!(peer.rest(), b"");
        }
        let report = stopping.join().unwrap();
        assert_eq!((report.opened, report.turned_away, report.cut), (100, 0, 2));
        for mut peer in [mute, asleep, halfway] {
            assert_eq!(peer.rest(), b"");
        }
        let ends: Vec<_> = ends.try_iter().collect();
        assert_eq!(ends.iter().filter(|end| end.clean && end.code == 1001).count(), 98);
    }

    /// It waits for those who were closing before.
    fn a_server_that_stops_does_not_tear_what_is_closing(flavor: Flavor) {
        const LEN: usize = 8 * 1024 * 1024;
        let (closing, closed) = mpsc::channel();
        let setup = Setup { buffers: Some(TINY), ..Setup::default() };
        let server = Server::start(flavor, setup, move |mut socket| {
            let closing = closing.clone();
            async move {
                socket.send(vec![1; LEN]).await.unwrap();
                socket.sender().close(CloseCode::NORMAL, "done");
                closing.send(()).unwrap();
                while socket.recv().await.is_some() {}
            }
        });
        let mut peer = Raw::open(server.address);
        closed.recv_timeout(FOREVER).unwrap();
        let stopping = thread::spawn(move || server.stop());
        let message = peer.frame();
        assert_eq!((message.opcode, message.payload.len()), (Opcode::Binary, LEN));
        assert_eq!(peer.frame().code(), 1000);
        peer.send_frame(Opcode::Close, 1000_u16.to_be_bytes());
        assert_eq!(peer.rest(), b"");
        assert_eq!(stopping.join().unwrap().cut, 0);
    }

    fn a_full_server_turns_away_before_it_hears_anything(flavor: Flavor) {
        let mut options = Options::default();
        options.max_connections = 2;
        let server = Server::start(flavor, options, echo);
        full(server, 503, b"too many connections");
    }

    fn an_address_has_so_many_connections(flavor: Flavor) {
        let mut options = Options::default();
        options.max_connections_per_address = Some(2);
        let server = Server::start(flavor, options, echo);
        full(server, 429, b"too many connections from your address");
    }

    fn other_addresses_have_places_of_their_own(flavor: Flavor) {
        let mut options = Options::default();
        options.max_connections_per_address = Some(1);
        let server = Server::start(flavor, options, echo);
        let _one = Raw::open(server.address);
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let socket = socket.unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 2], 0)).into()).unwrap();
        socket.connect(&server.address.into()).unwrap();
        let mut other = Raw::with(socket.into());
        other.send(REQUEST);
        assert_eq!(other.status(), 101);
        drop(other);
        server.stop();
    }

    fn a_storm_of_peers_that_come_and_go_is_survived(flavor: Flavor) {
        const THREADS: usize = 10;
        const ROUNDS: usize = 50;
        let (server, ends) = echo_server(flavor, Setup::default());
        let address = server.address;
        let storm = |n: usize| {
            for round in 0..ROUNDS {
                match (n + round) % 5 {
                    0 => drop(Raw::connect(address)),
                    1 => {
                        let mut peer = Raw::connect(address);
                        peer.send(&REQUEST[..50]);
                        peer.reset();
                    }
                    2 => Raw::open(address).reset(),
                    3 => {
                        let mut peer = Raw::open(address);
                        peer.echoes("hello");
                    }
                    _ => Raw::open(address).close(),
                }
            }
        };
        thread::scope(|scope| {
            (0..THREADS).for_each(|n| drop(scope.spawn(move || storm(n))));
        });
        let opened = THREADS * ROUNDS / 5 * 3;
        for _ in 0..opened {
            ends.recv_timeout(FOREVER).unwrap();
        }
        Raw::open(address).close();
        let report = server.stop();
        assert_eq!((report.opened, report.turned_away, report.cut), (opened + 1, 0, 0));
    }

    /// On a runtime that comes after another, deadlines work as on the first.
    fn each_runtime_has_a_timer_of_its_own(flavor: Flavor) {
        for _ in 0..2 {
            let runtime = flavor.build();
            runtime.block_on(async {
                let mut listener = flavor.listen().await;
                let address = listener.address;
                let mut options = Options::default();
                options.handshake_timeout = Duration::from_millis(300);
                let acceptor = flavor.acceptor(options);
                let peer = thread::spawn(move || Raw::connect(address).status());
                let io = listener.accept().await;
                let accepted = flavor.within(FOREVER, acceptor.accept(io)).await;
                let accepted = accepted.expect("the deadline passes");
                assert!(matches!(accepted, Err(wsforge::AcceptError::TimedOut)), "{accepted:?}");
                assert_eq!(peer.join().unwrap(), 408);
            });
            // It ends though there might be a timer.
            drop(runtime);
        }
    }

    fn a_port_is_free_again_at_once(flavor: Flavor) {
        let runtime = flavor.build();
        let mut address = SocketAddr::from(LOCAL);
        for _ in 0..2 {
            let listener = runtime.block_on(async { flavor.listen_on(address).unwrap() });
            address = listener.address;
            // The server closes first, so its side is what lingers.
            let peer = thread::spawn(move || {
                let mut peer = Raw::open(address);
                assert_eq!(peer.frame().code(), 1000);
                peer.send_frame(Opcode::Close, 1000_u16.to_be_bytes());
                assert_eq!(peer.rest(), b"");
            });
            let (stop, mut stopped) = tokio::sync::mpsc::channel(1);
            runtime.block_on(async {
                flavor.serve(listener, |_: &_| Answer::accept(), move |mut socket| {
                    let stop = stop.clone();
                    async move {
                        socket.close(CloseCode::NORMAL, "").await;
                        stop.send(()).await.unwrap();
                    }
                })
                .shutdown(async move {
 let _ = stopped.recv().await; })
                .await
            });
            peer.join().unwrap();
        }
    }

    fn a_taken_port_is_an_error(flavor: Flavor) {
        let runtime = flavor.build();
        let (listener, taken) = runtime.block_on(async {
            let listener = flavor.listen().await;
            let taken = flavor.listen_on(listener.address).map(drop);
            (listener, taken.unwrap_err().kind())
        });
        assert_eq!(taken, std::io::ErrorKind::AddrInUse);
        let taken = flavor.workers(2, listener.address, |_| async {}).unwrap_err();
        assert_eq!(taken.kind(), std::io::ErrorKind::AddrInUse);
    }

    fn what_a_listener_accepts_does_not_wait_to_fill_packets(flavor: Flavor) {
        assert!(flavor.build().block_on(flavor.accepts_without_delay()));
    }

    /// Without descriptors a server waits for those that come back, and does not spin.
    fn a_server_without_descriptors_survives(flavor: Flavor) {
        const PEERS: usize = 60;
        if env::var_os(CHILD).is_some() {
            return serve_with_few_descriptors(flavor);
        }
        let name = flavor.test_name("a_server_without_descriptors_survives");
        let mut child = Command::new("sh")
            .args(["-c", "ulimit -n 40; exec \"$0\" --exact \"$1\" --nocapture --test-threads=1"])
            .arg(env::current_exe().unwrap())
            .arg(name)
            .env(CHILD, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address: SocketAddr = lines
            .find_map(|line| Some(line.unwrap().split_once("listening on ")?.1.parse().unwrap()))
            .expect("an address");
        let mut first = Raw::open(address);
        let mut errors = || {
            first.send_frame(Opcode::Text, "errors?");
            String::from_utf8(first.frame().payload).unwrap().parse::<usize>().unwrap()
        };
        let mut peers: Vec<_> = (1..PEERS).map(|_| Raw::connect(address)).collect();
        peers.iter_mut().for_each(|peer| peer.send(REQUEST));
        let started = Instant::now();
        let before = loop {
            match errors() {
                0 => assert!(started.elapsed() < FOREVER, "there were enough descriptors"),
                before => break before,
            }
            thread::sleep(Duration::from_millis(10));
        };
        let started = Instant::now();
        thread::sleep(Duration::from_millis(500));
        let failed = errors() - before;
        // Twenty a second are meant.
        let most = started.elapsed().as_millis() as usize / 25;
        assert!((1..=most).contains(&failed), "{failed} of {most}");
        // Half of them go, and those who wait have their place.
        let rest = peers.split_off(PEERS / 2);
        drop(peers);
        for mut peer in rest {
            assert_eq!(peer.status(), 101);
            peer.send_frame(Opcode::Text, "errors?");
            peer.frame();
        }
        first.close();
        drop(child.stdin.take());
        assert!(lines.any(|line| line.unwrap().contains("stopped, 0 cut")));
        assert!(child.wait().unwrap().success());
    }
}

/// Two have their places, a third has not until one of them goes.
fn full(server: Server, status: u16, body: &[u8]) {
    let mut one = Raw::open(server.address);
    // Who is shaking hands counts.
    let mut two = Raw::connect(server.address);
    two.send(&REQUEST[..10]);
    let mut three = Raw::connect(server.address);
    // It says nothing, and is answered.
    assert_eq!(three.status(), status);
    assert_eq!(three.rest(), body);
    drop(three);
    two.send(&REQUEST[10..]);
    assert_eq!(two.status(), 101);
    one.echoes("hello");
    one.close();
    drop(two);
    let started = Instant::now();
    let mut turned_away = 1;
    loop {
        assert!(started.elapsed() < FOREVER);
        let mut four = Raw::connect(server.address);
        four.send(REQUEST);
        match four.status() {
            101 => break four.close(),
            again => {
                assert_eq!(again, status);
                turned_away += 1;
            }
        }
    }
    let report = server.stop();
    assert_eq!((report.opened, report.turned_away, report.cut), (3, turned_away, 0));
}

/// A listener that counts what goes wrong.
struct Counting<L>(L, Arc<AtomicUsize>);

impl<L: Listener> Listener for Counting<L> {
    type Io = L::Io;

    fn poll_accept(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<std::io::Result<(L::Io, Option<SocketAddr>)>> {
        let accepted = ready!(self.0.poll_accept(cx));
        self.1.fetch_add(usize::from(accepted.is_err()), Ordering::Relaxed);
        Poll::Ready(accepted)
    }
}

fn serve_with_few_descriptors(flavor: Flavor) {
    let errors = Arc::new(AtomicUsize::new(0));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    thread::spawn(move || {
        let _ = std::io::stdin().read_line(&mut String::new());
        drop(stop);
    });
    let report = flavor.build().block_on(async {
        let listener = flavor.listen().await;
        println!("\nlistening on {}", listener.address);
        std::io::stdout().flush().unwrap();
        let counted = errors.clone();
        flavor
            .serve(
                Counting(listener, counted),
                |_: &_| Answer::accept(),
                move |mut socket| {
                    let errors = errors.clone();
                    async move {
                        while socket.recv().await.is_some() {
                            let _ = socket.send(errors.load(Ordering::Relaxed).to_string()).await;
                        }
                    }
                },
            )
            .shutdown(async { drop(stopped.await) })
            .await
    });
    println!("\nstopped, {} cut", report.cut);
}

on_each_runtime! {
    fn workers_share_a_port_and_give_their_results(flavor: Flavor) {
        const PEERS: usize = 64;
        let (found, addresses) = mpsc::channel();
        let (stop, stopped) = watch::channel(false);
        let running = thread::spawn(move || {
            flavor.workers(2, LOCAL.into(), |listener| {
                found.send((listener.address, thread::current().id())).unwrap();
                let mut stopped = stopped.clone();
                async move {
                    flavor
                        .serve(listener, |_: &_| Answer::accept(), echo)
                        .shutdown(async move { drop(stopped.wait_for(|stopped| *stopped).await) })
                        .await
                }
            })
        });
        let (address, one) = addresses.recv_timeout(FOREVER).unwrap();
        let (same, two) = addresses.recv_timeout(FOREVER).unwrap();
        assert_eq!(address, same);
        assert_ne!(one, two);
        let mut peers: Vec<_> = (0..PEERS).map(|_| Raw::open(address)).collect();
        for peer in &mut peers {
            peer.echoes("hello");
        }
        peers.into_iter().for_each(Raw::close);
        stop.send(true).unwrap();
        let reports = running.join().unwrap().unwrap();
        assert_eq!(reports.len(), 2);
        assert_eq!(reports.iter().map(|report| report.opened).sum::<usize>(), PEERS);
        assert!(reports.iter().all(|report| report.opened > 0 && report.cut == 0), "{reports:?}");
    }

    fn there_is_one_worker_at_least(flavor: Flavor) {
        let results = flavor.workers(0, LOCAL.into(), |listener| async move { listener.address.port() > 0 });
        assert_eq!(results.unwrap(), [true]);
    }
}
