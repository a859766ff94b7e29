//! Where code is to come from, as CreateFunction, UpdateFunctionCode and PublishLayerVersion say it. All that is said is checked, whichever of
//! it is used. What lies in a bucket is fetched only when all else is known to be right.

use bytes::Bytes;

use crate::api::control::change::Source;
use crate::api::control::code::Incoming;
use crate::api::control::image;
use crate::api::lambda::bucket::Object;
use crate::api::lambda::errors::Refusal;
use crate::api::lambda::fields::Fields;
use crate::api::lambda::settings::resource;
use crate::api::lambda::{Asked, Lambda};
use crate::domain::image::{Settings, is_name};

const BUCKET: &str = r"[0-9A-Za-z\.\-_]*(?<!\.)";
const BUCKET_LENGTH: (usize, usize) = (3, 63);
const KEY_MAX: usize = 1024;

/// What a request says of it.
#[derive(Debug, Default)]
pub(super) struct Origin {
    /// In base64. It may be tens of megabytes, so it is moved and not copied.
    zip: Option<String>,
    image: Option<String>,
    bucket: Option<String>,
    key: Option<String>,
    version: Option<String>,
    /// What the package is to be encrypted with on AWS.
    pub kms_key: Option<String>,
}

/// A zip, or where it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Package {
    /// In base64.
    Sent(String),
    There(Object),
}

/// What a function is to be made of, or where that is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Code {
    Here(Source),
    There(Object),
}

impl Package {
    /// Of the request nothing is needed any more.
    pub(super) async fn bring(self, face: &Lambda, asked: &mut Asked) -> Result<Incoming, Refusal> {
        match self {
            Package::Sent(zip) => Ok(Incoming::Zip(zip)),
            Package::There(object) => {
                let zip = fetch(face, asked, &object).await?;
                Ok(Incoming::Fetched(zip))
            }
        }
    }
}

impl Code {
    /// Of the request nothing is needed any more.
    pub(super) async fn bring(self, face: &Lambda, asked: &mut Asked) -> Result<Source, Refusal> {
        match self {
            Code::Here(source) => Ok(source),
            Code::There(object) => {
                let zip = fetch(face, asked, &object).await?;
                Ok(Source::Fetched(zip))
            }
        }
    }
}

async fn fetch(face: &Lambda, asked: &mut Asked, object: &Object) -> Result<Bytes, Refusal> {
    let Some(bucket) = &face.bucket else {
        return Err(Refusal::parameter(
            "Code from S3Bucket is not supported by this Hearth: send it as ZipFile, or have aws.s3.endpoint in its configuration name the store that has it.",
        ));
    };
    // What waits for room has none itself, or those that wait could keep it from each other.
    asked.body = Bytes::new();
    asked.room = None;
    let (bytes, room) = bucket.fetch(object, &face.control.room).await?;
    asked.room = Some(room);
    Ok(bytes)
}

impl Origin {
    pub(super) fn read(fields: &mut Fields) -> Result<Self, Refusal> {
        let zip = fields.text("ZipFile")?;
        let (least, most) = BUCKET_LENGTH;
        let bucket = fields.formed("S3Bucket", most, BUCKET, |text| {
            let good = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            text.chars().all(good) && !text.ends_with('.')
        })?;
        if let Some(text) = &bucket {
            fields.at_least("S3Bucket", text, least);
        }
        let mut named = |field| {
            let text = fields.up_to(field, KEY_MAX)?;
            if let Some(text) = &text {
                fields.at_least(field, text, 1);
            }
            Ok::<_, Refusal>(text)
        };
        let (key, version) = (named("S3Key")?, named("S3ObjectVersion")?);
        fields.one_of("S3ObjectStorageMode", &["COPY", "REFERENCE"])?;
        Ok(Self {
            zip,
            image: fields.text("ImageUri")?,
            bucket,
            key,
            version,
            kms_key: resource(fields, "SourceKMSKeyArn")?.filter(|arn| !arn.is_empty()),
        })
    }

    pub(super) fn is_image(&self) -> bool {
        self.image.is_some()
    }

    /// A function's package.
    pub(super) fn package(self) -> Result<Code, Refusal> {
        if self.zip.is_some() && (self.is_elsewhere() || self.is_image()) {
            return Err(Refusal::parameter(
                "Please do not provide other FunctionCode parameters when providing a ZipFile.",
            ));
        }
        if self.is_elsewhere() && self.is_image() {
            return Err(Refusal::parameter(
                "Please don't provide ImageUri when creating a function with packageType Zip.",
            ));
        }
        // With an image alone, AWS finds none.
        match self.content("Please provide a source for function code.")? {
            Package::Sent(zip) => Ok(Code::Here(Source::Zip(zip))),
            Package::There(object) => Ok(Code::There(object)),
        }
    }

    /// A package; `nothing` is what to say if there is none.
    pub(super) fn content(self, nothing: &str) -> Result<Package, Refusal> {
        match (self.zip, self.bucket, self.key) {
            (Some(zip), _, _) => Ok(Package::Sent(zip)),
            (None, Some(bucket), Some(key)) => Ok(Package::There(Object {
                bucket,
                key,
                version: self.version,
            })),
            (None, _, _) => Err(Refusal::parameter(nothing)),
        }
    }

    fn is_elsewhere(&self) -> bool {
        self.bucket.is_some() || self.key.is_some() || self.version.is_some()
    }

    /// The image that a function is to be made of.
    pub(super) fn image(self, settings: Settings) -> Result<Code, Refusal> {
        let elsewhere = self.is_elsewhere();
        let uri = self.image.ok_or_else(|| {
            Refusal::parameter(
                "Please provide ImageUri when creating a function with packageType Image.",
            )
        })?;
        if self.zip.is_some() || elsewhere {
            return Err(Refusal::parameter(
                "Please don't provide ZipFile or S3 when creating a function with packageType Image.",
            ));
        }
        named(uri, settings)
    }

    /// The image in the place of the one there is.
    pub(super) fn other_image(self) -> Result<Code, Refusal> {
        let alone = self.zip.is_none() && !self.is_elsewhere();
        match self.image {
            Some(uri) if alone => named(uri, Settings::default()),
            _ => Err(Refusal::parameter(
                "Please provide ImageUri when updating a function with packageType Image.",
            )),
        }
    }
}

fn named(uri: String, settings: Settings) -> Result<Code, Refusal> {
    if !is_name(&uri) {
        return Err(Refusal::parameter(format!(
            "Source image {uri} is not valid. Provide a valid source image."
        )));
    }
    Ok(Code::Here(Source::Image(image::Wish {
        uri,
        id: None,
        settings,
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<Origin, Refusal> {
        let mut fields = Fields::of(body.as_bytes())?;
        let origin = Origin::read(&mut fields)?;
        fields.finish()?;
        Ok(origin)
    }

    #[test]
    fn all_of_it_is_checked() {
        let long = "k".repeat(1025);
        for (body, words) in [
            (
                r#"{"S3Bucket": "a b!"}"#.to_owned(),
                "at 's3Bucket' failed to satisfy constraint: Member must satisfy regular expression pattern: [0-9A-Za-z",
            ),
            (
                r#"{"S3Bucket": "a."}"#.to_owned(),
                "2 validation errors detected",
            ),
            (
                r#"{"S3Bucket": "ab"}"#.to_owned(),
                "length greater than or equal to 3",
            ),
            (
                format!(r#"{{"S3Key": "{long}"}}"#),
                "at 's3Key' failed to satisfy constraint: Member must have length less than or equal to 1024",
            ),
            (
                r#"{"S3ObjectVersion": ""}"#.to_owned(),
                "at 's3ObjectVersion' failed to satisfy constraint: Member must have length greater than or equal to 1",
            ),
            (
                r#"{"ZipFile": "", "S3ObjectStorageMode": "MOVE"}"#.to_owned(),
                "enum value set: [COPY, REFERENCE]",
            ),
            (
                r#"{"ZipFile": "", "SourceKMSKeyArn": "k"}"#.to_owned(),
                "at 'sourceKMSKeyArn'",
            ),
            (r#"{"S3Key": 5}"#.to_owned(), "can not be converted"),
            (r#"{"ImageUri": []}"#.to_owned(), "can not be converted"),
        ] {
            let message = read(&body).map(drop).expect_err(&body).message;
            assert!(message.contains(words), "{body}: {message}");
        }
    }

    #[test]
    fn one_of_them_is_used() {
        let package = |body: &str| {
            let package = read(body).and_then(Origin::package);
            package.map_err(|refusal| refusal.message)
        };
        let sent = r#"{"ZipFile": "eA==", "S3ObjectStorageMode": "COPY", "SourceKMSKeyArn": ""}"#;
        assert_eq!(package(sent), Ok(Code::Here(Source::Zip("eA==".into()))));
        let there = r#"{"S3Bucket": "code", "S3Key": "a/b.zip", "S3ObjectVersion": "7"}"#;
        let object = Object {
            bucket: "code".into(),
            key: "a/b.zip".into(),
            version: Some("7".into()),
        };
        assert_eq!(package(there), Ok(Code::There(object)));
        for (body, words) in [
            ("{}", "provide a source"),
            (r#"{"ImageUri": "x"}"#, "provide a source"),
            (r#"{"S3ObjectVersion": "1"}"#, "provide a source"),
            (r#"{"S3Key": "k"}"#, "provide a source"),
            (r#"{"S3Bucket": "bucket"}"#, "provide a source"),
            (
                r#"{"ZipFile": "eA==", "S3Key": "k"}"#,
                "do not provide other",
            ),
            (
                r#"{"ZipFile": "eA==", "S3ObjectVersion": "1"}"#,
                "do not provide other",
            ),
            (
                r#"{"ZipFile": "eA==", "ImageUri": "x"}"#,
                "do not provide other",
            ),
            (
                r#"{"S3Bucket": "bucket", "S3Key": "k", "ImageUri": "x"}"#,
                "don't provide ImageUri",
            ),
        ] {
            let message = package(body).expect_err(body);
            assert!(message.contains(words), "{body}: {message}");
        }
        let key = "arn:aws:kms:us-east-1:000000000000:key/k";
        let kept = read(&format!(r#"{{"SourceKMSKeyArn": "{key}"}}"#)).expect("is read");
        assert_eq!(kept.kms_key.as_deref(), Some(key));
        let both = read(r#"{"ImageUri": "x", "ZipFile": "eA=="}"#).expect("is read");
        assert!(both.is_image() && both.image(Settings::default()).is_err());
        for more in [
            r#""ZipFile": "eA==""#,
            r#""S3Key": "k""#,
            r#""S3ObjectVersion": "1""#,
        ] {
            let body = format!(r#"{{"ImageUri": "x", {more}}}"#);
            assert!(
                read(&body).expect("is read").other_image().is_err(),
                "{body}"
            );
            let made = read(&body).expect("is read").image(Settings::default());
            assert!(made.is_err(), "{body}");
        }
        let image = read(r#"{"ImageUri": "x"}"#).expect("is read");
        assert!(image.other_image().is_ok());
    }
}
