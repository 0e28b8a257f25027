//! Turns, against a model that gives each member one operation after the other.

use std::collections::{BTreeMap, BTreeSet};

use allocation_counter::measure;
use proptest::prelude::*;
use wsforge_core::CloseCode;
use wsforge_core::frame::Opcode;
use wsforge_core::hub::{
    Audience, Bundle, Class, Hub, MemberId, Plan, Run, SlowConsumer, TagFilter, Tags, Turn, Variant,
};

const NAMES: [&str; 4] = ["a.a", "a.b", "b", "none"];

/// An audience to keep, of which members are numbers.
#[derive(Clone, Debug, PartialEq)]
enum To {
    All,
    Except(usize),
    Group(usize),
    GroupExcept(usize, usize),
    Groups(Vec<&'static str>),
    GroupsExcept(Vec<&'static str>, usize),
    Only(Vec<usize>),
    Tagged(u64),
    Topic(usize),
    TopicExcept(usize, usize),
}

impl To {
    /// The same, with the numbers that there are: two that stand for one member are one.
    fn among(self, members: usize) -> Self {
        let at = |at| at % members;
        match self {
            Self::Except(id) => Self::Except(at(id)),
            Self::GroupExcept(name, id) => Self::GroupExcept(name, at(id)),
            Self::GroupsExcept(names, id) => Self::GroupsExcept(names, at(id)),
            Self::Only(ids) => Self::Only(ids.into_iter().map(at).collect()),
            Self::TopicExcept(name, id) => Self::TopicExcept(name, at(id)),
            to => to,
        }
    }

    fn with<T>(&self, ids: &[MemberId], look: impl FnOnce(Audience<'_>) -> T) -> T {
        let id = |at: &usize| ids[at % ids.len()];
        let some: Vec<_>;
        look(match self {
            Self::All => Audience::All,
            Self::Except(at) => Audience::Except(id(at)),
            Self::Group(name) => Audience::Group(NAMES[*name]),
            Self::GroupExcept(name, at) => Audience::GroupExcept(NAMES[*name], id(at)),
            Self::Groups(names) => Audience::Groups(names),
            Self::GroupsExcept(names, at) => Audience::GroupsExcept(names, id(at)),
            Self::Only(at) => {
                some = at.iter().map(id).collect();
                Audience::Only(&some)
            }
            Self::Tagged(bits) => {
                let any = Tags::from_bits(*bits);
                Audience::Tagged(TagFilter { any, ..TagFilter::default() })
            }
            Self::Topic(name) => Audience::Topic(NAMES[*name]),
            Self::TopicExcept(name, at) => Audience::TopicExcept(NAMES[*name], id(at)),
        })
    }
}

fn to() -> impl Strategy<Value = To> {
    let (name, at) = (|| 0..NAMES.len(), || 0..4usize);
    let names = || prop::collection::vec(prop::sample::select(&NAMES[..]), 0..3);
    prop_oneof![
        3 => Just(To::All),
        1 => at().prop_map(To::Except),
        3 => name().prop_map(To::Group),
        1 => (name(), at()).prop_map(|(name, at)| To::GroupExcept(name, at)),
        1 => names().prop_map(To::Groups),
        1 => (names(), at()).prop_map(|(names, at)| To::GroupsExcept(names, at)),
        2 => prop::collection::vec(0..6usize, 0..6).prop_map(To::Only),
        1 => (0..4u64).prop_map(To::Tagged),
        1 => name().prop_map(To::Topic),
        1 => (name(), at()).prop_map(|(name, at)| To::TopicExcept(name, at)),
    ]
}

#[derive(Clone, Debug)]
enum Step {
    Change(usize, Change),
    Plan,
    Push(To, Opcode, usize, Option<u64>, Option<SlowConsumer>),
}

#[derive(Clone, Debug)]
enum Change {
    Join,
    Leave,
    Subscribe(usize),
    SubscribePattern,
    Tag(u64),
    Unsubscribe(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let name = || 0..NAMES.len() - 1;
    let change = prop_oneof![
        2 => Just(Change::Join),
        1 => Just(Change::Leave),
        4 => name().prop_map(Change::Subscribe),
        1 => Just(Change::SubscribePattern),
        1 => (0..4u64).prop_map(Change::Tag),
        1 => name().prop_map(Change::Unsubscribe),
    ];
    let opcode = prop::sample::select(&[Opcode::Text, Opcode::Binary, Opcode::Ping][..]);
    let len = prop_oneof![8 => 4..100usize, 1 => 20_000..40_000usize];
    let key = prop_oneof![3 => Just(None), 1 => (0..2u64).prop_map(Some)];
    let policy = prop_oneof![
        3 => Just(None),
        1 => Just(Some(SlowConsumer::DropOldest)),
        1 => Just(Some(SlowConsumer::Disconnect(CloseCode::POLICY))),
    ];
    prop_oneof![
        3 => (any::<usize>(), change).prop_map(|(at, change)| Step::Change(at, change)),
        2 => Just(Step::Plan),
        6 => (to(), opcode, len, key, policy)
            .prop_map(|(to, opcode, len, key, policy)| Step::Push(to, opcode, len, key, policy)),
    ]
}

/// What has been pushed and not been planned.
#[derive(Default)]
struct Model(Vec<(To, Run)>);

impl Model {
    fn push(&mut self, to: To, frame: Vec<u8>, run: Run) {
        match self.0.last_mut() {
            Some((same, last))
                if *same == to
                    && !matches!(&*same, To::Only(ids) if ids.len() > 1)
                    && (last.class, last.key, last.policy) == (run.class, None, run.policy)
                    && run.key.is_none()
                    && last.bytes.len() + frame.len() <= 64 * 1024 =>
            {
                last.bytes = [&last.bytes[..], &frame].concat().into();
                last.frames += 1;
            }
            _ => self.0.push((to, Run { bytes: frame.into(), ..run })),
        }
    }

    fn plan(&mut self, hub: &Hub, ids: &[MemberId]) -> BTreeMap<MemberId, Vec<Run>> {
        let mut runs = BTreeMap::<_, Vec<_>>::new();
        for (to, run) in self.0.drain(..) {
            let targets =
                to.with(ids, |to| hub.plan(to).map(|target| target.member).collect::<Vec<_>>());
            targets.into_iter().for_each(|id| runs.entry(id).or_default().push(run.clone()));
        }
        runs
    }
}

/// Plans all of a turn and checks what does not depend on what it is; returns what each member gets.
fn plan_all(turn: &mut Turn, hub: &Hub) -> BTreeMap<MemberId, Vec<Run>> {
    let mut got = BTreeMap::<_, Vec<_>>::new();
    while !turn.is_empty() {
        let Plan { bundles, targets } = turn.plan(hub);
        let members: BTreeSet<_> = targets.iter().map(|(id, _)| *id).collect();
        assert_eq!(members.len(), targets.len(), "each member stands there once");
        let used: BTreeSet<_> = targets.iter().map(|(_, bundle)| *bundle).collect();
        assert!(used.into_iter().eq(0..bundles.len() as u32), "none is for nobody");
        let distinct: BTreeSet<_> = bundles.iter().map(|bundle| &bundle.bytes).collect();
        assert_eq!(distinct.len(), bundles.len(), "who gets the same shares it");
        for Bundle { bytes, within, runs, frames } in &bundles {
            assert!(bytes.len() <= *within);
            assert_eq!(runs.iter().map(|run| run.frames).sum::<usize>(), *frames);
            let mut at = bytes.as_ptr() as usize;
            for run in runs {
                assert_eq!(run.bytes.as_ptr() as usize, at, "it is a part of the bundle");
                at += run.bytes.len();
            }
            assert_eq!(at, bytes.as_ptr() as usize + bytes.len());
        }
        for (id, bundle) in targets {
            got.entry(id).or_default().extend(bundles[bundle as usize].runs.iter().cloned());
        }
    }
    assert_eq!(turn.len(), 0);
    got
}

/// A frame of a server, RFC 6455 section 5.2.
fn frame(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let len = match payload.len() {
        len @ 0..126 => vec![len as u8],
        len => [&[126][..], &(len as u16).to_be_bytes()].concat(),
    };
    [&[0x80 | opcode as u8][..], &len, payload].concat()
}

proptest! {
    #[test]
    fn a_member_gets_what_it_would_get_from_one_operation_after_the_other(
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let (mut hub, mut turn, mut model) = (Hub::new(), Turn::new(), Model::default());
        let mut ids = vec![hub.join(Variant::Plain)];
        for (n, step) in steps.into_iter().chain([Step::Plan]).enumerate() {
            match step {
                Step::Change(at, change) => {
                    // As everybody must do who gathers.
                    prop_assert_eq!(plan_all(&mut turn, &hub), model.plan(&hub, &ids));
                    let id = ids[at % ids.len()];
                    let known = hub.contains(id);
                    match change {
                        Change::Join => ids.push(hub.join(Variant::Plain)),
                        Change::Leave => prop_assert_eq!(hub.leave(id), known),
                        Change::Subscribe(name) => _ = hub.subscribe(id, NAMES[name]),
                        Change::SubscribePattern => _ = hub.subscribe_pattern(id, "a.*"),
                        Change::Tag(bits) => _ = hub.set_tags(id, Tags::from_bits(bits)),
                        Change::Unsubscribe(name) => _ = hub.unsubscribe(id, NAMES[name]),
                    }
                }
                Step::Plan => prop_assert_eq!(plan_all(&mut turn, &hub), model.plan(&hub, &ids)),
                Step::Push(to, opcode, len, key, policy) => {
                    // No two are alike.
                    let mut payload = (n as u32).to_be_bytes().to_vec();
                    payload.resize(if opcode.is_control() { 4 } else { len }, b'x');
                    let frame = frame(opcode, &payload);
                    let len = turn.len();
                    to.with(&ids, |to| turn.push(to, opcode, &payload, key, policy));
                    prop_assert_eq!(turn.len(), len + frame.len());
                    let class =
                        if opcode == Opcode::Ping { Class::Control } else { Class::Broadcast };
                    let run = Run { bytes: Vec::new().into(), frames: 1, class, key, policy };
                    model.push(to.among(ids.len()), frame, run);
                }
            }
            prop_assert_eq!(turn.is_empty(), model.0.is_empty());
            let bytes = model.0.iter().map(|(_, run)| run.bytes.len()).sum::<usize>();
            prop_assert_eq!(turn.is_full(), bytes > 64 * 1024 || model.0.len() > 64);
        }
    }
}

#[test]
fn members_who_get_the_same_share_a_bundle() {
    let mut hub = Hub::new();
    let ids: Vec<_> = (0..4).map(|_| hub.join(Variant::Plain)).collect();
    for id in &ids[..2] {
        hub.subscribe(*id, "two").unwrap();
    }
    let mut turn = Turn::new();
    turn.push(Audience::All, Opcode::Text, b"a", None, None);
    turn.push(Audience::Group("two"), Opcode::Text, b"b", None, None);
    turn.push(Audience::Except(ids[3]), Opcode::Text, b"c", None, None);
    let Plan { bundles, targets } = turn.plan(&hub);
    assert_eq!((turn.len(), turn.is_empty()), (0, true));
    assert_eq!(targets, [(ids[0], 0), (ids[1], 0), (ids[2], 1), (ids[3], 2)]);
    let bytes: Vec<_> = bundles.iter().map(|bundle| &bundle.bytes[..]).collect();
    assert_eq!(bytes, [&b"\x81\x01a\x81\x01b\x81\x01c"[..], b"\x81\x01a\x81\x01c", b"\x81\x01a"]);
    // Neighbours are not copied.
    let start = bytes[0].as_ptr();
    assert_eq!([1, 2].map(|at| bytes[at].as_ptr() == start), [false, true]);

    turn.push(Audience::Only(&ids[..1]), Opcode::Text, b"a", None, None);
    turn.push(Audience::Group("two"), Opcode::Text, b"b", Some(1), None);
    turn.push(Audience::Group("two"), Opcode::Text, b"c", Some(1), None);
    let Plan { bundles, targets } = turn.plan(&hub);
    assert_eq!(targets, [(ids[0], 0), (ids[1], 1)]);
    assert_eq!(bundles[1].bytes.as_ptr(), bundles[0].bytes[3..].as_ptr());
}

#[test]
fn frames_for_the_same_members_become_one_run() {
    let mut hub = Hub::new();
    let id = hub.join(Variant::Plain);
    let mut turn = Turn::new();
    let oldest = Some(SlowConsumer::DropOldest);
    for (to, opcode, key, policy) in [
        (Audience::All, Opcode::Text, None, None),
        (Audience::All, Opcode::Binary, None, None),
        (Audience::All, Opcode::Text, None, oldest),
        (Audience::All, Opcode::Text, Some(1), oldest),
        (Audience::All, Opcode::Text, Some(1), oldest),
        (Audience::All, Opcode::Text, None, oldest),
        (Audience::All, Opcode::Ping, None, oldest),
        (Audience::Only(&[id]), Opcode::Ping, None, oldest),
        (Audience::Only(&[id]), Opcode::Pong, None, oldest),
    ] {
        turn.push(to, opcode, b"abcd", key, policy);
    }
    let runs = turn.plan(&hub).bundles.remove(0).runs;
    let frames: Vec<_> = runs.iter().map(|run| run.frames).collect();
    assert_eq!(frames, [2, 1, 1, 1, 1, 1, 2]);
}

#[test]
fn a_turn_is_full_above_64_kib_or_64_operations() {
    let (mut hub, mut turn) = (Hub::new(), Turn::new());
    hub.join(Variant::Plain);
    for n in 0..65 {
        assert!(!turn.is_full());
        turn.push(Audience::All, Opcode::Text, b"", Some(n), None);
    }
    assert!(turn.is_full());
    turn.plan(&hub);
    assert!(turn.is_empty() && !turn.is_full());

    turn.push(Audience::All, Opcode::Text, &[b'x'; 64 * 1024 - 4], None, None);
    assert_eq!((turn.len(), turn.is_full()), (64 * 1024, false));
    turn.push(Audience::All, Opcode::Text, b"", None, None);
    assert!(turn.is_full());
    // No run grows beyond that.
    assert_eq!(turn.plan(&hub).bundles[0].runs.len(), 2);
    turn.push(Audience::All, Opcode::Text, &[b'x'; 64 * 1024 - 6], None, None);
    turn.push(Audience::All, Opcode::Text, b"", None, None);
    assert_eq!(turn.plan(&hub).bundles[0].runs.len(), 1);
}

/// Members at random in 64 audiences: no two get the same.
#[test]
fn what_is_built_at_a_time_is_bounded() {
    const MEMBERS: usize = 2000;
    for payload in [0, 1000] {
        let payload = vec![b'x'; payload];
        let mut hub = Hub::new();
        let ids: Vec<_> = (0..MEMBERS).map(|_| hub.join(Variant::Plain)).collect();
        let (mut noise, mut turn) = (1u64, Turn::new());
        let mut expected = vec![0; MEMBERS];
        for _ in 0..64 {
            let mut some = Vec::new();
            for id in &ids {
                noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                if noise >> 63 == 1 {
                    some.push(*id);
                    expected[id.index()] += 1;
                }
            }
            turn.push(Audience::Only(&some), Opcode::Binary, &payload, None, None);
        }
        let mut got = vec![0; MEMBERS];
        while !turn.is_empty() {
            let before = turn.len();
            let mut plan = Plan::default();
            let info = measure(|| plan = turn.plan(&hub));
            // What it is for, the plan's own tables, and those of the one operation too many.
            assert!(info.bytes_max < 8 * 1024 * 1024, "{info:?}");
            assert!(turn.len() < before, "each plan gets on");
            for (id, bundle) in plan.targets {
                got[id.index()] += plan.bundles[bundle as usize].frames;
            }
        }
        assert_eq!(got, expected);
    }
}

#[test]
fn one_who_is_named_often_gets_it_as_often_but_not_at_once() {
    const TIMES: usize = 1000;
    let mut hub = Hub::new();
    let ids = [hub.join(Variant::Plain), hub.join(Variant::Plain)];
    let mut turn = Turn::new();
    let often: Vec<_> = [ids[0]; TIMES].into_iter().chain([ids[1]]).collect();
    turn.push(Audience::Only(&often), Opcode::Binary, &[0; 20_000], None, None);
    turn.push(Audience::All, Opcode::Text, b"end", None, None);
    let (mut got, mut plans) = ([0; 2], 0);
    while !turn.is_empty() {
        // What is sent meanwhile goes behind it.
        if plans == 1 {
            turn.push(Audience::Only(&ids[1..]), Opcode::Text, b"behind", None, None);
        }
        let plan = turn.plan(&hub);
        for (id, bundle) in plan.targets {
            let bundle = &plan.bundles[bundle as usize];
            assert!(bundle.bytes.len() <= 1024 * 1024);
            for run in &bundle.runs {
                let at = id.index();
                match (&run.bytes[2..], at) {
                    (b"end", 0) => assert_eq!(got[at], TIMES),
                    (b"end", _) => assert_eq!(got[at], 1),
                    (b"behind", _) => assert_eq!(got[at], 2),
                    _ => assert_eq!(run.bytes.len(), 20_004),
                }
                got[at] += 1;
            }
        }
        plans += 1;
    }
    assert_eq!(got, [TIMES + 1, 3]);
}

/// By far the most turns have one operation.
#[test]
fn a_turn_for_one_audience_costs_few_allocations_and_one_copy() {
    let mut counts = Vec::new();
    for members in [1000, 10_000] {
        let mut hub = Hub::new();
        for _ in 0..members {
            let id = hub.join(Variant::Plain);
            hub.subscribe(id, "room").unwrap();
        }
        let mut turn = Turn::new();
        let mut gather = |payload: &[u8]| {
            turn.push(Audience::Group("room"), Opcode::Text, payload, None, None);
            let plan = turn.plan(&hub);
            assert_eq!((plan.targets.len(), plan.bundles.len()), (members, 1));
        };
        // The first two make what is used anew.
        gather(b"first");
        gather(b"second");
        let info = measure(|| gather(b"a message"));
        // The name, the frame and its count, the targets, the bundles, the runs.
        assert!(info.count_total <= 6, "{info:?}");
        assert_eq!(info.bytes_current, 0);
        counts.push(info.count_total);

        let payload = vec![b'x'; 1 << 20];
        let info = measure(|| gather(&payload));
        assert!(info.bytes_max < (1 << 20) + 16 * members as u64 + 1024, "{info:?}");
    }
    assert_eq!(counts[0], counts[1]);
}
