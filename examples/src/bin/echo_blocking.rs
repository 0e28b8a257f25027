//! An echo server with a thread for each connection: `cargo run --release --bin echo_blocking`.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use clap::Parser;
use examples::{Next, Options, Scratch, Server, Session, Socket};

/// How long a thread waits for its peer before it looks at the clock.
const TICK: Duration = Duration::from_millis(500);

fn main() -> io::Result<()> {
    let options = Options::parse();
    let listener = TcpListener::bind(options.address())?;
    let address = listener.local_addr()?;
    let server = Arc::new(Server::new(&options));
    ctrlc::set_handler({
        let server = server.clone();
        move || {
            server.stop();
            // Wakes the thread that accepts.
            drop(TcpStream::connect(address));
        }
    })
    .map_err(io::Error::other)?;
    Options::announce(address);

    thread::scope(|scope| {
        for socket in listener.incoming() {
            if server.is_stopping() {
                return;
            }
            let server = &*server;
            let started = socket.and_then(|socket| {
                // An error ends this connection and is its peer's affair.
                thread::Builder::new().spawn_scoped(scope, move || drop(serve(socket, server)))
            });
            if let Err(error) = started {
                // Out of descriptors or threads: connections that end give some back.
                eprintln!("cannot accept: {error}");
                thread::sleep(Duration::from_millis(100));
            }
        }
    });
    Ok(())
}

fn serve(socket: TcpStream, server: &Server) -> io::Result<()> {
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(TICK))?;
    socket.set_write_timeout(Some(TICK))?;
    let mut socket = Blocking(socket);
    let (mut session, mut scratch) = (Session::new(server), Scratch::default());
    while session.turn(&mut socket, server, server.now(), &mut scratch)? != Next::End {}
    Ok(())
}

struct Blocking(TcpStream);

impl Socket for Blocking {
    // It has a thread to itself, which looks at the clock between any two reads.
    const READS_PER_TURN: usize = 1;

    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf).map_err(timed_out)
    }

    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.write_vectored(slices).map_err(timed_out)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.0.shutdown(Shutdown::Write)
    }
}

/// On some platforms a wait that has ended is called by another name.
fn timed_out(error: io::Error) -> io::Error {
    if error.kind() == ErrorKind::TimedOut { ErrorKind::WouldBlock.into() } else { error }
}
