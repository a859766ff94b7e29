//! The configuration as meant: checked, typed, complete. `load` makes it from file, environment and flags; everybody
//! else gets the part it needs as a value.

pub mod check;
pub mod load;
pub mod raw;
pub mod redis;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::domain::aws::Place;
use crate::domain::destination::Destination;
use crate::domain::function::Network;
use crate::domain::limits::Mebibytes;
use crate::domain::pattern::Pattern;

#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    pub server: Server,
    pub state_dir: PathBuf,
    pub store: Store,
    /// `None` is the one in the state directory.
    pub secrets_file: Option<PathBuf>,
    pub engine: Engine,
    pub runtimes_dir: PathBuf,
    pub pool: Pool,
    pub limits: Limits,
    pub events: Events,
    pub invocations: Invocations,
    pub worker: Worker,
    pub images: Images,
    pub logs: Logs,
    pub aws: Aws,
    /// `None` traces nothing.
    pub traces: Option<Traces>,
    pub log: Log,
}

impl Config {
    /// Whether code is taken over from where it came from when it changes there: unless said otherwise, on a developer's machine.
    pub fn watches_code_paths(&self) -> bool {
        let alone = self.server.listen.ip().is_loopback() && self.store == Store::Embedded;
        self.worker.code_path_watch.unwrap_or(alone)
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Server {
    pub listen: SocketAddr,
    pub max_connections: usize,
    /// Of one address; `None` is no limit.
    pub max_connections_per_address: Option<usize>,
    pub header_timeout: Duration,
    pub body_timeout: Duration,
    /// What bodies of calls may take together while they arrive.
    pub arriving_bytes: usize,
    pub untaken_bytes: usize,
    pub drain_grace: Duration,
    /// Wrong keys an address may try before it is slowed down.
    pub failed_keys: u32,
    /// Names the dashboard is reached by, beside addresses and localhost.
    pub hosts: Vec<String>,
    /// `None` speaks plain HTTP.
    pub tls: Option<Tls>,
    /// `None` is half as many as there are processors.
    pub threads: Option<usize>,
}

/// Files in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The certificate and those between it and the authority.
    pub certificate: PathBuf,
    pub key: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Store {
    Embedded,
    /// Shared by every process that names it.
    Redis {
        place: Box<self::redis::Place>,
        /// Certificates to trust where there is TLS; `None` are the system's.
        tls_ca: Option<PathBuf>,
        call_timeout: Duration,
        look_again: Duration,
    },
}

#[derive(Debug, Clone, PartialEq)]
pub struct Engine {
    pub socket: PathBuf,
    pub call_timeout: Duration,
    pub build_timeout: Duration,
    pub lanes: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Pool {
    pub keep_alive: Duration,
    /// `None` is a part of what the machine has.
    pub memory_budget: Option<Mebibytes>,
    pub stem_min: usize,
    pub stem_max: usize,
    pub stem_window: Duration,
    pub boot_timeout: Duration,
    pub init_timeout: Duration,
    pub abandoned_grace: Duration,
    pub cancel_grace: Duration,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    pub concurrency: u32,
    pub line_depth: u32,
    pub max_wait: Duration,
    pub batch_max: usize,
    pub batch_parallel: usize,
    pub unreserved_percent: u32,
    pub lease: Duration,
    pub permit_wait: Duration,
    /// How long an answer is given again to whoever comes with its idempotency key.
    pub idempotency_ttl: Duration,
    pub idempotency_keys: u64,
    /// Larger answers are not kept.
    pub idempotency_answer_bytes: usize,
    /// Of all answers together.
    pub idempotency_total_bytes: u64,
}

impl Limits {
    /// Calls that reservations have to leave to functions without one.
    pub fn unreserved_least(&self) -> u32 {
        let part = u64::from(self.concurrency) * u64::from(self.unreserved_percent);
        u32::try_from(part.div_ceil(100)).unwrap_or(u32::MAX)
    }
}

/// Asynchronous calls.
#[derive(Debug, Clone, PartialEq)]
pub struct Events {
    pub parallel: usize,
    pub retries: u32,
    pub retry_delay: Duration,
    pub max_age: Duration,
    pub lease: Duration,
    pub waiting_max: u64,
    pub keep: Duration,
    pub keep_max: u64,
    pub dead_max: u64,
    pub webhooks: Reach,
}

/// Where webhooks may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    Nowhere,
    /// To addresses of the internet.
    Public,
    Anywhere,
}

/// What is remembered of calls that have ended: payloads and answers. Nothing, if a bound is 0.
#[derive(Debug, Clone, PartialEq)]
pub struct Invocations {
    /// Larger payloads and answers are not kept.
    pub content: usize,
    /// Bytes of all functions together.
    pub total: usize,
    /// Functions of which nothing is kept.
    pub except: Vec<Pattern>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Worker {
    pub tmp: Mebibytes,
    pub pids: i64,
    pub user: u32,
    pub group: u32,
    pub cpu_floor_cores: f64,
    pub code_path_roots: Vec<PathBuf>,
    /// `None` is up to where this is used.
    pub code_path_watch: Option<bool>,
}

/// What functions may be made of beside code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Images {
    /// Names of those that a key for functions may use.
    pub allowed: Vec<Pattern>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Logs {
    pub keep_bytes: usize,
    pub line_bytes: usize,
}

/// What AWS's clients see.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Aws {
    pub place: Place,
    /// From the name a client writes to the runtime that is meant.
    pub runtimes: Vec<(String, String)>,
    /// From the ARN of something that is not here to what stands for it as a destination.
    pub destinations: Vec<(String, Destination)>,
    /// Whether environments are shown in the clear.
    pub show_environment: bool,
    /// Of functions that such a client makes.
    pub network: Network,
    pub urls: Urls,
    /// Where code lies that is not sent, a store that speaks S3; `None` is nowhere.
    pub s3: Option<S3>,
    /// Where queues are that functions are called with; `None` is nowhere.
    pub sqs: Option<Sqs>,
}

/// Code in a store that speaks S3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3 {
    pub service: Service,
    /// That code may come from; none named is all.
    pub buckets: Vec<Pattern>,
}

/// Queues of a service that speaks SQS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sqs {
    pub service: Service,
    /// Batches of one mapping at the same time, unless it says how many.
    pub parallel: usize,
}

/// A service that speaks like one of AWS's, and the key it is asked with.
#[derive(Clone, PartialEq, Eq)]
pub struct Service {
    /// Without a slash at its end.
    pub endpoint: String,
    pub access_key: String,
    pub secret_key: String,
    pub region: String,
    pub timeout: Duration,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service")
            .field("endpoint", &self.endpoint)
            .field("access_key", &self.access_key)
            .field("region", &self.region)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// What function URLs look like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Urls {
    /// What comes after `<id>.lambda-url.<region>.`
    pub domain: String,
    /// Whether they name their function in the host, or in the path; `None` is what works.
    pub by_host: Option<bool>,
}

impl Default for Urls {
    fn default() -> Self {
        Self {
            domain: "localhost".into(),
            by_host: None,
        }
    }
}

/// Where spans of calls go.
#[derive(Clone, PartialEq)]
pub struct Traces {
    /// The whole URL.
    pub endpoint: String,
    /// What every request has beside.
    pub headers: Vec<(String, String)>,
    pub timeout: Duration,
    pub service: String,
    pub ratio: f64,
    /// Calls that wait to be sent.
    pub queue: usize,
}

impl std::fmt::Debug for Traces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Values of headers are secrets.
        let headers: Vec<_> = self.headers.iter().map(|(name, _)| name).collect();
        f.debug_struct("Traces")
            .field("endpoint", &self.endpoint)
            .field("headers", &headers)
            .field("timeout", &self.timeout)
            .field("service", &self.service)
            .field("ratio", &self.ratio)
            .field("queue", &self.queue)
            .finish()
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Log {
    pub level: String,
    pub json: bool,
}
