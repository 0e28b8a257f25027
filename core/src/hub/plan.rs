use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::slice;

use super::{Hub, Member, MemberId, TagFilter, Variant};

/// Who is to get a message.
#[derive(Clone, Copy, Debug)]
pub enum Audience<'a> {
    /// Every member.
    All,
    /// Every member but this one.
    Except(MemberId),
    /// The members of a group.
    Group(&'a str),
    /// The members of a group but this one.
    GroupExcept(&'a str, MemberId),
    /// The members of any of these groups, each once.
    Groups(&'a [&'a str]),
    /// The members of any of these groups but this one, each once.
    GroupsExcept(&'a [&'a str], MemberId),
    /// These members, as often as they are named; those that have left are passed over.
    Only(&'a [MemberId]),
    /// The members whose tags match.
    Tagged(TagFilter),
    /// The members of the group of this name, and those subscribed to a
    /// [pattern](Hub::subscribe_pattern) that it matches, each once.
    Topic(&'a str),
    /// The same but this one.
    TopicExcept(&'a str, MemberId),
}

/// One who is to get it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Target {
    /// The member.
    pub member: MemberId,
    /// The encoding that it takes.
    pub variant: Variant,
}

impl Hub {
    /// Plans a fan-out. The plan borrows the hub, so it stays true while it is executed.
    ///
    /// The same hub and audience always give the same plan.
    pub fn plan<'a>(&'a self, to: Audience<'a>) -> FanOut<'a> {
        let (source, except) = match to {
            Audience::All => (Source::All(self.members.iter()), None),
            Audience::Except(id) => (Source::All(self.members.iter()), Some(id)),
            Audience::Group(name) => (Source::Group(self.list(name).iter()), None),
            Audience::GroupExcept(name, id) => (Source::Group(self.list(name).iter()), Some(id)),
            Audience::Groups(names) => (self.any_of(names), None),
            Audience::GroupsExcept(names, id) => (self.any_of(names), Some(id)),
            Audience::Only(ids) => (Source::Only(ids.iter()), None),
            Audience::Tagged(filter) => (Rare::Tagged(self.members.iter(), filter).into(), None),
            Audience::Topic(name) => (self.topic(name), None),
            Audience::TopicExcept(name, id) => (self.topic(name), Some(id)),
        };
        FanOut { hub: self, source, except }
    }

    fn list(&self, name: &str) -> &[u32] {
        self.group(name).map_or(&[], |group| &group.members)
    }

    fn any_of(&self, names: &[&str]) -> Source<'_> {
        match names {
            [name] => Source::Group(self.list(name).iter()),
            _ => Source::of(names.iter().map(|name| self.list(name)).collect()),
        }
    }

    fn topic(&self, name: &str) -> Source<'_> {
        // Takes no memory before a pattern is found.
        let mut lists = Vec::new();
        self.patterns.find(name, &mut |group| lists.push(&self.groups[group as usize].members[..]));
        match self.list(name) {
            list if lists.is_empty() => Source::Group(list.iter()),
            list => {
                lists.insert(0, list);
                Source::of(lists)
            }
        }
    }
}

/// The plan of a fan-out: who gets it, in which encoding, in which order.
#[derive(Clone, Debug)]
pub struct FanOut<'a> {
    hub: &'a Hub,
    source: Source<'a>,
    except: Option<MemberId>,
}

#[derive(Clone, Debug)]
enum Source<'a> {
    All(slab::Iter<'a, Member>),
    Group(slice::Iter<'a, u32>),
    Only(slice::Iter<'a, MemberId>),
    /// Apart: its size and its drop would slow down the walk over the others.
    Rare(Box<Rare<'a>>),
}

#[derive(Clone, Debug)]
enum Rare<'a> {
    Tagged(slab::Iter<'a, Member>, TagFilter),
    Union(Union<'a>),
}

impl<'a> Source<'a> {
    /// The members of all lists, in their order, each once.
    fn of(mut lists: Vec<&'a [u32]>) -> Self {
        lists.retain(|list| !list.is_empty());
        match lists[..] {
            [] => Self::Group([].iter()),
            [list] => Self::Group(list.iter()),
            _ => {
                let (list, rest) = ([].iter(), lists.into_iter());
                Rare::Union(Union { list, rest, seen: Vec::new() }).into()
            }
        }
    }
}

impl<'a> From<Rare<'a>> for Source<'a> {
    fn from(rare: Rare<'a>) -> Self {
        Self::Rare(Box::new(rare))
    }
}

impl Iterator for FanOut<'_> {
    type Item = Target;

    #[inline(always)] // Out of line, a walk takes 56 instructions for a member instead of 13.
    fn next(&mut self) -> Option<Target> {
        loop {
            let target = match &mut self.source {
                Source::All(members) => {
                    let (index, member) = members.next()?;
                    member.target(index as u32)
                }
                Source::Group(members) => {
                    let index = *members.next()?;
                    self.hub.members[index as usize].target(index)
                }
                Source::Only(ids) => {
                    let id = *ids.next()?;
                    match self.hub.member(id) {
                        Some(member) => member.target(id.index),
                        None => continue,
                    }
                }
                Source::Rare(rare) => rare.next(self.hub)?,
            };
            if Some(target.member) != self.except {
                return Some(target);
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let (least, most) = match &self.source {
            Source::All(members) => (members.len(), members.len()),
            Source::Group(members) => (members.len(), members.len()),
            Source::Only(ids) => (0, ids.len()),
            Source::Rare(rare) => (0, rare.most()),
        };
        (if self.except.is_some() { least.saturating_sub(1) } else { least }, Some(most))
    }
}

impl Rare<'_> {
    #[inline(never)] // It would make the walk over the others long.
    fn next(&mut self, hub: &Hub) -> Option<Target> {
        match self {
            Self::Tagged(members, filter) => {
                let (index, member) = members.find(|(_, member)| filter.matches(member.tags))?;
                Some(member.target(index as u32))
            }
            Self::Union(union) => {
                let index = union.next()?;
                Some(hub.members[index as usize].target(index))
            }
        }
    }

    fn most(&self) -> usize {
        match self {
            Self::Tagged(members, _) => members.len(),
            Self::Union(union) => union.most(),
        }
    }
}

/// Lists one after the other, without what has been seen.
#[derive(Clone, Debug)]
struct Union<'a> {
    list: slice::Iter<'a, u32>,
    rest: vec::IntoIter<&'a [u32]>,
    /// A bit for each index, up to the highest that was seen.
    seen: Vec<u64>,
}

impl Union<'_> {
    fn next(&mut self) -> Option<u32> {
        loop {
            let Some(index) = self.list.next() else {
                self.list = self.rest.next()?.iter();
                continue;
            };
            let (word, bit) = (*index as usize / 64, 1 << (index % 64));
            if self.seen.len() <= word {
                self.seen.resize(word + 1, 0);
            }
            if self.seen[word] & bit == 0 {
                self.seen[word] |= bit;
                return Some(*index);
            }
        }
    }

    fn most(&self) -> usize {
        self.list.len() + self.rest.as_slice().iter().map(|list| list.len()).sum::<usize>()
    }
}

impl Member {
    pub(super) const fn target(&self, index: u32) -> Target {
        let member = MemberId { index, generation: self.generation };
        Target { member, variant: self.variant }
    }
}
