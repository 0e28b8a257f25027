//! Receiving and sending, every library over the same bytes.

use benches::{
    End, FastWebSockets, LENGTHS, Peer, TokioWebSockets, Tungstenite, Wire, Wsforge, frame, payload,
};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion};
use wsforge_core::Kind;

pub(crate) fn measure(criterion: &mut Criterion) {
    for (what, end) in [("server", End::Server), ("client", End::Client)] {
        for (name, kind) in [("text", Kind::Text), ("binary", Kind::Binary)] {
            let mut group = criterion.benchmark_group(format!("{what} receives {name}"));
            receive::<Wsforge>(&mut group, end, kind);
            receive::<FastWebSockets>(&mut group, end, kind);
            receive::<TokioWebSockets>(&mut group, end, kind);
            receive::<Tungstenite>(&mut group, end, kind);
            group.finish();

            let mut group = criterion.benchmark_group(format!("{what} sends {name}"));
            send::<Wsforge>(&mut group, end, kind);
            send::<FastWebSockets>(&mut group, end, kind);
            send::<TokioWebSockets>(&mut group, end, kind);
            send::<Tungstenite>(&mut group, end, kind);
            group.finish();
        }
    }
}

/// Sixteen messages are there to be read at any time.
fn receive<P: Peer>(group: &mut BenchmarkGroup<'_, WallTime>, end: End, kind: Kind) {
    let sender = if end == End::Server { End::Client } else { End::Server };
    for len in LENGTHS {
        group.bench_function(BenchmarkId::new(P::NAME, len), |bencher| {
            let frames = frame(sender, kind, &payload(kind, len)).repeat(16);
            let mut peer = P::open(end, Wire::new(frames));
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
