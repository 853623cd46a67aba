//! Starting and guarding the executors. [`probe`] asks the kernel, before anything else, whether it
//! lets us work; [`affinity`] picks the CPUs; [`executor`] starts one pinned glommio executor per
//! shard with the settings that were measured to be right; every task runs under the wrapper in
//! [`supervise`](mod@supervise); and [`watchdog`], on an ordinary thread, wakes a shard that fell
//! asleep with work in its queues. Nothing here knows what a shard does.

pub mod affinity;
pub mod executor;
mod nudge;
pub mod probe;
mod pulse;
mod supervise;
pub mod watchdog;

#[cfg(test)]
pub(crate) mod testing;

pub use pulse::Pulse;
pub(crate) use supervise::{stop_process, supervise};
