//! What every request begins with.

use super::api::ApiKey;
use super::read::{DecodeError, Reader};

/// A request's head (request header versions 1 and 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHead<'a> {
    /// What is asked for; [`ApiKey`] has the numbers that are known.
    pub api_key: i16,
    /// In which version.
    pub api_version: i16,
    /// Repeated in the answer.
    pub correlation: i32,
    /// The name that the client gives itself.
    pub client_id: Option<&'a str>,
    /// Where the body begins in the payload.
    pub body_at: usize,
}

impl RequestHead<'_> {
    /// Reads the head of a request, whose `payload` is everything after the four bytes of its length.
    /// Of a key that is not known the tagged fields, if it has any, are taken for the body.
    pub fn parse(payload: &[u8]) -> Result<RequestHead<'_>, DecodeError> {
        // The client's name has the older form of a length in both versions of the head.
        let mut reader = Reader::new(payload, false);
        let (api_key, api_version) = (reader.i16()?, reader.i16()?);
        let correlation = reader.i32()?;
        let client_id = reader.nullable_string()?;
        let mut body_at = reader.at();
        let key = ApiKey::from_number(api_key);
        if key.is_some_and(|key| key.is_flexible(api_version)) {
            let mut tags = Reader::new(&payload[body_at..], true);
            tags.tags()?;
            body_at += tags.at();
        }
        Ok(RequestHead {
            api_key,
            api_version,
            correlation,
            client_id,
            body_at,
        })
    }
}
