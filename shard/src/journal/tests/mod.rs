//! The journal under test: its format byte by byte, its decision case by case, and the whole of it
//! in a simulated world that crashes, tears and flips.

mod behaviour;
mod format;
mod life;
mod model;
mod seeds;
mod walk;
