use std::collections::{BTreeMap, BTreeSet};

use wsforge_core::hub::{
    Audience, Hub, MAX_GROUP_NAME_LEN, MAX_GROUPS_PER_MEMBER, MemberId, SubscribeError, Variant,
};

use crate::Source;

/// More groups than a member may be in.
const GROUPS: u8 = 140;

/// How many ids are remembered.
const MAX_IDS: usize = 24;

/// A hub behaves like a map of sets, for members that have left too.
pub fn hub(data: &[u8]) {
    let mut source = Source::new(data);
    let (mut hub, mut model) = (Hub::new(), BTreeMap::<MemberId, BTreeSet<String>>::new());
    // Those who have left too, so that stale ids are used.
    let mut all = vec![hub.join(Variant::Plain)];
    model.insert(all[0], BTreeSet::new());
    while !source.is_empty() {
        let op = source.u8();
        let at = usize::from(source.u8()) % all.len();
        let id = all[at];
        match op % 8 {
            // All are looked at all the time, so they are few.
            0 if all.len() < MAX_IDS || !model.contains_key(&id) => {
                let new = hub.join(Variant::Plain);
                assert!(model.insert(new, BTreeSet::new()).is_none(), "ids are never used again");
                if all.len() < MAX_IDS {
                    all.push(new);
                } else {
                    all[at] = new;
                }
            }
            0 => {}
            1 => assert_eq!(hub.leave(id), model.remove(&id).is_some()),
            5 if op >> 4 == 0 => {
                (0..GROUPS).for_each(|group| subscribe(&mut hub, &mut model, id, name(group)))
            }
            2..=5 => subscribe(&mut hub, &mut model, id, name(source.u8())),
            _ => {
                let name = name(source.u8());
                let expected = model.get_mut(&id).is_some_and(|groups| groups.remove(&name));
                assert_eq!(hub.unsubscribe(id, &name), expected);
            }
        }
        // All of it is looked at, so not every time.
        if op >> 6 == 0 || source.is_empty() {
            check_members(&hub, &model, &all, id);
            check_groups(&hub, &model, id);
        }
    }
}

/// Some names are too long, or empty.
fn name(group: u8) -> String {
    match group {
        250 => String::new(),
        251 => "x".repeat(MAX_GROUP_NAME_LEN),
        252.. => "x".repeat(MAX_GROUP_NAME_LEN + 1),
        _ => format!("group {}", group % GROUPS),
    }
}

fn subscribe(
    hub: &mut Hub,
    model: &mut BTreeMap<MemberId, BTreeSet<String>>,
    id: MemberId,
    name: String,
) {
    let subscribed = hub.subscribe(id, &name);
    let expected = match model.get_mut(&id) {
        None => Err(SubscribeError::UnknownMember),
        Some(_) if name.len() > MAX_GROUP_NAME_LEN => Err(SubscribeError::NameTooLong),
        Some(groups) if groups.contains(&name) => Ok(false),
        Some(groups) if groups.len() == MAX_GROUPS_PER_MEMBER => Err(SubscribeError::TooManyGroups),
        Some(groups) => Ok(groups.insert(name)),
    };
    assert_eq!(subscribed, expected);
}

fn check_members(
    hub: &Hub,
    model: &BTreeMap<MemberId, BTreeSet<String>>,
    all: &[MemberId],
    sender: MemberId,
) {
    let ids: BTreeSet<_> = model.keys().copied().collect();
    assert_eq!((hub.len(), hub.is_empty()), (ids.len(), ids.is_empty()));
    assert_eq!(planned(hub, Audience::All), ids);
    assert_eq!(planned(hub, Audience::Only(all)), ids, "those that have left are passed over");
    let others: BTreeSet<_> = ids.iter().copied().filter(|id| *id != sender).collect();
    assert_eq!(planned(hub, Audience::Except(sender)), others);
    let places: BTreeSet<_> = ids.iter().map(|id| id.index()).collect();
    assert_eq!(places.len(), ids.len(), "no two members have one place");
    for id in all {
        let groups: Vec<_> = hub.groups(*id).map(String::from).collect();
        let expected = model.get(id).cloned().unwrap_or_default();
        assert_eq!(groups.len(), expected.len());
        assert_eq!(groups.into_iter().collect::<BTreeSet<_>>(), expected);
        assert_eq!(hub.contains(*id), model.contains_key(id));
    }
}

fn check_groups(hub: &Hub, model: &BTreeMap<MemberId, BTreeSet<String>>, sender: MemberId) {
    let mut groups = BTreeMap::<&str, BTreeSet<MemberId>>::new();
    for (id, names) in model {
        names.iter().for_each(|name| assert!(groups.entry(name).or_default().insert(*id)));
    }
    assert_eq!(hub.group_count(), groups.len(), "an empty group is gone");
    for (name, members) in groups {
        assert_eq!(hub.group_len(name), members.len());
        assert_eq!(planned(hub, Audience::Group(name)), members);
        let others: BTreeSet<_> = members.into_iter().filter(|id| *id != sender).collect();
        assert_eq!(planned(hub, Audience::GroupExcept(name, sender)), others);
    }
}

/// The members of a plan; none may stand in it twice.
fn planned(hub: &Hub, to: Audience<'_>) -> BTreeSet<MemberId> {
    let planned: Vec<_> = hub.plan(to).map(|target| target.member).collect();
    let members: BTreeSet<_> = planned.iter().copied().collect();
    assert_eq!(members.len(), planned.len(), "nobody gets it twice");
    members
}
