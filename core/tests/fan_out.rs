//! Members, groups and plans, against a model that is too simple to be wrong.

use std::collections::{BTreeMap, BTreeSet};

use allocation_counter::measure;
use proptest::prelude::*;
use wsforge_core::hub::{
    Audience, Hub, MAX_GROUP_NAME_LEN, MAX_GROUPS_PER_MEMBER, MemberId, SharedFrame,
    SubscribeError, TagFilter, Tags, Variant,
};
use wsforge_core::{Config, Kind, Output, ServerConnection, Timestamp};

#[derive(Clone, Debug)]
enum Op {
    Join,
    Leave(prop::sample::Index),
    Subscribe(prop::sample::Index, u8),
    Unsubscribe(prop::sample::Index, u8),
    Tag(prop::sample::Index, u64),
}

fn op() -> impl Strategy<Value = Op> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        2 => Just(Op::Join),
        1 => index().prop_map(Op::Leave),
        5 => (index(), 0..9u8).prop_map(|(at, group)| Op::Subscribe(at, group)),
        3 => (index(), 0..9u8).prop_map(|(at, group)| Op::Unsubscribe(at, group)),
        2 => (index(), 0..8u64).prop_map(|(at, tags)| Op::Tag(at, tags)),
    ]
}

/// The members of a plan; none may stand in it twice.
fn members(hub: &Hub, to: Audience<'_>) -> BTreeSet<MemberId> {
    let planned: Vec<_> = hub.plan(to).collect();
    assert_eq!(planned, hub.plan(to).collect::<Vec<_>>(), "a plan is the same each time");
    let members: BTreeSet<_> = planned.iter().map(|target| target.member).collect();
    assert_eq!(members.len(), planned.len(), "nobody gets it twice");
    members
}

/// The members of any of these groups, in the order of the groups and then of each group's own plan.
fn one_after_the_other(hub: &Hub, names: &[&str]) -> Vec<MemberId> {
    let mut seen = BTreeSet::new();
    let all = names.iter().flat_map(|name| hub.plan(Audience::Group(name)));
    all.map(|target| target.member).filter(|id| seen.insert(*id)).collect()
}

proptest! {
    #[test]
    fn a_hub_behaves_like_a_map_of_sets(ops in prop::collection::vec(op(), 1..120)) {
        let (mut hub, mut model) = (Hub::new(), BTreeMap::<MemberId, BTreeSet<String>>::new());
        let mut tags = BTreeMap::<MemberId, Tags>::new();
        // Everyone who has ever joined, so that stale ids are used too.
        let mut all = Vec::new();
        for op in ops {
            if all.is_empty() || matches!(op, Op::Join) {
                let id = hub.join(Variant::Plain);
                prop_assert!(model.insert(id, BTreeSet::new()).is_none(), "ids are never used again");
                tags.insert(id, Tags::NONE);
                all.push(id);
                continue;
            }
            match op {
                Op::Join => {}
                Op::Leave(at) => {
                    let id = *at.get(&all);
                    prop_assert_eq!(hub.leave(id), model.remove(&id).is_some());
                    tags.remove(&id);
                }
                Op::Subscribe(at, group) => {
                    let (id, group) = (*at.get(&all), format!("group {group}"));
                    let expected = match model.get_mut(&id) {
                        Some(groups) => Ok(groups.insert(group.clone())),
                        None => Err(SubscribeError::UnknownMember),
                    };
                    prop_assert_eq!(hub.subscribe(id, &group), expected);
                }
                Op::Unsubscribe(at, group) => {
                    let (id, group) = (*at.get(&all), format!("group {group}"));
                    let expected = model.get_mut(&id).is_some_and(|groups| groups.remove(&group));
                    prop_assert_eq!(hub.unsubscribe(id, &group), expected);
                }
                Op::Tag(at, bits) => {
                    let (id, new) = (*at.get(&all), Tags::from_bits(bits));
                    prop_assert_eq!(hub.set_tags(id, new), tags.contains_key(&id));
                    tags.entry(id).and_modify(|tags| *tags = new);
                }
            }

            let ids: BTreeSet<_> = model.keys().copied().collect();
            prop_assert_eq!((hub.len(), hub.is_empty()), (ids.len(), ids.is_empty()));
            prop_assert_eq!(&members(&hub, Audience::All), &ids);
            let sender = all[0];
            let others: BTreeSet<_> = ids.iter().copied().filter(|id| *id != sender).collect();
            prop_assert_eq!(members(&hub, Audience::Except(sender)), others);
            let known: BTreeSet<_> = members(&hub, Audience::Only(&all));
            prop_assert_eq!(known, ids, "those that have left are passed over");
            for id in &all {
                let groups: BTreeSet<_> = hub.groups(*id).map(String::from).collect();
                prop_assert_eq!(groups, model.get(id).cloned().unwrap_or_default());
                prop_assert_eq!(hub.contains(*id), model.contains_key(id));
                prop_assert_eq!(hub.tags(*id), tags.get(id).copied());
                prop_assert_eq!(MemberId::from_bits(id.to_bits()), *id);
            }
            let mut names = BTreeSet::new();
            for group in (0..9).map(|group| format!("group {group}")) {
                let subscribed: BTreeSet<_> =
                    model.iter().filter(|(_, groups)| groups.contains(&group)).map(|(id, _)| *id).collect();
                if !subscribed.is_empty() {
                    names.insert(group.clone());
                }
                prop_assert_eq!(hub.group_len(&group), subscribed.len());
                let present: Vec<_> = hub.members(&group).collect();
                prop_assert_eq!(present.len(), subscribed.len());
                prop_assert_eq!(&present.into_iter().collect::<BTreeSet<_>>(), &subscribed);
                for id in &all {
                    prop_assert_eq!(hub.is_in(*id, &group), subscribed.contains(id));
                }
                prop_assert_eq!(&members(&hub, Audience::Group(&group)), &subscribed);
                let others: BTreeSet<_> =
                    subscribed.into_iter().filter(|id| *id != sender).collect();
                prop_assert_eq!(members(&hub, Audience::GroupExcept(&group, sender)), others);
            }
            prop_assert_eq!(hub.group_count(), names.len(), "an empty group is gone");
            prop_assert!(hub.group_names().eq(names.iter().map(|name| &**name)), "in their order");

            for some in [&[][..], &["group 1"], &["group 2", "none", "group 1", "group 2", "group 3"]] {
                let expected = one_after_the_other(&hub, some);
                let planned = hub.plan(Audience::Groups(some)).map(|target| target.member);
                prop_assert!(planned.eq(expected.iter().copied()));
                let planned = hub.plan(Audience::GroupsExcept(some, sender)).map(|target| target.member);
                prop_assert!(planned.eq(expected.into_iter().filter(|id| *id != sender)));
            }
            let [all, any, none] = [1, 6, 4].map(Tags::from_bits);
            for filter in [
                TagFilter { all, ..TagFilter::default() },
                TagFilter { any, ..TagFilter::default() },
                TagFilter { all, any, none },
            ] {
                let expected: BTreeSet<_> =
                    tags.iter().filter(|(_, tags)| filter.matches(**tags)).map(|(id, _)| *id).collect();
                prop_assert_eq!(members(&hub, Audience::Tagged(filter)), expected);
            }
        }
    }
}

#[test]
fn limits_hold_and_change_nothing() {
    let mut hub = Hub::new();
    let id = hub.join(Variant::Plain);
    assert_eq!(hub.subscribe(id, &"x".repeat(MAX_GROUP_NAME_LEN)), Ok(true));
    let long = "x".repeat(MAX_GROUP_NAME_LEN + 1);
    assert_eq!(hub.subscribe(id, &long), Err(SubscribeError::NameTooLong));
    for group in 1..MAX_GROUPS_PER_MEMBER {
        assert_eq!(hub.subscribe(id, &group.to_string()), Ok(true));
    }
    assert_eq!(hub.subscribe(id, "one more"), Err(SubscribeError::TooManyGroups));
    assert_eq!(hub.subscribe(id, "1"), Ok(false), "it is in that group already");
    assert_eq!(hub.group_count(), MAX_GROUPS_PER_MEMBER);
    assert!(hub.unsubscribe(id, "1"));
    assert_eq!(hub.subscribe(id, "one more"), Ok(true));
}

/// What a collection reserves by it is neither too little nor much too much.
#[test]
fn a_plan_knows_how_long_it_may_be() {
    let mut hub = Hub::new();
    let ids: Vec<_> = (0..10).map(|_| hub.join(Variant::Plain)).collect();
    for id in &ids[..4] {
        hub.subscribe(*id, "a").unwrap();
        hub.subscribe(*id, "b").unwrap();
    }
    let hint = |to| hub.plan(to).size_hint();
    assert_eq!(hint(Audience::All), (10, Some(10)));
    assert_eq!(hint(Audience::Except(ids[0])), (9, Some(10)));
    assert_eq!(hint(Audience::Group("a")), (4, Some(4)));
    assert_eq!(hint(Audience::GroupExcept("a", ids[0])), (3, Some(4)));
    assert_eq!(hint(Audience::GroupExcept("none", ids[0])), (0, Some(0)));
    assert_eq!(hint(Audience::Groups(&["a", "b"])), (0, Some(8)));
    assert_eq!(hint(Audience::Only(&ids)), (0, Some(10)));
    assert_eq!(hint(Audience::Tagged(TagFilter::default())), (0, Some(10)));
    let mut plan = hub.plan(Audience::Groups(&["a", "b"]));
    plan.nth(4);
    assert_eq!(plan.size_hint(), (0, Some(0)), "the second list held nobody new");
}

/// At a million memberships, slack of growing lists included.
#[test]
fn members_and_memberships_stay_small() {
    const MEMBERS: usize = 100_000;
    for groups_per_member in [1, 5, 10, 17] {
        let (mut hub, mut ids) = (Hub::new(), Vec::with_capacity(MEMBERS));
        let info = measure(|| ids.extend((0..MEMBERS).map(|_| hub.join(Variant::Plain))));
        let per_member = info.bytes_current as usize / MEMBERS;
        assert!(per_member <= 64, "{per_member} bytes per member");

        let names: Vec<String> = (0..1000).map(|group| format!("group {group}")).collect();
        let info = measure(|| {
            for (at, id) in ids.iter().enumerate() {
                for group in 0..groups_per_member {
                    hub.subscribe(*id, &names[(at * 7 + group * 31) % names.len()]).unwrap();
                }
            }
        });
        let per_membership = info.bytes_current as usize / (MEMBERS * groups_per_member);
        assert!(per_membership <= 20, "{per_membership} bytes, {groups_per_member} groups each");

        let info = measure(|| ids.iter().for_each(|id| assert!(hub.leave(*id))));
        let freed = -info.bytes_current as usize;
        assert!(freed >= MEMBERS * groups_per_member * 12, "{info:?}");
        assert_eq!((hub.len(), hub.group_count()), (0, 0));
    }
}

/// One message, encoded once, and what a connection makes of the same message.
#[test]
fn a_shared_frame_is_what_a_connection_sends() {
    let mut conn = ServerConnection::after_handshake(Config::default().into(), Timestamp::ZERO);
    for (kind, len) in
        [(Kind::Text, 0), (Kind::Binary, 125), (Kind::Text, 126), (Kind::Binary, 70_000)]
    {
        let payload = vec![b'a'; len];
        let frame = SharedFrame::new(kind, &payload);
        let mut output = Output::new();
        conn.send(kind, &payload, &mut output).unwrap();
        let sent: Vec<u8> = output.slices().flatten().copied().collect();
        assert_eq!(frame.get(conn.variant())[..], sent);
        let shared = frame.get(Variant::Plain).clone();
        assert_eq!(shared.as_ptr(), frame.clone().get(Variant::Plain).as_ptr(), "not copied");
    }
}
