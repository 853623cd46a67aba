//! Connections: pieces arrive in order, a cut resets them, a crash resets them.

use std::collections::BTreeMap;
use std::time::Duration;

use gossip::{Input, StreamId};
use simulation::Time;

use super::{Happening, Taken, Watch, World};

/// What travels on a connection, or comes of having sent.
#[derive(Clone, Debug)]
pub(super) enum Piece {
    Bytes(Vec<u8>),
    Writable,
    End,
}

/// One end; none once it is closed there.
#[derive(Copy, Clone, Debug)]
struct End {
    host: usize,
    stream: StreamId,
    open: bool,
}

/// The connections of which an end is open: the opener's end and the acceptor's.
#[derive(Clone, Debug, Default)]
pub(super) struct Connections {
    all: BTreeMap<u64, [End; 2]>,
    by_end: BTreeMap<(usize, StreamId), (u64, usize)>,
    last: u64,
}

impl Connections {
    fn open_end(&self, connection: u64, side: usize) -> Option<End> {
        let end = self.all.get(&connection)?[side];
        end.open.then_some(end)
    }

    /// Closes an end. A connection without ends is no more.
    fn close_end(&mut self, connection: u64, side: usize) {
        let Some(ends) = self.all.get_mut(&connection) else {
            return;
        };
        ends[side].open = false;
        let end = ends[side];
        let open = ends.iter().any(|end| end.open);
        self.by_end.remove(&(end.host, end.stream));
        if !open {
            self.all.remove(&connection);
        }
    }
}

/// How long a reset takes to be noticed.
const RESET: Duration = Duration::from_millis(1);

impl<W: Watch> World<W> {
    /// Opens a connection. One that cannot be made ends soon.
    pub(super) fn open(&mut self, host: usize, stream: StreamId, to: Option<usize>) {
        let Some(to) = to.filter(|to| *to < self.hosts.len()) else {
            return;
        };
        self.connections.last += 1;
        let connection = self.connections.last;
        let refused = self.hosts[to].node.is_none()
            || self.network.is_cut(host, to)
            || self.network.is_cut(to, host);
        let accepted = StreamId::Accepted(connection);
        let ends = [(host, stream, true), (to, accepted, !refused)]
            .map(|(host, stream, open)| End { host, stream, open });
        for (side, end) in ends.iter().enumerate() {
            let name = (end.host, end.stream);
            self.connections.by_end.insert(name, (connection, side));
        }
        self.connections.all.insert(connection, ends);
        if refused {
            self.piece_at(self.now + RESET, connection, 0, Piece::End);
        }
    }

    fn piece_at(&mut self, at: Time, connection: u64, side: usize, piece: Piece) {
        let happening = Happening::Stream {
            connection,
            side,
            piece,
        };
        self.events.push(at, happening);
    }

    pub(super) fn send_stream(&mut self, host: usize, stream: StreamId, bytes: Vec<u8>) {
        let Some((connection, side)) = self.connections.by_end.get(&(host, stream)).copied() else {
            return;
        };
        if let Some(at) = self.route_piece(connection, side, bytes.len()) {
            self.piece_at(at, connection, 1 - side, Piece::Bytes(bytes));
            self.piece_at(at, connection, side, Piece::Writable);
        }
    }

    /// Closes an end after what was sent on it.
    pub(super) fn close(&mut self, host: usize, stream: StreamId) {
        let Some((connection, side)) = self.connections.by_end.get(&(host, stream)).copied() else {
            return;
        };
        if let Some(at) = self.route_piece(connection, side, 0) {
            self.piece_at(at, connection, 1 - side, Piece::End);
        }
        self.connections.close_end(connection, side);
    }

    /// When a piece arrives; if it cannot, the connection is reset.
    fn route_piece(&mut self, connection: u64, side: usize, length: usize) -> Option<Time> {
        let ends = self.connections.all.get(&connection)?;
        let (from, to) = (ends[side].host, ends[1 - side].host);
        let arrival = self.network.route_stream(self.now, from, to, length);
        if arrival.is_none() {
            for side in 0..2 {
                self.piece_at(self.now + RESET, connection, side, Piece::End);
            }
        }
        arrival
    }

    /// The host's ends close; the other ends hear of it.
    pub(super) fn reset_streams_of(&mut self, host: usize) {
        let name = (host, StreamId::Opened(0));
        let of_host: Vec<(u64, usize)> = self
            .connections
            .by_end
            .range(name..)
            .take_while(|((at, _), _)| *at == host)
            .map(|(_, end)| *end)
            .collect();
        for (connection, side) in of_host {
            self.connections.close_end(connection, side);
            self.piece_at(self.now + RESET, connection, 1 - side, Piece::End);
        }
    }

    pub(super) fn stream_piece(&mut self, connection: u64, side: usize, piece: Piece) {
        let Some(end) = self.connections.open_end(connection, side) else {
            return;
        };
        let state = &mut self.hosts[end.host];
        if state.is_paused() {
            state.inbox.stream(connection, side, piece);
            return;
        }
        if matches!(piece, Piece::End) {
            self.connections.close_end(connection, side);
        }
        let input = match &piece {
            Piece::Bytes(bytes) => Input::StreamBytes {
                stream: end.stream,
                bytes,
            },
            Piece::Writable => Input::StreamWritable(end.stream),
            Piece::End => Input::StreamEnded(end.stream),
        };
        self.input(end.host, input, &Taken::Other);
    }
}
