//! Units and the fixed limits of the wire and of functions. Limits an operator may change live in the configuration.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Memory in MiB, the unit functions are sized in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Mebibytes(pub u32);

impl Mebibytes {
    pub const fn bytes(self) -> u64 {
        self.0 as u64 * 1024 * 1024
    }
}

impl fmt::Display for Mebibytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} MiB", self.0)
    }
}

/// A synchronous payload and answer: 6 MiB, AWS's documented quota.
pub const PAYLOAD_MAX: usize = 6 * 1024 * 1024;
/// An asynchronous payload: 1 MiB, AWS's documented quota.
pub const EVENT_MAX: usize = 1024 * 1024;
/// AWS lets a buffered answer be 100 bytes longer than the payload quota.
pub const ANSWER_MAX: usize = PAYLOAD_MAX + 100;
/// A function's timeout, in seconds.
pub const TIMEOUT_SECONDS: std::ops::RangeInclusive<u32> = 1..=900;
/// How often an asynchronous call may be tried again, and the age at which it is given up, as a function sets them: as on AWS.
pub const EVENT_RETRIES: std::ops::RangeInclusive<u32> = 0..=2;
pub const EVENT_AGE_SECONDS: std::ops::RangeInclusive<u32> = 60..=21_600;
/// A function's memory, in MiB.
pub const MEMORY_MIB: std::ops::RangeInclusive<u32> = 128..=10_240;
/// Memory that stands for one full core.
pub const MIB_PER_CORE: u32 = 1_769;
/// All environment values of a function together, keys and values.
pub const ENVIRONMENT_MAX: usize = 4 * 1024;
/// A code package as uploaded, and unpacked: the first it may have, of the second it has less.
pub const PACKAGE_PACKED_MAX: usize = 50 * 1024 * 1024;
pub const PACKAGE_UNPACKED_MAX: u64 = 250 * 1024 * 1024;
/// One that is fetched. AWS bounds it by what is in it alone, so this is that and room for its entries' names, where nothing in it can be packed.
pub const PACKAGE_FETCHED_MAX: usize = PACKAGE_UNPACKED_MAX as usize + 16 * 1024 * 1024;
pub const PACKAGE_ENTRIES_MAX: usize = 20_000;
/// Layers of one function; together with its code, unpacked, they are bounded like one package.
pub const LAYERS_MAX: usize = 5;

/// Versions of one function, and aliases. Everybody who calls has them in memory.
pub const VERSIONS_MAX: usize = 5_000;
pub const ALIASES_MAX: usize = 1_000;
