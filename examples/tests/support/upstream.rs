//! Servers written out by hand.

use std::net::{SocketAddr, TcpListener};

use wsforge_core::frame::{Header, Opcode};
use wsforge_core::handshake::{Accept, Opening, Response};
use wsforge_core::{Config, Input, Output, Timestamp, mask};

use super::{Peer, http, plain_close};

/// A socket to be reached at an address.
pub fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    (listener, address)
}

pub fn accept(listener: &TcpListener) -> Peer {
    Peer::new(listener.accept().expect("a client").0)
}

impl Peer {
    /// Reads a client's request up to its end.
    pub fn head(&self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.byte());
        }
        String::from_utf8(head).expect("ASCII")
    }

    /// Reads a client's request, opens the connection and sends `early` in the same write. Returns the
    /// request.
    pub fn upgrade(&mut self, response: &Response<'_>, early: &[u8]) -> String {
        let head = self.head();
        let (mut bytes, mut output) = (head.clone().into_bytes(), Output::new());
        let mut accept = Accept::default();
        let mut input = Input::new(&mut bytes, Timestamp::ZERO);
        let Opening::Request(request) = accept.receive(&mut input, &mut output) else {
            panic!("{head}");
        };
        request.accept(response, Config::default().into(), &mut output).expect("accepted");
        output.put(early);
        self.send(&http::taken(&mut output));
        head
    }

    /// Reads one frame of a client.
    pub fn frame(&self) -> (Opcode, Vec<u8>) {
        let mut bytes = Vec::new();
        let header = loop {
            bytes.push(self.byte());
            if let Some((header, _)) = Header::parse(&bytes).expect("valid") {
                break header;
            }
        };
        let mut payload = self.take(header.len as usize);
        mask::apply(&mut payload, header.mask.expect("clients mask"));
        assert_eq!((header.fin, payload.len() as u64), (true, header.len));
        (header.opcode, payload)
    }

    pub fn byte(&self) -> u8 {
        *self.take(1).first().expect("not the end")
    }

    /// A closing handshake begun by this server.
    pub fn end(mut self) {
        self.send(&plain_close(1000, ""));
        self.expect_close(1000);
    }

    /// Reads the client's Close, which has a code alone.
    pub fn expect_close(&self, code: u16) {
        assert_eq!(self.frame(), (Opcode::Close, code.to_be_bytes().to_vec()));
    }
}
