//! Sends one message to a queue of the service that speaks SQS, and says whether it may be taken later if it was not taken. Called by the queue of
//! asynchronous calls, through `app`, which tries again when it is told to.

use bytes::Bytes;
use serde_json::json;

use crate::domain::mapping::Queue;
use crate::queue::carrier;
use crate::sources::queues::{Queues, Refusal};

/// `attributes` are those of the message, as JSON.
pub async fn send(
    queues: &Queues,
    queue: &Queue,
    body: Bytes,
    attributes: Option<String>,
) -> Result<(), carrier::Refusal> {
    let sent = try_send(queues, queue, body, attributes).await;
    sent.map_err(|refusal| carrier::Refusal {
        message: refusal.to_string(),
        // Whoever runs the service may see to all but what is wrong with the message itself.
        for_now: !matches!(refusal, Refusal::NoQueue | Refusal::Refused { .. }),
    })
}

async fn try_send(
    queues: &Queues,
    queue: &Queue,
    body: Bytes,
    attributes: Option<String>,
) -> Result<(), Refusal> {
    let mut told = json!({
        "QueueUrl": queues.url(queue).await?,
        "MessageBody": String::from_utf8_lossy(&body),
    });
    if let Some(attributes) = attributes {
        told["MessageAttributes"] = serde_json::from_str(&attributes).unwrap_or_default();
    }
    queues.send(told).await
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::Value;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::api::sqs;
    use crate::config;
    use crate::task;

    /// A service with these answers, one after the other; tells what it was asked.
    async fn told(answers: Vec<(&'static str, &'static str)>) -> (Result<(), bool>, Vec<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let served = task::spawn(task::Kind::Local, "queues", async move {
            let mut asked = Vec::new();
            for (status, body) in answers {
                let (mut stream, _) = listener.accept().await.expect("a request");
                let mut got = Vec::new();
                while !got.ends_with(b"}") {
                    let mut piece = [0; 4096];
                    let read = stream.read(&mut piece).await.expect("reads");
                    got.extend_from_slice(&piece[..read]);
                }
                let head = format!(
                    "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                );
                stream.write_all(head.as_bytes()).await.expect("writes");
                let got = String::from_utf8_lossy(&got).into_owned();
                let (_, body) = got.split_once("\r\n\r\n").expect("a body");
                asked.push(body.to_owned());
            }
            asked
        });
        let queues = sqs::queues(&config::Service {
            endpoint: format!("http://{address}"),
            access_key: "hearth".into(),
            secret_key: "hidden".into(),
            region: "us-east-1".into(),
            timeout: Duration::from_secs(20),
        });
        let queues = queues.expect("an endpoint");
        let queue = Queue::try_from("arn:aws:sqs:us-east-1:000000000000:failed".to_owned());
        let attributes = Some(r#"{"a":{"DataType":"String","StringValue":"b"}}"#.to_owned());
        let body = Bytes::from_static(b"{}");
        let sent = send(&queues, &queue.expect("an ARN"), body, attributes).await;
        let asked = served.await.expect("ends").expect("is served");
        (sent.map_err(|refusal| refusal.for_now), asked)
    }

    #[tokio::test]
    async fn a_message_is_sent_with_its_attributes() {
        let url = ("200 OK", r#"{"QueueUrl": "http://x/failed"}"#);
        let (sent, asked) = told(vec![url, ("200 OK", "{}")]).await;
        assert_eq!(sent, Ok(()));
        let asked: Vec<Value> = asked
            .iter()
            .map(|body| serde_json::from_str(body).expect("JSON"))
            .collect();
        assert_eq!(
            asked,
            [
                json!({"QueueName": "failed", "QueueOwnerAWSAccountId": "000000000000"}),
                json!({
                    "QueueUrl": "http://x/failed", "MessageBody": "{}",
                    "MessageAttributes": {"a": {"DataType": "String", "StringValue": "b"}},
                }),
            ]
        );
    }

    #[tokio::test]
    async fn what_may_be_mended_is_tried_for_longer() {
        for (status, body, for_now) in [
            ("400 Bad", r#"{"__type": "x#QueueDoesNotExist"}"#, false),
            (
                "400 Bad",
                r#"{"__type": "x#InvalidMessageContents"}"#,
                false,
            ),
            ("403 No", r#"{"__type": "x#AccessDeniedException"}"#, true),
            ("403 No", r#"{"__type": "InvalidClientTokenId"}"#, true),
            ("503 Busy", r#"{"__type": "ServiceUnavailable"}"#, true),
        ] {
            assert_eq!(told(vec![(status, body)]).await.0, Err(for_now), "{body}");
        }
    }
}
