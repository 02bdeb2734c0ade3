//! What may not be in the dependency tree, not even far down. `deny.toml` says the same to `cargo deny`, whose other
//! half needs a network.

use super::tree::{File, Tree, Violation};

const BANNED: &[&str] = &["native-tls", "openssl-sys"];

pub(crate) fn violations(tree: &Tree) -> Vec<Violation> {
    tree.files().filter(|file| file.name() == "Cargo.lock").flat_map(of_lock).collect()
}

fn of_lock(file: &File) -> Vec<Violation> {
    let mut found = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        let name = line.strip_prefix("name = \"").and_then(|rest| rest.strip_suffix('"'));
        if let Some(name) = name.filter(|name| BANNED.contains(name)) {
            let message =
                format!("`{name}` is banned, TLS is rustls: `cargo tree -i {name}` tells who brings it");
            found.push(file.violation(index + 1, message));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::tree;
    use super::*;

    #[test]
    fn banned_crates_are_found() {
        fn check(text: &str, expected: &[(usize, &str)]) {
            tree::check(violations, "Cargo.lock", text, expected);
        }
        check("[[package]]\nname = \"serde\"\n", &[]);
        check("[[package]]\nname = \"openssl-sys\"\n", &[(2, "`openssl-sys` is banned")]);
        check("[[package]]\nname = \"native-tls\"\n", &[(2, "cargo tree -i native-tls")]);
        check("[[package]]\nname = \"native-tls-like\"\n", &[]);
    }
}
