//! Which messages can change nothing any more.

use raft::{Body, Message, Role, Term};

use crate::node::Node;

/// Whether this message, whenever it arrives, changes nothing and tells nobody anything. It is then
/// left out of the state: two states that differ in it alone behave the same, so this loses nothing.
///
/// What makes it so is on disks, for terms only grow there and a crash may undo the rest.
pub(crate) fn is_dead(message: &Message, from: &Node, to: &Node, last_term: Term) -> bool {
    let (term, known) = (message.term, to.disk().known_term());
    let is_now = |role: &[Role]| to.group().term() == term && role.contains(&to.group().role());
    // The answer to a question of an old term tells the asker of the newer one. One that is in the
    // last term within the bound can hear of none.
    let answer_is_news = from.disk().known_term() < last_term;
    match &message.body {
        // A wish for a term that is there; an answer to such a wish; a refusal or "your term is over"
        // in a term that is known.
        Body::PreVote { .. } => term <= known && !answer_is_news,
        Body::PreVoteReply { .. } | Body::VoteReply { granted: false } | Body::Stale => {
            term <= known
        }
        // Whoever has been a candidate, or has led, and is it no more, never is in that term again.
        Body::VoteReply { granted: true } => term <= known && !is_now(&[Role::Candidate]),
        Body::Appended { .. } | Body::Diverged { .. } | Body::HeartbeatReply { .. } => {
            term <= known && !is_now(&[Role::Elected, Role::Leader])
        }
        Body::Vote { .. } => {
            let is_given = to.disk().vote().is_some_and(|vote| vote != message.from);
            (term < known || (term == known && is_given)) && !answer_is_news
        }
        Body::Append { .. } | Body::Heartbeat { .. } => term < known && !answer_is_news,
        Body::Snapshot { .. } | Body::TimeoutNow | Body::Lost => false,
    }
}
