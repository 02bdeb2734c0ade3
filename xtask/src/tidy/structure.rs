//! Where things stand: one integration binary for each crate, since each binary is linked anew after every change,
//! and a crate that opens by saying what it is.

use super::tree::{File, Tree, Violation};

pub(crate) fn violations(tree: &Tree) -> Vec<Violation> {
    tree.rust().flat_map(of_file).collect()
}

fn of_file(file: &File) -> Vec<Violation> {
    let mut found = Vec::new();
    if is_second_test_binary(&file.path) {
        found.push(file.violation(1, "a crate has one integration binary: move this below `tests/it/`"));
    }
    if matches!(file.name(), "lib.rs" | "main.rs") && !file.text.starts_with("//!") {
        found.push(file.violation(1, "a crate opens with `//!`: say what it holds and what it keeps"));
    }
    found
}

/// Cargo makes a binary of `tests/name.rs` and of `tests/name/main.rs`.
fn is_second_test_binary(path: &str) -> bool {
    let mut parts = path.split('/');
    let inside = match (parts.next(), parts.next()) {
        (Some("xtask"), Some("tests")) => parts,
        (Some("crates" | "examples"), Some(_)) if parts.next() == Some("tests") => parts,
        _ => return false,
    };
    match inside.collect::<Vec<_>>().as_slice() {
        [_] => true,
        [folder, "main.rs"] => *folder != "it",
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tree;
    use super::*;

    fn check(path: &str, text: &str, expected: &[(usize, &str)]) {
        tree::check(violations, path, text, expected);
    }

    #[test]
    fn a_crate_has_one_integration_binary() {
        check("crates/a/tests/it/main.rs", "//! The tests.\n", &[]);
        check("crates/a/tests/it/b.rs", "", &[]);
        check("crates/a/tests/b.rs", "", &[(1, "one integration binary")]);
        check("examples/a/tests/b.rs", "", &[(1, "one integration binary")]);
        check("crates/a/tests/b/main.rs", "//! More.\n", &[(1, "one integration binary")]);
        check("xtask/tests/b.rs", "", &[(1, "one integration binary")]);
    }

    #[test]
    fn a_crate_says_what_it_is() {
        check("crates/a/src/lib.rs", "//! What it is.\n", &[]);
        check("crates/a/src/lib.rs", "mod a;\n", &[(1, "opens with `//!`")]);
        check("crates/a/src/main.rs", "", &[(1, "opens with `//!`")]);
        check("crates/a/src/b.rs", "", &[]);
    }
}
