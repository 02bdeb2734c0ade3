//! Strong words: `retry(true)` tells its reader nothing, so a public function takes no `bool`.

use super::rust::{self, Visibility};
use super::tree::{File, Tree, Violation};

pub(crate) fn violations(tree: &Tree) -> Vec<Violation> {
    tree.rust().flat_map(of_file).collect()
}

fn of_file(file: &File) -> Vec<Violation> {
    let functions = rust::functions(&file.code).into_iter();
    let wrong = functions.filter(|function| function.visibility == Visibility::Public).flat_map(|function| {
        let names = bools(&function.parameters).into_iter();
        names.map(move |name| {
            let message =
                format!("`{}` takes a bool, `{name}`: give it an enum with two named values", function.name);
            file.violation(function.line, message)
        })
    });
    wrong.collect()
}

/// The names of the parameters whose type is `bool`.
fn bools(parameters: &str) -> Vec<String> {
    let is_bool = |kind: &str| kind.trim() == "bool";
    let pairs = parameters.split(',').filter_map(|parameter| parameter.rsplit_once(':'));
    pairs.filter(|(_, kind)| is_bool(kind)).map(|(name, _)| name.trim().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tree;
    use super::*;

    fn check(text: &str, expected: &[(usize, &str)]) {
        tree::check(violations, "crates/a/src/a.rs", text, expected);
    }

    #[test]
    fn a_public_function_takes_no_bool() {
        check("pub fn a(b: u8) -> bool {}\n", &[]);
        check("\npub async fn a(b: u8, c: bool) {}\n", &[(2, "`a` takes a bool, `c`")]);
        check("pub fn a(\n  b: bool,\n  c: bool,\n) {}\n", &[(1, "`b`"), (1, "`c`")]);
        check("#[inline] pub const fn a(b: bool) {}\n", &[(1, "`b`")]);
        check("fn a(b: bool) {}\npub(crate) fn c(d: bool) {}\n", &[]);
        check("pub fn a(f: impl Fn(u8) -> bool, g: fn(bool)) {}\n", &[]);
        check("pub fn a<F: Fn(bool) -> bool>(f: F) {}\n", &[]);
    }
}
