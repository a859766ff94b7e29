//! Whether the listener's certificates are good now, and for how long: the server shows what it is given, also when clients will refuse
//! it. Asked by `doctor`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, RootCertStore};

use crate::config;
use crate::gateway::tls;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Unusable(#[from] tls::Error),
    #[error("a certificate in {0} is malformed")]
    Malformed(PathBuf, #[source] rustls::Error),
    #[error("a certificate in {path} has expired")]
    Expired {
        path: PathBuf,
        until: Option<UnixTime>,
    },
    #[error("a certificate in {0} is not valid yet")]
    NotYet(PathBuf),
}

/// Whether the certificates and the key can be used, and all of them are good at this time.
pub fn check(files: &config::Tls, at: jiff::Timestamp) -> Result<(), Error> {
    let since_epoch = u64::try_from(at.as_second()).unwrap_or_default();
    let at = UnixTime::since_unix_epoch(Duration::from_secs(since_epoch));
    for certificate in tls::usable_chain(files)? {
        let path = || files.certificate.clone();
        use CertificateError as Bad;
        match dates(&certificate, at) {
            Ok(()) => {}
            Err(rustls::Error::InvalidCertificate(Bad::Expired)) => {
                let (path, until) = (path(), None);
                return Err(Error::Expired { path, until });
            }
            Err(rustls::Error::InvalidCertificate(Bad::ExpiredContext { not_after, .. })) => {
                let (path, until) = (path(), Some(not_after));
                return Err(Error::Expired { path, until });
            }
            Err(rustls::Error::InvalidCertificate(
                Bad::NotValidYet | Bad::NotValidYetContext { .. },
            )) => return Err(Error::NotYet(path())),
            Err(error) => return Err(Error::Malformed(path(), error)),
        }
    }
    Ok(())
}

/// Fails if the certificate is not good at this time. Whom it is for and who vouches for it is the clients' business.
fn dates(certificate: &CertificateDer<'_>, at: UnixTime) -> Result<(), rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone().into_owned())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
    let verifier = verifier.map_err(|error| rustls::Error::General(error.to_string()))?;
    let anybody = ServerName::try_from("localhost").expect("a name");
    match verifier.verify_server_cert(certificate, &[], &anybody, &[], at) {
        // Dates are looked at before all this.
        Err(rustls::Error::InvalidCertificate(
            error @ (CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. }
            | CertificateError::BadEncoding),
        )) => Err(rustls::Error::InvalidCertificate(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

    use super::*;

    /// Good from the beginning of one year to that of another, and its key.
    fn files(dir: &std::path::Path, years: (i32, i32), authority: bool) -> config::Tls {
        let mut params = CertificateParams::new(vec!["hearth.test".to_owned()]).expect("a name");
        params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
        params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
        if authority {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        let key = KeyPair::generate().expect("a key");
        let made = params.self_signed(&key).expect("a certificate");
        let files = config::Tls {
            certificate: dir.join("tls.pem"),
            key: dir.join("tls.key"),
        };
        std::fs::write(&files.certificate, made.pem()).expect("written");
        std::fs::write(&files.key, key.serialize_pem()).expect("written");
        files
    }

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    #[test]
    fn a_certificate_is_good_between_its_dates() {
        let dir = tempfile::tempdir().expect("a directory");
        for authority in [false, true] {
            let files = files(dir.path(), (2020, 2030), authority);
            check(&files, at("2020-01-02T00:00:00Z")).expect("good");
            check(&files, at("2029-12-31T00:00:00Z")).expect("good");
            let early = check(&files, at("2019-12-31T00:00:00Z"));
            assert!(matches!(early, Err(Error::NotYet(_))), "{early:?}");
            let late = check(&files, at("2030-01-02T00:00:00Z"));
            let Err(Error::Expired { until, .. }) = late else {
                unreachable!("{late:?}");
            };
            let until = until.expect("known").as_secs();
            assert_eq!(until, at("2030-01-01T00:00:00Z").as_second() as u64);
        }
    }

    #[test]
    fn what_cannot_be_used_is_no_certificate() {
        let dir = tempfile::tempdir().expect("a directory");
        let good = files(dir.path(), (2020, 2030), false);
        let now = at("2025-01-01T00:00:00Z");
        let other = KeyPair::generate().expect("a key").serialize_pem();
        std::fs::write(&good.key, other).expect("written");
        assert!(matches!(check(&good, now), Err(Error::Unusable(_))));
        std::fs::remove_file(&good.certificate).expect("removed");
        assert!(matches!(check(&good, now), Err(Error::Unusable(_))));
    }
}
