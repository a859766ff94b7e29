//! `hearth invocations`: a function's latest calls, and one of them with what it was given and what it answered.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::cli::client::{self, Client};
use crate::cli::error::Error;
use crate::cli::output::Output;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List the latest calls of a function, the newest first
    #[command(visible_alias = "ls")]
    List(List),
    /// Show one with what it was given and what it answered, as far as that is kept
    Show(One),
}

#[derive(Debug, clap::Args)]
struct List {
    /// Name or id of the function
    #[arg(value_name = "NAME")]
    name: String,
    /// How many at most; the server remembers 200
    #[arg(long, value_name = "COUNT", default_value_t = 20)]
    limit: usize,
}

#[derive(Debug, clap::Args)]
struct One {
    /// Request id of the call, as the list and the answer have it
    #[arg(value_name = "ID")]
    id: String,
}

#[derive(Deserialize)]
struct Page {
    items: Vec<Value>,
}

pub async fn run(args: Args, client: &Client, output: &mut Output) -> Result<(), Error> {
    match args.action {
        Action::List(args) => list(args, client, output).await,
        Action::Show(args) => show(args, client, output).await,
    }
}

async fn list(args: List, client: &Client, output: &mut Output) -> Result<(), Error> {
    let mut path = client::path(&["functions", &args.name, "invocations"]);
    path.push_str(&format!("?limit={}", args.limit));
    let calls: Page = client.get(&path).await?;
    if output.json {
        return Ok(output.document(&json!({ "items": calls.items }))?);
    }
    if calls.items.is_empty() {
        return Ok(output.talk("it was not called since the server was started")?);
    }
    let heading = ["ID", "ENDED", "START", "MS", "OUTCOME"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    rows.extend(calls.items.iter().map(row));
    Ok(output.rows(&rows)?)
}

fn row(call: &Value) -> Vec<String> {
    let text = |field: &str| call[field].as_str().unwrap_or("-").to_owned();
    // To the second, and without the letters around it.
    let ended = text("ended_at");
    vec![
        text("request_id"),
        ended.get(..19).unwrap_or(&ended).replace('T', " "),
        text("start"),
        format!("{:.1}", call["duration"].as_f64().unwrap_or_default()),
        call["error"].as_str().unwrap_or("ok").to_owned(),
    ]
}

async fn show(args: One, client: &Client, output: &mut Output) -> Result<(), Error> {
    let path = client::path(&["invocations", &args.id]);
    let call: Value = client.get(&path).await?;
    match output.json {
        true => Ok(output.document(&call)?),
        false => Ok(output.line(&format!("{call:#}"))?),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::output::captured;
    use crate::cli::scripted::{self, Server};

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    async fn said(server: &Server, line: &[&str], json: bool) -> String {
        let client = Client::new(&server.url, None).expect("a client");
        let (mut output, out, _) = captured::output(json);
        let line = Line::try_parse_from(["invocations"].iter().chain(line)).expect("good flags");
        run(line.args, &client, &mut output).await.expect("done");
        out.text()
    }

    #[tokio::test]
    async fn they_are_listed_and_one_is_shown() {
        let server = Server::start(|request, _| {
            let at = "2026-01-31T12:00:00.1Z";
            if request.uri().path().starts_with("/invocations/") {
                let payload = json!({"body": "{\"n\":1}", "base64": false, "absent": null});
                return scripted::json(200, &json!({"request_id": "a", "payload": payload}));
            }
            let items = json!([
                {"request_id": "a", "ended_at": at, "start": "warm", "duration": 1.25, "error": null},
                {"request_id": "b", "ended_at": at, "start": null, "duration": 0.0, "error": "throttled"},
            ]);
            scripted::json(200, &json!({ "items": items }))
        })
        .await;
        let out = said(&server, &["list", "a b"], false).await;
        insta::assert_snapshot!(out, @r"
        ID  ENDED                START  MS   OUTCOME
        a   2026-01-31 12:00:00  warm   1.2  ok
        b   2026-01-31 12:00:00  -      0.0  throttled
        ");
        let out = said(&server, &["show", "a"], false).await;
        assert!(out.contains(r#""body": "{\"n\":1}""#), "{out}");
        let out = said(&server, &["list", "f", "--limit", "2"], true).await;
        let out: Value = serde_json::from_str(&out).expect("JSON");
        assert_eq!(out["items"].as_array().map(Vec::len), Some(2));
        let want = [
            "GET /functions/a%20b/invocations?limit=20",
            "GET /invocations/a",
            "GET /functions/f/invocations?limit=2",
        ];
        assert_eq!(server.lines(), want);
    }
}
