//! Listening on TCP, the same on every runtime.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Socket, Type};

use crate::Tcp;

/// Listens on the first of `addresses` that can be listened on. `shared` lets other sockets listen there,
/// too: the kernel spreads connections over them.
pub(crate) fn listen(addresses: &[SocketAddr], tcp: &Tcp, shared: bool) -> io::Result<TcpListener> {
    let mut failed = io::Error::new(io::ErrorKind::AddrNotAvailable, "there is no such address");
    for address in addresses {
        match listen_on(*address, tcp, shared) {
            Ok(listener) => return Ok(listener),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

fn listen_on(address: SocketAddr, tcp: &Tcp, shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // A short restart finds the port free.
    #[cfg(not(windows))]
    socket.set_reuse_address(true)?;
    #[cfg(unix)]
    if shared {
        socket.set_reuse_port(true)?;
    }
    #[cfg(not(unix))]
    if shared {
        return Err(io::ErrorKind::Unsupported.into());
    }
    // Accepted sockets inherit these on Linux, where that saves a system call for each.
    socket.set_tcp_nodelay(tcp.nodelay)?;
    if let Some(size) = tcp.recv_buffer_size {
        socket.set_recv_buffer_size(size)?;
    }
    if let Some(size) = tcp.send_buffer_size {
        socket.set_send_buffer_size(size)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(tcp.backlog).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}
