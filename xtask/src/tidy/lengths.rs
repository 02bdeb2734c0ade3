//! Files and functions stay short enough to be read at a sitting. What is longer is recorded in the list of
//! exceptions, which may only shrink: an entry that allows more than is there is a violation too.

use std::collections::BTreeMap;

use super::rust;
use super::tree::{File, Tree, Violation};

const FILE_LINES: usize = 600;
const FUNCTION_LINES: usize = 70;

/// One exception on each line: `path rule lines`, where the rule is `file` or `fn:name`.
const EXCEPTIONS: &str = "xtask/tidy-exceptions.txt";

/// What is too long: its path and its rule.
type Key = (String, String);

struct Excess {
    line: usize,
    lines: usize,
    limit: usize,
}

struct Exception {
    line: usize,
    lines: usize,
}

pub(crate) fn violations(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut exceptions = BTreeMap::new();
    if let Some(file) = tree.files().find(|file| file.path == EXCEPTIONS) {
        exceptions = read_exceptions(file, &mut found);
    }
    for (key, excess) in excesses(tree) {
        let exception = exceptions.remove(&key);
        found.extend(compare(&key, &excess, exception));
    }
    for ((path, rule), Exception { line, .. }) in exceptions {
        let message = format!("`{path} {rule}` keeps the limit: remove the exception");
        found.push(Violation { path: EXCEPTIONS.to_owned(), line, message });
    }
    found
}

fn compare((path, rule): &Key, excess: &Excess, exception: Option<Exception>) -> Option<Violation> {
    let Excess { line, lines, limit } = excess;
    match exception {
        Some(exception) if exception.lines == *lines => None,
        Some(exception) if exception.lines > *lines => {
            let message = format!("`{path} {rule}` has shrunk: lower the exception to {lines}");
            Some(Violation { path: EXCEPTIONS.to_owned(), line: exception.line, message })
        }
        exception => {
            let limit = exception.map_or(*limit, |exception| exception.lines);
            let message = format!("`{rule}` has {lines} lines, more than {limit}: split it");
            Some(Violation { path: path.clone(), line: *line, message })
        }
    }
}

fn read_exceptions(file: &File, found: &mut Vec<Violation>) -> BTreeMap<Key, Exception> {
    let mut exceptions = BTreeMap::new();
    for (index, text) in file.text.lines().enumerate() {
        let line = index + 1;
        let words: Vec<&str> = text.split_whitespace().collect();
        match words.as_slice() {
            [] => {}
            [first, ..] if first.starts_with('#') => {}
            [path, rule, lines] if lines.parse::<usize>().is_ok() => {
                let key = ((*path).to_owned(), (*rule).to_owned());
                let exception = Exception { line, lines: lines.parse().unwrap_or_default() };
                if exceptions.insert(key, exception).is_some() {
                    found.push(file.violation(line, "this exception stands twice: remove one"));
                }
            }
            _ => found.push(file.violation(line, "an exception is `path rule lines`")),
        }
    }
    exceptions
}

/// All that is longer than its limit. Functions of one name in one file share a key, and the longest counts.
fn excesses(tree: &Tree) -> BTreeMap<Key, Excess> {
    let mut found: BTreeMap<Key, Excess> = BTreeMap::new();
    let mut note = |file: &File, rule: String, excess: Excess| {
        let key = (file.path.clone(), rule);
        if excess.lines > excess.limit && found.get(&key).is_none_or(|known| known.lines < excess.lines) {
            found.insert(key, excess);
        }
    };
    for file in tree.files() {
        if [".rs", ".ts", ".tsx"].iter().any(|end| file.path.ends_with(end)) {
            let lines = file.text.lines().count();
            note(file, "file".to_owned(), Excess { line: 1, lines, limit: FILE_LINES });
        }
        for function in rust::functions(&file.code) {
            let excess = Excess { line: function.line, lines: function.lines, limit: FUNCTION_LINES };
            note(file, format!("fn:{}", function.name), excess);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, text: &str, exceptions: &str, expected: &[(&str, usize, &str)]) {
        let found = violations(&Tree::of(&[(path, text), (EXCEPTIONS, exceptions)]));
        let same = found.len() == expected.len()
            && found.iter().zip(expected).all(|(v, (path, line, part))| {
                v.path == *path && v.line == *line && v.message.contains(part)
            });
        assert!(same, "{path} with `{exceptions}`: {found:?}");
    }

    fn function(lines: usize) -> String {
        format!("// A comment.\nfn long() {{\n{}}}\n", "  a();\n".repeat(lines - 2))
    }

    #[test]
    fn files_have_a_limit() {
        check("a.ts", &"a\n".repeat(600), "", &[]);
        check("a.ts", &"a\n".repeat(601), "", &[("a.ts", 1, "`file` has 601 lines, more than 600")]);
        check("a.md", &"a\n".repeat(601), "", &[]);
    }

    #[test]
    fn functions_have_a_limit() {
        check("a.rs", &function(70), "", &[]);
        check("a.rs", &function(71), "", &[("a.rs", 2, "`fn:long` has 71 lines, more than 70")]);
        let test = format!("mod tests {{\n#[test]\n{}}}\n", function(71));
        check("a.rs", &test, "", &[("a.rs", 4, "`fn:long` has 71 lines")]);
    }

    #[test]
    fn exceptions_may_only_shrink() {
        check("a.rs", &function(80), "# Why.\na.rs fn:long 80\n", &[]);
        check("a.rs", &function(81), "a.rs fn:long 80", &[("a.rs", 2, "81 lines, more than 80")]);
        check("a.rs", &function(79), "a.rs fn:long 80", &[(EXCEPTIONS, 1, "lower the exception to 79")]);
        check("a.rs", &function(70), "\na.rs fn:long 80", &[(EXCEPTIONS, 2, "remove the exception")]);
        check("a.rs", &function(70), "a.rs long", &[(EXCEPTIONS, 1, "an exception is `path rule lines`")]);
        let twice = "a.rs fn:long 80\na.rs fn:long 80";
        check("a.rs", &function(80), twice, &[(EXCEPTIONS, 2, "stands twice")]);
    }
}
