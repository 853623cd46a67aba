//! Experiments: the same worlds, measured instead of judged. The rules are checked all the same.
//!
#![doc = include_str!("../../FIGURE-16.md")]

mod figure_16;
mod plot;

pub use figure_16::{Figure16, LINES_OF_FIGURE_16, Line, figure_16};
