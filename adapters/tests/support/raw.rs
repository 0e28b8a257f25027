//! A peer that is worked by hand: it writes any bytes, and reads frames.

use std::future::poll_fn;
use std::io::{self, ErrorKind, IoSlice};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use wsforge::proto::frame::{Header, MAX_HEADER_LEN, Opcode};
use wsforge::proto::handshake::{Request, Response};
use wsforge::proto::{Output, Timestamp, mask};
use wsforge::runtime::Transport;

pub const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

/// A frame as a peer sees it, unmasked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Frame {
    pub fin: bool,
    pub opcode: Opcode,
    pub payload: Vec<u8>,
}

impl Frame {
    pub fn new(opcode: Opcode, payload: impl AsRef<[u8]>) -> Self {
        Self { fin: true, opcode, payload: payload.as_ref().to_vec() }
    }

    pub fn fragment(opcode: Opcode, payload: impl AsRef<[u8]>) -> Self {
        Self { fin: false, ..Self::new(opcode, payload) }
    }

    pub fn text(text: &str) -> Self {
        Self::new(Opcode::Text, text)
    }

    pub fn close(code: u16, reason: &str) -> Self {
        Self::new(Opcode::Close, close_body(code, reason))
    }
}

pub fn close_body(code: u16, reason: &str) -> Vec<u8> {
    [&code.to_be_bytes(), reason.as_bytes()].concat()
}

/// A frame's bytes.
pub fn encode(frame: &Frame, mask: Option<[u8; 4]>) -> Vec<u8> {
    let len = frame.payload.len() as u64;
    let header = Header { fin: frame.fin, rsv1: false, opcode: frame.opcode, mask, len };
    let mut head = [0; MAX_HEADER_LEN];
    let head_len = header.encode(&mut head);
    let mut bytes = head[..head_len].to_vec();
    bytes.extend_from_slice(&frame.payload);
    if let Some(key) = mask {
        mask::apply(&mut bytes[head_len..], key);
    }
    bytes
}

pub struct Raw {
    io: Box<dyn Transport>,
    /// The same socket, where it is one of TCP.
    socket: Option<TcpStream>,
    /// What has been read and not been looked at.
    pub buf: Vec<u8>,
    /// That of the frames it sends: a client's must have one.
    pub mask: Option<[u8; 4]>,
    /// How often something was read.
    pub reads: usize,
}

impl Raw {
    pub fn client(io: impl Transport) -> Self {
        Self { mask: Some(MASK), ..Self::server(io) }
    }

    pub fn server(io: impl Transport) -> Self {
        Self { io: Box::new(io), socket: None, buf: Vec::new(), mask: None, reads: 0 }
    }

    pub fn with_socket(self, socket: TcpStream) -> Self {
        Self { socket: Some(socket), ..self }
    }

    /// Writes all of `bytes`.
    ///
    /// # Panics
    ///
    /// If the other side is gone.
    pub async fn write(&self, bytes: impl AsRef<[u8]>) {
        self.try_write(bytes.as_ref()).await.expect("the other side is there");
    }

    pub async fn try_write(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let n = poll_fn(|cx| self.io.poll_write(cx, &[IoSlice::new(bytes)])).await?;
            bytes = &bytes[n..];
        }
        poll_fn(|cx| self.io.poll_flush(cx)).await
    }

    pub async fn send(&self, frame: Frame) {
        let bytes = encode(&frame, self.mask);
        self.write(bytes).await;
    }

    pub async fn send_text(&self, text: &str) {
        self.send(Frame::text(text)).await;
    }

    /// Reads once; `false` at the end.
    pub async fn read(&mut self) -> io::Result<bool> {
        let mut read = vec![0; 64 * 1024];
        let n = poll_fn(|cx| self.io.poll_read(cx, &mut read)).await?;
        self.buf.extend_from_slice(&read[..n]);
        self.reads += usize::from(n > 0);
        Ok(n > 0)
    }

    /// Reads until `n` bytes are there that have not been looked at.
    pub async fn fill(&mut self, n: usize) {
        while self.buf.len() < n {
            assert!(self.read().await.unwrap(), "it ended after {} bytes of {n}", self.buf.len());
        }
    }

    /// The head of a request or an answer.
    pub async fn head(&mut self) -> String {
        loop {
            if let Some(end) = self.buf.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                let head = self.buf.drain(..end + 4).collect();
                return String::from_utf8(head).unwrap();
            }
            assert!(self.read().await.unwrap(), "it ended inside a head: {:?}", self.buf);
        }
    }

    /// The next frame; `None` at the end.
    pub async fn frame(&mut self) -> Option<Frame> {
        loop {
            if let Some((header, at)) = Header::parse(&self.buf).unwrap()
                && let Some(end) = at.checked_add(header.len as usize)
                && self.buf.len() >= end
            {
                assert_eq!(header.mask.is_some(), self.mask.is_none(), "only clients mask");
                let mut payload: Vec<u8> = self.buf.drain(..end).skip(at).collect();
                if let Some(key) = header.mask {
                    mask::apply(&mut payload, key);
                }
                return Some(Frame { fin: header.fin, opcode: header.opcode, payload });
            }
            if !self.read().await.unwrap() {
                assert!(self.buf.is_empty(), "it ended inside a frame: {:?}", self.buf);
                return None;
            }
        }
    }

    /// So many frames.
    pub async fn frames(&mut self, n: usize) -> Vec<Frame> {
        let mut frames = Vec::new();
        while frames.len() < n {
            frames.push(self.frame().await.expect("another frame"));
        }
        frames
    }

    /// Everything to the end, orderly or not.
    pub async fn rest(&mut self) -> Vec<u8> {
        while let Ok(true) = self.read().await {}
        std::mem::take(&mut self.buf)
    }

    /// Opens a connection as a client.
    pub async fn open(&mut self) {
        self.write(REQUEST).await;
        let head = self.head().await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    }

    /// Opens a connection as a server; gives the request.
    pub async fn answer(&mut self) -> String {
        let head = self.head().await;
        self.write(answer_to(&head)).await;
        head
    }

    /// Ends the writing side.
    pub async fn shut_down(&self) {
        match &self.socket {
            Some(socket) => socket.shutdown(Shutdown::Write).unwrap(),
            None => poll_fn(|cx| self.io.poll_shutdown(cx)).await.unwrap(),
        }
    }

    /// Takes as little as the system can be made to.
    pub fn shrink(&self) {
        let socket = self.socket.as_ref().expect("a socket of TCP");
        SockRef::from(socket).set_recv_buffer_size(4096).unwrap();
    }

    /// Breaks off with a reset.
    pub fn reset(self) {
        let socket = self.socket.as_ref().expect("a socket of TCP");
        SockRef::from(socket).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Answers the Close that comes next and sees the end.
    pub async fn finish(&mut self) {
        let close = self.frame().await.expect("a Close");
        assert_eq!(close.opcode, Opcode::Close);
        self.send(close).await;
        // A server ends at once, a client waits for its server.
        if self.mask.is_some() {
            assert_eq!(self.frame().await, None);
        }
    }
}

/// The key of the example in RFC 6455 section 1.3.
pub const REQUEST: &[u8] = b"GET /chat HTTP/1.1\r\nHost: a.example\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Version: 13\r\n\r\n";

/// A plain answer to a request.
pub fn answer_to(head: &str) -> Vec<u8> {
    let request = Request::parse(head.as_bytes(), Timestamp::ZERO).unwrap();
    let mut output = Output::new();
    request.accept(&Response::default(), Arc::default(), &mut output).unwrap();
    output.slices().flatten().copied().collect()
}

/// Whether an error is what a peer gets whose other side is gone.
pub fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}
