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

#[cfg(all(test, not(wsforge_loom)))]
mod tests {
    use socket2::SockRef;

    use super::*;

    const LOCAL: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

    #[test]
    fn sockets_are_set_up_as_they_are_to_be() {
        let plain = listen(&[LOCAL.into()], &Tcp::default(), false).unwrap();
        assert!(SockRef::from(&plain).tcp_nodelay().unwrap());
        let size = Some(20_000);
        let tcp =
            Tcp { backlog: 7, nodelay: false, recv_buffer_size: size, send_buffer_size: size };
        let listener = listen(&[LOCAL.into()], &tcp, false).unwrap();
        let socket = SockRef::from(&listener);
        assert!(!socket.tcp_nodelay().unwrap());
        // Linux doubles what it is asked for.
        assert!((20_000..=40_000).contains(&socket.recv_buffer_size().unwrap()));
        assert!((20_000..=40_000).contains(&socket.send_buffer_size().unwrap()));
        // It does not block.
        assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn the_first_address_that_can_be_is_listened_on() {
        // TEST-NET-1 is nobody's.
        let nobodys = ([192, 0, 2, 1], 80).into();
        let listener = listen(&[nobodys, LOCAL.into()], &Tcp::default(), false).unwrap();
        assert!(listener.local_addr().unwrap().ip().is_loopback());
        assert!(listen(&[nobodys], &Tcp::default(), false).is_err());
        assert!(listen(&[], &Tcp::default(), false).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn only_those_that_share_it_listen_on_the_same_address() {
        let (tcp, shared) = (Tcp::default(), true);
        let first = listen(&[LOCAL.into()], &tcp, shared).unwrap();
        let address = first.local_addr().unwrap();
        assert!(listen(&[address], &tcp, shared).is_ok());
        assert!(listen(&[address], &tcp, false).is_err());
    }
}
