//! What the guide and the README say is what the program is and does.

#![cfg(test)]

use std::collections::BTreeMap;
use std::path::Path;

use sillage_conformance::walk::Walk;

/// The guide that the program is written in.
const GUIDE: &str = include_str!("../../../../docs/guides/write-a-domain.md");
/// What opens a block of the guide: the file that it belongs to follows.
const FENCE: &str = "```rust ";

#[test]
fn the_guide_has_all_of_the_code_and_no_other() {
    let mut told: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for block in GUIDE.split(FENCE).skip(1) {
        let (file, rest) = block.split_once('\n').unwrap();
        told.entry(file).or_default().push(rest.split("```").next().unwrap());
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = std::fs::read_dir(root.join("src")).unwrap();
    let mut there: Vec<_> =
        files.map(|file| format!("src/{}", file.unwrap().file_name().to_str().unwrap())).collect();
    there.sort();
    assert_eq!(told.keys().collect::<Vec<_>>(), there.iter().collect::<Vec<_>>());
    for (file, blocks) in told {
        let code = std::fs::read_to_string(root.join(file)).unwrap();
        assert_eq!(blocks.join("\n"), code, "{file} is not what the guide says");
    }
}

#[test]
fn the_walk_prints_what_it_says() {
    Walk {
        document: include_str!("../../README.md"),
        start: "cargo run -q -p rooms -- serve",
        program: "cargo run -q -p rooms --",
        binary: env!("CARGO_BIN_EXE_rooms"),
    }
    .check();
}
