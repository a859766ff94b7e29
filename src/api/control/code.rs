//! From code as it was sent to a code package: the zip, its hash and where it came from. Decodes and packs, so it is called where
//! blocking is allowed.

use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::domain::function::{Code, Origin};
use crate::domain::image::Image;
use crate::domain::limits::PACKAGE_PACKED_MAX;
use crate::runtime::manifest::{Manifest, SourceFile};
use crate::runtime::package::{self, Places};

/// A code package that is not stored yet.
#[derive(Debug)]
pub struct Package {
    pub code: Code,
    pub zip: Bytes,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("is not base64: {0}")]
    Base64(base64::DecodeError),
    #[error("is refused: {0}")]
    Package(#[from] package::Error),
}

/// Code on its way into a package.
#[derive(Debug)]
pub enum Incoming {
    /// Text, and where it is written to.
    Inline(String, SourceFile),
    /// In base64.
    Zip(String),
    /// Larger than what may be sent, perhaps.
    Fetched(Bytes),
    Path(PathBuf),
    Image(Image),
}

pub fn pack(code: Incoming, places: &Places) -> Result<Package, Error> {
    let file = |name: &str| SourceFile {
        name: name.into(),
        executable: false,
    };
    let (zip, origin): (Bytes, _) = match code {
        Incoming::Inline(text, file) => {
            let zip = package::pack_inline(&file, &text)?;
            (zip.into(), Origin::Inline)
        }
        Incoming::Zip(text) => {
            let zip = decode(text)?;
            package::within(&zip, PACKAGE_PACKED_MAX)?;
            (zip.into(), Origin::Zip)
        }
        Incoming::Fetched(zip) => (zip, Origin::Zip),
        Incoming::Path(path) => {
            let zip = package::pack_path(&path, places)?;
            (zip.into(), Origin::Path(path))
        }
        Incoming::Image(image) => {
            let text = serde_json::json!({"id": image.built.id, "settings": image.settings});
            let zip = package::pack_inline(&file("image.json"), &text.to_string())?;
            (zip.into(), Origin::Image(Box::new(image)))
        }
    };
    let summary = package::inspect(&zip)?;
    let code = Code {
        sha256: hex::encode(Sha256::digest(&zip)),
        size: zip.len() as u64,
        unpacked_size: Some(summary.unpacked_size),
        origin,
    };
    Ok(Package { code, zip })
}

/// The file inline code is written to.
pub fn inline_file(handler: &str, runtime: &Manifest) -> Result<SourceFile, String> {
    runtime.source_file(handler).ok_or_else(|| {
        format!(
            "must be module.function with inline code, where module is letters, digits, '_' and '-', like {}; is {handler:?}",
            runtime.default_handler
        )
    })
}

/// Base64 as tools write it, which may be broken into lines.
fn decode(mut text: String) -> Result<Vec<u8>, Error> {
    text.retain(|c| !c.is_ascii_whitespace());
    STANDARD.decode(text).map_err(Error::Base64)
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write};

    use zip::write::SimpleFileOptions;
    use zip::{CompressionMethod, ZipWriter};

    use super::*;

    #[test]
    fn what_is_fetched_may_be_larger_than_what_is_sent() {
        let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        writer.start_file("app.x", stored).expect("begins");
        let content = vec![7; PACKAGE_PACKED_MAX];
        writer.write_all(&content).expect("is written");
        let zip = writer.finish().expect("ends").into_inner();

        let sent = Incoming::Zip(STANDARD.encode(&zip));
        let refused = pack(sent, &Places::default()).map(drop);
        let limit = PACKAGE_PACKED_MAX as u64;
        let over = package::Error::TooLarge {
            size: zip.len() as u64,
            limit,
        };
        assert_eq!(
            refused.map_err(|error| error.to_string()),
            Err(Error::Package(over).to_string())
        );
        let fetched = Bytes::from(zip);
        let packed = pack(Incoming::Fetched(fetched.clone()), &Places::default());
        let packed = packed.expect("is taken");
        assert_eq!(packed.code.unpacked_size, Some(limit));
        assert_eq!(packed.zip.as_ptr(), fetched.as_ptr(), "and not copied");
    }
}
