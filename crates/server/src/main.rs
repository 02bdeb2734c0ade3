//! The binary `sillage`.
fn main() {}
