//! The `aepo` binary.
fn main() {}
