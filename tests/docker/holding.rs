//! How workers are held: as the engine says it, and as the function inside finds it.

use serde_json::{Value, json};

use crate::containers;
use crate::server::Server;

const LOOKS: &str = r#"
import ctypes, os, socket, threading
def read(*paths):
    for path in paths:
        try:
            with open(path) as file: return file.read().strip()
        except OSError: pass
def tries(what):
    try: what(); return "allowed"
    except Exception as error: return type(error).__name__
def threads():
    started = []
    hold = threading.Event()
    try:
        for _ in range(400):
            thread = threading.Thread(target=hold.wait); thread.start(); started.append(thread)
    except RuntimeError:
        return len(started)
    finally:
        hold.set()
def handler(event, context):
    print("looking")
    status = dict(line.split(":\t", 1) for line in read("/proc/self/status").splitlines() if ":\t" in line)
    tmp = os.statvfs("/tmp")
    return {
        "uid": os.getuid(), "gid": os.getgid(), "caps": [status["CapEff"], status["CapPrm"], status["CapBnd"]],
        "no_new_privs": status["NoNewPrivs"], "seccomp": status["Seccomp"],
        "memory": read("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory.max"),
        "root": tries(lambda: open("/written", "w")), "code": tries(lambda: open("/var/task/written", "w")),
        "hearth": tries(lambda: open("/hearth/written", "w")), "tmp": tries(lambda: open("/tmp/written", "w")),
        "tmp_bytes": tmp.f_blocks * tmp.f_frsize,
        "fills_tmp": tries(lambda: open("/tmp/full", "wb").write(bytes(event["tmp"] + 2**20))),
        "interfaces": os.listdir("/sys/class/net"), "localhost": socket.gethostbyname("localhost"),
        "mount": ctypes.CDLL(None, use_errno=True).mount(b"none", b"/tmp", b"tmpfs", 0, None),
        "processes": [p for p in os.listdir("/proc") if p.isdigit()],
        "threads": threads(),
        "environment": sorted(k for k in os.environ if "KEY" in k or "TOKEN" in k or "SECRET" in k),
    }
"#;

/// Not even for functions that are the same but for their name, and not for an older version of one.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_serves_one_version_of_one_function_for_life() {
    let server = Server::shared();
    let code = r#"
import os
def handler(event, context):
    print("here", flush=True)
    seen = os.path.exists("/tmp/seen") and open("/tmp/seen").read()
    open("/tmp/seen", "w").write(context.function_name + os.environ["V"])
    return seen
"#;
    let mut workers = std::collections::BTreeSet::new();
    let mut expected = 0;
    for version in ["1", "2"] {
        for name in ["twin-a", "twin-b"] {
            let environment = json!({"environment": {"V": version}});
            if version == "1" {
                server.deploy(name, code, environment).await;
            } else {
                let path = format!("/functions/{name}");
                server.client.put(&path, &environment).await.expect(200);
            }
            for first in [true, false] {
                let seen = server.call(name, &json!({})).await.expect(200).json();
                let own = if first {
                    json!(false)
                } else {
                    json!(format!("{name}{version}"))
                };
                assert_eq!(seen, own, "what another one left is not there");
            }
            let path = format!("/functions/{name}/logs?limit=1");
            let lines = server.client.get(&path).await.expect(200).json();
            workers.insert(lines["items"][0]["worker"].to_string());
            expected += 1;
        }
    }
    assert_eq!(workers.len(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_has_nothing_it_does_not_need() {
    // Little, so that it can be filled within the function's memory.
    let settings = [
        ("worker.tmp_mb", "16"),
        ("worker.pids", "100"),
        ("pool.stem_min", "1"),
        ("pool.stem_max", "1"),
    ];
    let server = Server::start(&settings);
    server.settled(1).await;
    const TMP: u64 = 16 * 1024 * 1024;
    server
        .deploy("looks", LOOKS, json!({"memory": 200, "timeout": 60}))
        .await;
    let answer = server.call("looks", &json!({"tmp": TMP})).await.expect(200);
    assert_eq!(
        answer.start(),
        "stem",
        "its limits are the function's although it was made before"
    );
    let found = answer.json();
    assert_eq!((&found["uid"], &found["gid"]), (&json!(993), &json!(993)));
    for set in found["caps"].as_array().unwrap() {
        assert_eq!(set, "0000000000000000");
    }
    assert_eq!(
        (&found["no_new_privs"], &found["seccomp"]),
        (&json!("1"), &json!("2"))
    );
    assert_eq!(found["memory"], (200 * 1024 * 1024).to_string());
    for closed in ["root", "code", "hearth"] {
        assert_eq!(found[closed], "OSError", "{closed}");
    }
    assert_eq!(
        (&found["tmp"], &found["tmp_bytes"]),
        (&json!("allowed"), &json!(TMP))
    );
    assert_eq!(found["fills_tmp"], "OSError");
    assert_eq!(
        (&found["interfaces"], &found["localhost"]),
        (&json!(["lo"]), &json!("127.0.0.1"))
    );
    assert_eq!(found["mount"], -1);
    assert_eq!(
        found["processes"],
        json!(["1"]),
        "it sees itself and nobody else"
    );
    let threads = found["threads"].as_u64().expect("there is a bound");
    assert!((50..100).contains(&threads), "{threads}");
    assert_eq!(found["environment"], json!([]));

    let worker = server
        .client
        .get("/functions/looks/logs")
        .await
        .expect(200)
        .json();
    let worker = worker["items"][0]["worker"].as_str().unwrap().to_owned();
    let container = containers::labelled(&format!("hearth.worker={worker}"));
    let [container] = &container[..] else {
        panic!("{container:?}")
    };
    assert!(
        server.state().containers().contains(container),
        "it is labelled with its instance"
    );
    let inspected = containers::inspect(container).unwrap();
    let config = &inspected["Config"];
    assert_eq!(config["NetworkDisabled"], true);
    assert_eq!(config["User"], "993:993");
    assert_eq!(config["Labels"]["hearth.role"], "worker");
    assert_eq!(config["Labels"]["hearth.runtime"], "python3.13");
    let host = &inspected["HostConfig"];
    let want = [
        ("NetworkMode", json!("none")),
        ("ReadonlyRootfs", json!(true)),
        ("Privileged", json!(false)),
        ("CapDrop", json!(["ALL"])),
        ("CapAdd", Value::Null),
        ("SecurityOpt", json!(["no-new-privileges"])),
        ("PidsLimit", json!(100)),
        ("IpcMode", json!("private")),
        ("PidMode", json!("")),
        ("Devices", json!([])),
    ];
    for (key, value) in want {
        let is = &host[key];
        let empty = |v: &Value| v.is_null() || *v == json!([]);
        assert!(
            is == &value || (empty(is) && empty(&value)),
            "{key} is {is}"
        );
    }
    assert_eq!(host["LogConfig"]["Type"], "none");
    assert!(
        host["Tmpfs"]["/tmp"]
            .as_str()
            .unwrap()
            .contains("size=16777216")
    );
    for mount in inspected["Mounts"].as_array().unwrap() {
        assert_eq!(mount["RW"], false, "{mount}");
        let source = mount["Source"].as_str().unwrap();
        assert!(
            std::path::Path::new(source).starts_with(server.state().path()),
            "{mount}"
        );
    }
}
