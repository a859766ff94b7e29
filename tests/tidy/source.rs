//! The source as the checks see it: every line as written, as code without comments and texts, and whether it is only
//! compiled for tests. A small lexer, because a check that fires on a comment is a check people learn to ignore.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// One file.
#[derive(Debug)]
pub(crate) struct Source {
    /// Relative to the repository, as in `src/pool/index.rs`.
    pub(crate) path: String,
    pub(crate) lines: Vec<Line>,
}

#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) text: String,
    /// The line with the insides of comments, strings and characters blanked.
    pub(crate) code: String,
    pub(crate) test: bool,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let code = blank(text);
        let test = test_lines(&code);
        let lines = text.lines().zip(code.lines()).enumerate();
        let lines = lines.map(|(at, (text, code))| Line {
            text: text.into(),
            code: code.into(),
            test: test.contains(&at),
        });
        Self {
            path: path.into(),
            lines: lines.collect(),
        }
    }

    /// Lines that end up in the program, with their numbers.
    pub(crate) fn program(&self) -> impl Iterator<Item = (usize, &Line)> {
        let numbered = self.lines.iter().enumerate();
        numbered
            .filter(|(_, line)| !line.test)
            .map(|(at, line)| (at + 1, line))
    }
}

/// Every file under a directory of the repository with this extension, tests marked as such.
pub(crate) fn read(dir: &str, extension: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    walk(&root.join(dir), &mut paths);
    paths.sort();
    let mut sources: Vec<_> = paths
        .into_iter()
        .filter(|path| path.extension().is_some_and(|e| e == extension))
        .map(|path| {
            let text = std::fs::read_to_string(&path).expect("sources are readable text");
            let path = path.strip_prefix(root).expect("is below it");
            Source::new(&path.to_string_lossy(), &text)
        })
        .collect();
    mark_test_files(&mut sources);
    sources
}

fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
    let Ok(list) = std::fs::read_dir(dir) else {
        return;
    };
    for entry in list {
        let path = entry.expect("is listable").path();
        match path.is_dir() {
            true => walk(&path, found),
            false => found.push(path),
        }
    }
}

/// A file that is declared as `#[cfg(test)] mod name;` is a test from its first line to its last, and so are those below it.
pub(crate) fn mark_test_files(sources: &mut [Source]) {
    let mut roots = BTreeSet::new();
    for source in sources.iter() {
        let declared = source
            .lines
            .iter()
            .filter(|line| line.test)
            .filter_map(|line| {
                let words: Vec<_> = line.code.split_whitespace().collect();
                match words[..] {
                    [.., "mod", name] => name.strip_suffix(';'),
                    _ => None,
                }
            });
        let stem = source.path.strip_suffix(".rs").unwrap_or(&source.path);
        let folder = stem
            .strip_suffix("/mod")
            .or_else(|| stem.strip_suffix("/lib"));
        let folder = folder.unwrap_or(stem);
        roots.extend(declared.map(|name| format!("{folder}/{name}")));
    }
    for source in sources {
        let path = source.path.strip_suffix(".rs").unwrap_or(&source.path);
        let below = |root: &String| {
            path.strip_prefix(root.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if roots.iter().any(below) {
            source.lines.iter_mut().for_each(|line| line.test = true);
        }
    }
}

/// Blanks everything inside comments and literals, keeping every line where it is.
pub(crate) fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = match chars[at] {
            '/' if chars.get(at + 1) == Some(&'/') => until(&chars, at, |c, _| c == '\n'),
            '/' if chars.get(at + 1) == Some(&'*') => comment_end(&chars, at),
            '"' => string_end(&chars, at + 1),
            'r' if !follows_word(&chars, at) => raw_end(&chars, at).unwrap_or(at),
            '\'' => char_end(&chars, at).unwrap_or(at),
            _ => at,
        };
        if end == at {
            out.push(chars[at]);
            at += 1;
            continue;
        }
        for c in &chars[at..end.min(chars.len())] {
            out.push(if *c == '\n' { '\n' } else { ' ' });
        }
        at = end;
    }
    out
}

fn until(chars: &[char], from: usize, stop: impl Fn(char, usize) -> bool) -> usize {
    (from..chars.len())
        .find(|at| stop(chars[*at], *at))
        .unwrap_or(chars.len())
}

fn comment_end(chars: &[char], from: usize) -> usize {
    let mut depth = 0;
    let mut at = from;
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => {
                depth += 1;
                at += 1;
            }
            ('*', Some('/')) => {
                depth -= 1;
                at += 1;
            }
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return at;
        }
    }
    at
}

fn string_end(chars: &[char], mut at: usize) -> usize {
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    at
}

/// The end of `r"…"` or `r#"…"#`, if that is what starts here.
fn raw_end(chars: &[char], from: usize) -> Option<usize> {
    let quote = until(chars, from + 1, |c, _| c != '#');
    let hashes = quote - from - 1;
    if chars.get(quote) != Some(&'"') {
        return None;
    }
    let closes = |at: usize| {
        chars[at + 1..]
            .iter()
            .take(hashes)
            .filter(|c| **c == '#')
            .count()
            == hashes
    };
    Some(until(chars, quote + 1, |c, at| c == '"' && closes(at)) + 1 + hashes)
}

/// The end of a character literal; a lifetime is none.
fn char_end(chars: &[char], from: usize) -> Option<usize> {
    match (chars.get(from + 1)?, chars.get(from + 2)?) {
        ('\\', _) => Some(until(chars, from + 3, |c, _| c == '\'') + 1),
        (_, '\'') => Some(from + 3),
        _ => None,
    }
}

/// Whether the character before belongs to a word; the `b` and `c` of byte and C strings do not.
fn follows_word(chars: &[char], at: usize) -> bool {
    let before = |back: usize| at.checked_sub(back).map(|at| chars[at]);
    let word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    match before(1) {
        Some('b' | 'c') => word(before(2)),
        other => word(other),
    }
}

/// Numbers, from 0, of the lines that belong to something `#[cfg(test)]`.
fn test_lines(code: &str) -> BTreeSet<usize> {
    const MARK: &str = "#[cfg(test)]";
    let mut lines = BTreeSet::new();
    let mut from = 0;
    while let Some(found) = code[from..].find(MARK) {
        let start = from + found;
        let end = item_end(code, start + MARK.len());
        let line = |at: usize| code[..at].matches('\n').count();
        lines.extend(line(start)..=line(end));
        from = end.max(start + MARK.len());
    }
    lines
}

/// Where the item, statement, variant or match arm that starts here ends.
fn item_end(code: &str, from: usize) -> usize {
    const ITEMS: [&str; 14] = [
        "pub",
        "fn",
        "mod",
        "use",
        "impl",
        "struct",
        "enum",
        "const",
        "static",
        "type",
        "async",
        "trait",
        "unsafe",
        "macro_rules!",
    ];
    let mut rest = code[from..].trim_start();
    // Attributes that follow.
    while rest.starts_with("#[") {
        let close = rest.find(']').unwrap_or(rest.len() - 1);
        rest = rest[close + 1..].trim_start();
    }
    let first = rest
        .split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '!'))
        .next();
    let item = first.is_some_and(|word| ITEMS.contains(&word));
    let start = code.len() - rest.len();
    let mut depth = 0;
    for (offset, c) in rest.char_indices() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => {
                depth -= 1;
                if depth < 0 || (depth == 0 && c == '}') {
                    return start + offset;
                }
            }
            ';' if depth == 0 => return start + offset,
            ',' if depth == 0 && !item => return start + offset,
            _ => {}
        }
    }
    code.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> String {
        blank(text).split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn comments_and_texts_are_no_code() {
        assert_eq!(code("a // b\nc"), "a c");
        assert_eq!(code("a /* b /* c */ d */ e"), "a e");
        assert_eq!(code(r#"f("a \" b", 'x', '\'', '"') + g"#), "f( , , , ) + g");
        assert_eq!(
            code(r##"f(r#"a " b"#, br"c\", c"d") + g"##),
            "f( , b , c ) + g"
        );
        assert_eq!(
            code("fn f<'a>(b: &'a str) -> &'static str { 'c' }"),
            "fn f<'a>(b: &'a str) -> &'static str { }"
        );
        assert_eq!(code("let for_r = var\"x\";"), "let for_r = var ;");
        assert_eq!(blank("a\n/* b\n c */ d \"e\nf\" g").lines().count(), 4);
    }

    #[test]
    fn what_is_for_tests_is_known() {
        let text = "\
fn program() {}
#[cfg(test)]
fn helper<A, B>() {
    body();
}
fn program() {
    match x {
        #[cfg(test)]
        A(b) => c(),
        D => program(),
    }
}
enum E {
    #[cfg(test)]
    A(b),
    Program,
}
#[cfg(test)]
#[path = \"x.rs\"]
pub mod x;
fn program() {}
#[cfg(test)]
mod tests {
    fn f() { \"}\"; }
}
fn program() {}";
        let source = Source::new("src/a.rs", text);
        for line in source.lines {
            let program = line.text.to_lowercase().contains("program");
            if program
                || ["body", "helper", "A(", "mod", "fn f"]
                    .iter()
                    .any(|t| line.text.contains(t))
            {
                assert_eq!(line.test, !program, "{:?}", line.text);
            }
        }
    }

    #[test]
    fn a_file_declared_for_tests_is_one_and_so_is_what_is_below() {
        let mut sources = [
            (
                "src/store/mod.rs",
                "pub mod other;\n#[cfg(test)]\npub mod suite;\n",
            ),
            ("src/store/suite.rs", "a"),
            ("src/store/suite/more.rs", "a"),
            ("src/store/suites.rs", "a"),
            ("src/load.rs", "fn f() {}\n#[cfg(test)]\nmod tests;"),
            ("src/load/tests.rs", "a"),
            ("src/tests.rs", "a"),
        ]
        .map(|(path, text)| Source::new(path, text));
        mark_test_files(&mut sources);
        let tests: Vec<_> = sources
            .iter()
            .filter(|s| s.lines.iter().all(|l| l.test))
            .map(|s| s.path.as_str())
            .collect();
        assert_eq!(
            tests,
            [
                "src/store/suite.rs",
                "src/store/suite/more.rs",
                "src/load/tests.rs"
            ]
        );
    }
}
