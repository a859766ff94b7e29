//! Which functions a key is for, by their names: `orders-*` and the like; which images and which buckets, by theirs. Pure, and no work for an attacker to make more of: matching
//! takes at most the product of both lengths, which are short.

use serde::{Deserialize, Serialize};

use crate::domain::id::of_name_characters;

/// Matching is short because this is.
const IMAGE_MAX: usize = 256;
const BUCKET_MAX: usize = 63;

/// `*` stands for any characters, also none; `?` for one; everything else for itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pattern(String);

impl Pattern {
    pub fn parse(text: &str) -> Result<Self, String> {
        of_name_characters(text, "*?", "'-', '_', '*' and '?'")?;
        Ok(Self(text.into()))
    }

    /// Of names of images.
    pub fn of_images(text: &str) -> Result<Self, String> {
        let good = |c: char| c.is_ascii_alphanumeric() || "._-:@/*?".contains(c);
        match !text.is_empty() && text.len() <= IMAGE_MAX && text.chars().all(good) {
            true => Ok(Self(text.into())),
            false => Err(format!(
                "{text:?} is no name of images, expected one like \"team/*\""
            )),
        }
    }

    /// Of names of buckets.
    pub fn of_buckets(text: &str) -> Result<Self, String> {
        let good = |c: char| c.is_ascii_alphanumeric() || "._-*?".contains(c);
        match !text.is_empty() && text.len() <= BUCKET_MAX && text.chars().all(good) {
            true => Ok(Self(text.into())),
            false => Err(format!(
                "{text:?} is no name of buckets, expected one like \"code-*\""
            )),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is the whole name.
    pub fn matches(&self, name: &str) -> bool {
        let (pattern, name) = (self.0.as_bytes(), name.as_bytes());
        let (mut p, mut n) = (0, 0);
        // Where the last star stands, and the end of what it stands for so far.
        let mut star: Option<(usize, usize)> = None;
        while n < name.len() {
            match pattern.get(p) {
                Some(b'*') => {
                    star = Some((p, n));
                    p += 1;
                }
                Some(c) if *c == b'?' || *c == name[n] => {
                    p += 1;
                    n += 1;
                }
                _ => match star {
                    // The star takes one more. Stars before it need not be looked at again: what they took can stay.
                    Some((at, taken)) => {
                        star = Some((at, taken + 1));
                        p = at + 1;
                        n = taken + 1;
                    }
                    None => return false,
                },
            }
        }
        pattern[p..].iter().all(|c| *c == b'*')
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, proptest};

    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        Pattern::parse(pattern).expect("a pattern").matches(name)
    }

    /// The definition, word for word; slow.
    fn means(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern, name) {
            ([], []) => true,
            ([b'*', rest @ ..], _) => {
                means(rest, name) || (!name.is_empty() && means(pattern, &name[1..]))
            }
            ([b'?', rest @ ..], [_, after @ ..]) => means(rest, after),
            ([c, rest @ ..], [d, after @ ..]) if c == d => means(rest, after),
            _ => false,
        }
    }

    #[test]
    fn a_pattern_is_the_whole_name() {
        for (pattern, name, is) in [
            ("orders-*", "orders-", true),
            ("orders-*", "orders-new", true),
            ("orders-*", "orders", false),
            ("orders-*", "my-orders-new", false),
            ("*", "anything", true),
            ("*", "", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*-eu-*", "mail-eu-1", true),
            ("*-eu-*", "mail-us-1", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("Mail", "mail", false),
        ] {
            assert_eq!(matches(pattern, name), is, "{pattern} for {name}");
        }
        let worst = "a*".repeat(32);
        assert!(!matches(&worst, &format!("{}b", "a".repeat(31))));
    }

    #[test]
    fn what_can_match_nothing_is_refused() {
        for bad in ["", "a b", "a.b", "a/b", "a%2D", "é", &"x".repeat(65)] {
            assert!(Pattern::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn images_have_more_in_their_names() {
        let of = |text| Pattern::of_images(text).expect("a pattern");
        assert!(of("team/*").matches("team/app:7"));
        assert!(of("host:5000/*@sha256:*").matches("host:5000/a@sha256:0"));
        assert!(!of("team/*").matches("docker.io/team/app"));
        for bad in ["", "a b", "a/é", &"x".repeat(257)] {
            assert!(Pattern::of_images(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn buckets_have_dots_in_their_names() {
        let of = |text| Pattern::of_buckets(text).expect("a pattern");
        assert!(of("code.*").matches("code.eu-1") && !of("code").matches("code.eu-1"));
        assert!(!of("code.*").matches("codes-eu"));
        for bad in ["", "a/b", "a b", "s3://code", "é", &"x".repeat(64)] {
            assert!(Pattern::of_buckets(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn it_means_what_it_says(pattern in "[ab*?]{1,8}", name in "[ab]{0,8}") {
            assert_eq!(matches(&pattern, &name), means(pattern.as_bytes(), name.as_bytes()));
        }
    }
}
