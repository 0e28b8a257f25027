//! The ends of a connection.

#[macro_use]
mod support;

use std::io::ErrorKind;
use std::time::Duration;

use support::{Frame, Rt, encode, options, text_of};
use wsforge::proto::frame::Opcode;
use wsforge::proto::{Error, Initiator};
use wsforge::{Answer, CloseCode, CloseInfo, Closed, ConnectionError, Kind, Options, SendError};

/// What is told of an end without an error.
fn summary(info: &CloseInfo) -> (u16, &str, Initiator, bool) {
    assert!(info.error.is_none(), "{info:?}");
    (info.code, &info.reason, info.initiator, info.clean)
}

fn short() -> Options {
    options(|o| o.protocol.close_timeout = Duration::from_millis(200))
}

behaviours! {
    async fn the_peer_closes_with_code_and_reason(rt: Rt) {
        let (mut server, mut raw) = rt.server(Options::default()).await;
        raw.send_text("last").await;
        raw.send(Frame::close(4001, "bye")).await;
        assert!(server.close_info().is_none());
        assert_eq!(server.recv().await, Some("last".into()));
        assert_eq!(server.recv().await, None);
        let info = server.close_info().unwrap();
        assert_eq!(summary(info), (4001, "bye", Initiator::Peer, true));
        assert_eq!(raw.frame().await.unwrap().payload, 4001_u16.to_be_bytes());
        assert_eq!(raw.frame().await, None);
        // And it stays so.
        assert_eq!(server.recv().await, None);
        assert!(server.close_info().is_some());
    }

    async fn the_peer_closes_without_a_code(rt: Rt) {
        let (mut server, mut raw) = rt.server(Options::default()).await;
        raw.send(Frame::new(Opcode::Close, "")).await;
        assert_eq!(server.recv().await, None);
        let info = server.close_info().unwrap();
        assert_eq!(summary(info), (1005, "", Initiator::Peer, true));
        assert_eq!(raw.frame().await, Some(Frame::new(Opcode::Close, "")));
    }

    async fn we_close_and_the_peer_answers(rt: Rt) {
        let (mut server, mut client) = rt.pair(Options::default(), Options::default()).await;
        let peer = rt.spawn(async move {
            assert_eq!(client.recv().await, Some("last".into()));
            assert_eq!(client.recv().await, None);
            client
        });
        server.send("last").await.unwrap();
        let info = server.close(CloseCode::GOING_AWAY, "enough").await;
        // The answer repeats the code, not the reason.
        assert_eq!(summary(info), (1001, "", Initiator::Local, true));
        let client = peer.await;
        let info = client.close_info().unwrap();
        assert_eq!(summary(info), (1001, "enough", Initiator::Peer, true));
    }

    async fn a_client_closes_and_waits_for_its_server(rt: Rt) {
        let (mut client, mut raw) = rt.client(Options::default()).await;
        let close = rt.spawn(async move {
            let info = client.close(CloseCode::NORMAL, "").await;
            (info.code, info.clean)
        });
        assert_eq!(raw.frame().await, Some(Frame::close(1000, "")));
        // Data behind our Close is dropped.
        raw.send_text("late").await;
        raw.send(Frame::close(1000, "")).await;
        drop(raw);
        assert_eq!(close.await, (1000, true));
    }

    async fn a_long_reason_is_cut_between_characters(rt: Rt) {
        let (mut server, mut raw) = rt.server(Options::default()).await;
        let reason = "\u{e4}".repeat(100);
        let close = rt.spawn(async move {
            server.close(CloseCode::POLICY, &reason).await.code
        });
        let cut = "\u{e4}".repeat(61);
        assert_eq!(raw.frame().await, Some(Frame::close(1008, &cut)));
        raw.send(Frame::close(1008, "")).await;
        assert_eq!(close.await, 1008);
    }

    async fn messages_before_the_answer_are_received_after_a_senders_close(rt: Rt) {
        let (mut server, mut raw) = rt.server(Options::default()).await;
        server.sender().close(CloseCode::NORMAL, "done");
        server.sender().close(CloseCode::POLICY, "a second one does nothing");
        assert!(server.sender().is_closed());
        assert_eq!(raw.frame().await, Some(Frame::close(1000, "done")));
        raw.send_text("one").await;
        raw.send_text("two").await;
        raw.send(Frame::close(1000, "done")).await;
        assert_eq!(support::texts(&mut server).await, ["one", "two"]);
        let info = server.close_info().unwrap();
        assert_eq!(summary(info), (1000, "done", Initiator::Local, true));
        assert_eq!(raw.frame().await, None);
    }

    async fn an_end_without_a_close_is_not_clean(rt: Rt) {
        let (mut server, raw) = rt.server(Options::default()).await;
        raw.send_text("last").await;
        raw.shut_down().await;
        assert_eq!(text_of(&server.recv().await.unwrap()), "last");
        assert_eq!(server.recv().await, None);
        let info = server.close_info().unwrap();
        assert_eq!((info.code, &*info.reason, info.clean), (1006, "", false));
        assert_eq!(info.initiator, Initiator::Peer);
        let error = info.error.as_ref().unwrap();
        assert!(matches!(error, ConnectionError::Protocol(Error::UnexpectedEof)), "{error}");
    }

    async fn an_end_inside_a_message_loses_it(rt: Rt) {
        let (mut server, raw) = rt.server(Options::default()).await;
        let frame = encode(&Frame::text("never whole"), raw.mask);
        raw.write(&frame[..frame.len() - 1]).await;
        raw.shut_down().await;
        assert_eq!(server.recv().await, None);
        assert_eq!(server.close_info().unwrap().code, 1006);
    }

    async fn a_reset_is_an_error_of_the_transport(rt: Rt) {
        let (mut server, raw) = rt.server(Options::default()).await;
        raw.reset();
        assert_eq!(server.recv().await, None);
        let info = server.close_info().unwrap();
        assert_eq!((info.code, info.clean), (1006, false));
        let Some(ConnectionError::Io(error)) = &info.error else { panic!("{info:?}") };
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }

    async fn a_broken_protocol_is_told_to_the_peer(rt: Rt) {
        let cases = [
            (encode(&Frame::text("a"), None), Error::WrongMasking, 1002),
            (vec![0x83, 0x80, 0, 0, 0, 0], Error::BadOpcode, 1002),
            (encode(&Frame::new(Opcode::Text, [0xFF]), Some([0; 4])), Error::BadUtf8, 1007),
            (encode(&Frame::close(1005, ""), Some([0; 4])), Error::BadClose, 1002),
        ];
        for (bytes, wanted, code) in cases {
            let (mut server, mut raw) = rt.server(Options::default()).await;
            raw.write(bytes).await;
            let (received, close) = tokio::join!(server.recv(), async {
                let close = raw.frame().await.unwrap();
                // The connection lingers until it is heard that we are done.
                raw.shut_down().await;
                close
            });
            assert_eq!(received, None);
            assert_eq!(close.payload[..2], u16::to_be_bytes(code));
            let info = server.close_info().unwrap();
            assert_eq!((info.code, info.clean, info.initiator), (1006, false, Initiator::Local));
            assert!(
                matches!(info.error, Some(ConnectionError::Protocol(error)) if error == wanted),
                "{info:?}"
            );
        }
    }

    async fn a_peer_that_never_answers_our_close_is_left(rt: Rt) {
        let (mut server, mut raw) = rt.server(short()).await;
        let info = server.close(CloseCode::NORMAL, "").await;
        assert_eq!((info.code, info.clean, info.initiator), (1006, false, Initiator::Local));
        let error = info.error.as_ref().unwrap();
        assert!(matches!(error, ConnectionError::Protocol(Error::CloseTimeout)), "{error}");
        drop(server);
        assert_eq!(raw.frame().await, Some(Frame::close(1000, "")));
        assert_eq!(raw.frame().await, None);
    }

    async fn a_peer_that_takes_nothing_is_left_when_we_close(rt: Rt) {
        let (mut server, raw) = rt.server(short()).await;
        let sender = server.sender();
        while sender.try_send(vec![0; 100_000]).is_ok() {}
        let info = server.close(CloseCode::NORMAL, "").await;
        assert_eq!((info.code, info.clean), (1006, false));
        assert!(info.error.is_some());
        drop(raw);
    }

    async fn a_peer_that_stops_reading_is_cut_off(rt: Rt) {
        let limits = options(|o| o.write_timeout = Duration::from_millis(300));
        let (mut server, raw) = rt.server(limits).await;
        let unsent = loop {
            match server.send(vec![0; 100_000]).await {
                Ok(()) => {}
                Err(error) => break error,
            }
        };
        assert_eq!(unsent.into_message().as_bytes().len(), 100_000);
        assert_eq!(server.recv().await, None);
        let info = server.close_info().unwrap();
        assert!(matches!(info.error, Some(ConnectionError::Stalled)), "{info:?}");
        assert!(!info.clean);
        drop(raw);
    }

    async fn a_silent_peer_is_cut_off(rt: Rt) {
        let limits = options(|o| {
            o.protocol.ping_interval = Some(Duration::from_millis(200));
            o.protocol.pong_timeout = Duration::from_millis(200);
            o.protocol.close_timeout = Duration::from_millis(200);
        });
        let (mut server, mut raw) = rt.server(limits).await;
        assert_eq!(server.recv().await, None);
        let info = server.close_info().unwrap();
        assert!(
            matches!(info.error, Some(ConnectionError::Protocol(Error::PongTimeout))),
            "{info:?}"
        );
        assert_eq!(raw.frame().await.unwrap().opcode, Opcode::Ping);
        assert_eq!(raw.frame().await.unwrap().payload[..2], 1011_u16.to_be_bytes());
    }


    async fn dropping_it_closes_it(rt: Rt) {
        let (server, mut raw) = rt.server(Options::default()).await;
        drop(server);
        assert_eq!(raw.frame().await, Some(Frame::close(1000, "")));
        // Which is a closing handshake like any other.
        raw.send_text("late").await;
        raw.send(Frame::close(1000, "")).await;
        assert_eq!(raw.frame().await, None);
    }

    async fn dropping_it_sends_what_was_sent_before(rt: Rt) {
        let (mut server, mut client) = rt.pair(Options::default(), Options::default()).await;
        let send = rt.spawn(async move {
            server.send(support::pattern(3_000_000)).await.unwrap();
            server.feed("fed").await.unwrap();
        });
        assert!(client.recv().await == Some(support::pattern(3_000_000).into()));
        assert_eq!(client.recv().await, Some("fed".into()));
        assert_eq!(client.recv().await, None);
        let info = client.close_info().unwrap();
        assert_eq!(summary(info), (1000, "", Initiator::Peer, true));
        send.await;
    }

    async fn a_dropped_connection_whose_peer_is_silent_ends_in_time(rt: Rt) {
        let (server, mut raw) = rt.server(short()).await;
        let sender = server.sender();
        drop(server);
        assert_eq!(raw.frame().await, Some(Frame::close(1000, "")));
        assert_eq!(raw.frame().await, None);
        assert!(sender.is_closed());
    }

    async fn a_panic_in_a_handler_is_told_to_the_peer(rt: Rt) {
        let listener = rt.listen().await;
        let mut raw = rt.raw(listener.address);
        let serve = rt.serve(
            listener,
            |_| Answer::accept(),
            |mut socket| async move {
                socket.recv().await;
                socket.send("before").await.unwrap();
                // Without a report on stderr.
                std::panic::resume_unwind(Box::new("a handler panics"));
            },
        );
        let _server = rt.spawn(async move { serve.await });
        raw.open().await;
        raw.send_text("go").await;
        assert_eq!(raw.frame().await, Some(Frame::text("before")));
        assert_eq!(raw.frame().await, Some(Frame::close(1011, "")));
    }

    async fn data_and_a_second_close_behind_the_first_are_ignored(rt: Rt) {
        let (mut server, mut raw) = rt.server(Options::default()).await;
        let mut bytes = encode(&Frame::close(1000, "first"), raw.mask);
        bytes.extend(encode(&Frame::text("late"), raw.mask));
        bytes.extend(encode(&Frame::close(1001, "second"), raw.mask));
        raw.write(bytes).await;
        let (received, ()) = tokio::join!(server.recv(), async {
            assert_eq!(raw.frame().await, Some(Frame::new(Opcode::Close, [3, 232])));
            raw.shut_down().await;
        });
        assert_eq!(received, None);
        let info = server.close_info().unwrap();
        assert_eq!(summary(info), (1000, "first", Initiator::Peer, true));
        assert_eq!(raw.frame().await, None);
    }

    async fn both_sides_may_close_at_once(rt: Rt) {
        let (mut server, mut client) = rt.pair(Options::default(), Options::default()).await;
        server.sender().close(CloseCode::NORMAL, "a");
        client.sender().close(CloseCode::GOING_AWAY, "b");
        let (ours, theirs) = tokio::join!(server.recv(), client.recv());
        assert_eq!((ours, theirs), (None, None));
        let info = server.close_info().unwrap();
        assert_eq!(summary(info), (1001, "b", Initiator::Local, true));
        let info = client.close_info().unwrap();
        assert_eq!(summary(info), (1000, "a", Initiator::Local, true));
    }

    async fn senders_get_their_messages_back(rt: Rt) {
        let (mut server, raw) = rt.server(Options::default()).await;
        let sender = server.sender();
        raw.send(Frame::close(1000, "")).await;
        assert_eq!(server.recv().await, None);
        assert!(sender.is_closed());
        let closed = Err(SendError::Closed("late".into()));
        assert_eq!(sender.send("late").await, closed);
        assert_eq!(sender.try_send("late"), closed);
        assert_eq!(server.send("late").await, closed);
        assert_eq!(server.feed("late").await, closed);
        assert_eq!(server.flush().await, Err(Closed));
        assert!(matches!(server.stream(Kind::Text).await, Err(Closed)));
        // Closing what is closed does nothing.
        assert_eq!(server.close(CloseCode::POLICY, "late").await.code, 1000);
    }

    async fn a_sender_that_waits_learns_of_the_end(rt: Rt) {
        let (mut server, raw) =
            rt.server(options(|o| o.protocol.high_water = 1000)).await;
        let sender = server.sender();
        while sender.try_send(vec![0; 100_000]).is_ok() {}
        let waiting = rt.spawn(async move { sender.send("waits").await });
        let receive = rt.spawn(async move { server.recv().await });
        raw.reset();
        assert_eq!(waiting.await, Err(SendError::Closed("waits".into())));
        assert_eq!(receive.await, None);
    }

    async fn a_writer_learns_of_the_end(rt: Rt) {
        let (mut server, mut raw) = rt.server(Options::default()).await;
        let sender = server.sender();
        let mut writer = server.stream(Kind::Text).await.unwrap();
        writer.write("a").await.unwrap();
        sender.close(CloseCode::NORMAL, "");
        assert_eq!(writer.write("b").await, Err(Closed));
        assert_eq!(writer.finish().await, Err(Closed));
        assert_eq!(raw.frame().await, Some(Frame::fragment(Opcode::Text, "a")));
        assert_eq!(raw.frame().await, Some(Frame::close(1000, "")));
    }
}
