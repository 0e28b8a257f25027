//! The sockets of the operating system, as smol's reactor has them.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
#[cfg(unix)]
use std::os::unix::net::{UnixListener, UnixStream};
use std::task::{Context, Poll, ready};

use smol::Async;
use socket2::SockRef;

use super::Socket;
use crate::runtime::{Listener, Transport};

/// A socket of TCP or of Unix.
impl<S: Send + Sync + 'static> Transport for Async<S>
where
    for<'a> &'a S: Read + Write,
    for<'a> SockRef<'a>: From<&'a S>,
{
    fn poll_read(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            match self.get_ref().read(buf) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    ready!(self.poll_readable(cx))?;
                }
                read => return Poll::Ready(read),
            }
        }
    }

    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Self::poll_readable(self, cx)
    }

    fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        write(self.get_ref(), slices)
    }

    fn poll_write(&self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        loop {
            match self.try_write(slices) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    ready!(self.poll_writable(cx))?;
                }
                written => return Poll::Ready(written),
            }
        }
    }

    fn poll_shutdown(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(self.get_ref()).shutdown(Shutdown::Write))
    }

    fn poll_close(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn abort(&self) {
        abort(self.get_ref());
    }

    fn prepare(&self) {
        prepare(self.get_ref());
    }

    fn peer_addr(&self) -> Option<SocketAddr> {
        peer_addr(self.get_ref())
    }
}

pub(super) fn write<S>(socket: &S, slices: &[IoSlice<'_>]) -> io::Result<usize>
where
    for<'a> &'a S: Write,
{
    let mut socket = socket;
    match slices {
        [slice] => socket.write(slice),
        _ => socket.write_vectored(slices),
    }
}

pub(super) fn abort<S>(socket: &S)
where
    for<'a> SockRef<'a>: From<&'a S>,
{
    // It may be closed already.
    let _ = SockRef::from(socket).shutdown(Shutdown::Both);
}

pub(super) fn prepare<S>(socket: &S)
where
    for<'a> SockRef<'a>: From<&'a S>,
{
    // Those of Unix have nothing of the kind.
    let _ = SockRef::from(socket).set_tcp_nodelay(true);
}

pub(super) fn peer_addr<S>(socket: &S) -> Option<SocketAddr>
where
    for<'a> SockRef<'a>: From<&'a S>,
{
    SockRef::from(socket).peer_addr().ok()?.as_socket()
}

impl Listener for Async<TcpListener> {
    type Io = Socket<TcpStream>;

    fn prepare(&mut self) {
        // Accepted sockets inherit it on Linux. Without, they are only slower.
        let _ = SockRef::from(self.get_ref()).set_tcp_nodelay(true);
    }

    fn poll_accept(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<(Self::Io, Option<SocketAddr>)>> {
        let (stream, address) = ready!(poll_accept(self, cx, TcpListener::accept))?;
        if !cfg!(target_os = "linux") {
            // It may be reset already, which is for whoever reads from it to find out.
            let nodelay = SockRef::from(self.get_ref()).tcp_nodelay();
            let _ = nodelay.and_then(|on| stream.set_nodelay(on));
        }
        Poll::Ready(Ok((Socket::new(stream)?, Some(address))))
    }
}

#[cfg(unix)]
impl Listener for Async<UnixListener> {
    type Io = Socket<UnixStream>;

    fn poll_accept(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<(Self::Io, Option<SocketAddr>)>> {
        let (stream, _) = ready!(poll_accept(self, cx, UnixListener::accept))?;
        Poll::Ready(Ok((Socket::new(stream)?, None)))
    }
}

fn poll_accept<L, T>(
    listener: &Async<L>,
    cx: &mut Context<'_>,
    accept: impl Fn(&L) -> io::Result<T>,
) -> Poll<io::Result<T>> {
    loop {
        match accept(listener.get_ref()) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                ready!(listener.poll_readable(cx))?;
            }
            accepted => return Poll::Ready(accepted),
        }
    }
}
