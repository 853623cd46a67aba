//! Consumer groups from outside: DescribeGroups (15), ListGroups (16), DeleteGroups (42).

use std::collections::BTreeSet;

use millrace_shard::env::Env;
use millrace_wire::error::WireError;
use millrace_wire::kafka::control::StrBytes;
use millrace_wire::kafka::control::messages::delete_groups_response::DeletableGroupResult;
use millrace_wire::kafka::control::messages::describe_groups_response::{
    DescribedGroup, DescribedGroupMember,
};
use millrace_wire::kafka::control::messages::{
    DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse,
    GroupId, ListGroupsRequest, ListGroupsResponse, list_groups_response,
};

use super::errors::group_code;
use super::groups::{any_group_name, outcome_code};
use super::session::Session;
use crate::coordinator::api::{GroupAnswer, GroupDescription, GroupRequest, ListedGroup};

/// The first version of ListGroups that tells where a group stands (KIP-518).
const FIRST_LIST_WITH_STATES: i16 = 4;
/// And of which type it is (KIP-848).
const FIRST_LIST_WITH_TYPES: i16 = 5;

/// The type of a group whose members join and sync.
const CLASSIC: &str = "classic";

/// What may be done to a group, as a bit for each of Kafka's operations (KIP-430): read (3), delete (6),
/// describe (8).
const GROUP_OPERATIONS: i32 = 1 << 3 | 1 << 6 | 1 << 8;

impl<E: Env> Session<E> {
    pub(super) async fn describe_groups(
        &self,
        request: DescribeGroupsRequest,
    ) -> DescribeGroupsResponse {
        let (mut groups, mut seen) = (Vec::new(), BTreeSet::new());
        for group in request.groups {
            // Each once: the same again must not make an answer of megabytes.
            if seen.insert(group.clone()) {
                let description = self.described_group(&group).await;
                let operations = request.include_authorized_operations;
                groups.push(described(group, description, operations));
            }
            self.broker.env.yield_now().await;
        }
        DescribeGroupsResponse::default().with_groups(groups)
    }

    async fn described_group(&self, group: &GroupId) -> Result<GroupDescription, WireError> {
        let group = any_group_name(group)?;
        self.ask_group(group, GroupRequest::Describe, |answer| match answer {
            GroupAnswer::Describe(description) => Some(description),
            _ => None,
        })
        .await
    }

    pub(super) async fn list_groups(
        &self,
        version: i16,
        request: ListGroupsRequest,
    ) -> ListGroupsResponse {
        let groups = match self.broker.list_groups().await {
            Ok(groups) => groups,
            Err(error) => {
                return ListGroupsResponse::default().with_error_code(group_code(error.code));
            }
        };
        let filter = Filter::new(&request);
        let mut listed = Vec::new();
        for group in groups {
            if filter.lets_through(&group) {
                listed.push(list_entry(version, group));
            }
            self.broker.env.yield_now().await;
        }
        ListGroupsResponse::default().with_groups(listed)
    }

    pub(super) async fn delete_groups(&self, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
        let (mut results, mut seen) = (Vec::new(), BTreeSet::new());
        for group in request.groups_names {
            // Each once: the second time it would be gone.
            if seen.insert(group.clone()) {
                let deleted = self.deleted_group(&group).await;
                results.push(
                    DeletableGroupResult::default()
                        .with_group_id(group)
                        .with_error_code(outcome_code(&deleted)),
                );
            }
            self.broker.env.yield_now().await;
        }
        DeleteGroupsResponse::default().with_results(results)
    }

    async fn deleted_group(&self, group: &GroupId) -> Result<(), WireError> {
        let group = any_group_name(group)?;
        self.ask_group(group, GroupRequest::Delete, |answer| {
            matches!(answer, GroupAnswer::Delete).then_some(())
        })
        .await
    }
}

/// Which groups are to be listed. Kafka does not tell capitals from small letters here.
struct Filter {
    /// In small letters; none: whichever.
    states: BTreeSet<String>,
    /// Whether groups of the one type that there is are asked for.
    classic: bool,
}

impl Filter {
    fn new(request: &ListGroupsRequest) -> Filter {
        let states = request.states_filter.iter();
        let mut types = request.types_filter.iter();
        Filter {
            states: states.map(|state| state.to_ascii_lowercase()).collect(),
            classic: request.types_filter.is_empty()
                || types.any(|kind| kind.eq_ignore_ascii_case(CLASSIC)),
        }
    }

    fn lets_through(&self, group: &ListedGroup) -> bool {
        let state = || group.state.name().to_ascii_lowercase();
        self.classic && (self.states.is_empty() || self.states.contains(&state()))
    }
}

fn list_entry(version: i16, group: ListedGroup) -> list_groups_response::ListedGroup {
    let mut entry = list_groups_response::ListedGroup::default()
        .with_group_id(GroupId(StrBytes::from_string(group.group)))
        .with_protocol_type(StrBytes::from_string(group.protocol_type));
    if version >= FIRST_LIST_WITH_STATES {
        entry.group_state = StrBytes::from_static_str(group.state.name());
    }
    if version >= FIRST_LIST_WITH_TYPES {
        entry.group_type = StrBytes::from_static_str(CLASSIC);
    }
    entry
}

fn described(
    group: GroupId,
    description: Result<GroupDescription, WireError>,
    operations: bool,
) -> DescribedGroup {
    let answer = DescribedGroup::default().with_group_id(group);
    let description = match description {
        Ok(description) => description,
        Err(error) => return answer.with_error_code(group_code(error.code)),
    };
    let members = description.members.into_iter().map(|member| {
        DescribedGroupMember::default()
            .with_member_id(StrBytes::from_string(member.member_id))
            .with_group_instance_id(member.instance_id.map(StrBytes::from_string))
            .with_client_id(StrBytes::from_string(member.client_id))
            .with_client_host(StrBytes::from_string(member.client_host))
            .with_member_metadata(member.metadata)
            .with_member_assignment(member.assignment)
    });
    let answer = answer
        .with_group_state(StrBytes::from_static_str(description.state.name()))
        .with_protocol_type(StrBytes::from_string(description.protocol_type))
        .with_protocol_data(StrBytes::from_string(description.protocol))
        .with_members(members.collect());
    match operations {
        true => answer.with_authorized_operations(GROUP_OPERATIONS),
        false => answer,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use millrace_wire::error::ErrorCode;
    use millrace_wire::kafka::ApiKey;
    use millrace_wire::kafka::control::ResponseKind;

    use super::*;
    use crate::coordinator::api::{GroupState, MemberDescription};
    use crate::kafka::metadata::NOT_ASKED;
    use crate::kafka::read_back::{read_back, versions};

    fn text(text: &str) -> StrBytes {
        StrBytes::from_string(text.to_owned())
    }

    fn description() -> GroupDescription {
        GroupDescription {
            state: GroupState::Stable,
            protocol_type: "consumer".to_owned(),
            protocol: "range".to_owned(),
            generation: 3,
            members: vec![MemberDescription {
                member_id: "member".to_owned(),
                instance_id: Some("lasting".to_owned()),
                client_id: "client".to_owned(),
                client_host: "/127.0.0.1".to_owned(),
                metadata: Bytes::from_static(b"subscribed"),
                assignment: Bytes::from_static(b"assigned"),
            }],
        }
    }

    #[test]
    fn every_version_has_room_for_every_description() {
        for version in versions(ApiKey::DescribeGroups) {
            let answer = |description, operations| {
                let group = described(GroupId(text("group")), description, operations);
                let answer = DescribeGroupsResponse::default().with_groups(vec![group]);
                let response = read_back(ApiKey::DescribeGroups, version, answer);
                let ResponseKind::DescribeGroups(mut read) = response else {
                    panic!("another answer")
                };
                read.groups.remove(0)
            };
            // Versions that cannot ask for operations never do.
            let group = answer(Ok(description()), version >= 3);
            assert_eq!(group.group_state.as_str(), "Stable");
            assert_eq!(group.protocol_data.as_str(), "range");
            assert_eq!(group.members[0].member_assignment, "assigned");
            let operations = match version {
                3.. => GROUP_OPERATIONS,
                _ => NOT_ASKED,
            };
            assert_eq!(group.authorized_operations, operations);
            for code in ErrorCode::ALL {
                let group = answer(Err(WireError::new(*code, "no")), version >= 3);
                assert_eq!(group.error_code, group_code(*code));
                assert_eq!(group.authorized_operations, NOT_ASKED);
            }
        }
    }

    #[test]
    fn every_version_has_room_for_every_group_in_the_list() {
        for version in versions(ApiKey::ListGroups) {
            let group = ListedGroup {
                group: "group".to_owned(),
                protocol_type: "consumer".to_owned(),
                state: GroupState::Empty,
            };
            let entry = list_entry(version, group);
            let answer = ListGroupsResponse::default().with_groups(vec![entry]);
            let ResponseKind::ListGroups(read) = read_back(ApiKey::ListGroups, version, answer)
            else {
                panic!("another answer")
            };
            let (state, kind) = (&read.groups[0].group_state, &read.groups[0].group_type);
            assert_eq!(state.as_str(), if version >= 4 { "Empty" } else { "" });
            assert_eq!(kind.as_str(), if version >= 5 { "classic" } else { "" });
        }
    }

    #[test]
    fn groups_are_listed_by_state_and_type() {
        let passes = |states: &[&str], types: &[&str], state| {
            let texts = |texts: &[&str]| texts.iter().map(|it| text(it)).collect();
            let request = ListGroupsRequest::default()
                .with_states_filter(texts(states))
                .with_types_filter(texts(types));
            let group = ListedGroup {
                group: "group".to_owned(),
                protocol_type: String::new(),
                state,
            };
            Filter::new(&request).lets_through(&group)
        };
        assert!(passes(&[], &[], GroupState::Empty));
        assert!(passes(
            &["stable", "EMPTY"],
            &["Classic"],
            GroupState::Empty
        ));
        assert!(!passes(&["Stable"], &[], GroupState::Empty));
        assert!(!passes(&["NoSuchState"], &[], GroupState::Empty));
        assert!(!passes(&[], &["consumer"], GroupState::Empty));
    }
}
