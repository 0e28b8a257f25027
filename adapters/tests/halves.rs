//! The two halves of a [`Stream`](futures_core::Stream) and [`Sink`](futures_sink::Sink), in two tasks.

#[macro_use]
mod support;

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{Sink, SinkExt, StreamExt};
use support::{Frame, Raw, Rt, options, pattern, text_of, until};
use wsforge::proto::frame::Opcode;
use wsforge::{Message, WebSocket};

type Halves = (SplitSink<WebSocket, Message>, SplitStream<WebSocket>);

const LEN: usize = 100_000;

/// A server whose peer reads nothing, so that there is no room for more; and how many messages wait.
async fn full(rt: Rt) -> (Halves, Raw, usize) {
    let (io, peer) = rt.pipe(1000);
    let mut raw = Raw::client(peer);
    let server = rt.server_over(io, &mut raw, options(|o| o.protocol.high_water = 1000)).await;
    let (mut sink, stream) = futures_util::StreamExt::split(server);
    let mut sent = 0;
    // It has room for the first, and for the others only if that has left.
    while support::poll_times(1, sink.feed(pattern(LEN).into())).await.is_some() {
        sent += 1;
        assert!(sent < 3);
    }
    ((sink, stream), raw, sent)
}

/// Runs `half` as a task, and waits until it has been polled and waits for something.
async fn waiting<T: Send + 'static>(
    rt: Rt,
    half: impl Future<Output = T> + Send + 'static,
) -> support::Task<T> {
    let polls = Arc::new(AtomicUsize::new(0));
    let task = rt.spawn({
        let polls = polls.clone();
        async move {
            let mut half = std::pin::pin!(half);
            poll_fn(|cx| {
                let polled = half.as_mut().poll(cx);
                polls.fetch_add(1, Ordering::Relaxed);
                polled
            })
            .await
        }
    });
    until(|| polls.load(Ordering::Relaxed) > 0).await;
    task
}

async fn send(mut sink: SplitSink<WebSocket, Message>) -> SplitSink<WebSocket, Message> {
    sink.send("last".into()).await.unwrap();
    sink
}

async fn receive(mut stream: SplitStream<WebSocket>) -> (Message, SplitStream<WebSocket>) {
    (stream.next().await.unwrap(), stream)
}

async fn reads_all(raw: &mut Raw, sent: usize) {
    for _ in 0..sent {
        assert!(raw.frame().await == Some(Frame::new(Opcode::Binary, pattern(LEN))));
    }
    assert_eq!(raw.frame().await, Some(Frame::text("last")));
}

behaviours! {
    async fn whoever_waits_last_both_are_woken(rt: Rt) {
        for sends_first in [false, true] {
            let ((sink, stream), mut raw, sent) = full(rt).await;
            let (sending, receiving);
            if sends_first {
                sending = waiting(rt, send(sink)).await;
                receiving = waiting(rt, receive(stream)).await;
            } else {
                receiving = waiting(rt, receive(stream)).await;
                sending = waiting(rt, send(sink)).await;
            }
            // While nothing can be sent, something may be received.
            raw.send_text("hello").await;
            let (message, stream) = receiving.await;
            assert_eq!(text_of(&message), "hello");
            let receiving = waiting(rt, receive(stream)).await;
            // And while nothing is received, something may be sent.
            reads_all(&mut raw, sent).await;
            let _sink = sending.await;
            raw.send_text("bye").await;
            assert_eq!(text_of(&receiving.await.0), "bye");
        }
    }

    async fn who_receives_something_and_stays_away_keeps_nobody_from_sending(rt: Rt) {
        let ((sink, stream), mut raw, sent) = full(rt).await;
        let receiving = waiting(rt, receive(stream)).await;
        let sending = waiting(rt, send(sink)).await;
        raw.send_text("hello").await;
        let (_, _stream) = receiving.await;
        reads_all(&mut raw, sent).await;
        let _sink = sending.await;
    }

    async fn who_sends_learns_of_the_end_from_who_receives(rt: Rt) {
        let ((mut sink, stream), raw, _) = full(rt).await;
        let sending = waiting(rt, async move { sink.send("last".into()).await.is_err() }).await;
        let receiving = waiting(rt, async move { stream.collect::<Vec<_>>().await.len() }).await;
        drop(raw);
        assert!(sending.await);
        assert_eq!(receiving.await, 0);
    }

    /// Who closes does not take what arrives before the peer's Close from who receives.
    async fn what_arrives_behind_our_close_is_received(rt: Rt) {
        let (server, mut raw) = rt.server(options(|_| {})).await;
        let (mut sink, stream) = futures_util::StreamExt::split(server);
        let receiving = waiting(rt, async move { stream.collect::<Vec<_>>().await }).await;
        sink.close().await.unwrap();
        assert_eq!(raw.frame().await, Some(Frame::close(1000, "")));
        raw.send_text("late").await;
        raw.send(Frame::close(1000, "")).await;
        assert_eq!(receiving.await, ["late".into()]);
        // And closing what is closed is no error.
        sink.close().await.unwrap();
    }

    async fn both_ways_at_once(rt: Rt) {
        let (server, client) = rt.pair_over(rt.pipe(1000), options(|o| {
            o.protocol.high_water = 1000;
        })).await;
        let tasks = [server, client].map(|socket| {
            let (mut sink, mut stream) = futures_util::StreamExt::split(socket);
            let sending = rt.spawn(async move {
                for n in 0..500 {
                    sink.send(n.to_string().repeat(n).into()).await.unwrap();
                }
                sink
            });
            let receiving = rt.spawn(async move {
                for n in 0..500 {
                    assert_eq!(text_of(&stream.next().await.unwrap()), n.to_string().repeat(n));
                }
                stream
            });
            (sending, receiving)
        });
        for (sending, receiving) in tasks {
            // Together until both are done.
            let _halves = (sending.await, receiving.await);
        }
    }

    /// Both in one task, as with `select`.
    async fn one_task_may_have_both(rt: Rt) {
        let ((mut sink, mut stream), mut raw, sent) = full(rt).await;
        let both = waiting(rt, async move {
            let mut received = None;
            poll_fn(|cx| {
                if let Poll::Ready(message) = stream.poll_next_unpin(cx) {
                    received = message;
                }
                std::pin::Pin::new(&mut sink).poll_flush(cx).map(|flushed| flushed.unwrap())
            })
            .await;
            let message = match received {
                Some(message) => message,
                None => stream.next().await.unwrap(),
            };
            sink.send("last".into()).await.unwrap();
            message
        })
        .await;
        raw.send_text("hello").await;
        let reading = async { reads_all(&mut raw, sent).await };
        assert_eq!(text_of(&tokio::join!(both, reading).0), "hello");
    }
}
