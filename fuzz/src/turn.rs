use std::collections::{BTreeMap, BTreeSet};

use wsforge_core::frame::{Header, Opcode};
use wsforge_core::hub::{
    Audience, Class, Hub, MemberId, Plan, Run, SlowConsumer, TagFilter, Tags, Turn, Variant,
};

use crate::Source;

const NAMES: [&str; 4] = ["a.a", "a.b", "b", "none"];

/// How many members there are, some of whom leave.
const MEMBERS: usize = 12;

/// What a member gets of a turn is what it would get from one operation after the other.
pub fn turn(data: &[u8]) {
    let mut source = Source::new(data);
    let (mut hub, mut turn, mut model) = (Hub::new(), Turn::new(), Model::default());
    let ids: Vec<_> = (0..MEMBERS).map(|_| hub.join(Variant::Plain)).collect();
    // Some twice.
    let named: Vec<_> = ids.iter().chain(&ids[3..6]).chain(&ids[3..5]).copied().collect();
    let mut count = 0u32;
    while !source.is_empty() {
        let op = source.u8();
        match op % 8 {
            0 => {
                // As everybody must do who gathers.
                model.check(&mut turn, &hub);
                change(&mut hub, ids[usize::from(op >> 4) % MEMBERS], source.u8());
            }
            1 => model.check(&mut turn, &hub),
            _ => {
                count += 1;
                let mut payload = count.to_be_bytes().to_vec();
                let opcode = [Opcode::Text, Opcode::Binary, Opcode::Pong][usize::from(op >> 4) % 3];
                let shape = source.u8();
                if !opcode.is_control() && shape & 7 == 0 {
                    payload.resize(4 + (usize::from(shape) << 6), op);
                }
                let key = (shape & 0x18 == 0).then_some(u64::from(shape >> 7));
                let policy = (shape & 0x60 == 0).then_some(SlowConsumer::DropOldest);
                let to = audience(source.u8(), source.u8(), &ids, &named);
                turn.push(to, opcode, &payload, key, policy);
                model.push(&hub, to, opcode, &payload, key, policy);
            }
        }
        assert_eq!(turn.is_empty(), model.is_empty());
    }
    model.check(&mut turn, &hub);
}

fn change(hub: &mut Hub, id: MemberId, bits: u8) {
    let name = NAMES[usize::from(bits >> 4) % 3];
    match bits % 8 {
        0 => _ = hub.leave(id),
        1 => _ = hub.join(Variant::Plain),
        2 => _ = hub.subscribe_pattern(id, "a.*"),
        3 => _ = hub.set_tags(id, Tags::from_bits(u64::from(bits >> 4))),
        4 => _ = hub.unsubscribe(id, name),
        _ => _ = hub.subscribe(id, name),
    }
}

fn audience<'a>(kind: u8, at: u8, ids: &'a [MemberId], named: &'a [MemberId]) -> Audience<'a> {
    let (name, low, high) = (usize::from(at) % 4, usize::from(at & 15), usize::from(at >> 4));
    let id = ids[high % ids.len()];
    match kind % 11 {
        0 => Audience::All,
        1 => Audience::Except(id),
        2 => Audience::Group(NAMES[name]),
        3 => Audience::GroupExcept(NAMES[name], id),
        4 => Audience::Groups(&NAMES[name..]),
        5 => Audience::GroupsExcept(&NAMES[name..], id),
        6 => {
            Audience::Tagged(TagFilter { any: Tags::from_bits(at.into()), ..TagFilter::default() })
        }
        7 => Audience::Topic(NAMES[name]),
        8 => Audience::TopicExcept(NAMES[name], id),
        _ => Audience::Only(&named[low..low + high % (named.len() - low)]),
    }
}

/// What has been pushed: the audience, who is in it, and what they get.
#[derive(Default)]
struct Model(Vec<(String, Vec<MemberId>, Run)>);

impl Model {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn push(
        &mut self,
        hub: &Hub,
        to: Audience<'_>,
        opcode: Opcode,
        payload: &[u8],
        key: Option<u64>,
        policy: Option<SlowConsumer>,
    ) {
        let len = payload.len() as u64;
        let header = Header { fin: true, rsv1: false, opcode, mask: None, len };
        let mut head = [0; 14];
        let head_len = header.encode(&mut head);
        let frame = [&head[..head_len], payload].concat();
        let class = if opcode.is_control() { Class::Control } else { Class::Broadcast };
        let name = format!("{to:?}");
        // Whoever is named twice gets the first twice, and then the second.
        let may_repeat = matches!(to, Audience::Only(ids) if ids.len() > 1);
        match self.0.last_mut() {
            Some((same, _, run))
                if *same == name
                    && !may_repeat
                    && (run.class, run.key, run.policy) == (class, None, policy)
                    && key.is_none()
                    && run.bytes.len() + frame.len() <= 64 * 1024 =>
            {
                run.bytes = [&run.bytes[..], &frame].concat().into();
                run.frames += 1;
            }
            _ => {
                let targets = hub.plan(to).map(|target| target.member).collect();
                let run = Run { bytes: frame.into(), frames: 1, class, key, policy };
                self.0.push((name, targets, run));
            }
        }
    }

    /// Plans all of the turn; who is a member has not changed since it was pushed.
    fn check(&mut self, turn: &mut Turn, hub: &Hub) {
        let mut got = BTreeMap::<MemberId, Vec<Run>>::new();
        while !turn.is_empty() {
            let Plan { bundles, targets } = turn.plan(hub);
            let members: BTreeSet<_> = targets.iter().map(|(id, _)| *id).collect();
            assert_eq!(members.len(), targets.len(), "each member stands there once");
            let distinct: BTreeSet<_> = bundles.iter().map(|bundle| &bundle.bytes).collect();
            assert_eq!(distinct.len(), bundles.len(), "who gets the same shares it");
            for bundle in &bundles {
                let runs: Vec<u8> = bundle.runs.iter().flat_map(|run| run.bytes.to_vec()).collect();
                assert_eq!(runs, bundle.bytes);
                assert_eq!(bundle.runs.iter().map(|run| run.frames).sum::<usize>(), bundle.frames);
            }
            for (id, bundle) in targets {
                got.entry(id).or_default().extend(bundles[bundle as usize].runs.iter().cloned());
            }
        }
        let mut expected = BTreeMap::<MemberId, Vec<Run>>::new();
        for (_, targets, run) in self.0.drain(..) {
            for id in targets {
                expected.entry(id).or_default().push(run.clone());
            }
        }
        assert_eq!(got, expected);
        assert_eq!(turn.len(), 0);
    }
}
