//! Members that do anything at any time: no request is answered twice or left waiting for ever, no
//! two members are in one generation with different leaders, and after calm everybody who stays is
//! in the group and assigned.

use hashbrown::HashMap;
use proptest::prelude::*;

use super::*;
use crate::coordinator::api::{GroupAnswer, GroupState, JoinGroup};
use crate::coordinator::group::Token;

#[derive(Clone, Debug)]
enum Step {
    Join(usize),
    Sync(usize),
    Heartbeat(usize),
    Leave(usize),
    Commit(usize),
    Pass(u64),
    Restart,
}

const MEMBERS: usize = 5;

fn step() -> impl Strategy<Value = Step> {
    let member = 0..MEMBERS;
    prop_oneof![
        4 => member.clone().prop_map(Step::Join),
        3 => member.clone().prop_map(Step::Sync),
        2 => member.clone().prop_map(Step::Heartbeat),
        1 => member.clone().prop_map(Step::Leave),
        1 => member.prop_map(Step::Commit),
        3 => (1_u64..12_000).prop_map(Step::Pass),
        1 => Just(Step::Restart),
    ]
}

/// A client: what it believes.
#[derive(Clone, Debug, Default)]
struct Client {
    id: String,
    generation: i32,
    leader: String,
    members: Vec<String>,
    joining: Option<Token>,
    syncing: Option<Token>,
}

struct World {
    driver: Driver,
    clients: Vec<Client>,
    kinds: [u8; MEMBERS],
    ids: u32,
    leaders: HashMap<i32, String>,
}

impl World {
    fn request(&self, client: usize) -> JoinGroup {
        let id = self.clients[client].id.clone();
        match self.kinds[client] {
            0 => consumer(&id),
            1 => native(&id),
            2 => JoinGroup {
                member_id: id,
                ..fixed(&format!("i{client}"))
            },
            _ => JoinGroup {
                needs_member_id: true,
                initial_delay_ms: 500,
                ..consumer(&id)
            },
        }
    }

    fn join(&mut self, client: usize) {
        self.ids += 1;
        let request = self.request(client);
        let token = self
            .driver
            .join(&request, &format!("m{client}-{}", self.ids));
        self.clients[client].joining = Some(token);
    }

    fn sync(&mut self, client: usize) {
        let Client {
            id,
            generation,
            leader,
            members,
            ..
        } = self.clients[client].clone();
        let assignments: Vec<(&str, &str)> = match id == leader {
            true => members
                .iter()
                .map(|id| (id.as_str(), id.as_str()))
                .collect(),
            false => Vec::new(),
        };
        let token = self.driver.sync(identity(&id, generation), &assignments);
        self.clients[client].syncing = Some(token);
    }

    /// Clients read what was answered.
    fn read(&mut self) {
        for client in 0..MEMBERS {
            if let Some(token) = self.clients[client].joining
                && let Some(answer) = self.driver.answer(token)
            {
                self.clients[client].joining = None;
                self.joined(client, answer);
            }
            if let Some(token) = self.clients[client].syncing
                && let Some(answer) = self.driver.answer(token)
            {
                self.clients[client].syncing = None;
                if answer.is_err_and(|error| error.code == ErrorCode::UnknownMemberId) {
                    self.clients[client] = Client::default();
                }
            }
        }
    }

    fn joined(&mut self, client: usize, answer: Outcome) {
        let Ok(GroupAnswer::Join(joined)) = answer else {
            panic!("a join is answered as one");
        };
        let this = &mut self.clients[client];
        match joined.outcome {
            Ok(group) => {
                this.id = joined.member_id;
                this.generation = group.generation;
                this.leader = group.leader.clone();
                this.members = group.members.into_iter().map(|m| m.member_id).collect();
                if !group.skip_assignment && !this.members.is_empty() {
                    // Whoever is to assign is the only one of its generation.
                    let before = self.leaders.insert(group.generation, this.id.clone());
                    let same = before.is_none_or(|leader| leader == this.id);
                    assert!(same, "two leaders in generation {}", group.generation);
                }
            }
            Err(error) if error.code == ErrorCode::MemberIdRequired => this.id = joined.member_id,
            Err(_) => *this = Client::default(),
        }
    }

    fn act(&mut self, step: &Step) {
        match *step {
            Step::Join(client) => self.join(client),
            Step::Sync(client) => self.sync(client),
            Step::Heartbeat(client) => {
                let Client { id, generation, .. } = self.clients[client].clone();
                self.driver.heartbeat(&id, generation);
            }
            Step::Leave(client) => {
                let id = self.clients[client].id.clone();
                self.driver.leave(&id, None);
                self.read();
                self.clients[client] = Client::default();
            }
            Step::Commit(client) => {
                let Client { id, generation, .. } = self.clients[client].clone();
                let member = (generation > 0).then(|| identity(&id, generation));
                self.driver.commit(member, 1);
            }
            Step::Pass(ms) => self.driver.pass(ms),
            Step::Restart => self.restart(),
        }
        self.read();
        self.check();
    }

    /// Every connection breaks, and the group is what was written down when it was stable last.
    fn restart(&mut self) {
        if self.driver.group.state() != GroupState::Stable {
            return;
        }
        let value = self.driver.group.value();
        let mut fresh = Driver::new();
        fresh.now = self.driver.now;
        fresh.group.load(value, fresh.now);
        fresh.group.loaded(fresh.now);
        for client in &mut self.clients {
            (client.joining, client.syncing) = (None, None);
        }
        self.driver = fresh;
    }

    fn check(&self) {
        let group = &self.driver.group;
        let waiting = group.members.values().filter(|m| m.joining.is_some());
        assert_eq!(group.joining, waiting.count());
        for (instance, id) in &group.instances {
            let member = &group.members[id];
            assert_eq!(member.instance_id.as_ref(), Some(instance));
        }
        let is_empty = group.members.is_empty();
        assert!(is_empty || group.state() != GroupState::Empty);
        assert!(
            !is_empty
                || matches!(
                    group.state(),
                    GroupState::Empty | GroupState::PreparingRebalance
                )
        );
        for member in group.members.values() {
            assert!(
                member.looked_at <= member.deadline,
                "{member:?} is forgotten"
            );
        }
    }

    /// Everybody does what a good client does, for long enough.
    fn calm_down(&mut self) {
        for _ in 0..60 {
            for client in 0..MEMBERS {
                let this = self.clients[client].clone();
                if this.joining.is_some() || this.syncing.is_some() {
                    continue;
                }
                if this.id.is_empty() || this.generation == 0 {
                    self.join(client);
                    self.read();
                    continue;
                }
                match self.driver.heartbeat(&this.id, this.generation) {
                    0 if self.driver.group.members[this.id.as_str()].synced => {}
                    0 => self.sync(client),
                    27 => self.join(client),
                    _ => {
                        self.clients[client] = Client::default();
                        self.join(client);
                    }
                }
                self.read();
            }
            self.driver.pass(3_000);
            self.read();
            self.check();
        }
        assert_eq!(self.driver.group.state(), GroupState::Stable);
        assert_eq!(self.driver.group.members.len(), MEMBERS);
        for client in &self.clients {
            assert!(
                client.joining.is_none() && client.syncing.is_none(),
                "{client:?} waits"
            );
            assert_eq!(self.driver.group.generation, client.generation);
        }
        for member in self.driver.group.members.values() {
            assert!(!member.assignment.is_empty(), "{member:?} has nothing");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn whatever_members_do_the_group_recovers(
        kinds in prop::array::uniform5(0_u8..4),
        steps in prop::collection::vec(step(), 0..120),
    ) {
        let mut world = World {
            driver: Driver::new(),
            clients: vec![Client::default(); MEMBERS],
            kinds,
            ids: 0,
            leaders: HashMap::new(),
        };
        for step in &steps {
            world.act(step);
        }
        world.calm_down();
    }
}
