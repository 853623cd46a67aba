//! Members of consumer groups: JoinGroup (11), SyncGroup (14), Heartbeat (12), LeaveGroup (13). What a
//! group is and does is its coordinator's to say; here is what each version of a request leaves out, and
//! what each version of an answer has room for.
//!
//! Joining and syncing wait, for as long as the group's rebalance takes. What its client sends behind
//! them waits too, as in Kafka.

use std::net::SocketAddr;

use bytes::Bytes;
use millrace_shard::env::Env;
use millrace_wire::error::{ErrorCode, WireError};
use millrace_wire::kafka::ApiKey;
use millrace_wire::kafka::control::StrBytes;
use millrace_wire::kafka::control::messages::join_group_response::JoinGroupResponseMember;
use millrace_wire::kafka::control::messages::leave_group_response::MemberResponse;
use millrace_wire::kafka::control::messages::{
    GroupId, HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse,
    LeaveGroupRequest, LeaveGroupResponse, SyncGroupRequest, SyncGroupResponse,
    leave_group_request,
};

use super::errors::group_code;
use super::session::Session;
use crate::coordinator::api::{
    Assignor, GroupAnswer, GroupCall, GroupRequest, JoinGroup, Joined, LeavingMember,
    MAX_MEMBER_NAME_BYTES, MAX_NAME_BYTES, MemberIdentity, SyncGroup, Synced,
};

/// The first version of JoinGroup that says how long a rebalance may take.
const FIRST_JOIN_WITH_REBALANCE_TIMEOUT: i16 = 1;
/// From this version on a new member is told its id first, and joins with it (KIP-394).
const FIRST_JOIN_WITH_KNOWN_ID: i16 = 4;
/// From this version on the protocol's type is told, and no protocol is null.
const FIRST_JOIN_WITH_PROTOCOL_TYPE: i16 = 7;
/// From this version on a leader understands that it need not assign (KIP-814).
const FIRST_JOIN_THAT_SKIPS_ASSIGNMENT: i16 = 9;
/// From this version on a member says which protocol it syncs for (KIP-559).
const FIRST_SYNC_WITH_PROTOCOL: i16 = 5;
/// From this version on several members leave at once (KIP-345).
const FIRST_LEAVE_OF_MANY: i16 = 3;

/// In place of a generation that there is none of.
pub(super) const NO_GENERATION: i32 = -1;

/// Whether requests of this kind are begun in turn.
pub(super) fn is_about_groups(key: ApiKey) -> bool {
    matches!(
        key,
        ApiKey::OffsetCommit
            | ApiKey::OffsetFetch
            | ApiKey::OffsetDelete
            | ApiKey::JoinGroup
            | ApiKey::Heartbeat
            | ApiKey::LeaveGroup
            | ApiKey::SyncGroup
            | ApiKey::DescribeGroups
            | ApiKey::ListGroups
            | ApiKey::DeleteGroups
    )
}

impl<E: Env> Session<E> {
    pub(super) async fn join_group(
        &self,
        version: i16,
        client_id: String,
        request: JoinGroupRequest,
    ) -> JoinGroupResponse {
        let asked_id = request.member_id.clone();
        let joined = self.joined(version, client_id, request).await;
        join_answer(version, asked_id, joined)
    }

    async fn joined(
        &self,
        version: i16,
        client_id: String,
        request: JoinGroupRequest,
    ) -> Result<Joined, WireError> {
        let group = group_name(&request.group_id)?;
        check_protocols(&request)?;
        let instance_id = instance_id(request.group_instance_id.as_ref())?;
        let session_timeout_ms = milliseconds(request.session_timeout_ms);
        let rebalance_timeout_ms = match version {
            FIRST_JOIN_WITH_REBALANCE_TIMEOUT.. => milliseconds(request.rebalance_timeout_ms),
            _ => session_timeout_ms,
        };
        let mut protocols = Vec::with_capacity(request.protocols.len());
        for protocol in &request.protocols {
            protocols.push((protocol.name.to_string(), kept(&protocol.metadata)));
            self.broker.env.yield_now().await;
        }
        let join = JoinGroup {
            member_id: request.member_id.to_string(),
            needs_member_id: version >= FIRST_JOIN_WITH_KNOWN_ID && instance_id.is_none(),
            instance_id,
            client_id: shortened(client_id),
            client_host: host(self.peer),
            protocol_type: request.protocol_type.to_string(),
            protocols,
            session_timeout_ms,
            rebalance_timeout_ms,
            initial_delay_ms: self.settings.initial_rebalance_delay_ms,
            can_skip_assignment: version >= FIRST_JOIN_THAT_SKIPS_ASSIGNMENT,
            assignor: Assignor::Leader,
        };
        // A waiting member has no use for its frame.
        drop(request);
        self.ask_group(group, GroupRequest::Join(join), |answer| match answer {
            GroupAnswer::Join(joined) => Some(joined),
            _ => None,
        })
        .await
    }

    pub(super) async fn sync_group(
        &self,
        version: i16,
        request: SyncGroupRequest,
    ) -> SyncGroupResponse {
        sync_answer(self.synced(version, request).await)
    }

    async fn synced(&self, version: i16, request: SyncGroupRequest) -> Result<Synced, WireError> {
        let group = group_name(&request.group_id)?;
        let names_protocol = request.protocol_type.is_some() && request.protocol_name.is_some();
        if version >= FIRST_SYNC_WITH_PROTOCOL && !names_protocol {
            return Err(WireError::new(
                ErrorCode::InconsistentGroupProtocol,
                "a member that syncs names the protocol that it joined with, and its type",
            ));
        }
        let mut assignments = Vec::with_capacity(request.assignments.len());
        for assigned in &request.assignments {
            assignments.push((assigned.member_id.to_string(), kept(&assigned.assignment)));
            self.broker.env.yield_now().await;
        }
        let sync = SyncGroup {
            member: MemberIdentity {
                member_id: request.member_id.to_string(),
                instance_id: instance_id(request.group_instance_id.as_ref())?,
                generation: request.generation_id,
            },
            protocol_type: request.protocol_type.as_ref().map(StrBytes::to_string),
            protocol: request.protocol_name.as_ref().map(StrBytes::to_string),
            assignments,
        };
        drop(request);
        self.ask_group(group, GroupRequest::Sync(sync), |answer| match answer {
            GroupAnswer::Sync(synced) => Some(synced),
            _ => None,
        })
        .await
    }

    pub(super) async fn heartbeat(&self, request: HeartbeatRequest) -> HeartbeatResponse {
        let outcome = self.heard(request).await;
        HeartbeatResponse::default().with_error_code(outcome_code(&outcome))
    }

    async fn heard(&self, request: HeartbeatRequest) -> Result<(), WireError> {
        let group = group_name(&request.group_id)?;
        let member = MemberIdentity {
            member_id: request.member_id.to_string(),
            instance_id: instance_id(request.group_instance_id.as_ref())?,
            generation: request.generation_id,
        };
        self.ask_group(group, GroupRequest::Heartbeat(member), |answer| {
            matches!(answer, GroupAnswer::Heartbeat).then_some(())
        })
        .await
    }

    pub(super) async fn leave_group(
        &self,
        version: i16,
        request: LeaveGroupRequest,
    ) -> LeaveGroupResponse {
        let leaving = match version {
            FIRST_LEAVE_OF_MANY.. => request.members,
            _ => {
                let only = leave_group_request::MemberIdentity::default();
                vec![only.with_member_id(request.member_id)]
            }
        };
        let outcomes = self.left(&request.group_id, &leaving).await;
        leave_answer(version, leaving, outcomes)
    }

    async fn left(
        &self,
        group: &GroupId,
        leaving: &[leave_group_request::MemberIdentity],
    ) -> Result<Vec<Result<(), WireError>>, WireError> {
        let group = group_name(group)?;
        let mut members = Vec::with_capacity(leaving.len());
        for member in leaving {
            members.push(LeavingMember {
                member_id: member.member_id.to_string(),
                instance_id: instance_id(member.group_instance_id.as_ref())?,
            });
            self.broker.env.yield_now().await;
        }
        self.ask_group(group, GroupRequest::Leave(members), |answer| match answer {
            GroupAnswer::Leave(outcomes) => Some(outcomes),
            _ => None,
        })
        .await
    }

    /// Asks a group's coordinator. `form` takes what it wants out of the answer.
    pub(super) async fn ask_group<T>(
        &self,
        group: String,
        request: GroupRequest,
        form: impl FnOnce(GroupAnswer) -> Option<T>,
    ) -> Result<T, WireError> {
        let answer = self.broker.group(GroupCall { group, request }).await?;
        form(answer).ok_or_else(another_answer)
    }
}

/// The answer of a coordinator that was asked something else.
pub(super) fn another_answer() -> WireError {
    WireError::new(
        ErrorCode::Unknown,
        "the group's coordinator answered something else; this is a bug, please report it",
    )
}

fn join_answer(
    version: i16,
    asked_id: StrBytes,
    joined: Result<Joined, WireError>,
) -> JoinGroupResponse {
    let (member_id, outcome) = match joined {
        Ok(joined) => (StrBytes::from_string(joined.member_id), joined.outcome),
        Err(error) => (asked_id, Err(error)),
    };
    let response = JoinGroupResponse::default().with_member_id(member_id);
    let has_type = version >= FIRST_JOIN_WITH_PROTOCOL_TYPE;
    let group = match outcome {
        Ok(group) => group,
        Err(error) => {
            return response
                .with_error_code(group_code(error.code))
                .with_generation_id(NO_GENERATION)
                .with_protocol_name((!has_type).then(StrBytes::default));
        }
    };
    let members = group.members.into_iter().map(|member| {
        JoinGroupResponseMember::default()
            .with_member_id(StrBytes::from_string(member.member_id))
            .with_group_instance_id(member.instance_id.map(StrBytes::from_string))
            .with_metadata(member.metadata)
    });
    response
        .with_generation_id(group.generation)
        .with_protocol_type(has_type.then(|| StrBytes::from_string(group.protocol_type)))
        .with_protocol_name(Some(StrBytes::from_string(group.protocol)))
        .with_leader(StrBytes::from_string(group.leader))
        .with_skip_assignment(group.skip_assignment && version >= FIRST_JOIN_THAT_SKIPS_ASSIGNMENT)
        .with_members(members.collect())
}

fn sync_answer(synced: Result<Synced, WireError>) -> SyncGroupResponse {
    match synced {
        // Versions that have no room for the protocol leave it out.
        Ok(synced) => SyncGroupResponse::default()
            .with_protocol_type(Some(StrBytes::from_string(synced.protocol_type)))
            .with_protocol_name(Some(StrBytes::from_string(synced.protocol)))
            .with_assignment(synced.assignment),
        Err(error) => SyncGroupResponse::default().with_error_code(group_code(error.code)),
    }
}

fn leave_answer(
    version: i16,
    leaving: Vec<leave_group_request::MemberIdentity>,
    outcomes: Result<Vec<Result<(), WireError>>, WireError>,
) -> LeaveGroupResponse {
    let outcomes = match outcomes {
        Ok(outcomes) => outcomes,
        Err(error) => {
            return LeaveGroupResponse::default().with_error_code(group_code(error.code));
        }
    };
    let mut outcomes = outcomes.into_iter();
    let mut code = || match outcomes.next() {
        Some(outcome) => outcome_code(&outcome),
        None => group_code(another_answer().code),
    };
    if version < FIRST_LEAVE_OF_MANY {
        return LeaveGroupResponse::default().with_error_code(code());
    }
    let members = leaving.into_iter().map(|member| {
        MemberResponse::default()
            .with_member_id(member.member_id)
            .with_group_instance_id(member.group_instance_id)
            .with_error_code(code())
    });
    LeaveGroupResponse::default().with_members(members.collect())
}

/// Kafka's number for an outcome.
pub(super) fn outcome_code<T>(outcome: &Result<T, WireError>) -> i16 {
    match outcome {
        Ok(_) => 0,
        Err(error) => group_code(error.code),
    }
}

/// The name of a group that has members.
pub(super) fn group_name(group: &GroupId) -> Result<String, WireError> {
    if group.is_empty() {
        return Err(WireError::new(
            ErrorCode::InvalidGroupId,
            "a group with members has a name; set group.id",
        ));
    }
    any_group_name(group)
}

/// The name of a group that may have nothing but offsets: in Kafka it may be empty.
pub(super) fn any_group_name(group: &GroupId) -> Result<String, WireError> {
    if group.len() > MAX_NAME_BYTES {
        return Err(WireError::new(
            ErrorCode::InvalidGroupId,
            format!(
                "a group's name has at most {MAX_NAME_BYTES} bytes, this one has {}; choose a shorter one",
                group.len()
            ),
        ));
    }
    Ok(group.to_string())
}

fn check_protocols(request: &JoinGroupRequest) -> Result<(), WireError> {
    let refused = |message: &str| {
        Err(WireError::new(
            ErrorCode::InconsistentGroupProtocol,
            message,
        ))
    };
    if request.protocol_type.is_empty() || request.protocols.is_empty() {
        return refused("a member has a protocol type and at least one protocol");
    }
    let mut names = request.protocols.iter().map(|protocol| &protocol.name);
    let fits = |name: &StrBytes| name.len() <= MAX_NAME_BYTES;
    if !fits(&request.protocol_type) || !names.all(fits) {
        return refused("a protocol's name has at most 32767 bytes; choose a shorter one");
    }
    Ok(())
}

/// A member's lasting name.
pub(super) fn instance_id(id: Option<&StrBytes>) -> Result<Option<String>, WireError> {
    match id {
        Some(id) if id.len() > MAX_MEMBER_NAME_BYTES => Err(WireError::new(
            ErrorCode::InvalidRequest,
            format!(
                "a group instance id has at most {MAX_MEMBER_NAME_BYTES} bytes, this one has {}; choose a shorter one",
                id.len()
            ),
        )),
        id => Ok(id.map(StrBytes::to_string)),
    }
}

/// A client's name, of which there is as much as has room.
fn shortened(mut client_id: String) -> String {
    let mut end = client_id.len().min(MAX_MEMBER_NAME_BYTES);
    while !client_id.is_char_boundary(end) {
        end -= 1;
    }
    client_id.truncate(end);
    client_id
}

/// Where a client connects from, as Kafka shows it.
fn host(peer: SocketAddr) -> String {
    format!("/{}", peer.ip().to_canonical())
}

/// A duration of a client's, which can be negative on the wire only.
fn milliseconds(given: i32) -> u32 {
    u32::try_from(given).unwrap_or(0)
}

/// Bytes that a coordinator keeps for as long as there is the member: without the frame that they came
/// in.
fn kept(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

#[cfg(test)]
mod tests {
    use millrace_wire::kafka::control::ResponseKind;

    use super::*;
    use crate::coordinator::api::{JoinedGroup, JoinedMember};
    use crate::kafka::read_back::{read_back, versions};

    fn refused() -> impl Iterator<Item = WireError> {
        let codes = ErrorCode::ALL.iter();
        codes.map(|code| WireError::new(*code, "no"))
    }

    fn long(bytes: usize) -> String {
        "n".repeat(bytes)
    }

    /// With names as long as a member may have them, and all that an answer can say.
    fn joined_group() -> JoinedGroup {
        JoinedGroup {
            generation: 4,
            protocol_type: long(MAX_NAME_BYTES),
            protocol: long(MAX_NAME_BYTES),
            leader: long(MAX_MEMBER_NAME_BYTES + 37),
            skip_assignment: true,
            members: vec![JoinedMember {
                member_id: long(MAX_MEMBER_NAME_BYTES + 37),
                instance_id: Some(long(MAX_MEMBER_NAME_BYTES)),
                metadata: Bytes::from_static(b"subscribed"),
            }],
        }
    }

    #[test]
    fn every_version_has_room_for_every_answer_to_a_member_that_joins() {
        for version in versions(ApiKey::JoinGroup) {
            let answer = |joined| {
                let response = join_answer(version, StrBytes::from_static_str("asked"), joined);
                let ResponseKind::JoinGroup(read) = read_back(ApiKey::JoinGroup, version, response)
                else {
                    panic!("another answer")
                };
                read
            };
            let all = answer(Ok(Joined {
                member_id: "given".to_owned(),
                outcome: Ok(joined_group()),
            }));
            assert_eq!((all.error_code, all.generation_id), (0, 4));
            assert_eq!(all.member_id.as_str(), "given");
            assert_eq!(all.members[0].metadata, "subscribed");
            assert_eq!(all.members[0].group_instance_id.is_some(), version >= 5);
            assert_eq!(all.protocol_type.is_some(), version >= 7);
            assert_eq!(all.skip_assignment, version >= 9);
            for error in refused() {
                let outcome = Err(error.clone());
                let told = answer(Ok(Joined {
                    member_id: "given".to_owned(),
                    outcome,
                }));
                assert_eq!(told.member_id.as_str(), "given");
                assert_eq!(told.error_code, group_code(error.code));
                assert_eq!(told.generation_id, NO_GENERATION);
                let told = answer(Err(error));
                assert_eq!(told.member_id.as_str(), "asked");
                assert_eq!(told.protocol_name.is_some(), version < 7);
            }
        }
    }

    #[test]
    fn every_version_has_room_for_every_answer_to_a_member_that_syncs() {
        for version in versions(ApiKey::SyncGroup) {
            let synced = Synced {
                protocol_type: long(MAX_NAME_BYTES),
                protocol: long(MAX_NAME_BYTES),
                assignment: Bytes::from_static(b"assigned"),
            };
            let response = read_back(ApiKey::SyncGroup, version, sync_answer(Ok(synced)));
            let ResponseKind::SyncGroup(read) = response else {
                panic!("another answer")
            };
            assert_eq!(read.assignment, "assigned");
            assert_eq!(read.protocol_name.is_some(), version >= 5);
            for error in refused() {
                read_back(ApiKey::SyncGroup, version, sync_answer(Err(error)));
            }
        }
        for version in versions(ApiKey::Heartbeat) {
            for error in refused() {
                let code = outcome_code::<()>(&Err(error));
                let response = HeartbeatResponse::default().with_error_code(code);
                read_back(ApiKey::Heartbeat, version, response);
            }
        }
    }

    #[test]
    fn a_member_that_leaves_is_told_in_the_form_of_its_version() {
        let member = |name: &'static str| {
            leave_group_request::MemberIdentity::default()
                .with_member_id(StrBytes::from_static_str(name))
                .with_group_instance_id(Some(StrBytes::from_static_str("lasting")))
        };
        for version in versions(ApiKey::LeaveGroup) {
            let answer = |leaving: &[_], outcomes| {
                let response = leave_answer(version, leaving.to_vec(), outcomes);
                let ResponseKind::LeaveGroup(read) =
                    read_back(ApiKey::LeaveGroup, version, response)
                else {
                    panic!("another answer")
                };
                let members = read.members.iter().map(|member| member.error_code);
                (read.error_code, members.collect::<Vec<_>>())
            };
            let unknown = || WireError::new(ErrorCode::UnknownMemberId, "who?");
            let one = [member("a")];
            let told = answer(&one, Ok(vec![Err(unknown())]));
            if version < FIRST_LEAVE_OF_MANY {
                assert_eq!(told, (25, vec![]));
            } else {
                assert_eq!(told, (0, vec![25]));
                let two = [member("a"), member("b")];
                assert_eq!(
                    answer(&two, Ok(vec![Ok(()), Err(unknown())])),
                    (0, vec![0, 25])
                );
            }
            for error in refused() {
                let code = group_code(error.code);
                assert_eq!(answer(&one, Err(error)), (code, vec![]));
            }
        }
    }

    #[test]
    fn names_that_no_version_has_room_for_are_cut_or_refused() {
        let group = |bytes| GroupId(StrBytes::from_string(long(bytes)));
        let code = |refused: Result<_, WireError>| refused.err().map(|error| error.code);
        assert_eq!(code(group_name(&group(0))), Some(ErrorCode::InvalidGroupId));
        assert_eq!(code(any_group_name(&group(0))), None);
        assert_eq!(code(group_name(&group(MAX_NAME_BYTES))), None);
        let longer = group(MAX_NAME_BYTES + 1);
        assert_eq!(code(group_name(&longer)), Some(ErrorCode::InvalidGroupId));
        let lasting = StrBytes::from_string(long(MAX_MEMBER_NAME_BYTES + 1));
        assert!(instance_id(Some(&lasting)).is_err());
        assert_eq!(shortened(long(9)), long(9));
        // A letter of two bytes that would be cut in half goes as a whole.
        let odd = format!("{}ä", long(MAX_MEMBER_NAME_BYTES - 1));
        assert_eq!(shortened(odd), long(MAX_MEMBER_NAME_BYTES - 1));
    }

    #[test]
    fn a_host_is_shown_as_kafka_shows_it() {
        let shown = |address: &str| host(address.parse().expect("an address"));
        assert_eq!(shown("127.0.0.1:9"), "/127.0.0.1");
        assert_eq!(shown("[::ffff:10.0.0.1]:9"), "/10.0.0.1");
        assert_eq!(shown("[::1]:9"), "/::1");
    }
}
