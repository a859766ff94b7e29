//! Which names, links and combinations of them a package may have. Pure: bytes of an archive in, a verdict out.
//! Called by `package` for what is unpacked and by `package::pack` for what is packed.

use std::collections::HashMap;
use std::collections::hash_map;
use std::fmt;

/// The file systems' bound for one part of a path.
const PART_MAX: usize = 255;
/// Leaves room below the kernel's 4,096 for the directory a package is unpacked in.
const NAME_MAX: usize = 2048;

/// What is wrong with an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    NoName,
    NotUtf8,
    Nul,
    Backslash,
    Absolute,
    Traversal,
    TooLong,
    PartTooLong,
    Duplicate,
    /// A file or link where another entry needs a directory, or the reverse.
    Clash,
    Special,
    LinkOut,
    LinkRoundabout,
    /// Its own header calls it otherwise than the directory does.
    OtherName(String),
    /// Its bytes are another entry's as well.
    Overlap,
    /// It does not hold as much as the archive says.
    OtherSize {
        said: u64,
        held: u64,
    },
    Encrypted,
    Method(String),
    Unreadable(String),
    TooLarge {
        limit: u64,
    },
    Bomb {
        ratio: u64,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::NoName => f.write_str("has no name"),
            Reason::NotUtf8 => f.write_str("has a name that is not UTF-8"),
            Reason::Nul => f.write_str("has a NUL in its name or its target"),
            Reason::Backslash => f.write_str("has a backslash in its name; use '/'"),
            Reason::Absolute => f.write_str("has an absolute path"),
            Reason::Traversal => f.write_str("leads out of the package with '..'"),
            Reason::TooLong => write!(f, "has a path of more than {NAME_MAX} bytes"),
            Reason::PartTooLong => {
                write!(f, "has a part of more than {PART_MAX} bytes in its path")
            }
            Reason::Duplicate => f.write_str("is there twice"),
            Reason::Clash => {
                f.write_str("is a file or link in one place and a directory in another")
            }
            Reason::Special => f.write_str("is a device, pipe or socket"),
            Reason::LinkOut => f.write_str("is a link that leads out of the package"),
            Reason::LinkRoundabout => {
                f.write_str("is a link with '..' behind a name in its target")
            }
            Reason::OtherName(own) => write!(f, "calls itself {own:?}"),
            Reason::Overlap => f.write_str("shares its bytes with another entry"),
            Reason::OtherSize { said, held } => {
                write!(f, "holds {held} bytes where {said} are said to be")
            }
            Reason::Encrypted => f.write_str("is encrypted"),
            Reason::Method(method) => {
                write!(f, "is compressed with {method}; use deflate or store")
            }
            Reason::Unreadable(text) => write!(f, "cannot be read: {text}"),
            Reason::TooLarge { limit } => {
                write!(
                    f,
                    "brings the package over the limit: unpacked, it may have less than {limit} bytes"
                )
            }
            Reason::Bomb { ratio } => write!(
                f,
                "brings the package to more than {ratio} times its packed size"
            ),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    File,
    Link,
    Directory,
}

/// The name of an entry as a path below the package: parts between single slashes, none of them special. `None` is the package
/// itself, as in `./`.
pub fn name(raw: &[u8]) -> Result<Option<String>, Reason> {
    let text = std::str::from_utf8(raw).map_err(|_not_utf8| Reason::NotUtf8)?;
    if text.is_empty() {
        return Err(Reason::NoName);
    }
    if text.contains('\0') {
        return Err(Reason::Nul);
    }
    if text.contains('\\') {
        return Err(Reason::Backslash);
    }
    if text.starts_with('/') || has_drive(text) {
        return Err(Reason::Absolute);
    }
    if text.len() > NAME_MAX {
        return Err(Reason::TooLong);
    }
    let mut path = String::with_capacity(text.len());
    for part in text.split('/').filter(|part| !matches!(*part, "" | ".")) {
        if part == ".." {
            return Err(Reason::Traversal);
        }
        if part.len() > PART_MAX {
            return Err(Reason::PartTooLong);
        }
        if !path.is_empty() {
            path.push('/');
        }
        path.push_str(part);
    }
    Ok((!path.is_empty()).then_some(path))
}

/// `C:file` and `c:\file`, which mean a place of their own to some tools.
fn has_drive(text: &str) -> bool {
    matches!(text.as_bytes(), [letter, b':', ..] if letter.is_ascii_alphabetic())
}

/// Checks that a link at `name` stays in the package, wherever it leads. All `..` must come first: there they step out of real
/// directories, which can be counted. Behind a name they would step out of whatever that name is a link to.
pub fn link_target<'a>(name: &str, raw: &'a [u8]) -> Result<&'a str, Reason> {
    let target = std::str::from_utf8(raw).map_err(|_not_utf8| Reason::NotUtf8)?;
    if target.contains('\0') {
        return Err(Reason::Nul);
    }
    if target.is_empty() || target.starts_with('/') {
        return Err(Reason::LinkOut);
    }
    if target.len() > NAME_MAX {
        return Err(Reason::TooLong);
    }
    let mut depth = name.matches('/').count();
    let mut named = false;
    for part in target.split('/').filter(|part| !matches!(*part, "" | ".")) {
        match part {
            ".." if named => return Err(Reason::LinkRoundabout),
            ".." => depth = depth.checked_sub(1).ok_or(Reason::LinkOut)?,
            part if part.len() > PART_MAX => return Err(Reason::PartTooLong),
            _ => named = true,
        }
    }
    Ok(target)
}

/// What a package has so far, directories that are only implied included: a few long names must not become a million
/// directories uncounted.
#[derive(Debug, Default)]
pub struct Tree {
    kinds: HashMap<String, Kind>,
}

impl Tree {
    pub fn entries(&self) -> usize {
        self.kinds.len()
    }

    /// Adds an entry; returns the directories that are new with it, outermost first, itself included if it is one. A directory
    /// may be named again; a file or link may not. Names that differ in case are different names, as they are to the kernel.
    pub fn add<'a>(&mut self, name: &'a str, kind: Kind) -> Result<Vec<&'a str>, Reason> {
        let mut new = Vec::new();
        let above = name.match_indices('/').map(|(at, _)| &name[..at]);
        let itself = (kind == Kind::Directory).then_some(name);
        for directory in above.chain(itself) {
            match self.kinds.get(directory) {
                Some(Kind::Directory) => {}
                Some(Kind::File | Kind::Link) => return Err(Reason::Clash),
                None => {
                    self.kinds.insert(directory.to_owned(), Kind::Directory);
                    new.push(directory);
                }
            }
        }
        if kind != Kind::Directory {
            match self.kinds.entry(name.to_owned()) {
                hash_map::Entry::Vacant(free) => {
                    free.insert(kind);
                }
                hash_map::Entry::Occupied(taken) if *taken.get() == Kind::Directory => {
                    return Err(Reason::Clash);
                }
                hash_map::Entry::Occupied(_) => return Err(Reason::Duplicate),
            }
        }
        Ok(new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_names_become_plain_paths() {
        for (raw, path) in [
            ("app.x", "app.x"),
            ("./a//b/./c", "a/b/c"),
            ("dir/", "dir"),
            ("...", "..."),
            ("a/..b", "a/..b"),
            ("ab:c", "ab:c"),
            ("ünïcode/ñ", "ünïcode/ñ"),
        ] {
            assert_eq!(name(raw.as_bytes()), Ok(Some(path.into())), "{raw}");
        }
        assert_eq!(name(b"./"), Ok(None));
    }

    #[test]
    fn bad_names_are_told_apart() {
        let long_part = "x".repeat(PART_MAX + 1);
        let long_name = "x/".repeat(NAME_MAX / 2 + 1);
        for (raw, reason) in [
            (&b""[..], Reason::NoName),
            (b"\xff\xfe", Reason::NotUtf8),
            (b"a\0b", Reason::Nul),
            (b"a\\b", Reason::Backslash),
            (b"/etc/passwd", Reason::Absolute),
            (b"C:/x", Reason::Absolute),
            (b"a:b", Reason::Absolute),
            (b"../x", Reason::Traversal),
            (b"a/../../x", Reason::Traversal),
            (b"a/../x", Reason::Traversal),
            (b"a/..", Reason::Traversal),
            (long_part.as_bytes(), Reason::PartTooLong),
            (long_name.as_bytes(), Reason::TooLong),
        ] {
            assert_eq!(name(raw), Err(reason), "{raw:?}");
        }
        assert!(name(&long_part.as_bytes()[1..]).is_ok());
    }

    #[test]
    fn links_may_go_anywhere_inside() {
        for (at, target) in [
            ("link", "file"),
            ("a/link", "../file"),
            ("a/b/link", "../../c/d"),
            ("a/link", ".."),
            ("a/link", "./x//y"),
        ] {
            assert_eq!(
                link_target(at, target.as_bytes()),
                Ok(target),
                "{at} -> {target}"
            );
        }
        for (at, target, reason) in [
            ("link", &b".."[..], Reason::LinkOut),
            ("a/link", b"../../x", Reason::LinkOut),
            ("link", b"/etc/passwd", Reason::LinkOut),
            ("link", b"", Reason::LinkOut),
            ("link", b"a\0", Reason::Nul),
            ("link", b"\xff", Reason::NotUtf8),
            // Lexically inside; but if `d` is a link to the root, it is not.
            ("a/b/link", b"d/../x", Reason::LinkRoundabout),
        ] {
            assert_eq!(link_target(at, target), Err(reason), "{at} -> {target:?}");
        }
    }

    #[test]
    fn a_tree_has_each_name_once_and_one_kind_per_name() {
        let mut tree = Tree::default();
        assert_eq!(tree.add("a/b/c", Kind::File), Ok(vec!["a", "a/b"]));
        assert_eq!(tree.add("a/b", Kind::Directory), Ok(vec![]));
        assert_eq!(tree.add("d", Kind::Directory), Ok(vec!["d"]));
        assert_eq!(tree.add("d", Kind::Directory), Ok(vec![]));
        assert_eq!(tree.add("A/b/c", Kind::File), Ok(vec!["A", "A/b"]));
        assert_eq!(tree.add("a/b/c", Kind::File), Err(Reason::Duplicate));
        assert_eq!(tree.add("a/b/c", Kind::Link), Err(Reason::Duplicate));
        assert_eq!(tree.add("a/b", Kind::File), Err(Reason::Clash));
        assert_eq!(tree.add("a/b/c/d", Kind::File), Err(Reason::Clash));
        assert_eq!(tree.add("a/b/c", Kind::Directory), Err(Reason::Clash));
        assert_eq!(tree.entries(), 7);
    }
}
