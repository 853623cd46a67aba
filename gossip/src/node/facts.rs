//! Claims: what follows from one about another member, and from one about this node.

use std::sync::Arc;

use super::datagrams::Destination;
use super::{Node, Presence, Turn};
use crate::awareness::Sign;
use crate::codec::{Item, Message};
use crate::config::ms;
use crate::fact::{Claim, Fact, Status};
use crate::identity::{Incarnation, NodeId};
use crate::interface::{CheckedRecord, Event};
use crate::members::Applied;
use crate::planted::Planted;
use crate::refusal::Refusal;

impl Node {
    /// What this node says of itself.
    pub(super) fn own_fact(&self) -> Fact {
        let claim = if self.is_here() {
            Claim::Alive(Arc::clone(&self.record))
        } else {
            Claim::Left
        };
        Fact {
            node: self.me,
            incarnation: self.incarnation,
            claim,
        }
    }

    pub(super) fn queue_own(&mut self, turn: &Turn<'_>) {
        let fact = self.own_fact();
        self.queue(turn, fact);
    }

    fn queue(&mut self, turn: &Turn<'_>, fact: Fact) {
        self.updates.queue(fact.node, Message::Fact(fact).encoded());
        self.align_gossip(turn.now);
    }

    /// Takes a claim, whoever it comes from.
    pub(super) fn fact(&mut self, turn: &mut Turn<'_>, mut fact: Fact) {
        if fact.node == self.me {
            self.claim_about_me(turn, &fact);
            return;
        }
        if self.has(Planted::EqualAliveWins)
            && fact.status() == Status::Alive
            && let Some(member) = self.members.get(fact.node)
            && member.incarnation == fact.incarnation
            && member.status != Status::Alive
            && let Some(raised) = fact.incarnation.next_in_life()
        {
            fact.incarnation = raised;
        }
        match self.members.apply(&fact, turn.now) {
            Applied::Stale | Applied::Unknown => {}
            Applied::Full => self.counters.refuse(Refusal::Full),
            Applied::Confirmation => self.confirmation(turn, fact),
            Applied::Changed { before, news } => self.changed(turn, fact, before, news),
        }
    }

    /// Each new accuser is passed on, because it shortens everybody's suspicion.
    fn confirmation(&mut self, turn: &Turn<'_>, fact: Fact) {
        if let Claim::Suspect { by } = fact.claim
            && self.suspicions.confirm(fact.node, by)
            && !self.has(Planted::NotPassedOn)
        {
            self.queue(turn, fact);
        }
    }

    fn changed(&mut self, turn: &mut Turn<'_>, fact: Fact, before: Option<Status>, news: bool) {
        let Some(member) = self.members.get(fact.node).cloned() else {
            return;
        };
        if before.is_none() {
            self.round_robin.insert(fact.node, turn.random);
        }
        let node = fact.node;
        let incarnation = member.incarnation;
        let was_live = before.is_some_and(Status::is_live);
        if member.status.is_live() && !was_live {
            turn.event(Event::Joined {
                node,
                incarnation,
                record: Arc::clone(&member.record),
            });
        } else if news {
            turn.event(Event::Updated {
                node,
                incarnation,
                record: Arc::clone(&member.record),
            });
        }
        // A record of an incarnation that is suspect or dead already changes nothing else.
        if fact.status() != member.status || fact.incarnation != incarnation {
            return;
        }
        self.follow(turn, &fact, before);
        if self.has(Planted::NotPassedOn) {
            return;
        }
        self.queue(turn, fact);
    }

    /// What the new standing of a member starts or ends.
    fn follow(&mut self, turn: &mut Turn<'_>, fact: &Fact, before: Option<Status>) {
        let (node, incarnation) = (fact.node, fact.incarnation);
        match fact.claim {
            Claim::Alive(_) => {
                self.suspicions.end(node);
                if before == Some(Status::Suspect) {
                    turn.event(Event::Recovered { node, incarnation });
                }
            }
            Claim::Suspect { by } => {
                let alive = self.alive();
                let suspect = (node, incarnation);
                self.suspicions
                    .begin(&self.config, alive, suspect, by, turn.now);
                if before != Some(Status::Suspect) {
                    turn.event(Event::Suspected { node, incarnation });
                }
            }
            Claim::Dead { .. } => {
                self.suspicions.end(node);
                self.timers.dead_hear_until = turn.now.after(ms(self.config.gossip_to_dead_ms));
                self.align_gossip(turn.now);
                if before.is_some_and(Status::is_live) {
                    turn.event(Event::Failed { node, incarnation });
                }
            }
            Claim::Left => {
                self.suspicions.end(node);
                turn.event(Event::Left { node, incarnation });
            }
        }
    }

    /// This node's own failed probe speaks against a member.
    pub(super) fn accuse(&mut self, turn: &mut Turn<'_>, node: NodeId) {
        let Some(member) = self.members.get(node) else {
            return;
        };
        let fact = Fact {
            node,
            incarnation: member.incarnation,
            claim: Claim::Suspect { by: self.me },
        };
        self.fact(turn, fact);
        self.tell_suspect(turn, node);
    }

    /// Whoever brings up a suspicion tells the suspect at once (the Buddy System). Gossip would
    /// reach it in time nearly always, and a healthy member should not depend on luck.
    fn tell_suspect(&mut self, turn: &mut Turn<'_>, node: NodeId) {
        let suspect = self.members.get(node);
        let suspect = suspect.filter(|member| member.status == Status::Suspect);
        if let Some(address) = suspect.map(|member| member.record.gossip)
            && self.config.lifeguard.buddy
        {
            self.send(turn, Destination { node, address }, None, &[]);
        }
    }

    /// A suspected member has not refuted in time.
    pub(super) fn bury(&mut self, turn: &mut Turn<'_>, node: NodeId, incarnation: Incarnation) {
        self.suspicions.end(node);
        let fact = Fact {
            node,
            incarnation,
            claim: Claim::Dead { by: self.me },
        };
        self.fact(turn, fact);
    }

    fn claim_about_me(&mut self, turn: &mut Turn<'_>, fact: &Fact) {
        if !self.is_here() {
            return;
        }
        if fact.incarnation > self.incarnation {
            self.raise_boot(turn, fact.incarnation);
            return;
        }
        if fact.incarnation < self.incarnation {
            // Somebody holds on to an overtaken accusation: say again what is so.
            if fact.status() != Status::Alive && !self.updates.holds(self.me) {
                self.queue_own(turn);
            }
            return;
        }
        self.counters.accusations += u64::from(fact.status() != Status::Alive);
        match &fact.claim {
            Claim::Alive(record) if *record == self.record => {}
            Claim::Alive(_) => self.raise_incarnation(turn),
            Claim::Suspect { .. } if self.has(Planted::SuspicionNotRefuted) => {}
            Claim::Dead { .. } if self.has(Planted::DeathNotRefuted) => {}
            Claim::Suspect { .. } | Claim::Dead { .. } | Claim::Left => {
                self.counters.refutations += 1;
                self.awareness.note(Sign::HadToRefute);
                if self.has(Planted::RefutesWithoutRaising) {
                    self.queue_own(turn);
                } else {
                    self.raise_incarnation(turn);
                }
            }
        }
    }

    /// Publishes this node's state under a greater incarnation than any before.
    pub(super) fn raise_incarnation(&mut self, turn: &mut Turn<'_>) {
        match self.incarnation.next_in_life() {
            Some(next) => {
                self.incarnation = next;
                self.queue_own(turn);
            }
            None => self.raise_boot(turn, self.incarnation),
        }
    }

    /// Goes on as a life after the one that `known` belongs to.
    fn raise_boot(&mut self, turn: &mut Turn<'_>, known: Incarnation) {
        // At the end of all epochs nothing greater can be said. A correct cluster needs four
        // billion starts of one node to get there.
        let Some(boot) = known.boot().next() else {
            return;
        };
        self.incarnation = Incarnation::first(boot);
        self.auth.use_boot(boot);
        turn.event(Event::BootEpochRaised(boot));
        self.queue_own(turn);
    }

    pub(super) fn update_record(&mut self, turn: &mut Turn<'_>, record: CheckedRecord) {
        let record = record.into_inner();
        if record != self.record && self.is_here() {
            self.record = record;
            self.raise_incarnation(turn);
        }
    }

    pub(super) fn leave(&mut self, turn: &mut Turn<'_>) {
        if self.is_here() {
            self.presence = Presence::Leaving(turn.now.after(ms(self.config.leave_ms)));
            self.probe = None;
            self.joining = Default::default();
            self.queue_own(turn);
        }
    }

    /// Takes over one item of a peer's full state.
    ///
    /// What the peer holds for dead may live for all we know, so it only counts as suspect: then it
    /// can refute before anybody acts on it.
    pub(super) fn item(&mut self, turn: &mut Turn<'_>, peer: NodeId, item: Item) {
        let (node, incarnation, status, record_incarnation, record) = match item {
            Item::Entry(entry) => {
                self.entry(turn, entry, false);
                return;
            }
            Item::Member {
                node,
                incarnation,
                status,
                record_incarnation,
                record,
            } => (node, incarnation, status, record_incarnation, record),
        };
        // Who is gone and not known here was forgotten here, or never mattered.
        let known = node == self.me || self.members.get(node).is_some();
        if !known && !status.is_live() {
            return;
        }
        if node != self.me || status == Status::Alive {
            self.fact(
                turn,
                Fact {
                    node,
                    incarnation: record_incarnation,
                    claim: Claim::Alive(record),
                },
            );
        }
        let claim = match status {
            Status::Alive => return,
            Status::Suspect | Status::Dead => Claim::Suspect { by: peer },
            Status::Left => Claim::Left,
        };
        let before = self.members.get(node).map(|member| member.status);
        self.fact(
            turn,
            Fact {
                node,
                incarnation,
                claim,
            },
        );
        if before != Some(Status::Suspect) {
            self.tell_suspect(turn, node);
        }
    }
}
