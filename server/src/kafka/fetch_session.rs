//! Incremental fetches (KIP-227): a consumer names its partitions once, then only what changes, and
//! is told only what is new.
//!
//! A session lives with its connection and is forgotten with it: whoever connects again is told that
//! there is none and begins anew, which Kafka's clients do by themselves. So its memory is bounded by
//! the connections there are and by [`MOST_PARTITIONS`].

use std::rc::Rc;

use hashbrown::HashMap;
use millrace_wire::error::ErrorCode;
use millrace_wire::kafka::FetchRequest;

/// Most partitions of a session. Whoever wants more is served without one.
const MOST_PARTITIONS: usize = 10_000;

/// In place of a session's epoch: this is the last request of the session, or there is none.
const FINAL_EPOCH: i32 = -1;
/// In place of a session's epoch: begin one.
const INITIAL_EPOCH: i32 = 0;

/// What a client wants of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WantedPartition {
    pub(super) topic: Rc<str>,
    pub(super) partition: i32,
    pub(super) leader_epoch: i32,
    pub(super) offset: i64,
    pub(super) max_bytes: i32,
}

/// What has been said of a partition: its high watermark and log start.
type Said = (i64, i64);

/// A partition of a session.
#[derive(Clone, Debug)]
struct Tracked {
    wanted: WantedPartition,
    /// What the client knows.
    said: Option<Said>,
    /// Where in the order of reading it is: those that were served come last, so that none starves.
    turn: u64,
}

/// A session.
#[derive(Debug)]
struct FetchSession {
    id: i32,
    next_epoch: i32,
    partitions: HashMap<(Rc<str>, i32), Tracked>,
    turns: u64,
}

/// One connection's sessions: at most one at a time.
#[derive(Debug, Default)]
pub(super) struct FetchSessions {
    current: Option<FetchSession>,
}

/// How a fetch is to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contact {
    /// All that was asked for, and no session.
    Sessionless,
    /// All that was asked for; a session of this id has begun.
    Begun(i32),
    /// Only what is new.
    Continued(i32),
    /// Not at all: the client is to begin anew.
    Failed(ErrorCode),
}

impl Contact {
    /// The session's id as the client is told.
    pub(super) fn session_id(self) -> i32 {
        match self {
            Contact::Begun(id) | Contact::Continued(id) => id,
            Contact::Sessionless | Contact::Failed(_) => 0,
        }
    }
}

impl FetchSessions {
    /// Takes a request; how it is to be answered, and the partitions to read, in order. `new_id` is a
    /// number that nobody can have by accident from another connection.
    pub(super) fn meet(
        &mut self,
        request: &FetchRequest<'_>,
        new_id: i32,
    ) -> (Contact, Vec<WantedPartition>) {
        let (id, epoch) = (request.session_id, request.session_epoch);
        if epoch != FINAL_EPOCH && epoch != INITIAL_EPOCH {
            return self.go_on(request);
        }
        if self
            .current
            .as_ref()
            .is_some_and(|session| session.id == id)
        {
            self.current = None;
        }
        let wanted = wanted(request);
        if epoch == FINAL_EPOCH || wanted.len() > MOST_PARTITIONS {
            return (Contact::Sessionless, wanted);
        }
        let mut session = FetchSession {
            id: new_id,
            next_epoch: 1,
            partitions: HashMap::new(),
            turns: 0,
        };
        wanted.iter().for_each(|wanted| session.put(wanted.clone()));
        self.current = Some(session);
        (Contact::Begun(new_id), wanted)
    }

    fn go_on(&mut self, request: &FetchRequest<'_>) -> (Contact, Vec<WantedPartition>) {
        let failed = |code| (Contact::Failed(code), Vec::new());
        let (id, epoch) = (request.session_id, request.session_epoch);
        let Some(session) = self.current.as_mut().filter(|session| session.id == id) else {
            return failed(ErrorCode::FetchSessionIdNotFound);
        };
        if session.next_epoch != epoch {
            return failed(ErrorCode::InvalidFetchSessionEpoch);
        }
        session.next_epoch = epoch.checked_add(1).unwrap_or(1);
        for forgotten in request.forgotten() {
            let topic: Rc<str> = forgotten.name.into();
            for partition in forgotten.partitions() {
                session.partitions.remove(&(Rc::clone(&topic), partition));
            }
        }
        wanted(request)
            .into_iter()
            .for_each(|wanted| session.put(wanted));
        if session.partitions.len() > MOST_PARTITIONS {
            self.current = None;
            return failed(ErrorCode::FetchSessionIdNotFound);
        }
        (Contact::Continued(id), session.in_turn())
    }

    /// Takes note of what is about to be said of a partition; whether it is worth saying.
    /// `has_data` is whether there are batches, or an error, for it.
    pub(super) fn tell(
        &mut self,
        contact: Contact,
        wanted: &WantedPartition,
        said: Said,
        has_data: bool,
    ) -> bool {
        let always = !matches!(contact, Contact::Continued(_));
        let session = self.current.as_mut();
        let Some(session) = session.filter(|session| session.id == contact.session_id()) else {
            return true;
        };
        let key = (Rc::clone(&wanted.topic), wanted.partition);
        let Some(tracked) = session.partitions.get_mut(&key) else {
            return true;
        };
        let news = has_data || tracked.said != Some(said);
        tracked.said = Some(said);
        if has_data {
            tracked.turn = session.turns;
            session.turns += 1;
        }
        news || always
    }
}

impl FetchSession {
    fn put(&mut self, wanted: WantedPartition) {
        let key = (Rc::clone(&wanted.topic), wanted.partition);
        let turn = self.turns;
        self.turns += 1;
        match self.partitions.get_mut(&key) {
            Some(tracked) => tracked.wanted = wanted,
            None => {
                let said = None;
                self.partitions.insert(key, Tracked { wanted, said, turn });
            }
        }
    }

    fn in_turn(&self) -> Vec<WantedPartition> {
        let mut tracked: Vec<&Tracked> = self.partitions.values().collect();
        tracked.sort_unstable_by_key(|tracked| tracked.turn);
        tracked
            .into_iter()
            .map(|tracked| tracked.wanted.clone())
            .collect()
    }
}

fn wanted(request: &FetchRequest<'_>) -> Vec<WantedPartition> {
    let mut all = Vec::new();
    for topic in request.topics() {
        let name: Rc<str> = topic.name.into();
        all.extend(topic.partitions().map(|wanted| WantedPartition {
            topic: Rc::clone(&name),
            partition: wanted.partition,
            leader_epoch: wanted.current_leader_epoch,
            offset: wanted.offset,
            max_bytes: wanted.max_bytes,
        }));
    }
    all
}
