//! Functions that fail, in all the ways there are: what the caller is told, and that the next call does not notice.

use std::time::{Duration, Instant};

use http::Method;
use serde_json::{Value, json};

use crate::client::Answer;
use crate::containers;
use crate::deploying::zip;
use crate::server::Server;
use crate::wait::eventually;

/// The worker the last line of a function came from.
pub(crate) async fn worker(server: &Server, name: &str) -> String {
    let path = format!("/functions/{name}/logs?limit=1");
    let lines = server.client.get(&path).await.expect(200).json();
    let worker = lines["items"][0]["worker"].as_str();
    worker.expect("it has printed").to_owned()
}

async fn gone(worker: &str) {
    let label = format!("hearth.worker={worker}");
    eventually("the worker's container to be gone", || async {
        containers::labelled(&label).is_empty().then_some(())
    })
    .await;
}

/// What every error says of itself.
#[track_caller]
fn fault(answer: &Answer, status: u16, code: &str, blame: &str) -> Value {
    let error = answer.error(status);
    assert_eq!(error["code"], code, "{error}");
    assert_eq!(error["blame"], blame, "{error}");
    assert!(!error["message"].as_str().unwrap().is_empty());
    for phase in ["queue", "start", "init", "run"] {
        answer.phase(phase);
    }
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_has_type_message_stack_and_log_tail_and_costs_no_worker() {
    let server = Server::shared();
    let sources = [
        (
            "python",
            "def handler(event, context):\n    print('before')\n    if event: raise KeyError(event)\n    return 'well'",
            "KeyError",
        ),
        (
            "javascript",
            "export const handler = async (event) => { process.stdout.write('before\\n'); if (event.length) throw new RangeError(event); return 'well' }",
            "RangeError",
        ),
    ];
    for (language, code, kind) in sources {
        let name = format!("raises-{language}");
        server
            .deploy(&name, code, json!({"language": language}))
            .await;
        let answer = server.call(&name, &json!("of mine")).await;
        let error = fault(&answer, 502, "function_error", "function");
        assert_eq!(
            (&error["type"], &error["retry"]),
            (&json!(kind), &json!("unsafe"))
        );
        assert!(error["message"].as_str().unwrap().contains("of mine"));
        assert!(error["stack"].to_string().contains("handler"), "{error}");
        assert!(
            error["log_tail"].as_str().unwrap().starts_with("before\n"),
            "{error}"
        );
        let next = server.call(&name, &json!("")).await.expect(200);
        assert_eq!((next.start(), next.json()), ("warm", json!("well")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn at_its_deadline_the_code_is_told_then_killed_and_replaced() {
    let server = Server::shared();
    let sources = [
        (
            "python",
            r#"
import time
def handler(event, context):
    if event:
        try:
            print("begun", flush=True)
            time.sleep(60)
        finally:
            print("told", flush=True)
    return "ok"
"#,
        ),
        (
            "javascript",
            r#"
export const handler = async (event, context) => {
    if (!event) return "ok";
    process.stdout.write("begun\n");
    await new Promise((resolve, reject) => {
        context.signal.addEventListener("abort", () => { process.stdout.write("told\n"); reject(context.signal.reason); });
        setTimeout(resolve, 60000);
    });
};
"#,
        ),
    ];
    for (language, code) in sources {
        let name = format!("slow-{language}");
        server
            .deploy(&name, code, json!({"language": language, "timeout": 1}))
            .await;
        server.call(&name, &json!(0)).await.expect(200);
        let from = Instant::now();
        let answer = server.call(&name, &json!(1)).await;
        let took = from.elapsed();
        let error = fault(&answer, 504, "timeout", "function");
        assert_eq!(error["retry"], "unsafe");
        assert!(
            error["message"].as_str().unwrap().contains("1.00 seconds"),
            "{error}"
        );
        assert!(
            error["log_tail"].as_str().unwrap().contains("begun"),
            "{error}"
        );
        // The caller waits for the deadline and for nothing after it.
        assert!((1.0..10.0).contains(&took.as_secs_f64()), "{took:?}");
        assert!(answer.phase("run") >= Duration::from_secs(1));

        let old = worker(&server, &name).await;
        server.printed(&name, "told").await;
        let of_the_call = server.lines(&name, Some(&answer.request_id())).await;
        assert!(
            of_the_call.iter().any(|line| line == "told"),
            "{of_the_call:?}"
        );
        gone(&old).await;
        let next = server.call(&name, &json!(0)).await.expect(200);
        assert_ne!(next.start(), "warm");
        assert!(
            next.header("server-timing").contains("replaced"),
            "{:?}",
            next.headers
        );
    }
    let ended = [("reason", "timeout")];
    assert!(
        server
            .metrics()
            .await
            .sum("hearth_workers_ended_total", &ended)
            >= 2.0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_ends_what_ran_for_it() {
    let server = Server::shared();
    let code = r#"
import time
def handler(event, context):
    if event:
        try:
            print("begun", flush=True)
            time.sleep(60)
        finally:
            print("told", flush=True)
    return "ok"
"#;
    server
        .deploy("deserted", code, json!({"timeout": 120}))
        .await;
    server.call("deserted", &json!(0)).await.expect(200);
    let client = server.client.clone();
    let call =
        tokio::spawn(async move { client.post("/functions/deserted/execute", &json!(1)).await });
    server.printed("deserted", "begun").await;
    let old = worker(&server, "deserted").await;
    // Ends the connection with the request on it.
    call.abort();
    server.printed("deserted", "told").await;
    gone(&old).await;
    let ended = [("reason", "client_gone")];
    server
        .measured("hearth_workers_ended_total", &ended, |n| n >= 1.0)
        .await;
    let next = server.call("deserted", &json!(0)).await.expect(200);
    assert_ne!(next.start(), "warm");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_ends_soon_after_its_client_left_keeps_its_worker() {
    // Long enough for any machine.
    let server = Server::start(&[("pool.abandoned_grace", "1m")]);
    let code = r#"
import time
def handler(event, context):
    print("begun", event, flush=True)
    time.sleep(event)
    return event
"#;
    let settings = json!({"timeout": 120, "max_concurrency": 1});
    server.deploy("hasty", code, settings).await;
    server.call("hasty", &json!(0)).await.expect(200);
    for pause in [0.3, 0.5] {
        let client = server.client.clone();
        let call =
            tokio::spawn(
                async move { client.post("/functions/hasty/execute", &json!(pause)).await },
            );
        server.printed("hasty", &format!("begun {pause}")).await;
        call.abort();
        let next = eventually("a place under the limit", || async {
            let answer = server.call("hasty", &json!(0)).await;
            (answer.status != 429).then_some(answer)
        });
        assert_eq!(next.await.expect(200).start(), "warm");
    }
    let metrics = server.metrics().await;
    assert_eq!(metrics.sum("hearth_workers_ended_total", &[]), 0.0);
}

/// Code that will not listen keeps its place under the limit for as long as it runs.
#[tokio::test(flavor = "multi_thread")]
async fn a_place_under_the_limit_is_free_when_the_code_has_stopped_and_not_before() {
    let server = Server::shared();
    let code = r#"
import time
def handler(event, context):
    while event:
        try:
            while True:
                print("still", time.time(), flush=True)
                time.sleep(0.005)
        except BaseException:
            pass
    return time.time()
"#;
    let settings = json!({"timeout": 1, "max_concurrency": 1});
    server.deploy("stubborn", code, settings).await;
    for way in ["deadline", "disconnect"] {
        let client = server.client.clone();
        let seen = server.lines("stubborn", None).await.len();
        let call =
            tokio::spawn(
                async move { client.post("/functions/stubborn/execute", &json!(1)).await },
            );
        if way == "deadline" {
            fault(&call.await.unwrap(), 504, "timeout", "function");
        } else {
            eventually("it to run", || async {
                (server.lines("stubborn", None).await.len() > seen).then_some(())
            })
            .await;
            call.abort();
        }
        let next = eventually("a place under the limit", || async {
            let answer = server.call("stubborn", &json!(0)).await;
            if answer.status == 200 {
                return Some(answer.json().as_f64().unwrap());
            }
            let error = fault(&answer, 429, "throttled", "client");
            assert_eq!(error["reason"], "function_concurrency");
            None
        })
        .await;
        let lines = server.lines("stubborn", None).await;
        let last = lines
            .iter()
            .rev()
            .find_map(|line| line.strip_prefix("still "))
            .unwrap();
        let last: f64 = last.parse().unwrap();
        assert!(
            last < next,
            "{way}: the old ran at {last}, the next began at {next}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_that_ends_its_process_is_told_apart_and_replaced() {
    let server = Server::shared();
    let python = r#"
import ctypes, os, sys
def handler(event, context):
    print("last words", flush=True)
    if event == "exit": sys.exit(3)
    if event == "at once": os._exit(4)
    if event == "zero": os._exit(0)
    if event == "signal": ctypes.string_at(0)
    return "ok"
"#;
    let javascript = r#"
export const handler = async (event) => {
    console.log("last words");
    if (event === "exit") process.exit(3);
    if (event === "signal") process.abort();
    return "ok";
};
"#;
    let cases = [
        ("python", python, "exit", "exited with status 3"),
        ("python", python, "at once", "exited with status 4"),
        (
            "python",
            python,
            "zero",
            "exited without providing a reason",
        ),
        (
            "python",
            python,
            "signal",
            "exited with status 139 (SIGSEGV)",
        ),
        ("javascript", javascript, "exit", "exited with status 3"),
        ("javascript", javascript, "signal", "(SIG"),
    ];
    for (language, code, way, message) in cases {
        let name = format!("ends-{language}");
        if server
            .client
            .get(&format!("/functions/{name}"))
            .await
            .status
            == 404
        {
            server
                .deploy(&name, code, json!({"language": language, "timeout": 30}))
                .await;
        }
        let answer = server.call(&name, &json!(way)).await;
        let error = fault(&answer, 502, "worker_exited", "function");
        let told = error["message"].as_str().unwrap();
        assert!(told.contains(message), "{way}: {told}");
        assert!(
            error["log_tail"].as_str().unwrap().contains("last words"),
            "{error}"
        );
        assert_eq!(
            server.call(&name, &json!("")).await.expect(200).json(),
            "ok"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn too_much_memory_is_said_to_be_that() {
    let server = Server::shared();
    let sources = [
        (
            "python",
            "def handler(event, context):\n    print('hungry', flush=True)\n    return len(bytearray(event * 2**20))",
        ),
        (
            "javascript",
            "export const handler = async (event) => { console.log('hungry'); return Buffer.alloc(event * 2**20, 1).length }",
        ),
    ];
    for (language, code) in sources {
        let name = format!("hungry-{language}");
        server
            .deploy(
                &name,
                code,
                json!({"language": language, "timeout": 60, "memory": 160}),
            )
            .await;
        server.call(&name, &json!(1)).await.expect(200);
        let answer = server.call(&name, &json!(600)).await;
        let error = fault(&answer, 502, "out_of_memory", "function");
        assert!(
            error["message"].as_str().unwrap().contains("160 MiB"),
            "{error}"
        );
        assert!(
            error["log_tail"].as_str().unwrap().contains("hungry"),
            "{error}"
        );
        server.call(&name, &json!(1)).await.expect(200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn code_that_cannot_be_loaded_says_why_until_it_is_mended() {
    let server = Server::shared();
    let good = "def handler(event, context): return 'mended'";
    let cases = [
        (
            "raises",
            "print('loading', flush=True)\nraise ValueError('at the top')",
            "ValueError",
        ),
        (
            "syntax",
            "def handler(event context): pass",
            "Runtime.UserCodeSyntaxError",
        ),
        (
            "missing",
            "import no_such_module\n",
            "Runtime.ImportModuleError",
        ),
        (
            "nameless",
            "def another(event, context): pass",
            "Runtime.HandlerNotFound",
        ),
    ];
    for (case, code, kind) in cases {
        let name = format!("loading-{case}");
        server.deploy(&name, code, json!({})).await;
        for _twice in 0..2 {
            let answer = server.call(&name, &json!({})).await;
            let error = fault(&answer, 502, "init_error", "function");
            assert_eq!(
                (&error["type"], &error["retry"]),
                (&json!(kind), &json!("safe")),
                "{error}"
            );
            if case == "raises" {
                assert!(error["message"].as_str().unwrap().contains("at the top"));
                assert!(error["stack"].to_string().contains("app.py"), "{error}");
                assert!(
                    error["log_tail"].as_str().unwrap().contains("loading"),
                    "{error}"
                );
            }
        }
        server
            .client
            .put(&format!("/functions/{name}"), &json!({"code": good}))
            .await
            .expect(200);
        assert_eq!(
            server.call(&name, &json!({})).await.expect(200).json(),
            "mended"
        );
    }
    server
        .deploy("loading-exits", "import os\nos._exit(9)", json!({}))
        .await;
    let answer = server.call("loading-exits", &json!({})).await;
    let error = fault(&answer, 502, "worker_exited", "function");
    assert_eq!(error["retry"], "safe", "no call of it ran");
    assert!(
        error["message"].as_str().unwrap().contains("status 9"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn loading_has_a_time_of_its_own() {
    let server = Server::start(&[("pool.init_timeout", "2s"), ("pool.stem_min", "0")]);
    let code = "import time\nprint('loading', flush=True)\ntime.sleep(60)\ndef handler(event, context): pass";
    server
        .deploy("dawdles", code, json!({"timeout": 120}))
        .await;
    let answer = server.call("dawdles", &json!({})).await;
    let error = fault(&answer, 502, "init_timeout", "function");
    assert!(
        error["message"].as_str().unwrap().contains("2.00 seconds"),
        "{error}"
    );
    assert!(
        error["log_tail"].as_str().unwrap().contains("loading"),
        "{error}"
    );
    assert!(answer.phase("init") >= Duration::from_secs(2));
    let old = worker(&server, "dawdles").await;
    gone(&old).await;
}

/// Each writes what no shim would write, on the one connection the worker has.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_lies_is_replaced_and_its_neighbours_do_not_notice() {
    let server = Server::shared();
    let code = r#"
import os
def connection():
    for fd in os.listdir("/proc/self/fd"):
        try:
            if os.readlink("/proc/self/fd/" + fd).startswith("socket:"):
                return int(fd)
        except OSError:
            pass
def handler(event, context):
    if event:
        print("about to lie", flush=True)
        os.write(connection(), bytes.fromhex(event))
    return "honest"
"#;
    server.deploy("liar", code, json!({"timeout": 30})).await;
    server
        .deploy(
            "neighbour",
            "def handler(event, context): return event",
            json!({}),
        )
        .await;
    let client = server.client.clone();
    let neighbour = tokio::spawn(async move {
        let mut connection = client.connect().await.unwrap();
        for n in 0..500 {
            let answer = connection
                .post("/functions/neighbour/execute", &json!(n))
                .await
                .unwrap();
            assert_eq!(answer.expect(200).json(), n);
        }
    });
    let lies = [
        ("noise", "ff".repeat(64)),
        (
            "a kind that does not exist",
            "00000000 63 00 0000 00000000".into(),
        ),
        (
            "a length beyond every limit",
            "7fffffff 08 00 0000 00000001".into(),
        ),
        ("reserved bytes", "00000000 08 00 0001 00000001".into()),
        ("HELLO again", "00000002 01 00 0000 00000000 7b7d".into()),
        (
            "an answer to another invocation",
            "00000002 08 00 0000 000003e7 7b7d".into(),
        ),
        (
            "a piece of no stream",
            "00000002 07 00 0000 00000001 7b7d".into(),
        ),
        ("a torn frame", "000000".into()),
    ];
    for (what, bytes) in lies {
        let bytes: String = bytes.split_whitespace().collect();
        server.call("liar", &json!("")).await.expect(200);
        let old = {
            let answer = server.call("liar", &json!(bytes)).await;
            let error = fault(&answer, 502, "protocol_error", "function");
            assert!(
                error["log_tail"].as_str().unwrap().contains("about to lie"),
                "{what}: {error}"
            );
            worker(&server, "liar").await
        };
        gone(&old).await;
        assert_eq!(
            server.call("liar", &json!("")).await.expect(200).json(),
            "honest",
            "{what}"
        );
    }
    neighbour.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_killed_is_replaced_idle_or_busy() {
    let server = Server::start(&[("pool.stem_min", "0")]);
    server.expects("idle worker died");
    let code = r#"
import time
def handler(event, context):
    print("begun", flush=True)
    time.sleep(event)
    return "ok"
"#;
    server.deploy("victim", code, json!({"timeout": 100})).await;
    let kill = async |how: &str| {
        let worker = worker(&server, "victim").await;
        let found = containers::labelled(&format!("hearth.worker={worker}"));
        let [container] = &found[..] else {
            panic!("{found:?}")
        };
        match how {
            "its container" => drop(containers::docker(&["kill", container]).unwrap()),
            _ => {
                let state = containers::inspect(container).unwrap()["State"].clone();
                let pid = i32::try_from(state["Pid"].as_i64().unwrap()).unwrap();
                let pid = nix::unistd::Pid::from_raw(pid);
                nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
            }
        }
        worker
    };
    for (n, how) in ["its container", "its process"].into_iter().enumerate() {
        server.call("victim", &json!(0)).await.expect(200);
        let idle = kill(how).await;
        let died = [("reason", "died_idle")];
        if how == "its process" {
            // It may live a moment longer, and what is called in that moment ends with it.
            server
                .measured("hearth_workers_ended_total", &died, |ended| {
                    ended > n as f64
                })
                .await;
        }
        let next = server.call("victim", &json!(0)).await.expect(200);
        assert!(
            next.header("server-timing").contains("replaced"),
            "{:?}",
            next.headers
        );
        gone(&idle).await;

        let begun = server.lines("victim", None).await.len();
        let client = server.client.clone();
        let call =
            tokio::spawn(async move { client.post("/functions/victim/execute", &json!(60)).await });
        eventually("it to be busy", || async {
            (server.lines("victim", None).await.len() > begun).then_some(())
        })
        .await;
        kill(how).await;
        let answer = call.await.unwrap();
        let error = fault(&answer, 502, "worker_exited", "function");
        assert!(
            error["message"].as_str().unwrap().contains("status 137"),
            "{error}"
        );
        assert!(
            error["log_tail"].as_str().unwrap().contains("begun"),
            "{error}"
        );
        server.call("victim", &json!(0)).await.expect(200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_hangs_whole_is_replaced_too() {
    let server = Server::shared();
    let code = "import time\ndef handler(event, context):\n    print('begun', flush=True)\n    time.sleep(event)\n    return 'ok'";
    server.deploy("frozen", code, json!({"timeout": 3})).await;
    server.call("frozen", &json!(0)).await.expect(200);
    let old = worker(&server, "frozen").await;
    server.expects("worker stands still and is killed");
    let found = containers::labelled(&format!("hearth.worker={old}"));
    let client = server.client.clone();
    let call =
        tokio::spawn(async move { client.post("/functions/frozen/execute", &json!(60)).await });
    eventually("it to be busy", || async {
        (server.lines("frozen", None).await.len() > 1).then_some(())
    })
    .await;
    // Not even its signal handlers run now.
    containers::docker(&["pause", &found[0]]).unwrap();
    fault(&call.await.unwrap(), 504, "timeout", "function");
    gone(&old).await;
    server.call("frozen", &json!(0)).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_function_leaves_uncaught_ends_it_and_nobody_else_is_told() {
    let server = Server::shared();
    let code = r#"
export const handler = async (event) => {
    if (event) { setTimeout(() => { throw new TypeError("from a timer") }, 0); await new Promise(() => setTimeout(() => {}, 60000)); }
    return "ok";
};
"#;
    server
        .deploy(
            "uncaught",
            code,
            json!({"language": "javascript", "timeout": 30}),
        )
        .await;
    for _ in 0..3 {
        let answer = server.call("uncaught", &json!(1)).await;
        let error = fault(&answer, 502, "function_error", "function");
        assert_eq!(error["type"], "TypeError");
        assert_eq!(
            server.call("uncaught", &json!(0)).await.expect(200).json(),
            "ok"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_do_not_fit_are_refused_before_anything_runs() {
    let server = Server::shared();
    server
        .deploy("bodies", "def handler(event, context): return 1", json!({}))
        .await;
    let garbage = zip(&[("readme.txt", "no code in here")]);
    let empty = json!({"name": "bodies-2", "language": "python", "handler": "app.handler",
        "code": {"zip": base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &garbage[..20])}});
    let error = server.client.post("/functions/", &empty).await.error(400);
    assert_eq!(error["faults"][0]["field"], "code");
    let wrong = server
        .client
        .send(Method::PATCH, "/functions/bodies", "{}")
        .await;
    assert_eq!(wrong.error(405)["code"], "method_not_allowed");
}
