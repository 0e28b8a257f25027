//! A server's opening handshake: from the bytes of a request to those of the answer. fastwebsockets has
//! none of its own but hyper's.

use std::hint::black_box;
use std::io::{Read, Write};
use std::sync::Arc;

use benches::{Wire, now};
use bytes::Bytes;
use criterion::{BenchmarkId, Criterion};
use tokio_websockets::ServerBuilder;
use tungstenite::accept_with_config;
use tungstenite::protocol::WebSocketConfig;
use wsforge_core::handshake::{Accept, Opening, Response};
use wsforge_core::{Config, Input, Output, Timestamp};

const SHORT: &str = "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// As browsers send it.
const LONG: &str = "GET /chat?room=lobby HTTP/1.1\r\nHost: example.com\r\n\
    Connection: Upgrade\r\nPragma: no-cache\r\nCache-Control: no-cache\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
    Chrome/140.0.0.0 Safari/537.36\r\nUpgrade: websocket\r\nOrigin: https://example.com\r\n\
    Sec-WebSocket-Version: 13\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n\
    Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\n\
    Cookie: session=7b1c5a70e3c94d0f9c1f0b5b2f3f2d11; theme=dark\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n";

pub(crate) fn measure(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("server's handshake");
    for request in [SHORT, LONG] {
        let len = request.len();
        let request = Bytes::from_static(request.as_bytes());
        group.bench_function(BenchmarkId::new("wsforge", len), |bencher| {
            let (mut buf, mut output) = (vec![0; 64 * 1024], Output::new());
            let config = Arc::new(Config::default());
            bencher.iter(|| {
                let mut wire = Wire::new(request.clone());
                let len = wire.read(&mut buf).expect("a request");
                let mut input = Input::new(&mut buf[..len], Timestamp::ZERO);
                let mut accept = Accept::default();
                let Opening::Request(request) = accept.receive(&mut input, &mut output) else {
                    panic!("a whole request")
                };
                let response = Response::default();
                let conn = request.accept(&response, config.clone(), &mut output);
                output.write_to(|slices| wire.write_vectored(slices)).expect("room for all");
                black_box((conn, wire))
            });
        });
        group.bench_function(BenchmarkId::new("tokio-websockets", len), |bencher| {
            let server = ServerBuilder::new();
            bencher.iter(|| now(server.accept(Wire::new(request.clone()))).expect("a handshake"));
        });
        group.bench_function(BenchmarkId::new("tungstenite", len), |bencher| {
            // As its documentation advises for many connections; by default it is 128 KiB.
            let config = Some(WebSocketConfig::default().read_buffer_size(4096));
            bencher.iter(|| {
                accept_with_config(Wire::new(request.clone()), config).expect("a handshake")
            });
        });
    }
    group.finish();
}
