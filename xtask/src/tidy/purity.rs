//! `kernel` and `domains` are pure: no I/O, no clock, no threads, and in `domains` no order that changes from run to
//! run, since a decision must come out the same on a server, in a browser and in a replay.

use super::arrows::crate_of_manifest;
use super::manifest::{self, Kind};
use super::rust;
use super::tree::{File, Tree, Violation};

struct Pure {
    name: &'static str,
    /// The external crates that it may depend on.
    may_use: &'static [&'static str],
    /// What its source may not mention.
    may_not_mention: &'static [&'static str],
}

const CRATES: &[Pure] = &[
    Pure {
        name: "kernel",
        may_use: &[
            "base64",
            "bytes",
            "base64",
            "jiff",
            "serde",
            "serde_json",
            "serde_path_to_error",
            "sha2",
            "thiserror",
            "uuid",
        ],
        may_not_mention: &[],
    },
    Pure {
        name: "domains",
        may_use: &["serde", "serde_json", "sha2", "thiserror", "uuid"],
        may_not_mention: &["HashMap", "HashSet"],
    },
];

/// What the tests of a pure crate may use on top.
const IN_TESTS: &[&str] = &["insta", "proptest"];

const NEVER: &[&str] =
    &["std::fs", "std::net", "std::time::SystemTime", "std::time::Instant", "std::thread", "tokio"];

pub(crate) fn violations(tree: &Tree) -> Vec<Violation> {
    tree.files().flat_map(|file| CRATES.iter().flat_map(|pure| of_file(pure, file))).collect()
}

fn of_file(pure: &Pure, file: &File) -> Vec<Violation> {
    if crate_of_manifest(&file.path) == Some(pure.name) {
        return dependencies(pure, file);
    }
    if file.is_rust() && file.path.starts_with(&format!("crates/{}/src/", pure.name)) {
        return mentions(pure, file);
    }
    Vec::new()
}

fn dependencies(pure: &Pure, file: &File) -> Vec<Violation> {
    let wrong = manifest::dependencies(&file.text).into_iter().filter(|dependency| {
        let name = dependency.name.as_str();
        let in_tests = dependency.kind == Kind::Dev && IN_TESTS.contains(&name);
        !name.starts_with("sillage-") && !in_tests && !pure.may_use.contains(&name)
    });
    let wrong = wrong.map(|dependency| {
        let message = format!(
            "`{}` is not among the crates that `{}` may use: use it in a crate that does I/O, \
             or allow it in xtask/src/tidy/purity.rs",
            dependency.name, pure.name
        );
        file.violation(dependency.line, message)
    });
    wrong.collect()
}

fn mentions(pure: &Pure, file: &File) -> Vec<Violation> {
    let mut found = Vec::new();
    for mention in rust::mentions(&file.code) {
        let words = NEVER.iter().chain(pure.may_not_mention);
        for word in words.filter(|word| mention.contains(word)) {
            let message =
                format!("`{word}` has no place in `{}`, which is pure: {}", pure.name, remedy(word));
            found.push(file.violation(mention.line, message));
        }
    }
    found
}

fn remedy(word: &str) -> &'static str {
    match word {
        "HashMap" | "HashSet" => "use the BTree kind, whose order is the same everywhere",
        "std::time::SystemTime" | "std::time::Instant" => "take the time as an argument",
        _ => "do it in a crate that does I/O, and pass the result in",
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
    fn pure_crates_use_only_what_is_allowed() {
        let with = |table: &str, name: &str| format!("[{table}]\n{name}.workspace = true\n");
        check("crates/kernel/Cargo.toml", &with("dependencies", "jiff"), &[]);
        check("crates/domains/Cargo.toml", &with("dependencies", "jiff"), &[(2, "`jiff` is not among")]);
        check("crates/domains/Cargo.toml", &with("dependencies", "sillage-kernel"), &[]);
        check("crates/kernel/Cargo.toml", &with("dependencies", "tokio"), &[(2, "`tokio` is not among")]);
        check("crates/kernel/Cargo.toml", &with("dev-dependencies", "tokio"), &[(2, "`tokio` is not among")]);
        check("crates/kernel/Cargo.toml", &with("dev-dependencies", "proptest"), &[]);
        check("crates/store/Cargo.toml", &with("dependencies", "tokio"), &[]);
    }

    #[test]
    fn pure_sources_mention_no_io() {
        check("crates/kernel/src/a.rs", "//! No tokio, no std::fs.\nuse std::fmt;\n", &[]);
        check("crates/kernel/src/a.rs", "use std::{fmt, fs};\n", &[(1, "`std::fs` has no place")]);
        check("crates/kernel/src/a.rs", "fn a() {\n  std::thread::yield_now()\n}\n", &[(2, "`std::thread`")]);
        check("crates/kernel/src/a.rs", "use tokio::sync::Mutex;\n", &[(1, "`tokio`")]);
        check("crates/kernel/src/a.rs", "use std::time::{Duration, Instant};\n", &[(1, "as an argument")]);
        check("crates/kernel/src/a.rs", "use std::collections::HashMap;\n", &[]);
        check("crates/domains/src/a.rs", "use std::collections::HashMap;\n", &[(1, "BTree")]);
        check("crates/store/src/a.rs", "use std::fs;\n", &[]);
    }
}
