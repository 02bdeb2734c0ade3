//! What may not stand in any text: promises of work to come, since what is not done is either done or left out, and
//! paths of one machine, since the project runs on any.

use super::rust::find_word;
use super::tree::{File, Tree, Violation};

/// Written in halves, so that this file keeps its own rule.
const PROMISES: &[&str] =
    &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X"), concat!("HA", "CK")];

/// A folder of a machine, and whether it counts without anything below it: a web page may well be called `/home`.
const FOLDERS: &[(&str, Below)] = &[
    (concat!("/wo", "rk"), Below::Anything),
    (concat!("/ro", "ot"), Below::Anything),
    (concat!("/ho", "me"), Below::Something),
];

#[derive(PartialEq, Eq)]
enum Below {
    Anything,
    Something,
}

/// Written by machines, full of digests that may spell anything.
const LOCKS: &[&str] = &["Cargo.lock", "package-lock.json"];

pub(crate) fn violations(tree: &Tree) -> Vec<Violation> {
    tree.files().filter(|file| !LOCKS.contains(&file.name())).flat_map(of_file).collect()
}

fn of_file(file: &File) -> Vec<Violation> {
    let mut found = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        for word in PROMISES.iter().filter(|word| find_word(line, word).next().is_some()) {
            found.push(file.violation(index + 1, format!("`{word}` promises work: do it, or leave it out")));
        }
        for (folder, below) in FOLDERS {
            if has_folder(line, folder, below) {
                let message = format!("`{folder}` is a path of one machine: make it relative or a setting");
                found.push(file.violation(index + 1, message));
            }
        }
    }
    found
}

fn has_folder(line: &str, folder: &str, below: &Below) -> bool {
    line.match_indices(folder).any(|(at, _)| {
        let before = line.get(..at).unwrap_or_default();
        let after = line.get(at + folder.len()..).unwrap_or_default();
        // What comes after a name, a dot, a bracket or a slash is the middle of a longer path.
        let is_start = before.ends_with("file://")
            || !before.ends_with(|c: char| c.is_alphanumeric() || "_-.~/})>*@$".contains(c));
        let goes_on = after.starts_with('/')
            && after.chars().nth(1).is_some_and(|c| c.is_alphanumeric() || "._$<{*".contains(c));
        let ends = !after.starts_with(|c: char| c.is_alphanumeric() || "_-.".contains(c));
        is_start && (goes_on || (ends && *below == Below::Anything))
    })
}

#[cfg(test)]
mod tests {
    use super::super::tree;
    use super::*;

    fn check(path: &str, parts: &[&str], expected: &[(usize, &str)]) {
        tree::check(violations, path, &parts.concat(), expected);
    }

    #[test]
    fn nothing_promises_work() {
        check("a.rs", &["fn a() {}\n// TO", "DO: more\n"], &[(2, "promises work")]);
        check("docs/a.md", &["FIX", "ME and XX", "X, HA", "CK\n"], &[(1, "FIX"), (1, "HA"), (1, "XX")]);
        check("a.sh", &["mktemp a.XXXXXX; hack; todo\n"], &[]);
        check("Cargo.lock", &["HA", "CK\n"], &[]);
    }

    #[test]
    fn nothing_names_a_machine() {
        check("a.md", &["cd /wo", "rk/main\n"], &[(1, "one machine")]);
        check("a.md", &["in \"/ro", "ot\"\n"], &[(1, "one machine")]);
        check("a.md", &["file:///ho", "me/me/a\n"], &[(1, "one machine")]);
        check("a.ts", &["route('/ho", "me')\n"], &[]);
        check(
            "a.ts",
            &["https://example.org/wo", "rk/a, ./ro", "ot/b, ${dir}/ro", "ot/c, /wo", "rks/d\n"],
            &[],
        );
    }
}
