//! The producers of a load.

use std::collections::VecDeque;
use std::ops::Range;

use super::batches::{BatchShape, BatchSource};
use super::connection::Pending;
use super::engine::{Lane, Window};
use super::schedule::{Arrivals, Schedule};
use crate::protocol::{Outcome, Place, Produce, Protocol};
use crate::record::Recorder;

/// What paces requests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// A clock: so many requests a second over all connections, whatever the broker does.
    Open {
        /// Requests a second.
        rate: f64,
        /// How they are spaced.
        arrivals: Arrivals,
    },
    /// The answers: each connection keeps so many requests under way.
    Closed {
        /// Requests under way on a connection.
        in_flight: u32,
    },
}

/// Producers.
#[derive(Clone, Debug)]
pub struct ProducePlan {
    /// The series' name in the report.
    pub name: String,
    /// Connections.
    pub connections: usize,
    /// What paces them.
    pub pace: Pace,
    /// 0, 1 or -1.
    pub acks: i8,
    /// What is sent.
    pub shape: BatchShape,
    /// Whether records carry the time at which they were due, for consumers to measure by.
    pub carries_time: bool,
    /// What is random begins here.
    pub seed: u64,
    /// The load ends when so many requests are answered, before its time.
    pub most_requests: Option<u64>,
}

/// Requests that may be due and unsent before a run is given up as overloaded.
const MOST_BEHIND: usize = 1_000_000;

/// Bytes that a connection may have unsent where nothing is acknowledged.
const MOST_UNSENT_BYTES: usize = 1 << 20;

/// Producers at work.
pub(super) struct Producing {
    pub lanes: Range<usize>,
    pub recorder: Recorder,
    pub lateness: hdrhistogram::Histogram<u64>,
    /// The run was given up: the broker is too far behind the schedule.
    pub overloaded: bool,
    plan: ProducePlan,
    source: BatchSource,
    /// By lane: its partitions and the next one's turn.
    places: Vec<(Vec<Place>, usize)>,
    /// By lane: when requests were due that could not be sent yet.
    behind: Vec<VecDeque<u64>>,
    behind_total: usize,
    schedule: Option<Schedule>,
    next_lane: usize,
    requests: u64,
}

impl Producing {
    pub(super) fn new(
        plan: ProducePlan,
        lanes: Range<usize>,
        places: Vec<Vec<Place>>,
        recorder: Recorder,
        start_ns: u64,
    ) -> Producing {
        assert_eq!(lanes.len(), places.len());
        let schedule = match plan.pace {
            Pace::Open { rate, arrivals } => {
                Some(Schedule::new(rate, arrivals, start_ns, plan.seed))
            }
            Pace::Closed { .. } => None,
        };
        let by_lane = |(lane, places): (usize, Vec<Place>)| {
            // Lanes begin at different partitions, so that they do not march in step.
            let first = lane % places.len().max(1);
            (places, first)
        };
        Producing {
            behind: lanes.clone().map(|_| VecDeque::new()).collect(),
            lanes,
            recorder,
            lateness: crate::record::histogram(),
            overloaded: false,
            source: BatchSource::new(plan.shape.clone(), plan.carries_time, plan.seed),
            plan,
            places: places.into_iter().enumerate().map(by_lane).collect(),
            behind_total: 0,
            schedule,
            next_lane: 0,
            requests: 0,
        }
    }

    /// Sends what is due. Tells whether there was anything.
    pub(super) fn drive(
        &mut self,
        lanes: &mut [Lane],
        protocol: &mut dyn Protocol,
        now_ns: u64,
        window: &Window,
    ) -> bool {
        match self.plan.pace {
            Pace::Open { .. } => self.drive_open(lanes, protocol, now_ns, window),
            Pace::Closed { in_flight } => self.fill(lanes, protocol, now_ns, in_flight),
        }
    }

    fn drive_open(
        &mut self,
        lanes: &mut [Lane],
        protocol: &mut dyn Protocol,
        now_ns: u64,
        window: &Window,
    ) -> bool {
        let mut any = false;
        while let Some(due_ns) = self.schedule.as_mut().and_then(|s| s.take(now_ns)) {
            any = true;
            let place = self.next_lane;
            self.next_lane = (place + 1) % self.lanes.len();
            if self.behind[place].is_empty() && self.may_send(&lanes[self.lanes.start + place]) {
                if window.contains(due_ns) {
                    self.lateness.saturating_record(now_ns - due_ns);
                }
                self.send(lanes, protocol, place, due_ns);
            } else {
                self.behind[place].push_back(due_ns);
                self.behind_total += 1;
            }
            if self.behind_total > MOST_BEHIND {
                self.overloaded = true;
                self.schedule = None;
            }
        }
        any
    }

    /// Keeps every lane at its window.
    fn fill(
        &mut self,
        lanes: &mut [Lane],
        protocol: &mut dyn Protocol,
        now_ns: u64,
        in_flight: u32,
    ) -> bool {
        let mut any = false;
        for place in 0..self.lanes.len() {
            while lanes[self.lanes.start + place].load() < in_flight as usize
                && self.may_send(&lanes[self.lanes.start + place])
            {
                self.send(lanes, protocol, place, now_ns);
                any = true;
            }
        }
        any
    }

    /// When there is something to do next, if the clock decides that.
    pub(super) fn next_due(&self) -> Option<u64> {
        self.schedule.as_ref().map(Schedule::next_due)
    }

    fn may_send(&self, lane: &Lane) -> bool {
        lane.is_open()
            && self
                .plan
                .most_requests
                .is_none_or(|most| self.requests < most)
            && lane.load() < lane.max_in_flight as usize
            && (self.plan.acks != 0 || lane.outgoing.bytes() < MOST_UNSENT_BYTES)
    }

    fn send(&mut self, lanes: &mut [Lane], protocol: &mut dyn Protocol, place: usize, due_ns: u64) {
        self.requests += 1;
        let lane = &mut lanes[self.lanes.start + place];
        let (places, turn) = &mut self.places[place];
        let to = places[*turn];
        *turn = (*turn + 1) % places.len();
        let batch = self.source.next(due_ns);
        let pending = Pending {
            due_ns,
            records: batch.records,
            bytes: batch.record_bytes,
        };
        let answered = self.plan.acks != 0;
        let correlation = if answered {
            lane.under_way.insert(pending)
        } else {
            lane.unsent.push(pending);
            0
        };
        lane.head.clear();
        let request = Produce {
            correlation,
            place: to,
            acks: self.plan.acks,
            batch_bytes: batch.bytes.len(),
        };
        let tail = protocol.produce(request, &mut lane.head);
        lane.outgoing.push(&lane.head, &batch.bytes, tail);
    }

    /// A request was answered, or sent where nothing is answered; the lane has room for another.
    pub(super) fn answered(
        &mut self,
        pending: Pending,
        outcome: &Outcome,
        now_ns: u64,
        window: &Window,
    ) {
        match outcome {
            Outcome::Failed(error) if window.contains(pending.due_ns) => self.recorder.error(error),
            Outcome::Failed(_) => {}
            _ => window.record(
                &mut self.recorder,
                pending.due_ns,
                now_ns,
                u64::from(pending.records),
                u64::from(pending.bytes),
            ),
        }
    }

    /// Sends on a lane what was due while it had no room, or the next of a closed loop.
    pub(super) fn refill(
        &mut self,
        lanes: &mut [Lane],
        protocol: &mut dyn Protocol,
        lane: usize,
        now_ns: u64,
    ) {
        let place = lane - self.lanes.start;
        while self.may_send(&lanes[lane]) {
            let due = match self.plan.pace {
                Pace::Closed { in_flight } if lanes[lane].load() < in_flight as usize => now_ns,
                Pace::Closed { .. } => return,
                Pace::Open { .. } => match self.behind[place].pop_front() {
                    Some(due) => {
                        self.behind_total -= 1;
                        due
                    }
                    None => return,
                },
            };
            self.send(lanes, protocol, place, due);
        }
    }

    /// Whether as many requests as there are to be have been answered.
    pub(super) fn is_exhausted(&self, lanes: &[Lane]) -> bool {
        self.plan
            .most_requests
            .is_some_and(|most| self.requests >= most)
            && lanes[self.lanes.clone()]
                .iter()
                .all(|lane| lane.load() == 0)
    }

    /// Nothing more is due. What was due and not sent is returned.
    pub(super) fn stop(&mut self) -> Vec<u64> {
        self.schedule = None;
        self.plan.pace = Pace::Closed { in_flight: 0 };
        self.behind_total = 0;
        self.behind.iter_mut().flat_map(std::mem::take).collect()
    }

    pub(super) fn wanted_rate(plan: &ProducePlan) -> Option<f64> {
        match plan.pace {
            Pace::Open { rate, .. } => Some(rate),
            Pace::Closed { .. } => None,
        }
    }
}
