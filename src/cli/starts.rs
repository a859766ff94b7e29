//! `hearth starts`: which workers a function had started for its calls, and why no idle one was there.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::cli::client::{self, Client};
use crate::cli::error::Error;
use crate::cli::output::Output;

/// The server remembers no more.
const PAGES_MAX: usize = 20;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name or id of the function
    #[arg(value_name = "NAME")]
    name: String,
    /// The newest so many
    #[arg(long, value_name = "STARTS", default_value_t = 20)]
    limit: usize,
}

#[derive(Deserialize)]
struct Page {
    items: Vec<Value>,
    next: Option<String>,
}

pub async fn run(args: Args, client: &Client, output: &mut Output) -> Result<(), Error> {
    let starts = newest(&args, client).await?;
    if output.json {
        return Ok(output.document(&json!({ "items": starts }))?);
    }
    if starts.is_empty() {
        return Ok(output.talk("no worker was started for it since the server was")?);
    }
    let heading = [
        "AT", "KIND", "QUEUE MS", "START MS", "INIT MS", "OUTCOME", "BECAUSE",
    ];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    rows.extend(starts.iter().map(row));
    Ok(output.rows(&rows)?)
}

async fn newest(args: &Args, client: &Client) -> Result<Vec<Value>, Error> {
    let mut starts = Vec::new();
    let mut cursor: Option<String> = None;
    for _ in 0..PAGES_MAX {
        let wanted = args.limit.saturating_sub(starts.len()).min(200);
        if wanted == 0 {
            break;
        }
        let mut path = client::path(&["functions", &args.name, "starts"]);
        path.push_str(&format!("?limit={wanted}"));
        if let Some(cursor) = &cursor {
            path.push_str("&cursor=");
            client::escape(cursor, &mut path);
        }
        let page: Page = client.get(&path).await?;
        starts.extend(page.items);
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    Ok(starts)
}

fn row(start: &Value) -> Vec<String> {
    let text = |field: &str| start[field].as_str().unwrap_or("-").to_owned();
    let millis = |field: &str| format!("{:.1}", start[field].as_f64().unwrap_or_default());
    vec![
        moment(start, "at"),
        text("kind"),
        millis("queue_ms"),
        millis("start_ms"),
        millis("init_ms"),
        start["error"].as_str().unwrap_or("ok").to_owned(),
        because(start),
    ]
}

/// To the second, and without the letters around it.
fn moment(start: &Value, field: &str) -> String {
    let text = start[field].as_str().unwrap_or("-");
    text.get(..19).unwrap_or(text).replace('T', " ")
}

/// The cause in words. One that is not known here is shown as the server calls it.
fn because(start: &Value) -> String {
    let text = |field: &str| start[field].as_str().unwrap_or("?");
    let at = moment(start, "caused_at");
    let cause = match text("cause") {
        "first_call" => "it had not been called before".to_owned(),
        "version_changed" => "it was deployed anew".to_owned(),
        "scale_out" => format!("none of its {} workers was idle", start["workers"]),
        "provisioned" => "it is one of those that are kept ready".into(),
        "keep_alive" => format!("its last worker was idle for too long, at {at}"),
        "evicted" => {
            let whom = text("in_favour_of");
            format!(
                "its last worker was evicted at {at} by {} for {whom}",
                text("rule")
            )
        }
        "crashed" => format!("its last worker crashed at {at}: {}", text("ended_by")),
        "network_ended" => format!("what held its network had ended, noticed at {at}"),
        "cancelled" => format!("its last worker was killed at {at}: {}", text("ended_by")),
        other => other.to_owned(),
    };
    match start["not_stem"].as_str() {
        Some("stem_pool_empty") => format!("{cause}; no stem worker was there"),
        Some("own_network") => format!("{cause}; its network is its own"),
        _ => cause,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::captured;
    use crate::cli::scripted::{self, Server};

    async fn server() -> Server {
        Server::start(|request, before| {
            assert!(request.uri().path().ends_with("/functions/a%20b/starts"));
            let at = "2026-01-31T12:00:00Z";
            let items = match before {
                0 => json!([
                    {"at": at, "kind": "cold", "cause": "evicted", "caused_at": at, "rule": "pool.memory_budget_mb",
                     "in_favour_of": "big", "not_stem": "stem_pool_empty", "queue_ms": 1.0, "start_ms": 300.25, "init_ms": 12.0},
                ]),
                _ => json!([
                    {"at": at, "kind": "stem", "cause": "scale_out", "workers": 2, "error": "init_error",
                     "queue_ms": 0.0, "start_ms": 0.0, "init_ms": 8.5},
                    {"at": at, "kind": "stem", "cause": "of_tomorrow", "queue_ms": 0.0, "start_ms": 0.0, "init_ms": 9.0},
                ]),
            };
            let next = (before == 0).then_some("7");
            scripted::json(200, &json!({"items": items, "next": next}))
        })
        .await
    }

    async fn shown(server: &Server, json: bool) -> String {
        let client = Client::new(&server.url, None).expect("an address");
        let (mut output, out, _) = captured::output(json);
        let args = Args {
            name: "a b".into(),
            limit: 3,
        };
        run(args, &client, &mut output).await.expect("listed");
        out.text()
    }

    #[tokio::test]
    async fn every_cause_is_told_in_words() {
        let server = server().await;
        insta::assert_snapshot!(shown(&server, false).await);
        let want = [
            "GET /functions/a%20b/starts?limit=3",
            "GET /functions/a%20b/starts?limit=2&cursor=7",
        ];
        assert_eq!(server.lines(), want);
    }

    #[tokio::test]
    async fn a_program_gets_one_list() {
        let document: Value =
            serde_json::from_str(&shown(&server().await, true).await).expect("JSON");
        assert_eq!(document["items"].as_array().map(Vec::len), Some(3));
    }
}
