//! Peers that send whatever bytes they like, on blocking sockets, and servers for them to send it to.

// Each test uses its part.
#![allow(unused_imports, dead_code, unreachable_pub, missing_debug_implementations, missing_docs)]

use std::fmt;
use std::future::Future;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};
use tokio::sync::oneshot;
use wsforge::proto::frame::{Header, MAX_HEADER_LEN, Opcode};
use wsforge::{Answer, CloseInfo, Incoming, Options, Report, WebSocket};

#[path = "../support/mod.rs"]
mod support;
pub use support::{Crowd, Listener, Rt as Flavor, yield_now};

/// Nothing here takes so long, unless it never happens.
pub const FOREVER: Duration = Duration::from_secs(20);

/// Buffers of sockets that are to be full soon.
pub const TINY: usize = 64 * 1024;

/// An opening handshake.
pub const REQUEST: &str = "GET /chat HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\
     Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
     Sec-WebSocket-Version: 13\r\n\r\n";

/// Makes a test of each for every kind of runtime.
#[macro_export]
macro_rules! on_each_runtime {
    ($($(#[$meta:meta])* fn $name:ident($flavor:ident: Flavor) $body:block)*) => {$(
        $(#[$meta])*
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            fn test($flavor: Flavor) $body

            #[cfg(feature = "smol")]
            #[test]
            fn smol_current_thread() {
                test(Flavor::Smol);
            }

            #[cfg(feature = "smol")]
            #[test]
            fn smol_multi_thread() {
                test(Flavor::SmolThreads);
            }

            #[cfg(feature = "tokio")]
            #[test]
            fn tokio_current_thread() {
                test(Flavor::Tokio);
            }

            #[cfg(feature = "tokio")]
            #[test]
            fn tokio_multi_thread() {
                test(Flavor::TokioThreads);
            }
        }
    )*};
}

impl Flavor {
    /// As the tests of [`on_each_runtime`] are called.
    pub fn test_name(self, name: &str) -> String {
        let kind = match self {
            #[cfg(feature = "smol")]
            Self::Smol => "smol_current_thread",
            #[cfg(feature = "smol")]
            Self::SmolThreads => "smol_multi_thread",
            #[cfg(feature = "tokio")]
            Self::Tokio => "tokio_current_thread",
            #[cfg(feature = "tokio")]
            Self::TokioThreads => "tokio_multi_thread",
        };
        format!("{name}::{kind}")
    }
}

/// A server in a thread of its own.
pub struct Server {
    pub address: SocketAddr,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<Report>,
}

/// What is to be different from a plain server.
pub struct Setup {
    pub options: Options,
    pub patience: Duration,
    /// The sizes of the sockets' buffers.
    pub buffers: Option<usize>,
}

impl Default for Setup {
    fn default() -> Self {
        Self { options: Options::default(), patience: Duration::from_secs(10), buffers: None }
    }
}

impl From<Options> for Setup {
    fn from(options: Options) -> Self {
        Self { options, ..Self::default() }
    }
}

impl Server {
    /// Serves whoever asks for a WebSocket.
    pub fn start<F>(
        flavor: Flavor,
        setup: impl Into<Setup>,
        handle: impl Fn(WebSocket) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::decide(flavor, setup, |_: &Incoming<'_>| Answer::accept(), handle)
    }

    pub fn decide<F>(
        flavor: Flavor,
        setup: impl Into<Setup>,
        decide: impl Fn(&Incoming<'_>) -> Answer + Send + Sync + 'static,
        handle: impl Fn(WebSocket) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let Setup { options, patience, buffers } = setup.into();
        let (stop, stopped) = oneshot::channel();
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        if let Some(size) = buffers {
            // Those who are accepted inherit it.
            socket.set_send_buffer_size(size).unwrap();
            socket.set_recv_buffer_size(size).unwrap();
        }
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        socket.listen(1024).unwrap();
        let listener = std::net::TcpListener::from(socket);
        let address = listener.local_addr().unwrap();
        let run = async move {
            let socket = flavor.listener(listener);
            flavor
                .serve(socket, decide, handle)
                .options(options)
                .patience(patience)
                .shutdown(async { drop(stopped.await) })
                .await
        };
        let thread = thread::spawn(move || flavor.build().block_on(run));
        Self { address, stop, thread }
    }

    /// Stops it, and says what it says.
    pub fn stop(self) -> Report {
        drop(self.stop);
        self.thread.join().unwrap()
    }
}

/// Sends everything back.
pub async fn echo(mut socket: WebSocket) {
    while let Some(message) = socket.recv().await {
        if socket.send(message).await.is_err() {
            break;
        }
    }
}

/// How a connection ended, to be looked at elsewhere.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct End {
    pub code: u16,
    pub reason: String,
    pub clean: bool,
    pub error: Option<String>,
}

impl From<&CloseInfo> for End {
    fn from(info: &CloseInfo) -> Self {
        let error = info.error.as_ref().map(|error| format!("{error:?}"));
        Self { code: info.code, reason: info.reason.clone(), clean: info.clean, error }
    }
}

impl End {
    /// Whether what went wrong is `error`.
    pub fn is(&self, error: &str) -> bool {
        self.error.as_ref().is_some_and(|own| own.contains(error))
    }
}

/// An echo server, and how its connections end.
pub fn echo_server(flavor: Flavor, setup: impl Into<Setup>) -> (Server, mpsc::Receiver<End>) {
    let (ended, ends) = mpsc::channel();
    let server = Server::start(flavor, setup, move |mut socket| {
        let ended = ended.clone();
        async move {
            while let Some(message) = socket.recv().await {
                // Who is closed is still to be received from until the end.
                let _ = socket.send(message).await;
            }
            let _ = ended.send(socket.close_info().unwrap().into());
        }
    });
    (server, ends)
}

/// One end of a connection.
pub struct Raw(pub TcpStream);

#[derive(Clone, Eq, PartialEq)]
pub struct Frame {
    pub fin: bool,
    pub opcode: Opcode,
    pub payload: Vec<u8>,
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start = &self.payload[..self.payload.len().min(40)];
        let Self { fin, opcode, payload } = self;
        write!(f, "{opcode:?} {fin} {} {:?}", payload.len(), String::from_utf8_lossy(start))
    }
}

impl Frame {
    /// The code of a Close.
    pub fn code(&self) -> u16 {
        assert_eq!(self.opcode, Opcode::Close, "{self:?}");
        u16::from_be_bytes([self.payload[0], self.payload[1]])
    }
}

impl Raw {
    pub fn connect(address: SocketAddr) -> Self {
        Self::with(TcpStream::connect(address).unwrap())
    }

    /// One whose buffers are full soon.
    pub fn connect_tiny(address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_send_buffer_size(TINY).unwrap();
        socket.set_recv_buffer_size(TINY).unwrap();
        socket.connect(&address.into()).unwrap();
        Self::with(socket.into())
    }

    pub fn with(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(FOREVER)).unwrap();
        stream.set_write_timeout(Some(FOREVER)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(stream)
    }

    /// One whose handshake is done.
    pub fn open(address: SocketAddr) -> Self {
        Self::connect(address).opened()
    }

    pub fn open_tiny(address: SocketAddr) -> Self {
        Self::connect_tiny(address).opened()
    }

    fn opened(mut self) -> Self {
        self.send(REQUEST);
        let head = self.head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        self
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).unwrap();
    }

    pub fn send_frame(&mut self, opcode: Opcode, payload: impl AsRef<[u8]>) {
        self.send(frame(true, opcode, payload.as_ref()));
    }

    /// Reads an HTTP head, up to and with the blank line.
    pub fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            match self.0.read(&mut byte) {
                Ok(1) => head.push(byte[0]),
                other => panic!("{other:?} after {:?}", String::from_utf8_lossy(&head)),
            }
        }
        String::from_utf8(head).unwrap()
    }

    /// The status of an answer, of which the head is read.
    pub fn status(&mut self) -> u16 {
        let head = self.head();
        head.split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// Reads a frame of a server.
    pub fn frame(&mut self) -> Frame {
        self.try_frame().expect("a frame")
    }

    /// `None` at the end.
    pub fn try_frame(&mut self) -> Option<Frame> {
        let mut head = [0; 2];
        match self.0.read(&mut head[..1]) {
            Ok(0) => return None,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
            read => assert_eq!(read.unwrap(), 1),
        }
        self.0.read_exact(&mut head[1..]).unwrap();
        assert_eq!(head[0] & 0x70, 0, "reserved bits");
        let opcode = Opcode::from_bits(head[0] & 0xF).unwrap();
        let len = match head[1] {
            126 => {
                let mut len = [0; 2];
                self.0.read_exact(&mut len).unwrap();
                u16::from_be_bytes(len).into()
            }
            127 => {
                let mut len = [0; 8];
                self.0.read_exact(&mut len).unwrap();
                u64::from_be_bytes(len) as usize
            }
            len => usize::from(len),
        };
        let mut payload = vec![0; len];
        self.0.read_exact(&mut payload).unwrap();
        Some(Frame { fin: head[0] & 0x80 != 0, opcode, payload })
    }

    /// Sends a text and waits for its echo.
    pub fn echoes(&mut self, text: &str) {
        self.send_frame(Opcode::Text, text);
        let frame = self.frame();
        assert_eq!((frame.opcode, &*frame.payload), (Opcode::Text, text.as_bytes()));
    }

    /// Reads to the end, however it comes.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        match self.0.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
        }
        rest
    }

    /// Does a closing handshake.
    pub fn close(mut self) {
        self.send_frame(Opcode::Close, 1000_u16.to_be_bytes());
        assert_eq!(self.frame().code(), 1000);
        assert_eq!(self.rest(), b"");
    }

    pub fn finish(&self) {
        self.0.shutdown(Shutdown::Write).unwrap();
    }

    /// Ends it with an RST.
    pub fn reset(self) {
        SockRef::from(&self.0).set_linger(Some(Duration::ZERO)).unwrap();
    }
}

/// Sends to one who does not read until the sockets are full and some more waits; says how often.
pub fn stall(pending: impl Fn() -> usize, mut send: impl FnMut()) -> u64 {
    /// What the system has taken moves on until acknowledgements have come, which it delays.
    const DELAY: Duration = Duration::from_millis(100);
    let mut sent = 0;
    loop {
        while pending() < 32 * 1024 {
            send();
            sent += 1;
        }
        let before = pending();
        thread::sleep(DELAY);
        if pending() == before {
            return sent;
        }
    }
}

/// A client's frame.
pub fn frame(fin: bool, opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let key = [7, 0, 255, 1];
    let len = payload.len() as u64;
    let header = Header { fin, rsv1: false, opcode, mask: Some(key), len };
    let mut head = [0; MAX_HEADER_LEN];
    let head_len = header.encode(&mut head);
    let masked = payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key);
    head[..head_len].iter().copied().chain(masked).collect()
}

/// A handshake without the header `without`, but with these lines.
pub fn request(without: &str, lines: &[&str]) -> String {
    let own = REQUEST.trim_end().split("\r\n");
    let kept = own.filter(|line| without.is_empty() || !line.starts_with(without));
    let lines = kept.chain(lines.iter().copied());
    lines.flat_map(|line| [line, "\r\n"]).chain(["\r\n"]).collect()
}
