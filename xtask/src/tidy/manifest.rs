//! Reads the part of TOML that this workspace's manifests use: tables, dotted keys, and values that may run over
//! several lines.

/// One `key = value`, with the table it stands in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) table: String,
    pub(crate) key: String,
    pub(crate) value: String,
    pub(crate) line: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Normal,
    Dev,
    Build,
}

/// One dependency, however it is written.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) line: usize,
    pub(crate) version: Version,
}

/// Where the version of a dependency stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    Workspace,
    Own,
}

pub(crate) fn entries(text: &str) -> Vec<Entry> {
    let mut found: Vec<Entry> = Vec::new();
    let mut table = String::new();
    let mut open = 0_i64;
    for (index, line) in text.lines().enumerate() {
        let line = without_comment(line).trim();
        if open > 0 {
            if let Some(entry) = found.last_mut() {
                entry.value.push_str(line);
            }
            open += balance(line);
        } else if line.starts_with('[') {
            table = line.trim_matches(['[', ']']).trim().to_owned();
        } else if let Some((key, value)) = line.split_once('=') {
            open = balance(value);
            let (key, value) = (key.trim().to_owned(), value.trim().to_owned());
            found.push(Entry { table: table.clone(), key, value, line: index + 1 });
        }
    }
    found
}

pub(crate) fn dependencies(text: &str) -> Vec<Dependency> {
    let mut found: Vec<Dependency> = Vec::new();
    for entry in entries(text) {
        let Some((kind, name, key)) = dependency_key(&entry.table, &entry.key) else { continue };
        let value: String = entry.value.split_whitespace().collect();
        let inherits = if key == "workspace" { value == "true" } else { value.contains("workspace=true") };
        let version = if inherits { Version::Workspace } else { Version::Own };
        match found.iter_mut().find(|known| known.name == name && known.kind == kind) {
            Some(known) if inherits => known.version = version,
            Some(_) => {}
            None => found.push(Dependency { name: name.to_owned(), kind, line: entry.line, version }),
        }
    }
    found
}

/// Splits `[dependencies] a.workspace` and `[dependencies.a] workspace` alike.
fn dependency_key<'a>(table: &'a str, key: &'a str) -> Option<(Kind, &'a str, &'a str)> {
    if let Some(kind) = kind(table) {
        let (name, key) = key.split_once('.').unwrap_or((key, ""));
        return Some((kind, name.trim_matches('"'), key));
    }
    let (head, name) = table.rsplit_once('.')?;
    Some((kind(head)?, name.trim_matches('"'), key))
}

fn kind(table: &str) -> Option<Kind> {
    match table.rsplit('.').next()? {
        "dependencies" => Some(Kind::Normal),
        "dev-dependencies" => Some(Kind::Dev),
        "build-dependencies" => Some(Kind::Build),
        _ => None,
    }
}

fn without_comment(line: &str) -> &str {
    let mut quoted = false;
    for (at, c) in line.char_indices() {
        match c {
            '"' => quoted = !quoted,
            '#' if !quoted => return line.get(..at).unwrap_or(line),
            _ => {}
        }
    }
    line
}

fn balance(value: &str) -> i64 {
    let weight = |c| match c {
        '[' | '{' => 1,
        ']' | '}' => -1,
        _ => 0,
    };
    value.chars().map(weight).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_read_in_every_spelling() {
        fn check(text: &str, expected: &[(&str, Kind, usize, Version)]) {
            let found = dependencies(text);
            let found: Vec<_> = found.iter().map(|d| (d.name.as_str(), d.kind, d.line, d.version)).collect();
            assert_eq!(found, expected, "{text}");
        }
        use Kind::{Build, Dev, Normal};
        use Version::{Own, Workspace};
        check("[dependencies]\na.workspace = true # why\n", &[("a", Normal, 2, Workspace)]);
        check("[dependencies]\na = \"1\"\n", &[("a", Normal, 2, Own)]);
        check(
            "[dev-dependencies]\na = { workspace = true, features = [\n  \"x\",\n] }\nb = { path = \"b\" }\n",
            &[("a", Dev, 2, Workspace), ("b", Dev, 5, Own)],
        );
        check("[build-dependencies.a]\nfeatures = []\nworkspace = true\n", &[("a", Build, 2, Workspace)]);
        check("[target.'cfg(unix)'.dependencies]\na.workspace = true\n", &[("a", Normal, 2, Workspace)]);
        check("[features]\ndependencies = []\n", &[]);
    }
}
