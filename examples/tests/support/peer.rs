use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};
use wsforge_core::frame::{Header, Opcode};

use super::{BLOCKED, PATIENCE, http, masked, masked_close, plain, plain_close};

/// The other end of a program's socket, byte by byte. It waits for nothing longer than [`PATIENCE`].
#[derive(Debug)]
pub struct Peer(pub TcpStream);

/// An HTTP answer, after which the connection has ended.
#[derive(Debug)]
pub struct Answer {
    pub status: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Peer {
    pub fn new(socket: TcpStream) -> Self {
        socket.set_nodelay(true).expect("a socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
        socket.set_write_timeout(Some(PATIENCE)).expect("a socket");
        Self(socket)
    }

    pub fn dial(address: SocketAddr) -> Self {
        Self::new(TcpStream::connect(address).expect("somebody listens"))
    }

    /// A client whose system holds little of what it does not read.
    pub fn dial_narrow(address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.set_recv_buffer_size(16 * 1024).expect("a size");
        socket.connect(&address.into()).expect("somebody listens");
        Self::new(socket.into())
    }

    /// Shakes hands.
    pub fn open(&mut self) {
        self.send(&http::request("", &[]));
        self.expect(&http::answer("", &[]));
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).expect("the program reads");
    }

    /// Reads `len` bytes, or fewer if that is all.
    pub fn take(&self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len);
        (&self.0).take(len as u64).read_to_end(&mut bytes).expect("more to read");
        bytes
    }

    /// As [`take`](Self::take), and takes a reset for the end: a server that is stopped may end
    /// connections with bytes that it has not read.
    pub fn take_unless_reset(&self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len);
        match (&self.0).take(len as u64).read_to_end(&mut bytes) {
            Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("{error}"),
            _ => bytes,
        }
    }

    /// Reads `expected` and not a byte more.
    pub fn expect(&self, expected: &[u8]) {
        assert_bytes(&self.take(expected.len()), expected);
    }

    /// Reads `expected` and then the end, which must not be a reset.
    pub fn expect_last(&mut self, expected: &[u8]) {
        let bytes = self.rest();
        assert_bytes(&bytes, expected);
    }

    /// Reads a Close with `code` and then the end, which must not be a reset.
    pub fn expect_last_close(&mut self, code: u16) {
        let bytes = self.rest();
        let [0x88, len, high, low, reason @ ..] = &bytes[..] else {
            panic!("no Close: {}", bytes[..bytes.len().min(200)].escape_ascii());
        };
        assert_eq!(u16::from_be_bytes([*high, *low]), code);
        assert_eq!(usize::from(*len), 2 + reason.len(), "the Close stands alone");
    }

    /// Everything up to the end, which must not be a reset.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.0.read_to_end(&mut bytes).expect("an end, and no reset");
        bytes
    }

    pub fn assert_echo(&mut self, text: &[u8]) {
        self.send(&masked(Opcode::Text, true, text));
        self.expect(&plain(Opcode::Text, true, text));
    }

    /// Sends a text.
    pub fn say(&mut self, text: &str) {
        self.send(&masked(Opcode::Text, true, text.as_bytes()));
    }

    /// Reads `text` and not a byte more.
    pub fn hears(&self, text: &str) {
        self.expect(&plain(Opcode::Text, true, text.as_bytes()));
    }

    /// Reads a text, whatever it says.
    pub fn text(&self) -> String {
        let mut bytes = Vec::new();
        let header = loop {
            bytes.push(self.byte());
            if let Some((header, _)) = Header::parse(&bytes).expect("valid") {
                break header;
            }
        };
        assert_eq!((header.opcode, header.fin, header.mask), (Opcode::Text, true, None));
        String::from_utf8(self.take(header.len as usize)).expect("UTF-8")
    }

    /// Waits until all that it has said has been heard.
    pub fn is_heard(&mut self) {
        self.send(&masked(Opcode::Ping, true, b"?"));
        self.expect(&plain(Opcode::Pong, true, b"?"));
    }

    /// A closing handshake begun by this client.
    pub fn close(mut self) {
        self.send(&masked_close(1000, "done"));
        self.expect_last(&plain_close(1000, ""));
    }

    /// Ends the connection in the rude way.
    pub fn reset(self) {
        SockRef::from(&self.0).set_linger(Some(Duration::ZERO)).expect("a socket");
    }

    /// Ends the writing side only.
    pub fn half_close(&self) {
        self.0.shutdown(Shutdown::Write).expect("connected");
    }

    /// Sends `bytes`. If the program takes nothing for a while, calls `blocked`, once, and goes on.
    /// Returns whether it did.
    pub fn send_blocking(&mut self, mut bytes: &[u8], blocked: impl FnOnce()) -> bool {
        let mut blocked = Some(blocked);
        self.0.set_write_timeout(Some(BLOCKED)).expect("a socket");
        while !bytes.is_empty() {
            match self.0.write(bytes) {
                Ok(n) => bytes = &bytes[n..],
                Err(error) if is_timeout(&error) && blocked.is_some() => {
                    self.0.set_write_timeout(Some(PATIENCE)).expect("a socket");
                    blocked.take().into_iter().for_each(|blocked| blocked());
                }
                Err(error) => panic!("{error}"),
            }
        }
        blocked.is_none()
    }

    /// Sends `bytes` over and over until the program takes nothing more, for which `most` bytes must
    /// suffice.
    pub fn fill(&mut self, bytes: &[u8], most: usize) {
        self.0.set_write_timeout(Some(BLOCKED)).expect("a socket");
        let mut sent = 0;
        while sent < most {
            match self.0.write(&bytes[sent % bytes.len()..]) {
                Ok(n) => sent += n,
                Err(error) if is_timeout(&error) => {
                    return self.0.set_write_timeout(Some(PATIENCE)).expect("a socket");
                }
                Err(error) => panic!("after {sent} bytes: {error}"),
            }
        }
        panic!("{sent} bytes and no back-pressure");
    }

    /// Sends a request and reads an answer with which the connection ends.
    pub fn ask(&mut self, request: &[u8]) -> Answer {
        self.send(request);
        self.answer()
    }

    /// Reads an HTTP answer, which must be complete when the connection ends.
    pub fn answer(&mut self) -> Answer {
        let bytes = self.rest();
        let at = bytes.windows(4).position(|end| end == b"\r\n\r\n").expect("a whole head");
        let head = String::from_utf8(bytes[..at].to_vec()).expect("ASCII");
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 "));
        let status = status.expect("a status").into();
        let header = |line: &str| {
            let (name, value) = line.split_once(": ").expect("a header");
            (name.into(), value.into())
        };
        let headers = lines.map(header).collect();
        let answer = Answer { status, headers, body: bytes[at + 4..].to_vec() };
        assert_eq!(answer.header("Content-Length"), answer.body.len().to_string());
        assert!(answer.header("Connection").ends_with("close"), "{answer:?}");
        answer
    }
}

impl Answer {
    /// The header `name`, of which there must be one.
    pub fn header(&self, name: &str) -> &str {
        let mut values = self.headers.iter().filter(|header| header.0 == name);
        let (Some((_, value)), None) = (values.next(), values.next()) else {
            panic!("not one {name}: {self:?}");
        };
        value
    }
}

/// Whether a read or a write took as long as it may.
fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock)
}

/// As `assert_eq`, for what nobody wants to see whole.
fn assert_bytes(bytes: &[u8], expected: &[u8]) {
    if bytes == expected {
        return;
    }
    let at = bytes.iter().zip(expected).take_while(|(a, b)| a == b).count();
    let show = |bytes: &[u8]| bytes[at..bytes.len().min(at + 100)].escape_ascii().to_string();
    panic!(
        "{} bytes where {} are expected; they differ from byte {at} on: {} where {} is expected",
        bytes.len(),
        expected.len(),
        show(bytes),
        show(expected),
    );
}
