//! `hearth url`: makes, changes, lists and deletes function URLs.

use clap::builder::PossibleValuesParser;
use http::Method;
use serde_json::{Map, Value, json};

use crate::cli::client::{self, Client, Content};
use crate::cli::error::Error;
use crate::cli::list;
use crate::cli::output::Output;
use crate::domain::function::LATEST;
use crate::domain::url::{AuthType, InvokeMode};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Make the URL of a function or an alias, or change the one there is, and print it
    Set(Set),
    /// List the URLs of a function
    #[command(visible_alias = "ls")]
    List {
        /// Name or id of the function
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Delete a URL: nobody is answered there any more
    Delete {
        /// Name or id of the function
        #[arg(value_name = "NAME")]
        name: String,
        /// The alias it is of [default: the function itself]
        #[arg(long, value_name = "ALIAS")]
        alias: Option<String>,
    },
}

#[derive(Debug, clap::Args)]
struct Set {
    /// Name or id of the function
    #[arg(value_name = "NAME")]
    name: String,
    /// The alias it leads to [default: the function itself]
    #[arg(long, value_name = "ALIAS")]
    alias: Option<String>,
    /// Who may call: everybody, or who signs as AWS's clients do; a new one needs it
    #[arg(long, value_name = "TYPE", value_parser = PossibleValuesParser::new(AuthType::NAMES))]
    auth: Option<String>,
    /// Whether answers are read whole, or passed on as they come [default: BUFFERED]
    #[arg(long, value_name = "MODE", value_parser = PossibleValuesParser::new(InvokeMode::NAMES))]
    mode: Option<String>,
    /// Pages of this origin may call from a browser, `*` is all; may be given more than once
    #[arg(long, value_name = "URL")]
    origin: Vec<String>,
}

fn path(name: &str, alias: Option<&str>) -> String {
    let mut path = client::path(&["functions", name, "urls"]);
    if let Some(alias) = alias {
        path.push_str("?qualifier=");
        client::escape(alias, &mut path);
    }
    path
}

/// As it can be called from here.
fn whole(client: &Client, url: &Value) -> String {
    let path = url["url"].as_str().unwrap_or_default();
    format!("{}{path}", client.url().trim_end_matches('/'))
}

pub async fn run(args: Args, client: &Client, output: &mut Output) -> Result<(), Error> {
    match args.action {
        Action::Set(set) => set.run(client, output).await,
        Action::List { name } => urls(&name, client, output).await,
        Action::Delete { name, alias } => delete(&name, alias.as_deref(), client, output).await,
    }
}

impl Set {
    async fn run(self, client: &Client, output: &mut Output) -> Result<(), Error> {
        let mut body = Map::new();
        let mut add = |field: &str, value: Option<Value>| {
            value.map(|value| body.insert(field.into(), value));
        };
        add("auth_type", self.auth.map(Value::from));
        add("invoke_mode", self.mode.map(Value::from));
        let cors = (!self.origin.is_empty()).then(|| json!({ "allow_origins": self.origin }));
        add("cors", cors);
        let path = path(&self.name, self.alias.as_deref());
        let content = Content::json(&body)?;
        let answer = client.send(Method::PUT, &path, content).await?;
        let url: Value = client.parse(&answer)?;
        match output.json {
            true => Ok(output.document(&url)?),
            false => Ok(output.line(&whole(client, &url))?),
        }
    }
}

async fn urls(name: &str, client: &Client, output: &mut Output) -> Result<(), Error> {
    let listed: Value = client.get(&path(name, None)).await?;
    if output.json {
        return Ok(output.document(&listed)?);
    }
    let urls = listed["items"].as_array().map_or(&[][..], Vec::as_slice);
    if urls.is_empty() {
        let none = format!("{name:?} has no URL; 'hearth url set {name} --auth …' makes one");
        return Ok(output.talk(&none)?);
    }
    let heading = ["OF", "AUTH", "MODE", "ORIGINS", "URL"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    rows.extend(urls.iter().map(|url| {
        let origins = url["cors"]["allow_origins"].as_array().map(|list| {
            let texts = list.iter().filter_map(Value::as_str);
            texts.collect::<Vec<_>>().join(", ")
        });
        vec![
            list::text(url, "qualifier"),
            list::text(url, "auth_type"),
            list::text(url, "invoke_mode"),
            origins.unwrap_or_else(|| "-".into()),
            whole(client, url),
        ]
    }));
    Ok(output.rows(&rows)?)
}

async fn delete(
    name: &str,
    alias: Option<&str>,
    client: &Client,
    output: &mut Output,
) -> Result<(), Error> {
    let content = Content::default();
    client
        .send(Method::DELETE, &path(name, alias), content)
        .await?;
    let qualifier = alias.unwrap_or(LATEST);
    if output.json {
        let deleted = json!({ "deleted": { "function": name, "qualifier": qualifier } });
        return Ok(output.document(&deleted)?);
    }
    Ok(output.line(&format!("deleted the URL of {name}:{qualifier}"))?)
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
            let url = json!({
                "qualifier": "$LATEST", "auth_type": "NONE", "invoke_mode": "BUFFERED",
                "cors": {"allow_origins": ["https://a", "https://b"]}, "url": "/lambda-url/abc/",
            });
            let bare = json!({
                "qualifier": "live", "auth_type": "AWS_IAM", "invoke_mode": "RESPONSE_STREAM", "cors": null,
                "url": "/lambda-url/def/",
            });
            match request.method().as_str() {
                "PUT" => scripted::json(201, &url),
                "GET" => scripted::json(200, &json!({"items": [url, bare]})),
                _ => scripted::reply(204, &[], ""),
            }
        })
        .await
    }

    async fn said(server: &Server, line: &[&str]) -> String {
        let client = Client::new(&server.url, None).expect("a client");
        let (mut output, out, _) = captured::output(false);
        let line = Line::try_parse_from(["url"].iter().chain(line)).expect("good flags");
        run(line.args, &client, &mut output).await.expect("done");
        out.text()
    }

    #[tokio::test]
    async fn a_url_is_set_listed_and_deleted() {
        let server = server().await;
        let line = ["set", "f", "--auth", "NONE", "--origin", "*"];
        let want = format!("{}/lambda-url/abc/\n", server.url);
        assert_eq!(said(&server, &line).await, want);
        let body = json!({"auth_type": "NONE", "cors": {"allow_origins": ["*"]}});
        assert_eq!(server.body(0), body);
        let line = ["set", "f", "--alias", "live", "--mode", "RESPONSE_STREAM"];
        said(&server, &line).await;
        assert_eq!(server.body(1), json!({"invoke_mode": "RESPONSE_STREAM"}));
        let listed = said(&server, &["list", "f"]).await;
        insta::assert_snapshot!(listed.replace(&server.url, "http://here"), @r"
        OF       AUTH     MODE             ORIGINS               URL
        $LATEST  NONE     BUFFERED         https://a, https://b  http://here/lambda-url/abc/
        live     AWS_IAM  RESPONSE_STREAM  -                     http://here/lambda-url/def/
        ");
        let deleted = said(&server, &["delete", "f", "--alias", "live"]).await;
        assert_eq!(deleted, "deleted the URL of f:live\n");
        let want = [
            "PUT /functions/f/urls",
            "PUT /functions/f/urls?qualifier=live",
            "GET /functions/f/urls",
            "DELETE /functions/f/urls?qualifier=live",
        ];
        assert_eq!(server.lines(), want);
        let odd = ["url", "set", "f", "--auth", "none"];
        assert!(Line::try_parse_from(odd).is_err());
    }
}
