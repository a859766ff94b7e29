//! The outline of an archive: where its directory is, and where in it each entry lies. A zip can be read from its front or from its end, and
//! may have things in it that only one of both sees; what two readers would see differently is refused here. Pure: bytes in, places out,
//! nothing is unpacked. Called by `package` before and while it reads.

use crate::domain::limits::PACKAGE_ENTRIES_MAX;
use crate::runtime::package::entry::Reason;

const LOCAL: &[u8] = b"PK\x03\x04";
const LOCAL_LEN: usize = 30;
const LISTED: &[u8] = b"PK\x01\x02";
const LISTED_LEN: usize = 46;
const END: &[u8] = b"PK\x05\x06";
const END_LEN: usize = 22;
const WIDE_LOCATOR: &[u8] = b"PK\x06\x07";
const WIDE_LOCATOR_LEN: usize = 20;
const WIDE_END: &[u8] = b"PK\x06\x06";

/// What the end of an archive says of it. Only its own word: it bounds what a reader is asked to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outline {
    pub entries: u64,
    /// Where the directory begins.
    pub directory: u64,
}

/// Finds the end, which must be the very end, of an archive that begins at the very beginning.
pub fn outline(zip: &[u8]) -> Result<Outline, &'static str> {
    let from = zip.len().saturating_sub(END_LEN + usize::from(u16::MAX));
    let at = zip[from..]
        .windows(END.len())
        .rposition(|window| window == END)
        .map(|at| from + at)
        .ok_or("it has no directory")?;
    let end = zip.get(at..at + END_LEN).ok_or("its end is cut off")?;
    if at + END_LEN + usize::from(short(end, 20)) != zip.len() {
        return Err("something stands behind its end");
    }
    let mut outline = Outline {
        entries: short(end, 10).into(),
        directory: long(end, 16).into(),
    };
    let mut directory_end = at;
    if let Some((at, wide)) = wide_end(zip, at) {
        outline.entries = wide_long(wide, 32);
        outline.directory = wide_long(wide, 48);
        directory_end = at;
    }
    let begins = match outline.entries {
        0 => zip.starts_with(END) || zip.starts_with(WIDE_END),
        _ => zip.starts_with(LOCAL),
    };
    // Nothing is walked through that is refused for its number alone.
    if outline.entries > PACKAGE_ENTRIES_MAX as u64 {
        return Ok(outline);
    }
    if !begins {
        return Err("something stands in front of its first entry");
    }
    match behind_directory(zip, outline) == Some(directory_end) {
        true => Ok(outline),
        false => Err("its directory does not hold what its end says"),
    }
}

/// Where the directory ends that holds so many entries.
fn behind_directory(zip: &[u8], outline: Outline) -> Option<usize> {
    let mut at = usize::try_from(outline.directory).ok()?;
    for _ in 0..outline.entries {
        let header = zip.get(at..)?.get(..LISTED_LEN)?;
        if !header.starts_with(LISTED) {
            return None;
        }
        let lengths = [28, 30, 32].map(|field| usize::from(short(header, field)));
        at += LISTED_LEN + lengths.iter().sum::<usize>();
    }
    Some(at)
}

/// The end of an archive that is written for more and larger entries than the first format had room for.
fn wide_end(zip: &[u8], end: usize) -> Option<(usize, &[u8])> {
    let locator = zip.get(end.checked_sub(WIDE_LOCATOR_LEN)?..end)?;
    if !locator.starts_with(WIDE_LOCATOR) {
        return None;
    }
    let at = usize::try_from(wide_long(locator, 8)).ok()?;
    let wide = zip.get(at..)?.get(..56)?;
    wide.starts_with(WIDE_END).then_some((at, wide))
}

/// An entry's place: from its own header to the end of its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    pub start: u64,
    pub end: u64,
}

/// Where an entry lies that the directory says begins at `start`, holds `packed` bytes and is called `name`. Its own header must call it the
/// same.
pub fn span(zip: &[u8], start: u64, packed: u64, name: &[u8]) -> Result<Span, Reason> {
    let cut = || Reason::Unreadable("its header is not where the directory says".into());
    let at = usize::try_from(start).map_err(|_too_far| cut())?;
    let header = zip
        .get(at..)
        .and_then(|rest| rest.get(..LOCAL_LEN))
        .filter(|header| header.starts_with(LOCAL))
        .ok_or_else(cut)?;
    let (named, extra) = (
        usize::from(short(header, 26)),
        usize::from(short(header, 28)),
    );
    let own = zip
        .get(at + LOCAL_LEN..)
        .and_then(|rest| rest.get(..named))
        .ok_or_else(cut)?;
    if own != name {
        return Err(Reason::OtherName(String::from_utf8_lossy(own).into_owned()));
    }
    let content = (LOCAL_LEN + named + extra) as u64;
    let end = start
        .checked_add(content)
        .and_then(|at| at.checked_add(packed));
    match end {
        Some(end) if end <= zip.len() as u64 => Ok(Span { start, end }),
        _ => Err(Reason::Unreadable("it is longer than the archive".into())),
    }
}

/// The first entry, by place, that begins within another or within the directory: the same bytes counted twice.
pub fn overlapping(spans: &[(Span, usize)], directory: u64) -> Option<usize> {
    let mut sorted = spans.to_vec();
    sorted.sort_unstable();
    let mut free = 0;
    for (span, entry) in sorted {
        if span.start < free || span.end > directory {
            return Some(entry);
        }
        free = span.end;
    }
    None
}

fn short(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn long(bytes: &[u8], at: usize) -> u32 {
    u32::from(short(bytes, at)) | u32::from(short(bytes, at + 2)) << 16
}

fn wide_long(bytes: &[u8], at: usize) -> u64 {
    u64::from(long(bytes, at)) | u64::from(long(bytes, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_that_share_bytes_are_found() {
        let spans = |list: &[(u64, u64)]| -> Vec<(Span, usize)> {
            let span = |(entry, (start, end)): (usize, &(u64, u64))| {
                let (start, end) = (*start, *end);
                (Span { start, end }, entry)
            };
            list.iter().enumerate().map(span).collect()
        };
        assert_eq!(
            overlapping(&spans(&[(50, 90), (0, 40), (40, 50)]), 90),
            None
        );
        assert_eq!(overlapping(&spans(&[(0, 50), (40, 60)]), 90), Some(1));
        assert_eq!(overlapping(&spans(&[(0, 50), (0, 50)]), 90), Some(1));
        assert_eq!(overlapping(&spans(&[(0, 50), (50, 91)]), 90), Some(1));
    }

    #[test]
    fn what_is_no_archive_has_no_outline() {
        for bytes in [&b""[..], b"PK", b"PK\x05\x06", &[0; 100]] {
            assert!(outline(bytes).is_err(), "{bytes:?}");
        }
    }
}
