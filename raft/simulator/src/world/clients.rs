//! Clients: proposals with values that nobody else has, and reads behind a barrier. They know who
//! led when they last heard of it, and that may be long ago.

use std::time::Duration;

use raft::{Acks, Index, Input, Proposal, Rejection, Token};
use simulation::{Draws, Seed};

use super::{Event, World};
use crate::check::{Broken, Rule, hold, is_quorum};

/// More clients than there are; the last one is the operator. A token tells whose it is.
pub(super) const MOST: u64 = 8;

/// The operator, as a client.
pub(super) const OPERATOR: u64 = MOST - 1;

/// The share of calls without an answer after which a client tries another node.
const GIVES_UP: f64 = 0.3;

/// A call of a node.
#[derive(Clone, Debug)]
pub(crate) enum Call {
    Propose(Proposal),
    /// And what was fresh when it began.
    Read(Token, Index),
    /// The operator's.
    Operate(Input),
}

/// A client.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    /// The node that it takes for the leader's.
    believes: usize,
    draws: Draws,
}

impl Client {
    pub(super) fn new(seed: Seed, number: u64) -> Client {
        Client {
            believes: 0,
            draws: seed.draws("client", &[number]),
        }
    }

    pub(super) fn pause(&mut self, mean: Duration) -> Duration {
        self.draws.exponential(mean)
    }
}

impl World {
    /// A client makes its next call.
    pub(super) fn client_calls(&mut self, number: usize) -> Result<(), Broken> {
        if !self.open {
            return Ok(());
        }
        let nodes = self.nodes.len() as u64;
        let token = self.token(number as u64);
        let load = &self.profile.load;
        let client = &mut self.clients[number];
        self.events
            .push(self.now + client.pause(load.every), Event::Client(number));
        let draws = &mut client.draws;
        let any = draws.below(nodes) as usize;
        let node = if draws.chance(load.astray) {
            any
        } else {
            client.believes
        };
        let call = if draws.chance(load.reads) {
            Call::Read(token, self.history.fresh())
        } else {
            let entries = 1 + draws.below(load.most_entries);
            Call::Propose(Proposal {
                token,
                entries: entries as u32,
                bytes: (0..entries).map(|_| draws.below(load.most_bytes) + 1).sum(),
                acks: if draws.chance(load.acks_all) {
                    Acks::All
                } else {
                    Acks::Leader
                },
            })
        };
        let gives_up = draws.chance(GIVES_UP);
        let awake = self.nodes[node].paused == 0;
        if self.nodes[node].process().is_none() || (gives_up && !awake) {
            // The connection is refused, or nothing comes back: another one is tried next time. What
            // was asked is not taken back.
            client.believes = any;
        }
        self.called(node, call)
    }

    pub(super) fn called(&mut self, node: usize, call: Call) -> Result<(), Broken> {
        if !self.is_awake(node) {
            self.stall(node, Event::Call { node, call });
            return Ok(());
        }
        self.tell(|| format!("n{node}: {call:?}"));
        match call {
            Call::Propose(proposal) => {
                self.proposing = Some(proposal);
                self.step(node, Input::Propose(proposal), None)?;
                hold(Rule::EffectsMakeSense, self.proposing.is_none(), || {
                    format!("n{node} neither appends nor rejects {proposal:?}")
                })
            }
            Call::Read(token, fresh) => {
                if let Some(process) = self.nodes[node].process_mut() {
                    process.waiting.reads.insert(token, fresh);
                }
                self.asking = Some(token);
                self.step(node, Input::ReadBarrier(token), None)?;
                self.asking = None;
                Ok(())
            }
            Call::Operate(input) => self.step(node, input, None),
        }
    }

    pub(super) fn read_ready(
        &mut self,
        node: usize,
        token: Token,
        index: Index,
    ) -> Result<(), Broken> {
        let process = self.nodes[node].process_mut().expect("it was there");
        let fresh = process.waiting.reads.remove(&token);
        hold(Rule::EffectsMakeSense, fresh.is_some(), || {
            format!("n{node} answers {token:?}, which nobody asked or which was answered")
        })?;
        let (id, term) = (process.group.id(), process.group.term());
        let alone = process.group.configuration();
        let alone = alone.is_some_and(|it| is_quorum(it, |voter| voter == id));
        let by_lease = self.asking == Some(token) && !alone;
        hold(
            Rule::LeaseEndsWithTransfer,
            !by_lease || process.handed_over != Some(term),
            || format!("{id} told another to run in {term}, and answers {token:?} without asking"),
        )?;
        let shown = process.group.visible();
        self.history.read(fresh.unwrap_or_default(), index, shown)
    }

    pub(super) fn rejected(&mut self, node: usize, token: Token, reason: Rejection) {
        if self
            .proposing
            .is_some_and(|proposal| proposal.token == token)
        {
            self.proposing = None;
        }
        if let Some(process) = self.nodes[node].process_mut() {
            process.waiting.reads.remove(&token);
        }
        let Some(client) = self.clients.get_mut((token.0 % MOST) as usize) else {
            return;
        };
        client.believes = match reason {
            Rejection::NotLeader {
                leader: Some(leader),
            } => leader.node.0 as usize,
            Rejection::NotLeader { leader: None }
            | Rejection::LeadershipLost
            | Rejection::Transferring => client.draws.below(self.nodes.len() as u64) as usize,
            _ => return,
        };
    }

    /// Proposals that wait for the leader's disk alone are done when they are on it.
    pub(super) fn answer_durable(&mut self, node: usize) -> Result<(), Broken> {
        let replica = self.nodes[node].replica.as_mut().expect("it was there");
        let process = replica.process.as_mut().expect("it was there");
        let durable = process.group.durable();
        let disk = &replica.disk.image().log;
        while let Some((last, chain, token)) = process.waiting.durable.front().copied()
            && last <= durable
        {
            process.waiting.durable.pop_front();
            let there = disk
                .at(last)
                .map_or(last < disk.start(), |base| base.chain == chain);
            hold(Rule::AcknowledgedIsThere, there, || {
                format!(
                    "n{node} acknowledges {token:?} at {last}, its disk has {}",
                    disk.last()
                )
            })?;
        }
        Ok(())
    }
}
