//! What a worker's container is to the engine: pure functions from a `ContainerSpec` and the checked settings to the body
//! of the create and update calls. Every hardening that is the same for all workers stands here and nowhere else.
//! Called by `engine::docker`; knows nothing of connections, and nothing of what runs inside.

use std::collections::HashMap;
use std::path::Path;

use bollard::models::{
    ContainerCreateBody, ContainerUpdateBody, HealthConfig, HostConfig, HostConfigCgroupnsModeEnum,
    HostConfigLogConfig, ImageInspect, Mount, MountType, ResourcesUlimits, RestartPolicy,
    RestartPolicyNameEnum,
};

use crate::config;
use crate::domain::id::WorkerId;
use crate::domain::image::{Built, Found};
use crate::domain::limits::{MIB_PER_CORE, Mebibytes};
use crate::engine::{ContainerSpec, Limits};

/// Names the instance that owns a container; `owned` and the sweep go by it.
pub const LABEL_INSTANCE: &str = "hearth.instance";
pub const LABEL_WORKER: &str = "hearth.worker";
pub const LABEL_ROLE: &str = "hearth.role";
/// On images: the runtime they are for.
pub const LABEL_RUNTIME: &str = "hearth.runtime";

/// What holders are on; containers on it do not reach each other. The name of its interface too, so at most 15 characters.
pub const EGRESS_NETWORK: &str = "hearth-egress";

const SOCKET: &str = "HEARTH_SOCKET=/hearth/worker.sock";
/// In a function's own image: the shim from the worker's directory, which starts what follows.
const OWN_ENTRYPOINT: [&str; 2] = ["/hearth/shim", "--image"];

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
/// Nothing in them hears a signal but the last: an engine that is shut down, or started again, need not wait its ten seconds.
const STOP_SECONDS: i64 = 1;

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

    let mut mounts = vec![read_only(&spec.directory, "/hearth")];
    if spec.own.is_none() {
        mounts.push(read_only(&spec.task, "/var/task"));
    }
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

    let own = spec.own.as_ref();
    // What an image declares as a volume would be as large as the disk, and not go with the container by itself.
    let volumes = own.into_iter().flat_map(|own| own.volumes.iter().cloned());
    let scratch = volumes.chain(["/tmp".to_owned()]);
    ContainerCreateBody {
        image: Some(spec.image.clone()),
        labels: Some(labels),
        env: Some(match own {
            // The rest is the image's affair.
            Some(_) => vec![SOCKET.to_owned()],
            None => environment(),
        }),
        entrypoint: own.map(|_| OWN_ENTRYPOINT.map(str::to_owned).to_vec()),
        cmd: own.map(|own| own.start.clone()),
        working_dir: own.and_then(|own| own.working_dir.clone()),
        // Beside the mode "none", which still makes an endpoint: a container with endpoints starts in 2.7 times the time and
        // can deadlock dockerd 20.10 (moby 46661).
        network_disabled: Some(spec.network_of.is_none()),
        host_config: Some(HostConfig {
            network_mode: Some(network_mode),
            mounts: Some(mounts),
            tmpfs: Some(scratch.map(|path| (path, tmp.clone())).collect()),
            pids_limit: Some(frame.worker.pids),
            ..hardened(frame, &spec.limits)
        }),
        ..detached(frame)
    }
}

/// What there is to know of an image; `None` if it has no id.
pub fn found_image(image: ImageInspect) -> Option<Found> {
    let config = image.config.unwrap_or_default();
    let mut volumes = config.volumes.unwrap_or_default();
    volumes.sort_unstable();
    let (os, architecture) = (image.os, image.architecture);
    Some(Found {
        built: Built {
            id: image.id?,
            entrypoint: config.entrypoint.unwrap_or_default(),
            command: config.cmd.unwrap_or_default(),
            volumes,
        },
        platform: format!(
            "{}/{}",
            os.unwrap_or_default(),
            architecture.unwrap_or_default()
        ),
    })
}

/// The body of a container that is never created: its image does not exist, but its mount is looked at first.
pub fn probe_body(directory: &Path) -> ContainerCreateBody {
    ContainerCreateBody {
        image: Some("hearth-probe:none".to_owned()),
        network_disabled: Some(true),
        host_config: Some(HostConfig {
            mounts: Some(vec![read_only(directory, "/probe")]),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
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
            network_mode: Some(EGRESS_NETWORK.to_owned()),
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
        stop_timeout: Some(STOP_SECONDS),
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
        "TZ=:UTC",
        SOCKET,
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use super::*;
    use crate::engine::{ContainerId, OwnImage};

    fn worker() -> config::Worker {
        config::Worker {
            tmp: Mebibytes(512),
            pids: 256,
            user: 993,
            group: 994,
            cpu_floor_cores: 1.0,
            code_path_roots: Vec::new(),
            code_path_watch: None,
        }
    }

    fn body(network_of: Option<ContainerId>) -> ContainerCreateBody {
        body_of(network_of, None)
    }

    fn body_of(network_of: Option<ContainerId>, own: Option<OwnImage>) -> ContainerCreateBody {
        let worker = worker();
        let frame = Frame {
            instance: "one",
            worker: &worker,
            hosts: Path::new("/state/hosts"),
            swappiness: true,
        };
        let spec = ContainerSpec {
            worker: WorkerId::from_found("w1"),
            image: "hearth-lang:0123".into(),
            own,
            directory: PathBuf::from("/state/workers/w1"),
            task: PathBuf::from("/state/workers/w1/task"),
            limits: limits_for(Mebibytes(128), 1.0, 2),
            network_of,
            labels: BTreeMap::from([
                ("note".to_owned(), "for people".to_owned()),
                (LABEL_INSTANCE.to_owned(), "another".to_owned()),
            ]),
        };
        worker_body(&frame, &spec)
    }

    fn targets(body: &ContainerCreateBody) -> Vec<String> {
        let mounts = body.host_config.as_ref().unwrap().mounts.as_ref().unwrap();
        assert!(mounts.iter().all(|mount| mount.read_only == Some(true)));
        mounts.iter().map(|m| m.target.clone().unwrap()).collect()
    }

    #[test]
    fn processors_follow_memory_between_the_floor_and_the_machine() {
        let cores =
            |memory, floor, machine| limits_for(Mebibytes(memory), floor, machine).cpu_cores;
        assert_eq!(cores(1769, 0.0, 4), 1.0);
        assert!((cores(128, 0.0, 4) - 0.0723).abs() < 0.001);
        assert_eq!(cores(128, 1.0, 4), 1.0);
        assert_eq!(cores(3538, 1.0, 4), 2.0);
        assert_eq!(cores(10_240, 1.0, 2), 2.0);
        // A machine that does not say how large it is still has a core.
        assert_eq!(cores(10_240, 1.0, 0), 1.0);
        let shares = |memory| limits_for(Mebibytes(memory), 1.0, 2).cpu_shares;
        assert_eq!(shares(1769), 1024);
        assert_eq!(shares(128), 74);
        assert_eq!(shares(1), SHARES_MIN);
        assert_eq!(shares(10_240), 5927);
    }

    #[test]
    fn a_quota_is_never_below_what_the_kernel_takes() {
        let quota = |cpu_cores| {
            cpu_quota_micros(&Limits {
                memory: Mebibytes(128),
                cpu_cores,
                cpu_shares: 2,
            })
        };
        assert_eq!(quota(0.0), 1_000);
        assert_eq!(quota(0.5), 50_000);
        assert_eq!(quota(2.0), 200_000);
    }

    /// What the engine is sent, whole: anything that changes here changes how workers are held.
    #[test]
    fn a_worker_without_network() {
        let sent = serde_json::to_value(body(None)).unwrap();
        let expected = serde_json::json!({
            "Image": "hearth-lang:0123",
            "User": "993:994",
            "AttachStdin": false, "AttachStdout": false, "AttachStderr": false,
            "Tty": false, "StopTimeout": 1,
            "OpenStdin": false,
            "Env": [
                "PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8", "TZ=:UTC",
                "HEARTH_SOCKET=/hearth/worker.sock", "LAMBDA_TASK_ROOT=/var/task",
            ],
            "Healthcheck": {"Test": ["NONE"]},
            "NetworkDisabled": true,
            "Labels": {
                "hearth.instance": "one", "hearth.role": "worker", "hearth.worker": "w1",
                "note": "for people",
            },
            "HostConfig": {
                "NetworkMode": "none",
                "ReadonlyRootfs": true,
                "Privileged": false,
                "CapDrop": ["ALL"],
                "SecurityOpt": ["no-new-privileges"],
                "Memory": 134_217_728, "MemorySwap": 134_217_728, "MemorySwappiness": 0,
                "CpuPeriod": 100_000, "CpuQuota": 100_000, "CpuShares": 74,
                "PidsLimit": 256,
                "OomScoreAdj": 500,
                "Ulimits": [
                    {"Name": "nofile", "Soft": 1024, "Hard": 1024},
                    {"Name": "core", "Soft": 0, "Hard": 0},
                ],
                "ShmSize": 4_194_304,
                "Tmpfs": {"/tmp": "rw,nosuid,nodev,exec,mode=1777,size=536870912"},
                "Mounts": [
                    {"Type": "bind", "Source": "/state/workers/w1", "Target": "/hearth", "ReadOnly": true},
                    {"Type": "bind", "Source": "/state/workers/w1/task", "Target": "/var/task", "ReadOnly": true},
                    {"Type": "bind", "Source": "/state/hosts", "Target": "/etc/hosts", "ReadOnly": true},
                ],
                "IpcMode": "private", "CgroupnsMode": "private",
                "LogConfig": {"Type": "none"},
                "RestartPolicy": {"Name": "no"},
                "AutoRemove": false, "Init": false,
            },
        });
        assert_eq!(sent, expected);
    }

    /// What is not said is the image's.
    #[test]
    fn a_functions_own_image_is_started_by_the_shim_and_held_like_a_worker() {
        let own = OwnImage {
            start: vec!["/entry".into(), "app.handler".into()],
            working_dir: Some("/work".into()),
            volumes: vec!["/data".into()],
        };
        let sent = serde_json::to_value(body_of(None, Some(own))).unwrap();
        let mut expected = serde_json::to_value(body(None)).unwrap();
        expected["Entrypoint"] = serde_json::json!(["/hearth/shim", "--image"]);
        expected["Cmd"] = serde_json::json!(["/entry", "app.handler"]);
        expected["WorkingDir"] = "/work".into();
        expected["Env"] = serde_json::json!(["HEARTH_SOCKET=/hearth/worker.sock"]);
        let host = &mut expected["HostConfig"];
        // The code is in the image.
        let mounts = host["Mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| mount["Target"] != "/var/task");
        host["Tmpfs"]["/data"] = host["Tmpfs"]["/tmp"].clone();
        assert_eq!(sent, expected);
    }

    #[test]
    fn a_worker_with_network_takes_it_and_its_names_from_the_holder() {
        let body = body(Some(ContainerId("abc".into())));
        assert_eq!(body.network_disabled, Some(false));
        let host = body.host_config.as_ref().unwrap();
        assert_eq!(host.network_mode.as_deref(), Some("container:abc"));
        assert_eq!(targets(&body), ["/hearth", "/var/task"]);
    }

    #[test]
    fn a_holder_is_held_like_a_worker() {
        let worker = worker();
        let frame = Frame {
            instance: "one",
            worker: &worker,
            hosts: Path::new("/state/hosts"),
            swappiness: false,
        };
        let body = holder_body(&frame, "image");
        assert_eq!(body.user.as_deref(), Some("993:994"));
        assert_ne!(body.network_disabled, Some(true));
        let labels = body.labels.unwrap();
        assert_eq!(labels[LABEL_ROLE], ROLE_HOLDER);
        assert!(!labels.contains_key(LABEL_WORKER));
        let host = body.host_config.unwrap();
        assert_eq!(host.readonly_rootfs, Some(true));
        assert_eq!(host.cap_drop, Some(vec!["ALL".to_owned()]));
        assert_eq!(host.pids_limit, Some(HOLDER_PIDS));
        assert_eq!(host.memory_swappiness, None);
    }

    #[test]
    fn an_update_says_memory_and_swap_together() {
        let body = update_body(&limits_for(Mebibytes(1769), 0.0, 2));
        assert_eq!(body.memory, Some(1769 * 1024 * 1024));
        assert_eq!(body.memory_swap, body.memory);
        assert_eq!(body.cpu_quota, Some(100_000));
        assert_eq!(body.cpu_period, Some(100_000));
        assert_eq!(body.cpu_shares, Some(1024));
    }
}
