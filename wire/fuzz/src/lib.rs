//! Fuzz targets: for each parser of bytes from outside, one function that takes any bytes, panics
//! if a property does not hold, and is listed in [`TARGETS`]. Only tests and the fuzzer run this.
//!
//! Three things run a target: `cargo test -p millrace-fuzz` (the corpus, then seeded mutations of
//! it for a few seconds), `scripts/fuzz TARGET` (libFuzzer, for as long as you like) and, to
//! reproduce what either found, `MILLRACE_FUZZ_INPUT=FILE cargo test -p millrace-fuzz`.
//!
//! **Adding one**: write the function and its seeds in a module beside these, add a line to the
//! table, run `cargo run -p millrace-fuzz --example seeds`, and commit the new files in `corpus/`.

pub mod allocation;
mod batches;
mod consumers;
mod frames;
mod groups;
mod journals;
mod kafka;
pub mod mutation;
mod names;
mod segments;

use std::path::PathBuf;

/// A name for a file of the corpus, and what it holds.
pub type Seed = (&'static str, Vec<u8>);

/// A parser under test.
pub struct Target {
    /// Its name, also that of its folder in `corpus/`.
    pub name: &'static str,
    /// Feeds it bytes; panics if a property does not hold.
    pub run: fn(&[u8]),
    /// Small inputs that get far into it.
    pub seeds: fn() -> Vec<Seed>,
}

macro_rules! targets {
    ($($name:ident: $run:path, $seeds:expr;)*) => {
        /// Every target.
        pub const TARGETS: &[Target] =
            &[$(Target { name: stringify!($name), run: $run, seeds: $seeds },)*];
    };
}

targets! {
    frame_header: frames::frame_header, frames::frame_header_seeds;
    request_rkyv: frames::request_rkyv, || frames::request_seeds(frames::RKYV);
    request_protobuf: frames::request_protobuf, || frames::request_seeds(frames::PROTOBUF);
    response_rkyv: frames::response_rkyv, || frames::response_seeds(frames::RKYV);
    response_protobuf: frames::response_protobuf, || frames::response_seeds(frames::PROTOBUF);
    batch_run: batches::run_of_batches, batches::run_seeds;
    batch_none: batches::none, || batches::codec_seeds(batches::NONE);
    batch_gzip: batches::gzip, || batches::codec_seeds(batches::GZIP);
    batch_snappy: batches::snappy, || batches::codec_seeds(batches::SNAPPY);
    batch_lz4: batches::lz4, || batches::codec_seeds(batches::LZ4);
    batch_zstd: batches::zstd, || batches::codec_seeds(batches::ZSTD);
    segment_entries: segments::entries, segments::entries_seeds;
    segment_blocks: segments::blocks, segments::blocks_seeds;
    journal_file: journals::file, journals::seeds;
    kafka_request: kafka::request, kafka::request_seeds;
    consumer_protocol: consumers::protocol, consumers::protocol_seeds;
    topic_name: names::topic_name, names::topic_name_seeds;
}

/// The target of this name.
#[must_use]
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

impl Target {
    /// Where its seeds are kept.
    #[must_use]
    pub fn corpus(&self) -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("corpus")
            .join(self.name)
    }
}
