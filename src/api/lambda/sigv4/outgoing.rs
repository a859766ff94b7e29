//! Signs what Hearth asks of services that speak as AWS's do: of a store that speaks S3, where alone the path is signed as it goes over the
//! wire, and of others, where it is escaped once more.

use jiff::Timestamp;
use percent_encoding::utf8_percent_encode;
use sha2::{Digest, Sha256};

use crate::api::lambda::sigv4::canonical::PATH;
use crate::api::lambda::sigv4::chunked::EMPTY;
use crate::api::lambda::sigv4::presign::Signer;
use crate::api::lambda::sigv4::{ALGORITHM, Key, TERMINATOR, write_time};

/// The headers of a GET that are signed, beside the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Headers {
    pub authorization: String,
    pub date: String,
    /// The hash of a body that is not there.
    pub content: &'static str,
}

/// What makes a GET of this path on this host good for a few minutes from `now`. Path and query are escaped as they are sent.
pub fn get(signer: Signer<'_>, host: &str, path: &str, query: &str, now: Timestamp) -> Headers {
    const NAMES: &str = "host;x-amz-content-sha256;x-amz-date";
    let time = write_time(now);
    let canonical = format!(
        "GET\n{path}\n{query}\nhost:{host}\nx-amz-content-sha256:{EMPTY}\nx-amz-date:{time}\n\n{NAMES}\n{EMPTY}"
    );
    Headers {
        authorization: authorization(signer, &time, NAMES, &canonical),
        date: time,
        content: EMPTY,
    }
}

/// The headers of a POST that are signed, beside the host and what it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Posted {
    pub authorization: String,
    pub date: String,
}

/// What a service is told, and of which of its actions.
#[derive(Debug, Clone, Copy)]
pub struct Told<'a> {
    pub content_type: &'a str,
    pub target: &'a str,
    pub body: &'a [u8],
}

/// What makes a POST of an action to this path on this host good for a few minutes from `now`.
pub fn post(signer: Signer<'_>, host: &str, path: &str, told: Told<'_>, now: Timestamp) -> Posted {
    const NAMES: &str = "content-type;host;x-amz-date;x-amz-target";
    let time = write_time(now);
    let (path, content) = (utf8_percent_encode(path, PATH), told.content_type);
    let (target, hash) = (told.target, hex::encode(Sha256::digest(told.body)));
    let canonical = format!(
        "POST\n{path}\n\ncontent-type:{content}\nhost:{host}\nx-amz-date:{time}\nx-amz-target:{target}\n\n{NAMES}\n{hash}"
    );
    Posted {
        authorization: authorization(signer, &time, NAMES, &canonical),
        date: time,
    }
}

/// The header for a canonical request, of which these headers are signed.
fn authorization(signer: Signer<'_>, time: &str, names: &str, canonical: &str) -> String {
    let date = &time[..8];
    let scope = format!("{date}/{}/{}/{TERMINATOR}", signer.region, signer.service);
    let key = Key::new(signer.secret, date, signer.region, signer.service);
    let signature = key.sign(time, &scope, canonical);
    let credential = format!("{}/{scope}", signer.access_key);
    format!("{ALGORITHM} Credential={credential}, SignedHeaders={names}, Signature={signature}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Signed by botocore 1.44.5.
    #[test]
    fn an_action_is_signed_as_others_sign_it() {
        let signer = Signer {
            access_key: "AKIDEXAMPLE",
            secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
            region: "eu-west-3",
            service: "sqs",
        };
        let now = "2026-01-31T12:00:00Z".parse().expect("a time");
        let told = Told {
            content_type: "application/x-amz-json-1.0",
            target: "AmazonSQS.GetQueueUrl",
            body: br#"{"QueueName": "q"}"#,
        };
        for (path, signature) in [
            (
                "/",
                "f0fb4e415a5b38cadb7e179d09db09ceda24852cfa25b3f089698c7c248d1813",
            ),
            (
                "/a%20b/",
                "ab88cd60681fa5f5d9fd7f87b95a50b9c7b146763330563161a28bac020eb7f9",
            ),
        ] {
            let signed = post(signer, "127.0.0.1:9324", path, told, now);
            assert_eq!(
                signed.authorization,
                format!(
                    "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260131/eu-west-3/sqs/aws4_request, SignedHeaders=content-type;host;x-amz-date;x-amz-target, Signature={signature}"
                )
            );
            assert_eq!(signed.date, "20260131T120000Z");
        }
    }

    /// Signed by botocore 1.44.5, which every such store is tried with.
    #[test]
    fn signed_as_others_sign_it() {
        let signer = Signer {
            access_key: "AKIDEXAMPLE",
            secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
            region: "eu-west-3",
            service: "s3",
        };
        let now = "2026-01-31T12:00:00Z".parse().expect("a time");
        for (path, query, signature) in [
            (
                "/code/shop.zip",
                "",
                "86e3e0588b6c8a2653dfe2f577b2bffeefdafde38c85436bc575489ea51136ba",
            ),
            (
                "/code/a/b%20c%2B%C3%A4%25~.zip",
                "versionId=a%2Fb%3D",
                "4bc03326dd55dd4aaf0e3333b2f3031a9af5b03992fd53678033a0a055836b8c",
            ),
        ] {
            let signed = get(signer, "127.0.0.1:9000", path, query, now);
            assert_eq!(
                signed.authorization,
                format!(
                    "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260131/eu-west-3/s3/aws4_request, SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature={signature}"
                )
            );
            assert_eq!(signed.date, "20260131T120000Z");
        }
    }
}
