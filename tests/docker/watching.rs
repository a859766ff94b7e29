//! Code that is edited where it lies: what is saved is what runs next, without a deploy.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::Answer;
use crate::server::{Server, State};
use crate::wait::eventually;

struct Language {
    name: &'static str,
    file: &'static str,
    handler: &'static str,
    good: fn(u64) -> String,
    broken: &'static str,
}

const LANGUAGES: [Language; 2] = [
    Language {
        name: "python",
        file: "app.py",
        handler: "app.handler",
        good: |n| format!("import other\ndef handler(event, context): return [{n}, other.VALUE]\n"),
        broken: "def handler(event, context:\n",
    },
    Language {
        name: "javascript",
        file: "app.mjs",
        handler: "app.handler",
        good: |n| {
            format!(
                "import fs from 'fs';\nexport const handler = async () => [{n}, Number(fs.readFileSync('other.py', 'utf8').slice(8))];\n"
            )
        },
        broken: "export const handler = async () => {{{\n",
    },
];

fn save(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}

async fn deploy(server: &Server, name: &str, language: &Language, directory: &Path) -> String {
    std::fs::create_dir_all(directory).unwrap();
    save(&directory.join("other.py"), "VALUE = 0");
    save(&directory.join(language.file), &(language.good)(0));
    let name = format!("{name}-{}", language.name);
    let body = json!({"name": name, "language": language.name, "handler": language.handler, "code_path": directory});
    server.client.post("/functions/", &body).await.expect(201);
    name
}

/// Calls until there is such an answer, and says how long after the beginning its call began and the answer was there.
async fn answers(server: &Server, name: &str, wanted: &Value) -> (Answer, Duration) {
    let saved = Instant::now();
    eventually(&format!("{name} to answer {wanted}"), || async {
        let answer = server.call(name, &json!({})).await;
        (answer.status == 200 && answer.json() == *wanted).then(|| (answer, saved.elapsed()))
    })
    .await
}

async fn revision(server: &Server, name: &str) -> u64 {
    let function = server.client.get(&format!("/functions/{name}")).await;
    function.expect(200).json()["revision"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_saved_file_is_what_the_next_calls_run() {
    let server = Server::shared();
    let home = tempfile::tempdir().unwrap();
    for language in &LANGUAGES {
        let directory = home.path().join(language.name);
        let name = deploy(&server, "edited", language, &directory).await;
        answers(&server, &name, &json!([0, 0])).await;
        let first = revision(&server, &name).await;
        let file = directory.join(language.file);
        let mut times = Vec::new();
        for n in 1..=5 {
            // As editors do it: one way, or the other.
            if n % 2 == 0 {
                save(&file, &(language.good)(n));
            } else {
                let beside = home.path().join("beside");
                save(&beside, &(language.good)(n));
                std::fs::rename(&beside, &file).unwrap();
            }
            let (answer, time) = answers(&server, &name, &json!([n, 0])).await;
            times.push(time);
            // From here on nothing but the new code answers.
            assert_eq!(server.call(&name, &json!({})).await.json(), json!([n, 0]));
            assert_ne!(answer.header("x-hearth-version"), "");
        }
        times.sort_unstable();
        println!("{name}: from a save to its answer {times:?}");
        // Another file of the same directory counts as well.
        save(&directory.join("other.py"), "VALUE = 7");
        answers(&server, &name, &json!([5, 7])).await;
        assert!(revision(&server, &name).await >= first + 6);
        let log = server.log();
        let taken = log
            .lines()
            .filter(|line| line.contains("code taken over") && line.contains(&name));
        assert!(taken.count() >= 6, "nobody has deployed it");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_save_is_told_by_the_next_call_and_mended_by_the_next_save() {
    let server = Server::shared();
    let home = tempfile::tempdir().unwrap();
    for language in &LANGUAGES {
        let directory = home.path().join(language.name);
        let name = deploy(&server, "broken", language, &directory).await;
        answers(&server, &name, &json!([0, 0])).await;
        save(&directory.join(language.file), language.broken);
        let error = eventually("the broken code to be told", || async {
            let answer = server.call(&name, &json!({})).await;
            (answer.status != 200).then(|| answer.error(502))
        })
        .await;
        assert_eq!(error["code"], "init_error", "{error}");
        save(&directory.join(language.file), &(language.good)(2));
        answers(&server, &name, &json!([2, 0])).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_saved_while_it_was_down_runs_after_a_restart() {
    let state = State::new();
    let directory = state.beside("code");
    let server = Server::start_on(state, &[]);
    let name = deploy(&server, "restarted", &LANGUAGES[0], &directory).await;
    answers(&server, &name, &json!([0, 0])).await;
    let state = server.stop();
    save(&directory.join(LANGUAGES[0].file), &(LANGUAGES[0].good)(1));
    let server = Server::start_on(state, &[]);
    answers(&server, &name, &json!([1, 0])).await;
    save(&directory.join(LANGUAGES[0].file), &(LANGUAGES[0].good)(2));
    answers(&server, &name, &json!([2, 0])).await;
    // Switched off, it stays as it was deployed.
    let state = server.stop();
    let server = Server::start_on(state, &[("worker.code_path_watch", "off")]);
    save(&directory.join(LANGUAGES[0].file), &(LANGUAGES[0].good)(3));
    let change = json!({"description": "a change that is none of the code"});
    server
        .client
        .put(&format!("/functions/{name}"), &change)
        .await
        .expect(200);
    assert_eq!(
        server.call(&name, &json!({})).await.expect(200).json(),
        json!([2, 0])
    );
}
