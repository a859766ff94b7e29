//! The machine besides its engine: the port, the kernel's limits, the user.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use nix::sys::resource::{Resource, getrlimit};

use crate::config::Config;
use crate::doctor::Finding;

/// Open files besides the connections of clients: workers, the store, the engine.
const OTHER_FILES: u64 = 1_024;
/// With fewer process ids than this, a full pool can leave none for anybody else.
const PIDS: u64 = 16_384;

pub(super) fn instance(state_dir: &Path, running: Option<&str>) -> Finding {
    match running {
        Some(url) => Finding::good("hearth", format!("runs at {url}")),
        None => Finding::good("hearth", format!("does not run on {}", state_dir.display())),
    }
}

pub(super) fn examine(config: &Config, running: Option<&str>) -> Vec<Finding> {
    let connections = config.server.max_connections as u64;
    vec![
        port(config.server.listen, running),
        // The server takes all it may have.
        judge_files(
            getrlimit(Resource::RLIMIT_NOFILE)
                .map(|(_, hard)| hard)
                .ok(),
            connections,
        ),
        judge_pids(std::fs::read_to_string("/proc/sys/kernel/pid_max").ok()),
        judge_user(nix::unistd::geteuid().is_root()),
    ]
}

fn port(listen: SocketAddr, running: Option<&str>) -> Finding {
    let about = "port";
    let error = match TcpListener::bind(listen) {
        Ok(_) => return Finding::good(about, format!("{listen} is free")),
        Err(error) => error,
    };
    let port = listen.port();
    match error.kind() {
        ErrorKind::AddrInUse if running.is_some_and(|url| url.ends_with(&format!(":{port}"))) => {
            Finding::good(about, format!("{listen} is this Hearth's"))
        }
        ErrorKind::AddrInUse => Finding::bad(
            about,
            format!("another program listens on {listen}"),
            format!(
                "ss -ltnp 'sport = :{port}' shows which; stop it, or choose another with --listen"
            ),
        ),
        ErrorKind::PermissionDenied => Finding::bad(
            about,
            format!("this user may not listen on {listen}"),
            "choose a port above 1023 with --listen, or run as root",
        ),
        ErrorKind::AddrNotAvailable => Finding::bad(
            about,
            format!("this machine has no address {}", listen.ip()),
            "choose an address of this machine with --listen; 'ip address' shows them",
        ),
        _ => Finding::bad(
            about,
            format!("{listen} cannot be listened on: {error}"),
            "choose another address with --listen",
        ),
    }
}

fn judge_files(limit: Option<u64>, connections: u64) -> Finding {
    let about = "open files";
    let Some(limit) = limit else {
        return Finding::skipped(about, "the limit cannot be read");
    };
    let wanted = connections + OTHER_FILES;
    if limit >= wanted {
        return Finding::good(about, format!("a process may have {limit}"));
    }
    Finding::warning(
        about,
        format!(
            "a process may have {limit}, {connections} connections and their workers want {wanted}"
        ),
        format!(
            "raise the limit (ulimit -Hn {wanted}, or LimitNOFILE={wanted} of a systemd unit), or lower server.max_connections"
        ),
    )
}

fn judge_pids(pid_max: Option<String>) -> Finding {
    let about = "process ids";
    let Some(limit) = pid_max.and_then(|text| text.trim().parse::<u64>().ok()) else {
        return Finding::skipped(about, "the limit cannot be read");
    };
    if limit >= PIDS {
        return Finding::good(about, format!("the machine has {limit}"));
    }
    Finding::warning(
        about,
        format!("the machine has only {limit}"),
        "sysctl -w kernel.pid_max=4194304",
    )
}

fn judge_user(is_root: bool) -> Finding {
    if is_root {
        return Finding::good("user", "root");
    }
    Finding::warning(
        "user",
        "not root: a worker's limits are set through the engine, 20 ms on the first call to a stem worker",
        "run the server as root, or leave it: nothing else changes",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn a_port_is_free_ours_or_somebody_elses() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = taken.local_addr().expect("an address");
        let theirs = port(address, None);
        assert_eq!(theirs.verdict, Verdict::Bad);
        assert!(theirs.mend.expect("a way").contains("--listen"));
        let ours = port(address, Some(&format!("http://{address}")));
        assert_eq!(ours.verdict, Verdict::Good);
        drop(taken);
        assert_eq!(port(address, None).verdict, Verdict::Good);
        // An address for documentation, which no machine has.
        let foreign = "192.0.2.1:8080".parse().expect("an address");
        assert!(port(foreign, None).found.contains("no address 192.0.2.1"));
    }

    #[test]
    fn limits_are_judged_by_what_the_configuration_asks_for() {
        assert_eq!(judge_files(Some(1_048_576), 4_096).verdict, Verdict::Good);
        let low = judge_files(Some(1_024), 4_096);
        assert_eq!(low.verdict, Verdict::Warning);
        assert!(low.mend.expect("a way").contains("5120"));
        assert_eq!(judge_files(None, 1).verdict, Verdict::Skipped);
        assert_eq!(judge_pids(Some("32768\n".into())).verdict, Verdict::Good);
        assert_eq!(judge_pids(Some("4096\n".into())).verdict, Verdict::Warning);
        assert_eq!(judge_pids(Some("many".into())).verdict, Verdict::Skipped);
        assert_eq!(judge_user(false).verdict, Verdict::Warning);
    }
}
