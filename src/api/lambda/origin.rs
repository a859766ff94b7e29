//! Where code is to come from, as CreateFunction, UpdateFunctionCode and PublishLayerVersion say it. All that is said is checked, whichever of
//! it is used; what lies in a bucket is not fetched.

use crate::api::control::change::Source;
use crate::api::control::image;
use crate::api::lambda::errors::Refusal;
use crate::api::lambda::fields::Fields;
use crate::api::lambda::settings::resource;
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
    /// The fields that name a place elsewhere.
    elsewhere: Vec<&'static str>,
    /// What the package is to be encrypted with on AWS.
    pub kms_key: Option<String>,
}

impl Origin {
    pub(super) fn read(fields: &mut Fields) -> Result<Self, Refusal> {
        let zip = fields.text("ZipFile")?;
        let mut elsewhere = Vec::new();
        let (least, most) = BUCKET_LENGTH;
        let bucket = fields.formed("S3Bucket", most, BUCKET, |text| {
            let good = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            text.chars().all(good) && !text.ends_with('.')
        })?;
        if let Some(text) = bucket {
            fields.at_least("S3Bucket", &text, least);
            elsewhere.push("S3Bucket");
        }
        for field in ["S3Key", "S3ObjectVersion"] {
            if let Some(text) = fields.up_to(field, KEY_MAX)? {
                fields.at_least(field, &text, 1);
                elsewhere.push(field);
            }
        }
        fields.one_of("S3ObjectStorageMode", &["COPY", "REFERENCE"])?;
        Ok(Self {
            zip,
            image: fields.text("ImageUri")?,
            elsewhere,
            kms_key: resource(fields, "SourceKMSKeyArn")?.filter(|arn| !arn.is_empty()),
        })
    }

    pub(super) fn is_image(&self) -> bool {
        self.image.is_some()
    }

    /// A function's package.
    pub(super) fn package(self) -> Result<Source, Refusal> {
        if self.zip.is_some() && !self.elsewhere.is_empty() {
            return Err(Refusal::parameter(
                "Please do not provide other FunctionCode parameters when providing a ZipFile.",
            ));
        }
        // With an image alone, AWS finds none.
        let zip = self.zip("Code", "Please provide a source for function code.")?;
        Ok(Source::Zip(zip))
    }

    /// What was sent; `what` it is, and what to say if nothing was.
    pub(super) fn zip(self, what: &str, nothing: &str) -> Result<String, Refusal> {
        let place = self.elsewhere.first().filter(|f| **f != "S3ObjectVersion");
        match (self.zip, place) {
            (Some(zip), _) => Ok(zip),
            (None, Some(field)) => Err(Refusal::parameter(format!(
                "{what} from {field} is not supported by Hearth: send it as ZipFile."
            ))),
            (None, None) => Err(Refusal::parameter(nothing)),
        }
    }

    /// The image that a function is to be made of.
    pub(super) fn image(self, settings: Settings) -> Result<Source, Refusal> {
        let uri = self.image.ok_or_else(|| {
            Refusal::parameter(
                "Please provide ImageUri when creating a function with packageType Image.",
            )
        })?;
        if self.zip.is_some() || self.elsewhere.iter().any(|f| *f != "S3ObjectVersion") {
            return Err(Refusal::parameter(
                "Please don't provide ZipFile or S3 when creating a function with packageType Image.",
            ));
        }
        named(uri, settings)
    }

    /// The image in the place of the one there is.
    pub(super) fn other_image(self) -> Result<Source, Refusal> {
        let bucket = self.elsewhere.contains(&"S3Bucket");
        match self.image {
            Some(uri) if self.zip.is_none() && !bucket => named(uri, Settings::default()),
            _ => Err(Refusal::parameter(
                "Please provide ImageUri when updating a function with packageType Image.",
            )),
        }
    }
}

fn named(uri: String, settings: Settings) -> Result<Source, Refusal> {
    if !is_name(&uri) {
        return Err(Refusal::parameter(format!(
            "Source image {uri} is not valid. Provide a valid source image."
        )));
    }
    Ok(Source::Image(image::Wish {
        uri,
        id: None,
        settings,
    }))
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
        let package = |body: &str| match read(body).and_then(Origin::package) {
            Ok(Source::Zip(zip)) => Ok(zip),
            Ok(_) => Err("another source".into()),
            Err(refusal) => Err(refusal.message),
        };
        let sent = r#"{"ZipFile": "eA==", "S3ObjectStorageMode": "COPY", "SourceKMSKeyArn": ""}"#;
        assert_eq!(package(sent), Ok("eA==".into()));
        for (body, words) in [
            ("{}", "provide a source"),
            (r#"{"ImageUri": "x"}"#, "provide a source"),
            (r#"{"S3ObjectVersion": "1"}"#, "provide a source"),
            (r#"{"S3Key": "k"}"#, "Code from S3Key is not supported"),
            (
                r#"{"ZipFile": "eA==", "S3ObjectVersion": "1"}"#,
                "do not provide other",
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
    }
}
