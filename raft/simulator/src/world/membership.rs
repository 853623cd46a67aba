//! Membership, as far as a group hears of it: who answers and who does not, some time after it
//! became so. A plan may make it lie; it finds that out by itself.

use raft::{Hint, Input, ReplicaId};

use super::clients::Call;
use super::{Event, World};
use crate::check::Broken;

impl World {
    /// Every node looks which others answer, and tells its replica what has changed.
    pub(super) fn look(&mut self) -> Result<(), Broken> {
        self.events.push(self.now + self.profile.detection, Event::Look);
        for node in 0..self.nodes.len() {
            for peer in (0..self.nodes.len()).filter(|peer| *peer != node) {
                let silent = !self.answers(node, peer) || self.known_at(node, peer) != self.nodes[peer].id();
                self.guess(node, peer, silent)?;
            }
            self.tick_early(node)?;
        }
        self.sweep();
        Ok(())
    }

    /// The replica that a node knows to live on another one, as its group's membership says.
    fn known_at(&self, node: usize, peer: usize) -> Option<ReplicaId> {
        let configuration = self.nodes[node].process()?.group.configuration()?;
        let mut members = configuration.members().into_iter();
        members.find(|id| id.node.0 as usize == peer)
    }

    fn answers(&self, node: usize, peer: usize) -> bool {
        let reachable = !self.network.is_cut(node, peer) && !self.network.is_cut(peer, node);
        reachable && self.nodes[peer].down == 0 && self.nodes[peer].paused == 0
    }

    /// The node holds the peer for silent or not: its replica hears of it if that is new.
    pub(super) fn guess(&mut self, node: usize, peer: usize, silent: bool) -> Result<(), Broken> {
        if !self.is_awake(node) {
            return Ok(());
        }
        let id = self.known_at(node, peer);
        let process = self.nodes[node].process_mut().expect("it is awake");
        let was = std::mem::replace(&mut process.silent[peer], silent);
        let hint = if silent { Hint::Silent } else { Hint::Alive };
        match id {
            Some(id) if was != silent => self.called(node, Call::Operate(Input::Hint(id, hint))),
            _ => Ok(()),
        }
    }

    /// A tick that nobody asked for does no harm.
    fn tick_early(&mut self, node: usize) -> Result<(), Broken> {
        if !self.is_awake(node) {
            return Ok(());
        }
        self.step(node, Input::Tick, None)
    }
}
