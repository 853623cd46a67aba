//! The loop: one thread, one ring, all connections. What is due is sent when it is due, and an answer
//! is timed when it comes; in between it spins or sleeps, as it was told.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::connection::{Arrived, Intake, Outgoing, Pending, UnderWay};
use super::fetching::{FetchPlan, Fetching};
use super::grouping::Parting;
use super::pacing::{PacedPlan, Pacing};
use super::ring::{Event, Ring, Token};
use super::sharing::{shard_of, share_out, split_up};
use super::{Control, Load, LoadError, LoadResult, Phase, Waiting};
use crate::cpu::thread_cpu;
use crate::protocol::{Outcome, Protocol, ProtocolError};
use crate::record::{self, Recorder};
use crate::report::model::{GeneratorUse, SeriesResult};

/// How long connecting and greeting may take altogether.
const GREETING_PATIENCE: Duration = Duration::from_secs(30);

/// How long members may take to join their groups.
const SETTLING_PATIENCE: Duration = Duration::from_secs(120);

/// How long the loop may wait for completions where it does not spin.
const MOST_WAIT: Duration = Duration::from_millis(5);

/// How long before something is due a loop that sleeps gets up: a sleeper comes late by about as much.
const UP_BEFORE_NS: u64 = 60_000;

/// What a round of the loop was spent on.
struct Turn {
    /// There was something to do.
    worked: bool,
    /// The time asleep, which is not work.
    slept_ns: u64,
}

/// A connection and what it belongs to.
pub(super) struct Lane {
    token: Token,
    owner: Owner,
    state: LaneState,
    pub(super) outgoing: Outgoing,
    intake: Intake,
    pub(super) under_way: UnderWay,
    /// Requests that will not be answered and are not yet with the kernel; then those that the send
    /// under way has.
    pub(super) unsent: Vec<Pending>,
    sending: Vec<Pending>,
    pub(super) max_in_flight: u32,
    /// A place to write a request's head.
    pub(super) head: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum LaneState {
    Greeting,
    Open,
    Closed,
}

/// Whose a lane is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Owner {
    Paced,
    Fetching(usize),
}

impl Lane {
    fn new(token: Token, owner: Owner, keep: bool) -> Lane {
        Lane {
            token,
            owner,
            state: LaneState::Greeting,
            outgoing: Outgoing::default(),
            intake: Intake::new(keep),
            under_way: UnderWay::default(),
            unsent: Vec::new(),
            sending: Vec::new(),
            max_in_flight: 1,
            head: Vec::new(),
        }
    }

    /// One that is open, and belongs to no ring.
    #[cfg(test)]
    pub(super) fn for_tests() -> Lane {
        Lane {
            state: LaneState::Open,
            max_in_flight: 64,
            ..Lane::new(0, Owner::Paced, false)
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.state == LaneState::Open
    }

    /// Requests that are not done with.
    pub(super) fn load(&self) -> usize {
        self.under_way.len() + self.unsent.len() + self.sending.len()
    }
}

/// What is measured: what is due between two moments, ns on the load's clock.
pub(super) struct Window {
    pub start_ns: u64,
    pub end_ns: u64,
}

impl Window {
    pub(super) fn contains(&self, due_ns: u64) -> bool {
        (self.start_ns..self.end_ns).contains(&due_ns)
    }

    /// Records something that was due at one time and done at another. A latency counts where it
    /// was due; throughput counts what was done while it was measured.
    pub(super) fn record(
        &self,
        recorder: &mut Recorder,
        due_ns: u64,
        done_ns: u64,
        records: u64,
        bytes: u64,
    ) {
        if !self.contains(due_ns) {
            return;
        }
        let latency = done_ns.saturating_sub(due_ns);
        if done_ns < self.end_ns {
            let at = Duration::from_nanos(done_ns - self.start_ns);
            recorder.record(at, latency, records, bytes);
        } else {
            recorder.record_late(latency);
        }
    }
}

/// The generator at work.
pub(super) struct Engine<'a> {
    control: &'a Control,
    protocol: Box<dyn Protocol>,
    ring: Ring,
    lanes: Vec<Lane>,
    paced: Option<Pacing>,
    fetching: Vec<Fetching>,
    began: Instant,
    window: Window,
    arrivals: Vec<Arrived>,
    times: Vec<u64>,
    waiting: Waiting,
}

impl<'a> Engine<'a> {
    /// Connects everything. Nothing is sent yet but greetings.
    pub(super) fn start(load: &Load, control: &'a Control) -> Result<Engine<'a>, LoadError> {
        let paced_lanes = load.paced.as_ref().map_or(0, |plan| plan.connections);
        let fetch_lanes: usize = load.fetching.iter().map(|plan| plan.connections).sum();
        let total = paced_lanes + fetch_lanes;
        let (count, bytes_each) = load.receive_buffers();
        let ring = Ring::new(total, count, bytes_each).map_err(LoadError::Ring)?;
        let mut engine = Engine {
            control,
            protocol: load.protocol.codec(load.topics.clone()),
            ring,
            lanes: Vec::with_capacity(total),
            paced: None,
            fetching: Vec::new(),
            began: Instant::now(),
            window: Window {
                start_ns: u64::MAX,
                end_ns: u64::MAX,
            },
            arrivals: Vec::new(),
            times: Vec::new(),
            waiting: load.waiting,
        };
        engine.connect_all(load)?;
        Ok(engine)
    }

    fn connect_all(&mut self, load: &Load) -> Result<(), LoadError> {
        let mut asking = None;
        if let Some(plan) = &load.paced {
            let shares = share_out(load.places.clone(), plan.connections, |place| place.shard);
            let first = self.lanes.len();
            for share in &shares {
                self.connect(load.address, Owner::Paced, shard_of(share), false)?;
            }
            asking = Some((plan.clone(), first..self.lanes.len(), shares));
        }
        let mut consumers = Vec::new();
        for (number, plan) in load.fetching.iter().enumerate() {
            let shares = split_up(plan.starts.clone(), plan.connections);
            let first = self.lanes.len();
            for share in &shares {
                let shard = share.first().map_or(0, |(place, _)| place.shard);
                let keep = Fetching::keeps_batches(plan);
                self.connect(load.address, Owner::Fetching(number), shard, keep)?;
            }
            consumers.push((plan.clone(), first..self.lanes.len(), shares));
        }
        self.greet(load.address)?;
        self.paced = asking.map(|(plan, lanes, shares): (PacedPlan, _, _)| {
            let recorder = Recorder::new(&plan.name, load.duration);
            Pacing::new(plan, lanes, shares, &load.topics, &load.places, recorder)
        });
        self.settle()?;
        let start_ns = self.now_ns();
        self.window.start_ns = start_ns + nanos(load.warm_up);
        self.window.end_ns = self.window.start_ns + nanos(load.duration);
        if let Some(paced) = &mut self.paced {
            paced.begin(start_ns);
        }
        let fetching = consumers
            .into_iter()
            .map(|(plan, lanes, shares): (FetchPlan, _, _)| {
                let recorder = Recorder::new(&plan.name, load.duration);
                Fetching::new(plan, lanes, shares, recorder)
            });
        self.fetching = fetching.collect();
        Ok(())
    }

    fn connect(
        &mut self,
        address: SocketAddr,
        owner: Owner,
        shard: u16,
        keep: bool,
    ) -> Result<(), LoadError> {
        let failed = |error| ProtocolError::Connection { address, error };
        let stream = TcpStream::connect_timeout(&address, GREETING_PATIENCE).map_err(failed)?;
        let token = self.ring.add(stream).map_err(LoadError::Ring)?;
        assert_eq!(token, self.lanes.len(), "lanes and sockets have one number");
        let mut lane = Lane::new(token, owner, keep);
        self.protocol.greeting(shard, &mut lane.head);
        lane.outgoing.push(&lane.head, &bytes::Bytes::new(), &[]);
        self.lanes.push(lane);
        Ok(())
    }

    fn greet(&mut self, address: SocketAddr) -> Result<(), LoadError> {
        let patience = Instant::now() + GREETING_PATIENCE;
        while !self.lanes.iter().all(Lane::is_open) {
            self.wait_for_answers(MOST_WAIT)?;
            if Instant::now() > patience {
                let error = std::io::ErrorKind::TimedOut.into();
                return Err(ProtocolError::Connection { address, error }.into());
            }
        }
        Ok(())
    }

    fn now_ns(&self) -> u64 {
        nanos(self.began.elapsed())
    }

    /// Lets the members of groups join, until no group shares its partitions out any more.
    fn settle(&mut self) -> Result<(), LoadError> {
        let patience = Instant::now() + SETTLING_PATIENCE;
        loop {
            let now_ns = self.now_ns();
            let Some(paced) = &mut self.paced else {
                return Ok(());
            };
            let range = paced.lanes.clone();
            let Some(groups) = paced.groups() else {
                return Ok(());
            };
            if groups.settle(&mut self.lanes[range], now_ns)? {
                return Ok(());
            }
            if Instant::now() > patience {
                return Err(LoadError::Unsettled(SETTLING_PATIENCE));
            }
            self.wait_for_answers(MOST_WAIT)?;
        }
    }

    /// Lets the members of groups leave, and the broker forget the groups.
    fn part(&mut self, patience: Instant) -> Result<(), LoadError> {
        for parting in [Parting::Leave, Parting::Delete] {
            let Some(paced) = &mut self.paced else {
                return Ok(());
            };
            let range = paced.lanes.clone();
            let Some(groups) = paced.groups() else {
                return Ok(());
            };
            groups.part(&mut self.lanes[range.clone()], parting);
            let waits = |lane: &Lane| lane.load() > 0;
            while self.lanes[range.clone()].iter().any(waits) && Instant::now() < patience {
                self.wait_for_answers(MOST_WAIT)?;
            }
        }
        Ok(())
    }

    fn wait_for_answers(&mut self, most: Duration) -> Result<(), LoadError> {
        self.flush()?;
        self.ring.turn(most).map_err(LoadError::Ring)?;
        self.take_events()?;
        if self.control.is_stopped() && self.control.phase() < Phase::WarmUp {
            return Err(LoadError::Stopped);
        }
        Ok(())
    }

    /// Puts the load on, to its end.
    pub(super) fn run(mut self, load: &Load) -> Result<LoadResult, LoadError> {
        let mut busy_ns = 0;
        let cpu_before = thread_cpu();
        let mut cpu = Duration::ZERO;
        self.control.enter(Phase::WarmUp);
        let mut now_ns = self.now_ns();
        while now_ns < self.window.end_ns && !self.control.is_stopped() && !self.is_over() {
            let measuring = now_ns >= self.window.start_ns;
            if measuring && self.control.enter(Phase::Measuring) {
                busy_ns = 0;
                cpu = thread_cpu();
            }
            let turn = self.turn(now_ns)?;
            let after_ns = self.now_ns();
            if turn.worked {
                busy_ns += (after_ns - now_ns).saturating_sub(turn.slept_ns);
            }
            now_ns = after_ns;
        }
        let cpu_seconds = thread_cpu()
            .saturating_sub(cpu.max(cpu_before))
            .as_secs_f64();
        let complete = now_ns >= self.window.end_ns;
        // A run that was cut short is measured up to here.
        self.window.end_ns = self.window.end_ns.min(now_ns).max(self.window.start_ns + 1);
        let overloaded = self.is_overloaded();
        if let Some(paced) = self.paced.as_mut().filter(|_| overloaded) {
            paced
                .recorder
                .error("given up: the broker was a million requests behind the rate");
        }
        self.control.enter(Phase::Draining);
        self.drain(load.drain)?;
        self.part(Instant::now() + load.drain)?;
        self.control.enter(Phase::Done);
        let measured = Duration::from_nanos(self.window.end_ns - self.window.start_ns);
        let busy = busy_ns as f64 / nanos(measured).max(1) as f64;
        let lateness = self.paced.as_ref().map(|paced| &paced.lateness);
        Ok(LoadResult {
            seconds: measured.as_secs_f64(),
            generator: GeneratorUse {
                busy: busy.min(1.0),
                cpu_seconds,
                lateness: lateness.map(record::latency).unwrap_or_default(),
            },
            complete,
            overloaded,
            series: self.finish(load),
        })
    }

    fn is_overloaded(&self) -> bool {
        self.paced.as_ref().is_some_and(|p| p.overloaded)
    }

    /// Whether it ends before its time.
    fn is_over(&self) -> bool {
        let paced = self.paced.as_ref();
        paced.is_some_and(|p| p.overloaded || p.is_exhausted(&self.lanes))
    }

    /// One round: what is due goes out, what has come is taken; if there was nothing of either, it
    /// sleeps if it may.
    fn turn(&mut self, now_ns: u64) -> Result<Turn, LoadError> {
        let mut worked = false;
        if let Some(paced) = &mut self.paced {
            let protocol = &mut *self.protocol;
            worked |= paced.drive(&mut self.lanes, protocol, now_ns, &self.window);
        }
        for fetching in &mut self.fetching {
            worked |= fetching.drive(&mut self.lanes, &mut *self.protocol, now_ns);
        }
        self.flush()?;
        self.ring.turn(Duration::ZERO).map_err(LoadError::Ring)?;
        worked |= self.take_events()?;
        let mut slept_ns = 0;
        if !worked {
            let asleep_ns = self.now_ns();
            let wait = self.may_sleep(asleep_ns);
            if !wait.is_zero() {
                self.ring.turn(wait).map_err(LoadError::Ring)?;
                slept_ns = self.now_ns() - asleep_ns;
                worked = self.take_events()?;
            }
        }
        Ok(Turn { worked, slept_ns })
    }

    fn may_sleep(&self, now_ns: u64) -> Duration {
        if self.waiting == Waiting::Spin {
            return Duration::ZERO;
        }
        let due = self.paced.as_ref().and_then(Pacing::next_due);
        let until = due.map_or(MOST_WAIT, |due| {
            Duration::from_nanos(due.saturating_sub(now_ns + UP_BEFORE_NS))
        });
        until.min(MOST_WAIT)
    }

    /// Hands everything that is to be sent to the ring.
    fn flush(&mut self) -> Result<(), LoadError> {
        for lane in &mut self.lanes {
            if !lane.outgoing.is_empty() && self.ring.may_send(lane.token) {
                lane.sending.append(&mut lane.unsent);
                let pieces = lane.outgoing.take();
                self.ring
                    .send(lane.token, pieces)
                    .map_err(LoadError::Ring)?;
            }
        }
        Ok(())
    }

    fn take_events(&mut self) -> Result<bool, LoadError> {
        let mut any = false;
        while let Some(event) = self.ring.next_event() {
            any = true;
            match event {
                Event::Received(token, filled) => {
                    let lane = &mut self.lanes[token];
                    let (arrivals, times) = (&mut self.arrivals, &mut self.times);
                    let mut unreadable = None;
                    let taken = lane.intake.take(
                        &mut *self.protocol,
                        self.ring.bytes(&filled),
                        &mut |batch| {
                            let carried = super::walker::times_carried(batch, |t| times.push(t));
                            unreadable = carried.err().or(unreadable.take());
                        },
                        &mut |arrived| arrivals.push(arrived),
                    );
                    self.ring.give_back(filled);
                    taken?;
                    if let Some(error) = unreadable {
                        return Err(ProtocolError::Malformed(error).into());
                    }
                    self.arrived(token)?;
                }
                Event::Sent(token) => self.sent(token),
                Event::Closed(token, reason) => self.closed(token, reason)?,
            }
        }
        Ok(any)
    }

    fn arrived(&mut self, token: Token) -> Result<(), LoadError> {
        let now_ns = self.now_ns();
        let mut arrivals = std::mem::take(&mut self.arrivals);
        for arrived in arrivals.drain(..) {
            match (&arrived.answer.outcome, self.lanes[token].state) {
                (Outcome::Greeted(greeting), LaneState::Greeting) => {
                    let lane = &mut self.lanes[token];
                    lane.max_in_flight = greeting.max_in_flight.max(1);
                    lane.state = LaneState::Open;
                }
                (Outcome::Failed(error), LaneState::Greeting) => {
                    let refused = ProtocolError::Refused {
                        what: "open a connection".to_owned(),
                        message: error.clone(),
                    };
                    return Err(refused.into());
                }
                _ => self.answered(token, &arrived, now_ns)?,
            }
        }
        self.arrivals = arrivals;
        Ok(())
    }

    fn answered(&mut self, token: Token, arrived: &Arrived, now_ns: u64) -> Result<(), LoadError> {
        let correlation = arrived.answer.correlation;
        let Some(pending) = self.lanes[token].under_way.remove(correlation) else {
            let text = format!("an answer to a request {correlation} that was not made");
            return Err(ProtocolError::Malformed(text).into());
        };
        let (lanes, protocol) = (&mut self.lanes[..], &mut *self.protocol);
        match lanes[token].owner {
            Owner::Paced => {
                if let Some(paced) = &mut self.paced {
                    let outcome = &arrived.answer.outcome;
                    paced.answered(pending, outcome, now_ns, &self.window);
                    paced.refill(lanes, protocol, token, now_ns);
                }
            }
            Owner::Fetching(number) => {
                if let Some(fetching) = self.fetching.get_mut(number) {
                    let (times, window) = (&self.times, &self.window);
                    fetching.answered(token, pending, arrived, times, now_ns, window);
                    fetching.refill(lanes, protocol, token, now_ns);
                }
                self.times.clear();
            }
        }
        Ok(())
    }

    /// What is not answered is done when it is with the kernel.
    fn sent(&mut self, token: Token) {
        let now_ns = self.now_ns();
        let sent = std::mem::take(&mut self.lanes[token].sending);
        if let Some(paced) = &mut self.paced
            && self.lanes[token].owner == Owner::Paced
        {
            for pending in &sent {
                paced.answered(*pending, &Outcome::Produced, now_ns, &self.window);
            }
            if !sent.is_empty() {
                paced.refill(&mut self.lanes, &mut *self.protocol, token, now_ns);
            }
        }
    }

    fn closed(&mut self, token: Token, reason: std::io::Result<()>) -> Result<(), LoadError> {
        self.lanes[token].state = LaneState::Closed;
        match reason {
            Err(error) => Err(LoadError::Lost(error.to_string())),
            Ok(()) => Err(LoadError::Lost("the broker closed it".to_owned())),
        }
    }

    /// Waits for what is under way, so that the slowest answers are not the ones left out; what is
    /// still not there then counts with the time that it has taken so far.
    fn drain(&mut self, patience: Duration) -> Result<(), LoadError> {
        let mut never_sent = Vec::new();
        if let Some(paced) = &mut self.paced {
            never_sent = paced.stop();
        }
        self.fetching.iter_mut().for_each(Fetching::stop);
        let end = Instant::now() + patience;
        let waits = |lane: &Lane| lane.owner == Owner::Paced && lane.load() > 0;
        while self.lanes.iter().any(waits) && Instant::now() < end {
            self.wait_for_answers(Duration::from_millis(1))?;
        }
        let now_ns = self.now_ns();
        let Some(paced) = &mut self.paced else {
            return Ok(());
        };
        let lanes = &self.lanes[paced.lanes.clone()];
        let unanswered = lanes.iter().flat_map(|lane| lane.under_way.iter());
        let dues = unanswered.map(|pending| pending.due_ns).chain(never_sent);
        for due_ns in dues.filter(|due_ns| self.window.contains(*due_ns)) {
            paced.recorder.record_late(now_ns - due_ns);
            paced.recorder.error("not answered by the end of the run");
        }
        Ok(())
    }

    fn finish(self, load: &Load) -> Vec<SeriesResult> {
        let asked = self.paced.map(|paced| {
            let plan = load.paced.as_ref();
            paced.recorder.finish(plan.and_then(Pacing::wanted_rate))
        });
        let fetched = self.fetching.into_iter().map(|f| f.recorder.finish(None));
        asked.into_iter().chain(fetched).collect()
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
