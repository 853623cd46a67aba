//! The group as `stateright` explores it: its states, what can happen in each, and the properties.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use raft::planted::Bug;
use raft::{Body, ReplicaId, Role, Term};
use stateright::{Model, Property};

use crate::letters::is_dead;
use crate::log::Value;
use crate::node::{Node, Stimulus};
use crate::rules::{Breach, History};
use crate::tables::{Letter, Local, Reaction, Tables};

/// Whether messages may overtake each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Links {
    /// Those from one replica to another arrive in order (as over one connection), or never.
    InOrder,
    /// They arrive in any order, or never.
    AnyOrder,
}

/// How much may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Bound {
    /// The greatest term; nobody tries for a greater one.
    pub(crate) terms: u8,
    /// Timeouts of replicas that do not lead.
    pub(crate) timeouts: u8,
    /// Ticks of leaders: heartbeats, and what seems lost is sent again.
    pub(crate) beats: u8,
    /// Entries that somebody wants appended.
    pub(crate) proposals: u8,
    /// Crashes, each with a restart.
    pub(crate) crashes: u8,
    /// How messages travel.
    pub(crate) links: Links,
}

/// Three replicas within a bound, perhaps with a bug planted in them.
pub(crate) struct Cluster {
    pub(crate) bound: Bound,
    pub(crate) bug: Option<Bug>,
    tables: Tables,
    /// Which milestones some state has reached.
    reached: [AtomicBool; Milestone::ALL.len()],
}

/// Where the whole group is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    locals: [Local; 3],
    /// Every message that was sent and can still change anything, in the order of their numbers.
    letters: Vec<Letter>,
    /// How many replicas, from the first on, have done anything.
    acted: u8,
    /// What is left of the bound.
    left: Bound,
    history: History,
    /// A crash took this replica while it led in this term.
    fallen: Option<(ReplicaId, Term)>,
    breach: Option<Breach>,
}

/// Something happens to a replica.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Action {
    node: usize,
    stimulus: Stimulus,
}

impl fmt::Debug for Action {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.stimulus {
            Stimulus::Letter(letter) => letter.fmt(out),
            stimulus => write!(out, "n{}: {stimulus:?}", self.node),
        }
    }
}

impl State {
    fn nodes(&self) -> [&'static Node; 3] {
        self.locals.map(|local| local.node())
    }

    /// What is wrong in it, if anything is.
    pub(crate) fn breach(&self) -> Option<Breach> {
        self.breach
    }

    /// A message arrives: it does not arrive again, nor, where links keep order, do those that were
    /// sent before it. Of one that is there twice it is the first, which takes the fewest away.
    fn take_off(&mut self, letter: Letter, links: Links) {
        let Some(place) = self.letters.iter().position(|it| *it == letter) else {
            return;
        };
        let link = letter.link();
        let mut at = 0;
        self.letters.retain(|it| {
            let overtaken = links == Links::InOrder && it.link() == link && at < place;
            at += 1;
            !overtaken && at != place + 1
        });
    }

    /// A message is under way. The letters of a link stay together: in the order in which they were
    /// sent, or where that means nothing, in that of their numbers.
    fn put_on(&mut self, letter: Letter, bound: &Bound) {
        if bound.beats == 0 && matches!(letter.message().body, Body::Heartbeat { .. }) {
            return;
        }
        let place = match bound.links {
            Links::InOrder => {
                let link = letter.link();
                let place = self.letters.partition_point(|it| it.link() <= link);
                if self.letters[..place].last() == Some(&letter) {
                    return;
                }
                place
            }
            Links::AnyOrder => match self.letters.binary_search(&letter) {
                Ok(_) => return,
                Err(place) => place,
            },
        };
        self.letters.insert(place, letter);
    }

    /// Takes what the bound must pay for this; none: it is spent, or there is no sense in it.
    fn pay(&mut self, action: &Action, terms: u8) -> Option<()> {
        let node = self.locals[action.node].node();
        let price = match action.stimulus {
            Stimulus::Letter(_) | Stimulus::Durable => return Some(()),
            Stimulus::Tick if node.leads() => &mut self.left.beats,
            // It would ask for a term that is out of bounds.
            Stimulus::Tick if node.group().term().0 >= u64::from(terms) => return None,
            Stimulus::Tick => &mut self.left.timeouts,
            Stimulus::Propose(_) => &mut self.left.proposals,
            Stimulus::Crash { .. } => &mut self.left.crashes,
        };
        *price = price.checked_sub(1)?;
        Some(())
    }
}

impl Cluster {
    pub(crate) fn new(bound: Bound, bug: Option<Bug>) -> Cluster {
        Cluster {
            bound,
            bug,
            tables: Tables::default(),
            reached: Default::default(),
        }
    }

    /// The milestones that some state has reached.
    pub(crate) fn reached(&self) -> Vec<Milestone> {
        let all = Milestone::ALL.into_iter().zip(&self.reached);
        let reached = all.filter(|(_, reached)| reached.load(Ordering::Relaxed));
        reached.map(|(milestone, _)| milestone).collect()
    }

    /// How many replica states and messages were met.
    pub(crate) fn sizes(&self) -> (usize, usize) {
        self.tables.sizes()
    }

    /// Notes the milestones that this state is the first to reach.
    fn mark(&self, state: &State) {
        for (milestone, reached) in Milestone::ALL.into_iter().zip(&self.reached) {
            if !reached.load(Ordering::Relaxed) && milestone.is_in(state, &self.bound) {
                reached.store(true, Ordering::Relaxed);
            }
        }
    }

    fn last_term(&self) -> Term {
        Term(u64::from(self.bound.terms))
    }

    /// The rules, judged where something has just changed.
    fn judge(&self, state: &mut State, changed: usize, reaction: &Reaction) {
        let nodes = state.nodes();
        let node = nodes[changed];
        let mut result = match reaction.breach {
            Some(breach) => Err(breach),
            None => Ok(()),
        };
        for deed in &reaction.deeds {
            let id = node.group().id();
            result = result.and_then(|()| state.history.note(id, *deed, node.log(), nodes));
        }
        let result = result.and_then(|()| state.history.check(changed, nodes));
        state.breach = result.err();
    }
}

impl Model for Cluster {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            locals: [0, 1, 2].map(|number| self.tables.local(Node::new(number))),
            letters: Vec::new(),
            acted: 0,
            left: self.bound,
            history: History::default(),
            fallen: None,
            breach: None,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.breach.is_some() {
            return;
        }
        for letter in &state.letters {
            actions.push(Action {
                node: letter.message().to.node.0 as usize,
                stimulus: Stimulus::Letter(*letter),
            });
        }
        for (number, node) in state.nodes().into_iter().enumerate() {
            let mut may = |stimulus| {
                actions.push(Action {
                    node: number,
                    stimulus,
                });
            };
            let writing = node.writing();
            if writing > 0 {
                may(Stimulus::Durable);
            }
            may(Stimulus::Tick);
            if node.group().role() == Role::Leader {
                let done = self.bound.proposals - state.left.proposals;
                may(Stimulus::Propose(u64::from(done) + 1));
            }
            if usize::from(state.acted) > number {
                // With all of them kept it is a crash after they are complete.
                for kept in 0..writing.max(1) {
                    may(Stimulus::Crash { kept });
                }
            }
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        // Replicas are the same until they act: the one that acts first may as well be called n0, and
        // the next n1.
        if action.node > usize::from(state.acted) {
            return None;
        }
        let local = state.locals[action.node];
        let reaction = self.tables.react(local, action.stimulus, self.bug);
        // What arrives and changes nothing may as well not arrive.
        let changes = reaction.local != local || reaction.breach.is_some();
        if !changes && reaction.sent.is_empty() {
            return None;
        }
        let mut next = state.clone();
        next.pay(&action, self.bound.terms)?;
        next.acted = next.acted.max(action.node as u8 + 1);
        let before = local.node();
        if matches!(action.stimulus, Stimulus::Crash { .. }) && before.leads() {
            next.fallen = Some((before.group().id(), before.group().term()));
        }
        next.locals[action.node] = reaction.local;
        if let Stimulus::Letter(letter) = action.stimulus {
            next.take_off(letter, self.bound.links);
        }
        for letter in &reaction.sent {
            next.put_on(*letter, &self.bound);
        }
        let (nodes, last_term) = (next.nodes(), self.last_term());
        next.letters.retain(|letter| {
            let message = letter.message();
            let [from, to] = [message.from, message.to].map(|id| nodes[id.node.0 as usize]);
            !is_dead(message, from, to, last_term)
        });
        self.judge(&mut next, action.node, reaction);
        self.mark(&next);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Cluster>> {
        // One for all of them: the state that breaks a rule says which, and asking for each of them in
        // each state takes as long as all the rest.
        vec![Property::always(EVERY_RULE, |_, state: &State| {
            state.breach.is_none()
        })]
    }
}

/// The property that no state shows a breach.
pub(crate) const EVERY_RULE: &str = "every rule holds";

/// What must happen somewhere within a bound, or the rules would hold for want of occasions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Milestone {
    /// Somebody leads in term 2.
    SecondTerm,
    /// All proposals of the bound are committed.
    AllCommitted,
    /// An entry of term 1 is first committed by the leader of term 2.
    CommittedBySuccessor,
    /// A log is cut.
    Truncation,
    /// A leader crashes, and another one leads.
    LeaderCrash,
    /// Two lead, in different terms: the older one does not know it yet.
    TwoLeaders,
}

impl Milestone {
    pub(crate) const ALL: [Milestone; 6] = [
        Milestone::SecondTerm,
        Milestone::AllCommitted,
        Milestone::CommittedBySuccessor,
        Milestone::Truncation,
        Milestone::LeaderCrash,
        Milestone::TwoLeaders,
    ];

    fn is_in(self, state: &State, bound: &Bound) -> bool {
        let mut committed = state.history.committed.iter();
        match self {
            Milestone::SecondTerm => state.history.leader_of(Term(2)).is_some(),
            Milestone::AllCommitted => {
                let proposals = committed.filter(|it| it.entry.value != Value::NoOp);
                bound.proposals > 0 && proposals.count() == usize::from(bound.proposals)
            }
            Milestone::CommittedBySuccessor => {
                committed.any(|it| it.entry.term == Term(1) && it.by == Term(2))
            }
            Milestone::Truncation => state.nodes().iter().any(|node| node.is_cutting()),
            Milestone::LeaderCrash => state.fallen.is_some_and(|(id, term)| {
                let next = state.history.leader_of(term.next());
                next.is_some_and(|next| next != id)
            }),
            Milestone::TwoLeaders => state.nodes().iter().filter(|node| node.leads()).count() == 2,
        }
    }
}
