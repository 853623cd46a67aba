//! The broker's errors in Kafka's numbers (protocol guide, "Error Codes"). What only Millrace has
//! becomes the code that makes a client do the right thing: try again, ask for metadata again, or
//! give up.

use millrace_wire::error::{ErrorCode, WireError};

/// Kafka's number for a code.
pub(super) fn kafka_code(code: ErrorCode) -> i16 {
    const STORAGE_ERROR: i16 = ErrorCode::StorageError as i16;
    const CLUSTER_AUTHORIZATION_FAILED: i16 = 31;
    match code {
        // Producers try again until their own time is up.
        ErrorCode::DiskReserveReached | ErrorCode::PartitionDamaged => STORAGE_ERROR,
        ErrorCode::Overloaded => ErrorCode::RequestTimedOut as i16,
        // Clients look for the new leader: this broker after its restart, or another.
        ErrorCode::ShuttingDown => ErrorCode::NotLeader as i16,
        ErrorCode::TopicDeleted => ErrorCode::UnknownTopicOrPartition as i16,
        ErrorCode::MalformedFrame | ErrorCode::FrameTooLarge | ErrorCode::HandshakeRequired => {
            ErrorCode::InvalidRequest as i16
        }
        ErrorCode::RemoteRefused => CLUSTER_AUTHORIZATION_FAILED,
        code => code as i16,
    }
}

/// Kafka's number for a code in an answer about a group. Where the partition behind its coordinator is
/// in trouble, clients are to look for the coordinator again: this broker after its restart, or another.
pub(super) fn group_code(code: ErrorCode) -> i16 {
    let code = match code {
        ErrorCode::ShuttingDown
        | ErrorCode::NotLeader
        | ErrorCode::StorageError
        | ErrorCode::PartitionDamaged => ErrorCode::NotCoordinator,
        ErrorCode::Overloaded
        | ErrorCode::RequestTimedOut
        | ErrorCode::NotEnoughReplicas
        | ErrorCode::DiskReserveReached
        | ErrorCode::UnknownTopicOrPartition
        | ErrorCode::TopicDeleted => ErrorCode::CoordinatorNotAvailable,
        ErrorCode::MessageTooLarge => ErrorCode::Unknown,
        code => code,
    };
    kafka_code(code)
}

/// The same for one of a group's offsets, which names a partition of its own.
pub(super) fn group_offset_code(code: ErrorCode) -> i16 {
    const INVALID_COMMIT_OFFSET_SIZE: i16 = 28;
    match code {
        ErrorCode::UnknownTopicOrPartition | ErrorCode::TopicDeleted => {
            ErrorCode::UnknownTopicOrPartition as i16
        }
        ErrorCode::MessageTooLarge => INVALID_COMMIT_OFFSET_SIZE,
        code => group_code(code),
    }
}

/// What Kafka does and this broker does not yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// Transactional producers.
    Transactions,
}

impl From<Refused> for WireError {
    fn from(refused: Refused) -> WireError {
        let message = match refused {
            Refused::Transactions => {
                "transactions are not served yet; produce without a transactional.id"
            }
        };
        WireError::new(ErrorCode::UnsupportedVersion, message)
    }
}

/// An outcome in Kafka's form: a number, and a sentence where something went wrong.
pub(super) fn told<T>(outcome: &Result<T, WireError>) -> (i16, Option<String>) {
    match outcome {
        Ok(_) => (0, None),
        Err(error) => (kafka_code(error.code), Some(error.message.clone())),
    }
}

/// A name that no topic can have names none: where Kafka looks a name up without asking whether it is
/// well formed, that is all it says.
pub(super) fn unknown_if_malformed(error: WireError) -> WireError {
    match error.code {
        ErrorCode::InvalidTopic => WireError {
            code: ErrorCode::UnknownTopicOrPartition,
            ..error
        },
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_client_sees_a_number_that_is_not_kafkas() {
        for code in ErrorCode::ALL {
            for number in [
                kafka_code(*code),
                group_code(*code),
                group_offset_code(*code),
            ] {
                assert!((-1..200).contains(&number), "{code:?} is {number}");
            }
        }
    }

    #[test]
    fn a_group_in_trouble_makes_clients_look_for_its_coordinator() {
        // Codes on which no client does: each is about a partition that it produces to or reads.
        const OF_PARTITIONS: [i16; 5] = [3, 6, 7, 19, 56];
        for code in ErrorCode::ALL {
            let number = group_code(*code);
            assert!(!OF_PARTITIONS.contains(&number), "{code:?} is {number}");
        }
        assert_eq!(group_code(ErrorCode::ShuttingDown), 16);
        assert_eq!(group_code(ErrorCode::Overloaded), 15);
        // But an offset's own partition may be gone.
        assert_eq!(group_offset_code(ErrorCode::TopicDeleted), 3);
        assert_eq!(group_offset_code(ErrorCode::ShuttingDown), 16);
    }

    #[test]
    fn what_may_work_later_is_retriable_for_kafka_too() {
        // Kafka's retriable codes among those that are used here.
        const RETRIABLE: [i16; 13] = [3, 6, 7, 14, 15, 16, 19, 56, 70, 71, 74, 75, 100];
        for code in ErrorCode::ALL.iter().filter(|code| code.is_retriable()) {
            for number in [
                kafka_code(*code),
                group_code(*code),
                group_offset_code(*code),
            ] {
                assert!(RETRIABLE.contains(&number), "{code:?} is {number}");
            }
        }
    }
}
