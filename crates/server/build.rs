//! Builds the server anew when the studio was: its pages are carried in the binary.

use std::path::Path;

fn main() {
    let studio = Path::new("../../web/studio");
    let built = studio.join("dist");
    // Without a build of the studio its folder is watched: one may appear there.
    let watched = if built.exists() { built } else { studio.to_path_buf() };
    println!("cargo::rerun-if-changed={}", watched.display());
    println!("cargo::rerun-if-changed=build.rs");
}
