//! What an invocation is about, told by its shape.

use lambda_http::request::LambdaRequest;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;
use tasker_aws::{Batch, unquoted};

/// An event of one of the kinds that a function may be connected to.
pub(crate) enum Event {
    /// Messages of a queue.
    Messages(Batch),
    /// A schedule fired.
    Schedule,
    /// A request of API Gateway, or of a function's own URL.
    Http(Box<LambdaRequest>),
    /// Something else, as an operator's own invocation.
    Other,
}

#[derive(Deserialize)]
struct Shape {
    #[serde(rename = "Records")]
    records: Option<IgnoredAny>,
    source: Option<String>,
    #[serde(rename = "requestContext")]
    request_context: Option<IgnoredAny>,
}

impl Event {
    /// Reads an event. An error says what cannot be read.
    pub fn read(event: &RawValue) -> Result<Self, String> {
        let json = event.get();
        let Ok(shape) = serde_json::from_str::<Shape>(json) else { return Ok(Self::Other) };
        if shape.records.is_some() {
            let event =
                serde_json::from_str(json).map_err(|e| format!("the event of a queue cannot be read: {}", unquoted(&e)))?;
            return Ok(Self::Messages(Batch::of(event)));
        }
        if shape.request_context.is_some() {
            let request =
                serde_json::from_str(json).map_err(|e| format!("the request of a gateway cannot be read: {}", unquoted(&e)))?;
            return Ok(Self::Http(Box::new(request)));
        }
        if shape.source.as_deref() == Some("aws.events") {
            return Ok(Self::Schedule);
        }
        Ok(Self::Other)
    }

    /// What is said to who connected a function to something that it is not for.
    pub fn refuse(self, function: &str, takes: &str) -> String {
        let given = match self {
            Self::Messages(_) => "messages of a queue",
            Self::Schedule => "a schedule",
            Self::Http(_) => "a request of a gateway",
            Self::Other => "an event that it does not know",
        };
        format!("{function} was invoked with {given}; it takes {takes}")
    }
}
