//! How a trace says what the core did: in the field's terms, a line each.

use raft::{
    Body, Configuration, Cure, Effect, Index, Message, Position, ReplicaId, Role, Watermarks,
};

use crate::actor::{Entry, Payload};
use crate::stage::Flight;

pub fn entry(index: Index, entry: &Entry) -> String {
    let place = Position::new(index, entry.term);
    match &entry.payload {
        Payload::Text(text) => format!("{place} {text}"),
        Payload::NoOp => format!("{place} no-op"),
        Payload::Members(configuration) => format!("{place} members {configuration}"),
    }
}

pub fn entries(first: Index, list: &[Entry]) -> String {
    let indexes = (first.0..).map(Index);
    let all: Vec<String> = indexes.zip(list).map(|(i, it)| entry(i, it)).collect();
    all.join(", ")
}

pub fn names(replicas: &[ReplicaId]) -> String {
    let all: Vec<String> = replicas.iter().map(ReplicaId::to_string).collect();
    all.join(", ")
}

/// What is said all the time and seldom matters: the trace leaves it out unless the script wants it.
pub fn is_background(message: &Message) -> bool {
    match &message.body {
        Body::Heartbeat { quiesce, .. } => !quiesce,
        Body::HeartbeatReply { .. } => true,
        _ => false,
    }
}

pub fn message(flight: &Flight) -> String {
    let Message { term, body, .. } = &flight.message;
    match body {
        Body::PreVote { last } => {
            format!("would you vote for me in {term}? My log ends at {last}")
        }
        Body::PreVoteReply { granted: true } => format!("yes, in {term} I would"),
        Body::PreVoteReply { granted: false } => "no, I would not".to_owned(),
        Body::Vote { last, transfer } => {
            let why = if *transfer {
                ", the leader wants it"
            } else {
                ""
            };
            format!("vote for me in {term}{why}! My log ends at {last}")
        }
        Body::VoteReply { granted: true } => format!("you have my vote in {term}"),
        Body::VoteReply { granted: false } => format!("not my vote, in {term}"),
        Body::Append {
            previous,
            spans,
            watermarks,
            cure,
            ..
        } => {
            let known = known(*watermarks, *cure);
            match spans.first() {
                None => format!("in {term}: have you {previous}? {known}"),
                Some(span) => {
                    let entries = entries(span.first, &flight.entries);
                    format!("in {term}: after {previous} comes {entries} {known}")
                }
            }
        }
        Body::Appended {
            matched, damage, ..
        } => format!("I have all up to {matched}{}", hurt(damage.is_some())),
        Body::Diverged {
            at, ends, damage, ..
        } => {
            let ends: Vec<String> = ends.iter().map(Position::to_string).collect();
            let (ends, hurt) = (ends.join(", "), hurt(damage.is_some()));
            format!("we differ at {at}; my terms end at {ends}{hurt}")
        }
        Body::Heartbeat {
            watermarks,
            matched,
            quiesce,
            cure,
            ..
        } => {
            let last_word = if *quiesce { " and fall quiet" } else { "" };
            let known = known(*watermarks, *cure);
            format!("I lead {term}{last_word}; we agree up to {matched} {known}")
        }
        Body::HeartbeatReply { damage, .. } => format!("I hear you{}", hurt(damage.is_some())),
        Body::Snapshot {
            start,
            previous_term,
            configuration,
            ..
        } => {
            let before = Position::new(start.previous(), *previous_term);
            let (_, members) = configuration;
            format!("in {term}: begin anew after {before}, with members {members}")
        }
        Body::TimeoutNow => format!("in {term}: run for the next term now"),
        Body::Lost => "who leads? I may not ask to be elected".to_owned(),
        Body::Stale => format!("your term is over, it is {term}"),
    }
}

fn known(marks: Watermarks, cure: Option<Cure>) -> String {
    let mut words = format!("[commit {}", marks.commit);
    if marks.visible != marks.commit {
        words += &format!(", visible {}", marks.visible);
    }
    if let Some(cure) = cure {
        words += &format!(", whole with {}", cure.through);
    }
    words + "]"
}

fn hurt(damaged: bool) -> &'static str {
    if damaged { "; my log is damaged" } else { "" }
}

/// An effect on the replica itself, after its name. Messages and entries have words of their own, and
/// refusals name what was refused: these are the stage's.
pub fn effect(effect: &Effect) -> Option<String> {
    Some(match effect {
        Effect::PersistVote { term, vote, .. } => match vote {
            Some(vote) => format!("writes down {term}, vote for {vote}"),
            None => format!("writes down {term}, no vote"),
        },
        Effect::Truncate { last, .. } => format!("cuts all after {last}"),
        Effect::Reset {
            start,
            previous_term,
            ..
        } => {
            let before = Position::new(start.previous(), *previous_term);
            format!("drops its log and begins anew after {before}")
        }
        Effect::Committed(index) => format!("knows {index} committed"),
        Effect::Visible(index) => format!("shows all up to {index}"),
        Effect::RoleChanged { role, term, leader } => match (role, leader) {
            (Role::Follower, Some(leader)) => format!("follows {leader} in {term}"),
            (Role::Follower, None) => format!("is a follower without leader in {term}"),
            (Role::PreCandidate, _) => format!("is a pre-candidate in {term}"),
            (Role::Candidate, _) => format!("is a candidate in {term}"),
            (Role::Elected, _) => format!("is elected in {term}"),
            (Role::Leader, _) => format!("leads {term} and serves"),
        },
        Effect::ConfigurationInForce {
            index,
            configuration,
        } => members(*index, configuration),
        Effect::InSync(replicas) => format!("counts in sync: {}", names(replicas)),
        Effect::TransferFailed { to, reason } => {
            format!("gives up the transfer to {to}: {reason}")
        }
        Effect::Repaired => "is whole again".to_owned(),
        Effect::Fatal(reason) => format!("stops: {reason}"),
        Effect::Append { .. }
        | Effect::Send { .. }
        | Effect::ReadSpan { .. }
        | Effect::ReadReady { .. }
        | Effect::Changed(_)
        | Effect::Rejected { .. } => return None,
    })
}

fn members(index: Index, configuration: &Configuration) -> String {
    format!("goes by members {configuration} since {index}")
}
