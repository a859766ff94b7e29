//! `hearth list`: every function, page by page, as a table or as JSON.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::cli::client::{self, Client};
use crate::cli::error::Error;
use crate::cli::output::{self, Output, Tone};

#[derive(Debug, clap::Args)]
pub struct Args {}

#[derive(Deserialize)]
struct Page {
    items: Vec<Value>,
    #[serde(default)]
    next: Option<String>,
}

pub async fn run(_: Args, client: &Client, output: &mut Output) -> Result<(), Error> {
    let functions = all(client).await?;
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
    let lines = output::table(&rows);
    for (i, line) in lines.iter().enumerate() {
        let line = if i == 0 {
            output.paint(Tone::Heading, line)
        } else {
            line.clone()
        };
        output.line(&line)?;
    }
    Ok(())
}

async fn all(client: &Client) -> Result<Vec<Value>, Error> {
    let mut functions = Vec::new();
    let mut path = "/functions/?limit=100".to_owned();
    loop {
        let page: Page = client.get(&path).await?;
        let empty = page.items.is_empty();
        functions.extend(page.items);
        match page.next {
            // A page without anything in it ends the listing too: a server that went on for ever would be a broken one.
            Some(next) if !empty => {
                path = "/functions/?limit=100&cursor=".into();
                client::escape(&next, &mut path);
            }
            _ => return Ok(functions),
        }
    }
}

fn row(function: &Value) -> Vec<String> {
    let text = |field: &str| function[field].as_str().unwrap_or("-").to_owned();
    // To the second, and without the letters around it.
    let updated = text("updated_at");
    let updated = updated.get(..19).unwrap_or(&updated).replace('T', " ");
    vec![
        text("name"),
        text("language"),
        text("handler"),
        format!("{} MiB", function["memory"]),
        format!("{} s", function["timeout"]),
        text("route"),
        updated,
    ]
}
