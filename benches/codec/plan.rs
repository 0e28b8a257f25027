//! Whom a broadcast goes to: a plan over the members of a group.

use std::collections::{HashMap, HashSet};
use std::hint::black_box;

use criterion::{BenchmarkId, Criterion};
use wsforge_core::hub::{Audience, Hub, Variant};

/// How many connections there are in all.
const CONNECTIONS: usize = 10_000;

pub(crate) fn measure(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("plan for the members of a group");
    for len in [10, 1000] {
        let step = CONNECTIONS / len;
        group.bench_function(BenchmarkId::new("wsforge", len), |bencher| {
            let mut hub = Hub::new();
            let ids: Vec<_> = (0..CONNECTIONS).map(|_| hub.join(Variant::Plain)).collect();
            for id in ids.iter().step_by(step) {
                hub.subscribe(*id, "room").expect("room for one group");
            }
            // What a plan is executed on: a table by the members' small numbers.
            let table: Vec<u64> = (0..CONNECTIONS as u64).collect();
            bencher.iter(|| {
                let plan = hub.plan(Audience::Group(black_box("room")));
                plan.map(|target| table[target.member.index()]).sum::<u64>()
            });
        });
        group.bench_function(BenchmarkId::new("hash maps of ids", len), |bencher| {
            let table: HashMap<u64, u64> = (0..CONNECTIONS as u64).map(|id| (id, id)).collect();
            let members: HashSet<u64> = (0..CONNECTIONS as u64).step_by(step).collect();
            let groups = HashMap::from([("room".to_owned(), members)]);
            bencher.iter(|| {
                let members = &groups[black_box("room")];
                members.iter().filter_map(|id| table.get(id)).sum::<u64>()
            });
        });
    }
    group.finish();
}
