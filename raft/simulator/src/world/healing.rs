//! What must come true when the faults are over: a leader that serves, equal logs, terms at rest, and
//! silence where there is nothing to say.

use std::time::Duration;

use raft::{Acks, Condition, Group, Index, Proposal, ReplicaId, Role, Settings, Term};
use simulation::Time;

use super::clients::{Call, OPERATOR};
use super::node::Node;
use super::{Event, World};
use crate::check::{Broken, Rule, check_outline, hold};

/// Election timeouts, with their spread, that a group has to find a leader. An election seldom takes
/// three; but the first leader may have to be a certain replica, and that may have to be mended.
const TO_SERVE: u32 = 8;

/// Quarters of an election's time that a follower is given once to get what it lacks.
const MORE_TO_CATCH_UP: u32 = 4;

/// How long a group is left alone at the end, so that it can fall quiet, and how long it is listened
/// to then.
const REST: Duration = Duration::from_secs(6);
const LISTEN: Duration = Duration::from_millis(1_500);

/// A moment of judgement.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Milestone {
    /// The faults are over.
    Healed,
    /// Somebody tries whether the group serves.
    Try,
    /// It must serve by now. Clients and the operator stop.
    Serves,
    /// Terms may not grow any more.
    TermsRest,
    /// A group that may fall quiet must be so by now.
    Hush,
}

/// What has been seen since the faults were over.
#[derive(Clone, Debug)]
pub(crate) struct Healing {
    healed: Time,
    /// None: the run is too short to be judged.
    serves: Option<Time>,
    ends: Time,
    committed: Index,
    terms: Option<Term>,
    sent: Option<u64>,
    /// When anybody was last elected, and last began to serve.
    elected: Option<Time>,
    served: Option<Time>,
    every: Duration,
    /// A follower was given more time to catch up.
    waited: bool,
}

impl Healing {
    pub(super) fn new(healed: Time, ends: Time, settings: &Settings) -> Healing {
        let election = settings.election_timeout + settings.election_spread;
        let serves = healed + election * TO_SERVE;
        Healing {
            healed,
            serves: (serves + REST <= ends).then_some(serves),
            ends,
            committed: Index(0),
            terms: None,
            sent: None,
            elected: None,
            served: None,
            every: election / 4,
            waited: false,
        }
    }

    pub(super) fn milestones(&self) -> Vec<(Milestone, Time)> {
        let Some(serves) = self.serves else {
            return Vec::new();
        };
        let rest = self.ends.since(serves);
        let hush = Time(self.ends.0 - LISTEN.as_nanos() as u64);
        vec![
            (Milestone::Healed, self.healed),
            (Milestone::Serves, serves),
            (Milestone::TermsRest, serves + rest / 4),
            (Milestone::Hush, hush),
        ]
    }

    /// When the faults are over.
    pub(super) fn healed(&self) -> Time {
        self.healed
    }

    /// Somebody was elected, or has begun to serve.
    pub(super) fn leads(&mut self, role: Role, now: Time) {
        match role {
            Role::Elected => self.elected = Some(now),
            Role::Leader => self.served = Some(now),
            _ => {}
        }
    }

    /// When somebody was last elected, and last became a leader that serves.
    pub(super) fn elected_and_served(&self) -> (Option<Time>, Option<Time>) {
        (self.elected, self.served)
    }
}

impl World {
    pub(super) fn milestone(&mut self, milestone: Milestone) -> Result<(), Broken> {
        self.tell(|| format!("{milestone:?}"));
        match milestone {
            Milestone::Healed => {
                self.healing.committed = self.history.committed();
                // A network that goes on losing a share of all messages gives no peace: now and then
                // enough heartbeats in a row are among them. And where messages overtake each other a
                // follower catches up slowly. From now on they go as on connections, which is what a
                // broker has.
                self.profile.link.loss = 0.0;
                self.profile.ordered = true;
                self.network.set_model(self.profile.link.clone());
                self.attempt()
            }
            Milestone::Try => self.attempt(),
            // A change of membership may hang on a voter that has much to read yet.
            Milestone::Serves
                if self.catches_up() && !std::mem::replace(&mut self.healing.waited, true) =>
            {
                let more = self.healing.every * MORE_TO_CATCH_UP;
                self.events
                    .push(self.now + more, Event::Milestone(Milestone::Serves));
                Ok(())
            }
            Milestone::Serves => {
                self.open = false;
                let committed = self.history.committed();
                let serves = self.leader().is_some() && committed > self.healing.committed;
                hold(Rule::ServesAfterHealing, serves, || {
                    let before = self.healing.committed;
                    format!(
                        "{before} was committed when the faults were over, {committed} is now; {}",
                        self.parts()
                    )
                })
            }
            Milestone::TermsRest => {
                self.healing.terms = Some(self.greatest_term());
                Ok(())
            }
            Milestone::Hush => {
                self.healing.sent = Some(self.said_by_members());
                Ok(())
            }
        }
    }

    /// One small proposal to whoever leads, again and again until the group is judged.
    fn attempt(&mut self) -> Result<(), Broken> {
        if !self.open {
            return Ok(());
        }
        self.events.push(
            self.now + self.healing.every,
            Event::Milestone(Milestone::Try),
        );
        let Some((node, _)) = self.leader() else {
            return Ok(());
        };
        let token = self.token(OPERATOR);
        self.called(
            node,
            Call::Propose(Proposal {
                token,
                entries: 1,
                bytes: 1,
                acks: Acks::Leader,
            }),
        )
    }

    fn greatest_term(&self) -> Term {
        let members = self.live_members();
        members
            .iter()
            .map(|(_, group)| group.term())
            .max()
            .unwrap_or_default()
    }

    /// Messages that live members have sent. One that was removed and does not know it, until its
    /// driver takes it away, goes on asking who leads.
    fn said_by_members(&self) -> u64 {
        let members = self.live_members();
        let said = members
            .iter()
            .map(|(node, _)| self.network.traffic(*node).messages);
        said.sum()
    }

    /// Whether somebody who leads waits for a voter that is getting what it lacks.
    fn catches_up(&self) -> bool {
        let Some((node, term)) = self.leader() else {
            return false;
        };
        let last = self.nodes[node]
            .process()
            .map(|leader| leader.group.last().index);
        self.live_members()
            .iter()
            .any(|(_, group)| group.term() == term && Some(group.last().index) < last)
    }

    /// The members of the leader's membership that run.
    fn live_members(&self) -> Vec<(usize, &Group)> {
        let leader = self
            .leader()
            .and_then(|(node, _)| self.nodes[node].process());
        let Some(configuration) = leader.and_then(|leader| leader.group.configuration()) else {
            return Vec::new();
        };
        let running = |id: ReplicaId| {
            let node = id.node.0 as usize;
            let process = self.nodes[node].process()?;
            (process.group.id() == id).then_some((node, &process.group))
        };
        configuration
            .members()
            .into_iter()
            .filter_map(running)
            .collect()
    }

    /// What every replica is at, for people.
    pub(crate) fn parts(&self) -> String {
        let parts = self.nodes.iter().enumerate().map(|(number, node)| match node.process() {
            None => format!("n{number} does not run"),
            Some(process) => {
                let group = &process.group;
                let (id, role, term) = (group.id(), group.role(), group.term());
                let (last, commit, visible) = (group.last(), group.commit(), group.visible());
                let condition = group.condition();
                let of = group.configuration().map(ToString::to_string).unwrap_or_default();
                format!("{id} {role:?} {condition:?} in {term} has {last}, {commit} committed, {visible} visible, of {of}")
            }
        });
        parts.collect::<Vec<String>>().join("; ")
    }

    /// The end of the run.
    pub(super) fn check_end(&self) -> Result<(), Broken> {
        for process in self.nodes.iter().filter_map(Node::process) {
            check_outline(&process.group, &process.log)?;
        }
        if self.healing.serves.is_none() {
            return Ok(());
        }
        self.check_converged()?;
        let terms = self.greatest_term();
        hold(Rule::TermsRest, self.healing.terms == Some(terms), || {
            format!(
                "{:?} some seconds ago, {terms} now; {}",
                self.healing.terms,
                self.parts()
            )
        })?;
        self.check_quiet()
    }

    fn check_converged(&self) -> Result<(), Broken> {
        let converged = |holds: bool, why: &str| {
            hold(Rule::ConvergesAfterHealing, holds, || {
                format!("{why}: {}", self.parts())
            })
        };
        let leader = self
            .leader()
            .and_then(|(node, _)| self.nodes[node].process());
        let Some(leader) = leader else {
            return converged(false, "nobody leads");
        };
        let last = leader.log.last_index();
        let end = leader.log.at(last);
        let joint = leader
            .group
            .configuration()
            .is_some_and(raft::Configuration::is_joint);
        converged(!joint, "a change is half done")?;
        converged(
            leader.group.commit() == last,
            "the leader has uncommitted entries",
        )?;
        converged(
            self.history.committed() == last,
            "the leader lacks what is committed",
        )?;
        converged(
            self.history.committed_at(last) == end,
            "the leader's log is another one",
        )?;
        for (node, group) in self.live_members() {
            let log = self.nodes[node].process().map(|process| &process.log);
            converged(log.and_then(|log| log.at(last)) == end, "a log differs")?;
            converged(group.last() == leader.group.last(), "a log is longer")?;
            converged(
                group.commit() == last && group.visible() == last,
                "a watermark is behind",
            )?;
            converged(group.durable() == last, "a disk is behind")?;
            converged(group.condition() == Condition::Sound, "a log is not mended")?;
            let follows = group.role() == Role::Follower || group.id() == leader.group.id();
            converged(
                follows && group.leader() == Some(leader.group.id()),
                "the leader is not known",
            )?;
        }
        Ok(())
    }

    /// Nothing is sent when nothing is to be said, if the group may fall quiet and all its members
    /// are there to be told.
    fn check_quiet(&self) -> Result<(), Broken> {
        let leader = self
            .leader()
            .and_then(|(node, _)| self.nodes[node].process());
        let members = leader
            .and_then(|leader| leader.group.configuration())
            .map(raft::Configuration::members);
        let live = self.live_members();
        let all_there = members.is_some_and(|members| members.len() == live.len());
        if self.profile.settings.quiesce_after.is_none() || !all_there {
            return Ok(());
        }
        let sent = self.said_by_members();
        let quiet = live.iter().all(|(_, group)| group.is_quiet());
        hold(
            Rule::QuietIsQuiet,
            quiet && self.healing.sent == Some(sent),
            || {
                let before = self.healing.sent.unwrap_or_default();
                let awake: Vec<_> = live.iter().filter(|(_, group)| !group.is_quiet()).collect();
                let awake: Vec<String> = awake
                    .iter()
                    .map(|(_, group)| group.id().to_string())
                    .collect();
                format!(
                    "{} messages in {LISTEN:?}; {awake:?} are awake; {}",
                    sent - before,
                    self.parts()
                )
            },
        )
    }
}
