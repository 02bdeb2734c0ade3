//! What a document points to is there: the target of a relative link, and a path of the project between backticks.

use super::tree::{File, Tree, Violation};

pub(crate) fn violations(tree: &Tree) -> Vec<Violation> {
    let documents = tree.files().filter(|file| file.path.ends_with(".md"));
    documents.flat_map(|file| of_document(tree, file)).collect()
}

fn of_document(tree: &Tree, file: &File) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut fence: Option<&str> = None;
    for (index, line) in file.text.lines().enumerate() {
        let start = line.trim_start();
        if let Some(mark) = ["```", "~~~"].into_iter().find(|mark| start.starts_with(mark)) {
            match fence {
                None => fence = Some(mark),
                Some(open) if open == mark => fence = None,
                Some(_) => {}
            }
            continue;
        }
        if fence.is_some() {
            continue;
        }
        for target in targets(&without_code(line)) {
            if !exists(tree, &file.path, &target) {
                found.push(file.violation(index + 1, format!("`{target}` does not exist: correct the link")));
            }
        }
        for path in line.split('`').skip(1).step_by(2).filter(|code| is_lost(tree, code)) {
            found.push(file.violation(index + 1, format!("`{path}` does not exist: correct the path")));
        }
    }
    found
}

/// The line without what stands between backticks.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join(" ")
}

/// What `[text](target "title")` and `[label]: target` point to.
fn targets(line: &str) -> Vec<String> {
    let inline = line.match_indices("](").filter_map(|(at, mark)| {
        let rest = line.get(at + mark.len()..)?;
        rest.split(')').next()
    });
    let label = line.trim_start().strip_prefix('[').and_then(|rest| rest.split_once("]:"));
    // A footnote is text.
    let label =
        label.filter(|(name, _)| !name.contains(']') && !name.starts_with('^')).map(|(_, target)| target);
    let first_word =
        |target: &str| target.split_whitespace().next().map(|word| word.trim_matches(['<', '>']).to_owned());
    inline.chain(label).filter_map(first_word).collect()
}

/// Whether it is a path of the project that is not there. It begins with a folder of the root, or with the name of a
/// crate, for a file of its source: `kernel/event.rs`.
fn is_lost(tree: &Tree, code: &str) -> bool {
    let is_path = code.chars().all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c));
    let Some((first, rest)) = code.split_once('/').filter(|_| is_path) else { return false };
    if first.is_empty() || first.starts_with('.') {
        return false;
    }
    let source = format!("crates/{first}/src");
    if tree.has(first) {
        !tree.has(code.trim_end_matches('/'))
    } else {
        code.ends_with(".rs") && tree.has(&source) && !tree.has(&format!("{source}/{rest}"))
    }
}

fn exists(tree: &Tree, document: &str, target: &str) -> bool {
    let path = target.split(['#', '?']).next().unwrap_or_default();
    let is_elsewhere = target.contains("://") || target.starts_with("mailto:");
    if path.is_empty() || is_elsewhere {
        return true;
    }
    let mut parts: Vec<&str> = match path.strip_prefix('/') {
        Some(_) => Vec::new(),
        None => document.split('/').collect(),
    };
    parts.pop();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                if parts.pop().is_none() {
                    return false;
                }
            }
            name => parts.push(name),
        }
    }
    tree.has(&parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::super::tree;
    use super::*;

    fn check(path: &str, text: &str, expected: &[(usize, &str)]) {
        tree::check(violations, path, text, expected);
    }

    #[test]
    fn links_lead_somewhere() {
        check("README.md", "[a](README.md#part) ![b](README.md \"c\")\n", &[]);
        check("README.md", "[a](https://example.org) [b](#part) [c](mailto:d)\n", &[]);
        check("README.md", "\n[a](docs/a.md), [b](b.md)\n", &[(2, "b.md"), (2, "docs/a.md")]);
        check("docs/guide/a.md", "[a](../guide/a.md) [b](/docs/guide) [c](./a.md)\n", &[]);
        check("docs/guide/a.md", "[a](../a.md)\n", &[(1, "../a.md")]);
        check("docs/a.md", "[a](../../a.md)\n", &[(1, "../../a.md")]);
        check("docs/a.md", "[a]: b.md\n[^1]: Some text.\n", &[(1, "b.md")]);
        check("docs/a.md", "`[a](b.md)`\n```\n[a](b.md)\n```\n[a](c.md)\n", &[(5, "c.md")]);
    }

    #[test]
    fn a_path_is_one_that_is_there() {
        fn check(text: &str, expected: &[(usize, &str)]) {
            let found = violations(&Tree::of(&[("docs/a.md", text), ("crates/kernel/src/event.rs", "")]));
            let found: Vec<_> =
                found.iter().map(|v| (v.line, v.message.split('`').nth(1).unwrap())).collect();
            assert_eq!(found, expected, "{text}");
        }
        check(
            "`docs/a.md` `crates/kernel/` `kernel/event.rs` `/docs` `a/b.rs` `docs/{b}.md` `kernel/index/`\n",
            &[],
        );
        check("`docs/b.md`\n`crates/kernel/lib.rs`\n", &[(1, "docs/b.md"), (2, "crates/kernel/lib.rs")]);
        check("`kernel/view.rs`\n", &[(1, "kernel/view.rs")]);
    }
}
