//! The certificate the listener shows: whether it can be used, fits its key, and is good for a while.

use std::time::Duration;

use jiff::Timestamp;

use crate::clock;
use crate::config;
use crate::doctor::Finding;
use crate::domain::fault::with_sources;
use crate::gateway::validity::{self, Error};

const ABOUT: &str = "certificate";
/// Certificates that are renewed by a program are renewed before that.
const SOON: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// `None` where the listener speaks plain HTTP.
pub(super) fn examine(tls: Option<&config::Tls>) -> Option<Finding> {
    Some(judge(tls?, clock::wall()))
}

fn judge(files: &config::Tls, now: Timestamp) -> Finding {
    let shown = files.certificate.display();
    let bad = |error: &Error, mend: &str| Finding::bad(ABOUT, with_sources(error), mend);
    let renew = "renew it; the server takes the new one over by itself";
    match validity::check(files, now) {
        Ok(()) => {}
        Err(error @ Error::Expired { .. }) => return bad(&error, renew),
        Err(error @ Error::NotYet(_)) => {
            return bad(&error, "set the machine's clock, or use another");
        }
        Err(error) => {
            let mend = "put the certificate with its chain, and the key it was made for, in the files that server.tls names";
            return bad(&error, mend);
        }
    }
    match validity::check(files, now + SOON) {
        Err(Error::Expired { until, .. }) => {
            let until = until.and_then(|until| {
                let seconds = i64::try_from(until.as_secs()).ok()?;
                Timestamp::from_second(seconds).ok()
            });
            let until = until.map_or("soon".to_owned(), |until| format!("at {until}"));
            Finding::warning(ABOUT, format!("{shown} expires {until}"), renew)
        }
        _ => Finding::good(ABOUT, format!("{shown} is good and fits its key")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn it_is_looked_at_ahead_of_time() {
        let dir = tempfile::tempdir().expect("a directory");
        let made = rcgen::CertificateParams::new(vec!["hearth.test".to_owned()]);
        let mut made = made.expect("a name");
        made.not_before = rcgen::date_time_ymd(2020, 1, 1);
        made.not_after = rcgen::date_time_ymd(2030, 1, 1);
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate = made.self_signed(&key).expect("a certificate").pem();
        let files = config::Tls {
            certificate: dir.path().join("tls.pem"),
            key: dir.path().join("tls.key"),
        };
        std::fs::write(&files.certificate, certificate).expect("written");
        std::fs::write(&files.key, key.serialize_pem()).expect("written");
        let at = |text: &str| judge(&files, text.parse().expect("a time"));
        assert_eq!(at("2025-01-01T00:00:00Z").verdict, Verdict::Good);
        assert_eq!(at("2019-01-01T00:00:00Z").verdict, Verdict::Bad);
        assert_eq!(at("2031-01-01T00:00:00Z").verdict, Verdict::Bad);
        let soon = at("2029-12-30T00:00:00Z");
        assert_eq!(soon.verdict, Verdict::Warning);
        assert!(soon.found.contains("2030-01-01T00:00:00Z"), "{soon:?}");
        std::fs::write(&files.key, "nothing").expect("written");
        assert_eq!(at("2025-01-01T00:00:00Z").verdict, Verdict::Bad);
        assert_eq!(examine(None), None);
    }
}
