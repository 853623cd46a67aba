//! Groups through the native protocol, on two shards without sockets: members join, share, commit and
//! leave, and what is asked about a group is answered, in both formats and from any shard.

mod node;

use std::time::Duration;

use millrace_server::coordinator::settings::GroupSettings;
use millrace_shard::env::Env;
use millrace_shard::env::simulated::Simulation;
use millrace_wire::error::ErrorCode;
use millrace_wire::frame::Format;
use millrace_wire::native::messages::*;
use millrace_wire::native::{Request, Response};
use node::{Connection, Node, code, run_two_shards as run};

/// Asks, and takes the answer of the right kind.
macro_rules! ask {
    ($connection:expr, $kind:ident, $request:expr) => {
        match $connection.ask($request).await.0 {
            Response::$kind(answer) => answer,
            other => panic!("{other:?}"),
        }
    };
}

fn join(member_id: &str) -> JoinGroupRequest {
    JoinGroupRequest {
        group: "g".into(),
        member_id: member_id.into(),
        topics: vec!["t".into()],
        owned_generation: -1,
        assignors: vec!["cooperative-sticky".into(), "range".into()],
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        ..JoinGroupRequest::default()
    }
}

fn sync(member: &GroupMember) -> SyncGroupRequest {
    SyncGroupRequest {
        group: "g".into(),
        member: member.clone(),
        assignor: "cooperative-sticky".into(),
    }
}

fn topic(name: &str, partitions: &[u32]) -> GroupTopic {
    GroupTopic {
        name: name.into(),
        partitions: partitions.to_vec(),
    }
}

fn commit(member: Option<&GroupMember>, places: &[(&str, u32, i64)]) -> CommitOffsetsRequest {
    let topics = places.iter().map(|(name, partition, offset)| CommitTopic {
        name: (*name).into(),
        partitions: vec![CommitPartition {
            partition: *partition,
            offset: *offset,
            leader_epoch: 3,
            metadata: format!("at {offset}"),
        }],
    });
    CommitOffsetsRequest {
        group: "g".into(),
        member: member.cloned(),
        topics: topics.collect(),
    }
}

fn fetch(partitions: Option<Vec<GroupTopic>>) -> FetchOffsetsRequest {
    FetchOffsetsRequest {
        group: "g".into(),
        member: None,
        partitions: partitions.map(|topics| PartitionList { topics }),
    }
}

/// Joins an empty group as its only member.
async fn only_member(connection: &mut Connection) -> GroupMember {
    let told = ask!(connection, JoinGroup, join(""));
    assert_eq!(code(&told.status), Some(ErrorCode::MemberIdRequired));
    let joined = ask!(connection, JoinGroup, join(&told.member_id));
    assert_eq!(joined.status, Status::ok());
    assert_eq!(joined.assignor, "cooperative-sticky");
    assert_eq!(
        (&joined.member_id, &joined.leader),
        (&told.member_id, &told.member_id)
    );
    GroupMember {
        member_id: joined.member_id,
        instance_id: None,
        generation: joined.generation,
    }
}

#[test]
fn a_member_lives_its_life_in_both_formats() {
    for format in Format::ALL {
        run(move |_, node| async move {
            let mut connection = node.connect(0);
            let mut other = node.connect(1);
            connection.format = format;
            connection.create_topic("t", 3, &[]).await;
            let member = only_member(&mut connection).await;
            let synced = ask!(connection, SyncGroup, sync(&member));
            assert_eq!(synced.assignment, [topic("t", &[0, 1, 2])]);

            let request = commit(Some(&member), &[("t", 1, 7), ("t", 9, 1), ("none", 0, 1)]);
            let told = ask!(connection, CommitOffsets, request);
            assert_eq!(told.status, Status::ok());
            let codes: Vec<_> = told
                .topics
                .iter()
                .map(|t| code(&t.partitions[0].status))
                .collect();
            let unknown = Some(ErrorCode::UnknownTopicOrPartition);
            assert_eq!(codes, [None, unknown, unknown]);

            // From another shard.
            let wanted = vec![topic("t", &[0, 1, 1]), topic("no/name", &[0])];
            let told = ask!(other, FetchOffsets, fetch(Some(wanted)));
            let partitions = &told.topics[0].partitions;
            let offsets: Vec<i64> = partitions.iter().map(|p| p.offset).collect();
            assert_eq!(offsets, [-1, 7, 7]);
            assert_eq!(
                (partitions[1].leader_epoch, &*partitions[1].metadata),
                (3, "at 7")
            );
            let bad = &told.topics[1].partitions[0];
            assert_eq!(code(&bad.status), Some(ErrorCode::InvalidTopic));
            let all = ask!(other, FetchOffsets, fetch(None));
            assert_eq!(all.topics.len(), 1);
            assert_eq!(all.topics[0].partitions, [partitions[1].clone()]);

            let described = ask!(
                other,
                DescribeGroup,
                DescribeGroupRequest { group: "g".into() }
            );
            assert_eq!(
                (&*described.state, &*described.protocol_type),
                ("Stable", "consumer")
            );
            assert_eq!(described.generation, member.generation);
            let one = &described.members[0];
            assert_eq!(
                (&*one.client_id, &*one.client_host),
                ("a-test", "/127.0.0.1")
            );
            assert_eq!(one.topics, ["t"]);
            assert_eq!(one.assignment, [topic("t", &[0, 1, 2])]);
            let listed = ask!(other, ListGroups, ListGroupsRequest {});
            assert_eq!(listed.groups[0].group, "g");
            assert_eq!(listed.groups[0].state, "Stable");

            let delete = || DeleteGroupRequest { group: "g".into() };
            let refused = ask!(other, DeleteGroup, delete());
            assert_eq!(code(&refused.status), Some(ErrorCode::NonEmptyGroup));
            let forget = DeleteOffsetsRequest {
                group: "g".into(),
                topics: vec![topic("t", &[1])],
            };
            let refused = ask!(other, DeleteOffsets, forget.clone());
            let status = &refused.topics[0].partitions[0].status;
            assert_eq!(code(status), Some(ErrorCode::GroupSubscribedToTopic));

            let leave = LeaveGroupRequest {
                group: "g".into(),
                members: vec![
                    LeavingMember {
                        member_id: member.member_id.clone(),
                        instance_id: None,
                    },
                    LeavingMember {
                        member_id: "nobody".into(),
                        instance_id: None,
                    },
                ],
            };
            let left = ask!(connection, LeaveGroup, leave);
            let codes: Vec<_> = left.members.iter().map(|m| code(&m.status)).collect();
            assert_eq!(codes, [None, Some(ErrorCode::UnknownMemberId)]);
            let beat = HeartbeatRequest {
                group: "g".into(),
                member,
            };
            let beaten = ask!(connection, Heartbeat, beat);
            assert_eq!(code(&beaten.status), Some(ErrorCode::UnknownMemberId));
            let gone = ask!(other, DeleteOffsets, forget);
            assert_eq!(gone.topics[0].partitions[0].status, Status::ok());
            let none = ask!(other, FetchOffsets, fetch(None));
            assert!(none.topics.is_empty());
            assert_eq!(ask!(other, DeleteGroup, delete()).status, Status::ok());
            let described = ask!(
                other,
                DescribeGroup,
                DescribeGroupRequest { group: "g".into() }
            );
            assert_eq!((&*described.state, described.members.len()), ("Dead", 0));
            node.stop().await;
        });
    }
}

#[test]
fn an_empty_group_waits_for_more_members_as_long_as_is_set() {
    for delay_ms in [0, 100, 2_500] {
        let groups = GroupSettings {
            native_initial_delay_ms: delay_ms,
            ..GroupSettings::default()
        };
        Simulation::new(1).run(|env| async move {
            let node = Node::start_with(&env, 2, None, groups).await;
            let mut connection = node.connect(0);
            connection.create_topic("t", 1, &[]).await;
            // Makes the topic that groups are kept in.
            ask!(connection, FetchOffsets, fetch(None));
            let before = env.now();
            only_member(&mut connection).await;
            let waited_ms = env.now().since(before).as_millis();
            let delay_ms = u128::from(delay_ms);
            assert!(
                (delay_ms..delay_ms + 50).contains(&waited_ms),
                "{waited_ms}"
            );
            node.stop().await;
        });
    }
}

#[test]
fn who_waits_for_others_holds_nobody_up_and_is_not_cut_off() {
    run(|env, node| async move {
        let mut connection = node.connect(0);
        connection.create_topic("t", 2, &[]).await;
        let first = only_member(&mut connection).await;
        ask!(connection, SyncGroup, sync(&first));
        let mut other = node.connect(0);
        let told = ask!(other, JoinGroup, join(""));
        let waiting = other.send(join(&told.member_id), &[]).await;
        // For as long as the first one takes, which is heard of all the while.
        for _ in 0..10 {
            env.sleep(Duration::from_secs(5)).await;
            let pong = other.ask(PingRequest {}).await.0;
            assert!(matches!(pong, Response::Ping(_)), "{pong:?}");
            let beat = HeartbeatRequest {
                group: "g".into(),
                member: first.clone(),
            };
            let beaten = ask!(connection, Heartbeat, beat);
            assert_eq!(code(&beaten.status), Some(ErrorCode::RebalanceInProgress));
        }
        let again = JoinGroupRequest {
            owned: vec![topic("t", &[0, 1])],
            owned_generation: first.generation,
            ..join(&first.member_id)
        };
        let joined = ask!(connection, JoinGroup, again);
        assert_eq!(
            (joined.status, joined.generation),
            (Status::ok(), first.generation + 1)
        );
        let (correlation, response, _) = other.receive().await;
        assert_eq!(correlation, waiting);
        let Response::JoinGroup(second) = response else {
            panic!("{response:?}")
        };
        assert_eq!(second.generation, joined.generation);
        // What moves is given up first.
        let second = GroupMember {
            member_id: second.member_id,
            instance_id: None,
            generation: second.generation,
        };
        let synced = ask!(other, SyncGroup, sync(&second));
        assert_eq!(synced.assignment, []);
        node.stop().await;
    });
}

#[test]
fn what_cannot_be_is_refused() {
    run(|_, node| async move {
        let mut connection = node.connect(1);
        connection.create_topic("t", 2, &[]).await;
        let refusals = [
            (
                JoinGroupRequest {
                    assignors: Vec::new(),
                    ..join("")
                },
                ErrorCode::InconsistentGroupProtocol,
            ),
            (
                JoinGroupRequest {
                    assignors: vec!["by-the-moon".repeat(1000)],
                    ..join("")
                },
                ErrorCode::InconsistentGroupProtocol,
            ),
            (
                JoinGroupRequest {
                    topics: vec!["x".repeat(40_000)],
                    ..join("")
                },
                ErrorCode::InvalidTopic,
            ),
            (
                JoinGroupRequest {
                    group: String::new(),
                    ..join("")
                },
                ErrorCode::InvalidGroupId,
            ),
            (
                JoinGroupRequest {
                    session_timeout_ms: 1,
                    ..join("")
                },
                ErrorCode::InvalidSessionTimeout,
            ),
            (join("nobody"), ErrorCode::UnknownMemberId),
        ];
        for (request, expected) in refusals {
            let refused = ask!(connection, JoinGroup, request);
            assert_eq!(code(&refused.status), Some(expected), "{refused:?}");
            assert!(refused.status.message.len() < 500);
        }
        let nobody = GroupMember {
            member_id: "nobody".into(),
            instance_id: None,
            generation: 1,
        };
        let refused = ask!(connection, SyncGroup, sync(&nobody));
        assert_eq!(code(&refused.status), Some(ErrorCode::UnknownMemberId));
        let refused = ask!(
            connection,
            CommitOffsets,
            commit(Some(&nobody), &[("t", 0, 1)])
        );
        assert!(!refused.status.is_ok() && refused.topics.is_empty());
        // Whoever is in no group may use its name, while nobody else is.
        let told = ask!(connection, CommitOffsets, commit(None, &[("t", 0, 1)]));
        assert_eq!(told.topics[0].partitions[0].status, Status::ok());
        let member = only_member(&mut connection).await;
        ask!(connection, SyncGroup, sync(&member));
        let refused = ask!(connection, CommitOffsets, commit(None, &[("t", 0, 2)]));
        assert_eq!(code(&refused.status), Some(ErrorCode::UnknownMemberId));
        let stale = GroupMember {
            generation: member.generation - 1,
            ..member
        };
        let refused = ask!(
            connection,
            CommitOffsets,
            commit(Some(&stale), &[("t", 0, 2)])
        );
        assert_eq!(code(&refused.status), Some(ErrorCode::IllegalGeneration));
        let told = ask!(connection, FetchOffsets, fetch(None));
        assert_eq!(told.topics[0].partitions[0].offset, 1);
        node.stop().await;
    });
}

#[test]
fn a_request_of_a_group_is_one_of_the_kinds() {
    // Numbers that other languages know.
    let kinds: Vec<u16> = [
        Request::JoinGroup(JoinGroupRequest::default()),
        Request::DeleteOffsets(DeleteOffsetsRequest::default()),
    ]
    .iter()
    .map(|request| request.kind() as u16)
    .collect();
    assert_eq!(kinds, [20, 29]);
}
