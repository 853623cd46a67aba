//! Members of consumer groups, as a Kafka client meets them: joining and sharing out, generations,
//! lasting names, and what becomes of all that when the broker is killed or stops.

mod kafka_client;
mod process;

use std::net::SocketAddr;

use bytes::BytesMut;
use kafka_client::groups::*;
use kafka_client::samples::{create, sample};
use kafka_client::{KafkaClient, text};
use millrace_wire::kafka::ApiKey;
use millrace_wire::kafka::control::messages as m;
use millrace_wire::kafka::control::{ResponseKind, write_request};
use process::Broker;

const PARTITIONS: i32 = 2;
/// Nobody waits for members that may come.
const AT_ONCE: &[&str] = &[
    "--shards",
    "2",
    "--set",
    "groups.initial_rebalance_delay_ms=0",
];

/// A broker with the topic `here`.
fn broker() -> (tempfile::TempDir, Broker) {
    let data = tempfile::tempdir().expect("a directory");
    let broker = Broker::start(data.path(), AT_ONCE);
    let mut client = KafkaClient::connect(broker.address);
    client.ask(ApiKey::CreateTopics, 5, create("here", PARTITIONS));
    (data, broker)
}

/// Two members that have shared out their group's partitions, the first leading.
fn pair(address: SocketAddr, group: &str) -> (Member, Member) {
    let mut first = Member::new(address, group);
    let mut second = Member::new(address, group);
    settle_both(&mut first, &mut second);
    (first, second)
}

#[test]
fn a_member_lives_and_leaves() {
    let (_data, broker) = broker();
    let mut member = Member::new(broker.address, "alone");
    let told = member.join();
    assert_eq!(told.error_code, MEMBER_ID_REQUIRED);
    assert_eq!((told.generation_id, told.members.len()), (-1, 0));
    assert!(told.member_id.starts_with("test"), "{told:?}");
    let joined = member.join();
    assert_eq!((joined.error_code, joined.generation_id), (0, 1));
    assert_eq!(
        (&joined.leader, &joined.member_id),
        (&told.member_id, &told.member_id)
    );
    assert_eq!(joined.protocol_type.as_deref(), Some("consumer"));
    assert_eq!(joined.protocol_name.as_deref(), Some("range"));
    assert!(!joined.skip_assignment);
    let known = &joined.members[0];
    assert_eq!(
        (joined.members.len(), &known.member_id),
        (1, &told.member_id)
    );
    assert_eq!(known.metadata, subscribed("here"));

    let id = member.id.clone();
    let synced = member.sync(&[(&id, "all")]);
    assert_eq!((synced.error_code, &*assigned(&synced)), (0, "all"));
    assert_eq!(synced.protocol_type.as_deref(), Some("consumer"));
    assert_eq!(synced.protocol_name.as_deref(), Some("range"));
    // Who asks again is told again.
    assert_eq!(member.assignment(), "all");
    assert_eq!(member.heartbeat(), 0);
    assert_eq!(member.leave(), 0);
    assert_eq!(member.heartbeat(), UNKNOWN_MEMBER_ID);
    assert_eq!(member.leave(), UNKNOWN_MEMBER_ID);
    // The next generation of the group is the next member's.
    let mut next = Member::new(broker.address, "alone");
    next.settle_alone();
    assert!(next.generation > member.generation, "{}", next.generation);
}

#[test]
fn two_members_share_and_one_takes_over() {
    let (_data, broker) = broker();
    let mut first = Member::new(broker.address, "shared");
    let mut second = Member::new(broker.address, "shared");
    let leading = settle_both(&mut first, &mut second);
    assert_eq!((first.generation, second.generation), (2, 2));
    assert_eq!(*leading.leader, *first.id);
    let mut told: Vec<_> = leading
        .members
        .iter()
        .map(|member| &*member.member_id)
        .collect();
    let mut both = [first.id.as_str(), second.id.as_str()];
    told.sort_unstable();
    both.sort_unstable();
    assert_eq!(told, both);
    assert!(
        leading
            .members
            .iter()
            .all(|member| member.metadata == subscribed("here"))
    );
    assert_eq!((first.heartbeat(), second.heartbeat()), (0, 0));

    assert_eq!(second.leave(), 0);
    first.must_be_called_back();
    let joined = first.join();
    assert_eq!((joined.generation_id, joined.members.len()), (3, 1));
    let id = first.id.clone();
    assert_eq!(assigned(&first.sync(&[(&id, "all")])), "all");
}

#[test]
fn a_follower_is_told_who_leads_and_nothing_of_others() {
    let (_data, broker) = broker();
    let (mut first, mut second) = pair(broker.address, "led");
    // A leader that joins again has the group share out anew; a follower that does, has not.
    second.send_join();
    let again = second.receive_join();
    assert_eq!((again.error_code, again.generation_id), (0, 2));
    assert_eq!(
        (again.leader.as_str(), again.members.len()),
        (&*first.id, 0)
    );
    first.send_join();
    second.must_be_called_back();
    assert_eq!(second.join().error_code, 0);
    let leading = first.receive_join();
    assert_eq!((leading.generation_id, leading.members.len()), (3, 2));
    share_out(&mut first, &mut second);
}

#[test]
fn the_leaders_death_makes_another_lead() {
    let (_data, broker) = broker();
    let (mut first, mut second) = pair(broker.address, "orphaned");
    assert_eq!(first.leave(), 0);
    second.must_be_called_back();
    let joined = second.join();
    assert_eq!((joined.error_code, joined.members.len()), (0, 1));
    assert_eq!(*joined.leader, *second.id);
}

#[test]
fn who_does_not_join_again_in_time_is_out() {
    let (_data, broker) = broker();
    let mut slow = Member::new(broker.address, "impatient");
    slow.rebalance_timeout_ms = 500;
    slow.settle_alone();
    let mut quick = Member::new(broker.address, "impatient");
    quick.rebalance_timeout_ms = 500;
    quick.get_id();
    quick.send_join();
    // The first is called back and does not come.
    slow.must_be_called_back();
    let joined = quick.receive_join();
    assert_eq!((joined.error_code, joined.members.len()), (0, 1));
    assert_eq!(*joined.leader, *quick.id);
    assert_eq!(slow.heartbeat(), UNKNOWN_MEMBER_ID);
    assert_eq!(slow.commit("here", 0, 1), UNKNOWN_MEMBER_ID);
}

#[test]
fn who_is_not_heard_of_is_out() {
    let data = tempfile::tempdir().expect("a directory");
    let short = ["--set", "groups.min_session_timeout_ms=100"];
    let broker = Broker::start(data.path(), &[AT_ONCE, &short].concat());
    let mut first = Member::new(broker.address, "silent");
    let mut second = Member::new(broker.address, "silent");
    // Long enough for what is to come before it falls silent.
    second.session_timeout_ms = 3_000;
    settle_both(&mut first, &mut second);
    first.must_be_called_back();
    let joined = first.join();
    assert_eq!((joined.error_code, joined.members.len()), (0, 1));
    assert_eq!(second.heartbeat(), UNKNOWN_MEMBER_ID);
}

#[test]
fn a_generation_ends_for_good() {
    let (_data, broker) = broker();
    let (mut first, mut second) = pair(broker.address, "fenced");
    let old = first.generation - 1;
    for wrong in [old, first.generation + 1, -1] {
        first.generation = wrong;
        assert_eq!(first.heartbeat(), ILLEGAL_GENERATION, "generation {wrong}");
        assert_eq!(first.commit("here", 0, 5), ILLEGAL_GENERATION);
        assert_eq!(first.sync(&[]).error_code, ILLEGAL_GENERATION);
    }
    first.generation = second.generation;
    assert_eq!(first.commit("here", 0, 5), 0);
    let id = std::mem::replace(&mut second.id, "nobody".to_owned());
    assert_eq!(second.heartbeat(), UNKNOWN_MEMBER_ID);
    assert_eq!(second.commit("here", 0, 6), UNKNOWN_MEMBER_ID);
    assert_eq!(second.sync(&[]).error_code, UNKNOWN_MEMBER_ID);
    assert_eq!(second.join().error_code, UNKNOWN_MEMBER_ID);
    assert_eq!(second.leave(), UNKNOWN_MEMBER_ID);
    second.id = id;
    assert_eq!(second.heartbeat(), 0);
    assert_eq!(offset(&mut first.client, "fenced", "here", 0), 5);
}

#[test]
fn while_a_group_shares_out_anew() {
    let (_data, broker) = broker();
    let mut first = Member::new(broker.address, "busy");
    first.settle_alone();
    let mut second = Member::new(broker.address, "busy");
    second.get_id();
    second.send_join();
    first.must_be_called_back();
    // What was read before may still be committed, and nobody is told what to read next.
    assert_eq!(first.commit("here", 0, 7), 0);
    assert_eq!(first.sync(&[]).error_code, REBALANCE_IN_PROGRESS);
    let state = |client: &mut KafkaClient| describe(client, 5, "busy").group_state.to_string();
    assert_eq!(state(&mut first.client), "PreparingRebalance");
    assert_eq!(first.join().error_code, 0);
    assert_eq!(second.receive_join().error_code, 0);
    // All have joined and wait for the leader: a member is alive, and owns nothing that it could commit.
    assert_eq!(state(&mut first.client), "CompletingRebalance");
    assert_eq!(first.heartbeat(), 0);
    assert_eq!(first.commit("here", 0, 8), REBALANCE_IN_PROGRESS);
    share_out(&mut first, &mut second);
    assert_eq!(state(&mut first.client), "Stable");
    assert_eq!(first.commit("here", 0, 8), 0);
}

#[test]
fn a_protocol_is_one_that_all_understand() {
    let (_data, broker) = broker();
    let address = broker.address;
    let mut first = Member::new(address, "protocols").with_protocols(&["sticky", "range", "odd"]);
    first.settle_alone();
    assert_eq!(first.protocol, "sticky");
    let mut second = Member::new(address, "protocols").with_protocols(&["even", "range", "odd"]);
    second.get_id();
    second.send_join();
    first.must_be_called_back();
    let leading = first.join();
    assert_eq!(second.receive_join().error_code, 0);
    assert_eq!((&*first.protocol, &*second.protocol), ("range", "range"));
    // Each says of itself what goes with that one.
    assert!(
        leading
            .members
            .iter()
            .all(|member| member.metadata == "range")
    );
    share_out(&mut first, &mut second);

    let mut stranger = Member::new(address, "protocols").with_protocols(&["sticky", "even"]);
    assert_eq!(stranger.join().error_code, INCONSISTENT_GROUP_PROTOCOL);
    let mut other = Member::new(address, "protocols").with_protocols(&["range"]);
    other.protocol_type = "connect".to_owned();
    assert_eq!(other.join().error_code, INCONSISTENT_GROUP_PROTOCOL);
    // A sync that names another protocol than was chosen.
    first.protocol = "odd".to_owned();
    assert_eq!(first.sync(&[]).error_code, INCONSISTENT_GROUP_PROTOCOL);
    assert_eq!(second.heartbeat(), 0, "nobody was disturbed");
}

#[test]
fn members_that_are_no_consumers_form_groups_too() {
    let (_data, broker) = broker();
    let mut worker = Member::new(broker.address, "workers").with_protocols(&["compatible"]);
    worker.protocol_type = "connect".to_owned();
    worker.settle_alone();
    let group = describe(&mut worker.client, 5, "workers");
    assert_eq!(
        (&*group.protocol_type, &*group.protocol_data),
        ("connect", "compatible")
    );
}

#[test]
fn who_cannot_be_a_member_is_told_why() {
    let (_data, broker) = broker();
    let refused = |change: fn(&mut Member), group: &str| {
        let mut member = Member::new(broker.address, group);
        change(&mut member);
        let told = member.join();
        assert_eq!((told.generation_id, told.members.len()), (-1, 0));
        told.error_code
    };
    assert_eq!(refused(|_| {}, ""), INVALID_GROUP_ID);
    let nothing = |member: &mut Member| member.protocols.clear();
    assert_eq!(refused(nothing, "g"), INCONSISTENT_GROUP_PROTOCOL);
    let untyped = |member: &mut Member| member.protocol_type.clear();
    assert_eq!(refused(untyped, "g"), INCONSISTENT_GROUP_PROTOCOL);
    let hasty = |member: &mut Member| member.session_timeout_ms = 1;
    assert_eq!(refused(hasty, "g"), INVALID_SESSION_TIMEOUT);
    let negative = |member: &mut Member| member.session_timeout_ms = -1;
    assert_eq!(refused(negative, "g"), INVALID_SESSION_TIMEOUT);
    let sleepy = |member: &mut Member| member.session_timeout_ms = i32::MAX;
    assert_eq!(refused(sleepy, "g"), INVALID_SESSION_TIMEOUT);
    let stranger = |member: &mut Member| member.id = "nobody".to_owned();
    assert_eq!(refused(stranger, "g"), UNKNOWN_MEMBER_ID);
    let mut client = KafkaClient::connect(broker.address);
    assert_eq!(
        list(&mut client, &[], &[]),
        [""; 0],
        "none of that made a group"
    );

    let mut nobody = Member::new(broker.address, "none");
    nobody.id = "nobody".to_owned();
    nobody.generation = 1;
    nobody.protocol = "range".to_owned();
    assert_eq!(nobody.heartbeat(), UNKNOWN_MEMBER_ID);
    assert_eq!(nobody.sync(&[]).error_code, UNKNOWN_MEMBER_ID);
    assert_eq!(nobody.leave(), UNKNOWN_MEMBER_ID);
    assert_eq!(nobody.commit("here", 0, 1), ILLEGAL_GENERATION);
    let mut nameless = Member::new(broker.address, "");
    assert_eq!(nameless.heartbeat(), INVALID_GROUP_ID);
    nameless.protocol = "range".to_owned();
    assert_eq!(nameless.sync(&[]).error_code, INVALID_GROUP_ID);
    let leave = nameless.leave_request();
    let left = expect!(
        nameless.client.ask(ApiKey::LeaveGroup, 5, leave),
        LeaveGroup
    );
    assert_eq!((left.error_code, left.members.len()), (INVALID_GROUP_ID, 0));
    // From version 5 on a sync says what it is for.
    let sync = m::SyncGroupRequest::default().with_group_id(group_id("g"));
    let synced = expect!(client.ask(ApiKey::SyncGroup, 5, sync), SyncGroup);
    assert_eq!(synced.error_code, INCONSISTENT_GROUP_PROTOCOL);
}

#[test]
fn every_version_joins_syncs_and_leaves() {
    let (_data, broker) = broker();
    for version in 0..=9 {
        let group = format!("version-{version}");
        let mut member = Member::new(broker.address, &group);
        member.send_join_of(version);
        let mut joined = member.receive_join_of(version);
        // Older clients join without an id.
        assert_eq!(
            joined.error_code == MEMBER_ID_REQUIRED,
            version >= 4,
            "{version}"
        );
        if version >= 4 {
            member.send_join_of(version);
            joined = member.receive_join_of(version);
        }
        assert_eq!(
            (joined.error_code, joined.generation_id),
            (0, 1),
            "{version}"
        );
        assert_eq!(joined.protocol_type.is_some(), version >= 7);
        assert_eq!(joined.members.len(), 1);
        let id = member.id.clone();
        let assigned = m::sync_group_request::SyncGroupRequestAssignment::default()
            .with_member_id(text(&id))
            .with_assignment("all".into());
        let sync_version = version.min(5);
        let mut sync = m::SyncGroupRequest::default()
            .with_group_id(group_id(&group))
            .with_generation_id(1)
            .with_member_id(text(&id))
            .with_assignments(vec![assigned]);
        if sync_version >= 5 {
            sync.protocol_type = Some(text("consumer"));
            sync.protocol_name = Some(text("range"));
        }
        let synced = expect!(
            member.client.ask(ApiKey::SyncGroup, sync_version, sync),
            SyncGroup
        );
        assert_eq!(
            (synced.error_code, &synced.assignment[..]),
            (0, &b"all"[..])
        );
        let heartbeat = m::HeartbeatRequest::default()
            .with_group_id(group_id(&group))
            .with_generation_id(1)
            .with_member_id(text(&id));
        let heard = member
            .client
            .ask(ApiKey::Heartbeat, version.min(4), heartbeat);
        assert_eq!(expect!(heard, Heartbeat).error_code, 0);
        let leave_version = version.min(5);
        let leave = match leave_version {
            0..=2 => m::LeaveGroupRequest::default()
                .with_group_id(group_id(&group))
                .with_member_id(text(&id)),
            _ => member.leave_request(),
        };
        for expected in [0, UNKNOWN_MEMBER_ID] {
            let left = member
                .client
                .ask(ApiKey::LeaveGroup, leave_version, leave.clone());
            let left = expect!(left, LeaveGroup);
            let of_member = left.members.first().map_or(0, |member| member.error_code);
            let told = match leave_version {
                0..=2 => (expected, 0),
                _ => (0, expected),
            };
            assert_eq!((left.error_code, of_member), told, "version {version}");
        }
    }
}

#[test]
fn a_member_with_a_lasting_name_comes_back_unnoticed() {
    let (_data, broker) = broker();
    let address = broker.address;
    let mut first = Member::lasting(address, "lasting", "one");
    let mut second = Member::lasting(address, "lasting", "two");
    settle_both(&mut first, &mut second);
    let generation = second.generation;

    // The follower, started anew, knows only its name.
    let mut again = Member::lasting(address, "lasting", "two");
    let joined = again.join();
    assert_eq!((joined.error_code, joined.generation_id), (0, generation));
    assert_eq!(
        (joined.leader.as_str(), joined.members.len()),
        (&*first.id, 0)
    );
    assert_ne!(again.id, second.id);
    assert_eq!(again.assignment(), "other");
    assert_eq!(again.heartbeat(), 0);
    assert_eq!(first.heartbeat(), 0, "nobody noticed");
    // What it was before is no member any more.
    assert_eq!(second.heartbeat(), FENCED_INSTANCE_ID);
    assert_eq!(second.commit("here", 0, 1), FENCED_INSTANCE_ID);
    assert_eq!(second.sync(&[]).error_code, FENCED_INSTANCE_ID);
    assert_eq!(second.join().error_code, FENCED_INSTANCE_ID);
    assert_eq!(second.leave(), FENCED_INSTANCE_ID);

    // The leader, started anew, leads on and need not assign.
    let old = first.id.clone();
    let mut anew = Member::lasting(address, "lasting", "one");
    let joined = anew.join();
    assert_eq!((joined.error_code, joined.generation_id), (0, generation));
    assert_eq!(
        (&joined.leader, joined.skip_assignment),
        (&joined.member_id, true)
    );
    assert_eq!(joined.members.len(), 2);
    assert_eq!(anew.assignment(), "one");
    // One that does not understand that takes itself for a follower.
    let mut elder = Member::lasting(address, "lasting", "one");
    elder.send_join_of(8);
    let joined = elder.receive_join_of(8);
    assert_eq!((joined.error_code, joined.members.len()), (0, 0));
    assert_eq!(joined.leader.as_str(), anew.id);
    assert_ne!(joined.leader, joined.member_id);
    assert_ne!(anew.id, old);
    assert_eq!(elder.assignment(), "one");
    assert_eq!(again.heartbeat(), 0, "nobody noticed that either");
}

#[test]
fn a_member_with_a_lasting_name_leaves_by_it() {
    let (_data, broker) = broker();
    let address = broker.address;
    let mut first = Member::lasting(address, "farewell", "one");
    let mut second = Member::lasting(address, "farewell", "two");
    settle_both(&mut first, &mut second);
    let mut client = KafkaClient::connect(address);
    let named = |name: &str| {
        m::leave_group_request::MemberIdentity::default().with_group_instance_id(Some(text(name)))
    };
    let leave = m::LeaveGroupRequest::default()
        .with_group_id(group_id("farewell"))
        .with_members(vec![named("two"), named("three")]);
    let left = expect!(client.ask(ApiKey::LeaveGroup, 3, leave), LeaveGroup);
    let codes: Vec<_> = left
        .members
        .iter()
        .map(|member| member.error_code)
        .collect();
    assert_eq!((left.error_code, codes), (0, vec![0, UNKNOWN_MEMBER_ID]));
    assert_eq!(left.members[0].group_instance_id.as_deref(), Some("two"));
    first.must_be_called_back();
    assert_eq!(first.join().members.len(), 1);
    assert_eq!(second.heartbeat(), UNKNOWN_MEMBER_ID);
}

#[test]
fn what_a_client_sends_behind_a_join_waits_for_it() {
    let (_data, broker) = broker();
    let mut first = Member::new(broker.address, "ordered");
    first.settle_alone();
    // A commit and a farewell at once: the commit is a member's.
    let commit = first.commit_request("here", 1, 9);
    let leave = first.leave_request();
    let sent = [
        first.client.send(ApiKey::OffsetCommit, 9, commit),
        first.client.send(ApiKey::LeaveGroup, 5, leave),
    ];
    let (number, answer) = first.client.receive(ApiKey::OffsetCommit, 9);
    let committed = expect!(answer, OffsetCommit);
    assert_eq!(
        (number, committed.topics[0].partitions[0].error_code),
        (sent[0], 0)
    );
    let (number, answer) = first.client.receive(ApiKey::LeaveGroup, 5);
    let left = expect!(answer, LeaveGroup);
    assert_eq!((number, left.members[0].error_code), (sent[1], 0));

    // And a join, which another member holds up, before a heartbeat.
    let mut second = Member::new(broker.address, "ordered");
    second.settle_alone();
    let mut third = Member::new(broker.address, "ordered");
    third.get_id();
    third.send_join();
    let heartbeat = m::HeartbeatRequest::default()
        .with_group_id(group_id("ordered"))
        .with_generation_id(second.generation + 1)
        .with_member_id(text(&third.id));
    third.client.send(ApiKey::Heartbeat, 4, heartbeat);
    second.must_be_called_back();
    assert_eq!(second.join().error_code, 0);
    assert_eq!(third.receive_join().error_code, 0);
    let (_, heard) = third.client.receive(ApiKey::Heartbeat, 4);
    assert_eq!(expect!(heard, Heartbeat).error_code, 0);
}

#[test]
fn a_group_outlives_the_brokers_death() {
    let (data, broker) = broker();
    let (mut first, mut second) = pair(broker.address, "survives");
    assert_eq!(first.commit("here", 0, 11), 0);
    assert_eq!(second.commit("here", 1, 12), 0);
    let mut lasting = Member::lasting(broker.address, "survives-too", "name");
    lasting.settle_alone();
    broker.kill();

    let broker = Broker::start(data.path(), AT_ONCE);
    for member in [&mut first, &mut second, &mut lasting] {
        member.client = KafkaClient::connect(broker.address);
        assert_eq!(member.heartbeat(), 0, "it is still a member");
    }
    assert_eq!(
        (first.assignment(), second.assignment()),
        ("one".into(), "other".into())
    );
    assert_eq!(offset(&mut first.client, "survives", "here", 0), 11);
    assert_eq!(offset(&mut first.client, "survives", "here", 1), 12);
    assert_eq!(first.commit("here", 0, 13), 0);
    let mut again = Member::lasting(broker.address, "survives-too", "name");
    let joined = again.join();
    assert_eq!(
        (joined.error_code, joined.generation_id),
        (0, lasting.generation)
    );
    assert_eq!(again.assignment(), "all");
    assert_eq!(lasting.heartbeat(), FENCED_INSTANCE_ID);
    // And it goes on: one leaves, the other takes over.
    assert_eq!(second.leave(), 0);
    first.must_be_called_back();
    let joined = first.join();
    assert_eq!((joined.error_code, joined.generation_id), (0, 3));
}

#[test]
fn a_broker_that_stops_sends_those_who_wait_to_look_for_their_coordinator() {
    let (_data, broker) = broker();
    let mut first = Member::new(broker.address, "stopping");
    first.settle_alone();
    let mut second = Member::new(broker.address, "stopping");
    second.get_id();
    second.send_join();
    first.must_be_called_back();
    let stopping = std::thread::spawn(move || broker.stop());
    let told = second.receive_join();
    let elsewhere = [NOT_COORDINATOR, COORDINATOR_NOT_AVAILABLE];
    assert!(elsewhere.contains(&told.error_code), "{told:?}");
    let (status, _) = stopping.join().expect("it stops");
    assert!(status.success(), "{status}");
}

#[test]
fn bodies_that_are_none_end_their_connection_and_nothing_else() {
    let (_data, broker) = broker();
    let keys = [
        ApiKey::OffsetCommit,
        ApiKey::OffsetFetch,
        ApiKey::JoinGroup,
        ApiKey::Heartbeat,
        ApiKey::LeaveGroup,
        ApiKey::SyncGroup,
        ApiKey::DescribeGroups,
        ApiKey::DeleteGroups,
        ApiKey::OffsetDelete,
    ];
    for key in keys {
        let versions = key.versions().expect("it is served");
        for version in [versions.min, versions.max] {
            let mut bytes = BytesMut::new();
            let request = sample(key, version);
            write_request(key, version, 1, "cut", &request, &mut bytes).expect("it fits");
            // Everything but the last byte, as if it were all.
            bytes.truncate(bytes.len() - 1);
            let length = u32::try_from(bytes.len() - 4).expect("short");
            bytes[..4].copy_from_slice(&length.to_be_bytes());
            let mut client = KafkaClient::connect(broker.address);
            client.write(&bytes).expect("sent");
            assert!(client.is_closed(), "{key:?} {version}");
        }
    }
    broker.must_have_let_go(0);
    broker.must_answer();
}
