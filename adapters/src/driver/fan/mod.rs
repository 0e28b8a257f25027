//! Members, and what is sent to many of them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use wsforge_core::CloseCode;
use wsforge_core::frame::Opcode;
use wsforge_core::hub::{
    Audience, Hub, MemberId, Plan, SlowConsumer, SubscribeError, Turn, Variant,
};

use super::outbox::Outbox;
use super::sync::lock_plain;
use super::timer::Timer;
use super::turn::{self, Plans};

#[cfg(all(test, not(wsforge_loom)))]
mod model;

pub(crate) mod inbox;
use inbox::{AT_ONCE, Next};

mod part;
use part::{Part, Peers, Target};

mod presence;
use presence::Presence;
pub(crate) use presence::{Event, Watch};

#[cfg(all(test, not(wsforge_loom)))]
mod tests;

mod tally;
pub(crate) use tally::{Sums, Tally};

/// The members, each a `P`, and what is to be sent to them.
///
/// What is sent to many is planned in one order, whichever thread it comes from, and arrives everywhere in
/// that order: a plan is put into the [inbox](inbox::Inbox) of each timer that has some of the members.
pub(crate) struct Fan<P> {
    members: RwLock<Members<P>>,
    turn: Mutex<Turn>,
    /// Whether a group has a policy of its own.
    has_policies: AtomicBool,
    presence: Presence<P>,
    tally: Tally,
}

/// One that can be a member.
pub(crate) trait Peer: Clone + Send + Sync + 'static {
    fn outbox(&self) -> &Arc<Outbox>;
}

impl Peer for Arc<Outbox> {
    fn outbox(&self) -> &Arc<Outbox> {
        self
    }
}

struct Members<P> {
    hub: Hub,
    /// By the members' indices.
    places: Vec<Option<Place<P>>>,
    homes: Vec<Home>,
    policies: BTreeMap<Box<str>, SlowConsumer>,
}

struct Place<P> {
    peer: P,
    /// Its connection's. It is here too, as planning would have to fetch each member's memory for it.
    key: u32,
    home: u16,
}

/// A timer that some of the members share.
struct Home {
    timer: Arc<Timer>,
    members: usize,
}

impl<P> Default for Fan<P> {
    fn default() -> Self {
        let members = Members {
            hub: Hub::new(),
            places: Vec::new(),
            homes: Vec::new(),
            policies: BTreeMap::new(),
        };
        Self {
            members: RwLock::new(members),
            turn: Mutex::default(),
            has_policies: AtomicBool::new(false),
            presence: Presence::default(),
            tally: Tally::default(),
        }
    }
}

/// Who is a member.
impl<P: Peer> Fan<P> {
    /// Lets one join; what was sent before it came is not for it. `make` gets its id.
    pub(crate) fn join(&self, make: impl FnOnce(MemberId) -> P) -> (MemberId, P) {
        turn::flush();
        write(&self.members).join(make)
    }

    /// It gets nothing more, but all that was sent before. `false` if it had left before.
    pub(crate) fn leave(&self, id: MemberId) -> bool {
        turn::flush();
        if let Some(peer) = self.get(id) {
            peer.outbox().catch_up();
        }
        self.remove([id]) > 0
    }

    /// As [`Hub::subscribe`].
    pub(crate) fn subscribe(&self, id: MemberId, group: &str) -> Result<bool, SubscribeError> {
        turn::flush();
        let mut members = write(&self.members);
        let joined = members.hub.subscribe(id, group)?;
        if joined {
            self.note(&members, id, group, true);
        }
        drop(members);
        self.presence.tell();
        Ok(joined)
    }

    /// As [`Hub::unsubscribe`].
    pub(crate) fn unsubscribe(&self, id: MemberId, group: &str) -> bool {
        turn::flush();
        let mut members = write(&self.members);
        let left = members.hub.unsubscribe(id, group);
        if left {
            self.note(&members, id, group, false);
        }
        drop(members);
        self.presence.tell();
        left
    }

    /// Changes what else is known of members, behind what was sent before.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Hub) -> T) -> T {
        turn::flush();
        change(&mut write(&self.members).hub)
    }

    /// Calls `watch` for all who come to groups and leave them from now on. `false` if that is somebody
    /// else's already.
    pub(crate) fn watch(&self, watch: Watch<P>) -> bool {
        self.presence.watch(watch)
    }

    /// Says what happens to those in a group for whom too much waits.
    pub(crate) fn set_policy(&self, group: &str, policy: Option<SlowConsumer>) {
        turn::flush();
        let policies = &mut write(&self.members).policies;
        match policy {
            Some(policy) => drop(policies.insert(group.into(), policy)),
            None => drop(policies.remove(group)),
        }
        self.has_policies.store(!policies.is_empty(), Ordering::Release);
    }

    pub(crate) fn get(&self, id: MemberId) -> Option<P> {
        read(&self.members).peer(id).cloned()
    }

    /// Those who would get something that is sent now.
    pub(crate) fn peers(&self, to: Audience<'_>) -> Vec<P> {
        let members = read(&self.members);
        members.hub.plan(to).filter_map(|target| members.peer(target.member).cloned()).collect()
    }

    /// Looks something up in the hub.
    pub(crate) fn with_hub<T>(&self, look: impl FnOnce(&Hub) -> T) -> T {
        look(&read(&self.members).hub)
    }

    pub(crate) const fn tally(&self) -> &Tally {
        &self.tally
    }
}

/// What is sent to many.
impl<P: Peer> Fan<P> {
    /// Sends a frame; those get it who are members when it leaves. Of frames with the same `key` a slow
    /// member may get the newest only.
    ///
    /// Of a control frame, `payload` is at most 125 bytes long; of a text it is UTF-8.
    pub(crate) fn send(
        self: &Arc<Self>,
        to: Audience<'_>,
        opcode: Opcode,
        payload: &[u8],
        key: Option<u64>,
    ) {
        let policy = self.policy_for(to);
        let mut gathered = lock_plain(&self.turn);
        gathered.push(to, opcode, payload, key, policy);
        let full = gathered.is_full();
        drop(gathered);
        turn::planned(self);
        if full {
            turn::flush();
        }
    }

    /// As [`send`](Self::send), but at once; says what has become of it.
    pub(crate) fn send_now(
        self: &Arc<Self>,
        to: Audience<'_>,
        opcode: Opcode,
        payload: &[u8],
    ) -> Flow {
        turn::flush();
        let policy = self.policy_for(to);
        let mut gathered = lock_plain(&self.turn);
        // What other threads have gathered goes first.
        let mut before = self.distribute(&mut gathered, Whose::Homes);
        gathered.push(to, opcode, payload, None, policy);
        let mut sent = self.distribute(&mut gathered, Whose::Callers);
        drop(gathered);
        before.deliver();
        sent.deliver();
        sent.flow()
    }

    /// Sends what has been gathered, and says what has become of it.
    pub(crate) fn flush(self: &Arc<Self>) -> Flow {
        turn::flush_peers();
        let mut sent = self.distribute(&mut lock_plain(&self.turn), Whose::Homes);
        sent.deliver();
        turn::flush();
        sent.flow()
    }

    /// Closes connections; says how many, and how many had closed before.
    pub(crate) fn close(&self, to: Audience<'_>, code: CloseCode, reason: &str) -> (u64, u64) {
        turn::flush();
        let mut closed = (0, 0);
        for peer in self.peers(to) {
            match peer.outbox().close(code, reason) {
                true => closed.0 += 1,
                false => closed.1 += 1,
            }
        }
        closed
    }
}

impl<P: Peer> Fan<P> {
    /// Plans what has been gathered, and puts it to those who send it.
    ///
    /// Until it is there nothing else is planned, so that all get everything in the same order; and nobody
    /// leaves, so that no connection's key is another's by then.
    fn distribute(self: &Arc<Self>, gathered: &mut Turn, whose: Whose) -> Sent {
        let mut sent = Sent::default();
        while !gathered.is_empty() {
            let members = read(&self.members);
            let Plan { bundles, targets } = gathered.plan(&members.hub);
            let here = whose == Whose::Callers && targets.len() <= AT_ONCE;
            sent.members += targets.len() as u64;
            let (peers, bundles) = (self.clone() as Arc<dyn Peers>, Arc::<[_]>::from(bundles));
            let mut parts: Vec<Option<Part>> = members.homes.iter().map(|_| None).collect();
            for (id, bundle) in targets {
                let Some(place) = &members.places[id.index()] else { continue };
                let part = parts[usize::from(place.home)].get_or_insert_with(|| {
                    Part::new(peers.clone(), bundles.clone(), sent.tally.clone())
                });
                part.add((id, place.key), bundle);
            }
            for (part, home) in parts.into_iter().zip(&members.homes) {
                if let Some(part) = part {
                    let next = home.timer.inbox.add(part, here);
                    sent.to.push((home.timer.clone(), next));
                }
            }
        }
        sent
    }

    /// Removes members; says how many had not left before.
    fn remove(&self, ids: impl IntoIterator<Item = MemberId>) -> usize {
        let mut members = write(&self.members);
        let mut gone = Vec::new();
        for id in ids {
            if self.presence.is_watched() {
                let groups: Vec<String> = members.hub.groups(id).map(Into::into).collect();
                groups.iter().for_each(|group| self.note(&members, id, group, false));
            }
            gone.extend(members.leave(id));
        }
        // Nothing is dropped under the lock.
        drop(members);
        self.presence.tell();
        gone.len()
    }

    /// Somebody has come to a group, or left it.
    fn note(&self, members: &Members<P>, member: MemberId, group: &str, joined: bool) {
        if self.presence.is_watched()
            && let Some(peer) = members.peer(member).cloned()
        {
            self.presence.note(Event { peer, member, group: group.into(), joined });
        }
    }

    /// What was said of a group to which something goes.
    fn policy_for(&self, to: Audience<'_>) -> Option<SlowConsumer> {
        if !self.has_policies.load(Ordering::Acquire) {
            return None;
        }
        let members = read(&self.members);
        let policy = |group: &str| members.policies.get(group).copied();
        match to {
            Audience::Group(group) | Audience::GroupExcept(group, _) => policy(group),
            Audience::Groups(groups) | Audience::GroupsExcept(groups, _) => {
                groups.iter().find_map(|group| policy(group))
            }
            Audience::Topic(topic) | Audience::TopicExcept(topic, _) => policy(topic),
            Audience::All | Audience::Except(_) | Audience::Only(_) | Audience::Tagged(_) => None,
        }
    }
}

impl<P: Peer> Plans for Arc<Fan<P>> {
    fn run(&self) {
        // Nobody who sends waits for what others send.
        let mut sent = self.distribute(&mut lock_plain(&self.turn), Whose::Homes);
        sent.deliver();
    }

    fn id(&self) -> usize {
        Self::as_ptr(self).addr()
    }
}

/// Who is to write to the peers of another thread.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Whose {
    /// Who sends, and wants to know at once what comes of it; unless there are very many.
    Callers,
    /// That thread.
    Homes,
}

/// What has been put to those who send it.
#[derive(Default)]
struct Sent {
    to: Vec<(Arc<Timer>, Next)>,
    members: u64,
    tally: Arc<Tally>,
}

/// What has become of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Flow {
    pub(crate) sums: Sums,
    /// How many members have yet to be reached.
    pub(crate) pending: u64,
}

impl Sent {
    fn deliver(&mut self) {
        // From the end: other threads first, to work meanwhile.
        self.to.sort_by_key(|(_, next)| *next == Next::Task);
        while let Some((timer, next)) = self.to.pop() {
            timer.deliver(next);
        }
    }

    fn flow(&self) -> Flow {
        let sums = self.tally.sums();
        Flow { sums, pending: self.members.saturating_sub(sums.reached) }
    }
}

/// A transport has panicked: the timers' tasks go on with what is left.
impl Drop for Sent {
    fn drop(&mut self) {
        for (timer, next) in &self.to {
            if *next == Next::Caller {
                timer.inbox.give_up();
            }
        }
    }
}

impl<P: Peer> Peers for Fan<P> {
    fn outboxes(&self, targets: &[Target], to: &mut Vec<(usize, Arc<Outbox>)>) {
        let members = read(&self.members);
        let there = targets
            .iter()
            .enumerate()
            .filter_map(|(at, (id, _))| Some((at, members.peer(*id)?.outbox().clone())));
        to.extend(there);
    }

    fn lose(&self, over: Vec<MemberId>) {
        self.remove(over);
    }

    fn count(&self, sums: Sums) {
        self.tally.count(sums);
    }
}

impl<P: Peer> Members<P> {
    fn join(&mut self, make: impl FnOnce(MemberId) -> P) -> (MemberId, P) {
        let Self { hub, places, .. } = self;
        let id = hub.join(Variant::Plain);
        if places.len() <= id.index() {
            // A quarter of slack at the most, where doubling would take as much again.
            if places.len() == places.capacity() {
                places.reserve_exact(places.len() / 4 + 16);
            }
            places.resize_with(id.index() + 1, || None);
        }
        let peer = make(id);
        let (timer, key) = (&peer.outbox().endpoint.timer, peer.outbox().key());
        let home = self.home_of(timer);
        self.places[id.index()] = Some(Place { peer: peer.clone(), key, home });
        (id, peer)
    }

    /// Removes one; gives what is to be dropped when nothing is locked.
    fn leave(&mut self, id: MemberId) -> Option<(Option<Place<P>>, Option<Home>)> {
        if !self.hub.leave(id) {
            return None;
        }
        let place = self.places[id.index()].take();
        let mut last = None;
        if let Some(place) = &place {
            let home = &mut self.homes[usize::from(place.home)];
            home.members -= 1;
            if home.members == 0 && usize::from(place.home) + 1 == self.homes.len() {
                last = self.homes.pop();
            }
        }
        Some((place, last))
    }

    /// Where a member belongs that has this timer.
    fn home_of(&mut self, timer: &Arc<Timer>) -> u16 {
        let is_it = |home: &Home| Arc::ptr_eq(&home.timer, timer);
        let known = self.homes.iter().position(is_it);
        let free = || self.homes.iter().position(|home| home.members == 0);
        let at = match known.or_else(free) {
            Some(at) => at,
            None => self.homes.len(),
        };
        if at == self.homes.len() {
            self.homes.push(Home { timer: timer.clone(), members: 0 });
        } else if known.is_none() {
            self.homes[at].timer = timer.clone();
        }
        self.homes[at].members += 1;
        at as u16
    }

    fn peer(&self, id: MemberId) -> Option<&P> {
        let place = self.places.get(id.index())?.as_ref()?;
        self.hub.contains(id).then_some(&place.peer)
    }
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
