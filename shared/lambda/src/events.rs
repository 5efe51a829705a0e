//! The events of the functions. Each function reads only its own type of event, in one pass.

use aws_lambda_events::event::sqs::SqsMessage;
use lambda_http::request::LambdaRequest;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error, IgnoredAny},
};
use serde_json::value::RawValue;
use tasker_queue::unquoted;

pub trait FunctionEvent: DeserializeOwned + Send + 'static {
    /// Describes the event in the error about any other event.
    const EXPECTED: &'static str;
}

#[derive(Deserialize)]
pub struct QueueEvent {
    #[serde(rename = "Records")]
    pub(crate) records: Vec<SqsMessage>,
}

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

pub enum IntakeEvent {
    Messages(Vec<SqsMessage>),
    /// From API Gateway or from the URL of the function.
    Http(Box<LambdaRequest>),
}

impl FunctionEvent for QueueEvent {
    const EXPECTED: &'static str = "messages of its queue";
}

impl FunctionEvent for ReadinessEvent {
    const EXPECTED: &'static str = "messages of the readiness queue, or its schedule";
}

impl FunctionEvent for IntakeEvent {
    const EXPECTED: &'static str = "HTTP requests, or messages of the intake queue";
}

impl FunctionEvent for LambdaRequest {
    const EXPECTED: &'static str = "HTTP requests";
}

impl FunctionEvent for IgnoredAny {
    const EXPECTED: &'static str = "any event";
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
    /// An event with `Records` is from the queue. `LambdaRequest` recognizes all other events, so it reads the whole text.
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

/// An event. If it has another type, the error names the expected one and does not repeat the event, which may contain a secret.
pub(crate) struct CheckedEvent<E>(pub E);

impl<'de, E: FunctionEvent> Deserialize<'de> for CheckedEvent<E> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        E::deserialize(deserializer).map(Self).map_err(|error| {
            let (expected, why) = (E::EXPECTED, unquoted(&error));
            D::Error::custom(format!("this function handles {expected}, but its event is something else: {why}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<E: FunctionEvent>(event: &str) -> Result<E, String> {
        serde_json::from_str::<CheckedEvent<E>>(event).map(|event| event.0).map_err(|error| error.to_string())
    }

    #[test]
    fn each_function_reads_its_own_events_and_names_them_in_the_error_about_others() {
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
            assert!(error.starts_with("this function handles ") && !error.contains("hunter2"), "{error}");
        }
    }
}
