#![doc = include_str!("../../docs/fan_out.md")]

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use slab::Slab;

mod frame;
pub use frame::{SharedFrame, Variant};

mod plan;
pub use plan::{Audience, FanOut, Target};

mod run;
pub use run::{Class, Run, SlowConsumer};

mod mailbox;
pub use mailbox::{Mailbox, MailboxLimits, Offer};

/// The most groups that a member can be in.
pub const MAX_GROUPS_PER_MEMBER: usize = 128;

/// The longest name of a group, in bytes.
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
    name: Arc<str>,
    /// Indices, packed, so that a fan-out walks over a slice.
    members: Vec<u32>,
}

impl Hub {
    /// An empty hub.
    pub const fn new() -> Self {
        Self { members: Slab::new(), groups: Slab::new(), names: BTreeMap::new(), generation: 0 }
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
        let index = self.members.insert(Member { generation, variant, memberships: Vec::new() });
        // Four billion members do not fit into memory.
        MemberId { index: index as u32, generation }
    }

    /// Removes a member from the hub and from all of its groups. `false` if it had left before.
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
        if !self.contains(id) {
            return Err(SubscribeError::UnknownMember);
        }
        if name.len() > MAX_GROUP_NAME_LEN {
            return Err(SubscribeError::NameTooLong);
        }
        let known = self.names.get(name).copied();
        let memberships = &mut self.members[id.index()].memberships;
        if known.is_some() && memberships.iter().any(|m| Some(m.group) == known) {
            return Ok(false);
        }
        if memberships.len() >= MAX_GROUPS_PER_MEMBER {
            return Err(SubscribeError::TooManyGroups);
        }
        let group = known.unwrap_or_else(|| {
            let name: Arc<str> = name.into();
            let group =
                self.groups.insert(Group { name: name.clone(), members: Vec::new() }) as u32;
            self.names.insert(name, group);
            group
        });
        let members = &mut self.groups[group as usize].members;
        push(memberships, Membership { group, place: members.len() as u32 });
        push(members, id.index);
        Ok(true)
    }

    /// Takes a member out of the group called `name`. `false` if it was not in it.
    pub fn unsubscribe(&mut self, id: MemberId, name: &str) -> bool {
        let (true, Some(group)) = (self.contains(id), self.names.get(name).copied()) else {
            return false;
        };
        let memberships = &mut self.members[id.index()].memberships;
        let Some(at) = memberships.iter().position(|m| m.group == group) else { return false };
        let membership = memberships.swap_remove(at);
        shrink(memberships);
        self.remove_from_group(membership);
        true
    }

    /// Whether this member has joined and not left.
    pub fn contains(&self, id: MemberId) -> bool {
        self.members.get(id.index()).is_some_and(|member| member.generation == id.generation)
    }

    /// The groups that a member is in, in no particular order.
    pub fn groups(&self, id: MemberId) -> impl Iterator<Item = &str> {
        let member =
            self.members.get(id.index()).filter(|member| member.generation == id.generation);
        let memberships = member.map_or(&[][..], |member| &member.memberships);
        memberships.iter().map(|membership| &*self.groups[membership.group as usize].name)
    }

    /// The number of members.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there are no members.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
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
        self.groups.len()
    }

    fn group(&self, name: &str) -> Option<&Group> {
        self.names.get(name).map(|group| &self.groups[*group as usize])
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
                self.names.remove(&group.name);
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
            Self::NameTooLong => "the group's name is too long",
            Self::TooManyGroups => "the member is in too many groups",
            Self::UnknownMember => "there is no such member",
        })
    }
}

impl core::error::Error for SubscribeError {}
