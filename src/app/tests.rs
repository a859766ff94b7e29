//! What the intervals of the composition root add up to.

use super::*;
use crate::config::check::check;
use crate::config::raw::{Origin, Values};

/// Announcements are heard at once; this is for one that is lost. It is found at the next look, and then the keys are read, once more if
/// that fails.
#[test]
fn a_revocation_nobody_was_told_of_is_known_within_a_second() {
    let mut values = Values::defaults();
    let url = "redis://127.0.0.1";
    values
        .set_text("store.url", url, Origin::Flag)
        .expect("a key");
    let config = check(&values, Vec::new()).expect("good");
    let config::Store::Redis { look_again, .. } = config.store else {
        unreachable!("it is Redis");
    };
    assert!(
        look_again + KEYS_RETRY < Duration::from_secs(1),
        "{look_again:?}"
    );
}
