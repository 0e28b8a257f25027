use std::collections::{BTreeMap, BTreeSet};

use wsforge_core::hub::{
    Audience, Hub, MAX_GROUP_NAME_LEN, MAX_GROUPS_PER_MEMBER, MemberId, SubscribeError, TagFilter,
    Tags, Variant,
};

use crate::Source;

/// More groups than a member may be in.
const GROUPS: u8 = 140;

/// How many ids are remembered.
const MAX_IDS: usize = 24;

/// Members as they should be.
type Model = BTreeMap<MemberId, Member>;

#[derive(Clone, Default)]
struct Member {
    groups: BTreeSet<String>,
    patterns: BTreeSet<String>,
    tags: Tags,
}

/// A hub behaves like a map of sets, for members that have left too.
pub fn hub(data: &[u8]) {
    let mut source = Source::new(data);
    let (mut hub, mut model) = (Hub::new(), Model::new());
    // Those who have left too, so that stale ids are used.
    let mut all = vec![hub.join(Variant::Plain)];
    model.insert(all[0], Member::default());
    while !source.is_empty() {
        let op = source.u8();
        let at = usize::from(source.u8()) % all.len();
        let id = all[at];
        match op % 16 {
            // All are looked at all the time, so they are few.
            0 if all.len() < MAX_IDS || !model.contains_key(&id) => {
                let new = hub.join(Variant::Plain);
                let known = model.insert(new, Member::default());
                assert!(known.is_none(), "ids are never used again");
                if all.len() < MAX_IDS {
                    all.push(new);
                } else {
                    all[at] = new;
                }
            }
            0 => {}
            1 => assert_eq!(hub.leave(id), model.remove(&id).is_some()),
            5 if op >> 4 == 0 => {
                (0..GROUPS).for_each(|group| subscribe(&mut hub, &mut model, id, name(group)));
            }
            2..=5 => subscribe(&mut hub, &mut model, id, name(source.u8())),
            6..=7 => {
                let name = name(source.u8());
                let expected = model.get_mut(&id).is_some_and(|member| member.groups.remove(&name));
                assert_eq!(hub.unsubscribe(id, &name), expected);
            }
            8..=12 => subscribe_pattern(&mut hub, &mut model, id, name(source.u8())),
            13..=14 => {
                let name = name(source.u8());
                let expected =
                    model.get_mut(&id).is_some_and(|member| member.patterns.remove(&name));
                assert_eq!(hub.unsubscribe_pattern(id, &name), expected);
            }
            _ => {
                let tags = Tags::from_bits(source.u8().into());
                assert_eq!(hub.set_tags(id, tags), model.contains_key(&id));
                model.entry(id).and_modify(|member| member.tags = tags);
            }
        }
        // All of it is looked at, so not every time.
        if op >> 6 == 0 || source.is_empty() {
            check_members(&hub, &model, &all, id);
            check_groups(&hub, &model, id);
            check_tags(&hub, &model, &all, op);
            check_topics(&hub, &model, id);
        }
    }
}

/// Some names are too long, some empty, and some are patterns too.
fn name(bits: u8) -> String {
    match bits {
        250 => String::new(),
        251 => "x".repeat(MAX_GROUP_NAME_LEN),
        252.. => "x".repeat(MAX_GROUP_NAME_LEN + 1),
        0..GROUPS => format!("group {bits}"),
        _ => {
            let tokens = [0, 2, 4].map(|at| ["a", "b", "*", ">"][usize::from(bits >> at & 3)]);
            let tokens = tokens[..1 + usize::from(bits) % 3].join(".");
            if bits % 16 == 7 { tokens + "." } else { tokens }
        }
    }
}

fn subscribe(hub: &mut Hub, model: &mut Model, id: MemberId, name: String) {
    let subscribed = hub.subscribe(id, &name);
    let expected = match model.get_mut(&id) {
        None => Err(SubscribeError::UnknownMember),
        Some(_) if name.len() > MAX_GROUP_NAME_LEN => Err(SubscribeError::NameTooLong),
        Some(member) if member.groups.contains(&name) => Ok(false),
        Some(member) if member.is_full() => Err(SubscribeError::TooManyGroups),
        Some(member) => Ok(member.groups.insert(name)),
    };
    assert_eq!(subscribed, expected);
}

fn subscribe_pattern(hub: &mut Hub, model: &mut Model, id: MemberId, name: String) {
    let subscribed = hub.subscribe_pattern(id, &name);
    let tokens: Vec<_> = name.split('.').collect();
    let is_bad = tokens.contains(&"") || tokens[..tokens.len() - 1].contains(&">");
    let expected = match model.get_mut(&id) {
        None => Err(SubscribeError::UnknownMember),
        Some(_) if name.len() > MAX_GROUP_NAME_LEN => Err(SubscribeError::NameTooLong),
        Some(_) if is_bad => Err(SubscribeError::BadPattern),
        Some(member) if member.patterns.contains(&name) => Ok(false),
        Some(member) if member.is_full() => Err(SubscribeError::TooManyGroups),
        Some(member) => Ok(member.patterns.insert(name)),
    };
    assert_eq!(subscribed, expected);
}

impl Member {
    fn is_full(&self) -> bool {
        self.groups.len() + self.patterns.len() == MAX_GROUPS_PER_MEMBER
    }
}

fn check_members(hub: &Hub, model: &Model, all: &[MemberId], sender: MemberId) {
    let ids: BTreeSet<_> = model.keys().copied().collect();
    assert_eq!((hub.len(), hub.is_empty()), (ids.len(), ids.is_empty()));
    assert_eq!(planned(hub, Audience::All), ids);
    assert_eq!(planned(hub, Audience::Only(all)), ids, "those that have left are passed over");
    assert_eq!(planned(hub, Audience::Except(sender)), without(&ids, sender));
    let places: BTreeSet<_> = ids.iter().map(|id| id.index()).collect();
    assert_eq!(places.len(), ids.len(), "no two members have one place");
    for id in all {
        let expected = model.get(id).cloned().unwrap_or_default();
        let groups: Vec<_> = hub.groups(*id).map(String::from).collect();
        assert_eq!(groups.len(), expected.groups.len());
        assert_eq!(groups.into_iter().collect::<BTreeSet<_>>(), expected.groups);
        let patterns: Vec<_> = hub.patterns(*id).map(String::from).collect();
        assert_eq!(patterns.len(), expected.patterns.len());
        assert_eq!(patterns.into_iter().collect::<BTreeSet<_>>(), expected.patterns);
        assert_eq!(hub.contains(*id), model.contains_key(id));
    }
}

fn check_groups(hub: &Hub, model: &Model, sender: MemberId) {
    let mut groups = BTreeMap::<&str, BTreeSet<MemberId>>::new();
    for (id, member) in model {
        for name in &member.groups {
            assert!(groups.entry(name).or_default().insert(*id));
        }
    }
    assert_eq!(hub.group_count(), groups.len(), "an empty group is gone");
    assert!(hub.group_names().eq(groups.keys().copied()));
    for (name, members) in &groups {
        assert_eq!(hub.group_len(name), members.len());
        assert_eq!(hub.members(name).collect::<BTreeSet<_>>(), *members);
        assert_eq!(hub.is_in(sender, name), members.contains(&sender));
        assert_eq!(planned(hub, Audience::Group(name)), *members);
        let others = without(members, sender);
        assert_eq!(planned(hub, Audience::GroupExcept(name, sender)), others);
    }
    // Some that they have in common with others, one twice and one that is none.
    let some: Vec<&str> = groups.keys().copied().take(3).chain(["none", "group 1"]).collect();
    let members = some.iter().filter_map(|name| groups.get(name)).flatten().copied().collect();
    assert_eq!(planned(hub, Audience::Groups(&some)), members);
    assert_eq!(planned(hub, Audience::GroupsExcept(&some, sender)), without(&members, sender));
}

fn check_tags(hub: &Hub, model: &Model, all: &[MemberId], bits: u8) {
    for id in all {
        assert_eq!(hub.tags(*id), model.get(id).map(|member| member.tags));
    }
    let [all, any, none] =
        [bits & 0x05, bits & 0x0A, bits & 0x30].map(|bits| Tags::from_bits(bits.into()));
    let matches = |tags: Tags| {
        tags & all == all
            && (any == Tags::NONE || tags & any != Tags::NONE)
            && tags & none == Tags::NONE
    };
    let members = model.iter().filter(|(_, member)| matches(member.tags)).map(|(id, _)| *id);
    let filter = TagFilter { all, any, none };
    assert_eq!(planned(hub, Audience::Tagged(filter)), members.collect());
}

fn check_topics(hub: &Hub, model: &Model, sender: MemberId) {
    for topic in ["a", "a.b", "a.a.b", "b.*.a", "group 1", "a..b", ""] {
        let name: Vec<_> = topic.split('.').collect();
        let hears = |member: &Member| {
            let matches =
                |pattern: &String| matches(&pattern.split('.').collect::<Vec<_>>(), &name);
            member.groups.contains(topic) || member.patterns.iter().any(matches)
        };
        let members = model.iter().filter(|(_, member)| hears(member)).map(|(id, _)| *id).collect();
        assert_eq!(planned(hub, Audience::Topic(topic)), members, "{topic}");
        assert_eq!(planned(hub, Audience::TopicExcept(topic, sender)), without(&members, sender));
    }
}

/// Whether a name matches a pattern, one token after the other.
fn matches(pattern: &[&str], name: &[&str]) -> bool {
    match (pattern, name) {
        ([">"], [_, ..]) => !name.contains(&""),
        (["*", pattern @ ..], [token, name @ ..]) => !token.is_empty() && matches(pattern, name),
        ([expected, pattern @ ..], [token, name @ ..]) => {
            expected == token && matches(pattern, name)
        }
        (pattern, name) => pattern.is_empty() && name.is_empty(),
    }
}

fn without(members: &BTreeSet<MemberId>, except: MemberId) -> BTreeSet<MemberId> {
    members.iter().copied().filter(|id| *id != except).collect()
}

/// The members of a plan; none may stand in it twice.
fn planned(hub: &Hub, to: Audience<'_>) -> BTreeSet<MemberId> {
    let planned: Vec<_> = hub.plan(to).map(|target| target.member).collect();
    let members: BTreeSet<_> = planned.iter().copied().collect();
    assert_eq!(members.len(), planned.len(), "nobody gets it twice");
    members
}
