//! What ARNs stand for as destinations of asynchronous calls. Called by `check`; what is wrong here would be noticed otherwise when it is used.

use toml::Value;

use crate::config::Aws;
use crate::config::check::region;
use crate::domain::destination::Destination;

/// Each ARN and each destination once, so that both ways lead to one.
pub(super) fn read(value: &Value) -> Result<Vec<(String, Destination)>, String> {
    let list = value.as_array().expect("typed by its default").iter();
    let mut pairs: Vec<(String, Destination)> = Vec::new();
    for item in list {
        let text = item.as_str().expect("typed by its default");
        let pair = text.split_once('=').map(|(a, d)| (a.trim(), d.trim()));
        let (arn, destination) =
            pair.ok_or_else(|| format!("{text:?} is no pair, expected ARN=DESTINATION"))?;
        if !is_arn(arn) {
            return Err(format!(
                "{arn:?} is no ARN, expected one like arn:aws:sns:us-east-1:000000000000:topic"
            ));
        }
        let destination =
            Destination::parse(destination).map_err(|why| format!("{destination:?} {why}"))?;
        if pairs.iter().any(|(a, d)| a == arn || *d == destination) {
            return Err(format!(
                "{text:?} has an ARN or a destination that another has"
            ));
        }
        pairs.push((arn.into(), destination));
    }
    Ok(pairs)
}

/// Whether a client could name it as a destination: others are refused before anybody looks what they stand for.
fn is_arn(text: &str) -> bool {
    let parts: Vec<_> = text.splitn(6, ':').collect();
    let &["arn", partition, service, of, account, rest] = &parts[..] else {
        return false;
    };
    let word = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    let is_account = account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit());
    partition.starts_with("aws")
        && word(partition)
        && !service.is_empty()
        && word(service)
        && (of.is_empty() || region(of).is_ok())
        && (account.is_empty() || is_account)
        && !rest.is_empty()
}

/// Why nothing can be sent to one that is a queue, if there is such.
pub(super) fn unsent(aws: &Aws) -> Option<String> {
    let region = aws.sqs.as_ref().map(|sqs| &sqs.service.region);
    let mut queues = aws.destinations.iter().filter_map(|(_, to)| match to {
        Destination::Queue(queue) => Some(queue),
        _ => None,
    });
    let queue = queues.find(|queue| region != Some(&queue.region))?;
    let queue = queue.to_string();
    Some(format!(
        "{queue:?} is no queue of the service and the region that aws.sqs says"
    ))
}
