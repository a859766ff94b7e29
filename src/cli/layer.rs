//! `hearth layer`: publishes, lists and deletes versions of layers.

use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use serde_json::{Value, json};

use crate::cli::client::{self, Client, Content};
use crate::cli::error::Error;
use crate::cli::list;
use crate::cli::output::Output;
use crate::cli::package::{self, Code};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Publish the next version of a layer from a directory or a zip, and print it as functions name it
    Publish {
        /// Name of the layer
        #[arg(value_name = "NAME")]
        name: String,
        /// What functions find below /opt
        #[arg(value_name = "PATH")]
        path: PathBuf,
        /// Of the version
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
    },
    /// List the versions of all layers
    #[command(visible_alias = "ls")]
    List,
    /// Delete a version: functions that have it keep it
    Delete {
        /// Name and number, like numpy:3
        #[arg(value_name = "NAME:NUMBER")]
        id: String,
    },
}

pub async fn run(args: Args, client: &Client, output: &mut Output) -> Result<(), Error> {
    match args.action {
        Action::Publish {
            name,
            path,
            description,
        } => {
            let Code::Zip(zip) = package::read(&path)? else {
                let not = format!("{} is neither a directory nor a zip", path.display());
                return Err(Error::Usage(not));
            };
            let body = json!({
                "name": name, "zip": STANDARD.encode(&zip.bytes), "description": description.unwrap_or_default(),
            });
            let content = Content::json(&body)?;
            let answer = client.send(Method::POST, "/layers/", content).await?;
            let layer: Value = client.parse(&answer)?;
            match output.json {
                true => Ok(output.document(&layer)?),
                false => Ok(output.line(&list::text(&layer, "id"))?),
            }
        }
        Action::List => layers(client, output).await,
        Action::Delete { id } => {
            let path = client::path(&["layers", &id]);
            let content = Content::default();
            client.send(Method::DELETE, &path, content).await?;
            match output.json {
                true => Ok(output.document(&json!({ "deleted": { "layer": id } }))?),
                false => Ok(output.line(&format!("deleted {id}"))?),
            }
        }
    }
}

async fn layers(client: &Client, output: &mut Output) -> Result<(), Error> {
    let layers = list::pages(client, "/layers/").await?;
    if output.json {
        return Ok(output.document(&json!({ "items": layers }))?);
    }
    if layers.is_empty() {
        return Ok(output.talk("there are no layers; 'hearth layer publish' makes one")?);
    }
    let heading = ["LAYER", "DESCRIPTION", "UNPACKED", "PUBLISHED"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    rows.extend(layers.iter().map(|layer| {
        vec![
            list::text(layer, "id"),
            list::text(layer, "description"),
            layer["unpacked_size"].to_string(),
            list::second(&list::text(layer, "created_at")),
        ]
    }));
    Ok(output.rows(&rows)?)
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
            let layer = json!({
                "id": "lib:3", "description": "", "unpacked_size": 1234, "created_at": "2026-01-31T12:00:00.123456789Z",
            });
            match request.method().as_str() {
                "POST" => scripted::json(201, &layer),
                "GET" => scripted::json(200, &json!({"items": [layer], "next": null})),
                _ => scripted::reply(204, &[], ""),
            }
        })
        .await
    }

    async fn done(server: &Server, line: &[&str]) -> Result<String, Error> {
        let client = Client::new(&server.url, None).expect("a client");
        let (mut output, out, _) = captured::output(false);
        let line = Line::try_parse_from(["layer"].iter().chain(line)).expect("good flags");
        run(line.args, &client, &mut output).await?;
        Ok(out.text())
    }

    #[tokio::test]
    async fn a_version_is_published_listed_and_deleted() {
        let server = server().await;
        let dir = tempfile::tempdir().expect("temp dir");
        std::fs::write(dir.path().join("shared.txt"), "shared").expect("written");
        let path = dir.path().to_str().expect("UTF-8");
        let line = ["publish", "lib", path, "--description", "d"];
        assert_eq!(done(&server, &line).await.expect("done"), "lib:3\n");
        let body = server.body(0);
        assert_eq!(
            (&body["name"], &body["description"]),
            (&json!("lib"), &json!("d"))
        );
        let zip = STANDARD.decode(body["zip"].as_str().expect("a text"));
        let zip = zip::ZipArchive::new(std::io::Cursor::new(zip.expect("base64")));
        let mut zip = zip.expect("a zip");
        assert_eq!((zip.len(), zip.by_name("shared.txt").is_ok()), (1, true));
        insta::assert_snapshot!(done(&server, &["list"]).await.expect("done"), @r"
        LAYER  DESCRIPTION  UNPACKED  PUBLISHED
        lib:3  -            1234      2026-01-31 12:00:00
        ");
        let deleted = done(&server, &["delete", "lib:3"]).await.expect("done");
        assert_eq!(deleted, "deleted lib:3\n");
        let want = [
            "POST /layers/",
            "GET /layers/?limit=100",
            "DELETE /layers/lib%3A3",
        ];
        assert_eq!(server.lines(), want);
        let source = dir.path().join("shared.txt");
        let line = ["publish", "lib", source.to_str().expect("UTF-8")];
        let refused = done(&server, &line).await;
        assert!(matches!(refused, Err(Error::Usage(_))), "{refused:?}");
    }
}
