//! A test runs always, and waits for a condition, never for a while: a sleep is too short on a slow machine and too
//! long on a fast one.

use super::rust;
use super::tree::{File, Tree, Violation};

/// What allows a sleep, with the reason after it: the poll interval inside a helper that waits for a condition.
const ALLOWANCE: &str = "// tidy: sleep because ";

const TYPESCRIPT: &[&str] = &[".ts", ".tsx", ".mts"];

pub(crate) fn violations(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for file in tree.files() {
        if file.is_rust() {
            found.extend(ignored(file));
            found.extend(sleeping(file));
        } else if is_typescript_test(file) {
            found.extend(narrowed(file));
        }
    }
    found
}

fn ignored(file: &File) -> Vec<Violation> {
    let is_ignore = |line: &str| {
        line.contains("#[ignore")
            || (line.contains("cfg_attr(") && rust::find_word(line, "ignore").count() > 0)
    };
    let lines = file.code.lines().enumerate().filter(|(_, line)| is_ignore(line));
    let message = "a test that is ignored proves nothing: run it or delete it";
    lines.map(|(index, _)| file.violation(index + 1, message)).collect()
}

fn sleeping(file: &File) -> Vec<Violation> {
    // The conformance crate holds nothing but tests.
    let all =
        file.is_under("tests") || file.name() == "tests.rs" || file.path.starts_with("crates/conformance/");
    let modules = rust::test_lines(&file.code);
    let texts: Vec<&str> = file.text.lines().collect();
    let mut found = Vec::new();
    for (index, code) in file.code.lines().enumerate() {
        let line = index + 1;
        if !sleeps(code) || !(all || modules.iter().any(|module| module.contains(&line))) {
            continue;
        }
        let around = [texts.get(index), index.checked_sub(1).and_then(|above| texts.get(above))];
        if !around.into_iter().flatten().any(|text| is_allowance(text)) {
            let message =
                format!("a test may not sleep: wait for a condition, or say `{ALLOWANCE}…` on this line");
            found.push(file.violation(line, message));
        }
    }
    found
}

/// A call of `sleep`, but not of a method (a clock that the test moves) nor its definition.
fn sleeps(code: &str) -> bool {
    ["sleep", "sleep_ms", "sleep_until"].iter().any(|word| {
        rust::find_word(code, word).any(|at| {
            let before = code.get(..at).unwrap_or_default().trim_end();
            let called = rust::from(code, at + word.len()).starts_with('(');
            called && !before.ends_with('.') && !before.ends_with("fn")
        })
    })
}

fn is_allowance(text: &str) -> bool {
    text.split_once(ALLOWANCE).is_some_and(|(_, reason)| !reason.trim().is_empty())
}

fn is_typescript_test(file: &File) -> bool {
    let is_typescript = TYPESCRIPT.iter().any(|end| file.path.ends_with(end));
    let is_named = file.name().contains(".test.") || file.name().contains(".spec.");
    is_typescript && (is_named || file.is_under("tests") || file.is_under("e2e"))
}

fn narrowed(file: &File) -> Vec<Violation> {
    let mut found = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        for word in [".only(", ".skip("] {
            if line.contains(word) {
                found.push(file.violation(index + 1, format!("`{word}` leaves tests out: run them all")));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::tree;
    use super::*;

    fn check(path: &str, text: &str, expected: &[(usize, &str)]) {
        tree::check(violations, path, text, expected);
    }

    #[test]
    fn no_test_is_left_out() {
        check("crates/a/src/a.rs", "/// #[ignore]\n#[test]\nfn a() {}\n", &[]);
        check("crates/a/src/a.rs", "#[test]\n#[ignore = \"slow\"]\nfn a() {}\n", &[(2, "ignored")]);
        check("crates/a/src/a.rs", "#[cfg_attr(unix, ignore)]\nfn a() {}\n", &[(1, "ignored")]);
        check(
            "web/client/a.test.ts",
            "it.only('a', a);\ntest.skip('b', b);\n",
            &[(1, ".only("), (2, ".skip(")],
        );
        check("web/client/a.ts", "list.skip(1);\n", &[]);
    }

    #[test]
    fn no_test_sleeps() {
        let sleep = "tokio::time::sleep(DAY).await;\n";
        check("crates/a/tests/it/b.rs", sleep, &[(1, "may not sleep")]);
        check("crates/conformance/src/b.rs", sleep, &[(1, "may not sleep")]);
        check("crates/a/src/b.rs", sleep, &[]);
        check("crates/a/src/b.rs", &format!("mod tests {{\n{sleep}}}\n{sleep}"), &[(2, "may not sleep")]);
        check("crates/a/tests/it/b.rs", "use std::thread;\nthread::sleep(DAY);\n", &[(2, "may not sleep")]);
        check("crates/a/tests/it/b.rs", "sleep_until(NOON);\n", &[(1, "may not sleep")]);
        check("crates/a/tests/it/b.rs", "clock.sleep(DAY);\nasleep();\nfn sleep() {}\n", &[]);
        let reason = "sleep(POLL); // tidy: sleep because the file system tells nobody\n";
        check("crates/a/tests/it/b.rs", reason, &[]);
        check("crates/a/tests/it/b.rs", "// tidy: sleep because we poll\nsleep(POLL);\n", &[]);
        check("crates/a/tests/it/b.rs", "sleep(POLL); // tidy: sleep because \n", &[(1, "may not sleep")]);
    }
}
