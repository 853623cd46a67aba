//! For tests: answers as clients read them, in every version that is served.

use std::ops::RangeInclusive;

use bytes::BytesMut;
use millrace_wire::kafka::ApiKey;
use millrace_wire::kafka::control::{ResponseKind, read_response, write_response};

/// The answer as a client reads it. Panics if its version has no room for it.
pub(super) fn read_back(
    key: ApiKey,
    version: i16,
    response: impl Into<ResponseKind>,
) -> ResponseKind {
    let mut out = BytesMut::new();
    write_response(key, version, 7, &response.into(), &mut out)
        .unwrap_or_else(|error| panic!("{key:?} {version}: {error}"));
    let payload = out.freeze().slice(4..);
    let (correlation, response) =
        read_response(key, version, payload).expect("a client reads what was written");
    assert_eq!(correlation, 7);
    response
}

/// The versions that are served.
pub(super) fn versions(key: ApiKey) -> RangeInclusive<i16> {
    let versions = key.versions().expect("it is served");
    versions.min..=versions.max
}
