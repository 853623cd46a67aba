//! The partitions of a member: which it has, what the application knows of that, and how far it has
//! come in each.

use std::collections::{BTreeMap, BTreeSet};

use millrace_wire::native::messages::GroupTopic;

use crate::core::consumer::Progress;
use crate::{GroupEvent, TopicPartition};

/// Whether it is known where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beginning {
    /// The group must be asked.
    Unknown,
    /// The question is under way.
    Asked,
    /// It is known, or the application chose.
    Known,
}

#[derive(Clone, Debug)]
struct Held {
    /// The application knows that it has it.
    told: bool,
    beginning: Beginning,
    /// Up to here the application has come: it was given the records before this and came back.
    done: Option<Progress>,
    /// What the group has noted.
    committed: Option<i64>,
}

/// A member's partitions.
#[derive(Debug, Default)]
pub(super) struct Holdings {
    owned: BTreeMap<TopicPartition, Held>,
    /// No longer read, and not yet given up.
    leaving: BTreeMap<TopicPartition, Held>,
    /// Gone without the application's having been told.
    lost: BTreeSet<TopicPartition>,
    /// What was begun to be read of these must not be given out.
    stopped: BTreeSet<TopicPartition>,
}

impl Holdings {
    pub(super) fn is_empty(&self) -> bool {
        self.owned.is_empty()
    }

    pub(super) fn owns(&self, place: &TopicPartition) -> bool {
        self.owned.contains_key(place)
    }

    /// Those that the application knows to have.
    pub(super) fn assignment(&self) -> Vec<TopicPartition> {
        let told = self.owned.iter().filter(|(_, held)| held.told);
        told.map(|(place, _)| place.clone()).collect()
    }

    /// Those that are read, as they are told to the group.
    pub(super) fn by_topic(&self) -> Vec<GroupTopic> {
        by_topic(self.owned.keys())
    }

    /// Takes what is new of an assignment. Gives what is owned and not in it.
    pub(super) fn adopt(
        &mut self,
        assignment: BTreeSet<TopicPartition>,
    ) -> BTreeSet<TopicPartition> {
        let gone = self
            .owned
            .keys()
            .filter(|place| !assignment.contains(*place));
        let gone = gone.cloned().collect();
        for place in assignment {
            self.owned.entry(place).or_insert(Held {
                told: false,
                beginning: Beginning::Unknown,
                done: None,
                committed: None,
            });
        }
        gone
    }

    pub(super) fn all(&self) -> BTreeSet<TopicPartition> {
        self.owned.keys().cloned().collect()
    }

    /// Stops reading these, which are to be given up. Tells whether the application has to know.
    pub(super) fn begin_to_leave(&mut self, places: &BTreeSet<TopicPartition>) -> bool {
        for place in places {
            if let Some(held) = self.owned.remove(place) {
                self.stopped.insert(place.clone());
                if held.told {
                    self.leaving.insert(place.clone(), held);
                }
            }
        }
        !self.leaving.is_empty()
    }

    pub(super) fn leaving(&self) -> Vec<TopicPartition> {
        self.leaving.keys().cloned().collect()
    }

    pub(super) fn left(&mut self) {
        self.leaving.clear();
    }

    /// These are gone. The application learns of those that it knew of.
    pub(super) fn lose(&mut self, places: &BTreeSet<TopicPartition>) {
        for place in places {
            let held = self
                .owned
                .remove(place)
                .or_else(|| self.leaving.remove(place));
            self.stopped.insert(place.clone());
            if held.is_some_and(|held| held.told) {
                self.lost.insert(place.clone());
            }
        }
    }

    /// What the application is to be told next, but for what it is to give up.
    pub(super) fn take_lost(&mut self) -> Option<GroupEvent> {
        let lost = std::mem::take(&mut self.lost);
        (!lost.is_empty()).then(|| GroupEvent::Lost(lost.into_iter().collect()))
    }

    pub(super) fn take_new(&mut self) -> Option<GroupEvent> {
        let new = self.owned.iter_mut().filter(|(_, held)| !held.told);
        let new: Vec<TopicPartition> = new
            .map(|(place, held)| {
                held.told = true;
                place.clone()
            })
            .collect();
        (!new.is_empty()).then_some(GroupEvent::Assigned(new))
    }

    pub(super) fn take_stopped(&mut self) -> Vec<TopicPartition> {
        std::mem::take(&mut self.stopped).into_iter().collect()
    }

    /// The application has come this far. What it does not know to have it was not given lately.
    pub(super) fn done(&mut self, place: &TopicPartition, progress: Progress) {
        let held = match self.owned.get_mut(place) {
            Some(held) => Some(held),
            None => self.leaving.get_mut(place),
        };
        if let Some(held) = held.filter(|held| held.told) {
            held.done = Some(progress);
        }
    }

    /// Reading has begun here.
    pub(super) fn begun(&mut self, place: &TopicPartition, at: Progress) {
        if let Some(held) = self.owned.get_mut(place) {
            held.done.get_or_insert(at);
        }
    }

    /// The application goes on elsewhere: here, if that is known. Tells whether it is owned.
    pub(super) fn sought(&mut self, place: &TopicPartition, to: Option<Progress>) -> bool {
        let Some(held) = self.owned.get_mut(place) else {
            return false;
        };
        held.beginning = Beginning::Known;
        held.done = to;
        true
    }

    /// Those whose beginning must be asked for.
    pub(super) fn has_unasked(&self) -> bool {
        let mut held = self.owned.values();
        held.any(|held| held.beginning == Beginning::Unknown)
    }

    pub(super) fn ask(&mut self) -> Vec<GroupTopic> {
        let mut asked = Vec::new();
        for (place, held) in &mut self.owned {
            if held.beginning == Beginning::Unknown {
                held.beginning = Beginning::Asked;
                asked.push(place);
            }
        }
        by_topic(asked.into_iter())
    }

    /// There is no answer: ask again.
    pub(super) fn ask_again(&mut self) {
        for held in self.owned.values_mut() {
            if held.beginning == Beginning::Asked {
                held.beginning = Beginning::Unknown;
            }
        }
    }

    /// The answer for one partition. Tells whether it is still waited for.
    pub(super) fn answered(&mut self, place: &TopicPartition, committed: Option<i64>) -> bool {
        match self.owned.get_mut(place) {
            Some(held) if held.beginning == Beginning::Asked => {
                held.beginning = Beginning::Known;
                held.done = committed.map(Progress::at);
                held.committed = committed;
                true
            }
            _ => false,
        }
    }

    /// What the application has done and the group has not noted: of all partitions, or of those
    /// that are being given up.
    pub(super) fn to_commit(&self, only_leaving: bool) -> BTreeMap<TopicPartition, Progress> {
        let owned = self.owned.iter().filter(|_| !only_leaving);
        let all = owned.chain(&self.leaving);
        let new = all.filter(|(_, held)| held.done.map(|done| done.offset) != held.committed);
        new.filter_map(|(place, held)| Some((place.clone(), held.done?)))
            .collect()
    }

    /// The group has noted this.
    pub(super) fn committed(&mut self, place: &TopicPartition, offset: i64) {
        for places in [&mut self.owned, &mut self.leaving] {
            if let Some(held) = places.get_mut(place) {
                held.committed = Some(offset);
            }
        }
    }

    /// Whether the partition is the member's in any way.
    pub(super) fn has(&self, place: &TopicPartition) -> bool {
        self.owned.contains_key(place) || self.leaving.contains_key(place)
    }
}

/// Partitions in order, by topic.
fn by_topic<'a>(places: impl Iterator<Item = &'a TopicPartition>) -> Vec<GroupTopic> {
    let mut topics: Vec<GroupTopic> = Vec::new();
    for place in places {
        match topics.last_mut() {
            Some(topic) if *topic.name == *place.topic => topic.partitions.push(place.partition),
            _ => topics.push(GroupTopic {
                name: place.topic.to_string(),
                partitions: vec![place.partition],
            }),
        }
    }
    topics
}
