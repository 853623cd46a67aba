//! Names of topics that Kafka's tools cannot tell apart.

use millrace_wire::error::{ErrorCode, WireError};
use millrace_wire::ids::TopicName;

/// Refuses a name that is like one of those that there are.
pub(super) fn check_alike<'a>(
    name: &TopicName,
    names: impl Iterator<Item = &'a TopicName>,
) -> Result<(), WireError> {
    alike(name, names).map_or(Ok(()), |alike| {
        let message = format!(
            "'{name}' differs from the topic '{alike}' in '.' and '_' alone, which Kafka's tools cannot tell apart; choose another name"
        );
        Err(WireError::new(ErrorCode::InvalidTopic, message))
    })
}

/// The one among `names` that is `name` with some `.` in place of `_`, or the other way round. Kafka
/// writes one for the other in the names of metrics, and so refuses the second of two such topics.
fn alike<'a>(
    name: &TopicName,
    mut names: impl Iterator<Item = &'a TopicName>,
) -> Option<&'a TopicName> {
    let is_either = |letter: &u8| matches!(letter, b'.' | b'_');
    let name = name.as_str().as_bytes();
    // Most names have neither, and none that is like them.
    name.iter().find(|letter| is_either(letter))?;
    let is_alike = |other: &[u8]| {
        let mut letters = name.iter().zip(other);
        name.len() == other.len()
            && letters.all(|(one, other)| one == other || is_either(one) && is_either(other))
    };
    names.find(|other| is_alike(other.as_str().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_and_underscores_are_taken_for_each_other() {
        let name = |text| TopicName::user(text).expect(text);
        let all = ["a.b_c", "ab", "a-b-c", "a.b_cc", ".b_c"].map(name);
        for (asked, found) in [
            ("a_b_c", Some("a.b_c")),
            ("a.b.c", Some("a.b_c")),
            ("_b.c", Some(".b_c")),
            ("a-b.c", None),
            ("a.b_d", None),
            ("a-b-c", None),
            ("a.b", None),
        ] {
            let like = alike(&name(asked), all.iter());
            assert_eq!(like.map(TopicName::as_str), found, "{asked}");
        }
    }
}
