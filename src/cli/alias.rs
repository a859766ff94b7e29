//! `hearth alias`: points names at versions of a function, lists and deletes them.

use http::Method;
use serde_json::{Value, json};

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
    /// Point an alias at a version, or at two; make it if there is none
    #[command(after_help = "\
Examples:
  hearth alias set shop live 3
  hearth alias set shop live 3 --second 4 --weight 0.1    # a tenth of the calls goes to version 4")]
    Set(Set),
    /// List the aliases of a function
    #[command(visible_alias = "ls")]
    List {
        /// Name or id of the function
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Delete an alias
    Delete {
        /// Name or id of the function
        #[arg(value_name = "NAME")]
        name: String,
        /// The alias
        #[arg(value_name = "ALIAS")]
        alias: String,
    },
}

#[derive(Debug, clap::Args)]
struct Set {
    /// Name or id of the function
    #[arg(value_name = "NAME")]
    name: String,
    /// The alias
    #[arg(value_name = "ALIAS")]
    alias: String,
    /// Number of a version, or $LATEST
    #[arg(value_name = "VERSION")]
    version: String,
    /// Another version, which gets a share of the calls
    #[arg(long, value_name = "VERSION", requires = "weight")]
    second: Option<String>,
    /// That share, from 0.0 to 1.0
    #[arg(long, value_name = "SHARE", requires = "second")]
    weight: Option<f64>,
    /// What the alias is for
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
}

pub async fn run(args: Args, client: &Client, output: &mut Output) -> Result<(), Error> {
    match args.action {
        Action::Set(set) => set.run(client, output).await,
        Action::List { name } => aliases(&name, client, output).await,
        Action::Delete { name, alias } => delete(&name, &alias, client, output).await,
    }
}

impl Set {
    async fn run(self, client: &Client, output: &mut Output) -> Result<(), Error> {
        let second = self.second.as_ref().zip(self.weight);
        let second = second.map(|(version, weight)| json!({"version": version, "weight": weight}));
        let mut body = json!({"version": self.version, "second": second});
        if let Some(description) = &self.description {
            body["description"] = description.as_str().into();
        }
        let aliases = ["functions", self.name.as_str(), "aliases"];
        let path = client::path(&[&aliases[..], &[self.alias.as_str()]].concat());
        let content = Content::json(&body)?;
        let answer = match client.send(Method::PUT, &path, content).await {
            // Or there is no such function or version; then making it says so too.
            Err(client::Error::Refused(refusal)) if refusal.status == 404 => {
                body["name"] = self.alias.as_str().into();
                let content = Content::json(&body)?;
                let path = client::path(&aliases);
                client.send(Method::POST, &path, content).await?
            }
            answer => answer?,
        };
        let alias: Value = client.parse(&answer)?;
        if output.json {
            return Ok(output.document(&alias)?);
        }
        let to = points_at(&alias);
        Ok(output.line(&format!("{}:{} is {to}", self.name, self.alias))?)
    }
}

/// `3`, or `3 and 10% to 4`.
fn points_at(alias: &Value) -> String {
    let first = alias["version"].as_str().unwrap_or("-");
    match (
        alias["second"]["version"].as_str(),
        alias["second"]["weight"].as_f64(),
    ) {
        (Some(second), Some(weight)) => {
            // To what a person reads: 0.1 is no more 10.000000000000002.
            let share = (weight * 1e6).round() / 1e4;
            format!("{first}, {share}% {second}")
        }
        _ => first.into(),
    }
}

async fn aliases(name: &str, client: &Client, output: &mut Output) -> Result<(), Error> {
    let path = client::path(&["functions", name, "aliases"]);
    let aliases = list::pages(client, &path).await?;
    if output.json {
        return Ok(output.document(&json!({ "items": aliases }))?);
    }
    if aliases.is_empty() {
        let none = format!("{name:?} has no aliases; 'hearth alias set {name} …' makes one");
        return Ok(output.talk(&none)?);
    }
    let mut rows = vec![["ALIAS", "VERSION", "DESCRIPTION", "UPDATED"].map(str::to_owned)];
    rows.extend(aliases.iter().map(|alias| {
        let text = |field: &str| list::text(alias, field);
        [
            text("name"),
            points_at(alias),
            text("description"),
            list::second(&text("updated_at")),
        ]
    }));
    let rows: Vec<_> = rows.into_iter().map(Vec::from).collect();
    Ok(output.rows(&rows)?)
}

async fn delete(
    name: &str,
    alias: &str,
    client: &Client,
    output: &mut Output,
) -> Result<(), Error> {
    let path = client::path(&["functions", name, "aliases", alias]);
    let content = Content::default();
    client.send(Method::DELETE, &path, content).await?;
    if output.json {
        let deleted = json!({ "deleted": { "function": name, "alias": alias } });
        return Ok(output.document(&deleted)?);
    }
    Ok(output.line(&format!("deleted {name}:{alias}"))?)
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
        Server::start(|request, _| {
            let alias = |second: Value| {
                json!({
                    "name": "live", "version": "3", "second": second, "description": "",
                    "updated_at": "2026-01-31T12:00:00.123456789Z",
                })
            };
            let two = alias(json!({"version": "4", "weight": 0.1}));
            match (request.method().as_str(), request.uri().path()) {
                ("PUT", "/functions/f/aliases/new") => {
                    let error = json!({"error": {"code": "not_found", "message": "there is none", "retry": "never"}});
                    scripted::json(404, &error)
                }
                ("PUT", _) => scripted::json(200, &two),
                ("POST", _) => scripted::json(201, &alias(Value::Null)),
                ("GET", _) => scripted::json(200, &json!({"items": [two], "next": null})),
                _ => scripted::reply(204, &[], ""),
            }
        })
        .await
    }

    async fn said(server: &Server, line: &[&str]) -> String {
        let client = Client::new(&server.url, None).expect("a client");
        let (mut output, out, _) = captured::output(false);
        let line = Line::try_parse_from(["alias"].iter().chain(line)).expect("good flags");
        run(line.args, &client, &mut output).await.expect("done");
        out.text()
    }

    #[tokio::test]
    async fn an_alias_is_moved_or_made() {
        let server = server().await;
        let line = ["set", "f", "live", "3", "--second", "4", "--weight", "0.1"];
        assert_eq!(said(&server, &line).await, "f:live is 3, 10% 4\n");
        let two = json!({"version": "3", "second": {"version": "4", "weight": 0.1}});
        assert_eq!(server.body(0), two);
        assert_eq!(
            said(&server, &["set", "f", "new", "3"]).await,
            "f:new is 3\n"
        );
        let made = json!({"name": "new", "version": "3", "second": null});
        assert_eq!(server.body(2), made);
        let want = [
            "PUT /functions/f/aliases/live",
            "PUT /functions/f/aliases/new",
            "POST /functions/f/aliases",
        ];
        assert_eq!(server.lines(), want);
        for half in ["--second", "--weight"] {
            let line = ["alias", "set", "f", "live", "3", half, "1"];
            assert!(Line::try_parse_from(line).is_err(), "{half} alone");
        }
    }

    #[tokio::test]
    async fn aliases_are_listed_and_deleted() {
        let server = server().await;
        insta::assert_snapshot!(said(&server, &["list", "f"]).await, @r"
        ALIAS  VERSION   DESCRIPTION  UPDATED
        live   3, 10% 4  -            2026-01-31 12:00:00
        ");
        let deleted = said(&server, &["delete", "f", "live"]).await;
        assert_eq!(deleted, "deleted f:live\n");
        assert_eq!(server.lines()[1], "DELETE /functions/f/aliases/live");
    }
}
