use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;

use super::{Hub, MAX_GROUP_NAME_LEN, MemberId, SubscribeError};

/// Stands for any one token.
const ANY: &str = "*";

/// Stands for all tokens from here on, of which there must be one.
const REST: &str = ">";

impl Hub {
    /// Subscribes a member to all [topics](super::Audience::Topic) whose names match `pattern`. `Ok(false)`
    /// if it was before.
    ///
    /// Names and patterns are tokens with dots between. In a pattern the token `*` stands for any one
    /// token, and `>` at its end for one or more. A name with an empty token, or one too long
    /// for a group, matches no pattern.
    ///
    /// Patterns count as groups do towards what a [member](super::MAX_GROUPS_PER_MEMBER) can be in, and a
    /// [name](MAX_GROUP_NAME_LEN) can be, but are none: a group called `a.*` is another thing.
    ///
    /// # Errors
    ///
    /// [`SubscribeError`]; nothing has changed then.
    pub fn subscribe_pattern(
        &mut self,
        id: MemberId,
        pattern: &str,
    ) -> Result<bool, SubscribeError> {
        self.check(id, pattern)?;
        let rest = pattern.split('.').position(|token| token == REST);
        if !has_tokens(pattern) || rest.is_some_and(|at| at != pattern.split('.').count() - 1) {
            return Err(SubscribeError::BadPattern);
        }
        let known = self.patterns.get(pattern);
        self.put_into(id, known, |hub| {
            let name: Arc<str> = pattern.into();
            let group = hub.new_group(name, true);
            hub.patterns.insert(pattern, group);
            group
        })
    }

    /// Takes back a subscription to a pattern, which is spelled as it was. `false` if there was none.
    pub fn unsubscribe_pattern(&mut self, id: MemberId, pattern: &str) -> bool {
        self.patterns.get(pattern).is_some_and(|group| self.take_from(id, group))
    }

    /// The patterns that a member is subscribed to, in no particular order.
    pub fn patterns(&self, id: MemberId) -> impl Iterator<Item = &str> {
        self.groups_of(id).filter(|group| group.is_pattern).map(|group| &*group.name)
    }
}

/// The groups of patterns by their tokens: a trie. Empty, it has no memory.
///
/// No name is looked for in more nodes than there are, as each has one way that leads to it; and none
/// lies deeper than a pattern has tokens, which is what bounds the recursion.
#[derive(Clone, Debug, Default)]
pub(super) struct Patterns {
    /// What the next token may be, wildcards included. Ordered for the reason that names are.
    next: BTreeMap<Box<str>, Self>,
    /// The group of the pattern that ends here.
    group: Option<u32>,
}

impl Patterns {
    pub(super) const fn new() -> Self {
        Self { next: BTreeMap::new(), group: None }
    }

    pub(super) fn insert(&mut self, pattern: &str, group: u32) {
        let end = pattern
            .split('.')
            .fold(self, |node, token| node.next.entry(token.into()).or_insert_with(Self::new));
        end.group = Some(group);
    }

    /// Removes a pattern, and the nodes that lead to no other.
    pub(super) fn remove(&mut self, pattern: &str) {
        let (token, rest) = split(pattern);
        let Some(node) = self.next.get_mut(token) else { return };
        match rest {
            Some(rest) => node.remove(rest),
            None => node.group = None,
        }
        if node.group.is_none() && node.next.is_empty() {
            self.next.remove(token);
        }
    }

    /// The group of exactly this pattern.
    pub(super) fn get(&self, pattern: &str) -> Option<u32> {
        pattern.split('.').try_fold(self, |node, token| node.next.get(token))?.group
    }

    /// Tells `found` the groups of all patterns that a name matches, always in the same order.
    pub(super) fn find(&self, name: &str, found: &mut impl FnMut(u32)) {
        // Bounds the time that looking at the tokens takes.
        if !self.next.is_empty() && name.len() <= MAX_GROUP_NAME_LEN && has_tokens(name) {
            self.find_from(name, found);
        }
    }

    fn find_from(&self, name: &str, found: &mut impl FnMut(u32)) {
        let (token, rest) = split(name);
        // Wildcards mean nothing in a name, and a node that is visited twice doubles the work below it.
        let literal = if token == ANY || token == REST { None } else { self.next.get(token) };
        for node in [literal, self.next.get(ANY)].into_iter().flatten() {
            match rest {
                Some(rest) => node.find_from(rest, found),
                None => node.group.into_iter().for_each(&mut *found),
            }
        }
        self.next.get(REST).and_then(|node| node.group).into_iter().for_each(found);
    }
}

/// The first token, and what stands behind its dot.
fn split(name: &str) -> (&str, Option<&str>) {
    name.split_once('.').map_or((name, None), |(token, rest)| (token, Some(rest)))
}

/// Whether no token is empty.
fn has_tokens(name: &str) -> bool {
    name.split('.').all(|token| !token.is_empty())
}
