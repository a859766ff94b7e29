//! The function's `bootstrap`: found, started with the environment AWS documents, signalled, and waited for.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::fault::Fault;
use crate::settings::Settings;

const NAME: &str = "bootstrap";
/// Where layers are on AWS: a bootstrap may be there instead of beside the code.
const LAYERS: &str = "/opt";

/// Starts it. The fault's texts are AWS's, because people search for them, with what to do about it.
pub fn start(settings: &Settings, api: &str) -> Result<Pid, Fault> {
    let root = Path::new(&settings.task_root);
    let places = [root.join(NAME), Path::new(LAYERS).join(NAME)];
    let Some(program) = places.iter().find(|path| path.exists()) else {
        let [first, second] = places.map(|path| path.display().to_string());
        return Err(Fault::new(
            "Runtime.InvalidEntrypoint",
            format!("Couldn't find valid bootstrap(s): [{first} {second}]"),
        ));
    };
    if !is_program(program) {
        return Err(refused(program, &Errno::ENOEXEC.into()));
    }
    let mut command = Command::new(program);
    command
        .current_dir(root)
        // A group of its own, so that what it started ends with it.
        .process_group(0)
        .stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("HEARTH_") {
            command.env_remove(name);
        }
    }
    command
        .envs(defaults(root, settings))
        .envs(
            settings
                .environment
                .iter()
                .map(|(name, value)| (name, value)),
        )
        .envs(reserved(settings, api))
        // As on AWS, where this runtime alone has none.
        .env_remove("AWS_EXECUTION_ENV");
    match command.spawn() {
        Ok(child) => Ok(Pid::from_raw(child.id().cast_signed())),
        Err(error) => Err(refused(program, &error)),
    }
}

/// The kernel's own answer would come too late: the C library hands what the kernel refuses to a shell.
fn is_program(path: &Path) -> bool {
    const MAGIC: usize = 20;
    let mut head = [0; MAGIC];
    let read = File::open(path).and_then(|mut file| file.read(&mut head));
    let machine: &[u8] = match std::env::consts::ARCH {
        "x86_64" => &[62, 0],
        "aarch64" => &[183, 0],
        _ => &[],
    };
    match read {
        Ok(_) if head.starts_with(b"#!") => true,
        Ok(MAGIC) => head.starts_with(b"\x7fELF") && head[18..].starts_with(machine),
        Ok(_) => false,
        // Not ours to read, or not there: starting it will tell.
        Err(_) => true,
    }
}

fn defaults(root: &Path, settings: &Settings) -> [(&'static str, String); 6] {
    let path = std::env::var("PATH").unwrap_or_default();
    let root = root.display();
    [
        ("PATH", format!("{path}:{LAYERS}/bin")),
        (
            "LD_LIBRARY_PATH",
            format!("/lib64:/usr/lib64:{root}:{root}/lib:{LAYERS}/lib"),
        ),
        ("AWS_REGION", settings.region.clone()),
        ("AWS_DEFAULT_REGION", settings.region.clone()),
        // Without it the tracing library fails where there is no trace.
        ("AWS_XRAY_CONTEXT_MISSING", "LOG_ERROR".to_owned()),
        ("LAMBDA_RUNTIME_DIR", "/var/runtime".to_owned()),
    ]
}

/// What the function's own variables do not replace.
fn reserved(settings: &Settings, api: &str) -> [(&'static str, String); 9] {
    [
        ("AWS_LAMBDA_RUNTIME_API", api.to_owned()),
        ("AWS_LAMBDA_FUNCTION_NAME", settings.function_name.clone()),
        (
            "AWS_LAMBDA_FUNCTION_VERSION",
            settings.function_version.clone(),
        ),
        (
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
            settings.memory_mb.to_string(),
        ),
        ("AWS_LAMBDA_LOG_GROUP_NAME", settings.log_group.clone()),
        ("AWS_LAMBDA_LOG_STREAM_NAME", settings.log_stream.clone()),
        (
            "AWS_LAMBDA_INITIALIZATION_TYPE",
            settings.initialization.clone(),
        ),
        ("LAMBDA_TASK_ROOT", settings.task_root.clone()),
        ("_HANDLER", settings.handler.clone()),
    ]
}

fn refused(program: &PathBuf, error: &std::io::Error) -> Fault {
    let program = program.display();
    let (what, hint) = match (error.kind(), error.raw_os_error().map(Errno::from_raw)) {
        (ErrorKind::PermissionDenied, _) => (
            "permission denied".to_owned(),
            "it is not marked as executable: chmod +x it before it is packed (zip programs on Windows lose the mark)",
        ),
        (_, Some(Errno::ENOEXEC)) => (
            "exec format error".to_owned(),
            "it was built for another processor, or is a script without a #! line",
        ),
        (ErrorKind::NotFound, _) => (
            "no such file or directory".to_owned(),
            "the interpreter of its #! line, or the loader it was linked for, is not in this runtime (or the line ends in \\r)",
        ),
        _ => (error.to_string(), "it cannot be started"),
    };
    Fault::new(
        "Runtime.InvalidEntrypoint",
        format!("fork/exec {program}: {what} ({hint})"),
    )
}

/// Nobody waits for what it does any more. It may have ended already.
pub fn interrupt(bootstrap: Pid) {
    let _: nix::Result<()> = kill(bootstrap, Signal::SIGTERM);
}

/// It, and whatever it started and left in its group.
pub fn destroy(bootstrap: Pid) {
    let _: nix::Result<()> = killpg(bootstrap, Signal::SIGKILL);
}

/// Takes note of every process that has ended: as process 1 we inherit those that others left behind. `Some` is the
/// bootstrap's status, a signal as a shell counts it.
pub fn reap(bootstrap: Option<Pid>) -> Option<i32> {
    let mut status = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) if Some(pid) == bootstrap => status = Some(code),
            Ok(WaitStatus::Signaled(pid, signal, _)) if Some(pid) == bootstrap => {
                status = Some(128 + signal as i32);
            }
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return status,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return status,
        }
    }
}
