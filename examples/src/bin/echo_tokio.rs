//! An echo server straight on tokio: `cargo run --release --bin echo_tokio`.

use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind, IoSlice, Write};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use clap::Parser;
use examples::{Alarms, Next, Options, Scratch, Server, Session, Socket};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{interval, sleep};
use wsforge_core::Timestamp;

struct World {
    server: Server,
    alarms: Alarms,
}

fn main() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(&Options::parse()))
}

async fn run(options: &Options) -> io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    // Accepted sockets inherit it on Linux, where that saves a system call for each.
    socket.set_nodelay(true)?;
    socket.bind(options.address())?;
    let listener = socket.listen(4096)?;
    // Polled once, it listens; whoever reads the announcement may interrupt us.
    let mut stop = pin!(tokio::signal::ctrl_c());
    if poll_fn(|cx| Poll::Ready(stop.as_mut().poll(cx).is_ready())).await {
        return Ok(());
    }
    Options::announce(listener.local_addr()?);

    let server = Server::new(options);
    let alarms = Alarms::new(server.now());
    let world = Arc::new(World { server, alarms });
    let accepting = tokio::spawn(accept(listener, world.clone()));
    let ringing = tokio::spawn({
        let world = world.clone();
        async move {
            let mut ticks = interval(Alarms::TICK);
            loop {
                ticks.tick().await;
                world.alarms.ring(world.server.now());
            }
        }
    });

    stop.await?;
    accepting.abort();
    world.server.stop();
    world.alarms.ring_all();
    while !world.alarms.is_empty() {
        sleep(Duration::from_millis(10)).await;
    }
    ringing.abort();
    Ok(())
}

async fn accept(listener: TcpListener, world: Arc<World>) {
    loop {
        match listener.accept().await {
            Ok((socket, _)) => {
                let session = Session::new(&world.server);
                let alarm = Timestamp::from_millis(u64::MAX);
                // Boxed, the future leaves the runtime's part of a task at its smallest.
                let world = world.clone();
                tokio::spawn(Box::new(Peer { socket, session, world, known: None, alarm }));
            }
            Err(error) => {
                // Out of descriptors: connections that end give some back.
                eprintln!("cannot accept: {error}");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// The task of a connection: a future by hand, because that is as small as it can be.
struct Peer {
    socket: TcpStream,
    session: Session,
    world: Arc<World>,
    /// Under which key it is known to the alarms, and how they wake it.
    known: Option<(usize, Waker)>,
    /// When they wake it.
    alarm: Timestamp,
}

impl Future for Peer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let World { server, alarms } = &*this.world;
        let now = server.now();
        let (key, waker) = this.known.get_or_insert_with(|| {
            let waker = cx.waker().clone();
            (alarms.add(waker.clone()), waker)
        });
        if !waker.will_wake(cx.waker()) {
            waker.clone_from(cx.waker());
            alarms.replace(*key, waker.clone());
        }
        let socket = &mut Polled { socket: &mut this.socket, cx };
        match Scratch::with(|scratch| this.session.turn(socket, server, now, scratch)) {
            // The socket has been asked, and wakes us.
            Ok(Next::Read | Next::Write) => {}
            Ok(Next::Again) => cx.waker().wake_by_ref(),
            // An error ends this connection and is its peer's affair.
            Ok(Next::End) | Err(_) => return Poll::Ready(()),
        }
        if this.alarm <= now {
            this.alarm = Timestamp::from_millis(u64::MAX);
        }
        if let Some(at) = this.session.next_timeout()
            && at < this.alarm
        {
            this.alarm = at;
            alarms.set(*key, at);
        }
        Poll::Pending
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if let Some((key, _)) = &self.known {
            self.world.alarms.remove(*key);
        }
    }
}

/// A socket that wakes the task if it would block.
struct Polled<'a, 'cx> {
    socket: &'a mut TcpStream,
    cx: &'a mut Context<'cx>,
}

impl Socket for Polled<'_, '_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut buf = ReadBuf::new(buf);
        let polled = Pin::new(&mut *self.socket).poll_read(self.cx, &mut buf);
        unless_pending(polled.map_ok(|()| buf.filled().len()))
    }

    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let socket = Pin::new(&mut *self.socket);
        let polled = match slices {
            [slice] => socket.poll_write(self.cx, slice),
            _ => socket.poll_write_vectored(self.cx, slices),
        };
        match polled {
            // It is called writable only when much of its buffer is free, but takes less as well: a
            // slow peer is to be judged by what it reads.
            Poll::Pending => (&*SockRef::from(&*self.socket)).write_vectored(slices),
            Poll::Ready(written) => written,
        }
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        unless_pending(Pin::new(&mut *self.socket).poll_shutdown(self.cx))
    }
}

fn unless_pending<T>(polled: Poll<io::Result<T>>) -> io::Result<T> {
    match polled {
        Poll::Pending => Err(ErrorKind::WouldBlock.into()),
        Poll::Ready(result) => result,
    }
}
