//! The files that a rule looks at, and what it says about them.

use std::collections::BTreeSet;
use std::path::Path;

use super::rust;
use crate::commands;

/// A broken rule. The message says what is wrong and what to do.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Violation {
    pub(crate) path: String,
    pub(crate) line: usize,
    pub(crate) message: String,
}

/// A text file of the project.
pub(crate) struct File {
    /// Relative to the root, with forward slashes.
    pub(crate) path: String,
    pub(crate) text: String,
    /// For Rust, the text without comments and literals, line for line; for anything else, empty.
    pub(crate) code: String,
}

impl File {
    fn new(path: &str, text: String) -> Self {
        let code = if path.ends_with(".rs") { rust::mask(&text) } else { String::new() };
        Self { path: path.to_owned(), text, code }
    }

    pub(crate) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    pub(crate) fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    /// Whether a folder above the file has this name.
    pub(crate) fn is_under(&self, folder: &str) -> bool {
        let mut parts = self.path.rsplit('/');
        parts.next();
        parts.any(|part| part == folder)
    }

    pub(crate) fn violation(&self, line: usize, message: impl Into<String>) -> Violation {
        Violation { path: self.path.clone(), line, message: message.into() }
    }
}

/// All files that git tracks or would track.
pub(crate) struct Tree {
    files: Vec<File>,
    paths: BTreeSet<String>,
}

impl Tree {
    pub(crate) fn read(root: &Path) -> Result<Self, String> {
        let list = commands::output(root, &["git", "ls-files", "-co", "--exclude-standard", "-z"])?;
        let mut tree = Self { files: Vec::new(), paths: BTreeSet::new() };
        for path in list.split('\0').filter(|path| !path.is_empty()) {
            // Git lists a tracked file even when it was deleted from the checkout.
            let Ok(bytes) = std::fs::read(root.join(path)) else { continue };
            tree.paths.insert(path.to_owned());
            // What is not UTF-8 is a picture or the like, which only links speak of.
            if let Ok(text) = String::from_utf8(bytes) {
                tree.files.push(File::new(path, text));
            }
        }
        Ok(tree)
    }

    #[cfg(test)]
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let paths = files.iter().map(|(path, _)| (*path).to_owned()).collect();
        Self { files: files.iter().map(|(path, text)| File::new(path, (*text).to_owned())).collect(), paths }
    }

    pub(crate) fn files(&self) -> impl Iterator<Item = &File> {
        self.files.iter()
    }

    pub(crate) fn rust(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.is_rust())
    }

    pub(crate) fn paths(&self) -> impl Iterator<Item = &str> {
        self.paths.iter().map(String::as_str)
    }

    /// Whether there is such a file, or a folder with a file in it.
    pub(crate) fn has(&self, path: &str) -> bool {
        let folder = format!("{path}/");
        path.is_empty()
            || self.paths.contains(path)
            || self.paths.iter().any(|known| known.starts_with(&folder))
    }
}

/// Runs a rule on one file and compares `line: message` beginnings; the table of each rule's tests goes through here.
#[cfg(test)]
pub(crate) fn check(rule: fn(&Tree) -> Vec<Violation>, path: &str, text: &str, expected: &[(usize, &str)]) {
    let mut found = rule(&Tree::of(&[(path, text)]));
    found.sort();
    let same = found.len() == expected.len()
        && found.iter().zip(expected).all(|(v, (line, part))| v.line == *line && v.message.contains(part));
    assert!(same, "{path}:\n{text}\nexpected {expected:?}\nfound {found:?}");
}
