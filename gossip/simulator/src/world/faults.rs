//! What faults do to hosts. The network's own faults are the network's.

use simulation::{Fault, Timed};

use super::host::Waiting;
use super::{Stall, Start, Taken, Watch, World};
use gossip::Input;

impl<W: Watch> World<W> {
    /// Begins a fault. Overlapping faults of one host are counted: it comes back after the last.
    pub(crate) fn begin(&mut self, timed: &Timed) {
        if self.network.begin(&timed.fault, timed.ends()) {
            return;
        }
        match timed.fault {
            Fault::Crash { node } => self.hold_down(node, Start::Kept),
            Fault::Wipe { node } => self.hold_down(node, Start::Wiped),
            Fault::Pause { node } => self.hold_still(node),
            Fault::Skew {
                node, drift_ppm, ..
            } => self.drift(node, drift_ppm),
            // A member keeps nothing on a disk but its boot epoch, which its driver keeps.
            _ => {}
        }
    }

    /// Ends a fault.
    pub(crate) fn end(&mut self, timed: &Timed) {
        self.network.end(&timed.fault);
        match timed.fault {
            Fault::Crash { node } | Fault::Wipe { node } => self.let_up(node),
            Fault::Pause { node } => self.let_go(node),
            Fault::Skew { node, .. } => self.drift(node, 0),
            _ => {}
        }
    }

    /// Takes a host down until [`World::let_up`] has been called as often.
    pub(crate) fn hold_down(&mut self, host: usize, comes_back: Start) {
        self.crash(host);
        let state = &mut self.hosts[host];
        if state.held_down == 0 {
            state.comes_back = Start::Kept;
        }
        state.held_down += 1;
        if comes_back == Start::Wiped {
            state.comes_back = Start::Wiped;
        }
    }

    pub(crate) fn let_up(&mut self, host: usize) {
        let state = &mut self.hosts[host];
        state.held_down = state.held_down.saturating_sub(1);
        if state.held_down == 0 {
            let comes_back = state.comes_back;
            self.start(host, comes_back);
        }
    }

    fn drift(&mut self, host: usize, drift_ppm: i32) {
        let now = self.now;
        self.hosts[host].clock.drift(now, drift_ppm);
        self.hosts[host].tick_at = None;
        self.schedule(host);
    }

    /// Makes a host stand still until [`World::let_go`] has been called as often.
    pub(crate) fn hold_still(&mut self, host: usize) {
        self.hosts[host].held_still += 1;
    }

    pub(crate) fn let_go(&mut self, host: usize) {
        let state = &mut self.hosts[host];
        state.held_still = state.held_still.saturating_sub(1);
        if state.held_still > 0 {
            return;
        }
        let waiting = state.inbox.take();
        if state.node.is_none() {
            return;
        }
        for effect in std::mem::take(&mut state.outbox) {
            self.effect(host, effect);
        }
        self.hosts[host].tick_at = None;
        if self.making.stall == (Stall::Process { timers_first: true }) {
            self.tick_if_due(host);
        }
        for waiting in waiting {
            match waiting {
                Waiting::Datagram(datagram) => self.take_datagram(host, datagram),
                Waiting::Stream {
                    connection,
                    side,
                    piece,
                } => self.stream_piece(connection, side, piece),
            }
        }
        self.tick_if_due(host);
    }

    /// Changes a host's record.
    pub(crate) fn update(&mut self, host: usize) {
        self.hosts[host].edition += 1;
        let record = self.hosts[host].record(host);
        self.input(host, Input::UpdateRecord(record), &Taken::Other);
    }
}
