//! Each different replica state and message is kept once and has a number: a state of the whole group
//! is then a handful of numbers, and what a replica does in one state about one stimulus is worked
//! out once, however many states of the group it is part of.
//!
//! What is kept lives until the process ends: states of the group are copied millions of times between
//! threads, and counting the references to their parts would cost more than exploring them. Their
//! number is bounded by the bound of the model; a test process explores a few models and ends.

use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{PoisonError, RwLock};

use raft::planted::Bug;
use raft::{Body, Message, ReplicaId, Span};

use crate::log::Entry;
use crate::node::{Node, Stimulus};
use crate::rules::{Breach, Deed};

/// A message with the entries that travel with it.
#[derive(PartialEq, Eq, Hash)]
struct Packet {
    message: Message,
    entries: Vec<Entry>,
}

/// Something kept, by its number.
struct Kept<T> {
    number: u32,
    content: T,
}

/// A message on its way; one that was sent twice is the same.
#[derive(Clone, Copy)]
pub(crate) struct Letter(&'static Kept<Packet>);

/// A replica's state.
#[derive(Clone, Copy)]
pub(crate) struct Local(&'static Kept<Remembered>);

/// A replica's state, and what has come of it.
struct Remembered {
    node: Node,
    known: RwLock<HashMap<Stimulus, &'static Reaction>>,
}

/// What a replica does about a stimulus.
pub(crate) struct Reaction {
    pub(crate) local: Local,
    pub(crate) sent: Vec<Letter>,
    pub(crate) deeds: Vec<Deed>,
    pub(crate) breach: Option<Breach>,
}

impl Letter {
    pub(crate) fn message(&self) -> &'static Message {
        &self.0.content.message
    }

    /// From whom to whom.
    pub(crate) fn link(&self) -> (ReplicaId, ReplicaId) {
        (self.message().from, self.message().to)
    }

    /// Of the entries that it carries, those of this span.
    pub(crate) fn entries_of(&self, span: &Span) -> Vec<Entry> {
        let Body::Append { previous, .. } = &self.message().body else {
            return Vec::new();
        };
        let skipped = span.first.0.saturating_sub(previous.index.next().0);
        let entries = self.0.content.entries.iter().skip(skipped as usize);
        entries.take(span.entries() as usize).copied().collect()
    }
}

impl Local {
    pub(crate) fn node(&self) -> &'static Node {
        &self.0.content.node
    }
}

macro_rules! is_its_number {
    ($kept:ty) => {
        impl PartialEq for $kept {
            fn eq(&self, other: &$kept) -> bool {
                self.0.number == other.0.number
            }
        }
        impl Eq for $kept {}
        impl PartialOrd for $kept {
            fn partial_cmp(&self, other: &$kept) -> Option<std::cmp::Ordering> {
                Some(self.cmp(other))
            }
        }
        impl Ord for $kept {
            fn cmp(&self, other: &$kept) -> std::cmp::Ordering {
                self.0.number.cmp(&other.0.number)
            }
        }
        impl Hash for $kept {
            fn hash<H: Hasher>(&self, state: &mut H) {
                self.0.number.hash(state);
            }
        }
    };
}

is_its_number!(Letter);
is_its_number!(Local);

impl fmt::Debug for Letter {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Message {
            from,
            to,
            term,
            body,
        } = self.message();
        let entries = &self.0.content.entries;
        write!(out, "{from} -> {to}, {term}: {body:?} {entries:?}")
    }
}

impl fmt::Debug for Local {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.node().fmt(out)
    }
}

/// All that was met so far.
#[derive(Default)]
pub(crate) struct Tables {
    letters: RwLock<HashMap<&'static Packet, Letter>>,
    locals: RwLock<HashMap<&'static Node, Local>>,
}

impl Tables {
    pub(crate) fn local(&self, node: Node) -> Local {
        let mut locals = self.locals.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = locals.get(&node) {
            return *known;
        }
        let kept = Box::leak(Box::new(Kept {
            number: locals.len() as u32,
            content: Remembered {
                node,
                known: RwLock::default(),
            },
        }));
        locals.insert(&kept.content.node, Local(kept));
        Local(kept)
    }

    fn letter(&self, message: Message, entries: Vec<Entry>) -> Letter {
        let packet = Packet { message, entries };
        let mut letters = self.letters.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = letters.get(&packet) {
            return *known;
        }
        let kept = Box::leak(Box::new(Kept {
            number: letters.len() as u32,
            content: packet,
        }));
        letters.insert(&kept.content, Letter(kept));
        Letter(kept)
    }

    /// What a replica in this state does about this.
    pub(crate) fn react(
        &self,
        local: Local,
        stimulus: Stimulus,
        bug: Option<Bug>,
    ) -> &'static Reaction {
        let known = &local.0.content.known;
        let reader = known.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(reaction) = reader.get(&stimulus) {
            return reaction;
        }
        drop(reader);
        let post = |message, entries| self.letter(message, entries);
        let outcome = local.node().react(stimulus, bug, &post);
        let reaction: &'static Reaction = Box::leak(Box::new(Reaction {
            local: self.local(outcome.node),
            sent: outcome.sent,
            deeds: outcome.deeds,
            breach: outcome.breach,
        }));
        let mut writer = known.write().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have been faster: it has come to the same.
        writer.entry(stimulus).or_insert(reaction)
    }

    /// How many replica states and messages there are.
    pub(crate) fn sizes(&self) -> (usize, usize) {
        let locals = self.locals.read().unwrap_or_else(PoisonError::into_inner);
        let letters = self.letters.read().unwrap_or_else(PoisonError::into_inner);
        (locals.len(), letters.len())
    }
}
