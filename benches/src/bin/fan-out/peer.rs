//! As much of a client as this needs.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use socket2::{Domain, Socket, Type};

/// Opens a connection from `from`, with so much room for what is not read.
pub(crate) fn connect(
    to: SocketAddr,
    path: &str,
    from: Ipv4Addr,
    receive_buffer: Option<usize>,
) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    if let Some(bytes) = receive_buffer {
        socket.set_recv_buffer_size(bytes)?;
    }
    socket.bind(&SocketAddr::from((from, 0)).into())?;
    socket.connect(&to.into())?;
    socket.set_tcp_nodelay(true)?;
    let mut stream = TcpStream::from(socket);
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {to}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let (mut answer, mut len) = ([0; 1024], 0);
    while !answer[..len].ends_with(b"\r\n\r\n") {
        match stream.read(&mut answer[len..])? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            n => len += n,
        }
    }
    match answer.starts_with(b"HTTP/1.1 101 ") {
        true => Ok(stream),
        false => Err(io::Error::other(String::from_utf8_lossy(&answer[..len]))),
    }
}

/// A binary message of a client, or of a server. The mask is zero, so that what is known of the payload stays
/// true.
pub(crate) fn frame(payload: &[u8], of_client: bool) -> Vec<u8> {
    let masked = if of_client { 0x80 } else { 0 };
    let mut frame = vec![0x82];
    match payload.len() {
        len @ ..126 => frame.push(masked | len as u8),
        len @ ..0x1_0000 => {
            frame.push(masked | 126);
            frame.extend((len as u16).to_be_bytes());
        }
        len => {
            frame.push(masked | 127);
            frame.extend((len as u64).to_be_bytes());
        }
    }
    if of_client {
        frame.extend([0; 4]);
    }
    frame.extend(payload);
    frame
}

/// What a message to many begins with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stamp {
    /// Which it is.
    pub(crate) number: u32,
    /// Whether those who hold members are to tell what they have seen since the last such one.
    pub(crate) report: bool,
    /// When it was sent.
    pub(crate) sent: u64,
}

impl Stamp {
    pub(crate) const LEN: usize = 14;

    /// A message of `size` bytes, at least those of a stamp.
    pub(crate) fn message(self, size: usize) -> Vec<u8> {
        let mut message = vec![b'!', u8::from(self.report)];
        message.extend(self.number.to_be_bytes());
        message.extend(self.sent.to_be_bytes());
        message.resize(size.max(Self::LEN), b'.');
        message
    }

    /// `None` of what is none of these messages.
    pub(crate) fn of(message: &[u8]) -> Option<Self> {
        let (b"!", rest) = message.split_at_checked(1)? else { return None };
        let (report, rest) = rest.split_first()?;
        let (number, rest) = rest.split_first_chunk()?;
        let (sent, _) = rest.split_first_chunk()?;
        let (number, sent) = (u32::from_be_bytes(*number), u64::from_be_bytes(*sent));
        Some(Self { number, report: *report == 1, sent })
    }
}
