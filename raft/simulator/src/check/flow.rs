//! What is under way from a leader to its followers.

use std::collections::BTreeMap;

use raft::{Index, ReplicaId, Settings};

use super::{Broken, Rule, hold};

/// What one leader has sent to each follower and not seen answered.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Flows(BTreeMap<ReplicaId, Flow>);

#[derive(Clone, Debug, Default, Hash)]
struct Flow {
    matched: Index,
    sent: Vec<Sent>,
}

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

    /// Nothing that was sent to a follower counts any more.
    pub(crate) fn forget(&mut self, to: ReplicaId) {
        self.0.remove(&to);
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
        let known = std::mem::replace(&mut flow.matched, matched);
        let flow = &mut flow.sent;
        if matched < known {
            // It has said that its log is damaged: nothing that was sent before counts.
            flow.clear();
        }
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
    fn too_much_under_way_is_seen() {
        let settings = Settings {
            in_flight_messages: 2,
            in_flight_bytes: 100,
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
        assert!(send(load(3, 4, 100), 3), "one long entry goes alone");
        assert!(!send(load(4, 5, 1), 3), "too many bytes");
    }
}
