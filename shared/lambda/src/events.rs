//! What a function may be invoked with. Each says which of these it takes, so that its event is read in one pass.

use aws_lambda_events::event::sqs::SqsMessage;
use lambda_http::request::LambdaRequest;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error, IgnoredAny},
};
use serde_json::value::RawValue;
use tasker_aws::unquoted;

/// An event of a function.
pub trait FunctionEvent: DeserializeOwned + Send + 'static {
    /// What it brings, for whoever invoked the function with something else.
    const BRINGS: &'static str;
}

/// Messages of a queue.
#[derive(Deserialize)]
pub struct QueueEvent {
    #[serde(rename = "Records")]
    pub(crate) records: Vec<SqsMessage>,
}

/// Messages of a queue, or a schedule that fired.
#[derive(Deserialize)]
#[serde(try_from = "ReadinessFields")]
pub enum ReadinessEvent {
    Messages(Vec<SqsMessage>),
    Schedule,
}

#[derive(Deserialize)]
struct ReadinessFields {
    #[serde(rename = "Records")]
    records: Option<Vec<SqsMessage>>,
    source: Option<String>,
}

/// Messages of a queue, or a request of API Gateway or of the function's own URL.
pub enum IntakeEvent {
    Messages(Vec<SqsMessage>),
    Http(Box<LambdaRequest>),
}

impl FunctionEvent for QueueEvent {
    const BRINGS: &'static str = "the messages of its queue";
}

impl FunctionEvent for ReadinessEvent {
    const BRINGS: &'static str = "the messages of the queue of readiness, and its schedule";
}

impl FunctionEvent for IntakeEvent {
    const BRINGS: &'static str = "requests for tasks, by HTTP or by the queue of intake";
}

impl FunctionEvent for LambdaRequest {
    const BRINGS: &'static str = "requests by HTTP";
}

impl FunctionEvent for IgnoredAny {
    const BRINGS: &'static str = "anything";
}

impl TryFrom<ReadinessFields> for ReadinessEvent {
    type Error = &'static str;

    fn try_from(fields: ReadinessFields) -> Result<Self, Self::Error> {
        match (fields.records, fields.source.as_deref()) {
            (Some(records), _) => Ok(Self::Messages(records)),
            (None, Some("aws.events")) => Ok(Self::Schedule),
            _ => Err("it has no `Records`, and its `source` is not `aws.events`"),
        }
    }
}

impl<'de> Deserialize<'de> for IntakeEvent {
    /// What a gateway may send is many things, of which the reader of requests keeps its own list.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Fields {
            #[serde(rename = "Records")]
            records: Option<Vec<SqsMessage>>,
        }
        let event = Box::<RawValue>::deserialize(deserializer)?;
        let Fields { records } = serde_json::from_str(event.get()).map_err(D::Error::custom)?;
        match records {
            Some(records) => Ok(Self::Messages(records)),
            None => serde_json::from_str(event.get()).map(|request| Self::Http(Box::new(request))).map_err(D::Error::custom),
        }
    }
}

/// An event whose error names what the function takes, and repeats nothing of what it was given.
pub(crate) struct Given<E>(pub E);

impl<'de, E: FunctionEvent> Deserialize<'de> for Given<E> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let refuse = |error: D::Error| {
            D::Error::custom(format!(
                "this function takes {}, and was invoked with something else: {}",
                E::BRINGS,
                unquoted(&error)
            ))
        };
        E::deserialize(deserializer).map(Self).map_err(refuse)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<E: FunctionEvent>(event: &str) -> Result<E, String> {
        serde_json::from_str::<Given<E>>(event).map(|given| given.0).map_err(|error| error.to_string())
    }

    #[test]
    fn each_function_reads_its_own_events_and_says_what_it_takes_when_it_is_given_another() {
        let messages = r#"{"Records": [{"messageId": "m", "receiptHandle": "h", "body": "{}"}]}"#;
        let schedule = r#"{"source": "aws.events", "detail-type": "Scheduled Event"}"#;
        let request = include_str!("../tests/events/apigateway_v2.json");
        assert_eq!(read::<QueueEvent>(messages).unwrap().records.len(), 1);
        assert!(matches!(read(messages), Ok(ReadinessEvent::Messages(records)) if records.len() == 1));
        assert!(matches!(read(schedule), Ok(ReadinessEvent::Schedule)));
        assert!(matches!(read(messages), Ok(IntakeEvent::Messages(records)) if records.len() == 1));
        assert!(matches!(read(request), Ok(IntakeEvent::Http(_))));
        assert!(read::<LambdaRequest>(request).is_ok() && read::<IgnoredAny>("7").is_ok());
        let errors = [
            read::<QueueEvent>(schedule).err(),
            read::<ReadinessEvent>(request).err(),
            read::<IntakeEvent>(schedule).err(),
            read::<LambdaRequest>(messages).err(),
            read::<QueueEvent>(r#"{"Records": "hunter2"}"#).err(),
        ];
        for error in errors {
            let error = error.unwrap();
            assert!(error.starts_with("this function takes ") && !error.contains("hunter2"), "{error}");
        }
    }
}
