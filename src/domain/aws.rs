//! What AWS's API keeps of a function and Hearth has no use for, or only AWS's clients ask about. It is checked when it comes in, kept, and
//! given back as it came, so that tools that compare find no difference. Absent is what AWS takes for absent.

use std::fmt;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use crate::domain::seldom::Usual;
use crate::domain::signing;

/// The part of a function that only AWS's clients see.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// ARN of the execution role; nobody assumes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// The runtime's name as the client wrote it; what runs is the function's `runtime`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tracing: Option<String>,
    /// Size of `/tmp`, in MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ephemeral_storage: Option<u32>,
    /// Whether it was made with an environment, be it one of nothing.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub environment: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vpc: Option<Vpc>,
    /// ARN of where failed events go; has effect if it is a standard queue of the service that is configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead_letter: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kms_key: Option<String>,
    /// What the package would be encrypted with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_kms_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snap_start: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logging: Option<Logging>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub file_systems: Vec<FileSystem>,
    /// How often such a client wrote its code or its settings. A version of one writing is not that of the next, even if all else is the same.
    #[serde(skip_serializing_if = "is_none_yet")]
    pub written: u64,
    /// Whether the function may call itself for ever; nobody looks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recursive_loop: Option<String>,
    /// When its runtime may be another; here it is when it is installed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime_updates: Option<String>,
    /// When its settings for asynchronous calls were last written by such a client: then they are there, even if none is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events_at: Option<jiff::Timestamp>,
    /// What its code is held to when it is deployed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signing: Option<signing::Id>,
    /// Who else may call it, as deploy tools write it; here keys say that.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub policy: Vec<Statement>,
    /// Of policies that were written as a whole, what there is beside statements.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub policy_heads: Vec<PolicyHead>,
}

impl Usual for Settings {
    fn usual() -> &'static Self {
        static USUAL: LazyLock<Settings> = LazyLock::new(Settings::default);
        &USUAL
    }
}

fn is_none_yet(written: &u64) -> bool {
    *written == 0
}

impl Settings {
    /// Those that a version has; the others are the function's.
    pub fn of_versions(&self) -> Self {
        Self {
            recursive_loop: None,
            runtime_updates: None,
            events_at: None,
            signing: None,
            policy: Vec::new(),
            policy_heads: Vec::new(),
            ..self.clone()
        }
    }

    /// Whether there is anything of a policy on this.
    pub fn has_policy(&self, qualifier: Option<&str>) -> bool {
        let mut statements = self.policy.iter();
        let mut heads = self.policy_heads.iter();
        statements.any(|statement| statement.qualifier.as_deref() == qualifier)
            || heads.any(|head| head.qualifier.as_deref() == qualifier)
    }

    /// Takes a policy away, and all that it says of itself.
    pub fn clear_policy(&mut self, qualifier: Option<&str>) {
        self.policy
            .retain(|statement| statement.qualifier.as_deref() != qualifier);
        self.policy_heads
            .retain(|head| head.qualifier.as_deref() != qualifier);
    }
}

/// Of a policy on a function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// The version or alias it is on; `None` is the function.
    #[serde(default)]
    pub qualifier: Option<String>,
    pub id: String,
    /// The whole of it, in JSON.
    pub text: String,
}

/// What a policy says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PolicyHead {
    /// As that of its statements.
    pub qualifier: Option<String>,
    pub version: Option<String>,
    pub id: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Vpc {
    pub subnets: Vec<String>,
    pub security_groups: Vec<String>,
    pub dual_stack: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Logging {
    pub format: Option<String>,
    pub application_level: Option<String>,
    pub system_level: Option<String>,
    pub group: Option<String>,
}

impl Logging {
    pub fn is_json(&self) -> bool {
        self.format.as_deref() == Some("JSON")
    }

    /// The lowest level of what a function writes.
    pub fn level(&self) -> &str {
        self.application_level.as_deref().unwrap_or("INFO")
    }

    /// What is left out stays, but for the levels: they are of lines in JSON, and begin anew where these are asked for.
    #[must_use]
    pub fn over(self, there: &Self) -> Self {
        let asked = self.format.is_some();
        let format = self.format.or(there.format.clone());
        let is_json = format.as_deref() == Some("JSON");
        let level = |given: Option<String>, there: &Option<String>| match is_json {
            true if asked => given,
            true => given.or(there.clone()),
            false => None,
        };
        Self {
            application_level: level(self.application_level, &there.application_level),
            system_level: level(self.system_level, &there.system_level),
            group: self.group.or(there.group.clone()),
            format,
        }
    }

    /// What tells a function's runtime how its lines have to be. On AWS, too, there is no such variable where they are text.
    pub fn variables(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let json = [
            ("AWS_LAMBDA_LOG_FORMAT", "JSON"),
            ("AWS_LAMBDA_LOG_LEVEL", self.level()),
        ];
        json.into_iter().filter(|_| self.is_json())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSystem {
    pub arn: String,
    pub path: String,
}

/// The region and the account that ARNs name. AWS's clients sign for the region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub region: String,
    /// Twelve digits.
    pub account: String,
}

impl Default for Place {
    fn default() -> Self {
        Self {
            region: "us-east-1".into(),
            account: "000000000000".into(),
        }
    }
}

impl Place {
    /// The part of AWS's world that the region is in; ARNs begin with it.
    fn partition(&self) -> &'static str {
        const ELSEWHERE: [(&str, &str); 7] = [
            ("cn-", "aws-cn"),
            ("us-gov-", "aws-us-gov"),
            ("us-iso-", "aws-iso"),
            ("us-isob-", "aws-iso-b"),
            ("us-isof-", "aws-iso-f"),
            ("eu-isoe-", "aws-iso-e"),
            ("eusc-", "aws-eusc"),
        ];
        let mut elsewhere = ELSEWHERE.iter();
        let here = elsewhere.find(|(regions, _)| self.region.starts_with(regions));
        here.map_or("aws", |(_, partition)| partition)
    }

    fn arn(&self, account: &str, of: impl fmt::Display) -> String {
        let (partition, region) = (self.partition(), &self.region);
        format!("arn:{partition}:lambda:{region}:{account}:{of}")
    }

    /// The ARN of somebody or something of an account: `user/NAME`, `root`.
    pub fn iam(&self, account: &str, of: impl fmt::Display) -> String {
        format!("arn:{}:iam::{account}:{of}", self.partition())
    }

    /// The ARN of somebody with a key of Hearth's.
    pub fn user(&self, name: &str) -> String {
        self.iam(&self.account, format_args!("user/{name}"))
    }

    /// The ARN of what runs functions, which is nobody's.
    pub fn runtime(&self, id: impl fmt::Display) -> String {
        self.arn("", format_args!("runtime:{id}"))
    }

    /// The ARN of a function by name, without a qualifier.
    pub fn function(&self, name: impl fmt::Display) -> String {
        self.arn(&self.account, format_args!("function:{name}"))
    }

    /// The same with a qualifier, if there is one.
    pub fn qualified(&self, name: impl fmt::Display, qualifier: Option<&str>) -> String {
        let bare = self.function(name);
        match qualifier {
            Some(qualifier) => format!("{bare}:{qualifier}"),
            None => bare,
        }
    }

    /// The ARN of an event source mapping.
    pub fn mapping(&self, id: impl fmt::Display) -> String {
        self.arn(&self.account, format_args!("event-source-mapping:{id}"))
    }

    /// The ARN of a capacity provider by name; there are none.
    pub fn provider(&self, name: impl fmt::Display) -> String {
        self.arn(&self.account, format_args!("capacity-provider:{name}"))
    }

    /// The ARN of a code signing configuration.
    pub fn signing(&self, id: &signing::Id) -> String {
        self.arn(&self.account, format_args!("code-signing-config:{id}"))
    }

    /// The ARN of a layer by name, without a version.
    pub fn layer(&self, name: impl fmt::Display) -> String {
        self.arn(&self.account, format_args!("layer:{name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_is_in_a_partition() {
        for (region, partition) in [
            ("eu-west-3", "aws"),
            ("cn-northwest-1", "aws-cn"),
            ("us-gov-west-1", "aws-us-gov"),
            ("us-isob-east-1", "aws-iso-b"),
            ("eusc-de-east-1", "aws-eusc"),
        ] {
            let place = Place {
                region: region.into(),
                ..Place::default()
            };
            let arn = format!("arn:{partition}:lambda:{region}:000000000000:function:f:1");
            assert_eq!(place.qualified("f", Some("1")), arn);
            let user = format!("arn:{partition}:iam::123456789012:user/ada");
            assert_eq!(place.iam("123456789012", "user/ada"), user);
            let runtime = format!("arn:{partition}:lambda:{region}::runtime:r");
            assert_eq!(place.runtime("r"), runtime);
        }
    }
}
