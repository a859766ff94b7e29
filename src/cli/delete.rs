//! `hearth delete`: removes a function, after a question where somebody is there to answer it.

use std::io::{BufRead, IsTerminal};

use http::Method;
use serde_json::{Value, json};

use crate::cli::client::{self, Client, Content};
use crate::cli::error::Error;
use crate::cli::output::Output;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name or id of the function
    #[arg(value_name = "NAME")]
    name: String,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

pub async fn run(args: Args, client: &Client, output: &mut Output) -> Result<(), Error> {
    let path = client::path(&["functions", &args.name]);
    // Asked for first, so that nobody is asked about a function that is not there.
    let function: Value = client.get(&path).await?;
    let name = function["name"].as_str().unwrap_or(&args.name).to_owned();
    if !args.yes {
        confirm(&name, output)?;
    }
    client
        .send(Method::DELETE, &path, Content::default())
        .await?;
    if output.json {
        return Ok(output.document(&json!({ "deleted": { "id": function["id"], "name": name } }))?);
    }
    Ok(output.line(&format!("deleted {name}"))?)
}

fn confirm(name: &str, output: &mut Output) -> Result<(), Error> {
    if !std::io::stdin().is_terminal() || output.json {
        return Err(Error::Usage(format!(
            "deleting {name:?} cannot be undone: say --yes where nobody can be asked"
        )));
    }
    output.ask(&format!(
        "Delete {name:?} and its code? This cannot be undone. [y/N] "
    ))?;
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    read.map_err(|source| Error::Read {
        what: "the answer".into(),
        source,
    })?;
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Error::Declined),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::captured;
    use crate::cli::scripted::{self, Server};

    async fn server() -> Server {
        Server::start(|request, _| match request.method().as_str() {
            "GET" => scripted::json(200, &json!({"id": "id-1", "name": "hello"})),
            _ => scripted::reply(204, &[], ""),
        })
        .await
    }

    async fn delete(server: &Server, yes: bool, json: bool) -> (Result<(), Error>, String) {
        let client = Client::new(&server.url, None).expect("a client");
        let (mut output, out, _) = captured::output(json);
        let name = "hello".to_owned();
        let done = run(Args { name, yes }, &client, &mut output).await;
        (done, out.text())
    }

    #[tokio::test]
    async fn what_is_sure_is_deleted() {
        let server = server().await;
        let (done, out) = delete(&server, true, false).await;
        done.expect("deleted");
        assert_eq!(out, "deleted hello\n");
        assert_eq!(
            server.lines(),
            ["GET /functions/hello", "DELETE /functions/hello"]
        );
    }

    #[tokio::test]
    async fn a_program_must_say_that_it_is_sure() {
        let server = server().await;
        let (done, _) = delete(&server, false, true).await;
        assert_eq!(done.expect_err("refused").exit_code(), 2);
        assert_eq!(server.lines(), ["GET /functions/hello"]);
        let (done, out) = delete(&server, true, true).await;
        done.expect("deleted");
        assert_eq!(out, "{\"deleted\":{\"id\":\"id-1\",\"name\":\"hello\"}}\n");
    }
}
