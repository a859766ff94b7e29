//! `hearth list`: every function, page by page, as a table or as JSON.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::cli::client::{self, Client};
use crate::cli::error::Error;
use crate::cli::output::Output;

#[derive(Debug, clap::Args)]
pub struct Args {}

#[derive(Deserialize)]
struct Page {
    items: Vec<Value>,
    #[serde(default)]
    next: Option<String>,
}

pub async fn run(_: Args, client: &Client, output: &mut Output) -> Result<(), Error> {
    let functions = pages(client, "/functions/").await?;
    if output.json {
        return Ok(output.document(&json!({ "items": functions }))?);
    }
    if functions.is_empty() {
        return Ok(output.talk("there are no functions; 'hearth deploy DIR' makes one")?);
    }
    let heading = [
        "NAME", "RUNTIME", "HANDLER", "MEMORY", "TIMEOUT", "ROUTE", "UPDATED",
    ];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    rows.extend(functions.iter().map(row));
    Ok(output.rows(&rows)?)
}

/// Everything a listing has, whatever it is of.
pub(super) async fn pages(client: &Client, listing: &str) -> Result<Vec<Value>, Error> {
    let mut items = Vec::new();
    let mut path = format!("{listing}?limit=100");
    loop {
        let page: Page = client.get(&path).await?;
        let empty = page.items.is_empty();
        items.extend(page.items);
        match page.next {
            // A page without anything in it ends the listing too: a server that went on for ever would be a broken one.
            Some(next) if !empty => {
                path = format!("{listing}?limit=100&cursor=");
                client::escape(&next, &mut path);
            }
            _ => return Ok(items),
        }
    }
}

/// A field in a table: what is empty shows.
pub(super) fn text(of: &Value, field: &str) -> String {
    match of[field].as_str() {
        None | Some("") => "-".to_owned(),
        Some(text) => text.to_owned(),
    }
}

/// To the second, and without the letters around it.
pub(super) fn second(time: &str) -> String {
    time.get(..19).unwrap_or(time).replace('T', " ")
}

fn row(function: &Value) -> Vec<String> {
    let text = |field: &str| function[field].as_str().unwrap_or("-").to_owned();
    vec![
        text("name"),
        text("language"),
        text("handler"),
        format!("{} MiB", function["memory"]),
        format!("{} s", function["timeout"]),
        text("route"),
        second(&text("updated_at")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::captured;
    use crate::cli::scripted::{self, Server};

    fn function(name: &str) -> Value {
        json!({
            "name": name, "language": "abc3", "handler": "app.handler", "memory": 128, "timeout": 3, "route": null,
            "updated_at": "2026-01-31T12:00:00.123456789Z",
        })
    }

    /// Two pages, then none.
    async fn server() -> Server {
        Server::start(|_, n| {
            let page = match n {
                0 => json!({"items": [function("one")], "next": "a b"}),
                _ => json!({"items": [function("number-two")], "next": null}),
            };
            scripted::json(200, &page)
        })
        .await
    }

    async fn listed(server: &Server, json: bool) -> (String, String) {
        let client = Client::new(&server.url, None).expect("a client");
        let (mut output, out, err) = captured::output(json);
        run(Args {}, &client, &mut output).await.expect("listed");
        (out.text(), err.text())
    }

    #[tokio::test]
    async fn every_page_is_in_one_table() {
        let server = server().await;
        let (out, _) = listed(&server, false).await;
        insta::assert_snapshot!(out, @r"
        NAME        RUNTIME  HANDLER      MEMORY   TIMEOUT  ROUTE  UPDATED
        one         abc3     app.handler  128 MiB  3 s      -      2026-01-31 12:00:00
        number-two  abc3     app.handler  128 MiB  3 s      -      2026-01-31 12:00:00
        ");
        let want = [
            "GET /functions/?limit=100",
            "GET /functions/?limit=100&cursor=a%20b",
        ];
        assert_eq!(server.lines(), want);
    }

    #[tokio::test]
    async fn a_program_gets_one_list() {
        let (out, _) = listed(&server().await, true).await;
        let document: Value = serde_json::from_str(&out).expect("JSON");
        assert_eq!(document["items"][1]["name"], "number-two");
    }

    #[tokio::test]
    async fn a_listing_without_end_is_not_followed_for_ever() {
        let server =
            Server::start(|_, _| scripted::json(200, &json!({"items": [], "next": "x"}))).await;
        let (out, err) = listed(&server, false).await;
        assert_eq!(out, "");
        assert!(err.contains("no functions"), "{err}");
    }
}
