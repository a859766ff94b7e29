//! Runtimes as AWS's clients name them. A name stands for the runtime that the configuration says, or else for the one whose manifest says
//! that it answers to it. Pure.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::api::lambda::errors::Refusal;
use crate::config;
use crate::domain::aws::Place;
use crate::domain::function::Function;
use crate::runtime::Catalog;
use crate::runtime::manifest::Manifest;

/// The form of a runtime's version, as AWS prints it.
pub const VERSION: &str = r"((arn:(aws[a-zA-Z-]*):lambda:(eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}::runtime:.+)|(arn:(aws[a-zA-Z-]*):lambda:(eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:\d{12}:runtime/[A-Za-z0-9_.-]{1,128}/version/[A-Za-z0-9_.-]{1,128}))";
pub const VERSION_MAX: usize = 2048;

/// What runs a function whose client asks for this.
pub fn find(
    name: &str,
    catalog: &Catalog,
    settings: &config::Aws,
) -> Result<Arc<Manifest>, Refusal> {
    let configured = settings.runtimes.iter().find(|(from, _)| from == name);
    let retired = |m: &Arc<Manifest>| m.aws.retired.iter().any(|known| known == name);
    let found = match configured {
        Some((_, to)) => catalog.find(to),
        // Even if it is what Hearth calls one of its own.
        None if catalog.all().iter().any(retired) => {
            return Err(Refusal::parameter(format!(
                "The runtime parameter of {name} is no longer supported for creating or updating AWS Lambda functions. We recommend you use a supported runtime while creating or updating functions."
            )));
        }
        None => catalog.all().iter().find(|m| answers_to(m, name)),
    };
    found.cloned().ok_or_else(|| {
        let configured = settings.runtimes.iter().map(|(from, _)| from.as_str());
        let all = catalog.all().iter();
        let known = all.flat_map(|m| m.aws.names.iter().map(String::as_str));
        let mut known: Vec<_> = known.chain(configured).collect();
        known.sort_unstable();
        known.dedup();
        Refusal::parameter(format!(
            "Value {name} at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: [{}] or be a valid ARN",
            known.join(", ")
        ))
    })
}

fn answers_to(manifest: &Manifest, name: &str) -> bool {
    manifest.id.as_str() == name || manifest.aws.names.iter().any(|known| known == name)
}

/// AWS's form of what exactly runs a function: one for each pair of the name it goes by and the runtime that stands for that. Images have none.
pub fn version_arn(place: &Place, catalog: &Catalog, function: &Function) -> Option<String> {
    if function.image().is_some() {
        return None;
    }
    let shown = shown(function, catalog);
    let digest = Sha256::digest(format!("{shown}/{}", function.runtime));
    Some(place.runtime(hex::encode(digest)))
}

/// What a function's runtime is called to AWS's clients: as one wrote it, or else by a name that AWS has too.
pub fn shown<'a>(function: &'a Function, catalog: &'a Catalog) -> &'a str {
    if let Some(written) = &function.aws.runtime {
        return written;
    }
    let id = function.runtime.as_str();
    let names = catalog.find(id).map_or(&[][..], |m| &m.aws.names[..]);
    let own = names.iter().any(|name| name == id);
    names.first().filter(|_| !own).map_or(id, String::as_str)
}
