//! Compiles the protobuf schema, in Rust alone: no `protoc` is needed.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto/millrace.proto");
    let schema = protox::compile(["proto/millrace.proto"], ["proto"])?;
    // The owned messages carry the documentation; the schema's comments are for other languages.
    prost_build::Config::new()
        .disable_comments(["."])
        .compile_fds(schema)?;
    Ok(())
}
