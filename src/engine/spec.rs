//! What a worker's container is to the engine: pure functions from a `ContainerSpec` and the checked settings to the body
//! of the create and update calls. Every hardening that is the same for all workers stands here and nowhere else.
//! Called by `engine::docker`; knows nothing of connections, and nothing of what runs inside.

use std::collections::HashMap;
use std::path::Path;

use bollard::models::{
    ContainerCreateBody, ContainerUpdateBody, HealthConfig, HostConfig, HostConfigCgroupnsModeEnum,
    HostConfigLogConfig, Mount, MountType, ResourcesUlimits, RestartPolicy, RestartPolicyNameEnum,
};

use crate::config;
use crate::domain::id::WorkerId;
use crate::domain::limits::{MIB_PER_CORE, Mebibytes};
use crate::engine::{ContainerSpec, Limits};

/// Names the instance that owns a container; `owned` and the sweep go by it.
pub const LABEL_INSTANCE: &str = "hearth.instance";
pub const LABEL_WORKER: &str = "hearth.worker";
pub const LABEL_ROLE: &str = "hearth.role";
/// On images: the runtime they are for.
pub const LABEL_RUNTIME: &str = "hearth.runtime";

const ROLE_WORKER: &str = "worker";
const ROLE_HOLDER: &str = "network-holder";

/// The kernel's own default period; short enough that a throttled worker does not stand still for long.
pub const CPU_PERIOD_MICROS: i64 = 100_000;
/// The kernel refuses a quota below a millisecond.
const CPU_QUOTA_MIN_MICROS: i64 = 1_000;
/// The weight of one core; the engine's default for a container.
pub const SHARES_PER_CORE: u32 = 1_024;
/// The kernel's least weight.
const SHARES_MIN: u32 = 2;

/// Room for semaphores and little else: large data belongs to `/tmp`, which has a limit of its own.
const SHM_BYTES: i64 = 4 * 1024 * 1024;
/// What AWS gives a function, and below every host's hard limit, which not every daemon may raise.
const OPEN_FILES: i64 = 1_024;
/// When the host runs out of memory, a worker dies before Hearth and the engine do.
const OOM_SCORE_ADJ: i64 = 500;

const HOLDER_MEMORY: Mebibytes = Mebibytes(32);
const HOLDER_PIDS: i64 = 8;

/// What all containers of one Hearth have in common.
#[derive(Debug, Clone)]
pub struct Frame<'a> {
    pub instance: &'a str,
    pub worker: &'a config::Worker,
    /// A static hosts file: without it `localhost` does not resolve in a container that has no network.
    pub hosts: &'a Path,
    /// Swappiness exists per container on cgroup v1 only; elsewhere engines warn about it or refuse it.
    pub swappiness: bool,
}

/// What a container of this much memory may use. `floor_cores` is the least hard ceiling: the weight stays in proportion.
pub fn limits_for(memory: Mebibytes, floor_cores: f64, cores_of_machine: u32) -> Limits {
    let proportion = f64::from(memory.0) / f64::from(MIB_PER_CORE);
    let shares = u64::from(SHARES_PER_CORE) * u64::from(memory.0) / u64::from(MIB_PER_CORE);
    Limits {
        memory,
        cpu_cores: proportion
            .max(floor_cores)
            .min(f64::from(cores_of_machine.max(1))),
        cpu_shares: u32::try_from(shares).unwrap_or(u32::MAX).max(SHARES_MIN),
    }
}

/// The CPU time a period may use, in microseconds.
pub fn cpu_quota_micros(limits: &Limits) -> i64 {
    let quota = (limits.cpu_cores * CPU_PERIOD_MICROS as f64).round() as i64;
    quota.max(CPU_QUOTA_MIN_MICROS)
}

pub fn container_name(worker: &WorkerId) -> String {
    format!("hearth-{worker}")
}

/// The body that creates a worker's container.
pub fn worker_body(frame: &Frame<'_>, spec: &ContainerSpec) -> ContainerCreateBody {
    let mut labels = common_labels(frame, ROLE_WORKER);
    labels.insert(LABEL_WORKER.to_owned(), spec.worker.to_string());
    for (key, value) in &spec.labels {
        // Extra labels are for people; they never replace the ones the sweep goes by.
        labels.entry(key.clone()).or_insert_with(|| value.clone());
    }

    let mut mounts = vec![
        read_only(&spec.directory, "/hearth"),
        read_only(&spec.task, "/var/task"),
    ];
    let network_mode = match &spec.network_of {
        // `/etc/hosts` and `/etc/resolv.conf` come from the holder then.
        Some(holder) => format!("container:{holder}"),
        None => {
            mounts.push(read_only(frame.hosts, "/etc/hosts"));
            "none".to_owned()
        }
    };
    let tmp = format!(
        "rw,nosuid,nodev,exec,mode=1777,size={}",
        frame.worker.tmp.bytes()
    );

    ContainerCreateBody {
        image: Some(spec.image.clone()),
        labels: Some(labels),
        env: Some(environment()),
        // Beside the mode "none", which still makes an endpoint: a container with endpoints starts in 2.7 times the time and
        // can deadlock dockerd 20.10 (moby 46661).
        network_disabled: Some(spec.network_of.is_none()),
        host_config: Some(HostConfig {
            network_mode: Some(network_mode),
            mounts: Some(mounts),
            tmpfs: Some(HashMap::from([("/tmp".to_owned(), tmp)])),
            pids_limit: Some(frame.worker.pids),
            ..hardened(frame, &spec.limits)
        }),
        ..detached(frame)
    }
}

/// The body that creates a network holder: it owns the endpoint that short-lived workers join, and does nothing.
pub fn holder_body(frame: &Frame<'_>, image: &str) -> ContainerCreateBody {
    let limits = Limits {
        memory: HOLDER_MEMORY,
        cpu_cores: 0.1,
        cpu_shares: SHARES_MIN,
    };
    ContainerCreateBody {
        image: Some(image.to_owned()),
        labels: Some(common_labels(frame, ROLE_HOLDER)),
        // Not the image's own entry point: that one starts a shim.
        entrypoint: Some(vec!["sleep".to_owned(), "infinity".to_owned()]),
        cmd: Some(Vec::new()),
        env: Some(environment()),
        host_config: Some(HostConfig {
            network_mode: Some("bridge".to_owned()),
            pids_limit: Some(HOLDER_PIDS),
            ..hardened(frame, &limits)
        }),
        ..detached(frame)
    }
}

/// The body that changes the limits of a running container.
pub fn update_body(limits: &Limits) -> ContainerUpdateBody {
    let memory = memory_bytes(limits);
    ContainerUpdateBody {
        memory: Some(memory),
        memory_swap: Some(memory),
        cpu_period: Some(CPU_PERIOD_MICROS),
        cpu_quota: Some(cpu_quota_micros(limits)),
        cpu_shares: Some(i64::from(limits.cpu_shares)),
        ..ContainerUpdateBody::default()
    }
}

fn detached(frame: &Frame<'_>) -> ContainerCreateBody {
    ContainerCreateBody {
        user: Some(format!("{}:{}", frame.worker.user, frame.worker.group)),
        attach_stdin: Some(false),
        attach_stdout: Some(false),
        attach_stderr: Some(false),
        tty: Some(false),
        open_stdin: Some(false),
        // An image's health check would have the engine run a program in every idle worker.
        healthcheck: Some(HealthConfig {
            test: Some(vec!["NONE".to_owned()]),
            ..HealthConfig::default()
        }),
        ..ContainerCreateBody::default()
    }
}

fn hardened(frame: &Frame<'_>, limits: &Limits) -> HostConfig {
    let memory = memory_bytes(limits);
    HostConfig {
        readonly_rootfs: Some(true),
        privileged: Some(false),
        cap_drop: Some(vec!["ALL".to_owned()]),
        // Saying nothing of seccomp is what asks for the engine's default profile.
        security_opt: Some(vec!["no-new-privileges".to_owned()]),
        memory: Some(memory),
        // The same as `memory`: no swap at all.
        memory_swap: Some(memory),
        memory_swappiness: frame.swappiness.then_some(0),
        cpu_period: Some(CPU_PERIOD_MICROS),
        cpu_quota: Some(cpu_quota_micros(limits)),
        cpu_shares: Some(i64::from(limits.cpu_shares)),
        oom_score_adj: Some(OOM_SCORE_ADJ),
        ulimits: Some(vec![
            ulimit("nofile", OPEN_FILES),
            // A core file would fill the only writable place.
            ulimit("core", 0),
        ]),
        shm_size: Some(SHM_BYTES),
        ipc_mode: Some("private".to_owned()),
        cgroupns_mode: Some(HostConfigCgroupnsModeEnum::PRIVATE),
        log_config: Some(HostConfigLogConfig {
            typ: Some("none".to_owned()),
            config: None,
        }),
        // A worker is replaced by its pool, never revived by the engine behind the pool's back.
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        // Its exit must be there to be asked for.
        auto_remove: Some(false),
        init: Some(false),
        ..HostConfig::default()
    }
}

fn memory_bytes(limits: &Limits) -> i64 {
    i64::try_from(limits.memory.bytes()).unwrap_or(i64::MAX)
}

fn common_labels(frame: &Frame<'_>, role: &str) -> HashMap<String, String> {
    HashMap::from([
        (LABEL_INSTANCE.to_owned(), frame.instance.to_owned()),
        (LABEL_ROLE.to_owned(), role.to_owned()),
    ])
}

fn environment() -> Vec<String> {
    [
        "PATH=/usr/local/bin:/usr/bin:/bin",
        "LANG=C.UTF-8",
        "TZ=UTC",
        "HEARTH_SOCKET=/hearth/worker.sock",
        "LAMBDA_TASK_ROOT=/var/task",
    ]
    .map(str::to_owned)
    .to_vec()
}

fn ulimit(name: &str, limit: i64) -> ResourcesUlimits {
    ResourcesUlimits {
        name: Some(name.to_owned()),
        soft: Some(limit),
        hard: Some(limit),
    }
}

/// As a mount and not as one of the older `binds`, for which the engine makes an empty directory where the source is missing.
fn read_only(source: &Path, target: &str) -> Mount {
    Mount {
        typ: Some(MountType::BIND),
        source: Some(source.to_string_lossy().into_owned()),
        target: Some(target.to_owned()),
        read_only: Some(true),
        ..Mount::default()
    }
}
