//! Reports: their data ([`model`]) and how they are written for people (text, HTML) and programs
//! (JSON). Nothing here measures anything.

pub mod model;
