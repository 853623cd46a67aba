//! Groups and their members, without I/O: first members join, until every group stands still; then
//! they ask what is measured; in the end they leave, and the groups are forgotten.

use bytes::Bytes;
use millrace_wire::native::Request;

use super::connection::Pending;
use super::engine::Lane;
use crate::protocol::native_groups::{self, Writer};
use crate::protocol::{GroupOutcome, Outcome, Place, ProtocolError};

/// What is asked of the coordinators, again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupCalls {
    /// To note how far a group has come in all partitions. Each connection has a group of its own,
    /// without members.
    Commits,
    /// To know that a member is still there.
    Heartbeats {
        /// Members, of all groups together.
        members: usize,
        /// Members of one group.
        group_size: usize,
    },
}

/// Groups.
#[derive(Clone, Debug)]
pub struct GroupPlan {
    /// What is asked.
    pub calls: GroupCalls,
    /// Groups are called this, a hyphen and a number.
    pub prefix: String,
}

/// Most members that share a connection. A join waits for the other members' with a place among the
/// connection's requests under way, of which a broker allows 64 if nothing else is set: with more
/// members of one group than that, the ones that are waited for could not come.
pub const MOST_MEMBERS_OF_CONNECTION: usize = 48;

/// How often a member of a group that does not stand still yet asks whether it has to join again, if
/// there are few.
const PROBE_NS: u64 = 100_000_000;

/// With many members, this times their number: otherwise a broker would have no time left for those that
/// join.
const PROBE_NS_FOR_EACH: u64 = 300_000;

/// How often one of a group that does says that it is there while others are waited for.
const WAITING_NS: u64 = 3_000_000_000;

/// How groups end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parting {
    /// Their members leave.
    Leave,
    /// They are forgotten.
    Delete,
}

/// What a group's requests are for at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Settling,
    Measured,
    Parting,
}

/// Where a member stands while its group settles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It has to join.
    Outside,
    /// A generation has begun, in which it has to ask for its partitions.
    Joined,
    /// It has its partitions.
    In,
    /// It waits for an answer.
    Waiting(Asked),
    /// It has to ask this again, in a while.
    Later(Asked),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Join,
    Sync,
    Heartbeat,
}

struct Member {
    group: usize,
    /// Its connection.
    lane: usize,
    id: String,
    generation: i32,
    standing: Standing,
    /// When it last asked something.
    asked_ns: u64,
}

#[derive(Default)]
struct Group {
    name: String,
    size: usize,
    /// The newest generation that a member has its partitions in, and how many have.
    generation: i32,
    settled: usize,
}

impl Group {
    fn stands_still(&self) -> bool {
        self.settled == self.size
    }

    /// One more member has its partitions in this generation.
    fn has_its_partitions(&mut self, generation: i32) {
        if generation > self.generation {
            self.generation = generation;
            self.settled = 0;
        }
        if generation == self.generation {
            self.settled += 1;
        }
    }
}

/// Groups at work.
pub(super) struct Grouping {
    calls: GroupCalls,
    stage: Stage,
    writer: Writer,
    topics: Vec<String>,
    places: Vec<Place>,
    groups: Vec<Group>,
    members: Vec<Member>,
    /// By lane: its members, and whose turn it is.
    by_lane: Vec<(Vec<u32>, usize)>,
    /// By lane: how far its group has come.
    offsets: Vec<i64>,
    refused: Option<String>,
}

impl Grouping {
    pub(super) fn new(
        plan: &GroupPlan,
        lanes: usize,
        topics: &[String],
        places: &[Place],
    ) -> Grouping {
        let mut groups = Vec::new();
        let mut members: Vec<Member> = Vec::new();
        let mut by_lane = vec![(Vec::new(), 0); lanes];
        let (count, group_size) = match plan.calls {
            GroupCalls::Commits => (0, 0),
            GroupCalls::Heartbeats {
                members,
                group_size,
            } => (members, group_size.max(1)),
        };
        for number in 0..count {
            let lane = number % lanes;
            by_lane[lane]
                .0
                .push(u32::try_from(number).expect("far fewer members"));
            members.push(Member {
                group: number / group_size,
                lane,
                id: String::new(),
                generation: -1,
                standing: Standing::Outside,
                asked_ns: 0,
            });
        }
        let group_count = match plan.calls {
            GroupCalls::Commits => lanes,
            GroupCalls::Heartbeats { .. } => count.div_ceil(group_size),
        };
        for number in 0..group_count {
            groups.push(Group {
                name: format!("{}-{number}", plan.prefix),
                generation: -1,
                ..Group::default()
            });
        }
        for member in &members {
            groups[member.group].size += 1;
        }
        Grouping {
            calls: plan.calls,
            stage: Stage::Settling,
            writer: Writer::default(),
            topics: topics.to_vec(),
            places: places.to_vec(),
            groups,
            members,
            by_lane,
            offsets: vec![0; lanes],
            refused: None,
        }
    }

    /// Whether what is answered now is what is measured.
    pub(super) fn is_measured(&self) -> bool {
        self.stage == Stage::Measured
    }

    /// Lets members do what brings their groups to a standstill. Tells whether all stand still.
    pub(super) fn settle(
        &mut self,
        lanes: &mut [Lane],
        now_ns: u64,
    ) -> Result<bool, ProtocolError> {
        if let Some(message) = self.refused.take() {
            return Err(ProtocolError::Refused {
                what: "let a member into its group".to_owned(),
                message,
            });
        }
        if self.groups.iter().all(Group::stands_still) {
            self.stage = Stage::Measured;
            return Ok(true);
        }
        for number in 0..self.members.len() {
            if let Some(asked) = self.next_question(number, now_ns) {
                self.ask(lanes, number, asked, now_ns);
            }
        }
        Ok(false)
    }

    fn next_question(&self, number: usize, now_ns: u64) -> Option<Asked> {
        let member = &self.members[number];
        let is_due = |every_ns| now_ns.saturating_sub(member.asked_ns) >= every_ns;
        match member.standing {
            Standing::Outside => Some(Asked::Join),
            Standing::Joined => Some(Asked::Sync),
            Standing::Waiting(_) => None,
            Standing::Later(asked) => is_due(PROBE_NS).then_some(asked),
            Standing::In => {
                let every_ns = match self.groups[member.group].stands_still() {
                    true => WAITING_NS,
                    false => PROBE_NS.max(PROBE_NS_FOR_EACH * self.members.len() as u64),
                };
                is_due(every_ns).then_some(Asked::Heartbeat)
            }
        }
    }

    fn ask(&mut self, lanes: &mut [Lane], number: usize, asked: Asked, now_ns: u64) {
        let member = &mut self.members[number];
        let lane = &mut lanes[member.lane];
        if lane.under_way.len() >= lane.max_in_flight as usize {
            return;
        }
        member.standing = Standing::Waiting(asked);
        member.asked_ns = now_ns;
        let group = &self.groups[member.group].name;
        let request = match asked {
            Asked::Join => native_groups::join(group, &member.id, &self.topics),
            Asked::Sync => native_groups::sync(group, &member.id, member.generation),
            Asked::Heartbeat => native_groups::heartbeat(group, &member.id, member.generation),
        };
        push(&mut self.writer, lane, request, now_ns, Some(number));
    }

    /// What became of a request that is not measured.
    pub(super) fn answered(&mut self, pending: Pending, outcome: &Outcome) {
        let Some(member) = pending.member.filter(|_| self.stage == Stage::Settling) else {
            // Groups that could not be left or forgotten expire; nobody measures them any more.
            return;
        };
        let member = &mut self.members[member as usize];
        let Standing::Waiting(asked) = member.standing else {
            return;
        };
        let group = &mut self.groups[member.group];
        match outcome {
            Outcome::Group(GroupOutcome::IdGiven(id)) => {
                member.id.clone_from(id);
                member.standing = Standing::Outside;
            }
            Outcome::Group(GroupOutcome::Joined { id, generation }) => {
                member.id.clone_from(id);
                member.generation = *generation;
                member.standing = Standing::Joined;
            }
            Outcome::Group(GroupOutcome::Rebalancing) => {
                if asked == Asked::Heartbeat && member.generation == group.generation {
                    group.settled -= 1;
                }
                member.standing = Standing::Outside;
            }
            Outcome::Group(GroupOutcome::Done) => {
                member.standing = Standing::In;
                if asked == Asked::Sync {
                    group.has_its_partitions(member.generation);
                }
            }
            Outcome::Group(GroupOutcome::NotYet) => member.standing = Standing::Later(asked),
            other => {
                let unexpected = || "an answer to something else".to_owned();
                self.refused = Some(other.failure().map_or_else(unexpected, str::to_owned));
                member.standing = Standing::In;
            }
        }
    }

    /// Sends what is measured: the next of a lane.
    pub(super) fn send(&mut self, lane: &mut Lane, place: usize, due_ns: u64) {
        let (request, number) = match self.calls {
            GroupCalls::Commits => {
                let offset = &mut self.offsets[place];
                *offset += 1;
                let group = &self.groups[place].name;
                let request = native_groups::commit(group, &self.topics, &self.places, *offset);
                (request, None)
            }
            GroupCalls::Heartbeats { .. } => {
                let (members, turn) = &mut self.by_lane[place];
                let number = members[*turn] as usize;
                *turn = (*turn + 1) % members.len();
                let member = &self.members[number];
                let group = &self.groups[member.group].name;
                let request = native_groups::heartbeat(group, &member.id, member.generation);
                (request, Some(number))
            }
        };
        push(&mut self.writer, lane, request, due_ns, number);
    }

    /// Asks for an end of all groups. What is answered does not matter.
    pub(super) fn part(&mut self, lanes: &mut [Lane], parting: Parting) {
        self.stage = Stage::Parting;
        for number in 0..self.groups.len() {
            let group = &self.groups[number].name;
            let request = match parting {
                Parting::Delete => native_groups::delete(group),
                Parting::Leave => {
                    let members = self.members.iter().filter(|member| member.group == number);
                    let ids: Vec<&str> = members.map(|member| &*member.id).collect();
                    if ids.is_empty() {
                        continue;
                    }
                    native_groups::leave(group, &ids)
                }
            };
            let lane = &mut lanes[number % lanes.len()];
            push(&mut self.writer, lane, request, 0, None);
        }
    }
}

/// Adds a request to what a lane sends.
fn push(
    writer: &mut Writer,
    lane: &mut Lane,
    request: Request,
    due_ns: u64,
    member: Option<usize>,
) {
    let correlation = lane.under_way.insert(Pending {
        due_ns,
        records: 1,
        bytes: 0,
        member: member.map(|number| u32::try_from(number).expect("far fewer members")),
    });
    lane.head.clear();
    writer.write(correlation, &request, &mut lane.head);
    lane.outgoing.push(&lane.head, &Bytes::new(), &[]);
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: GroupCalls = GroupCalls::Heartbeats {
        members: 3,
        group_size: 3,
    };

    fn grouping() -> Grouping {
        let plan = GroupPlan {
            calls: PLAN,
            prefix: "g".to_owned(),
        };
        Grouping::new(&plan, 2, &["t".to_owned()], &[])
    }

    /// What members of the group are asking.
    fn asking(grouping: &Grouping) -> Vec<Standing> {
        let members = grouping.members.iter();
        members.map(|member| member.standing).collect()
    }

    fn answer(grouping: &mut Grouping, member: u32, outcome: GroupOutcome) {
        let pending = Pending {
            due_ns: 0,
            records: 1,
            bytes: 0,
            member: Some(member),
        };
        grouping.answered(pending, &Outcome::Group(outcome));
    }

    fn joined(generation: i32) -> GroupOutcome {
        GroupOutcome::Joined {
            id: "id".to_owned(),
            generation,
        }
    }

    #[test]
    fn a_group_stands_still_when_all_have_partitions_in_one_generation() {
        let mut grouping = grouping();
        let mut lanes = [Lane::for_tests(), Lane::for_tests()];
        assert!(!grouping.settle(&mut lanes, 1).unwrap());
        assert_eq!(asking(&grouping), [Standing::Waiting(Asked::Join); 3]);
        // The first comes alone into a generation, which the others end.
        answer(&mut grouping, 0, joined(1));
        answer(&mut grouping, 1, GroupOutcome::IdGiven("b".to_owned()));
        assert!(!grouping.settle(&mut lanes, 2).unwrap());
        answer(&mut grouping, 0, GroupOutcome::Done);
        assert_eq!(grouping.groups[0].settled, 1);
        assert!(!grouping.settle(&mut lanes, 2 + PROBE_NS).unwrap());
        assert_eq!(
            grouping.members[0].standing,
            Standing::Waiting(Asked::Heartbeat)
        );
        answer(&mut grouping, 0, GroupOutcome::Rebalancing);
        assert_eq!(grouping.groups[0].settled, 0);
        assert!(!grouping.settle(&mut lanes, 3 + PROBE_NS).unwrap());
        for member in 0..3 {
            answer(&mut grouping, member, joined(2));
        }
        assert!(!grouping.settle(&mut lanes, 4 + PROBE_NS).unwrap());
        assert_eq!(asking(&grouping), [Standing::Waiting(Asked::Sync); 3]);
        for member in 0..3 {
            assert!(!grouping.settle(&mut lanes, 5 + PROBE_NS).unwrap());
            answer(&mut grouping, member, GroupOutcome::Done);
        }
        assert!(!grouping.is_measured());
        assert!(grouping.settle(&mut lanes, 6 + PROBE_NS).unwrap());
        assert!(grouping.is_measured());
    }

    #[test]
    fn a_member_asks_again_whoever_does_not_serve_yet() {
        let mut grouping = grouping();
        let mut lanes = [Lane::for_tests(), Lane::for_tests()];
        assert!(!grouping.settle(&mut lanes, 1).unwrap());
        answer(&mut grouping, 0, GroupOutcome::NotYet);
        assert!(!grouping.settle(&mut lanes, PROBE_NS).unwrap());
        assert_eq!(asking(&grouping)[0], Standing::Later(Asked::Join));
        assert!(!grouping.settle(&mut lanes, 1 + PROBE_NS).unwrap());
        assert_eq!(asking(&grouping)[0], Standing::Waiting(Asked::Join));
    }

    #[test]
    fn a_member_that_is_refused_ends_it() {
        let mut grouping = grouping();
        let mut lanes = [Lane::for_tests(), Lane::for_tests()];
        assert!(!grouping.settle(&mut lanes, 1).unwrap());
        let pending = lanes[0].under_way.iter().next().unwrap();
        grouping.answered(pending, &Outcome::Failed("full".to_owned()));
        let error = grouping.settle(&mut lanes, 2).unwrap_err().to_string();
        assert!(error.contains("full"), "{error}");
    }

    #[test]
    fn members_take_turns_on_their_lane() {
        let mut grouping = grouping();
        let mut lane = Lane::for_tests();
        for _ in 0..3 {
            grouping.send(&mut lane, 0, 9);
        }
        let members: Vec<Option<u32>> = lane.under_way.iter().map(|asked| asked.member).collect();
        assert_eq!(members, [Some(0), Some(2), Some(0)]);
    }
}
