//! Reports: their data ([`model`]) and how they are written for people ([`text`], [`html`]) and
//! programs ([`json`]). Nothing here measures anything.

pub mod html;
pub mod json;
pub mod model;
mod plot;
#[cfg(test)]
mod sample;
mod summary;
mod table;
mod tables;
pub mod text;
mod units;

pub use summary::{LatencyMedians, SeriesMedians, counted, medians};
