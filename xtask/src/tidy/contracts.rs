//! The table of the contracts names tests that are there, and a promise that is said to hold names at least one.

use super::rust;
use super::tree::{File, Tree, Violation};

const TABLE: &str = "docs/contracts.md";
/// What stands in the second column of a promise that is kept.
const HOLDS: &str = "holds";

/// A test as the table names it.
enum Named<'a> {
    /// `store/tests/it/views.rs::a_test`, below `crates/` or the root.
    Function { path: &'a str, name: &'a str },
    /// `web/client/tests/client.test.ts: its title`.
    Title { path: &'a str, title: &'a str },
}

pub(crate) fn violations(tree: &Tree) -> Vec<Violation> {
    let Some(table) = tree.files().find(|file| file.path == TABLE) else { return Vec::new() };
    let lines = table.text.lines().enumerate();
    lines.flat_map(|(index, line)| of_line(tree, table, index + 1, line)).collect()
}

fn of_line(tree: &Tree, table: &File, number: usize, line: &str) -> Vec<Violation> {
    let named: Vec<_> = spans(line).filter_map(read).collect();
    let missing = named.iter().filter(|named| !exists(tree, named)).map(|named| match named {
        Named::Function { path, name } => format!("there is no function `{name}` in {path}: name the test"),
        Named::Title { path, title } => format!("there is no test {title:?} in {path}: name the test"),
    });
    let untested = is_kept(line) && named.is_empty();
    let untested = untested.then(|| "no test is named that would fail: write it, and name it".to_owned());
    missing.chain(untested).map(|message| table.violation(number, message)).collect()
}

/// What stands between backticks.
fn spans(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

fn read(span: &str) -> Option<Named<'_>> {
    let function = span.split_once("::").filter(|(path, _)| path.ends_with(".rs"));
    let title = span.split_once(": ").filter(|(path, _)| path.ends_with(".ts"));
    let title = title.map(|(path, title)| Named::Title { path, title });
    function.map(|(path, name)| Named::Function { path, name }).or(title)
}

fn is_kept(line: &str) -> bool {
    line.starts_with('|') && line.split('|').nth(2).is_some_and(|cell| cell.trim() == HOLDS)
}

fn exists(tree: &Tree, named: &Named<'_>) -> bool {
    let find = |path: &str| tree.files().find(|file| file.path == path);
    match named {
        Named::Function { path, name } => {
            let file = find(&format!("crates/{path}")).or_else(|| find(path));
            file.is_some_and(|file| rust::functions(&file.code).iter().any(|function| function.name == *name))
        }
        Named::Title { path, title } => find(path)
            .is_some_and(|file| ['"', '`'].iter().any(|q| file.text.contains(&format!("{q}{title}{q}")))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: &[&str]) {
        let tree = Tree::of(&[
            ("crates/a/tests/it/b.rs", "#[test]\nfn good() {}\n// fn gone() {}\n"),
            ("xtask/src/c.rs", "fn good() {}\n"),
            ("web/a.test.ts", "test(\"a click: is sent\", f);\n"),
            (TABLE, line),
        ]);
        let found: Vec<_> = violations(&tree).into_iter().map(|violation| violation.message).collect();
        let same = found.len() == expected.len() && found.iter().zip(expected).all(|(f, e)| f.contains(e));
        assert!(same, "{line}\nexpected {expected:?}\nfound {found:?}");
    }

    #[test]
    fn every_test_of_the_table_is_there() {
        check("| it is so | holds | `a/tests/it/b.rs::good`, `xtask/src/c.rs::good` |", &[]);
        check("| it is so | holds | `web/a.test.ts: a click: is sent` |", &[]);
        check("| it is so | holds | `a/tests/it/b.rs::gone` |", &["no function `gone` in a/tests/it/b.rs"]);
        check("| it is so | holds | `a/tests/it/d.rs::good` |", &["no function `good` in a/tests/it/d.rs"]);
        check("| it is so | holds | `web/a.test.ts: a click` |", &["no test \"a click\" in web/a.test.ts"]);
        check("`a/tests/it/b.rs::gone`", &["no function `gone`"]);
    }

    #[test]
    fn what_holds_has_a_test() {
        check("| it is so | holds | a `Word`, the compiler |", &["no test is named"]);
        check("| it is so | holds |", &["no test is named"]);
        check("| it is so | not built yet | |", &[]);
        check("It holds.", &[]);
    }
}
