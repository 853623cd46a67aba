//! The native protocol: its messages and their two encodings.

pub mod messages;
