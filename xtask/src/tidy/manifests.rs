//! Lints and versions stand once, in the manifest of the workspace.

use super::arrows::crate_of_manifest;
use super::manifest::{self, Version};
use super::tree::{File, Tree, Violation};

pub(crate) fn violations(tree: &Tree) -> Vec<Violation> {
    let is_example = |path: &str| path.starts_with("examples/") && path.ends_with("/Cargo.toml");
    let is_member =
        |path: &str| path == "xtask/Cargo.toml" || is_example(path) || crate_of_manifest(path).is_some();
    tree.files().filter(|file| is_member(&file.path)).flat_map(of_manifest).collect()
}

fn of_manifest(file: &File) -> Vec<Violation> {
    let mut found = Vec::new();
    let inherits = manifest::entries(&file.text).into_iter().any(|entry| {
        let is_lints = entry.table == "lints" && entry.key == "workspace";
        (is_lints || entry.key == "lints.workspace") && entry.value == "true"
    });
    if !inherits {
        found.push(
            file.violation(1, "the lints stand in the workspace: add `[lints]` with `workspace = true`"),
        );
    }
    for dependency in manifest::dependencies(&file.text) {
        if dependency.version == Version::Own {
            let name = dependency.name;
            let message =
                format!("the version of `{name}` stands in the workspace: write `{name}.workspace = true`");
            found.push(file.violation(dependency.line, message));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::tree;
    use super::*;

    #[test]
    fn lints_and_versions_stand_once() {
        fn check(text: &str, expected: &[(usize, &str)]) {
            for manifest in ["crates/a/Cargo.toml", "examples/a/Cargo.toml"] {
                tree::check(violations, manifest, text, expected);
            }
        }
        let lints = "[lints]\nworkspace = true\n";
        check(lints, &[]);
        check("[package]\nname = \"a\"\n", &[(1, "[lints]")]);
        check("[lints.clippy]\nall = \"warn\"\n", &[(1, "[lints]")]);
        check(&format!("{lints}[dependencies]\nb.workspace = true\n"), &[]);
        check(&format!("{lints}[dependencies]\nb = \"1\"\n"), &[(4, "`b.workspace = true`")]);
        check(&format!("{lints}[dev-dependencies.b]\nversion = \"1\"\n"), &[(4, "the version of `b`")]);
        check(&format!("{lints}[dependencies]\nb = {{ path = \"../b\" }}\n"), &[(4, "the version of `b`")]);
    }
}
