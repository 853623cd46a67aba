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
            let number = kafka_code(*code);
            assert!((-1..200).contains(&number), "{code:?} is {number}");
        }
    }

    #[test]
    fn what_may_work_later_is_retriable_for_kafka_too() {
        // Kafka's retriable codes among those that are used here.
        const RETRIABLE: [i16; 10] = [3, 6, 7, 19, 56, 70, 71, 74, 75, 100];
        for code in ErrorCode::ALL.iter().filter(|code| code.is_retriable()) {
            let number = kafka_code(*code);
            assert!(RETRIABLE.contains(&number), "{code:?} is {number}");
        }
    }
}
