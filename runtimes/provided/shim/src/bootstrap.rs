//! The function's `bootstrap`, and the programs of layers that run beside it: found, started with the environment AWS documents, signalled,
//! and waited for.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{AccessFlags, Pid, access};

use crate::fault::{self, Fault};
use crate::settings::Settings;

const NAME: &str = "bootstrap";
/// Where layers are, unless the environment says otherwise: a bootstrap may be there instead of beside the code.
const LAYERS: &str = "/opt";
const EXTENSIONS: &str = "extensions";
/// A program that is started instead of the bootstrap, with the bootstrap as what it shall start.
const WRAPPER: &str = "AWS_LAMBDA_EXEC_WRAPPER";

/// Why there is no bootstrap.
#[derive(Debug)]
pub enum NotStarted {
    Fault(Fault),
    /// Its wrapper cannot be started, which ends as a shell would.
    Wrapper(i32),
}

/// Starts it, or what an image has in its place. The fault's texts are AWS's, because people search for them, with what to do about it.
pub fn start(
    settings: &Settings,
    api: &str,
    image: Option<&[OsString]>,
) -> Result<Pid, NotStarted> {
    let root = Path::new(&settings.task_root);
    if let Some([program, arguments @ ..]) = image {
        return start_image(settings, api, program, arguments).map_err(NotStarted::Fault);
    }
    let program = find(root).map_err(NotStarted::Fault)?;
    let wrapper = settings.variable(WRAPPER).filter(|path| !path.is_empty());
    let wrapper = wrapper.map(|path| root.join(path));
    let mut command = Command::new(wrapper.as_ref().unwrap_or(&program));
    if wrapper.is_some() {
        command.arg(&program);
    }
    prepare(&mut command, root);
    command
        .envs(defaults(root, settings))
        .envs(of_function(settings))
        .envs(reserved(settings, api))
        .envs(of_runtime(settings))
        // As on AWS, where this runtime alone has none.
        .env_remove("AWS_EXECUTION_ENV");
    match (command.spawn(), wrapper) {
        (Ok(child), _) => Ok(Pid::from_raw(child.id().cast_signed())),
        (Err(error), None) => Err(NotStarted::Fault(refused(&program, &error))),
        (Err(error), Some(wrapper)) => {
            fault::say(&format!("{}: {error}", wrapper.display()));
            let missing = error.kind() == ErrorKind::NotFound;
            Err(NotStarted::Wrapper(if missing { 127 } else { 126 }))
        }
    }
}

/// In the directory and with the variables that the image has; what it says of them the platform does not replace.
fn start_image(
    settings: &Settings,
    api: &str,
    name: &OsStr,
    arguments: &[OsString],
) -> Result<Pid, Fault> {
    let program = search(name).ok_or_else(|| {
        let name = name.display();
        Fault::new(
            "Runtime.InvalidEntrypoint",
            format!("exec: {name:?}: executable file not found in $PATH"),
        )
    })?;
    if !is_program(&program) {
        return Err(refused(&program, &Errno::ENOEXEC.into()));
    }
    let mut command = Command::new(&program);
    // Many programs look at what they were called by.
    command.arg0(name).args(arguments);
    own(&mut command);
    let defaults = of_image(settings).into_iter();
    command
        .envs(defaults.filter(|(name, _)| std::env::var_os(name).is_none()))
        .envs(of_function(settings))
        .envs(reserved(settings, api))
        .envs(of_runtime(settings));
    match command.spawn() {
        Ok(child) => Ok(Pid::from_raw(child.id().cast_signed())),
        Err(error) => Err(refused(&program, &error)),
    }
}

/// As a shell finds it. A name with a slash is a path, whatever there is.
fn search(name: &OsStr) -> Option<PathBuf> {
    if name.as_encoded_bytes().contains(&b'/') {
        return Some(name.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&path).map(|place| place.join(name));
    places.find(|place| place.is_file() && access(place, AccessFlags::X_OK).is_ok())
}

fn find(root: &Path) -> Result<PathBuf, Fault> {
    let places = [root.join(NAME), layers().join(NAME)];
    let Some(program) = places.iter().find(|path| path.exists()) else {
        let [first, second] = places.map(|path| path.display().to_string());
        return Err(Fault::new(
            "Runtime.InvalidEntrypoint",
            format!("Couldn't find valid bootstrap(s): [{first} {second}]"),
        ));
    };
    match is_program(program) {
        true => Ok(program.clone()),
        false => Err(refused(program, &Errno::ENOEXEC.into())),
    }
}

/// Starts what layers want to have running beside the bootstrap: the names of the files, and their processes.
pub fn start_extensions(settings: &Settings, api: &str) -> Result<Vec<(String, Pid)>, Fault> {
    let folder = layers().join(EXTENSIONS);
    let Ok(entries) = std::fs::read_dir(&folder) else {
        return Ok(Vec::new());
    };
    let mut names: Vec<OsString> = entries.flatten().map(|entry| entry.file_name()).collect();
    names.sort_unstable();
    let mut started = Vec::new();
    for name in names {
        let path = folder.join(&name);
        if path.is_dir() {
            continue;
        }
        let mut command = Command::new(&path);
        prepare(&mut command, Path::new("/"));
        command
            .envs(defaults(Path::new(&settings.task_root), settings))
            .envs(of_function(settings))
            .envs(reserved(settings, api));
        // What AWS keeps from them: it is the runtime's.
        for name in [
            "LAMBDA_TASK_ROOT",
            "LAMBDA_RUNTIME_DIR",
            "AWS_XRAY_CONTEXT_MISSING",
        ] {
            command.env_remove(name);
        }
        let spawned = match is_program(&path) {
            true => command.spawn(),
            false => Err(Errno::ENOEXEC.into()),
        };
        match spawned {
            Ok(child) => {
                let name = name.to_string_lossy().into_owned();
                started.push((name, Pid::from_raw(child.id().cast_signed())));
            }
            Err(error) => {
                started.iter().for_each(|(_, process)| destroy(*process));
                let text = format!("{}: {error}", path.display());
                return Err(Fault::new("Extension.LaunchError", text));
            }
        }
    }
    Ok(started)
}

fn prepare(command: &mut Command, directory: &Path) {
    command.current_dir(directory);
    own(command);
}

fn own(command: &mut Command) {
    command
        // A group of its own, so that what it started ends with it.
        .process_group(0)
        .stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("HEARTH_") {
            command.env_remove(name);
        }
    }
}

fn layers() -> PathBuf {
    std::env::var_os("HEARTH_OPT").map_or_else(|| LAYERS.into(), PathBuf::from)
}

fn of_function(settings: &Settings) -> impl Iterator<Item = (&String, &String)> {
    let all = settings.environment.iter();
    all.map(|(name, value)| (name, value))
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

/// What an image may say otherwise.
fn of_image(settings: &Settings) -> [(&'static str, String); 5] {
    let [_, _, region, default_region, tracing, directory] =
        defaults(Path::new(&settings.task_root), settings);
    [
        region,
        default_region,
        tracing,
        directory,
        ("TZ", ":UTC".to_owned()),
    ]
}

/// What the function's own variables do not replace.
fn reserved(settings: &Settings, api: &str) -> [(&'static str, String); 5] {
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
        (
            "AWS_LAMBDA_INITIALIZATION_TYPE",
            settings.initialization.clone(),
        ),
    ]
}

/// The same, of the bootstrap alone.
fn of_runtime(settings: &Settings) -> [(&'static str, String); 4] {
    [
        ("AWS_LAMBDA_LOG_GROUP_NAME", settings.log_group.clone()),
        ("AWS_LAMBDA_LOG_STREAM_NAME", settings.log_stream.clone()),
        ("LAMBDA_TASK_ROOT", settings.task_root.clone()),
        ("_HANDLER", settings.handler.clone()),
    ]
}

fn refused(program: &Path, error: &std::io::Error) -> Fault {
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

/// Takes note of every process that has ended: as process 1 we inherit those that others left behind. A status that is a
/// signal's is as a shell counts it.
pub fn reap() -> Vec<(Pid, i32)> {
    let mut ended = Vec::new();
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) => ended.push((pid, code)),
            Ok(WaitStatus::Signaled(pid, signal, _)) => ended.push((pid, 128 + signal as i32)),
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return ended,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return ended,
        }
    }
}
