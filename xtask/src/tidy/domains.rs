//! One domain knows of another only its events: what was decided, never how.
//!
//! A domain is a file or a folder in `crates/domains/src`. From another domain it may name `crate::other::events::…`,
//! or, when that domain is one file, a type whose name ends in `Event`. `lib.rs`, which joins them, is free.

use std::collections::BTreeSet;

use super::rust;
use super::tree::{File, Tree, Violation};

const FOLDER: &str = "crates/domains/src/";

pub(crate) fn violations(tree: &Tree) -> Vec<Violation> {
    let domains: BTreeSet<&str> = tree.paths().filter_map(domain_of).collect();
    let mut found = Vec::new();
    for file in tree.rust() {
        if let Some(own) = domain_of(&file.path) {
            found.extend(of_file(file, own, &domains));
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
}
