//! The `millrace` program: configuration, listeners, request handlers, the controller and the
//! command line, on top of `shard/` (storage and executors) and `wire/` (what crosses a socket).

pub mod broker;
pub mod cli;
pub mod config;
pub mod controller;
pub mod coordinator;
pub mod kafka;
pub mod listen;
pub mod logging;
pub mod native;
pub mod serve;
pub mod session;
pub mod topic_config;
pub mod value_type;
