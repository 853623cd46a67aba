//! The door: one member of a cluster, as a state machine.
//!
//! [`Node`] holds the parts and lets them work together; each part's rule is in its own file. A
//! call hands in the time, what happened and a source of randomness, and gets back what to do. It
//! never does any of it itself.

mod datagrams;
mod facts;
mod joining;
mod probing;
mod streams;
#[cfg(test)]
mod tests;
mod timers;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::auth::Authenticator;
use crate::awareness::Awareness;
use crate::config::{Config, ConfigError, ms};
use crate::counters::Counters;
use crate::dissemination::Dissemination;
use crate::identity::{BootEpoch, Incarnation, Life, NodeId};
use crate::interface::{CheckedRecord, Effect, Event, Input, StreamId};
use crate::keys::{Codes, KeyRing};
use crate::lww::{Entry, Leadership, LwwMap, Ownership, PartitionId, RangeId};
use crate::members::{Member, Members};
use crate::planted::Planted;
use crate::probe::{Probe, Relays, RoundRobin};
use crate::random::{Random, below};
use crate::record::NodeRecord;
use crate::suspicion::Suspicions;
use crate::sync::Identity;
use crate::time::{Time, nanos};

use joining::Joining;
use streams::Streams;

/// What entries of the maps are queued by.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum EntryKey {
    Partition(PartitionId),
    Range(RangeId),
}

/// Whether this node is here to stay.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
enum Presence {
    Here,
    /// It says goodbye until then.
    Leaving(Time),
    /// It does nothing any more.
    Gone,
}

/// When the timers that always run are due.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Timers {
    period: Time,
    /// The next point of a fixed grid; without meaning while there is nothing to send.
    gossip: Time,
    sync: Time,
    rejoin: Time,
    /// Until when there are failed members that should still hear that they are held for dead.
    dead_hear_until: Time,
}

/// One member of a cluster (SWIM; Lifeguard).
///
/// The driver calls [`Node::handle`] with [`Input::Tick`] at [`Node::deadline`] and with all that
/// comes in, carries out the effects in their order, and never goes back in time.
///
/// Equal states behave equally: all that decides is in the state, the input and the draws.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Node {
    config: Config,
    me: NodeId,
    incarnation: Incarnation,
    record: Arc<NodeRecord>,
    presence: Presence,
    now: Time,
    timers: Timers,
    members: Members,
    round_robin: RoundRobin,
    /// Numbers pings, our own and those made for others.
    pings: u32,
    probe: Option<Probe>,
    relays: Relays,
    suspicions: Suspicions,
    awareness: Awareness,
    updates: Dissemination<NodeId>,
    entry_updates: Dissemination<EntryKey>,
    leaders: LwwMap<PartitionId, Leadership>,
    owners: LwwMap<RangeId, Ownership>,
    auth: Authenticator,
    streams: Streams,
    joining: Joining,
    counters: Counters,
    planted: Option<Planted>,
}

/// One call's time, draws and effects.
struct Turn<'a> {
    now: Time,
    random: &'a mut dyn Random,
    effects: Vec<Effect>,
}

impl Turn<'_> {
    fn event(&mut self, event: Event) {
        self.effects.push(Effect::Event(event));
    }
}

impl Node {
    /// A node that knows nobody yet.
    ///
    /// `boot` must be durably greater than that of every earlier life of this id; see
    /// [`BootEpoch`].
    ///
    /// # Errors
    /// If the configuration cannot work.
    pub fn new(
        config: Config,
        me: NodeId,
        boot: BootEpoch,
        record: CheckedRecord,
        keys: KeyRing,
        now: Time,
        random: &mut dyn Random,
    ) -> Result<Node, ConfigError> {
        config.check()?;
        // Nodes that start together should not probe and gossip in step.
        let mut within = |span_ms: u64| {
            let span = ms(span_ms);
            now.after(std::time::Duration::from_nanos(below(random, nanos(span))))
        };
        let timers = Timers {
            period: within(config.ping_interval_ms),
            gossip: within(config.gossip_interval_ms),
            sync: within(config.sync_interval_ms),
            rejoin: within(config.rejoin_interval_ms),
            dead_hear_until: Time::ZERO,
        };
        let life = Life {
            boot,
            nonce: random.next_u64() as u32,
        };
        let codes = Codes::new(keys, &config.cluster_name);
        let health_max = if config.lifeguard.local_health {
            config.health_max
        } else {
            0
        };
        Ok(Node {
            me,
            incarnation: Incarnation::first(boot),
            record: record.into_inner(),
            presence: Presence::Here,
            now,
            timers,
            members: Members::new(config.max_members),
            round_robin: RoundRobin::default(),
            pings: 0,
            probe: None,
            relays: Relays::default(),
            suspicions: Suspicions::default(),
            awareness: Awareness::new(health_max),
            updates: Dissemination::new(),
            entry_updates: Dissemination::new(),
            leaders: LwwMap::new(config.max_entries),
            owners: LwwMap::new(config.max_entries),
            auth: Authenticator::new(me, life, codes, config.max_members.saturating_mul(2)),
            streams: Streams::default(),
            joining: Joining::default(),
            counters: Counters::default(),
            planted: None,
            config,
        })
    }

    /// Takes in what happened and says what to do, in order.
    pub fn handle(&mut self, now: Time, input: Input<'_>, random: &mut dyn Random) -> Vec<Effect> {
        self.now = self.now.max(now);
        let mut turn = Turn {
            now: self.now,
            random,
            effects: Vec::new(),
        };
        if self.presence != Presence::Gone {
            self.take(&mut turn, input);
        }
        turn.effects
    }

    fn take(&mut self, turn: &mut Turn<'_>, input: Input<'_>) {
        match input {
            Input::Tick => self.tick(turn),
            Input::Datagram { from, bytes } => self.datagram(turn, from, bytes),
            Input::StreamBytes { stream, bytes } => self.stream_bytes(turn, stream, bytes),
            Input::StreamWritable(stream) => self.send_state(turn, stream),
            Input::StreamEnded(stream) => self.streams.remove(stream),
            Input::Resolved { name, addresses } => self.resolved(turn, &name, &addresses),
            Input::Join(seeds) => self.join(turn, seeds),
            Input::Leave => self.leave(turn),
            Input::UpdateRecord(record) => self.update_record(turn, record),
            Input::Publish(entry) => self.entry(turn, entry, true),
            Input::ForgetPartition(id) => {
                self.leaders.forget(id, turn.now, self.forget_entries_for());
                self.entry_updates.drop_subject(EntryKey::Partition(id));
            }
            Input::ForgetRange(id) => {
                self.owners.forget(id, turn.now, self.forget_entries_for());
                self.entry_updates.drop_subject(EntryKey::Range(id));
            }
            Input::UseKeys(ring) => self.auth.use_keys(ring),
        }
    }

    /// A forgotten entry is kept out for as long as some peer may take to forget it too: some full
    /// exchanges.
    fn forget_entries_for(&self) -> std::time::Duration {
        self.config.sync_interval(self.alive()) * 10
    }

    /// This node's id.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.me
    }

    /// Its current incarnation.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// Its record.
    #[must_use]
    pub fn record(&self) -> &NodeRecord {
        &self.record
    }

    /// Its settings.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Another member, as this node sees it.
    #[must_use]
    pub fn member(&self, node: NodeId) -> Option<&Member> {
        self.members.get(node)
    }

    /// All other members that it remembers, by id, the failed and departed ones too.
    pub fn members(&self) -> impl Iterator<Item = (NodeId, &Member)> + '_ {
        self.members.iter()
    }

    /// How many are alive or suspect, this node included.
    #[must_use]
    pub fn alive(&self) -> usize {
        self.members.live() + 1
    }

    /// Who leads which partition.
    #[must_use]
    pub fn leaders(&self) -> &LwwMap<PartitionId, Leadership> {
        &self.leaders
    }

    /// Who owns which range.
    #[must_use]
    pub fn owners(&self) -> &LwwMap<RangeId, Ownership> {
        &self.owners
    }

    /// The local health: zero is healthy, [`Config::health_max`] the worst.
    #[must_use]
    pub fn local_health(&self) -> u32 {
        self.awareness.score()
    }

    /// What it counted.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Makes the node wrong in one way, to see whether a test notices.
    #[doc(hidden)]
    pub fn plant(&mut self, bug: Planted) {
        self.planted = Some(bug);
        self.auth.plant(bug);
    }

    fn has(&self, bug: Planted) -> bool {
        self.planted == Some(bug)
    }

    fn identity(&self) -> Identity {
        Identity {
            node: self.me,
            life: self.auth.life(),
        }
    }

    fn is_here(&self) -> bool {
        self.presence == Presence::Here
    }

    /// Takes an entry of a map, from a peer or from the driver of this node.
    fn entry(&mut self, turn: &mut Turn<'_>, entry: Entry, own: bool) {
        use crate::lww::Merged;
        let (merged, key, event) = match entry {
            Entry::Leader(partition, leadership) => (
                self.leaders.merge(partition, leadership),
                EntryKey::Partition(partition),
                Event::LeadershipLearned {
                    partition,
                    leadership,
                },
            ),
            Entry::Owner(range, ownership) => (
                self.owners.merge(range, ownership),
                EntryKey::Range(range),
                Event::OwnershipLearned { range, ownership },
            ),
        };
        match merged {
            Merged::Known => {}
            Merged::Full => self.counters.refuse(crate::Refusal::Full),
            Merged::Taken => {
                if own || !self.has(Planted::NotPassedOn) {
                    let bytes = crate::codec::Message::Entry(entry).encoded();
                    self.entry_updates.queue(key, bytes);
                    self.align_gossip(turn.now);
                }
                if !own {
                    turn.event(event);
                }
            }
        }
    }

    /// The time that it was last told.
    #[must_use]
    pub fn now(&self) -> Time {
        self.now
    }

    /// Whether it says goodbye, or has said it.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        !self.is_here()
    }

    /// Who is being probed, and since when.
    #[must_use]
    pub fn probing(&self) -> Option<(NodeId, Time)> {
        self.probe
            .as_ref()
            .map(|probe| (probe.target, probe.started))
    }

    fn next_ping(&mut self) -> u32 {
        self.pings = self.pings.wrapping_add(1);
        self.pings
    }

    /// The streams that are open, with when each is given up.
    #[must_use]
    pub fn open_streams(&self) -> BTreeMap<StreamId, Time> {
        self.streams.all()
    }
}
