//! Routers: how they listen, and how that ends.

mod raw;
mod router;

use std::collections::{HashSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, ready};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use raw::{Flavor, REQUEST, Raw};
use router::{Gate, Notes, Started, text};
use tokio::sync::oneshot;
use wsforge::proto::frame::Opcode;
use wsforge::router::{Connection, ConnectionManager, Message, Result, Router, State, handler};
use wsforge::runtime::{BoxFuture, Listener, Runtime, Task, Transport};
use wsforge::{Answer, Incoming, Options, Report};

/// A router that listens by itself.
struct Listening {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<Result<Report>>,
}

impl Listening {
    fn on(flavor: Flavor, address: &'static str, router: Router) -> Self {
        let (note, notes) = Notes::new();
        let router = router.on_listen(move |address| note.send(address).unwrap());
        let (stop, stopped) = oneshot::channel();
        let signal = async { drop(stopped.await) };
        let run = async move { router.listen_until(address, signal).await };
        let thread = thread::spawn(move || flavor.build().block_on(run));
        Self { address: notes.next(), stop, thread }
    }

    fn stop(self) -> Report {
        drop(self.stop);
        self.thread.join().unwrap().unwrap()
    }
}

/// A runtime, and how many tasks it was given.
#[derive(Debug)]
struct Counting {
    inner: Box<dyn Runtime>,
    spawned: Arc<AtomicUsize>,
}

impl Runtime for Counting {
    fn spawn(&self, task: Task) {
        self.spawned.fetch_add(1, Ordering::Relaxed);
        self.inner.spawn(task);
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<()> {
        self.inner.sleep(duration)
    }

    fn connect(&self, host: String, port: u16) -> BoxFuture<io::Result<Box<dyn Transport>>> {
        self.inner.connect(host, port)
    }
}

/// A listener whose peers have the addresses that they are told to have, one after the other.
struct Posing {
    listener: raw::Listener,
    addresses: VecDeque<&'static str>,
}

impl Listener for Posing {
    type Io = Box<dyn Transport>;

    fn poll_accept(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<(Self::Io, Option<SocketAddr>)>> {
        let (io, _) = ready!(self.listener.poll_accept(cx))?;
        let address = self.addresses.pop_front().unwrap().parse().unwrap();
        Poll::Ready(Ok((io, Some(SocketAddr::new(address, 1)))))
    }
}

fn echo() -> Router {
    Router::new().default_handler(handler(|message: Message| async move { message }))
}

on_each_runtime! {
    fn an_address_or_a_name_is_listened_on(flavor: Flavor) {
        for address in ["127.0.0.1:0", "localhost:0"] {
            let server = Listening::on(flavor, address, echo());
            assert!(server.address.ip().is_loopback() && server.address.port() > 0);
            let mut peer = Raw::open(server.address);
            peer.echoes("hello");
            peer.close();
            assert_eq!(server.stop().opened, 1);
        }
    }

    fn what_cannot_be_listened_on_is_an_error(flavor: Flavor) {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = taken.local_addr().unwrap().to_string();
        let runtime = flavor.build();
        for address in [&*taken, "127.0.0.1", "nowhere.invalid:80", ""] {
            assert!(runtime.block_on(echo().listen(address)).is_err(), "{address}");
        }
        // TEST-NET-1 is nobody's.
        assert!(runtime.block_on(echo().workers(2).listen("192.0.2.1:80")).is_err());
    }

    fn workers_serve_as_one(flavor: Flavor) {
        let threads = Arc::new(Mutex::new(HashSet::new()));
        let seen = threads.clone();
        let told = handler(move |message: Message, State(all): State<Arc<ConnectionManager>>| {
            seen.lock().unwrap().insert(thread::current().id());
            all.broadcast(message);
        });
        let (note, notes) = Notes::new();
        let router = Router::new()
            .default_handler(told)
            .workers(2)
            .max_connections(20)
            .on_connect(move |_, _| note.send(()).unwrap());
        let server = Listening::on(flavor, "127.0.0.1:0", router);
        let mut peers: Vec<_> = (0..20).map(|_| Raw::open(server.address)).collect();
        // The answer to a handshake leaves before its connection is one of all.
        peers.iter().for_each(|_| notes.next());
        for from in 0..20 {
            peers[from].send_frame(Opcode::Text, from.to_string());
            for peer in &mut peers {
                assert_eq!(text(peer), from.to_string());
            }
        }
        // 20 in all, not 20 on each thread.
        let mut late = Raw::connect(server.address);
        late.send(REQUEST);
        assert_eq!(late.status(), 503);
        for peer in peers {
            peer.close();
        }
        let report = server.stop();
        assert_eq!((report.opened, report.turned_away, report.cut), (20, 1, 0));
        // Half a million to one that the kernel picks the same one 20 times.
        assert_eq!(threads.lock().unwrap().len(), 2);
    }

    fn workers_stop_when_nobody_waits_for_them_any_more(flavor: Flavor) {
        let (note, notes) = Notes::new();
        let router = echo()
            .workers(2)
            .on_listen(move |address| note.send(address).unwrap())
            .patience(Duration::from_millis(500));
        let runtime = flavor.build();
        let mut listening = Box::pin(router.listen("127.0.0.1:0"));
        let address = runtime.block_on(async {
            std::future::poll_fn(|cx| {
                assert!(listening.as_mut().poll(cx).is_pending());
                match notes.try_next() {
                    Some(address) => Poll::Ready(address),
                    None => {
                        cx.waker().wake_by_ref();
                        Poll::Pending
                    }
                }
            })
            .await
        });
        let mut peer = Raw::open(address);
        peer.echoes("hello");
        drop(listening);
        assert_eq!(peer.frame().code(), 1001);
    }

    /// Attack D2: whoever has one address of IPv6 has 2^64 of them.
    fn addresses_of_one_network_count_as_one(flavor: Flavor) {
        const PEERS: [(&str, u16); 8] = [
            ("2001:db8::1", 101),
            ("2001:db8::ffff:0:0:2", 429),
            ("2001:db8:0:1::1", 101),
            ("192.0.2.1", 101),
            ("::ffff:192.0.2.1", 429),
            ("::ffff:192.0.2.2", 101),
            ("192.0.2.2", 429),
            ("192.0.2.3", 101),
        ];
        for routed in [true, false] {
            let (listens, address) = mpsc::channel();
            let (stop, stopped) = oneshot::channel::<()>();
            let run = async move {
                let stopped = async { drop(stopped.await) };
                let listener = flavor.listen().await;
                listens.send(listener.address).unwrap();
                let addresses = PEERS.iter().map(|(address, _)| *address).collect();
                let listener = Posing { listener, addresses };
                if routed {
                    let router = echo().max_connections_per_address(1).shutdown(stopped);
                    return router.listen_on(listener).await.unwrap();
                }
                let mut options = Options::default();
                options.max_connections_per_address = Some(1);
                flavor
                    .serve(listener, |_: &Incoming<'_>| Answer::accept(), raw::echo)
                    .options(options)
                    .shutdown(stopped)
                    .await
            };
            let serving = thread::spawn(move || flavor.build().block_on(run));
            let address = address.recv().unwrap();
            let mut open = Vec::new();
            for (from, status) in PEERS {
                let mut peer = Raw::connect(address);
                peer.send(REQUEST);
                assert_eq!(peer.status(), status, "{from}");
                open.push(peer);
            }
            drop((open, stop));
            let report = serving.join().unwrap();
            assert_eq!((report.opened, report.turned_away), (5, 3));
        }
    }

    /// Defect C10.
    fn who_stops_closes_all_waits_for_handlers_and_says_how_it_went(flavor: Flavor) {
        let gate = Gate::shut();
        let (note, notes) = Notes::new();
        let (done, gone) = (note.clone(), note);
        let waits = gate.clone();
        let router = Router::new()
            .default_handler(handler(move |connection: Connection| {
                let (waits, done) = (waits.clone(), done.clone());
                async move {
                    connection.send_text("begun").unwrap();
                    waits.pass().await;
                    done.send("done").unwrap();
                }
            }))
            .on_disconnect(move |_, _| gone.send("gone").unwrap());
        let server = Started::new(flavor, router);
        let address = server.address;
        let (mut busy, mut idle, mut deaf) = (server.open(), server.open(), server.open());
        busy.send_frame(Opcode::Text, "wait");
        assert_eq!(text(&mut busy), "begun");
        let stopping = server.stops();
        for peer in [&mut busy, &mut idle, &mut deaf] {
            assert_eq!(peer.frame().code(), 1001);
        }
        assert!(std::net::TcpStream::connect(address).is_err());
        for peer in [&mut busy, &mut idle] {
            peer.send_frame(Opcode::Close, 1001_u16.to_be_bytes());
        }
        assert_eq!(idle.rest(), b"");
        // One does not answer the Close, and is given up.
        assert_eq!((notes.next(), notes.next()), ("gone", "gone"));
        // The other one is not read from, and given up as well; but its handler is waited for.
        assert_eq!(busy.rest(), b"");
        for _ in 0..10 {
            thread::sleep(Duration::from_millis(10));
            assert!(!stopping.is_finished());
        }
        gate.open();
        let report = stopping.join().unwrap();
        assert_eq!(notes.rest(), ["done", "gone"]);
        assert_eq!((report.opened, report.closed, report.cut), (3, 3, 0));
    }

    fn a_handler_that_never_ends_is_not_waited_for_for_ever(flavor: Flavor) {
        let gate = Gate::shut();
        let router = Router::new()
            .default_handler(handler(move |connection: Connection| {
                let gate = gate.clone();
                async move {
                    connection.send_text("begun").unwrap();
                    gate.pass().await;
                }
            }))
            .patience(Duration::from_millis(300));
        let server = Started::new(flavor, router);
        let mut peer = server.open();
        peer.send_frame(Opcode::Text, "");
        assert_eq!(text(&mut peer), "begun");
        let report = server.stop();
        assert_eq!((report.closed, report.cut), (0, 1));
    }

    fn a_clone_serves_the_same(flavor: Flavor) {
        let router = echo();
        let manager = router.connection_manager();
        let server = Started::new(flavor, router.clone());
        let mut peer = server.open();
        peer.echoes("hello");
        assert_eq!((manager.count(), router.connection_manager().count()), (1, 1));
        peer.close();
        server.stop();
        let again = Started::new(flavor, router);
        again.open().close();
        again.stop();
    }

    fn a_runtime_that_is_given_is_not_looked_for(flavor: Flavor) {
        let (listens, address) = mpsc::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let spawned = Arc::new(AtomicUsize::new(0));
        let runtime = Arc::new(Counting { inner: flavor.runtime(), spawned: spawned.clone() });
        let run = async move {
            let listener = flavor.listen().await;
            listens.send(listener.address).unwrap();
            let router = echo().shutdown(async { drop(stopped.await) });
            router.listen_with(runtime, listener).await
        };
        let serving = thread::spawn(move || flavor.build().block_on(run));
        let mut peer = Raw::open(address.recv().unwrap());
        peer.echoes("hello");
        assert_ne!(spawned.load(Ordering::Relaxed), 0);
        peer.close();
        drop(stop);
        assert_eq!(serving.join().unwrap().opened, 1);
    }

    #[cfg(unix)]
    fn a_unix_socket_is_served(flavor: Flavor) {
        use std::io::{Read, Write};
        let path = std::env::temp_dir()
            .join(format!("wsforge-{}-{:?}", std::process::id(), thread::current().id()));
        let socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let told = handler(|connection: Connection| {
            format!("{:?} {}", connection.peer_addr(), connection.info().addr)
        });
        let router = Router::new().default_handler(told).shutdown(async { drop(stopped.await) });
        let run = async move {
            router.listen_on(flavor.unix_listener(socket)).await.unwrap()
        };
        let serving = thread::spawn(move || flavor.build().block_on(run));
        let mut peer = std::os::unix::net::UnixStream::connect(&path).unwrap();
        peer.write_all(&[REQUEST.as_bytes(), &raw::frame(true, Opcode::Text, b"")].concat()).unwrap();
        let mut got = Vec::new();
        while !got.ends_with(b"None [::]:0") {
            let mut byte = [0];
            peer.read_exact(&mut byte).unwrap();
            got.push(byte[0]);
        }
        drop((peer, stop));
        assert_eq!(serving.join().unwrap().opened, 1);
        std::fs::remove_file(path).unwrap();
    }
}

on_each_runtime! {
    /// Handlers run where connections do.
    fn a_router_runs_on_the_runtime_that_it_listens_in(flavor: Flavor) {
        let routers: [fn(Router) -> Router; 2] = [|router| router, |router| router.workers(2)];
        // Only Unix has several threads listen.
        for set in &routers[..1 + usize::from(cfg!(unix))] {
            let router = set(Router::new());
            let router = router.default_handler(handler(|| format!("{:?}", Flavor::here())));
            let listening = Listening::on(flavor, "127.0.0.1:0", router);
            let mut peer = Raw::open(listening.address);
            peer.send_frame(Opcode::Text, "where?");
            let here = text(&mut peer);
            assert!(format!("{flavor:?}").starts_with(&here), "{here}");
            peer.close();
            listening.stop();
        }
    }
}

#[cfg(not(feature = "smol"))]
#[test]
fn outside_of_a_runtime_there_is_an_error() {
    let mut listening = echo().listen("127.0.0.1:0");
    let mut cx = Context::from_waker(std::task::Waker::noop());
    let Poll::Ready(Err(error)) = listening.as_mut().poll(&mut cx) else {
        panic!("it cannot listen")
    };
    assert!(error.to_string().contains("runtime"), "{error}");
}

/// Which has a thread of its own, and takes those who have no other.
#[cfg(feature = "smol")]
#[test]
fn outside_of_a_runtime_it_is_smol_that_serves() {
    let (note, notes) = Notes::new();
    let (stop, stopped) = oneshot::channel::<()>();
    let router = echo().on_listen(move |address| note.send(address).unwrap());
    let listening = router.listen_until("127.0.0.1:0", async { drop(stopped.await) });
    let running = thread::spawn(|| smol::block_on(listening));
    let mut peer = Raw::open(notes.next());
    peer.echoes("hello");
    peer.close();
    drop(stop);
    assert_eq!(running.join().unwrap().unwrap().opened, 1);
}
