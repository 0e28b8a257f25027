//! The sockets of the operating system, as smol's reactor has them.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
#[cfg(unix)]
use std::os::unix::net::{UnixListener, UnixStream};
use std::task::{Context, Poll, ready};

use smol::Async;
use socket2::SockRef;

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
        match slices {
            [slice] => self.get_ref().write(slice),
            _ => self.get_ref().write_vectored(slices),
        }
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
        // It may be closed already.
        let _ = SockRef::from(self.get_ref()).shutdown(Shutdown::Both);
    }

    fn prepare(&self) {
        // Those of Unix have nothing of the kind.
        let _ = SockRef::from(self.get_ref()).set_tcp_nodelay(true);
    }

    fn peer_addr(&self) -> Option<SocketAddr> {
        SockRef::from(self.get_ref()).peer_addr().ok()?.as_socket()
    }
}

impl Listener for Async<TcpListener> {
    type Io = Async<TcpStream>;

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
            stream.set_nodelay(SockRef::from(self.get_ref()).tcp_nodelay()?)?;
        }
        Poll::Ready(Ok((Async::new(stream)?, Some(address))))
    }
}

#[cfg(unix)]
impl Listener for Async<UnixListener> {
    type Io = Async<UnixStream>;

    fn poll_accept(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<(Self::Io, Option<SocketAddr>)>> {
        let (stream, _) = ready!(poll_accept(self, cx, UnixListener::accept))?;
        Poll::Ready(Ok((Async::new(stream)?, None)))
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
