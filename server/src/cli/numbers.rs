//! Numbers on the command line. A wrong one is told what it should have been; arguments of these
//! kinds also allow a minus, so that `-1` is a wrong number and not an unknown flag.

/// A partition's number, or a number of records.
pub(super) fn whole<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse()
        .map_err(|_| "it is a whole number, 0 or more".into())
}

/// An offset.
pub(super) fn offset(text: &str) -> Result<i64, String> {
    match text.parse() {
        Ok(offset) if offset >= 0 => Ok(offset),
        _ => Err("an offset is a whole number, 0 or more".into()),
    }
}

/// A number of partitions.
pub(super) fn partitions(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(partitions) if partitions > 0 => Ok(partitions),
        _ => Err("a topic has a whole number of partitions, 1 or more".into()),
    }
}
