//! Unmasking and validating: what the core does, beside what it could do.

use std::hint::black_box;

use benches::{LENGTHS, mixed_text, payload};
use criterion::{BenchmarkId, Criterion};
use wsforge_core::Kind;

// The core's own, with what it does not show.
#[allow(dead_code, unreachable_pub, unused_imports, reason = "it is a file of another crate")]
#[path = "../../core/src/mask.rs"]
mod mask;

/// Payloads stand behind a header, which keeps them from being aligned.
const HEADER_LEN: usize = 6;

type Unmask = fn(&mut [u8], [u8; 4]);

/// Unmasks a text and tells whether it is one.
type Check = fn(&mut [u8], [u8; 4]) -> bool;

/// A text of so many bytes.
type Text = fn(usize) -> Vec<u8>;

pub(crate) fn measure(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("unmask");
    let ways: [(&str, Unmask); 3] =
        [("wsforge", mask::apply), ("words of 4 bytes", by_words), ("bytes", by_bytes)];
    for (name, unmask) in ways {
        for len in LENGTHS {
            group.bench_function(BenchmarkId::new(name, len), |bencher| {
                let mut frame = [&[0; HEADER_LEN][..], &payload(Kind::Binary, len)].concat();
                let data = &mut frame[HEADER_LEN..];
                bencher.iter(|| unmask(black_box(data), black_box([1, 2, 3, 4])));
            });
        }
    }
    group.finish();

    let texts: [(&str, Text); 2] =
        [("unmask and validate ASCII", ascii), ("unmask and validate mixed text", mixed)];
    for (heading, text) in texts {
        let mut group = criterion.benchmark_group(heading);
        let ways: [(&str, Check); 4] = [
            ("wsforge", ours),
            ("unmask, then simdutf8", in_two_walks),
            ("both in blocks of 4 KiB", in_blocks),
            ("unmask, then std", with_std),
        ];
        for (name, check) in ways {
            for len in LENGTHS {
                group.bench_function(BenchmarkId::new(name, len), |bencher| {
                    let mut frame = [&[0; HEADER_LEN][..], &text(len)].concat();
                    let data = &mut frame[HEADER_LEN..];
                    // A key of zeros, which nobody knows of, leaves the text as it is.
                    bencher.iter(|| check(black_box(data), black_box([0; 4])));
                });
            }
        }
        group.finish();
    }
}

fn ascii(len: usize) -> Vec<u8> {
    payload(Kind::Text, len).into()
}

fn mixed(len: usize) -> Vec<u8> {
    mixed_text(len).into()
}

fn by_bytes(data: &mut [u8], key: [u8; 4]) {
    for (at, byte) in data.iter_mut().enumerate() {
        *byte ^= key[at % 4];
    }
}

fn by_words(data: &mut [u8], key: [u8; 4]) {
    let (words, rest) = data.as_chunks_mut::<4>();
    for word in words {
        *word = (u32::from_ne_bytes(*word) ^ u32::from_ne_bytes(key)).to_ne_bytes();
    }
    by_bytes(rest, key);
}

/// What a connection does with a text that has come whole.
fn ours(data: &mut [u8], key: [u8; 4]) -> bool {
    mask::apply_ascii(data, key) || simdutf8::basic::from_utf8(data).is_ok()
}

fn in_two_walks(data: &mut [u8], key: [u8; 4]) -> bool {
    mask::apply(data, key);
    simdutf8::basic::from_utf8(data).is_ok()
}

fn in_blocks(data: &mut [u8], key: [u8; 4]) -> bool {
    let mut ascii = true;
    for block in data.chunks_mut(4096) {
        ascii &= mask::apply_ascii(block, key);
    }
    ascii || simdutf8::basic::from_utf8(data).is_ok()
}

fn with_std(data: &mut [u8], key: [u8; 4]) -> bool {
    mask::apply(data, key);
    str::from_utf8(data).is_ok()
}
