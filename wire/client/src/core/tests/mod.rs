//! The core against a scripted broker, in virtual time.

#[path = "../../../tests/common/log.rs"]
mod log;

mod consuming;
mod idempotence;
mod linking;
mod producing;
mod random_faults;
mod world;
