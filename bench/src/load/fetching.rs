//! The consumers of a load.

use std::ops::Range;
use std::time::Duration;

use hashbrown::HashMap;

use super::connection::{Arrived, Pending};
use super::engine::{Lane, Window};
use crate::protocol::{Fetch, Outcome, Place, Protocol, TopicIndex};
use crate::record::Recorder;

/// What a consumer does when it has read everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtEnd {
    /// Waits for more: it follows the tail.
    Wait,
    /// Begins again.
    Wrap,
}

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timed {
    /// Each fetch, from being sent to its last byte.
    Fetches,
    /// Each record, from when it was due at its producer to its arrival here.
    Records,
}

/// Consumers.
#[derive(Clone, Debug)]
pub struct FetchPlan {
    /// The series' name in the report.
    pub name: String,
    /// Connections; each reads its share of the partitions.
    pub connections: usize,
    /// Where each partition is read from.
    pub starts: Vec<(Place, i64)>,
    /// What happens at the end.
    pub at_end: AtEnd,
    /// What is timed.
    pub timed: Timed,
    /// How long the broker may wait for data.
    pub max_wait: Duration,
    /// Answer when this much is there.
    pub min_bytes: u32,
    /// Most bytes of an answer.
    pub max_bytes: u32,
}

/// One lane's partitions.
struct Reading {
    positions: Vec<(Place, i64)>,
    starts: Vec<i64>,
    by_partition: HashMap<(TopicIndex, u32), usize>,
    /// The partition that the next fetch names first, so that none is starved.
    turn: usize,
}

/// Consumers at work.
pub(super) struct Fetching {
    pub lanes: Range<usize>,
    pub recorder: Recorder,
    plan: FetchPlan,
    readings: Vec<Reading>,
    scratch: Vec<(Place, i64)>,
    stopped: bool,
}

impl Fetching {
    pub(super) fn new(
        plan: FetchPlan,
        lanes: Range<usize>,
        starts: Vec<Vec<(Place, i64)>>,
        recorder: Recorder,
    ) -> Fetching {
        let readings = starts.into_iter().map(|positions| Reading {
            starts: positions.iter().map(|(_, offset)| *offset).collect(),
            by_partition: (0..)
                .zip(&positions)
                .map(|(index, (place, _))| ((place.topic, place.partition), index))
                .collect(),
            positions,
            turn: 0,
        });
        Fetching {
            lanes,
            recorder,
            readings: readings.collect(),
            plan,
            scratch: Vec::new(),
            stopped: false,
        }
    }

    /// Whether batches must be kept to be looked at.
    pub(super) fn keeps_batches(plan: &FetchPlan) -> bool {
        plan.timed == Timed::Records
    }

    /// Sends the first fetch of every lane that has none under way.
    pub(super) fn drive(
        &mut self,
        lanes: &mut [Lane],
        protocol: &mut dyn Protocol,
        now_ns: u64,
    ) -> bool {
        let mut any = false;
        for lane in self.lanes.clone() {
            if lanes[lane].under_way.len() == 0 && lanes[lane].is_open() && !self.stopped {
                self.send(lanes, protocol, lane, now_ns);
                any = true;
            }
        }
        any
    }

    fn send(&mut self, lanes: &mut [Lane], protocol: &mut dyn Protocol, lane: usize, now_ns: u64) {
        let reading = &mut self.readings[lane - self.lanes.start];
        if reading.positions.is_empty() {
            return;
        }
        let (before, from) = reading.positions.split_at(reading.turn);
        self.scratch.clear();
        self.scratch.extend_from_slice(from);
        self.scratch.extend_from_slice(before);
        reading.turn = (reading.turn + 1) % reading.positions.len();
        let lane = &mut lanes[lane];
        let correlation = lane.under_way.insert(Pending {
            due_ns: now_ns,
            records: 0,
            bytes: 0,
            member: None,
        });
        lane.head.clear();
        let request = Fetch {
            correlation,
            positions: &self.scratch,
            max_wait: self.plan.max_wait,
            min_bytes: self.plan.min_bytes,
            max_bytes: self.plan.max_bytes,
        };
        protocol.fetch(request, &mut lane.head);
        lane.outgoing.push(&lane.head, &bytes::Bytes::new(), &[]);
    }

    /// A fetch was answered; `times` are those that its records carried.
    pub(super) fn answered(
        &mut self,
        lane: usize,
        pending: Pending,
        arrived: &Arrived,
        times: &[u64],
        now_ns: u64,
        window: &Window,
    ) {
        let fetched = match &arrived.answer.outcome {
            Outcome::Fetched(fetched) => fetched,
            Outcome::Failed(error) => return self.recorder.error(error),
            _ => return self.recorder.error("an answer to something else"),
        };
        let reading = &mut self.readings[lane - self.lanes.start];
        let (mut records, mut bytes) = (0, 0);
        for (partition, progress) in fetched.iter().zip(&arrived.progress) {
            if let Some(error) = &partition.error {
                self.recorder.error(error);
            }
            let key = (partition.topic, partition.partition);
            let Some(index) = reading.by_partition.get(&key) else {
                continue;
            };
            let (_, position) = &mut reading.positions[*index];
            if let Some(next) = progress.next_offset {
                *position = next;
            }
            if self.plan.at_end == AtEnd::Wrap && *position >= partition.high_watermark {
                *position = reading.starts[*index];
            }
            records += progress.records;
            bytes += progress.bytes;
        }
        match self.plan.timed {
            Timed::Fetches if bytes > 0 => {
                window.record(&mut self.recorder, pending.due_ns, now_ns, records, bytes);
            }
            Timed::Fetches => {}
            Timed::Records => {
                // An answer's bytes, shared out over its records.
                let each = bytes / records.max(1);
                for due_ns in times {
                    window.record(&mut self.recorder, *due_ns, now_ns, 1, each);
                }
            }
        }
    }

    /// Sends the next fetch of a lane.
    pub(super) fn refill(
        &mut self,
        lanes: &mut [Lane],
        protocol: &mut dyn Protocol,
        lane: usize,
        now_ns: u64,
    ) {
        if !self.stopped && lanes[lane].is_open() {
            self.send(lanes, protocol, lane, now_ns);
        }
    }

    pub(super) fn stop(&mut self) {
        self.stopped = true;
    }
}
