//! Reads Rust just well enough to tell code from text. It knows comments, strings, characters and braces; it is
//! no parser, and what it can't read (a macro that writes functions, say) it passes over.

use std::ops::Range;

/// The same text with every comment and literal blanked, so that a search finds code only. Lines stay where they are.
pub(crate) fn mask(text: &str) -> String {
    let mut masker = Masker { text: text.as_bytes(), at: 0, code: Vec::with_capacity(text.len()) };
    while let Some(byte) = masker.ahead(0) {
        match byte {
            b'/' if masker.ahead(1) == Some(b'/') => masker.blank_until(|m| m.ahead(0) == Some(b'\n')),
            b'/' if masker.ahead(1) == Some(b'*') => masker.blank_block_comment(),
            b'"' => masker.blank_string(),
            b'\'' => masker.blank_char_or_keep_lifetime(),
            b'r' => masker.blank_raw_string_or_keep(),
            _ => masker.keep(),
        }
    }
    String::from_utf8_lossy(&masker.code).into_owned()
}

struct Masker<'a> {
    text: &'a [u8],
    at: usize,
    code: Vec<u8>,
}

impl Masker<'_> {
    fn ahead(&self, distance: usize) -> Option<u8> {
        self.text.get(self.at + distance).copied()
    }

    fn starts_with(&self, part: &[u8]) -> bool {
        self.text.get(self.at..).is_some_and(|rest| rest.starts_with(part))
    }

    fn keep(&mut self) {
        self.code.extend(self.ahead(0));
        self.at += 1;
    }

    fn blank(&mut self, count: usize) {
        for _ in 0..count {
            self.code.extend(self.ahead(0).map(|byte| if byte == b'\n' { b'\n' } else { b' ' }));
            self.at += 1;
        }
    }

    fn blank_until(&mut self, end: impl Fn(&Self) -> bool) {
        while self.ahead(0).is_some() && !end(self) {
            self.blank(1);
        }
    }

    fn blank_block_comment(&mut self) {
        let mut depth = 0_usize;
        while self.ahead(0).is_some() {
            if self.starts_with(b"/*") {
                depth += 1;
                self.blank(2);
            } else if self.starts_with(b"*/") {
                depth -= 1;
                self.blank(2);
                if depth == 0 {
                    return;
                }
            } else {
                self.blank(1);
            }
        }
    }

    fn blank_string(&mut self) {
        self.blank(1);
        while let Some(byte) = self.ahead(0) {
            match byte {
                b'\\' => self.blank(2),
                b'"' => return self.blank(1),
                _ => self.blank(1),
            }
        }
    }

    fn blank_char_or_keep_lifetime(&mut self) {
        if self.ahead(1) == Some(b'\\') {
            self.blank(3);
            self.blank_until(|m| m.ahead(0) == Some(b'\''));
            return self.blank(1);
        }
        // One character has one to four bytes; a lifetime has no quote after its first character.
        let rest = self.text.get(self.at + 1..).unwrap_or_default();
        let width = match rest.first() {
            Some(0xF0..) => 4,
            Some(0xE0..) => 3,
            Some(0xC0..) => 2,
            _ => 1,
        };
        if rest.get(width) == Some(&b'\'') { self.blank(width + 2) } else { self.keep() }
    }

    fn blank_raw_string_or_keep(&mut self) {
        let before = self.text.get(..self.at).unwrap_or_default();
        let word = before.iter().rev().take_while(|byte| is_word(**byte)).count();
        let prefix = before.get(before.len() - word..).unwrap_or_default();
        let hashes = (1..).take_while(|distance| self.ahead(*distance) == Some(b'#')).count();
        if !matches!(prefix, b"" | b"b" | b"c") || self.ahead(1 + hashes) != Some(b'"') {
            return self.keep();
        }
        let end = format!("\"{}", "#".repeat(hashes));
        self.blank(hashes + 2);
        self.blank_until(|m| m.starts_with(end.as_bytes()));
        self.blank(end.len());
    }
}

/// The line, counted from one, of an offset.
pub(crate) fn line_of(text: &str, offset: usize) -> usize {
    1 + text.get(..offset).unwrap_or(text).matches('\n').count()
}

/// Where a word stands in a text, as a word: not as a part of a longer one.
pub(crate) fn find_word<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    text.match_indices(word).map(|(at, _)| at).filter(move |at| {
        let before = at.checked_sub(1).and_then(|at| text.as_bytes().get(at));
        let after = text.as_bytes().get(at + word.len());
        !before.is_some_and(|byte| is_word(*byte)) && !after.is_some_and(|byte| is_word(*byte))
    })
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// The text from an offset, or nothing past the end.
pub(crate) fn from(text: &str, offset: usize) -> &str {
    text.get(offset..).unwrap_or_default()
}

/// The identifier that a text begins with.
pub(crate) fn identifier(text: &str) -> &str {
    let end = text.bytes().position(|byte| !is_word(byte)).unwrap_or(text.len());
    text.get(..end).unwrap_or_default()
}

pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) line: usize,
    /// From the line of `fn` to the line of the closing brace.
    pub(crate) lines: usize,
    /// What stands between the parentheses of the signature.
    pub(crate) parameters: String,
    /// Whether it is visible outside of its crate, as far as its own line says.
    pub(crate) visibility: Visibility,
}

#[derive(PartialEq, Eq)]
pub(crate) enum Visibility {
    Public,
    Restricted,
}

/// Every function that masked code writes out, with or without a body.
pub(crate) fn functions(code: &str) -> Vec<Function> {
    find_word(code, "fn").filter_map(|at| function(code, at)).collect()
}

fn function(code: &str, at: usize) -> Option<Function> {
    let rest = from(code, at + 2);
    let name = identifier(rest.trim_start());
    // `fn(u8) -> u8` is a type.
    if name.is_empty() || !rest.starts_with(char::is_whitespace) {
        return None;
    }
    let name_end = code.len() - rest.trim_start().len() + name.len();
    let open = name_end + generics(from(code, name_end));
    let close = group_end(code, open)?;
    let end = body_end(code, close);
    let line = line_of(code, at);
    Some(Function {
        name: name.to_owned(),
        line,
        lines: line_of(code, end) - line + 1,
        parameters: code.get(open + 1..close).unwrap_or_default().to_owned(),
        visibility: visibility(code, at),
    })
}

/// The length of `<…>` and of blanks at the beginning; an arrow closes nothing.
fn generics(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut previous = ' ';
    for (at, c) in text.char_indices() {
        match c {
            '<' => depth += 1,
            '>' if !matches!(previous, '-' | '=') => depth = depth.saturating_sub(1),
            '(' if depth == 0 => return at,
            _ => {}
        }
        previous = c;
    }
    text.len()
}

/// Where the group closes that opens at an offset.
fn group_end(code: &str, open: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, c) in from(code, open).char_indices() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return Some(open + at);
        }
    }
    None
}

/// Where a function ends whose parameters close at an offset: at its last brace, or at the semicolon of a
/// declaration.
fn body_end(code: &str, close: usize) -> usize {
    let mut depth = 0_usize;
    for (at, c) in from(code, close + 1).char_indices() {
        let at = close + 1 + at;
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth = depth.saturating_sub(1),
            ';' if depth == 0 => return at,
            '{' if depth == 0 => return group_end(code, at).unwrap_or(code.len()),
            _ => {}
        }
    }
    code.len()
}

fn visibility(code: &str, at: usize) -> Visibility {
    let before = code.get(..at).unwrap_or_default();
    let start = before.rfind(['{', '}', ';', ']', '\n']).map_or(0, |found| found + 1);
    let words = from(before, start);
    if words.split_whitespace().next() == Some("pub") { Visibility::Public } else { Visibility::Restricted }
}

/// The lines of `mod tests { … }`, and of any module right after `#[cfg(test)]`.
pub(crate) fn test_lines(code: &str) -> Vec<Range<usize>> {
    let modules = find_word(code, "mod").filter_map(|at| {
        let rest = from(code, at + 3).trim_start();
        let name = identifier(rest);
        let open = code.len() - rest.len() + name.len();
        let brace = open + from(code, open).find(|c: char| !c.is_whitespace())?;
        let is_test = name == "tests" || code.get(..at)?.trim_end().ends_with("#[cfg(test)]");
        if !is_test || !from(code, brace).starts_with('{') {
            return None;
        }
        Some(line_of(code, at)..line_of(code, group_end(code, brace)?) + 1)
    });
    modules.collect()
}

/// A path such as `std::fs::read` and the line it stands on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mention {
    pub(crate) line: usize,
    pub(crate) path: String,
}

impl Mention {
    /// Whether the segments of `part` follow each other in the path.
    pub(crate) fn contains(&self, part: &str) -> bool {
        format!("::{}::", self.path).contains(&format!("::{part}::"))
    }
}

/// Every path in masked code; a `use` with braces counts as the paths it stands for.
pub(crate) fn mentions(code: &str) -> Vec<Mention> {
    let mut found = Vec::new();
    let mut rest_start = 0;
    for at in find_word(code, "use") {
        let tree = from(code, at + 3);
        // `impl Trait + use<'a>` imports nothing.
        let Some(length) = tree.find(';').filter(|_| !tree.trim_start().starts_with('<')) else { continue };
        if at < rest_start {
            continue;
        }
        plain_mentions(code, rest_start..at, &mut found);
        use_mentions(code, at + 3..at + 3 + length + 1, &mut found);
        rest_start = at + 3 + length + 1;
    }
    plain_mentions(code, rest_start..code.len(), &mut found);
    found
}

fn plain_mentions(code: &str, range: Range<usize>, found: &mut Vec<Mention>) {
    let first = line_of(code, range.start);
    for (index, line) in code.get(range).unwrap_or_default().split('\n').enumerate() {
        let paths = line.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'));
        let paths = paths.map(|path| path.trim_matches(':')).filter(|path| !path.is_empty());
        found.extend(paths.map(|path| Mention { line: first + index, path: path.to_owned() }));
    }
}

fn use_mentions(code: &str, range: Range<usize>, found: &mut Vec<Mention>) {
    let start = range.start;
    let mut prefixes: Vec<String> = Vec::new();
    let mut item = String::new();
    for (at, c) in code.get(range).unwrap_or_default().char_indices() {
        match c {
            '{' => {
                let outer = prefixes.last().cloned().unwrap_or_default();
                prefixes.push(outer + item.trim());
                item.clear();
            }
            ',' | '}' | ';' => {
                let name = item.split(" as ").next().unwrap_or_default().trim();
                if !name.is_empty() {
                    let prefix = prefixes.last().map_or("", String::as_str);
                    let path = format!("{prefix}{name}");
                    let path = path.trim_start_matches("::").trim_end_matches("::self").to_owned();
                    found.push(Mention { line: line_of(code, start + at), path });
                }
                item.clear();
                if c == '}' {
                    prefixes.pop();
                }
            }
            _ => item.push(if c == '\n' { ' ' } else { c }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_masked_and_code_stays() {
        fn check(input: &str, expected: &str) {
            let masked = mask(input);
            assert_eq!(masked.split_whitespace().collect::<Vec<_>>().join(" "), expected, "{input}");
            assert_eq!(masked.matches('\n').count(), input.matches('\n').count(), "{input}");
        }
        check("a // b {\nc", "a c");
        check("a /* b /* c */ d */ e", "a e");
        check(r#"f("{ \" {", x)"#, "f( , x)");
        check(r##"f(r#"{ " {"#, br"{\", x)"##, "f( , b , x)");
        check("r#fn for r in", "r#fn for r in");
        check("'{' 'a 'é' '\\'' '\\u{1F600}' <'b>", "'a <'b>");
        check("\"a\nb\" c", "c");
        check("b'\"' x", "b x");
    }

    #[test]
    fn functions_are_measured() {
        fn check(input: &str, expected: &[(&str, usize, usize, &str)]) {
            let found = functions(&mask(input));
            let found: Vec<_> =
                found.iter().map(|f| (f.name.as_str(), f.line, f.lines, f.parameters.as_str())).collect();
            assert_eq!(found, expected, "{input}");
        }
        check("fn a() {}", &[("a", 1, 1, "")]);
        check("\nfn a(\n  x: u8,\n) -> [u8; 2] {\n  \"}\"\n}\n", &[("a", 2, 5, "\n  x: u8,\n")]);
        check(
            "trait T { fn a(&self); fn b(f: fn(u8) -> u8) {} }",
            &[("a", 1, 1, "&self"), ("b", 1, 1, "f: fn(u8) -> u8")],
        );
        check("fn a<F: Fn(u8) -> (u8, u8)>(f: F) where F: Send {\n}\n", &[("a", 1, 2, "f: F")]);
        check("fn a() {\n fn b() {\n }\n}\n", &[("a", 1, 4, ""), ("b", 2, 2, "")]);
    }

    #[test]
    fn paths_are_mentioned_in_full() {
        fn check(input: &str, expected: &[(usize, &str)]) {
            let found = mentions(&mask(input));
            let found: Vec<_> = found.iter().map(|m| (m.line, m.path.as_str())).collect();
            assert_eq!(found, expected, "{input}");
        }
        check("use std::fs;", &[(1, "std::fs")]);
        check(
            "use std::{\n  fs::{self, File as F},\n  sync::*,\n};",
            &[(2, "std::fs"), (2, "std::fs::File"), (3, "std::sync::*")],
        );
        check("let x = ::std::fs::read(y);", &[(1, "let"), (1, "x"), (1, "std::fs::read"), (1, "y")]);
        check("+ use<'a> {}\nx", &[(1, "use"), (1, "a"), (2, "x")]);
    }

    #[test]
    fn test_modules_are_found() {
        fn check(input: &str, expected: &[(usize, usize)]) {
            let found: Vec<_> =
                test_lines(&mask(input)).iter().map(|range| (range.start, range.end)).collect();
            assert_eq!(found, expected, "{input}");
        }
        check("fn a() {}\nmod tests {\n  fn b() {}\n}\n", &[(2, 5)]);
        check("#[cfg(test)]\nmod model {\n}\n", &[(2, 4)]);
        check("mod model {\n}\nmod tests;\n", &[]);
    }
}
