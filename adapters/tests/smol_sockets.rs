//! smol's two kinds of sockets: its own, and on Linux those of an epoll that tells of each change once.
#![cfg(all(feature = "smol", unix))]

use std::future::{Future, poll_fn};
use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use smol::future::{or, zip};
use smol::{Async, Executor, Timer};
use wsforge::CloseCode;
use wsforge::runtime::Transport;
use wsforge::smol::{Socket, accept, connect, run};

/// Far more than any of this takes.
const DEADLINE: Duration = Duration::from_secs(20);

fn runs<F: Future<Output = ()>>(test: impl FnOnce(Arc<Executor<'static>>) -> F) {
    let executor = Arc::default();
    let late = async {
        Timer::after(DEADLINE).await;
        panic!("it hangs");
    };
    // First, as what was not woken may be ready when it is polled because of the time.
    smol::block_on(run(&executor, or(late, test(executor.clone()))));
}

fn own(socket: UnixStream) -> Box<dyn Transport> {
    Box::new(Async::new(socket).unwrap())
}

fn edge(socket: UnixStream) -> Box<dyn Transport> {
    #[cfg(target_os = "linux")]
    let socket = Socket::new(socket);
    #[cfg(not(target_os = "linux"))]
    let socket: std::io::Result<Socket<UnixStream>> = Async::new(socket);
    Box::new(socket.unwrap())
}

type Kind = fn(UnixStream) -> Box<dyn Transport>;

const KINDS: [Kind; 2] = [own, edge];

#[test]
fn either_kind_carries_a_connection() {
    runs(async |_| {
        for (server, client) in KINDS.into_iter().zip([edge, own]) {
            let (a, b) = UnixStream::pair().unwrap();
            let serve = async {
                let mut socket = accept(server(a)).await.unwrap().accept().await.unwrap();
                while let Some(message) = socket.recv().await {
                    socket.send(message).await.unwrap();
                }
                socket.close_info().unwrap().clean
            };
            let talk = async {
                let (mut socket, _) = connect("ws://a.example/").over(client(b)).await.unwrap();
                // More than a socket holds, so that both of them wait to write.
                let long = vec![7; 4 << 20];
                socket.send("hello").await.unwrap();
                socket.send(long.clone()).await.unwrap();
                assert!(socket.recv().await == Some("hello".into()));
                assert!(socket.recv().await == Some(long.into()));
                socket.close(CloseCode::NORMAL, "").await.clean
            };
            assert_eq!(zip(serve, talk).await, (true, true));
        }
    });
}

#[test]
fn an_end_that_comes_with_the_last_bytes_is_seen_behind_them() {
    runs(async |_| {
        for kind in KINDS {
            let (a, mut b) = UnixStream::pair().unwrap();
            let socket = kind(a);
            // As small as may be, so that a read leaves nothing; and as large, so that it does not fill.
            for buf in [&mut [0; 5][..], &mut [0; 100]] {
                b.write_all(b"hello").unwrap();
                assert_eq!(read(&*socket, buf).await, 5);
            }
            b.write_all(b"hello").unwrap();
            b.shutdown(Shutdown::Write).unwrap();
            // Told of both at once, one is not told of the end again.
            poll_fn(|cx| socket.poll_readable(cx)).await.unwrap();
            let buf = &mut [0; 100];
            assert_eq!(read(&*socket, buf).await, 5);
            poll_fn(|cx| socket.poll_readable(cx)).await.unwrap();
            assert_eq!(read(&*socket, buf).await, 0);
            // And again.
            assert_eq!(read(&*socket, buf).await, 0);
        }
    });
}

#[test]
fn an_end_that_comes_with_bytes_is_not_forgotten_by_a_read_that_leaves_some() {
    runs(async |_| {
        for kind in KINDS {
            let (a, mut b) = UnixStream::pair().unwrap();
            let socket = kind(a);
            b.write_all(b"hello you").unwrap();
            b.shutdown(Shutdown::Write).unwrap();
            poll_fn(|cx| socket.poll_readable(cx)).await.unwrap();
            assert_eq!(read(&*socket, &mut [0; 5]).await, 5);
            assert_eq!(read(&*socket, &mut [0; 100]).await, 4);
            poll_fn(|cx| socket.poll_readable(cx)).await.unwrap();
            assert_eq!(read(&*socket, &mut [0; 100]).await, 0);
        }
    });
}

#[test]
fn who_aborts_ends_what_is_waited_for() {
    runs(async |_| {
        for kind in KINDS {
            let (a, _b) = UnixStream::pair().unwrap();
            let socket = kind(a);
            let buf = &mut [0; 100];
            let mut waited = false;
            let reading = poll_fn(|cx| {
                let polled = socket.poll_read(cx, buf);
                waited |= polled.is_pending();
                polled
            });
            let aborting = async { socket.abort() };
            let (read, ()) = zip(reading, aborting).await;
            assert_eq!((waited, read.unwrap()), (true, 0));
        }
    });
}

/// Anybody's executor may make wakers.
struct Broken;

impl Wake for Broken {
    fn wake(self: Arc<Self>) {
        panic!("a waker that panics");
    }
}

#[test]
fn a_waker_that_panics_keeps_nobody_else_asleep() {
    runs(async |_| {
        for kind in KINDS {
            let (mut sockets, mut peers) = (Vec::new(), Vec::new());
            for _ in 0..3 {
                let (a, b) = UnixStream::pair().unwrap();
                sockets.push(kind(a));
                peers.push(b);
            }
            let broken = Waker::from(Arc::new(Broken));
            let polled = sockets[1].poll_read(&mut Context::from_waker(&broken), &mut [0]);
            assert!(polled.is_pending());
            // Those who are told with it, and then those who are told behind it.
            for _ in 0..2 {
                let waiting = async {
                    let (first, last) = (&*sockets[0], &*sockets[2]);
                    zip(read(first, &mut [0; 100]), read(last, &mut [0; 100])).await
                };
                let writing = async { peers.iter_mut().for_each(|b| b.write_all(b"a").unwrap()) };
                assert_eq!(zip(waiting, writing).await.0, (1, 1));
            }
        }
    });
}

/// The task that waits for an epoll lives as long as there is a socket in it, and the next socket has one.
#[test]
fn the_last_socket_ends_what_waits_for_all() {
    runs(async |executor| {
        for _ in 0..2 {
            let (a, mut b) = UnixStream::pair().unwrap();
            let (c, _d) = UnixStream::pair().unwrap();
            let (first, second) = (edge(a), edge(c));
            assert_eq!(executor.is_empty(), !cfg!(target_os = "linux"));
            drop(second);
            b.write_all(b"hello").unwrap();
            assert_eq!(read(&*first, &mut [0; 100]).await, 5);
            assert_eq!(executor.is_empty(), !cfg!(target_os = "linux"));
            // Everybody has seen what there is, and waits.
            for _ in 0..100 {
                smol::future::yield_now().await;
            }
            drop(first);
            while !executor.is_empty() {
                smol::future::yield_now().await;
            }
        }
    });
}

/// A server's loop would look for connections each time.
#[test]
fn what_runs_beside_tasks_is_polled_only_when_it_is_woken() {
    let executor = Arc::default();
    let (done, is_done) = smol::channel::bounded(1);
    let mut polls = 0;
    let counted = async {
        Executor::spawn(&executor, async move {
            for _ in 0..1000 {
                smol::future::yield_now().await;
            }
            done.send(()).await.unwrap();
        })
        .detach();
        let mut waiting = pin!(is_done.recv());
        poll_fn(|cx| {
            polls += 1;
            waiting.as_mut().poll(cx)
        })
        .await
    };
    smol::block_on(run(&executor, counted)).unwrap();
    assert_eq!(polls, 2);
}

async fn read(socket: &dyn Transport, buf: &mut [u8]) -> usize {
    poll_fn(|cx| socket.poll_read(cx, buf)).await.unwrap()
}
