//! The Rust client of Millrace, on tokio. What it decides (batching, routing, retries, metadata) is
//! a state machine without I/O; the tokio face under it moves bytes and time.
