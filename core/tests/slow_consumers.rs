//! What gives way when too much waits, against a list that is too simple to be wrong.

use proptest::prelude::*;
use wsforge_core::hub::{Class, Mailbox, MailboxLimits, Offer, Run, SlowConsumer};
use wsforge_core::{CloseCode, Output};

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
        let (mut replaced, mut others) = (Vec::new(), Vec::new());
        for waiting in &self.runs {
            let wants_no_gaps = matches!(policy_of(waiting), SlowConsumer::Disconnect(_));
            if waiting.class == Class::Broadcast && !wants_no_gaps {
                let same = many && run.key.is_some() && waiting.key == run.key;
                let replaces = policy == SlowConsumer::KeepNewest && same;
                if replaces { &mut replaced } else { &mut others }.push(waiting.clone());
            }
        }
        match policy {
            SlowConsumer::Disconnect(_) => others.clear(),
            SlowConsumer::DropNewest if many => others.clear(),
            SlowConsumer::DropNewest => others.reverse(),
            _ => {}
        }
        // As few of the others as are enough.
        for n in 0..=others.len() {
            let goes = |waiting: &&Run| replaced.contains(waiting) || others[..n].contains(waiting);
            let (dropped, mut kept): (Vec<&Run>, Vec<&Run>) = self.runs.iter().partition(goes);
            kept.push(&run);
            let bytes = kept.iter().map(|run| run.bytes.len()).sum::<usize>();
            let frames = kept.iter().map(|run| run.frames).sum::<usize>();
            if before + bytes <= limits.max_bytes && frames <= limits.max_frames {
                let dropped = dropped.into_iter().cloned().collect();
                self.runs = kept.into_iter().cloned().collect();
                return Offer::Queued { wake: false, dropped };
            }
        }
        match policy {
            SlowConsumer::Disconnect(code) => self.evict(run, code),
            _ if many => Offer::Dropped(run),
            _ => self.evict(run, CloseCode::TRY_AGAIN_LATER),
        }
    }

    fn evict(&mut self, run: Run, code: CloseCode) -> Offer {
        self.doomed = true;
        Offer::Evict(run, code)
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
}

#[derive(Clone, Debug)]
enum Step {
    Drain,
    Offer(usize, usize, Run),
    Pop,
    Push(usize, Run),
    Take,
}

fn policy() -> impl Strategy<Value = SlowConsumer> {
    prop::sample::select(vec![
        SlowConsumer::Disconnect(CloseCode::POLICY),
        SlowConsumer::DropNewest,
        SlowConsumer::DropOldest,
        SlowConsumer::KeepNewest,
    ])
}

fn step() -> impl Strategy<Value = Step> {
    let class = prop_oneof![4 => Just(Class::Broadcast), 1 => Just(Class::Control), 1 => Just(Class::Reply)];
    let own = prop_oneof![3 => Just(None), 1 => policy().prop_map(Some)];
    let run = (1..4usize, class, prop::option::of(0..3u64), own).prop_map(
        |(frames, class, key, policy)| Run { bytes: Vec::new().into(), frames, class, key, policy },
    );
    let len = || prop_oneof![8 => 4..1500usize, 1 => 1500..8000usize];
    let before = prop_oneof![3 => Just(0), 1 => 0..4000usize];
    prop_oneof![
        1 => Just(Step::Drain),
        24 => (before, len(), run.clone()).prop_map(|(before, len, run)| Step::Offer(before, len, run)),
        2 => Just(Step::Pop),
        1 => (len(), run).prop_map(|(len, run)| Step::Push(len, run)),
        1 => Just(Step::Take),
    ]
}

proptest! {
    #[test]
    fn a_mailbox_behaves_like_a_list(
        policy in policy(),
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let mut limits = MailboxLimits::default();
        (limits.max_bytes, limits.max_frames, limits.policy) = (6000, 10, policy);
        let (mut mailbox, mut model) = (Mailbox::new(), Model::default());
        let (mut offered, mut gone) = (0, 0);
        for (n, step) in steps.into_iter().enumerate() {
            // No two are alike.
            let named = |len, run| {
                let mut bytes = (n as u32).to_be_bytes().to_vec();
                bytes.resize(len, b'x');
                Run { bytes: bytes.into(), ..run }
            };
            match step {
                Step::Drain => {
                    gone += model.bytes();
                    let mut output = Output::new();
                    mailbox.drain_into(&mut output);
                    let written: Vec<u8> = output.slices().flatten().copied().collect();
                    let expected: Vec<u8> = model.runs.drain(..).flat_map(|run| run.bytes).collect();
                    prop_assert_eq!(written, expected);
                }
                Step::Offer(before, len, run) => {
                    let run = named(len, run);
                    offered += len;
                    let offer = match before {
                        0 => mailbox.offer(run.clone(), &limits),
                        _ => mailbox.offer_behind(before, run.clone(), &limits),
                    };
                    gone += match &offer {
                        Offer::Dropped(run) | Offer::Evict(run, _) | Offer::Refused(run) => run.bytes.len(),
                        Offer::Queued { dropped, .. } => dropped.iter().map(|run| run.bytes.len()).sum(),
                    };
                    prop_assert_eq!(offer, model.offer(before, run, &limits));
                }
                Step::Pop => {
                    let expected = (!model.runs.is_empty()).then(|| model.runs.remove(0));
                    gone += expected.as_ref().map_or(0, |run| run.bytes.len());
                    prop_assert_eq!(mailbox.pop(), expected);
                }
                Step::Push(len, run) => {
                    let run = named(len, run);
                    offered += len;
                    let pushed = mailbox.push(run.clone());
                    gone += pushed.as_ref().err().map_or(0, |run| run.bytes.len());
                    prop_assert_eq!(pushed, model.push(run));
                }
                Step::Take => {
                    gone += model.bytes();
                    prop_assert_eq!(mailbox.take().collect::<Vec<_>>(), std::mem::take(&mut model.runs));
                }
            }
            prop_assert_eq!(mailbox.bytes(), model.bytes());
            prop_assert_eq!(mailbox.frames(), model.runs.iter().map(|run| run.frames).sum::<usize>());
            prop_assert_eq!(mailbox.is_empty(), model.runs.is_empty());
            prop_assert_eq!(mailbox.is_doomed(), model.doomed);
            prop_assert_eq!(offered, gone + mailbox.bytes(), "nothing is lost");
        }
    }
}
