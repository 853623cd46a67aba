//! From the errors of [`crate::error`] to a message's [`Status`] and back.

use super::messages::Status;
use crate::error::{ErrorCode, WireError};

impl Status {
    /// Success.
    #[must_use]
    pub fn ok() -> Status {
        Status::default()
    }

    /// A failure.
    pub fn failed(code: ErrorCode, message: impl Into<String>) -> Status {
        Status {
            code: code as i16,
            message: message.into(),
        }
    }

    /// Whether it means success.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.code == 0
    }

    /// Success as `Ok`, a failure as its error. A number that this version does not know becomes
    /// [`ErrorCode::Unknown`], with the number in the sentence.
    pub fn into_result(self) -> Result<(), WireError> {
        if self.is_ok() {
            return Ok(());
        }
        Err(match ErrorCode::from_number(self.code) {
            Some(code) => WireError::new(code, self.message),
            None => {
                let message = format!("{} (error code {})", self.message, self.code);
                WireError::new(ErrorCode::Unknown, message)
            }
        })
    }
}

impl From<WireError> for Status {
    fn from(error: WireError) -> Status {
        Status {
            code: error.code as i16,
            message: error.message,
        }
    }
}

impl<E: Into<WireError>> From<Result<(), E>> for Status {
    fn from(result: Result<(), E>) -> Status {
        match result {
            Ok(()) => Status::ok(),
            Err(error) => error.into().into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_survive_and_unknown_numbers_are_kept_in_words() {
        for code in ErrorCode::ALL {
            let error = WireError::new(*code, "why");
            assert_eq!(Status::from(error.clone()).into_result(), Err(error));
        }
        assert_eq!(Status::ok().into_result(), Ok(()));
        let unknown = Status {
            code: 31_999,
            message: "later".into(),
        };
        let error = unknown.into_result().unwrap_err();
        assert_eq!(error.code, ErrorCode::Unknown);
        assert!(error.message.contains("31999"));
    }
}
