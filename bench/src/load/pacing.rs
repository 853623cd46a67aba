//! The connections whose requests a clock or the answers pace, whatever they ask: that is a
//! [`Cargo`], of producers or of groups.

use std::collections::VecDeque;
use std::ops::Range;

use super::connection::Pending;
use super::engine::{Lane, Window};
use super::grouping::{GroupPlan, Grouping};
use super::producing::{ProducePlan, Producing};
use super::schedule::{Arrivals, Schedule};
use crate::protocol::{Outcome, Place, Protocol};
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

/// Connections that ask at a pace.
#[derive(Clone, Debug)]
pub struct PacedPlan {
    /// The series' name in the report.
    pub name: String,
    /// Connections.
    pub connections: usize,
    /// What paces them.
    pub pace: Pace,
    /// What they ask.
    pub cargo: Cargo,
    /// What is random begins here.
    pub seed: u64,
    /// The load ends when so many requests are answered, before its time.
    pub most_requests: Option<u64>,
}

/// What is asked.
#[derive(Clone, Debug)]
pub enum Cargo {
    /// That batches be stored.
    Batches(ProducePlan),
    /// What groups ask of their coordinators.
    Groups(GroupPlan),
}

/// Requests that may be due and unsent before a run is given up as overloaded.
const MOST_BEHIND: usize = 1_000_000;

/// The same at work.
enum Work {
    Batches(Producing),
    Groups(Grouping),
}

/// Connections at work.
pub(super) struct Pacing {
    pub lanes: Range<usize>,
    pub recorder: Recorder,
    pub lateness: hdrhistogram::Histogram<u64>,
    /// The run was given up: the broker is too far behind the schedule.
    pub overloaded: bool,
    plan: PacedPlan,
    work: Work,
    /// By lane: when requests were due that could not be sent yet.
    behind: Vec<VecDeque<u64>>,
    behind_total: usize,
    schedule: Option<Schedule>,
    next_lane: usize,
    requests: u64,
}

impl Pacing {
    /// Connections for these lanes, each with its share of the partitions. Nothing is due before
    /// [`begin`](Pacing::begin).
    pub(super) fn new(
        plan: PacedPlan,
        lanes: Range<usize>,
        shares: Vec<Vec<Place>>,
        topics: &[String],
        places: &[Place],
        recorder: Recorder,
    ) -> Pacing {
        assert_eq!(lanes.len(), shares.len());
        let work = match &plan.cargo {
            Cargo::Batches(batches) => {
                Work::Batches(Producing::new(batches.clone(), shares, plan.seed))
            }
            Cargo::Groups(groups) => {
                Work::Groups(Grouping::new(groups, lanes.len(), topics, places))
            }
        };
        Pacing {
            behind: lanes.clone().map(|_| VecDeque::new()).collect(),
            lanes,
            recorder,
            lateness: crate::record::histogram(),
            overloaded: false,
            plan,
            work,
            behind_total: 0,
            schedule: None,
            next_lane: 0,
            requests: 0,
        }
    }

    /// From here on requests are due.
    pub(super) fn begin(&mut self, start_ns: u64) {
        if let Pace::Open { rate, arrivals } = self.plan.pace {
            let schedule = Schedule::new(rate, arrivals, start_ns, self.plan.seed);
            self.schedule = Some(schedule);
        }
    }

    /// Groups that have to be joined before anything is measured, and left after it.
    pub(super) fn groups(&mut self) -> Option<&mut Grouping> {
        match &mut self.work {
            Work::Groups(groups) => Some(groups),
            Work::Batches(_) => None,
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
            && match &self.work {
                Work::Batches(producing) => producing.may_send(lane),
                Work::Groups(_) => true,
            }
    }

    fn send(&mut self, lanes: &mut [Lane], protocol: &mut dyn Protocol, place: usize, due_ns: u64) {
        self.requests += 1;
        let lane = &mut lanes[self.lanes.start + place];
        match &mut self.work {
            Work::Batches(producing) => producing.send(lane, protocol, place, due_ns),
            Work::Groups(groups) => groups.send(lane, place, due_ns),
        }
    }

    /// A request was answered, or sent where nothing is answered; the lane has room for another.
    pub(super) fn answered(
        &mut self,
        pending: Pending,
        outcome: &Outcome,
        now_ns: u64,
        window: &Window,
    ) {
        if let Work::Groups(groups) = &mut self.work
            && !groups.is_measured()
        {
            return groups.answered(pending, outcome);
        }
        match outcome.failure() {
            Some(error) if window.contains(pending.due_ns) => self.recorder.error(error),
            Some(_) => {}
            None => window.record(
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
        if let Work::Groups(groups) = &self.work
            && !groups.is_measured()
        {
            return;
        }
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

    pub(super) fn wanted_rate(plan: &PacedPlan) -> Option<f64> {
        match plan.pace {
            Pace::Open { rate, .. } => Some(rate),
            Pace::Closed { .. } => None,
        }
    }
}
