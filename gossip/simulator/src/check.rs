//! The rules. Most are checked at each step, against what the world knows and no node does: which
//! incarnations were ever issued, who is running, what was accepted before. The others are checked
//! when the world has been whole for long enough.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use gossip::{Event, Incarnation, MAX_PACKET_BYTES, Node, NodeId, NodeRecord, Status};
use simulation::{Time, Violation, hash_of};

use crate::settings::spread_bound;
use crate::world::{Before, Start, Taken, Watch, World, host_of_node, node_id};

/// What is known of one host's claims about itself.
#[derive(Clone, Debug, Default)]
struct Issued {
    /// Every incarnation, with the records that it published: one, unless a disk was lost.
    records: BTreeMap<Incarnation, BTreeSet<u64>>,
    highest: Option<Incarnation>,
    /// Lives since the last lost disk have not used up their excuse to issue old numbers.
    wiped: bool,
}

/// A suspicion of one member by another one.
#[derive(Copy, Clone, Debug)]
struct Suspicion {
    incarnation: Incarnation,
    since: Time,
}

/// What one host is seen to do.
#[derive(Clone, Debug, Default)]
struct Seen {
    accepted: BTreeSet<u64>,
    suspects: BTreeMap<NodeId, Suspicion>,
    probes: u64,
    probed: BTreeMap<NodeId, u64>,
    running_since: Time,
    down_since: Option<Time>,
}

/// Everything that is watched.
pub(crate) struct Checker {
    issued: Vec<Issued>,
    seen: Vec<Seen>,
    /// No fault was drawn: nobody may be suspected at all.
    pub(crate) faultless: bool,
    /// From then on the world is whole.
    pub(crate) healed: Time,
    /// From then on every member must be probed in time.
    pub(crate) probes_watched_from: Time,
    /// Who was killed for good.
    pub(crate) killed: Option<usize>,
    failed_killed: BTreeMap<usize, Time>,
    /// When anybody first suspected an incarnation.
    first_suspected: BTreeMap<(NodeId, Incarnation), Time>,
    pub(crate) violation: Option<Violation>,
}

impl Checker {
    pub(crate) fn new(nodes: usize, faultless: bool) -> Checker {
        Checker {
            issued: vec![Issued::default(); nodes],
            seen: vec![Seen::default(); nodes],
            faultless,
            healed: Time(u64::MAX),
            probes_watched_from: Time(u64::MAX),
            killed: None,
            failed_killed: BTreeMap::new(),
            first_suspected: BTreeMap::new(),
            violation: None,
        }
    }

    /// Keeps the first broken rule.
    pub(crate) fn broken(&mut self, at: Time, rule: &str, detail: impl FnOnce() -> String) {
        if self.violation.is_none() {
            self.violation = Some(Violation {
                at,
                rule: rule.to_owned(),
                detail: detail(),
            });
        }
    }

    /// Takes note of what a node says of itself at the moment.
    fn issue(&mut self, now: Time, host: usize, node: &Node) {
        let incarnation = node.incarnation();
        let issued = &mut self.issued[host];
        if issued.highest == Some(incarnation) {
            return;
        }
        if issued.highest.is_some_and(|highest| incarnation <= highest) && !issued.wiped {
            let highest = issued.highest;
            self.broken(
                now,
                "a node's incarnation only grows, over restarts too",
                || format!("node {host} has {incarnation} after {highest:?}"),
            );
            return;
        }
        if issued.highest.is_none_or(|highest| incarnation > highest) {
            issued.highest = Some(incarnation);
            issued.wiped = false;
        }
    }

    fn issue_record(&mut self, now: Time, host: usize, node: &Node) {
        let record = hash_of(node.record());
        let issued = &mut self.issued[host];
        let wiped = issued.wiped;
        let records = issued.records.entry(node.incarnation()).or_default();
        if records.insert(record) && records.len() > 1 && !wiped {
            let incarnation = node.incarnation();
            self.broken(now, "an incarnation has one record", || {
                format!("node {host} published another record under {incarnation}")
            });
        }
    }

    /// A claim that a node holds must be one that its subject could have made.
    fn known(&mut self, now: Time, host: usize, subject: NodeId, incarnation: Incarnation) {
        let of = host_of_node(subject);
        if !self.issued[of].records.contains_key(&incarnation) {
            self.broken(
                now,
                "nobody knows an incarnation that was not issued",
                || format!("node {host} holds {incarnation} of node {of}"),
            );
        }
    }

    fn recorded(
        &mut self,
        now: Time,
        host: usize,
        subject: NodeId,
        incarnation: Incarnation,
        record: &NodeRecord,
    ) {
        let of = host_of_node(subject);
        let hash = hash_of(record);
        let issued = self.issued[of].records.get(&incarnation);
        if !issued.is_some_and(|records| records.contains(&hash)) {
            self.broken(now, "no two incarnations are confused", || {
                format!("node {host} has for {incarnation} of node {of}: {record:?}")
            });
        }
    }

    fn accepted(&mut self, now: Time, host: usize, meant_for: usize, sent_at: Time, bytes: &[u8]) {
        if meant_for != host {
            self.broken(now, "a datagram is used by whom it was sent to", || {
                format!("node {host} used one for node {meant_for}")
            });
        }
        if sent_at < self.seen[host].running_since {
            self.broken(
                now,
                "a life uses nothing that was sent before it began",
                || format!("node {host} used a datagram of {sent_at}"),
            );
        }
        // Not by its number: a node that lost its disk may use those of an epoch again.
        if !self.seen[host].accepted.insert(hash_of(&(bytes, sent_at))) {
            self.broken(now, "a datagram is used once", || {
                format!("node {host} used one of {sent_at} twice")
            });
        }
    }

    fn probe(&mut self, now: Time, host: usize, before: &Before, taken: &Taken, node: &Node) {
        let probing = node.probing();
        if probing == before.probing {
            return;
        }
        if let Some((target, since)) = before.probing
            && probing.is_none()
            && *taken != Taken::Tick
            && !node.is_leaving()
        {
            self.answered(now, host, target, node, since);
        }
        let Some((target, _)) = probing else {
            return;
        };
        let seen = &mut self.seen[host];
        seen.probes += 1;
        let count = seen.probes;
        seen.probed.insert(target, count);
        if now < self.probes_watched_from {
            return;
        }
        let bound = 2 * self.issued.len() as u64 - 1;
        let late = self.seen[host]
            .probed
            .iter()
            .find(|(_, last)| count - **last > bound)
            .map(|(late, _)| *late);
        if let Some(late) = late.filter(|late| self.runs(host_of_node(*late))) {
            self.broken(now, "every member is probed within 2 N - 1 periods", || {
                format!("node {host} has not probed {late} for more than {bound} probes")
            });
        }
    }

    fn runs(&self, host: usize) -> bool {
        self.seen[host].down_since.is_none()
    }

    /// A probe that was answered must have had somebody to answer it.
    fn answered(
        &mut self,
        now: Time,
        host: usize,
        target: NodeId,
        node: &Node,
        since: gossip::Time,
    ) {
        let of = host_of_node(target);
        // The prober's clock may drift, by a thousandth at most.
        let lasted = node_time_passed(node, since);
        let began = Time(now.0.saturating_sub(lasted + lasted / 500));
        if let Some(down_since) = self.seen[of].down_since
            && down_since < began
        {
            self.broken(now, "nobody answers for a node that is down", || {
                format!(
                    "node {host} took a probe of node {of} for answered; down since {down_since}"
                )
            });
        }
    }

    fn suspected(&mut self, now: Time, host: usize, node: NodeId, incarnation: Incarnation) {
        let since = now;
        let suspicion = (node, incarnation);
        self.first_suspected.entry(suspicion).or_insert(now);
        self.seen[host]
            .suspects
            .insert(node, Suspicion { incarnation, since });
        if self.faultless && self.killed.is_none() {
            self.broken(now, "without faults nobody is suspected", || {
                format!("node {host} suspects {node}")
            });
        }
    }

    fn failed(&mut self, now: Time, host: usize, node: NodeId, incarnation: Incarnation) {
        self.seen[host].suspects.remove(&node);
        let of = host_of_node(node);
        if self.killed == Some(of) {
            self.failed_killed.entry(host).or_insert(now);
            return;
        }
        // Begun when all was well and the accused could hear and speak: it should have refuted.
        let since = self.first_suspected.get(&(node, incarnation)).copied();
        if since.is_some_and(|since| since > self.healed) && self.runs(of) {
            self.broken(now, "a live responsive node refutes", || {
                format!("node {host} failed node {of} at {incarnation}, suspected since {since:?}")
            });
        }
    }

    /// Looks at all views, now and then.
    pub(crate) fn sample(world: &mut World<Checker>) {
        let now = world.now;
        let nodes = world.hosts.len();
        let longest = world.config().longest_suspicion(nodes);
        let allowed = longest + longest / 100;
        for host in 0..nodes {
            let Some(node) = &world.hosts[host].node else {
                continue;
            };
            // Whoever has left accuses nobody any more.
            let idle = world.hosts[host].is_paused() || node.is_leaving();
            for (id, member) in node.members() {
                let (incarnation, of) = (member.record_incarnation, host_of_node(id));
                world
                    .watch
                    .recorded(now, host, id, incarnation, &member.record);
                world.watch.known(now, host, id, member.incarnation);
                let suspects = &mut world.watch.seen[host].suspects;
                if member.status != Status::Suspect || idle {
                    suspects.remove(&id);
                    continue;
                }
                let fresh = Suspicion {
                    incarnation: member.incarnation,
                    since: now,
                };
                let seen = suspects.entry(id).or_insert(fresh);
                if seen.incarnation != member.incarnation {
                    *seen = fresh;
                }
                let since = seen.since;
                if now.since(since) > allowed {
                    world
                        .watch
                        .broken(now, "a suspicion ends within its longest time", || {
                            format!("node {host} suspects node {of} since {since}")
                        });
                }
            }
        }
    }

    /// The world has been whole for long enough: all agree on all.
    pub(crate) fn converged(world: &mut World<Checker>) {
        const RULE: &str = "every live node's view converges after the faults";
        let now = world.now;
        let mut broken = None;
        for (host, state) in world.hosts.iter().enumerate() {
            let Some(node) = &state.node else {
                broken = Some(format!("node {host} is not running"));
                break;
            };
            for (other, state) in world.hosts.iter().enumerate() {
                let Some(truth) = &state.node else {
                    continue;
                };
                let seen = node.member(node_id(other));
                let agrees = seen.is_some_and(|seen| {
                    seen.status == Status::Alive
                        && seen.incarnation == truth.incarnation()
                        && *seen.record == *truth.record()
                });
                if other != host && !agrees {
                    let truth = truth.incarnation();
                    broken = Some(format!(
                        "node {host} sees node {other}, which lives as {truth}, as {seen:?}"
                    ));
                }
                if node.leaders().iter().ne(truth.leaders().iter())
                    || node.owners().iter().ne(truth.owners().iter())
                {
                    let sizes =
                        [node, truth].map(|node| (node.leaders().len(), node.owners().len()));
                    broken = Some(format!(
                        "the maps of nodes {host} and {other} differ, of sizes {sizes:?}"
                    ));
                }
            }
        }
        if let Some(detail) = broken {
            world.watch.broken(now, RULE, || detail);
        }
    }

    /// The killed one must be known to be dead to everybody, and the news must have spread.
    pub(crate) fn detected(world: &mut World<Checker>) {
        let now = world.now;
        let Some(killed) = world.watch.killed else {
            return;
        };
        let mut unaware = None;
        for (host, state) in world.hosts.iter().enumerate() {
            if let Some(node) = &state.node {
                let seen = node.member(node_id(killed)).map(|member| member.status);
                if seen != Some(Status::Dead) {
                    unaware = Some((host, seen));
                }
            }
        }
        if let Some((host, seen)) = unaware {
            world
                .watch
                .broken(now, "a dead node is detected within the bound", || {
                    format!("node {host} still sees node {killed} as {seen:?}")
                });
        }
        let bound = spread_bound(world.config());
        world.watch.spread(now, bound);
    }

    /// Gossip has luck in it: each update is sent a few times to random others. That half of them
    /// miss it does not happen unless updates are not passed on.
    fn spread(&mut self, now: Time, bound: Duration) {
        let mut learned: Vec<Time> = self.failed_killed.values().copied().collect();
        learned.sort_unstable();
        let half = (self.issued.len() - 1).div_ceil(2);
        if let (Some(first), Some(median)) = (learned.first(), learned.get(half.max(1) - 1))
            && median.since(*first) > bound
        {
            self.broken(now, "what one member learns most learn soon", || {
                format!("a failure of {first} was known to half of the others at {median}")
            });
        }
    }

    /// A host was taken down for good.
    pub(crate) fn kill(world: &mut World<Checker>, host: usize) {
        world.watch.killed = Some(host);
        world.crash(host);
    }
}

fn node_time_passed(node: &Node, since: gossip::Time) -> u64 {
    node.now().0.saturating_sub(since.0)
}

impl Watch for Checker {
    fn started(&mut self, now: Time, host: usize, node: &Node, start: Start) {
        if start == Start::Wiped {
            self.issued[host].wiped = true;
        }
        let issued = &mut self.issued[host];
        if issued.highest == Some(node.incarnation()) && !issued.wiped {
            let incarnation = node.incarnation();
            self.broken(
                now,
                "a node's incarnation only grows, over restarts too",
                || format!("node {host} starts again with {incarnation}"),
            );
        }
        self.issue(now, host, node);
        self.issue_record(now, host, node);
        let seen = &mut self.seen[host];
        seen.running_since = now;
        seen.down_since = None;
        seen.suspects.clear();
        seen.probed.clear();
    }

    fn stopped(&mut self, now: Time, host: usize) {
        self.seen[host].down_since.get_or_insert(now);
    }

    fn handled(&mut self, now: Time, host: usize, before: &Before, taken: &Taken, node: &Node) {
        // Only a change of its own, or of its driver's, gives a node another record.
        if node.incarnation() != before.incarnation || *taken == Taken::Other {
            self.issue(now, host, node);
            self.issue_record(now, host, node);
        }
        if let Taken::Datagram {
            meant_for,
            sent_at,
            bytes,
        } = taken
            && node.counters().datagrams_accepted > before.accepted
        {
            self.accepted(now, host, *meant_for, *sent_at, bytes);
        }
        if node.counters().accusations > before.accusations
            && node.incarnation() == before.incarnation
        {
            self.broken(
                now,
                "whoever is held for suspect or dead refutes at once",
                || format!("node {host} heard it of {} and did not", before.incarnation),
            );
        }
        self.probe(now, host, before, taken, node);
    }

    fn event(&mut self, now: Time, host: usize, event: &Event) {
        match event {
            Event::Joined {
                node, incarnation, ..
            }
            | Event::Updated {
                node, incarnation, ..
            }
            | Event::Left { node, incarnation }
            | Event::Recovered { node, incarnation } => {
                self.known(now, host, *node, *incarnation);
                self.seen[host].suspects.remove(node);
            }
            Event::Suspected { node, incarnation } => {
                self.known(now, host, *node, *incarnation);
                self.suspected(now, host, *node, *incarnation);
            }
            Event::Failed { node, incarnation } => {
                self.known(now, host, *node, *incarnation);
                self.failed(now, host, *node, *incarnation);
            }
            Event::Forgotten { .. }
            | Event::LeadershipLearned { .. }
            | Event::OwnershipLearned { .. }
            | Event::JoinSucceeded { .. }
            | Event::BootEpochRaised(_)
            | Event::LeaveDone => {}
        }
    }

    fn sent(&mut self, now: Time, host: usize, bytes: &[u8]) {
        if bytes.len() > MAX_PACKET_BYTES {
            let length = bytes.len();
            self.broken(now, "a datagram has at most 1,400 bytes", || {
                format!("node {host} sent {length}")
            });
        }
    }
}
