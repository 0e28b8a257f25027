#![doc = include_str!("../../docs/fan_out.md")]

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use slab::Slab;

mod frame;
pub use frame::{SharedFrame, Variant};

mod tags;
pub use tags::{TagFilter, Tags};

mod patterns;
use patterns::Patterns;

mod plan;
pub use plan::{Audience, FanOut, Target};

mod turn;
pub use turn::{Bundle, Plan, Turn};

mod run;
pub use run::{Class, Run, SlowConsumer};

mod mailbox;
pub use mailbox::{Mailbox, MailboxLimits, Offer};

/// The most groups that a member can be in, patterns included.
pub const MAX_GROUPS_PER_MEMBER: usize = 128;

/// The longest name of a group, and the longest pattern, in bytes.
pub const MAX_GROUP_NAME_LEN: usize = 255;

/// Members and the groups that they are in.
///
/// Joining, leaving, subscribing and unsubscribing take constant time, but for finding a group by its
/// name among all others. An empty group takes no memory.
#[derive(Clone, Debug, Default)]
pub struct Hub {
    members: Slab<Member>,
    groups: Slab<Group>,
    /// Ordered rather than hashed: names may come from peers, who could choose them to collide.
    names: BTreeMap<Arc<str>, u32>,
    /// Which groups are those of a pattern.
    patterns: Patterns,
    /// What tells the next member from those that had its place before.
    generation: u32,
}

/// A member of a [`Hub`]: eight bytes, never mistaken for a later member.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct MemberId {
    index: u32,
    generation: u32,
}

impl MemberId {
    /// A small number for a table of what belongs to members: places are used anew, the one of the
    /// member that left last first.
    pub const fn index(self) -> usize {
        self.index as usize
    }

    /// A number to write down; no other member of the hub ever has it.
    pub const fn to_bits(self) -> u64 {
        (self.generation as u64) << 32 | self.index as u64
    }

    /// The member whose number this is, if there is one.
    pub const fn from_bits(bits: u64) -> Self {
        Self { index: bits as u32, generation: (bits >> 32) as u32 }
    }
}

#[derive(Clone, Debug)]
struct Member {
    generation: u32,
    variant: Variant,
    tags: Tags,
    memberships: Vec<Membership>,
}

/// That a member is in a group, and where it stands there.
#[derive(Clone, Copy, Debug)]
struct Membership {
    group: u32,
    place: u32,
}

#[derive(Clone, Debug)]
struct Group {
    /// Its name, or the pattern.
    name: Arc<str>,
    /// Whether its members get what is sent to matching topics, and not what is sent to it.
    is_pattern: bool,
    /// Indices, packed, so that a fan-out walks over a slice.
    members: Vec<u32>,
}

impl Hub {
    /// An empty hub.
    pub const fn new() -> Self {
        Self {
            members: Slab::new(),
            groups: Slab::new(),
            names: BTreeMap::new(),
            patterns: Patterns::new(),
            generation: 0,
        }
    }

    /// Adds a member that takes broadcasts in this encoding, which its
    /// [`Connection`](crate::Connection::variant) knows.
    pub fn join(&mut self, variant: Variant) -> MemberId {
        self.generation = self.generation.wrapping_add(1);
        let generation = self.generation;
        // A quarter of slack at the most, where doubling would take as much again.
        if self.members.len() == self.members.capacity() {
            self.members.reserve_exact(self.members.len() / 4 + 16);
        }
        let (tags, memberships) = (Tags::NONE, Vec::new());
        let index = self.members.insert(Member { generation, variant, tags, memberships });
        // Four billion members do not fit into memory.
        MemberId { index: index as u32, generation }
    }

    /// Removes a member from the hub and from all of its groups and patterns. `false` if it had left before.
    pub fn leave(&mut self, id: MemberId) -> bool {
        if !self.contains(id) {
            return false;
        }
        let member = self.members.remove(id.index());
        for membership in member.memberships {
            self.remove_from_group(membership);
        }
        true
    }

    /// Puts a member into the group called `name`, which is made if there is none. `Ok(false)` if it
    /// was in it before.
    ///
    /// # Errors
    ///
    /// [`SubscribeError`]; nothing has changed then.
    pub fn subscribe(&mut self, id: MemberId, name: &str) -> Result<bool, SubscribeError> {
        self.check(id, name)?;
        let known = self.names.get(name).copied();
        self.put_into(id, known, |hub| {
            let name: Arc<str> = name.into();
            let group = hub.new_group(name.clone(), false);
            hub.names.insert(name, group);
            group
        })
    }

    /// Takes a member out of the group called `name`. `false` if it was not in it.
    pub fn unsubscribe(&mut self, id: MemberId, name: &str) -> bool {
        self.names.get(name).copied().is_some_and(|group| self.take_from(id, group))
    }

    /// Whether this member has joined and not left.
    pub fn contains(&self, id: MemberId) -> bool {
        self.member(id).is_some()
    }

    /// The groups that a member is in, in no particular order.
    pub fn groups(&self, id: MemberId) -> impl Iterator<Item = &str> {
        self.groups_of(id).filter(|group| !group.is_pattern).map(|group| &*group.name)
    }

    /// Whether a member is in the group called `name`.
    pub fn is_in(&self, id: MemberId, name: &str) -> bool {
        let (Some(member), Some(group)) = (self.member(id), self.names.get(name)) else {
            return false;
        };
        member.memberships.iter().any(|membership| membership.group == *group)
    }

    /// The number of members.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there are no members.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The members of the group called `name`, without a look at any other.
    pub fn members<'a>(&'a self, name: &str) -> impl Iterator<Item = MemberId> + use<'a> {
        let members = self.group(name).map_or(&[][..], |group| &group.members);
        members.iter().map(|index| self.members[*index as usize].target(*index).member)
    }

    /// The number of members in the group called `name`.
    pub fn group_len(&self, name: &str) -> usize {
        self.group(name).map_or(0, |group| group.members.len())
    }

    /// The names of all groups, in their order.
    pub fn group_names(&self) -> impl Iterator<Item = &str> {
        self.names.keys().map(|name| &**name)
    }

    /// The number of groups; none is empty.
    pub fn group_count(&self) -> usize {
        self.names.len()
    }

    fn member(&self, id: MemberId) -> Option<&Member> {
        self.members.get(id.index()).filter(|member| member.generation == id.generation)
    }

    fn groups_of(&self, id: MemberId) -> impl Iterator<Item = &Group> {
        let memberships = self.member(id).map_or(&[][..], |member| &member.memberships);
        memberships.iter().map(|membership| &self.groups[membership.group as usize])
    }

    fn group(&self, name: &str) -> Option<&Group> {
        self.names.get(name).map(|group| &self.groups[*group as usize])
    }

    /// Whether there is such a member, and could be such a name.
    fn check(&self, id: MemberId, name: &str) -> Result<(), SubscribeError> {
        if !self.contains(id) {
            return Err(SubscribeError::UnknownMember);
        }
        if name.len() > MAX_GROUP_NAME_LEN {
            return Err(SubscribeError::NameTooLong);
        }
        Ok(())
    }

    fn new_group(&mut self, name: Arc<str>, is_pattern: bool) -> u32 {
        self.groups.insert(Group { name, is_pattern, members: Vec::new() }) as u32
    }

    /// Puts a member that there is into a group, a new one if it is not known. `Ok(false)` if it was in
    /// it before.
    fn put_into(
        &mut self,
        id: MemberId,
        known: Option<u32>,
        new: impl FnOnce(&mut Self) -> u32,
    ) -> Result<bool, SubscribeError> {
        let memberships = &self.members[id.index()].memberships;
        if known.is_some() && memberships.iter().any(|m| Some(m.group) == known) {
            return Ok(false);
        }
        if memberships.len() >= MAX_GROUPS_PER_MEMBER {
            return Err(SubscribeError::TooManyGroups);
        }
        let group = known.unwrap_or_else(|| new(self));
        let members = &mut self.groups[group as usize].members;
        let place = members.len() as u32;
        push(members, id.index);
        push(&mut self.members[id.index()].memberships, Membership { group, place });
        Ok(true)
    }

    /// Takes a member out of a group. `false` if it was not in it, or is none.
    fn take_from(&mut self, id: MemberId, group: u32) -> bool {
        if !self.contains(id) {
            return false;
        }
        let memberships = &mut self.members[id.index()].memberships;
        let Some(at) = memberships.iter().position(|m| m.group == group) else { return false };
        let membership = memberships.swap_remove(at);
        shrink(memberships);
        self.remove_from_group(membership);
        true
    }

    /// Closes the gap that a membership leaves in its group, or the group itself.
    fn remove_from_group(&mut self, Membership { group, place }: Membership) {
        let members = &mut self.groups[group as usize].members;
        members.swap_remove(place as usize);
        match members.get(place as usize) {
            // Another one stands there now, and is in so few groups that finding this one is quick.
            Some(moved) => {
                let memberships = &mut self.members[*moved as usize].memberships;
                if let Some(moved) = memberships.iter_mut().find(|m| m.group == group) {
                    moved.place = place;
                }
            }
            None if members.is_empty() => {
                let group = self.groups.remove(group as usize);
                if group.is_pattern {
                    self.patterns.remove(&group.name);
                } else {
                    self.names.remove(&group.name);
                }
                return;
            }
            None => {}
        }
        shrink(members);
    }
}

/// Appends with a quarter of slack at the most, where a `Vec` alone would take as much again.
fn push<T>(list: &mut Vec<T>, element: T) {
    if list.len() == list.capacity() {
        list.reserve_exact(list.len() / 4 + 1);
    }
    list.push(element);
}

/// Gives back what a rush that has passed took.
fn shrink<T>(list: &mut Vec<T>) {
    if list.len() < list.capacity() / 4 {
        list.shrink_to(list.len() * 2);
    }
}

/// Why a member was not put into a group.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum SubscribeError {
    /// The pattern has an empty token, or a `>` that is not its last.
    BadPattern,
    /// The name is longer than [`MAX_GROUP_NAME_LEN`].
    NameTooLong,
    /// The member is in [`MAX_GROUPS_PER_MEMBER`] groups already.
    TooManyGroups,
    /// The member has left, or is another hub's.
    UnknownMember,
}

impl fmt::Display for SubscribeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BadPattern => "the pattern has an empty token, or a `>` before its end",
            Self::NameTooLong => "the group's name is too long",
            Self::TooManyGroups => "the member is in too many groups",
            Self::UnknownMember => "there is no such member",
        })
    }
}

impl core::error::Error for SubscribeError {}
