//! The table of the contracts and the walk through the architecture name functions and tests that are there, and a promise
//! that is said to hold names at least one.

use super::rust;
use super::tree::{File, Tree, Violation};

const TABLE: &str = "docs/contracts.md";
const WALK: &str = "ARCHITECTURE.md";
/// What stands in the second column of a promise that is kept.
const HOLDS: &str = "holds";

/// A function or a test as they name it.
enum Named<'a> {
    /// `store/tests/it/views.rs::a_test`, below `crates/` or the root, or `web/client/src/client.ts::send`.
    Function { path: &'a str, name: &'a str },
    /// `web/client/tests/client.test.ts: its title`.
    Title { path: &'a str, title: &'a str },
}

pub(crate) fn violations(tree: &Tree) -> Vec<Violation> {
    let documents = tree.files().filter(|file| [TABLE, WALK].contains(&file.path.as_str()));
    let of_file = |file: &File| -> Vec<Violation> {
        let lines = file.text.lines().enumerate();
        lines.flat_map(|(index, line)| of_line(tree, file, index + 1, line)).collect()
    };
    documents.flat_map(of_file).collect()
}

fn of_line(tree: &Tree, file: &File, number: usize, line: &str) -> Vec<Violation> {
    let named: Vec<_> = spans(line).filter_map(read).collect();
    let missing = named.iter().filter(|named| !exists(tree, named)).map(|named| match named {
        Named::Function { path, name } => format!("there is no function `{name}` in {path}: name another"),
        Named::Title { path, title } => format!("there is no test {title:?} in {path}: name the test"),
    });
    let untested = is_kept(line) && named.is_empty();
    let untested = untested.then(|| "no test is named that would fail: write it, and name it".to_owned());
    missing.chain(untested).map(|message| file.violation(number, message)).collect()
}

/// What stands between backticks.
fn spans(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

fn read(span: &str) -> Option<Named<'_>> {
    let function = span.split_once("::").filter(|(path, _)| path.ends_with(".rs") || path.ends_with(".ts"));
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
            file.is_some_and(|file| match path.ends_with(".rs") {
                true => rust::functions(&file.code).iter().any(|function| function.name == *name),
                false => declares(&file.text, name),
            })
        }
        Named::Title { path, title } => find(path)
            .is_some_and(|file| ['"', '`'].iter().any(|q| file.text.contains(&format!("{q}{title}{q}")))),
    }
}

/// Whether a line of TypeScript begins with the declaration of a function or method.
fn declares(text: &str, name: &str) -> bool {
    let before = ["export ", "async ", "private ", "function "];
    text.lines().any(|line| {
        let mut rest = line.trim_start();
        while let Some(after) = before.iter().find_map(|word| rest.strip_prefix(word)) {
            rest = after;
        }
        let rest = rest.strip_prefix(name).filter(|rest| rest.starts_with(['(', '<']));
        rest.is_some() && line.ends_with(['{', '('])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: &[&str]) {
        let tree = Tree::of(&[
            ("crates/a/tests/it/b.rs", "#[test]\nfn good() {}\n// fn gone() {}\n"),
            ("xtask/src/c.rs", "fn good() {}\n"),
            ("web/a.test.ts", "test(\"a click: is sent\", f);\n"),
            ("web/a.ts", "  async send<T>(\n  keep();\n  private take(x: X): void {\n"),
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
        check("`web/a.ts::send` and `web/a.ts::take`", &[]);
        check("`web/a.ts::keep`", &["no function `keep` in web/a.ts"]);
    }

    #[test]
    fn what_holds_has_a_test() {
        check("| it is so | holds | a `Word`, the compiler |", &["no test is named"]);
        check("| it is so | holds |", &["no test is named"]);
        check("| it is so | not built yet | |", &[]);
        check("It holds.", &[]);
    }
}
