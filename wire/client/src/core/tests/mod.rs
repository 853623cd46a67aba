//! The core against a scripted broker, in virtual time.

#[path = "../../../tests/common/log.rs"]
mod log;

#[path = "../../../tests/common/coordinator.rs"]
mod coordinator;

mod consuming;
mod grouping;
mod grouping_doubts;
mod grouping_faults;
mod grouping_offsets;
mod idempotence;
mod linking;
mod member;
mod producing;
mod random_faults;
mod world;
