//! Which crate may depend on which: the house has one direction, so that a newcomer knows where a thing can't be.

use super::manifest::{self, Dependency, Kind};
use super::tree::{File, Tree, Violation};

/// A crate and the crates of ours that it may depend on.
const ARROWS: &[(&str, &[&str])] = &[
    ("kernel", &[]),
    ("domains", &["kernel"]),
    ("journal", &[]),
    ("store", &["kernel", "journal"]),
    ("runtime", &["kernel", "store"]),
    ("gateway", &["kernel", "store", "runtime"]),
    ("server", &["kernel", "domains", "store", "runtime", "gateway"]),
    ("client", &["kernel"]),
    ("conformance", &["kernel", "store", "runtime"]),
    ("browser", &["kernel", "domains"]),
];

/// These keep to their arrows in their tests too.
const PURE: &[&str] = &["kernel", "domains"];

/// The suites exist to be used by the tests of any crate.
const SUITES: &str = "conformance";

pub(crate) fn violations(tree: &Tree) -> Vec<Violation> {
    tree.files().flat_map(|file| of_manifest(file).unwrap_or_default()).collect()
}

/// The name of the crate whose manifest a path is.
pub(crate) fn crate_of_manifest(path: &str) -> Option<&str> {
    let name = path.strip_prefix("crates/")?.strip_suffix("/Cargo.toml")?;
    (!name.contains('/')).then_some(name)
}

fn of_manifest(file: &File) -> Option<Vec<Violation>> {
    let name = crate_of_manifest(&file.path)?;
    let Some((_, allowed)) = ARROWS.iter().find(|(known, _)| *known == name) else {
        let message = format!("`{name}` has no arrows: give it a row in xtask/src/tidy/arrows.rs");
        return Some(vec![file.violation(1, message)]);
    };
    let wrong = manifest::dependencies(&file.text).into_iter().filter_map(|dependency| {
        let Dependency { name: target, kind, line, .. } = dependency;
        let target = target.strip_prefix("sillage-")?;
        if may_point(name, kind, target, allowed) {
            return None;
        }
        let wanted = if allowed.is_empty() { "none of ours".to_owned() } else { allowed.join(", ") };
        let message = format!(
            "`{name}` may not depend on `{target}`: it may on {wanted}; move the code or ask for less"
        );
        Some(file.violation(line, message))
    });
    Some(wrong.collect())
}

fn may_point(name: &str, kind: Kind, target: &str, allowed: &[&str]) -> bool {
    let in_tests = kind == Kind::Dev && (target == SUITES || !PURE.contains(&name));
    in_tests || allowed.contains(&target)
}

#[cfg(test)]
mod tests {
    use super::super::tree;
    use super::*;

    #[test]
    fn arrows_point_one_way() {
        fn check(name: &str, text: &str, expected: &[(usize, &str)]) {
            tree::check(violations, &format!("crates/{name}/Cargo.toml"), text, expected);
        }
        let on = |table: &str, target: &str| {
            format!("[{table}]\nserde.workspace = true\n{target}.workspace = true\n")
        };
        check("store", &on("dependencies", "sillage-journal"), &[]);
        check("store", &on("dependencies", "sillage-runtime"), &[(3, "it may on kernel, journal")]);
        check("kernel", &on("dependencies", "sillage-store"), &[(3, "none of ours")]);
        check("kernel", &on("dev-dependencies", "sillage-store"), &[(3, "may not depend on `store`")]);
        check("domains", &on("dev-dependencies", "sillage-conformance"), &[]);
        check("journal", &on("dev-dependencies", "sillage-server"), &[]);
        check(
            "runtime",
            &on("dependencies", "sillage-conformance"),
            &[(3, "may not depend on `conformance`")],
        );
        check("runtime", &on("build-dependencies", "sillage-gateway"), &[(3, "may not depend on `gateway`")]);
        check("conformance", &on("dependencies", "sillage-domains"), &[(3, "may not depend on `domains`")]);
        check("novel", "[package]\n", &[(1, "has no arrows")]);
    }
}
