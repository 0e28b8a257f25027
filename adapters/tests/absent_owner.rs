//! What was accepted leaves when its peer reads again, though its owner does something else.
#![cfg(unix)]

#[macro_use]
mod support;

use std::time::Duration;

use support::{Frame, Raw, Rt, options, pattern, poll_times};
use wsforge::proto::frame::Opcode;
use wsforge::{CloseCode, Kind, Options, WebSocket};

/// More than a socket of the system takes while its peer does not read.
const LEN: usize = 1024 * 1024;

/// Nothing here may wait for the deadline that ends a stalled connection.
fn patient() -> Options {
    options(|o| {
        o.write_timeout = Duration::from_secs(600);
        o.protocol.close_timeout = Duration::from_secs(600);
    })
}

async fn open(rt: Rt) -> (WebSocket, Raw) {
    let (server, client) = rt.unix_pair();
    let mut raw = Raw::client(client);
    (rt.server_over(server, &mut raw, patient()).await, raw)
}

/// A server whose peer has yet to read what was accepted.
async fn blocked(rt: Rt) -> (WebSocket, Raw) {
    let (mut server, raw) = open(rt).await;
    server.send(pattern(LEN)).await.unwrap();
    assert!(server.sender().pending() > 0);
    (server, raw)
}

async fn reads(raw: &mut Raw) {
    let frame = raw.frame().await.unwrap();
    assert!(frame == Frame::new(Opcode::Binary, pattern(LEN)));
}

behaviours! {
    async fn it_has_sent(rt: Rt) {
        let (_server, mut raw) = blocked(rt).await;
        reads(&mut raw).await;
    }

    async fn it_has_given_up_to_send(rt: Rt) {
        let (mut server, mut raw) = blocked(rt).await;
        assert!(poll_times(1, server.send(pattern(LEN))).await.is_none());
        reads(&mut raw).await;
    }

    async fn it_has_given_up_to_feed(rt: Rt) {
        let (mut server, mut raw) = blocked(rt).await;
        assert!(poll_times(1, server.feed(pattern(LEN))).await.is_none());
        reads(&mut raw).await;
    }

    async fn it_has_given_up_to_flush(rt: Rt) {
        let (mut server, mut raw) = blocked(rt).await;
        assert!(poll_times(1, server.flush()).await.is_none());
        reads(&mut raw).await;
    }

    async fn it_has_given_up_to_receive(rt: Rt) {
        let (mut server, mut raw) = blocked(rt).await;
        assert!(poll_times(1, server.recv()).await.is_none());
        reads(&mut raw).await;
    }

    async fn it_has_given_up_to_write(rt: Rt) {
        let (mut server, mut raw) = blocked(rt).await;
        let mut writer = server.stream(Kind::Binary).await.unwrap();
        assert!(poll_times(1, writer.write(pattern(LEN))).await.is_none());
        reads(&mut raw).await;
    }

    async fn it_writes_a_long_message(rt: Rt) {
        let (mut server, mut raw) = open(rt).await;
        let mut writer = server.stream(Kind::Binary).await.unwrap();
        writer.write(pattern(LEN)).await.unwrap();
        let frame = raw.frame().await.unwrap();
        assert!(frame == Frame::fragment(Opcode::Binary, pattern(LEN)));
    }

    async fn it_has_given_up_to_close(rt: Rt) {
        let (mut server, mut raw) = blocked(rt).await;
        assert!(poll_times(1, server.close(CloseCode::NORMAL, "")).await.is_none());
        reads(&mut raw).await;
        assert_eq!(raw.frame().await, Some(Frame::close(1000, "")));
    }

    async fn somebody_else_has_closed(rt: Rt) {
        let (server, mut raw) = blocked(rt).await;
        server.sender().close(CloseCode::NORMAL, "");
        reads(&mut raw).await;
        assert_eq!(raw.frame().await, Some(Frame::close(1000, "")));
    }
}
