//! GetAccountSettings: the limits there are, and what is in use.

use http::{Response, StatusCode};
use serde_json::json;

use crate::api::body::Body;
use crate::api::error::Problem;
use crate::api::lambda::errors::Refusal;
use crate::api::lambda::routes::Do;
use crate::api::lambda::{Asked, Lambda, json as answer};
use crate::domain::limits::{PACKAGE_PACKED_MAX, PACKAGE_UNPACKED_MAX};

/// AWS's own. Here the disk is the limit, which this document has no word for.
const TOTAL_CODE_SIZE: u64 = 75 * 1024 * 1024 * 1024;

pub(super) async fn settings(face: &Lambda, asked: &Asked) -> Result<Response<Body>, Refusal> {
    let permitted = asked.caller.may(Do::GetAccountSettings.scope());
    permitted.map_err(|denied| Refusal::from(Problem::from(denied)))?;
    let targets = face.control.scheduler.targets();
    let visible = targets
        .iter()
        .filter(|target| asked.caller.is_for(target.function.name.as_str()));
    // As on AWS: every version counts with all its code, whether or not it is another's too, and so does every version of a layer.
    let (mut count, mut size) = (0_u64, 0_u64);
    for target in visible {
        count += 1;
        size += target.function.code.size;
        let versions = target.published().versions.values();
        size += versions.map(|v| v.function.code.size).sum::<u64>();
    }
    let layers = face.control.deploy.layers().await?;
    let mine = layers
        .iter()
        .filter(|version| asked.caller.is_for(version.id.name.as_str()));
    size += mine.map(|version| version.content.size).sum::<u64>();
    let reserved = targets
        .iter()
        .filter_map(|target| target.function.reserved_concurrency);
    let reserved = reserved.fold(0, u32::saturating_add);
    let account = face.control.deploy.account_concurrency;
    let document = json!({
        "AccountLimit": {
            "TotalCodeSize": TOTAL_CODE_SIZE,
            "CodeSizeUnzipped": PACKAGE_UNPACKED_MAX,
            "CodeSizeZipped": PACKAGE_PACKED_MAX,
            "ConcurrentExecutions": account,
            "UnreservedConcurrentExecutions": account.saturating_sub(reserved),
        },
        "AccountUsage": {"TotalCodeSize": size, "FunctionCount": count},
    });
    Ok(answer(StatusCode::OK, &document))
}
