use core::slice;

use super::{Hub, Member, MemberId, Variant};

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
    /// These members, as often as they are named; those that have left are passed over.
    Only(&'a [MemberId]),
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
        let group = |name| self.group(name).map_or(&[][..], |group| &group.members).iter();
        let (source, except) = match to {
            Audience::All => (Source::All(self.members.iter()), None),
            Audience::Except(id) => (Source::All(self.members.iter()), Some(id)),
            Audience::Group(name) => (Source::Group(group(name)), None),
            Audience::GroupExcept(name, id) => (Source::Group(group(name)), Some(id)),
            Audience::Only(ids) => (Source::Only(ids.iter()), None),
        };
        FanOut { hub: self, source, except }
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
}

impl Iterator for FanOut<'_> {
    type Item = Target;

    #[inline]
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
                    match self.hub.members.get(id.index()) {
                        Some(member) if member.generation == id.generation => {
                            member.target(id.index)
                        }
                        _ => continue,
                    }
                }
            };
            if Some(target.member) != self.except {
                return Some(target);
            }
        }
    }
}

impl Member {
    const fn target(&self, index: u32) -> Target {
        let member = MemberId { index, generation: self.generation };
        Target { member, variant: self.variant }
    }
}
