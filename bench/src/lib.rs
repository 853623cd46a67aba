//! The latency harness behind `millrace-bench`. It speaks to a broker over TCP alone and runs
//! beside it, on CPUs of its own.
//!
//! - [`workload`]: what is asked for; [`run`]: putting it on a broker, repetition by repetition.
//!   [`sweep`], [`compare`], [`explain`] and [`figures`] are built on that.
//! - [`rebalance`]: groups of real consumers while members come and go.
//! - [`load`]: the generator; [`protocol`]: what it speaks; [`broker`]: a broker started for a run.
//! - [`limits`]: what the machine can do; [`environment`](report::model::Environment): what it is.
//! - [`record`]: from measurements to figures; [`report`]: from figures to text, JSON and HTML.

pub mod broker;
pub mod cli;
pub mod compare;
pub mod cpu;
pub mod environment;
pub mod explain;
pub mod figures;
pub mod limits;
pub mod load;
mod planning;
pub mod progress;
pub mod protocol;
pub mod rebalance;
pub mod record;
pub mod report;
pub mod run;
pub mod sweep;
pub mod workload;
