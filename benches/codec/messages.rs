//! Receiving and sending, every library over the same bytes.

use benches::{
    End, FastWebSockets, Growing, LENGTHS, Lent, Owned, Peer, TokioWebSockets, Tungstenite, Wire,
    Wsforge, frame, mixed_text, payload,
};
use bytes::Bytes;
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion};
use wsforge_core::Kind;

/// The payload of a message of so many bytes.
type Body = fn(usize) -> Bytes;

pub(crate) fn measure(criterion: &mut Criterion) {
    for (what, end) in [("server", End::Server), ("client", End::Client)] {
        let kinds: [(&str, Kind, Body); 3] = [
            ("text", Kind::Text, |len| payload(Kind::Text, len)),
            ("mixed text", Kind::Text, mixed_text),
            ("binary", Kind::Binary, |len| payload(Kind::Binary, len)),
        ];
        for (name, kind, body) in kinds {
            let mut group = criterion.benchmark_group(format!("{what} receives {name}"));
            receive::<Wsforge<Growing>>(&mut group, end, kind, body);
            receive::<Wsforge<Lent>>(&mut group, end, kind, body);
            receive::<Wsforge<Owned>>(&mut group, end, kind, body);
            receive::<FastWebSockets>(&mut group, end, kind, body);
            receive::<TokioWebSockets>(&mut group, end, kind, body);
            receive::<Tungstenite>(&mut group, end, kind, body);
            group.finish();
        }
        for (name, kind) in [("text", Kind::Text), ("binary", Kind::Binary)] {
            let mut group = criterion.benchmark_group(format!("{what} sends {name}"));
            send::<Wsforge<Growing>>(&mut group, end, kind);
            send::<FastWebSockets>(&mut group, end, kind);
            send::<TokioWebSockets>(&mut group, end, kind);
            send::<Tungstenite>(&mut group, end, kind);
            group.finish();
        }
    }
}

/// Sixteen messages are there to be read at any time.
fn receive<P: Peer>(group: &mut BenchmarkGroup<'_, WallTime>, end: End, kind: Kind, body: Body) {
    let sender = if end == End::Server { End::Client } else { End::Server };
    for len in LENGTHS {
        group.bench_function(BenchmarkId::new(P::NAME, len), |bencher| {
            let mut peer = P::open(end, Wire::new(frame(sender, kind, &body(len)).repeat(16)));
            bencher.iter(|| peer.receive());
        });
    }
}

/// Each message is written before the next.
fn send<P: Peer>(group: &mut BenchmarkGroup<'_, WallTime>, end: End, kind: Kind) {
    for len in LENGTHS {
        group.bench_function(BenchmarkId::new(P::NAME, len), |bencher| {
            let mut peer = P::open(end, Wire::default());
            let message = P::message(kind, &payload(kind, len));
            bencher.iter(|| peer.send(&message));
        });
    }
}
