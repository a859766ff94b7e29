//! A bootstrap on the `lambda_runtime` crate. What it does is what the event's `do` says; the cases are in ../rust.toml.

use std::pin::Pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use lambda_runtime::{
    Diagnostic, Error, FunctionResponse, LambdaEvent, MetadataPrelude, StreamResponse, service_fn,
};
use serde_json::{Value, json};
use tokio_stream::{Stream, StreamExt};

type Pieces = Pin<Box<dyn Stream<Item = Result<Bytes, Error>> + Send>>;
type Answer = FunctionResponse<Value, Pieces>;

fn main() -> Result<(), Error> {
    println!("loading");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(lambda_runtime::run(service_fn(handle)))
}

async fn handle(event: LambdaEvent<Value>) -> Result<Answer, Diagnostic> {
    let (event, context) = event.into_parts();
    let answer = match event["do"].as_str().unwrap_or("echo") {
        "describe" => {
            println!("describing");
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            let now = now.map_or(u64::MAX, |now| now.as_millis() as u64);
            let client = context.client_context.as_ref();
            json!({
                "request_id": context.request_id,
                "function_name": context.env_config.function_name,
                "memory_mb": context.env_config.memory,
                "log_stream": context.env_config.log_stream,
                "arn": context.invoked_function_arn,
                "trace_id": context.xray_trace_id,
                "client_custom": client.map(|client| &client.custom),
                "app_title": client.map(|client| &client.client.app_title),
                "identity": context.identity.as_ref().map(|identity| &identity.identity_id),
                "in_time": context.deadline > now && context.deadline - now <= 10_000,
            })
        }
        "fail" => {
            return Err(Diagnostic {
                error_type: "ContractError".into(),
                error_message: format!("no such thing: {}", event["thing"]),
            });
        }
        "panic" => panic!("out of luck"),
        "answer" => {
            let length = event["bytes"].as_u64().unwrap_or_default() as usize;
            Value::String("x".repeat(length.saturating_sub(2)))
        }
        "stream" => {
            let pieces = event["pieces"].as_array().cloned().unwrap_or_default();
            let pieces = tokio_stream::iter(pieces).map(|piece| {
                println!("sending {piece}");
                match piece.as_str() {
                    Some(text) => Ok(Bytes::from(text.to_owned())),
                    None => Err(Error::from(format!("no such piece: {piece}"))),
                }
            });
            let mut metadata_prelude = MetadataPrelude::default();
            metadata_prelude.cookies.push("seen=1".into());
            return Ok(FunctionResponse::StreamingResponse(StreamResponse {
                metadata_prelude,
                stream: Box::pin(pieces),
            }));
        }
        "wait" => {
            println!("running");
            tokio::time::sleep(Duration::from_secs(60)).await;
            json!("not told")
        }
        "exit" => std::process::exit(event["status"].as_i64().unwrap_or(1) as i32),
        _ => event,
    };
    Ok(FunctionResponse::BufferedResponse(answer))
}
