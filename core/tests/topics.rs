//! Topics and the patterns that match them, against a matcher that is too simple to be wrong.

use std::collections::{BTreeMap, BTreeSet};

use allocation_counter::measure;
use proptest::prelude::*;
use wsforge_core::hub::{
    Audience, Hub, MAX_GROUP_NAME_LEN, MAX_GROUPS_PER_MEMBER, MemberId, SubscribeError, Variant,
};

/// Whether a name matches a pattern, one token after the other.
fn matches(pattern: &[&str], name: &[&str]) -> bool {
    match (pattern, name) {
        ([">"], [_, ..]) => name.iter().all(|token| !token.is_empty()),
        (["*", pattern @ ..], [token, name @ ..]) => !token.is_empty() && matches(pattern, name),
        ([expected, pattern @ ..], [token, name @ ..]) => {
            expected == token && matches(pattern, name)
        }
        (pattern, name) => pattern.is_empty() && name.is_empty(),
    }
}

fn tokens(name: &str) -> Vec<&str> {
    name.split('.').collect()
}

fn is_pattern(pattern: &str) -> bool {
    let tokens = tokens(pattern);
    let (last, before) = tokens.split_last().unwrap();
    !tokens.contains(&"") && !before.contains(&">") && !last.is_empty()
}

/// Names and patterns alike: what is a wildcard in one is a token in the other.
fn name() -> impl Strategy<Value = String> {
    let token = prop_oneof![
        4 => prop::sample::select(vec!["a", "b", "ab"]),
        3 => Just("*"),
        2 => Just(">"),
        1 => prop::sample::select(vec!["", "a*", "*>"]),
    ];
    prop::collection::vec(token, 1..4).prop_map(|tokens| tokens.join("."))
}

#[derive(Clone, Debug)]
enum Op {
    Join,
    Leave(prop::sample::Index),
    Subscribe(prop::sample::Index, String),
    SubscribePattern(prop::sample::Index, String),
    UnsubscribePattern(prop::sample::Index, prop::sample::Index),
    Unsubscribe(prop::sample::Index, prop::sample::Index),
}

fn op() -> impl Strategy<Value = Op> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        2 => Just(Op::Join),
        1 => index().prop_map(Op::Leave),
        3 => (index(), name()).prop_map(|(at, name)| Op::Subscribe(at, name)),
        6 => (index(), name()).prop_map(|(at, name)| Op::SubscribePattern(at, name)),
        1 => (index(), index()).prop_map(|(at, name)| Op::Unsubscribe(at, name)),
        2 => (index(), index()).prop_map(|(at, name)| Op::UnsubscribePattern(at, name)),
    ]
}

/// Whether a member is subscribed to a pattern, rather than in a group, and what that is called.
type Subscription = (bool, String);

proptest! {
    #[test]
    fn a_topic_reaches_who_is_subscribed_to_it_or_to_a_pattern_of_it(
        ops in prop::collection::vec(op(), 1..60),
        topics in prop::collection::vec(name(), 1..6),
    ) {
        let (mut hub, mut model) = (Hub::new(), BTreeMap::<MemberId, BTreeSet<Subscription>>::new());
        let (mut all, mut names) = (vec![], vec!["a".to_owned()]);
        for op in ops {
            if all.is_empty() || matches!(op, Op::Join) {
                all.push(hub.join(Variant::Plain));
                model.insert(all[all.len() - 1], BTreeSet::new());
                continue;
            }
            match op {
                Op::Join => {}
                Op::Leave(at) => {
                    let id = *at.get(&all);
                    prop_assert_eq!(hub.leave(id), model.remove(&id).is_some());
                }
                Op::Subscribe(at, name) => {
                    let id = *at.get(&all);
                    let known = model.get_mut(&id);
                    let expected = known.map(|known| known.insert((false, name.clone())));
                    prop_assert_eq!(hub.subscribe(id, &name), expected.ok_or(SubscribeError::UnknownMember));
                    names.push(name);
                }
                Op::SubscribePattern(at, name) => {
                    let id = *at.get(&all);
                    let expected = match model.get_mut(&id) {
                        None => Err(SubscribeError::UnknownMember),
                        Some(_) if !is_pattern(&name) => Err(SubscribeError::BadPattern),
                        Some(known) => Ok(known.insert((true, name.clone()))),
                    };
                    prop_assert_eq!(hub.subscribe_pattern(id, &name), expected);
                    names.push(name);
                }
                Op::Unsubscribe(at, name) => {
                    let (id, name) = (*at.get(&all), name.get(&names).clone());
                    let expected =
                        model.get_mut(&id).is_some_and(|known| known.remove(&(false, name.clone())));
                    prop_assert_eq!(hub.unsubscribe(id, &name), expected);
                }
                Op::UnsubscribePattern(at, name) => {
                    let (id, name) = (*at.get(&all), name.get(&names).clone());
                    let expected =
                        model.get_mut(&id).is_some_and(|known| known.remove(&(true, name.clone())));
                    prop_assert_eq!(hub.unsubscribe_pattern(id, &name), expected);
                }
            }

            for id in &all {
                let patterns = hub.patterns(*id).map(|name| (true, name.to_owned()));
                let groups = hub.groups(*id).map(|name| (false, name.to_owned()));
                let known: BTreeSet<Subscription> = patterns.chain(groups).collect();
                prop_assert_eq!(known, model.get(id).cloned().unwrap_or_default());
            }
            let groups: BTreeSet<_> = model.values().flatten().filter(|(pattern, _)| !pattern).collect();
            prop_assert!(hub.group_names().eq(groups.iter().map(|(_, name)| &**name)));
            prop_assert_eq!(hub.group_count(), groups.len(), "no pattern is a group");
            for topic in topics.iter().chain(&names) {
                let is_for = |(pattern, name): &Subscription| match pattern {
                    true => matches(&tokens(name), &tokens(topic)),
                    false => name == topic,
                };
                let expected: BTreeSet<_> = model
                    .iter()
                    .filter(|(_, known)| known.iter().any(is_for))
                    .map(|(id, _)| *id)
                    .collect();
                prop_assert_eq!(&members(&hub, Audience::Topic(topic)), &expected, "{}", topic);
                let others = expected.iter().copied().filter(|id| *id != all[0]).collect();
                prop_assert_eq!(members(&hub, Audience::TopicExcept(topic, all[0])), others);
                let exact = |known: &BTreeSet<_>| known.contains(&(false, topic.clone()));
                let direct = model.iter().filter(|(_, known)| exact(known)).map(|(id, _)| *id);
                prop_assert_eq!(members(&hub, Audience::Group(topic)), direct.collect());
            }
        }
    }
}

/// The members of a plan; none may stand in it twice.
fn members(hub: &Hub, to: Audience<'_>) -> BTreeSet<MemberId> {
    let planned: Vec<_> = hub.plan(to).collect();
    assert_eq!(planned, hub.plan(to).collect::<Vec<_>>(), "a plan is the same each time");
    let members: BTreeSet<_> = planned.iter().map(|target| target.member).collect();
    assert_eq!(members.len(), planned.len(), "nobody gets it twice");
    members
}

#[test]
fn limits_hold_and_change_nothing() {
    let mut hub = Hub::new();
    let id = hub.join(Variant::Plain);
    for pattern in ["", ".", "a.", ".a", "a..b", ">.a", "a.>.>", ">."] {
        assert_eq!(
            hub.subscribe_pattern(id, pattern),
            Err(SubscribeError::BadPattern),
            "{pattern}"
        );
    }
    let long = "x".repeat(MAX_GROUP_NAME_LEN + 1);
    assert_eq!(hub.subscribe_pattern(id, &long), Err(SubscribeError::NameTooLong));
    assert_eq!(hub.subscribe_pattern(id, &long[1..]), Ok(true));
    for group in 1..MAX_GROUPS_PER_MEMBER {
        let subscribe = if group % 2 == 0 { Hub::subscribe } else { Hub::subscribe_pattern };
        assert_eq!(subscribe(&mut hub, id, &group.to_string()), Ok(true));
    }
    assert_eq!(hub.subscribe_pattern(id, "more"), Err(SubscribeError::TooManyGroups));
    assert_eq!(hub.subscribe(id, "more"), Err(SubscribeError::TooManyGroups));
    assert_eq!(hub.subscribe_pattern(id, "1"), Ok(false), "it was before");
    assert!(hub.unsubscribe_pattern(id, "1") && !hub.unsubscribe_pattern(id, "1"));
    assert_eq!(hub.subscribe(id, "more"), Ok(true));
    assert!(hub.leave(id));
    assert_eq!(hub.subscribe_pattern(id, "a"), Err(SubscribeError::UnknownMember));
    assert_eq!((hub.patterns(id).count(), hub.unsubscribe_pattern(id, "3")), (0, false));
}

/// Its place and its groups' numbers are somebody else's by now.
#[test]
fn one_who_has_left_stays_out() {
    let mut hub = Hub::new();
    let old = hub.join(Variant::Plain);
    hub.subscribe_pattern(old, "a.*").unwrap();
    hub.subscribe(old, "a.b").unwrap();
    assert!(hub.leave(old));
    assert_eq!(hub.plan(Audience::Topic("a.b")).count(), 0);

    let new = hub.join(Variant::Plain);
    assert_eq!(new.index(), old.index());
    hub.subscribe_pattern(new, "a.>").unwrap();
    assert!(!hub.unsubscribe_pattern(old, "a.>") && !hub.is_in(old, "a.b"));
    assert_eq!(hub.subscribe_pattern(old, "a.>"), Err(SubscribeError::UnknownMember));
    assert_eq!(members(&hub, Audience::TopicExcept("a.b", old)), [new].into());
    assert!(hub.leave(new) && !hub.leave(old));
}

/// All patterns of seven tokens: each leads to a node of its own, which is visited once.
#[test]
fn what_is_done_for_a_topic_is_bounded_by_the_patterns() {
    const DEPTH: u32 = 7;
    let mut hub = Hub::new();
    for bits in 0..1u32 << DEPTH {
        let tokens = (0..DEPTH).map(|at| if bits >> at & 1 == 0 { "*" } else { "a" });
        let pattern = tokens.collect::<Vec<_>>().join(".");
        let id = hub.join(Variant::Plain);
        hub.subscribe_pattern(id, &pattern).unwrap();
    }
    // What lists may hold is what was found in them: nobody is in two.
    let found = |topic: &str| hub.plan(Audience::Topic(topic)).size_hint().1;
    assert_eq!(found("a.a.a.a.a.a.a"), Some(1 << DEPTH));
    assert_eq!(found("a.b.b.b.b.b.b"), Some(2));
    assert_eq!(found("*.*.*.*.*.*.*"), Some(1), "wildcards mean nothing in a name");
    assert_eq!(found("a.a.a.a.a.a"), Some(0));
    assert_eq!(found(&format!("{}a.a.a.a.a.a.a", "a".repeat(MAX_GROUP_NAME_LEN))), Some(0));
}

#[test]
fn a_pattern_may_have_as_many_tokens_as_fit() {
    let mut hub = Hub::new();
    let id = hub.join(Variant::Plain);
    let pattern = vec!["*"; MAX_GROUP_NAME_LEN.div_ceil(2)].join(".");
    assert_eq!(
        (pattern.len(), hub.subscribe_pattern(id, &pattern)),
        (MAX_GROUP_NAME_LEN, Ok(true))
    );
    let topic = pattern.replace('*', "a");
    assert_eq!(hub.clone().plan(Audience::Topic(&topic)).count(), 1);
    assert!(hub.unsubscribe_pattern(id, &pattern));
    assert_eq!(hub.plan(Audience::Topic(&topic)).count(), 0);
}

#[test]
fn patterns_cost_nothing_when_there_are_none() {
    let mut hub = Hub::new();
    let ids: Vec<_> = (0..100).map(|_| hub.join(Variant::Plain)).collect();
    for id in &ids {
        hub.subscribe(*id, "a.b").unwrap();
    }
    let count = measure(|| assert_eq!(hub.plan(Audience::Topic("a.b")).count(), 100)).count_total;
    assert_eq!(count, 0);

    // What was made for them is gone with them.
    let churn = |hub: &mut Hub| {
        for pattern in ["a.*", "a.b.>", "*.b.>", "a.*.c"] {
            ids.iter().for_each(|id| assert_eq!(hub.subscribe_pattern(*id, pattern), Ok(true)));
        }
        for pattern in ["a.b.>", "a.*", "a.*.c", "*.b.>"] {
            ids.iter().for_each(|id| assert!(hub.unsubscribe_pattern(*id, pattern)));
        }
    };
    churn(&mut hub);
    assert_eq!(measure(|| churn(&mut hub)).bytes_current, 0);
}
