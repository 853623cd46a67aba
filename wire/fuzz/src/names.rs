//! Names that users give and that become folders.

use millrace_wire::ids::{TOPIC_NAME_MAX_BYTES, TopicName};

use crate::Seed;

pub(crate) fn topic_name(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    match text.parse::<TopicName>() {
        Ok(name) => {
            assert_eq!(name.as_str(), text);
            assert!((1..=TOPIC_NAME_MAX_BYTES).contains(&text.len()));
            assert!(text.bytes().all(|byte| byte.is_ascii_graphic()));
            assert!(!text.contains(['/', '\\', '@', ':']) && text != "." && text != "..");
            let joined = std::path::Path::new("data").join(text);
            assert_eq!(
                joined.components().count(),
                2,
                "one folder, inside the data directory"
            );
        }
        Err(error) => {
            assert!(TopicName::user(text).is_err());
            assert!(
                error.to_string().len() < 200,
                "a message does not repeat a long name"
            );
        }
    }
}

pub(crate) fn topic_name_seeds() -> Vec<Seed> {
    vec![
        ("plain", b"orders.eu-west_1".to_vec()),
        ("dots", b"..".to_vec()),
        ("slash", b"a/../../etc".to_vec()),
        ("internal", b"@journal".to_vec()),
        ("reserved", b"__controller".to_vec()),
        ("control", b"a\0b\n".to_vec()),
        ("unicode", "t\u{f6}pfe\u{202e}".as_bytes().to_vec()),
        ("long", vec![b'a'; TOPIC_NAME_MAX_BYTES + 1]),
    ]
}
