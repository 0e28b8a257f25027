//! A WebSocket as a stream of bytes.
#![cfg(feature = "tokio")]

use std::io::ErrorKind;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy, copy_bidirectional, duplex, split};
use tokio::net::{TcpListener, TcpStream};
use wsforge::tokio::{Io, accept, connect, listen};
use wsforge::{ByteStream, CloseCode, WebSocket};

/// Nothing that works takes nearly as long.
const PATIENCE: Duration = Duration::from_secs(60);

const LEN: usize = 10 * 1024 * 1024;

async fn bind() -> (TcpListener, String) {
    let listener = listen(([127, 0, 0, 1], 0).into()).expect("a free port");
    let url = format!("ws://{}/", listener.local_addr().expect("bound"));
    (listener, url)
}

/// A server and its client.
async fn pair() -> (WebSocket, WebSocket) {
    let (listener, url) = bind().await;
    let serving = async {
        let (socket, _) = listener.accept().await.expect("a client");
        accept(socket).await.expect("a request").accept().await.expect("a WebSocket")
    };
    let (server, client) = tokio::join!(serving, connect(url));
    (server, client.expect("connected"))
}

/// Bytes that differ by position and by `seed`.
fn bytes(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|at| (at.wrapping_mul(31) ^ (at >> 8) ^ seed) as u8).collect()
}

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it does not hang")
}

#[tokio::test]
async fn what_is_written_is_read_on_the_other_side_both_ways_at_once() {
    let (server, client) = pair().await;
    // Each half in a task of its own.
    let tasks = [(server, 1), (client, 2)].map(|(socket, seed)| {
        let (mut read, mut write) = split(socket.into_io());
        let writing = tokio::spawn(async move {
            let sent = bytes(LEN, seed);
            assert_eq!(copy(&mut &sent[..], &mut write).await.expect("it is open"), LEN as u64);
            write
        });
        let reading = tokio::spawn(async move {
            let mut received = vec![0; LEN];
            read.read_exact(&mut received).await.expect("all of it");
            assert!(received == bytes(LEN, 3 - seed), "something else was read");
            read
        });
        (reading, writing)
    });
    in_time(async {
        let mut streams: Vec<ByteStream> = Vec::new();
        for (reading, writing) in tasks {
            let (read, write) = tokio::join!(reading, writing);
            streams.push(read.expect("no panic").unsplit(write.expect("no panic")));
        }
        let [server, client] = &mut streams[..] else { unreachable!() };
        let (closed, end) = tokio::join!(client.shutdown(), server.read_u8());
        closed.expect("it is open");
        assert_eq!(end.expect_err("the end").kind(), ErrorKind::UnexpectedEof);
        assert_eq!(server.close_info().map(|info| (info.code, info.clean)), Some((1000, true)));
        assert_eq!(client.read(&mut [0]).await.expect("a proper end"), 0);
    })
    .await;
}

/// A TCP connection in a WebSocket in a TCP connection.
#[tokio::test]
async fn a_tunnel_carries_a_connection_to_its_end() {
    let (echo, _) = bind().await;
    let address = echo.local_addr().expect("bound");
    tokio::spawn(async move {
        let (mut socket, _) = echo.accept().await.expect("a client");
        let (mut read, mut write) = socket.split();
        copy(&mut read, &mut write).await.expect("an echo");
    });
    let (server, client) = pair().await;
    let far = tokio::spawn(async move {
        let mut socket = TcpStream::connect(address).await.expect("it listens");
        copy_bidirectional(&mut server.into_io(), &mut socket).await
    });
    let (mut user, mut near) = duplex(1024);
    let near =
        tokio::spawn(async move { copy_bidirectional(&mut near, &mut client.into_io()).await });
    in_time(async {
        let sent = bytes(LEN, 0);
        let (mut read, mut write) = split(&mut user);
        let mut received = vec![0; LEN];
        let (written, read) = tokio::join!(write.write_all(&sent), read.read_exact(&mut received));
        written.expect("it is open");
        read.expect("all of it");
        assert!(sent == received);
        user.shutdown().await.expect("a stream");
        assert_eq!(user.read(&mut [0]).await.expect("a proper end"), 0);
        let lens = (LEN as u64, LEN as u64);
        assert_eq!(near.await.expect("no panic").expect("a proper end"), lens);
        assert_eq!(far.await.expect("no panic").expect("a proper end"), lens);
    })
    .await;
}

#[tokio::test]
async fn boundaries_of_messages_are_lost_and_empty_ones_are_no_end() {
    let (mut server, client) = pair().await;
    let mut client = client.into_io();
    in_time(async {
        for message in ["", "ab", "", "cde"] {
            server.send(message).await.expect("it is open");
        }
        server.send(vec![b'f']).await.expect("it is open");
        let mut four = [0; 4];
        client.read_exact(&mut four).await.expect("so many came");
        assert_eq!(&four, b"abcd");
        // Whatever the reason.
        let closing = server.close(CloseCode::GOING_AWAY, "");
        let mut rest = Vec::new();
        let (_, read) = tokio::join!(closing, client.read_to_end(&mut rest));
        assert_eq!((read.expect("a proper end"), &rest[..]), (2, &b"ef"[..]));
        let error = client.write(b"late").await.expect_err("it is closed");
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        client.flush().await.expect("nothing is lost");
        client.shutdown().await.expect("nothing is lost");
    })
    .await;
}

#[tokio::test]
async fn each_write_is_a_binary_message_of_some_length() {
    let (mut server, client) = pair().await;
    let mut client = client.into_io();
    in_time(async {
        assert_eq!(client.write(b"").await.expect("it is open"), 0);
        assert_eq!(client.write(b"abc").await.expect("it is open"), 3);
        assert_eq!(server.recv().await, Some(b"abc".to_vec().into()));
        let len = client.write(&bytes(LEN, 0)).await.expect("it is open");
        assert_eq!(len, 64 * 1024);
        let (_, message) = tokio::join!(client.flush(), server.recv());
        assert_eq!(message, Some(bytes(len, 0).into()));
    })
    .await;
}

#[tokio::test]
async fn an_end_without_a_close_is_an_error() {
    let (server, mut client) = duplex(1024);
    let request = "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    in_time(async {
        client.write_all(request.as_bytes()).await.expect("room");
        let handshake = accept(Io::new(server)).await.expect("a request");
        let mut server = handshake.accept().await.expect("a WebSocket").into_io();
        // A masked message of three bytes, and the start of another.
        client.write_all(b"\x82\x83\0\0\0\0abc\x82").await.expect("room");
        let mut three = [0; 3];
        server.read_exact(&mut three).await.expect("so many came");
        assert_eq!(&three, b"abc");
        drop(client);
        let error = server.read(&mut [0]).await.expect_err("no proper end");
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
        assert_eq!(server.flush().await.expect_err("gone").kind(), ErrorKind::BrokenPipe);
        assert_eq!(server.write(b"x").await.expect_err("gone").kind(), ErrorKind::BrokenPipe);
    })
    .await;
}
