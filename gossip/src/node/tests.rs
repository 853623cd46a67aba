//! Whole nodes in a small world without delays: what each rule of the protocol comes to.

mod detection;
mod entry;
mod identity;
mod world;
