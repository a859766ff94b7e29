//! Destinations as AWS's clients name them. A function's ARN is that function, a queue's that queue; what else an ARN stands for, the configuration
//! says; the native forms are taken too, because they are what is shown of a destination that no ARN stands for.

use crate::api::lambda::Lambda;
use crate::api::lambda::errors::Refusal;
use crate::api::lambda::fields::Fields;
use crate::api::lambda::names::{self, Form, Named};
use crate::domain::destination::Destination;
use crate::domain::mapping::Queue;
use crate::domain::version::Qualifier;
use crate::sources::queues;

/// As AWS prints it in its messages.
const PATTERN: &str = r"$|kafka://([^.]([a-zA-Z0-9\-_.]{0,248}))|arn:(aws[a-zA-Z0-9-]*):([a-zA-Z0-9\-])+:((eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1})?:(\d{12})?:(.*)";
const LENGTH_MAX: usize = 350;
/// What may be a destination on AWS, beside functions.
const SERVICES: [&str; 4] = ["sqs", "sns", "events", "s3"];

/// Why nobody can be told.
pub(super) enum Unmeant {
    Said(String),
    /// It is nothing that AWS sends to.
    Service,
    /// Whether it is there is not known now.
    Unasked(String),
}

/// One of the two; `Some(None)` if it is empty.
pub(in crate::api::lambda) fn read(
    both: &mut Fields,
    field: &str,
) -> Result<Option<Option<String>>, Refusal> {
    let Some(mut one) = both.open(field)? else {
        return Ok(None);
    };
    let text = one.formed("Destination", LENGTH_MAX, PATTERN, |text| {
        text.is_empty() || is_arn(text) || Destination::parse(text).is_ok()
    })?;
    both.close(one);
    Ok(Some(text.filter(|text| !text.is_empty())))
}

fn is_arn(text: &str) -> bool {
    if let Some(topic) = text.strip_prefix("kafka://") {
        return !topic.is_empty();
    }
    names::is_arn(text)
}

/// Who is to be told by a function that is called `own`.
pub(super) async fn meant(face: &Lambda, own: &str, text: &str) -> Result<Destination, Unmeant> {
    let invalid = |why: &str| Unmeant::Said(format!("The destination ARN {text} is invalid.{why}"));
    let mut configured = face.settings.destinations.iter();
    let configured = configured.find(|(arn, _)| arn == text);
    let known = configured.map(|(_, to)| to.clone());
    let to = match known.or_else(|| Destination::parse(text).ok()) {
        Some(to) => to,
        None => {
            let service = text.split(':').nth(2).unwrap_or_default();
            if service != "lambda" {
                let sent_to = SERVICES.contains(&service) || text.starts_with("kafka:");
                return Err(match sent_to {
                    true => invalid(
                        " Hearth sends to nothing by that name: aws.destinations in its configuration may say what it stands for.",
                    ),
                    false => Unmeant::Service,
                });
            }
            let named = names::read(Form::Dotted, text, None, &face.settings.place);
            let named = named.map_err(|_elsewhere| invalid(""))?;
            function(&named).ok_or_else(|| invalid(""))?
        }
    };
    let (name, qualifier) = match &to {
        Destination::Function(name, qualifier) => (name, qualifier),
        Destination::Queue(queue) => {
            is_there(face, queue).await.map_err(|why| match why {
                None => invalid(""),
                Some(why) => why,
            })?;
            return Ok(to);
        }
        Destination::Webhook(_) | Destination::Stream(_) => return Ok(to),
    };
    if name.as_str() == own {
        return Err(Unmeant::Said(
            "You can't specify the function as a destination for itself.".into(),
        ));
    }
    let named = Named {
        name: name.to_string(),
        qualifier: qualifier.as_ref().map(Qualifier::to_string),
    };
    face.shown(&named).map_err(|_absent| invalid(""))?;
    Ok(to)
}

/// As AWS does, who names a queue looks whether it is there. `None`: it is not.
async fn is_there(face: &Lambda, queue: &Queue) -> Result<(), Option<Unmeant>> {
    let queues = face.sources.queues();
    let Some(queues) = queues.filter(|queues| queues.region() == queue.region) else {
        return Err(Some(Unmeant::Said(format!(
            "The destination ARN {queue} is invalid. Hearth sends to no queues of that region: aws.sqs in its configuration names those it sends to, and aws.destinations may say what the ARN stands for."
        ))));
    };
    match queues.url(queue).await {
        Ok(_) => Ok(()),
        Err(queues::Refusal::NoQueue) => Err(None),
        Err(refusal) => Err(Some(match &refusal {
            queues::Refusal::Away { .. } | queues::Refusal::Key { .. } => {
                Unmeant::Unasked(format!("The queue could not be looked at: {refusal}."))
            }
            _ => Unmeant::Said(format!(
                "The destination ARN {queue} is invalid: {refusal}."
            )),
        })),
    }
}

fn function(named: &Named) -> Option<Destination> {
    let text = match &named.qualifier {
        Some(qualifier) => format!("function:{}:{qualifier}", named.name),
        None => format!("function:{}", named.name),
    };
    Destination::parse(&text).ok()
}

/// The ARN that leads to it, or what Hearth calls it if none does.
pub(super) fn shown(face: &Lambda, to: &Destination) -> String {
    let mut configured = face.settings.destinations.iter();
    match (configured.find(|(_, known)| known == to), to) {
        (Some((arn, _)), _) => arn.clone(),
        (None, Destination::Function(name, qualifier)) => {
            let qualifier = qualifier.as_ref().map(Qualifier::to_string);
            face.settings.place.qualified(name, qualifier.as_deref())
        }
        (None, other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arns_have_a_form() {
        for good in [
            "arn:aws:sqs:us-east-1:123456789012:queue",
            "arn:aws:s3:::bucket",
            "arn:aws-cn:events:cn-north-1:123456789012:event-bus/default",
            "arn:aws:lambda:us-east-1:000000000000:function:f:live",
            "kafka://topic",
        ] {
            assert!(is_arn(good), "{good}");
        }
        for bad in [
            "queue",
            "arn:aws:sqs",
            "arn:aws:_-/!lambda:us-east-1:000000000000:function:f",
            "arn:gcp:sqs:us-east-1:123456789012:queue",
            "arn:aws:sqs:elsewhere:123456789012:queue",
            "arn:aws:sqs:us-east-1:1:queue",
            "kafka://",
        ] {
            assert!(!is_arn(bad), "{bad}");
        }
    }
}
