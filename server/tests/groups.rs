//! Groups on a simulated node: what was answered is there after a power cut, the members too, and the
//! log of it all stays short.

mod node;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use millrace_server::coordinator::api::*;
use millrace_server::coordinator::{GROUPS_TOPIC, partition_of};
use millrace_shard::env::simulated::{NodeId, SimulatedEnv, Simulation};
use millrace_shard::env::{Env, OnPanic, Queue};
use millrace_wire::error::{ErrorCode, WireError};
use millrace_wire::ids::{Offset, PartitionIndex};
use node::{Node, SimBroker};

const NODE: NodeId = NodeId(0);

async fn ask(
    broker: &SimBroker,
    group: &str,
    request: GroupRequest,
) -> Result<GroupAnswer, WireError> {
    loop {
        let call = GroupCall {
            group: group.into(),
            request: request.clone(),
        };
        match broker.group(call).await {
            Err(error) if error.code == ErrorCode::CoordinatorLoadInProgress => {
                broker.env.sleep(Duration::from_millis(1)).await;
            }
            other => return other,
        }
    }
}

fn offset(topic: &str, partition: u32, offset: i64) -> CommittedOffset {
    CommittedOffset {
        topic: topic.parse().expect("a name"),
        partition: PartitionIndex(partition),
        offset: Offset(offset),
        leader_epoch: 3,
        metadata: format!("at {offset}"),
    }
}

async fn commit(
    broker: &SimBroker,
    group: &str,
    member: Option<MemberIdentity>,
    offsets: Vec<CommittedOffset>,
) -> Result<(), WireError> {
    let request = GroupRequest::CommitOffsets(CommitOffsets { member, offsets });
    match ask(broker, group, request).await? {
        GroupAnswer::CommitOffsets(outcomes) => outcomes.into_iter().collect(),
        other => panic!("another answer: {other:?}"),
    }
}

async fn committed(broker: &SimBroker, group: &str) -> Vec<CommittedOffset> {
    let request = GroupRequest::FetchOffsets(FetchOffsets {
        member: None,
        partitions: None,
    });
    match ask(broker, group, request).await {
        Ok(GroupAnswer::FetchOffsets(mut offsets)) => {
            offsets.sort_by_key(|offset| (offset.topic.clone(), offset.partition));
            offsets
        }
        other => panic!("another answer: {other:?}"),
    }
}

fn join_request(member_id: &str) -> JoinGroup {
    JoinGroup {
        member_id: member_id.into(),
        instance_id: None,
        client_id: "c".into(),
        client_host: "/h".into(),
        protocol_type: "consumer".into(),
        protocols: vec![("range".into(), Bytes::from_static(b"anything"))],
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 30_000,
        initial_delay_ms: 0,
        needs_member_id: false,
        can_skip_assignment: false,
        assignor: Assignor::Leader,
    }
}

async fn join(broker: &SimBroker, group: &str, member_id: &str) -> (String, JoinedGroup) {
    match ask(broker, group, GroupRequest::Join(join_request(member_id))).await {
        Ok(GroupAnswer::Join(joined)) => (joined.member_id, joined.outcome.expect("it is in")),
        other => panic!("another answer: {other:?}"),
    }
}

fn identity(member_id: &str, generation: i32) -> MemberIdentity {
    MemberIdentity {
        member_id: member_id.into(),
        instance_id: None,
        generation,
    }
}

async fn sync(broker: &SimBroker, group: &str, member: MemberIdentity, given: &str) -> Bytes {
    let assignments = vec![(member.member_id.clone(), Bytes::from(given.to_owned()))];
    let request = GroupRequest::Sync(SyncGroup {
        member,
        protocol_type: None,
        protocol: None,
        assignments,
    });
    match ask(broker, group, request).await {
        Ok(GroupAnswer::Sync(synced)) => synced.assignment,
        other => panic!("another answer: {other:?}"),
    }
}

async fn heartbeat(broker: &SimBroker, group: &str, member: MemberIdentity) -> i16 {
    match ask(broker, group, GroupRequest::Heartbeat(member)).await {
        Ok(_) => 0,
        Err(error) => error.code as i16,
    }
}

/// One life of a node: what `work` does, and then the power goes.
fn life<F: Future<Output = ()> + 'static>(
    simulation: &Simulation,
    work: impl FnOnce(Node, SimulatedEnv) -> F + 'static,
) {
    drop(simulation.restart(NODE));
    simulation.run(|env| async move {
        let node = Node::start(&env, 2).await;
        work(node, env).await;
    });
    simulation.crash(NODE);
}

#[test]
fn what_was_committed_is_there_after_a_power_cut() {
    let simulation = Simulation::new(11);
    life(&simulation, |node, _| async move {
        node.connect(0).create_topic("t", 3, &[]).await;
        for (n, group) in ["a", "b", "c", "d"].into_iter().enumerate() {
            // Asked on one shard, coordinated on this one or the other.
            let broker = &node.brokers[n % 2];
            let offsets = vec![offset("t", 0, 5), offset("t", 2, n as i64)];
            commit(broker, group, None, offsets).await.expect("noted");
        }
    });
    life(&simulation, |node, _| async move {
        for (n, group) in ["a", "b", "c", "d"].into_iter().enumerate() {
            let expected = vec![offset("t", 0, 5), offset("t", 2, n as i64)];
            assert_eq!(committed(&node.brokers[0], group).await, expected);
        }
        assert!(committed(&node.brokers[0], "nobody").await.is_empty());
        let listed = node.brokers[1].list_groups().await.expect("listed");
        let names: Vec<&str> = listed.iter().map(|group| group.group.as_str()).collect();
        assert_eq!(names, ["a", "b", "c", "d"]);
        let delete = ask(&node.brokers[1], "b", GroupRequest::Delete).await;
        delete.expect("it has no members");
    });
    life(&simulation, |node, _| async move {
        assert!(committed(&node.brokers[0], "b").await.is_empty());
        let gone = ask(&node.brokers[0], "b", GroupRequest::Delete).await;
        assert_eq!(gone.expect_err("gone").code, ErrorCode::GroupIdNotFound);
        assert_eq!(committed(&node.brokers[1], "c").await.len(), 2);
        // With the topic go the offsets.
        node.connect(0).delete_topic("t").await;
        assert!(committed(&node.brokers[1], "c").await.is_empty());
    });
}

#[test]
fn members_are_still_in_their_group_after_a_power_cut() {
    let simulation = Simulation::new(12);
    let told: Rc<RefCell<String>> = Rc::default();
    let id = Rc::clone(&told);
    life(&simulation, |node, _| async move {
        let (member, group) = join(&node.brokers[0], "g", "").await;
        assert_eq!((group.generation, &group.leader), (1, &member));
        let assignment = sync(&node.brokers[1], "g", identity(&member, 1), "mine").await;
        assert_eq!(assignment, "mine");
        *id.borrow_mut() = member;
    });
    life(&simulation, |node, env| async move {
        let member = told.borrow().clone();
        let broker = &node.brokers[1];
        assert_eq!(heartbeat(broker, "g", identity(&member, 1)).await, 0);
        let assignment = sync(broker, "g", identity(&member, 1), "other").await;
        assert_eq!(assignment, "mine");
        let committed = commit(broker, "g", Some(identity(&member, 1)), vec![]).await;
        committed.expect("it is a member");
        // A zombie of an older generation.
        let stale = commit(
            broker,
            "g",
            Some(identity(&member, 0)),
            vec![offset("t", 0, 1)],
        );
        let error = stale.await.expect_err("refused");
        assert_eq!(error.code, ErrorCode::IllegalGeneration);
        env.sleep(Duration::from_secs(11)).await;
        assert_eq!(
            heartbeat(broker, "g", identity(&member, 1)).await,
            ErrorCode::UnknownMemberId as i16
        );
    });
}

#[test]
fn the_log_is_kept_short_and_nothing_is_lost_by_it() {
    const ROUNDS: i64 = 150;
    let simulation = Simulation::new(13);
    let text = "x".repeat(4000);
    let long = move |partition: u32, at: i64| CommittedOffset {
        metadata: text.clone(),
        ..offset("t", partition, at)
    };
    let again = long.clone();
    life(&simulation, |node, _| async move {
        let broker = &node.brokers[0];
        node.connect(0).create_topic("t", 20, &[]).await;
        commit(broker, "quiet", None, vec![offset("t", 7, 7)])
            .await
            .expect("noted");
        for round in 0..ROUNDS {
            let offsets = (0..20).map(|partition| long(partition, round)).collect();
            commit(broker, "busy", None, offsets).await.expect("noted");
        }
    });
    life(&simulation, |node, env| async move {
        let topic = node.brokers[0].topic(GROUPS_TOPIC).expect("it is there");
        let index = partition_of("busy", topic.topic.partitions);
        let id = topic.partition(index.0).expect("it is there");
        let owner = node.brokers[0].owner(id);
        let storage = node.brokers[usize::from(owner.0)].storage();
        let partition = storage.partition(id).expect("it is hosted");
        assert!(
            partition.watermarks().log_start > Offset(0),
            "nothing was dropped"
        );
        let expected: Vec<_> = (0..20).map(|p| again(p, ROUNDS - 1)).collect();
        assert_eq!(committed(&node.brokers[1], "busy").await, expected);
        assert_eq!(
            committed(&node.brokers[1], "quiet").await,
            [offset("t", 7, 7)]
        );
        drop(env);
    });
}

#[test]
fn whoever_waits_when_the_broker_stops_is_told() {
    let simulation = Simulation::new(14);
    life(&simulation, |node, env| async move {
        let (member, _) = join(&node.brokers[0], "g", "").await;
        sync(&node.brokers[0], "g", identity(&member, 1), "mine").await;
        let broker = Rc::clone(&node.brokers[1]);
        let waiting = env.spawn(Queue::Requests, "join", OnPanic::StopProcess, async move {
            let request = GroupRequest::Join(join_request(""));
            ask(&broker, "g", request).await
        });
        env.sleep(Duration::from_millis(100)).await;
        node.stop().await;
        let error = waiting.await.expect("it ran").expect_err("it stopped");
        assert!(
            [ErrorCode::NotCoordinator, ErrorCode::ShuttingDown].contains(&error.code),
            "{error}"
        );
    });
}

#[test]
fn nobody_else_writes_to_the_log_of_groups() {
    let simulation = Simulation::new(15);
    life(&simulation, |node, _| async move {
        commit(&node.brokers[0], "g", None, vec![offset("t", 0, 1)])
            .await
            .expect("noted");
        let mut connection = node.connect(0);
        let placed = connection
            .produce(GROUPS_TOPIC, 0, node::batch(&["forged"]))
            .await;
        assert_eq!(placed.status.code, ErrorCode::InvalidTopic as i16);
        let deleted = connection.delete_topic(GROUPS_TOPIC).await;
        assert_eq!(deleted.code, ErrorCode::InvalidTopic as i16);
    });
}
