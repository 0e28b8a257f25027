//! An echo server straight on smol: `cargo run --release --bin echo_smol`.

use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use examples::{Next, Options, Scratch, Server, Session, Socket};
use smol::channel::Receiver;
use smol::future::or;
use smol::{Async, LocalExecutor, Timer};

fn main() -> io::Result<()> {
    let options = Options::parse();
    let listener = Async::<TcpListener>::bind(options.address())?;
    let server = Arc::new(Server::new(&options));
    let (stop, stopped) = smol::channel::bounded::<()>(1);
    ctrlc::set_handler({
        let server = server.clone();
        move || {
            server.stop();
            // Wakes whoever waits for a message of the channel.
            stop.close();
        }
    })
    .map_err(io::Error::other)?;
    Options::announce(listener.get_ref().local_addr()?);

    let executor = Rc::new(LocalExecutor::new());
    let accepting = async {
        loop {
            match listener.accept().await {
                Ok((socket, _)) => {
                    let (server, stopped) = (server.clone(), stopped.clone());
                    // An error ends this connection and is its peer's affair.
                    let serving = async move { drop(serve(&socket, &server, &stopped).await) };
                    executor.spawn(serving).detach();
                }
                Err(error) => {
                    // Out of descriptors: connections that end give some back.
                    eprintln!("cannot accept: {error}");
                    Timer::after(Duration::from_millis(100)).await;
                }
            }
        }
    };
    smol::block_on(executor.run(async {
        or(accepting, until_closed(&stopped)).await;
        while !executor.is_empty() {
            Timer::after(Duration::from_millis(10)).await;
        }
    }));
    Ok(())
}

async fn serve(
    socket: &Async<TcpStream>,
    server: &Server,
    stopped: &Receiver<()>,
) -> io::Result<()> {
    socket.get_ref().set_nodelay(true)?;
    let mut session = Session::new(server);
    loop {
        // Asked before the turn: of a stop that this does not see, the channel tells.
        let (now, told) = (server.now(), server.is_stopping());
        let next = Scratch::with(|scratch| session.turn(&mut Std(socket), server, now, scratch))?;
        let ready = async {
            match next {
                Next::Read => socket.readable().await,
                Next::Write => socket.writable().await,
                Next::Again => {
                    smol::future::yield_now().await;
                    Ok(())
                }
                Next::End => Ok(()),
            }
        };
        if next == Next::End {
            return Ok(());
        }
        let due = async {
            match session.next_timeout() {
                Some(at) => drop(Timer::after(at.since(now)).await),
                None => smol::future::pending().await,
            }
            Ok(())
        };
        let stop = async {
            if told {
                smol::future::pending::<()>().await;
            }
            until_closed(stopped).await;
            Ok(())
        };
        or(ready, or(due, stop)).await?;
    }
}

async fn until_closed(channel: &Receiver<()>) {
    // Nobody sends anything.
    let _ = channel.recv().await;
}

/// The socket below the runtime, which is non-blocking.
struct Std<'a>(&'a Async<TcpStream>);

impl Socket for Std<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.get_ref().read(buf)
    }

    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.get_ref().write_vectored(slices)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.0.get_ref().shutdown(Shutdown::Write)
    }
}
