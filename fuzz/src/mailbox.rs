use bytes::Bytes;
use wsforge_core::Output;
use wsforge_core::hub::{Class, Mailbox, MailboxLimits, Offer, Run};

use crate::Source;

/// A mailbox behaves like a list: what was queued comes out whole, once and in order, and no more waits
/// than may.
pub fn mailbox(data: &[u8]) {
    let mut source = Source::new(data);
    let mut limits = MailboxLimits::default();
    limits.max_bytes = usize::from(source.u16());
    limits.max_frames = usize::from(source.u8());
    let (mut mailbox, mut model, mut doomed) = (Mailbox::new(), Vec::<Run>::new(), false);
    while !source.is_empty() {
        let op = source.u8();
        match op % 8 {
            0 => {
                let mut output = Output::new();
                mailbox.drain_into(&mut output);
                let expected: Vec<u8> = model.drain(..).flat_map(|run| run.bytes).collect();
                assert!(output.slices().flatten().eq(&expected));
            }
            1 => assert_eq!(mailbox.take().collect::<Vec<_>>(), std::mem::take(&mut model)),
            _ => {
                let len = usize::from(source.u16()) >> (op >> 4);
                let run = Run {
                    bytes: Bytes::from(vec![op; len]),
                    // More than any memory has: sums must not wrap.
                    frames: match source.u8() {
                        255 => usize::MAX,
                        frames => usize::from(frames),
                    },
                    class: [Class::Broadcast, Class::Control, Class::Reply][usize::from(op) % 3],
                    key: (op & 8 == 0).then_some(u64::from(op)),
                };
                let fits = model.is_empty()
                    || bytes(&model) + run.bytes.len() <= limits.max_bytes
                        && frames(&model).saturating_add(run.frames) <= limits.max_frames;
                let expected = match (doomed, fits) {
                    (true, _) => Offer::Refused(run.clone()),
                    (false, false) => Offer::Evict(run.clone()),
                    (false, true) => Offer::Queued { wake: model.is_empty() },
                };
                doomed |= !fits;
                if matches!(expected, Offer::Queued { .. }) {
                    model.push(run.clone());
                }
                assert_eq!(mailbox.offer(run, &limits), expected);
            }
        }
        assert_eq!(mailbox.bytes(), bytes(&model));
        assert_eq!(mailbox.frames(), frames(&model));
        assert_eq!((mailbox.is_empty(), mailbox.is_doomed()), (model.is_empty(), doomed));
    }
}

fn bytes(runs: &[Run]) -> usize {
    runs.iter().map(|run| run.bytes.len()).sum()
}

fn frames(runs: &[Run]) -> usize {
    runs.iter().fold(0, |sum, run| sum.saturating_add(run.frames))
}
