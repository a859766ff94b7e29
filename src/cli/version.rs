//! `hearth version`: publishes, lists and deletes versions of a function.

use http::Method;
use serde_json::{Map, Value, json};

use crate::cli::client::{self, Client, Content};
use crate::cli::error::Error;
use crate::cli::list;
use crate::cli::output::Output;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Publish the function as it is, and print the version's number
    Publish(Publish),
    /// List the versions of a function
    #[command(visible_alias = "ls")]
    List {
        /// Name or id of the function
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Delete a version that no alias points at
    Delete {
        /// Name or id of the function
        #[arg(value_name = "NAME")]
        name: String,
        /// The version
        #[arg(value_name = "NUMBER")]
        number: u64,
    },
}

#[derive(Debug, clap::Args)]
struct Publish {
    /// Name or id of the function
    #[arg(value_name = "NAME")]
    name: String,
    /// Of the version [default: the function's]
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Refuse if the function's code is another: SHA-256 of the zip, in hex
    #[arg(long, value_name = "HASH")]
    code_sha256: Option<String>,
    /// Refuse if the function is at another revision
    #[arg(long, value_name = "NUMBER")]
    revision: Option<u64>,
}

pub async fn run(args: Args, client: &Client, output: &mut Output) -> Result<(), Error> {
    match args.action {
        Action::Publish(publish) => publish.run(client, output).await,
        Action::List { name } => versions(&name, client, output).await,
        Action::Delete { name, number } => delete(&name, number, client, output).await,
    }
}

impl Publish {
    async fn run(self, client: &Client, output: &mut Output) -> Result<(), Error> {
        let mut body = Map::new();
        let mut add = |field: &str, value: Option<Value>| {
            value.map(|value| body.insert(field.into(), value));
        };
        add("description", self.description.map(Value::from));
        add("code_sha256", self.code_sha256.map(Value::from));
        add("revision", self.revision.map(Value::from));
        let path = client::path(&["functions", &self.name, "versions"]);
        let content = Content::json(&body)?;
        let answer = client.send(Method::POST, &path, content).await?;
        let version: Value = client.parse(&answer)?;
        if output.json {
            return Ok(output.document(&version)?);
        }
        let number = &version["number"];
        // Only what was made has a place.
        let said = match client::header(&answer.headers, "location") {
            "" => format!("nothing was changed since {}:{number}", self.name),
            _ => format!("published {}:{number}", self.name),
        };
        output.talk(&said)?;
        // Alone on stdout, so that a script can take it.
        Ok(output.line(&number.to_string())?)
    }
}

async fn versions(name: &str, client: &Client, output: &mut Output) -> Result<(), Error> {
    let path = client::path(&["functions", name, "versions"]);
    let versions = list::pages(client, &path).await?;
    if output.json {
        return Ok(output.document(&json!({ "items": versions }))?);
    }
    if versions.is_empty() {
        let none = format!("{name:?} has no versions; 'hearth version publish {name}' makes one");
        return Ok(output.talk(&none)?);
    }
    let heading = ["VERSION", "DESCRIPTION", "RUNTIME", "HANDLER", "PUBLISHED"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    rows.extend(versions.iter().map(|version| {
        let text = |field: &str| list::text(version, field);
        vec![
            version["number"].to_string(),
            text("description"),
            text("language"),
            text("handler"),
            list::second(&text("created_at")),
        ]
    }));
    Ok(output.rows(&rows)?)
}

async fn delete(
    name: &str,
    number: u64,
    client: &Client,
    output: &mut Output,
) -> Result<(), Error> {
    let number = number.to_string();
    let path = client::path(&["functions", name, "versions", &number]);
    let content = Content::default();
    client.send(Method::DELETE, &path, content).await?;
    if output.json {
        let deleted = json!({ "deleted": { "function": name, "version": number } });
        return Ok(output.document(&deleted)?);
    }
    Ok(output.line(&format!("deleted {name}:{number}"))?)
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

    async fn server() -> Server {
        Server::start(|request, before| {
            let version = |number: u64, description: &str| {
                json!({
                    "number": number, "description": description, "language": "abc3", "handler": "app.handler",
                    "created_at": "2026-01-31T12:00:00.123456789Z",
                })
            };
            match request.method().as_str() {
                "POST" if before == 0 => {
                    let made = version(1, "").to_string();
                    scripted::reply(201, &[("location", "/functions/f/versions/1")], made)
                }
                "POST" => scripted::json(200, &version(1, "")),
                "GET" => {
                    let both = [version(1, ""), version(12, "faster")];
                    scripted::json(200, &json!({"items": both, "next": null}))
                }
                _ => scripted::reply(204, &[], ""),
            }
        })
        .await
    }

    async fn said(server: &Server, line: &[&str]) -> (String, String) {
        let client = Client::new(&server.url, None).expect("a client");
        let (mut output, out, err) = captured::output(false);
        let line = Line::try_parse_from(["version"].iter().chain(line)).expect("good flags");
        run(line.args, &client, &mut output).await.expect("done");
        (out.text(), err.text())
    }

    #[tokio::test]
    async fn a_number_is_all_that_is_on_stdout() {
        let server = server().await;
        let line = ["publish", "f", "--description", "d", "--revision", "7"];
        let (out, err) = said(&server, &line).await;
        assert_eq!((out.as_str(), err.trim()), ("1\n", "published f:1"));
        assert_eq!(server.body(0), json!({"description": "d", "revision": 7}));
        let (out, err) = said(&server, &["publish", "f"]).await;
        assert_eq!(out, "1\n");
        assert!(err.contains("nothing was changed"), "{err}");
        assert_eq!(server.body(1), json!({}));
    }

    #[tokio::test]
    async fn versions_are_listed_and_deleted() {
        let server = server().await;
        let (out, _) = said(&server, &["list", "f"]).await;
        insta::assert_snapshot!(out, @r"
        VERSION  DESCRIPTION  RUNTIME  HANDLER      PUBLISHED
        1        -            abc3     app.handler  2026-01-31 12:00:00
        12       faster       abc3     app.handler  2026-01-31 12:00:00
        ");
        let (out, _) = said(&server, &["delete", "f", "12"]).await;
        assert_eq!(out, "deleted f:12\n");
        let want = [
            "GET /functions/f/versions?limit=100",
            "DELETE /functions/f/versions/12",
        ];
        assert_eq!(server.lines(), want);
    }
}
