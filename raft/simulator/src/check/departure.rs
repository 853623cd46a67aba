//! A message leaves: everything that it promises must be on the sender's disk by now.

use raft::{Body, Index, Message, ReplicaId, Term};

use super::{Broken, History, Rule, hold};
use crate::disk::Image;
use crate::log::Log;

/// What a replica has promised, over all its runs.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Promises {
    /// The greatest term that it has spoken in.
    term: Term,
    /// The last acknowledgement: the leader's term, up to where, and the chain there.
    acknowledged: Option<(Term, Index, u64)>,
}

impl Promises {
    /// Entries after `last` are cut, in `term`.
    pub(crate) fn check_cut(&self, replica: ReplicaId, term: Term, last: Index) -> Result<(), Broken> {
        let Some((acknowledged, index, _)) = self.acknowledged else {
            return Ok(());
        };
        hold(Rule::AcknowledgedStays, acknowledged < term || index <= last, || {
            format!("{replica} cuts what is behind {last} in {term}, and has acknowledged {index} in it")
        })
    }

    /// What a sound disk must give back after a crash: everything that was promised, as long as
    /// nobody with a greater term has made it something else.
    pub(crate) fn check_recovery(&self, replica: ReplicaId, image: &Image) -> Result<(), Broken> {
        let term = image.known_term();
        hold(Rule::PromiseKept, term >= self.term, || {
            format!("{replica} spoke in {} and recovers in {term}", self.term)
        })?;
        let Some((acknowledged, index, chain)) = self.acknowledged else {
            return Ok(());
        };
        let there = index < image.log.start().previous()
            || image.log.at(index).is_some_and(|base| base.chain == chain);
        hold(Rule::PromiseKept, there || term > acknowledged, || {
            format!("{replica} acknowledged {index} in {acknowledged} and recovers without")
        })
    }

    /// The disk is damaged: it may have lost any entry.
    pub(crate) fn forget_entries(&mut self) {
        self.acknowledged = None;
    }
}

/// What is known of the sender.
pub(crate) struct Sender<'a> {
    pub(crate) image: &'a Image,
    pub(crate) is_damaged: bool,
    pub(crate) promises: &'a mut Promises,
    /// The log of the leader that it answers, if that still leads.
    pub(crate) leader_log: Option<&'a Log>,
}

/// Checks a message that leaves now, and notes what it promises.
pub(crate) fn check_departure(
    message: &Message,
    sender: &mut Sender<'_>,
    history: &mut History,
) -> Result<(), Broken> {
    let Message {
        from, to, term, ..
    } = message;
    let (from, to, term) = (*from, *to, *term);
    let is_question = matches!(
        message.body,
        Body::PreVote { .. } | Body::PreVoteReply { granted: true }
    );
    let image = sender.image;
    if !is_question {
        hold(Rule::DurableBeforeSent, term <= image.known_term(), || {
            format!("{from} speaks in {term}, durable is {}: {:?}", image.known_term(), message.body)
        })?;
        sender.promises.term = sender.promises.term.max(term);
    }
    let passive = |what: &str| {
        hold(Rule::DamagedIsPassive, !sender.is_damaged, || format!("{from} is damaged and {what}"))
    };
    match &message.body {
        Body::PreVoteReply { granted: true } => passive("encourages a candidate"),
        Body::Vote { .. } | Body::PreVote { .. } if sender.is_damaged => passive("asks for votes"),
        Body::Vote { .. } => {
            written_vote(image, from, term, from)?;
            history.voted(from, term, from)
        }
        Body::VoteReply { granted: true } => {
            passive("votes")?;
            written_vote(image, from, term, to)?;
            history.voted(from, term, to)
        }
        Body::Appended { matched, .. } => acknowledges(message, *matched, sender),
        Body::Append { watermarks, .. } | Body::Heartbeat { watermarks, .. } => {
            leads(message, history)?;
            let (commit, visible) = (watermarks.commit, watermarks.visible);
            let known = commit <= history.committed() && visible <= history.visible();
            hold(Rule::WatermarksInOrder, visible <= commit && known, || {
                format!("{from} says {watermarks:?}; {} is committed", history.committed())
            })
        }
        Body::Snapshot { start, .. } => {
            leads(message, history)?;
            hold(Rule::WatermarksInOrder, start.previous() <= history.committed(), || {
                format!("{from} offers a log from {start}; {} is committed", history.committed())
            })
        }
        Body::TimeoutNow => leads(message, history),
        _ => Ok(()),
    }
}

fn written_vote(image: &Image, from: ReplicaId, term: Term, to: ReplicaId) -> Result<(), Broken> {
    hold(Rule::DurableBeforeSent, image.has_voted(term, to), || {
        let (known, vote) = (image.term, image.vote);
        format!("{from} votes for {to} in {term}; durable is {vote:?} in {known}")
    })
}

fn leads(message: &Message, history: &History) -> Result<(), Broken> {
    let leader = history.leader_of(message.term);
    hold(Rule::OneLeaderPerTerm, leader == Some(message.from), || {
        format!("{} speaks as leader of {}, which is {leader:?}", message.from, message.term)
    })
}

fn acknowledges(message: &Message, matched: Index, sender: &mut Sender<'_>) -> Result<(), Broken> {
    if message.term < sender.image.known_term() {
        // Late: it means nothing to anybody any more, and the log may have been cut since.
        return Ok(());
    }
    let log = &sender.image.log;
    let durable = log.at(matched);
    let dropped = matched < log.start();
    hold(Rule::DurableBeforeSent, durable.is_some() || dropped, || {
        let last = log.last();
        format!("{} acknowledges {matched}; durable is {last}", message.from)
    })?;
    let leaders = sender.leader_log.and_then(|log| log.at(matched));
    if let (Some(durable), Some(leaders)) = (durable, leaders) {
        hold(Rule::DurableBeforeSent, durable.chain == leaders.chain, || {
            format!("{} acknowledges {matched}, which is {durable:?} on its disk and {leaders:?} in the log of {}", message.from, message.to)
        })?;
    }
    let promises = &mut sender.promises;
    let known = promises.acknowledged;
    let further = known.is_none_or(|(term, index, _)| (term, index) < (message.term, matched));
    if let Some(durable) = durable
        && further
    {
        promises.acknowledged = Some((message.term, matched, durable.chain));
    }
    Ok(())
}
