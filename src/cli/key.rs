//! `hearth key`: makes, lists and revokes keys. A key is printed once, when it is made, alone on stdout so that a script can take it.

use http::Method;
use jiff::{SignedDuration, Span, SpanRelativeTo};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::cli::client::{self, Client, Content};
use crate::cli::error::Error;
use crate::cli::output::Output;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Make a key and print it; it is not shown again
    #[command(after_help = "\
Examples:
  hearth key create shop --scope invoke --function 'orders-*' --expires 30d
  hearth key create ci --scope deploy --scope invoke")]
    Create(Create),
    /// List the keys
    #[command(visible_alias = "ls")]
    List,
    /// Revoke a key: whoever uses it is out within a second
    Revoke(Revoke),
}

#[derive(Debug, clap::Args)]
struct Create {
    /// What the key is for
    #[arg(value_name = "NAME")]
    name: String,
    /// What it may do; may be repeated. deploy does not include invoke
    #[arg(long = "scope", value_name = "SCOPE", required = true, value_parser = ["admin", "deploy", "invoke"])]
    scopes: Vec<String>,
    /// Only functions with names like this, '*' for any characters and '?' for one; may be repeated
    #[arg(long = "function", value_name = "PATTERN")]
    functions: Vec<String>,
    /// Time until it ends by itself, like 12h or 30d [default: never]
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    expires: Option<i64>,
}

#[derive(Debug, clap::Args)]
struct Revoke {
    /// The key's id, as the list shows it
    #[arg(value_name = "ID")]
    id: String,
    /// Also the last key that can make others
    #[arg(long)]
    force: bool,
}

fn seconds(text: &str) -> Result<i64, String> {
    let wrong = || format!("{text:?} is no time, expected one like 90m, 12h or 30d");
    let span: Span = text.parse().map_err(|_ignored| wrong())?;
    let days = SpanRelativeTo::days_are_24_hours();
    let time: SignedDuration = span.to_duration(days).map_err(|_ignored| wrong())?;
    match time.as_secs() {
        seconds if seconds >= 1 => Ok(seconds),
        _ => Err(format!("{text:?} is too short")),
    }
}

#[derive(Deserialize)]
struct Keys {
    items: Vec<Value>,
}

pub async fn run(args: Args, client: &Client, output: &mut Output) -> Result<(), Error> {
    match args.action {
        Action::Create(args) => create(args, client, output).await,
        Action::List => list(client, output).await,
        Action::Revoke(args) => revoke(args, client, output).await,
    }
}

async fn create(args: Create, client: &Client, output: &mut Output) -> Result<(), Error> {
    let mut body = json!({ "name": args.name, "scopes": args.scopes });
    if !args.functions.is_empty() {
        body["functions"] = args.functions.into();
    }
    if let Some(seconds) = args.expires {
        body["expires_in"] = seconds.into();
    }
    let content = Content::json(&body)?;
    let answer = client.send(Method::POST, "/keys/", content).await?;
    let made: Value = client.parse(&answer)?;
    if output.json {
        return Ok(output.document(&made)?);
    }
    let text = |field: &str| made[field].as_str().unwrap_or_default();
    let id = text("id");
    output.talk(&format!(
        "key {id}: {}, {}, {}. It is shown this once:",
        list_of(&made["scopes"], "nothing"),
        list_of(&made["functions"], "every function"),
        until(&made),
    ))?;
    output.line(text("key"))?;
    Ok(output.talk(&format!("revoke it with: hearth key revoke {id}"))?)
}

async fn list(client: &Client, output: &mut Output) -> Result<(), Error> {
    let keys: Keys = client.get("/keys/").await?;
    if output.json {
        return Ok(output.document(&json!({ "items": keys.items }))?);
    }
    let heading = [
        "ID",
        "NAME",
        "SCOPES",
        "FUNCTIONS",
        "CREATED",
        "EXPIRES",
        "KEY",
    ];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    rows.extend(keys.items.iter().map(row));
    Ok(output.rows(&rows)?)
}

async fn revoke(args: Revoke, client: &Client, output: &mut Output) -> Result<(), Error> {
    let mut path = client::path(&["keys", &args.id]);
    if args.force {
        path.push_str("?force=true");
    }
    client
        .send(Method::DELETE, &path, Content::default())
        .await?;
    if output.json {
        return Ok(output.document(&json!({ "revoked": { "id": args.id } }))?);
    }
    Ok(output.line(&format!("revoked {}", args.id))?)
}

fn row(key: &Value) -> Vec<String> {
    let text = |field: &str| key[field].as_str().unwrap_or_default();
    let last_four = match text("last_four") {
        "" => "-".into(),
        last => format!("…{last}"),
    };
    vec![
        text("id").to_owned(),
        text("name").to_owned(),
        list_of(&key["scopes"], "-"),
        list_of(&key["functions"], "*"),
        second(text("created_at")),
        match (&key["expires_at"], &key["expired"]) {
            (Value::String(at), Value::Bool(true)) => format!("{} (expired)", second(at)),
            (Value::String(at), _) => second(at),
            _ => "never".into(),
        },
        last_four,
    ]
}

fn until(key: &Value) -> String {
    match key["expires_at"].as_str() {
        Some(at) => format!("until {}", second(at)),
        None => "for good".into(),
    }
}

/// To the second, and without the letters around it.
fn second(time: &str) -> String {
    time.get(..19).unwrap_or(time).replace('T', " ")
}

fn list_of(value: &Value, none: &str) -> String {
    let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
    let items: Vec<_> = items.iter().filter_map(Value::as_str).collect();
    match items.is_empty() {
        true => none.into(),
        false => items.join(","),
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

    fn key(id: &str) -> Value {
        json!({
            "id": id, "name": "shop", "scopes": ["deploy", "invoke"], "functions": ["orders-*"],
            "created_at": "2026-01-31T12:00:00.123456789Z", "expires_at": "2026-02-28T12:00:00Z", "expired": false,
            "last_four": "wxyz",
        })
    }

    async fn server() -> Server {
        Server::start(|request, _| match request.method().as_str() {
            "POST" => {
                let mut made = key("a1");
                made["key"] = "hk_a1_secret".into();
                scripted::json(201, &made)
            }
            "GET" => {
                let old = json!({
                    "id": "b2", "name": "admin", "scopes": ["admin"], "functions": [], "created_at": "2025-01-31T12:00:00Z",
                    "expires_at": null, "expired": false, "last_four": "",
                });
                let mut past = key("c3");
                past["expired"] = true.into();
                scripted::json(200, &json!({"items": [old, key("a1"), past]}))
            }
            _ => scripted::reply(204, &[], ""),
        })
        .await
    }

    async fn said(server: &Server, line: &[&str], json: bool) -> (String, String) {
        let client = Client::new(&server.url, None).expect("a client");
        let (mut output, out, err) = captured::output(json);
        let line = Line::try_parse_from(["key"].iter().chain(line)).expect("good flags");
        run(line.args, &client, &mut output).await.expect("done");
        (out.text(), err.text())
    }

    #[tokio::test]
    async fn a_new_key_is_all_that_is_on_stdout() {
        let server = server().await;
        let line = [
            "create",
            "shop",
            "--scope",
            "invoke",
            "--scope",
            "deploy",
            "--function",
            "orders-*",
            "--expires",
            "30d",
        ];
        let (out, err) = said(&server, &line, false).await;
        assert_eq!(out, "hk_a1_secret\n");
        assert!(err.contains("until 2026-02-28 12:00:00"), "{err}");
        let want = json!({
            "name": "shop", "scopes": ["invoke", "deploy"], "functions": ["orders-*"], "expires_in": 30 * 24 * 3600,
        });
        assert_eq!(server.body(0), want);
        let (out, err) = said(&server, &["create", "x", "--scope", "admin"], true).await;
        let made: Value = serde_json::from_str(&out).expect("JSON");
        assert_eq!(
            (made["key"].as_str(), err.as_str()),
            (Some("hk_a1_secret"), "")
        );
        assert_eq!(server.body(1), json!({"name": "x", "scopes": ["admin"]}));
    }

    #[tokio::test]
    async fn keys_are_listed_and_revoked() {
        let server = server().await;
        let (out, _) = said(&server, &["list"], false).await;
        insta::assert_snapshot!(out, @r"
        ID  NAME   SCOPES         FUNCTIONS  CREATED              EXPIRES                        KEY
        b2  admin  admin          *          2025-01-31 12:00:00  never                          -
        a1  shop   deploy,invoke  orders-*   2026-01-31 12:00:00  2026-02-28 12:00:00            …wxyz
        c3  shop   deploy,invoke  orders-*   2026-01-31 12:00:00  2026-02-28 12:00:00 (expired)  …wxyz
        ");
        let (out, _) = said(&server, &["revoke", "a/1"], false).await;
        assert_eq!(out, "revoked a/1\n");
        let (out, _) = said(&server, &["revoke", "a1", "--force"], true).await;
        assert_eq!(out, "{\"revoked\":{\"id\":\"a1\"}}\n");
        let want = [
            "GET /keys/",
            "DELETE /keys/a%2F1",
            "DELETE /keys/a1?force=true",
        ];
        assert_eq!(server.lines(), want);
    }

    #[test]
    fn times_are_a_number_and_a_unit() {
        for (text, wanted) in [
            ("90m", 5400),
            ("12h", 43_200),
            ("30d", 2_592_000),
            ("2w", 1_209_600),
        ] {
            assert_eq!(seconds(text), Ok(wanted), "{text}");
        }
        for bad in ["", "30", "soon", "-1d", "0s", "10ms"] {
            assert!(seconds(bad).is_err(), "{bad:?}");
        }
    }
}
