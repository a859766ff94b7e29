//! `hearth dead-letters`: asynchronous calls that failed for good: what they were, and what becomes of them.

use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::cli::client::{self, Client, Content};
use crate::cli::error::Error;
use crate::cli::output::Output;

/// Requests that queue letters again, each of many; the server says when there are none left.
const REDRIVES_MAX: usize = 1000;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List them, the last that failed first
    #[command(visible_alias = "ls")]
    List(List),
    /// Show one with its payload
    Show(One),
    /// Queue one again, or all of a function
    #[command(after_help = "\
Examples:
  hearth dead-letters redrive 79ba5235-0a67-4812-bef8-cac2d52edf43
  hearth dead-letters redrive --function orders")]
    Redrive(Redrive),
    /// Discard one with its payload, for good
    Delete(One),
}

#[derive(Debug, clap::Args)]
struct List {
    /// Only those of this function
    #[arg(long, value_name = "NAME")]
    function: Option<String>,
    /// How many at most
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    limit: usize,
}

#[derive(Debug, clap::Args)]
struct One {
    /// Request id of the call, as the list shows it
    #[arg(value_name = "ID")]
    id: String,
}

#[derive(Debug, clap::Args)]
struct Redrive {
    /// Request id of the call, as the list shows it
    #[arg(
        value_name = "ID",
        required_unless_present = "function",
        conflicts_with = "function"
    )]
    id: Option<String>,
    /// All of this function
    #[arg(long, value_name = "NAME")]
    function: Option<String>,
}

#[derive(Deserialize)]
struct Page {
    items: Vec<Value>,
    #[serde(default)]
    next: Option<String>,
}

#[derive(Deserialize)]
struct Redriven {
    redriven: u64,
    more: bool,
}

pub async fn run(args: Args, client: &Client, output: &mut Output) -> Result<(), Error> {
    match args.action {
        Action::List(args) => list(args, client, output).await,
        Action::Show(args) => show(args, client, output).await,
        Action::Redrive(args) => match (args.id, args.function) {
            (Some(id), _) => redrive(&id, client, output).await,
            (None, function) => redrive_all(&function.unwrap_or_default(), client, output).await,
        },
        Action::Delete(args) => delete(args, client, output).await,
    }
}

async fn list(args: List, client: &Client, output: &mut Output) -> Result<(), Error> {
    let letters = letters(&args, client).await?;
    if output.json {
        return Ok(output.document(&json!({ "items": letters }))?);
    }
    if letters.is_empty() {
        return Ok(output.talk("there are no dead letters")?);
    }
    let heading = ["ID", "FUNCTION", "ATTEMPTS", "ACCEPTED", "FAILED", "ERROR"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    rows.extend(letters.iter().map(row));
    Ok(output.rows(&rows)?)
}

async fn letters(args: &List, client: &Client) -> Result<Vec<Value>, Error> {
    let mut base = "/dead-letters/?limit=100".to_owned();
    if let Some(function) = &args.function {
        base.push_str("&function=");
        client::escape(function, &mut base);
    }
    let (mut letters, mut path) = (Vec::new(), base.clone());
    let mut seen = None;
    loop {
        let page: Page = client.get(&path).await?;
        letters.extend(page.items);
        letters.truncate(args.limit);
        match page.next {
            // A cursor that does not move ends it too: such a server would be a broken one.
            Some(next) if letters.len() < args.limit && seen.as_ref() != Some(&next) => {
                path = format!("{base}&cursor=");
                client::escape(&next, &mut path);
                seen = Some(next);
            }
            _ => return Ok(letters),
        }
    }
}

async fn show(args: One, client: &Client, output: &mut Output) -> Result<(), Error> {
    let path = client::path(&["dead-letters", &args.id]);
    let letter: Value = client.get(&path).await?;
    match output.json {
        true => Ok(output.document(&letter)?),
        false => Ok(output.line(&format!("{letter:#}"))?),
    }
}

async fn redrive(id: &str, client: &Client, output: &mut Output) -> Result<(), Error> {
    let path = client::path(&["dead-letters", id, "redrive"]);
    client.send(Method::POST, &path, Content::default()).await?;
    if output.json {
        return Ok(output.document(&json!({ "redriven": 1, "id": id }))?);
    }
    Ok(output.line(&format!("queued {id}"))?)
}

async fn redrive_all(function: &str, client: &Client, output: &mut Output) -> Result<(), Error> {
    let mut count = 0;
    for _ in 0..REDRIVES_MAX {
        let content = Content::json(&json!({ "function": function }))?;
        let path = "/dead-letters/redrive";
        let answer = client.send(Method::POST, path, content).await?;
        let done: Redriven = client.parse(&answer)?;
        count += done.redriven;
        if !done.more || done.redriven == 0 {
            break;
        }
    }
    if output.json {
        return Ok(output.document(&json!({ "redriven": count }))?);
    }
    Ok(output.line(&format!("queued {count} of {function}"))?)
}

async fn delete(args: One, client: &Client, output: &mut Output) -> Result<(), Error> {
    let path = client::path(&["dead-letters", &args.id]);
    let deleted = client.send(Method::DELETE, &path, Content::default());
    deleted.await?;
    if output.json {
        return Ok(output.document(&json!({ "deleted": { "id": args.id } }))?);
    }
    Ok(output.line(&format!("deleted {}", args.id))?)
}

fn row(letter: &Value) -> Vec<String> {
    let text = |field: &str| letter[field].as_str().unwrap_or("-").to_owned();
    // To the second, and without the letters around it.
    let second = |field: &str| {
        let time = text(field);
        time.get(..19).unwrap_or(&time).replace('T', " ")
    };
    vec![
        text("request_id"),
        text("function"),
        letter["attempts"].to_string(),
        second("accepted_at"),
        second("finished_at"),
        letter["error"]["code"].as_str().unwrap_or("-").to_owned(),
    ]
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

    fn letter(id: &str) -> Value {
        json!({
            "request_id": id, "function": "orders", "state": "failed", "attempts": 3, "accepted_at": "2026-01-31T12:00:00.1Z",
            "finished_at": "2026-01-31T12:03:00.1Z", "error": {"code": "function_error", "message": "no"},
        })
    }

    async fn server() -> Server {
        Server::start(|request, _| {
            let path = request.uri().to_string();
            match request.method().as_str() {
                "GET" if path.contains("cursor=c") => {
                    scripted::json(200, &json!({"items": [letter("b")], "next": null}))
                }
                "GET" if path.contains('?') => {
                    scripted::json(200, &json!({"items": [letter("a")], "next": "c"}))
                }
                "GET" => scripted::json(200, &letter("a")),
                "POST" if path.ends_with("letters/redrive") => {
                    scripted::json(200, &json!({"redriven": 2, "more": false}))
                }
                "POST" => scripted::json(202, &json!({"request_id": "a", "state": "queued"})),
                _ => scripted::reply(204, &[], ""),
            }
        })
        .await
    }

    async fn said(server: &Server, line: &[&str], json: bool) -> String {
        let client = Client::new(&server.url, None).expect("a client");
        let (mut output, out, _) = captured::output(json);
        let line = Line::try_parse_from(["dead-letters"].iter().chain(line)).expect("good flags");
        run(line.args, &client, &mut output).await.expect("done");
        out.text()
    }

    #[tokio::test]
    async fn they_are_listed_page_by_page_and_shown() {
        let server = server().await;
        let out = said(&server, &["list", "--function", "orders"], false).await;
        insta::assert_snapshot!(out, @r"
        ID  FUNCTION  ATTEMPTS  ACCEPTED             FAILED               ERROR
        a   orders    3         2026-01-31 12:00:00  2026-01-31 12:03:00  function_error
        b   orders    3         2026-01-31 12:00:00  2026-01-31 12:03:00  function_error
        ");
        let out = said(&server, &["list", "--limit", "1"], true).await;
        let out: Value = serde_json::from_str(&out).expect("JSON");
        assert_eq!(out["items"].as_array().map(Vec::len), Some(1));
        let out = said(&server, &["show", "a"], false).await;
        assert!(out.contains("\"function_error\""), "{out}");
        let want = [
            "GET /dead-letters/?limit=100&function=orders",
            "GET /dead-letters/?limit=100&function=orders&cursor=c",
            "GET /dead-letters/?limit=100",
            "GET /dead-letters/a",
        ];
        assert_eq!(server.lines(), want);
    }

    #[tokio::test]
    async fn they_are_queued_again_and_deleted() {
        let server = server().await;
        let out = said(&server, &["redrive", "a"], false).await;
        assert_eq!(out, "queued a\n");
        let out = said(&server, &["redrive", "--function", "orders"], false).await;
        assert_eq!(out, "queued 2 of orders\n");
        let out = said(&server, &["delete", "a"], true).await;
        assert_eq!(out, "{\"deleted\":{\"id\":\"a\"}}\n");
        let want = [
            "POST /dead-letters/a/redrive",
            "POST /dead-letters/redrive",
            "DELETE /dead-letters/a",
        ];
        assert_eq!(server.lines(), want);
        assert_eq!(server.body(1), json!({"function": "orders"}));
    }

    #[test]
    fn one_or_a_function_is_named() {
        for bad in [&["redrive"][..], &["redrive", "a", "--function", "f"]] {
            assert!(Line::try_parse_from(["dead-letters"].iter().chain(bad)).is_err());
        }
    }
}
