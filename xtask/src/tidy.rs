//! The rules of the house that no compiler holds: arrows between crates, purity, lengths, style, links.
//!
//! A rule is a function from the tree of files to its violations. It touches no disk, so each is tested on inline
//! snippets.

mod arrows;
mod contracts;
mod domains;
mod lengths;
mod links;
mod lock;
mod manifest;
mod manifests;
mod purity;
mod rust;
mod signatures;
mod structure;
mod tests_style;
mod tree;
mod words;

use std::path::Path;

use crate::Outcome;
use tree::{Tree, Violation};

/// A name to find the rule by, and the rule.
type Rule = (&'static str, fn(&Tree) -> Vec<Violation>);

const RULES: &[Rule] = &[
    ("arrows", arrows::violations),
    ("purity", purity::violations),
    ("domains", domains::violations),
    ("lengths", lengths::violations),
    ("tests", tests_style::violations),
    ("words", words::violations),
    ("structure", structure::violations),
    ("signatures", signatures::violations),
    ("manifests", manifests::violations),
    ("lock", lock::violations),
    ("links", links::violations),
    ("contracts", contracts::violations),
];

pub(crate) fn run(root: &Path) -> Outcome {
    let tree = Tree::read(root)?;
    let lines = report(&tree);
    if lines.is_empty() {
        println!("tidy: {} files keep {} rules", tree.paths().count(), RULES.len());
        return Ok(());
    }
    Err(format!("{}\ntidy: {} violations", lines.join("\n"), lines.len()))
}

/// One line for each violation, in the order of the files.
fn report(tree: &Tree) -> Vec<String> {
    let mut found: Vec<(Violation, &str)> = Vec::new();
    for (name, rule) in RULES {
        found.extend(rule(tree).into_iter().map(|violation| (violation, *name)));
    }
    found.sort();
    found.iter().map(|(v, rule)| format!("{}:{}: [{rule}] {}", v.path, v.line, v.message)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_names_place_rule_and_remedy() {
        let tree = Tree::of(&[("crates/a/src/main.rs", "fn main() {}\n"), ("README.md", "[a](b.md)\n")]);
        let lines = report(&tree);
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert_eq!(lines[0], "README.md:1: [links] `b.md` does not exist: correct the link");
        assert!(lines[1].starts_with("crates/a/src/main.rs:1: [structure] "), "{lines:?}");
    }
}
