//! Language runtimes as Hearth sees them: folders with a manifest, an image and a shim.

pub mod manifest;
