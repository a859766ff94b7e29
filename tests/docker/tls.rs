//! The listener with TLS, and clients that check who they speak to: curl, and the program itself.

use std::fs::File;
use std::net::TcpStream;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::fcntl::OFlag;
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::server::{Server, State, without_settings};
use crate::sharing::Redis;
use crate::wait::{PATIENCE, blocking};

/// A certificate for this machine that vouches for itself, and its key. Both are there at once, as a rename puts them there.
fn certify(certificate: &Path, key: &Path) {
    let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    for (path, text) in [
        (key, made.signing_key.serialize_pem()),
        (certificate, made.cert.pem()),
    ] {
        let beside = path.with_extension("new");
        std::fs::write(&beside, text).unwrap();
        std::fs::rename(&beside, path).unwrap();
    }
}

/// What curl prints for a request with the key.
fn curl(server: &Server, ca: &Path, path: &str, more: &[&str]) -> Option<String> {
    let key = server.client.key.as_deref().unwrap();
    let output = Command::new("curl")
        .args([
            "--silent",
            "--show-error",
            "--fail",
            "--max-time",
            "20",
            "--cacert",
        ])
        .arg(ca)
        .args(["--header", &format!("authorization: Bearer {key}")])
        .args(more)
        .arg(format!("https://{}{path}", server.client.address))
        .output()
        .expect("curl is installed");
    output
        .status
        .success()
        .then(|| String::from_utf8(output.stdout).unwrap())
}

#[test]
fn the_listener_speaks_tls_and_takes_over_a_new_certificate() {
    let state = State::new();
    let (certificate, key) = (state.beside("tls.pem"), state.beside("tls.key"));
    let (first, second) = (state.beside("first.pem"), state.beside("second.pem"));
    certify(&certificate, &key);
    std::fs::copy(&certificate, &first).unwrap();
    let server = Server::spawn(
        state,
        &[
            ("server.tls.certificate", certificate.to_str().unwrap()),
            ("server.tls.key", key.to_str().unwrap()),
            ("pool.stem_min", "0"),
        ],
    );
    // Somebody who connects and says nothing holds up nobody.
    let _silent = TcpStream::connect(&server.client.address).unwrap();
    let ready = blocking(PATIENCE, || curl(&server, &first, "/readyz", &[]));
    assert_eq!(ready.as_deref(), Some("ready\n"));
    for (flag, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let wanted = [
            "--output",
            "/dev/null",
            "--write-out",
            "%{http_version}",
            flag,
        ];
        let spoken = curl(&server, &first, "/functions/", &wanted);
        assert_eq!(spoken.as_deref(), Some(version));
    }

    let list = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hearth"));
        let state = server.state().path();
        let command = without_settings(&mut command).env("HEARTH_STATE_DIR", state);
        let output = command
            .args(["list", "--json"])
            .args(more)
            .stdin(Stdio::null())
            .output();
        let output = output.unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        (
            output.status.success(),
            said + &String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (done, said) = list(&["--ca", first.to_str().unwrap()]);
    assert!(done && said.contains("\"items\":[]"), "{said}");
    let (done, said) = list(&[]);
    assert!(
        !done && said.contains("certificate") && said.contains("--ca"),
        "{said}"
    );

    // A function at a route is told how it was asked.
    let made = serde_json::json!({
        "name": "told", "language": "python", "route": "/told",
        "code": "def handler(event, context):\n    return event['headers']['x-forwarded-proto']\n",
    });
    let data = ["--data", &made.to_string()];
    assert!(curl(&server, &first, "/functions/", &data).is_some());
    let told = curl(&server, &first, "/told", &[]);
    assert_eq!(told.as_deref(), Some("https"));

    certify(&certificate, &key);
    std::fs::copy(&certificate, &second).unwrap();
    let taken = blocking(PATIENCE, || curl(&server, &second, "/readyz", &[]));
    assert!(taken.is_some(), "never taken over\n{}", server.log());
    assert_eq!(
        curl(&server, &first, "/readyz", &[]),
        None,
        "the old one is gone"
    );

    server.expects("new certificate cannot be used");
    std::fs::write(&certificate, "no certificate").unwrap();
    server.signal(Signal::SIGHUP);
    let refused = blocking(PATIENCE, || {
        let metrics = curl(&server, &second, "/metrics", &[]).expect("the old one stays");
        metrics
            .contains("hearth_certificate_reads_total{result=\"refused\"}")
            .then_some(())
    });
    assert!(refused.is_some(), "{}", server.log());
    assert!(curl(&server, &second, "/readyz", &[]).is_some());
}

/// A disk that hangs, as a pipe that nobody writes to does: calls go on, the end waits for it no longer than a moment, and until the process is
/// gone nobody else may have its state directory: what hangs may still write there.
#[test]
fn a_certificate_that_cannot_be_read_holds_up_neither_calls_nor_the_end() {
    let state = State::new();
    let (certificate, key) = (state.beside("tls.pem"), state.beside("tls.key"));
    let first = state.beside("first.pem");
    certify(&certificate, &key);
    std::fs::copy(&certificate, &first).unwrap();
    // With a store of its own the directory would be held by that as well.
    let redis = Redis::start();
    let url = redis.url();
    let settings = [
        ("store.url", url.as_str()),
        ("server.tls.certificate", certificate.to_str().unwrap()),
        ("server.tls.key", key.to_str().unwrap()),
        // There is no other that could answer.
        ("server.threads", "1"),
        ("pool.stem_min", "0"),
    ];
    let mut server = Server::spawn(state, &settings);
    let ready = blocking(PATIENCE, || curl(&server, &first, "/readyz", &[]));
    assert_eq!(ready.as_deref(), Some("ready\n"));

    let pipe = server.state().beside("pipe");
    mkfifo(&pipe, Mode::S_IRWXU).unwrap();
    std::fs::rename(&pipe, &certificate).unwrap();
    // That it can be opened means that somebody reads from it; he finds nothing for as long as it is open.
    let hangs = blocking(PATIENCE, || {
        let mut options = File::options();
        options.write(true).custom_flags(OFlag::O_NONBLOCK.bits());
        options.open(&certificate).ok()
    });
    let _hangs = hangs.expect("it is looked at");
    let answered = curl(&server, &first, "/healthz", &[]);
    assert_eq!(answered.as_deref(), Some("ok\n"));

    let lock = server.state().path().join("hearth.lock");
    let lock = File::options().write(true).open(lock).unwrap();
    let open = format!("/proc/{}/fd", server.pid());
    server.signal(Signal::SIGTERM);
    let free = blocking(PATIENCE, || lock.try_lock().ok());
    assert!(free.is_some(), "it does not end");
    // A process that ends gives up all its files together.
    let still = std::fs::read_dir(open).map_or(0, Iterator::count);
    assert_eq!(still, 0, "it is there, and others may have its state");
    assert!(server.ended().expect("it ends").success());
}
