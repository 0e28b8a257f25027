use bytes::Bytes;
use wsforge_core::hub::{Class, Mailbox, MailboxLimits, Offer, Run, SlowConsumer};
use wsforge_core::{CloseCode, Output};

use crate::Source;

/// A mailbox behaves like a list: what was queued comes out whole, once and in order, no more waits than
/// may, and what gives way is handed back.
pub fn mailbox(data: &[u8]) {
    let mut source = Source::new(data);
    let mut limits = MailboxLimits::default();
    limits.max_bytes = usize::from(source.u16());
    limits.max_frames = usize::from(source.u8());
    limits.policy = policy(source.u8());
    let (mut mailbox, mut model) = (Mailbox::new(), Model::default());
    // No two runs are alike.
    let mut count = 0u32;
    while !source.is_empty() {
        let op = source.u8();
        match op % 16 {
            0 => {
                let mut output = Output::new();
                mailbox.drain_into(&mut output);
                let expected: Vec<u8> = model.runs.drain(..).flat_map(|run| run.bytes).collect();
                assert!(output.slices().flatten().eq(&expected));
            }
            1 => {
                assert_eq!(mailbox.take().collect::<Vec<_>>(), std::mem::take(&mut model.runs));
            }
            2 => {
                let expected = (!model.runs.is_empty()).then(|| model.runs.remove(0));
                assert_eq!(mailbox.pop(), expected);
            }
            3 => {
                let run = run(&mut source, op, &mut count);
                assert_eq!(mailbox.push(run.clone()), model.push(run));
            }
            4 => {
                let before = usize::from(source.u16());
                let run = run(&mut source, op, &mut count);
                let offer = mailbox.offer_behind(before, run.clone(), &limits);
                assert_eq!(offer, model.offer(before, run, &limits));
            }
            _ => {
                let run = run(&mut source, op, &mut count);
                let offer = mailbox.offer(run.clone(), &limits);
                assert_eq!(offer, model.offer(0, run, &limits));
            }
        }
        assert_eq!(mailbox.bytes(), model.bytes());
        assert_eq!(mailbox.frames(), model.frames());
        assert_eq!(mailbox.is_empty(), model.runs.is_empty());
        assert_eq!(mailbox.is_doomed(), model.doomed);
    }
}

fn policy(bits: u8) -> SlowConsumer {
    match bits % 4 {
        0 => SlowConsumer::Disconnect(CloseCode::POLICY),
        1 => SlowConsumer::DropNewest,
        2 => SlowConsumer::DropOldest,
        _ => SlowConsumer::KeepNewest,
    }
}

fn run(source: &mut Source<'_>, op: u8, count: &mut u32) -> Run {
    *count += 1;
    let mut bytes = count.to_be_bytes().to_vec();
    bytes.resize(4 + (usize::from(source.u16()) >> (op >> 4)), op);
    let bits = source.u8();
    Run {
        bytes: Bytes::from(bytes),
        // More than any memory has, but not so many that two of them cannot be counted.
        frames: match source.u8() {
            255 => usize::MAX / 512,
            frames => usize::from(frames),
        },
        // Most are for many.
        class: match bits % 8 {
            0 => Class::Control,
            1 => Class::Reply,
            _ => Class::Broadcast,
        },
        key: (bits & 8 == 0).then_some(u64::from(bits >> 4 & 3)),
        policy: (bits >> 6 == 0).then(|| policy(bits >> 4)),
    }
}

#[derive(Default)]
struct Model {
    runs: Vec<Run>,
    doomed: bool,
}

impl Model {
    fn offer(&mut self, before: usize, run: Run, limits: &MailboxLimits) -> Offer {
        if self.doomed {
            return Offer::Refused(run);
        }
        if before == 0 && self.runs.is_empty() {
            self.runs.push(run);
            return Offer::Queued { wake: true, dropped: Vec::new() };
        }
        let policy_of = |run: &Run| run.policy.unwrap_or(limits.policy);
        let (policy, many) = (policy_of(&run), run.class == Class::Broadcast);
        let keyed = policy == SlowConsumer::KeepNewest && many && run.key.is_some();
        let (mut going, mut places) = (vec![false; self.runs.len()], Vec::new());
        for (at, waiting) in self.runs.iter().enumerate() {
            if waiting.class == Class::Broadcast
                && !matches!(policy_of(waiting), SlowConsumer::Disconnect(_))
            {
                going[at] = keyed && waiting.key == run.key;
                places.push(at);
            }
        }
        match policy {
            SlowConsumer::Disconnect(_) => places.clear(),
            SlowConsumer::DropNewest if many => places.clear(),
            SlowConsumer::DropNewest => places.reverse(),
            _ => {}
        }
        let mut places = places.into_iter();
        loop {
            let kept = || self.runs.iter().zip(&going).filter(|(_, goes)| !**goes);
            let bytes = kept().map(|(run, _)| run.bytes.len()).sum::<usize>();
            let frames = kept().map(|(run, _)| run.frames).sum::<usize>();
            if before + bytes + run.bytes.len() <= limits.max_bytes
                && frames + run.frames <= limits.max_frames
            {
                break;
            }
            match places.next() {
                Some(at) => going[at] = true,
                None if many && !matches!(policy, SlowConsumer::Disconnect(_)) => {
                    return Offer::Dropped(run);
                }
                None => {
                    self.doomed = true;
                    let SlowConsumer::Disconnect(code) = policy else {
                        return Offer::Evict(run, CloseCode::TRY_AGAIN_LATER);
                    };
                    return Offer::Evict(run, code);
                }
            }
        }
        let mut dropped = Vec::new();
        for (waiting, goes) in std::mem::take(&mut self.runs).into_iter().zip(going) {
            if goes { &mut dropped } else { &mut self.runs }.push(waiting);
        }
        self.runs.push(run);
        Offer::Queued { wake: false, dropped }
    }

    fn push(&mut self, run: Run) -> Result<bool, Run> {
        if self.doomed {
            return Err(run);
        }
        self.runs.push(run);
        Ok(self.runs.len() == 1)
    }

    fn bytes(&self) -> usize {
        self.runs.iter().map(|run| run.bytes.len()).sum()
    }

    fn frames(&self) -> usize {
        self.runs.iter().map(|run| run.frames).sum()
    }
}
