//! One domain knows of another only its events: what was decided, never how. What it stores is frozen by golden files.
//!
//! A domain is a file or a folder in `crates/domains/src`. From another domain it may name `crate::other::events::…`,
//! or, when that domain is one file, a type whose name ends in `Event`. `lib.rs`, which joins them, is free.

use std::collections::BTreeSet;

use super::rust;
use super::tree::{File, Tree, Violation};

const FOLDER: &str = "crates/domains/src/";
/// A folder for each kind of stream.
const GOLDEN: &str = "crates/domains/tests/it/golden/";
/// How the rules say what their streams are called.
const CATEGORY: &str = "const CATEGORY: &'static str = \"";

pub(crate) fn violations(tree: &Tree) -> Vec<Violation> {
    let domains: BTreeSet<&str> = tree.paths().filter_map(domain_of).collect();
    let mut found = Vec::new();
    for file in tree.rust() {
        if let Some(own) = domain_of(&file.path) {
            found.extend(of_file(file, own, &domains));
            found.extend(not_frozen(tree, file));
        }
    }
    found
}

fn domain_of(path: &str) -> Option<&str> {
    let inside = path.strip_prefix(FOLDER)?;
    let first = inside.split('/').next()?;
    let name = first.strip_suffix(".rs").unwrap_or(first);
    (name != "lib").then_some(name)
}

fn of_file(file: &File, own: &str, domains: &BTreeSet<&str>) -> Vec<Violation> {
    let mut found = Vec::new();
    for mention in rust::mentions(&file.code) {
        // `super::other` reaches a neighbour from the top of a domain just as `crate::other` does.
        let mut segments =
            mention.path.split("::").skip_while(|segment| matches!(*segment, "crate" | "super"));
        let from_root = mention.path.starts_with("crate::") || mention.path.starts_with("super::");
        let other = segments.next().unwrap_or_default();
        let item = segments.next().unwrap_or_default();
        if !from_root
            || other == own
            || !domains.contains(other)
            || item == "events"
            || item.ends_with("Event")
        {
            continue;
        }
        let message = format!("`{own}` uses `{}`: of `{other}` it may use the events only", mention.path);
        found.push(file.violation(mention.line, message));
    }
    found
}

/// What stands in a log must be readable for ever, and only a file that is never changed shows that it is.
fn not_frozen(tree: &Tree, file: &File) -> Vec<Violation> {
    let categories = file.text.lines().enumerate().filter_map(|(index, line)| {
        let category = line.trim().strip_prefix(CATEGORY)?.strip_suffix("\";")?;
        (!tree.has(&format!("{GOLDEN}{category}"))).then_some((index + 1, category))
    });
    let message =
        |category| format!("`{category}` has no golden files: add it to crates/domains/tests/it/frozen.rs");
    categories.map(|(line, category)| file.violation(line, message(category))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, text: &str, expected: &[usize]) {
        let others = [("crates/domains/src/likes.rs", ""), ("crates/domains/src/shop/events.rs", "")];
        let path = format!("crates/domains/src/{path}");
        let tree = Tree::of(&[others[0], others[1], (&path, text)]);
        let found: Vec<usize> = violations(&tree).iter().map(|violation| violation.line).collect();
        assert_eq!(found, expected, "{path}: {text}");
    }

    #[test]
    fn a_domain_uses_only_the_events_of_another() {
        check("audit.rs", "use crate::shop::events::Sold;\n", &[]);
        check("audit.rs", "use crate::likes::LikesEvent;\n", &[]);
        check("audit.rs", "use crate::audit::State;\n", &[]);
        check("audit.rs", "\nuse crate::likes::State;\n", &[2]);
        check("audit.rs", "use crate::shop;\n", &[1]);
        check("audit.rs", "use crate::{\n  likes::State,\n  shop::events,\n};\n", &[2]);
        check("audit.rs", "use super::likes::State;\n", &[1]);
        check("audit/state.rs", "fn a(s: &crate::shop::state::Cart) {}\n", &[1]);
        check("shop/state.rs", "use crate::shop::commands::Buy;\n", &[]);
        check("lib.rs", "use crate::likes::State;\n", &[]);
    }

    #[test]
    fn what_a_domain_stores_has_golden_files() {
        let (text, golden) =
            ("\n    const CATEGORY: &'static str = \"cart\";\n", format!("{GOLDEN}cart/Sold.1.json"));
        check("shop.rs", text, &[2]);
        let tree = Tree::of(&[("crates/domains/src/shop.rs", text), (&golden, "{}")]);
        assert_eq!(violations(&tree), []);
    }
}
