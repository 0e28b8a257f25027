use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::hub::{Audience, FanOut, Hub, MemberId, TagFilter};

/// An [`Audience`] to keep.
#[derive(Debug)]
pub(super) enum OwnedAudience {
    All,
    Except(MemberId),
    Group(Box<str>),
    GroupExcept(Box<str>, MemberId),
    Groups(Box<[Box<str>]>),
    GroupsExcept(Box<[Box<str>]>, MemberId),
    Only(Box<[MemberId]>),
    Tagged(TagFilter),
    Topic(Box<str>),
    TopicExcept(Box<str>, MemberId),
}

impl OwnedAudience {
    /// Plans a fan-out to it, and lends the plan.
    pub(super) fn plan<T>(&self, hub: &Hub, look: impl FnOnce(FanOut<'_>) -> T) -> T {
        let names;
        let to = match self {
            Self::All => Audience::All,
            Self::Except(id) => Audience::Except(*id),
            Self::Group(name) => Audience::Group(name),
            Self::GroupExcept(name, id) => Audience::GroupExcept(name, *id),
            Self::Groups(of) => {
                names = of.iter().map(|name| &**name).collect::<Vec<_>>();
                Audience::Groups(&names)
            }
            Self::GroupsExcept(of, id) => {
                names = of.iter().map(|name| &**name).collect::<Vec<_>>();
                Audience::GroupsExcept(&names, *id)
            }
            Self::Only(ids) => Audience::Only(ids),
            Self::Tagged(filter) => Audience::Tagged(*filter),
            Self::Topic(name) => Audience::Topic(name),
            Self::TopicExcept(name, id) => Audience::TopicExcept(name, *id),
        };
        look(hub.plan(to))
    }
}

impl From<Audience<'_>> for OwnedAudience {
    fn from(to: Audience<'_>) -> Self {
        let all = |names: &[&str]| names.iter().map(|name| Box::from(*name)).collect();
        match to {
            Audience::All => Self::All,
            Audience::Except(id) => Self::Except(id),
            Audience::Group(name) => Self::Group(name.into()),
            Audience::GroupExcept(name, id) => Self::GroupExcept(name.into(), id),
            Audience::Groups(names) => Self::Groups(all(names)),
            Audience::GroupsExcept(names, id) => Self::GroupsExcept(all(names), id),
            Audience::Only(ids) => Self::Only(ids.into()),
            Audience::Tagged(filter) => Self::Tagged(filter),
            Audience::Topic(name) => Self::Topic(name.into()),
            Audience::TopicExcept(name, id) => Self::TopicExcept(name.into(), id),
        }
    }
}

impl PartialEq<Audience<'_>> for OwnedAudience {
    fn eq(&self, other: &Audience<'_>) -> bool {
        let same = |a: &[Box<str>], b: &[&str]| a.iter().map(|name| &**name).eq(b.iter().copied());
        match (self, other) {
            (Self::All, Audience::All) => true,
            (Self::Except(a), Audience::Except(b)) => a == b,
            (Self::Group(a), Audience::Group(b)) => **a == **b,
            (Self::GroupExcept(a, x), Audience::GroupExcept(b, y)) => **a == **b && x == y,
            (Self::Groups(a), Audience::Groups(b)) => same(a, b),
            (Self::GroupsExcept(a, x), Audience::GroupsExcept(b, y)) => same(a, b) && x == y,
            (Self::Only(a), Audience::Only(b)) => **a == **b,
            (Self::Tagged(a), Audience::Tagged(b)) => a == b,
            (Self::Topic(a), Audience::Topic(b)) => **a == **b,
            (Self::TopicExcept(a, x), Audience::TopicExcept(b, y)) => **a == **b && x == y,
            _ => false,
        }
    }
}
