use core::ops::{BitAnd, BitOr, Not};

use super::{Hub, MemberId};

/// Up to 64 marks of a member: a role, a language, what its client is able to do. What a bit stands for
/// is up to the application.
///
/// ```
/// use wsforge_core::hub::Tags;
///
/// const STAFF: Tags = Tags::from_bits(1 << 0);
/// const MUTED: Tags = Tags::from_bits(1 << 1);
/// assert_eq!((STAFF | MUTED) & !MUTED, STAFF);
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Tags(u64);

impl Tags {
    /// No tag at all, as a member has when it joins.
    pub const NONE: Self = Self(0);

    /// The tags whose bits are set.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The tags' bits.
    pub const fn bits(self) -> u64 {
        self.0
    }
}

impl BitOr for Tags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitAnd for Tags {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl Not for Tags {
    type Output = Self;

    fn not(self) -> Self {
        Self(!self.0)
    }
}

/// What is demanded of a member's tags; by default nothing.
///
/// It is data and no closure: it waits in queues, is compared with its neighbours there, and is looked
/// at under a lock, where no code of a user may run.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct TagFilter {
    /// All of these.
    pub all: Tags,
    /// At least one of these, if there are any.
    pub any: Tags,
    /// None of these.
    pub none: Tags,
}

impl TagFilter {
    /// Whether a member with these tags meets all demands.
    pub const fn matches(self, tags: Tags) -> bool {
        tags.0 & self.all.0 == self.all.0
            && (self.any.0 == 0 || tags.0 & self.any.0 != 0)
            && tags.0 & self.none.0 == 0
    }
}

impl Hub {
    /// Gives a member these tags instead of those that it had. `false` if there is no such member.
    pub fn set_tags(&mut self, id: MemberId, tags: Tags) -> bool {
        let known = self.contains(id);
        if known {
            self.members[id.index()].tags = tags;
        }
        known
    }

    /// The tags of a member, if there is one.
    pub fn tags(&self, id: MemberId) -> Option<Tags> {
        self.member(id).map(|member| member.tags)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_filter_demands_what_it_says(all: u64, any: u64, none: u64, tags: u64) {
            // Few bits each, so that both answers are frequent.
            let [all, any, none] = [all & all >> 9, any & any >> 7 & any >> 5, none & none >> 9]
                .map(|bits| bits & 0x0F0F);
            let has = |bits: u64, at: u32| bits >> at & 1 == 1;
            let expected = (0..64).all(|at| !has(all, at) || has(tags, at))
                && (any == 0 || (0..64).any(|at| has(any, at) && has(tags, at)))
                && (0..64).all(|at| !has(none, at) || !has(tags, at));
            let [all, any, none, tags] = [all, any, none, tags].map(Tags::from_bits);
            prop_assert_eq!(TagFilter { all, any, none }.matches(tags), expected);
        }
    }

    #[test]
    fn tags_are_a_set_of_bits() {
        let (a, b) = (Tags::from_bits(0b0110), Tags::from_bits(0b0011));
        assert_eq!(((a | b).bits(), (a & b).bits(), (a & !b).bits()), (0b0111, 0b0010, 0b0100));
        assert_eq!((Tags::NONE.bits(), Tags::default()), (0, Tags::NONE));
        assert!(TagFilter::default().matches(Tags::NONE), "nothing is demanded");
    }
}
