//! Every target over its corpus, over corpus files with a few bytes changed, and over noise.

use std::path::Path;
use std::{fs, panic};

use wsforge_fuzz::{TARGETS, Target};

/// Noise that is the same in every run: a linear congruential generator, its high bits.
struct Noise(u64);

impl Noise {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) as usize % n
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.below(256) as u8).collect()
    }
}

/// The seeds of a target, in the order of their names.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let mut files: Vec<_> =
        fs::read_dir(dir).expect("a corpus").map(|file| file.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

/// Runs a target and, if it panics, shows the bytes that made it.
fn run(name: &str, target: Target, data: &[u8]) {
    if let Err(panic) = panic::catch_unwind(|| target(data)) {
        eprintln!("{name} on b\"{}\"", data.escape_ascii());
        panic::resume_unwind(panic);
    }
}

#[test]
fn every_target_holds_on_its_corpus() {
    for (name, target) in TARGETS {
        let seeds = corpus(name);
        assert!(!seeds.is_empty(), "{name} has seeds");
        seeds.iter().for_each(|seed| run(name, target, seed));
    }
}

#[test]
fn every_target_holds_near_its_corpus() {
    for (name, target) in TARGETS {
        let mut noise = Noise(1);
        for seed in corpus(name) {
            for _ in 0..50 {
                let mut data = seed.clone();
                for _ in 0..noise.below(4) {
                    let at = noise.below(data.len().max(1));
                    match (noise.below(4), data.get_mut(at)) {
                        (0, _) => data.truncate(at),
                        (1, _) => data.splice(at..at, noise.bytes(3)).for_each(drop),
                        (_, Some(byte)) => *byte ^= 1 << noise.below(8),
                        (_, None) => {}
                    }
                }
                run(name, target, &data);
            }
        }
    }
}

#[test]
fn every_target_holds_on_noise() {
    for (name, target) in TARGETS {
        let mut noise = Noise(2);
        for _ in 0..500 {
            let len = noise.below(300);
            run(name, target, &noise.bytes(len));
        }
    }
}
