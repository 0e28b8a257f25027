//! A WebSocket as a stream of bytes.

#[macro_use]
mod support;

use std::io::ErrorKind;

use support::{Rt, Tunnel, Wire};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy, copy_bidirectional, duplex, split};
use wsforge::{CloseCode, Options, WebSocket};

const LEN: usize = 4 * 1024 * 1024;

/// A server and its client.
async fn pair(rt: Rt) -> (WebSocket, WebSocket) {
    rt.pair(Options::default(), Options::default()).await
}

/// Bytes that differ by position and by `seed`.
fn bytes(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|at| (at.wrapping_mul(31) ^ (at >> 8) ^ seed) as u8).collect()
}

behaviours! {
    async fn what_is_written_is_read_on_the_other_side_both_ways_at_once(rt: Rt) {
        let (server, client) = pair(rt).await;
        // Each half in a task of its own.
        let tasks = [(server, 1), (client, 2)].map(|(socket, seed)| {
            let (mut read, mut write) = split(rt.tunnel(socket));
            let writing = rt.spawn(async move {
                let sent = bytes(LEN, seed);
                assert_eq!(copy(&mut &sent[..], &mut write).await.expect("it is open"), LEN as u64);
                write
            });
            let reading = rt.spawn(async move {
                let mut received = vec![0; LEN];
                read.read_exact(&mut received).await.expect("all of it");
                assert!(received == bytes(LEN, 3 - seed), "something else was read");
                read
            });
            (reading, writing)
        });
        let mut streams: Vec<Tunnel> = Vec::new();
        for (reading, writing) in tasks {
            let (read, write) = tokio::join!(reading, writing);
            streams.push(read.unsplit(write));
        }
        let [server, client] = &mut streams[..] else { unreachable!() };
        let (closed, end) = tokio::join!(client.shutdown(), server.read_u8());
        closed.expect("it is open");
        assert_eq!(end.expect_err("the end").kind(), ErrorKind::UnexpectedEof);
        assert_eq!(server.close_info().map(|info| (info.code, info.clean)), Some((1000, true)));
        assert_eq!(client.read(&mut [0]).await.expect("a proper end"), 0);
    }

    /// A TCP connection in a WebSocket in a TCP connection.
    async fn a_tunnel_carries_a_connection_to_its_end(rt: Rt) {
        let mut echo = rt.listen().await;
        let address = echo.address;
        rt.spawn(async move {
            let (mut read, mut write) = split(Wire(echo.accept().await));
            copy(&mut read, &mut write).await.expect("an echo");
        });
        let (server, client) = pair(rt).await;
        let far = rt.spawn(async move {
            let mut socket = rt.wire(address);
            copy_bidirectional(&mut rt.tunnel(server), &mut socket).await
        });
        let (mut user, mut near) = duplex(1024);
        let near =
            rt.spawn(async move { copy_bidirectional(&mut near, &mut rt.tunnel(client)).await });
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
        assert_eq!(near.await.expect("a proper end"), lens);
        assert_eq!(far.await.expect("a proper end"), lens);
    }

    async fn boundaries_of_messages_are_lost_and_empty_ones_are_no_end(rt: Rt) {
        let (mut server, client) = pair(rt).await;
        let mut client = rt.tunnel(client);
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
    }

    async fn each_write_is_a_binary_message_of_some_length(rt: Rt) {
        let (mut server, client) = pair(rt).await;
        let mut client = rt.tunnel(client);
        assert_eq!(client.write(b"").await.expect("it is open"), 0);
        assert_eq!(client.write(b"abc").await.expect("it is open"), 3);
        assert_eq!(server.recv().await, Some(b"abc".to_vec().into()));
        let len = client.write(&bytes(LEN, 0)).await.expect("it is open");
        assert_eq!(len, 64 * 1024);
        let (_, message) = tokio::join!(client.flush(), server.recv());
        assert_eq!(message, Some(bytes(len, 0).into()));
    }

    async fn an_end_without_a_close_is_an_error(rt: Rt) {
        let (server, mut client) = duplex(1024);
        let request = "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
            Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        client.write_all(request.as_bytes()).await.expect("room");
        let handshake = rt.accept(rt.io(server)).await.expect("a request");
        let mut server = rt.tunnel(handshake.accept().await.expect("a WebSocket"));
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
    }
}
