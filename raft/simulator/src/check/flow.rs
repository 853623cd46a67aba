//! What is under way from a leader to its followers.

use std::collections::BTreeMap;

use raft::{Index, ReplicaId, Settings};

use super::{Broken, Rule, hold};

/// What one leader has sent to each follower and not seen answered.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Flows(BTreeMap<ReplicaId, Vec<Sent>>);

#[derive(Clone, Copy, Debug, Hash)]
struct Sent {
    last: Index,
    bytes: u64,
}

/// A message with entries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// What must be there before.
    pub(crate) previous: Index,
    /// Its last entry.
    pub(crate) last: Index,
    pub(crate) bytes: u64,
}

impl Flows {
    /// It leads anew, or does not lead any more.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// A message with entries is sent to a follower that is known to have `matched`. One that goes
    /// back to what was sent before takes all that for lost.
    pub(crate) fn sent(
        &mut self,
        to: ReplicaId,
        load: Load,
        matched: Index,
        settings: &Settings,
    ) -> Result<(), Broken> {
        let flow = self.0.entry(to).or_default();
        flow.retain(|sent| sent.last > matched);
        if flow.last().is_some_and(|sent| load.previous < sent.last) {
            flow.clear();
        }
        let bytes: u64 = flow.iter().map(|sent| sent.bytes).sum();
        let room = flow.len() < settings.in_flight_messages && bytes < settings.in_flight_bytes;
        hold(Rule::InFlightIsBounded, room, || {
            let count = flow.len();
            format!("{load:?} to {to}, when {count} messages with {bytes} bytes were under way")
        })?;
        let one = load.last == load.previous.next();
        hold(Rule::InFlightIsBounded, one || load.bytes <= settings.message_bytes, || {
            format!("{load:?} to {to}: a message has at most {} bytes", settings.message_bytes)
        })?;
        flow.push(Sent {
            last: load.last,
            bytes: load.bytes,
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(previous: u64, last: u64, bytes: u64) -> Load {
        Load {
            previous: Index(previous),
            last: Index(last),
            bytes,
        }
    }

    #[test]
    fn too_many_messages_and_too_long_ones_are_seen() {
        let settings = Settings {
            in_flight_messages: 2,
            in_flight_bytes: 100,
            message_bytes: 60,
            ..Settings::default()
        };
        let to = ReplicaId::default();
        let mut flows = Flows::default();
        let mut send = |load, matched| flows.sent(to, load, Index(matched), &settings).is_ok();
        assert!(send(load(0, 1, 10), 0));
        assert!(send(load(1, 2, 10), 0));
        assert!(!send(load(2, 3, 10), 0), "a third one");
        assert!(send(load(2, 3, 10), 1), "one was answered");
        assert!(send(load(1, 3, 10), 1), "all over again");
        assert!(!send(load(3, 5, 61), 2), "too long");
        assert!(send(load(3, 4, 99), 2), "one long entry goes alone");
        assert!(!send(load(4, 5, 1), 3), "too many bytes");
    }
}
