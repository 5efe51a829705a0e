//! An in-memory test double of the AWS services that a worker uses.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::{Value, json};
use tasker_wire::{CompleteStep, Outcome};
use tokio::sync::Notify;

/// Long enough for a loaded machine, short enough for a person.
const PATIENCE: Duration = Duration::from_secs(20);

/// A call of SQS that was answered.
#[derive(Debug, Clone)]
pub struct Call {
    pub action: String,
    pub body: Value,
}

/// AWS, on a port of its own.
#[derive(Clone)]
pub struct Aws {
    pub address: SocketAddr,
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Each with the time that it has from when it is taken.
    events: Mutex<VecDeque<(String, Duration, Value)>>,
    answers: Mutex<Vec<(String, Value)>>,
    calls: Mutex<Vec<Call>>,
    accepted: Mutex<Vec<CompleteStep>>,
    /// A message that holds this is refused.
    refused: Mutex<Option<String>>,
    waiting: Mutex<VecDeque<Value>>,
    given: AtomicUsize,
    /// The largest number of messages that a poller held or was about to receive.
    most_in_hand: AtomicUsize,
    changed: Notify,
}

impl Aws {
    pub async fn start() -> Self {
        let inner = Arc::<Inner>::default();
        let routes = Router::new()
            .route("/", post(sqs))
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route("/2018-06-01/runtime/invocation/{id}/{kind}", post(answered))
            .with_state(inner.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { address, inner }
    }

    /// Invokes the function with `left` until its deadline. Returns its answer as `("response" or "error", document)`.
    pub async fn invoke_with(&self, event: Value, left: Duration) -> (String, Value) {
        let before = self.inner.answers.lock().unwrap().len();
        self.inner.events.lock().unwrap().push_back((format!("request-{before}"), left, event));
        self.inner.changed.notify_waiters();
        self.wait_for("the answer of an invocation", |inner| inner.answers.lock().unwrap().get(before).cloned()).await
    }

    /// Invokes the function with messages. Returns the ids of the messages that must be delivered again.
    pub async fn invoke(&self, messages: impl IntoIterator<Item = Value>, left: Duration) -> Vec<String> {
        let event = json!({ "Records": messages.into_iter().collect::<Vec<_>>() });
        let (kind, answer) = self.invoke_with(event, left).await;
        assert_eq!(kind, "response", "{answer}");
        let failures = answer["batchItemFailures"].as_array().unwrap();
        failures.iter().map(|failure| failure["itemIdentifier"].as_str().unwrap().to_owned()).collect()
    }

    /// Puts messages into the pool's queue, for a worker that polls.
    pub fn put(&self, messages: impl IntoIterator<Item = Value>) {
        self.inner.waiting.lock().unwrap().extend(messages);
        self.inner.changed.notify_waiters();
    }

    /// From now on refuses what holds this text; nothing if none is given.
    pub fn refuse(&self, text: Option<&str>) {
        *self.inner.refused.lock().unwrap() = text.map(str::to_owned);
    }

    /// What the completions queue accepted.
    pub fn accepted(&self) -> Vec<CompleteStep> {
        self.inner.accepted.lock().unwrap().clone()
    }

    /// The accepted outcome of a step, which has exactly one.
    pub fn outcome(&self, no: i32) -> Outcome {
        let mut all = self.accepted().into_iter().filter(|c| c.step_id.no == no && is_answer(c));
        let outcome = all.next().unwrap_or_else(|| panic!("step {no} has no outcome")).outcome;
        assert!(all.next().is_none(), "step {no} has more than one outcome");
        outcome
    }

    pub fn calls(&self, action: &str) -> Vec<Value> {
        let calls = self.inner.calls.lock().unwrap();
        calls.iter().filter(|call| call.action == action).map(|call| call.body.clone()).collect()
    }

    /// The visibility timeouts that were set for a message, in seconds.
    pub fn hidden_for(&self, id: &str) -> Vec<u64> {
        let receipt = format!("receipt of {id}");
        let calls = self.calls("ChangeMessageVisibilityBatch");
        let entries = calls.iter().flat_map(|call| call["Entries"].as_array().unwrap());
        let of_it = entries.filter(|entry| entry["ReceiptHandle"] == receipt.as_str());
        of_it.map(|entry| entry["VisibilityTimeout"].as_u64().unwrap()).collect()
    }

    /// Waits for a call that is as wanted.
    pub async fn call(&self, action: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let find = |inner: &Inner| {
            let calls = inner.calls.lock().unwrap();
            calls.iter().find(|call| call.action == action && wanted(&call.body)).map(|call| call.body.clone())
        };
        self.wait_for(&format!("a call of {action}"), find).await
    }

    pub fn most_in_hand(&self) -> usize {
        self.inner.most_in_hand.load(Ordering::SeqCst)
    }

    async fn wait_for<T>(&self, what: &str, mut find: impl FnMut(&Inner) -> Option<T>) -> T {
        let found = self.inner.until(|inner| find(inner));
        match tokio::time::timeout(PATIENCE, found).await {
            Ok(found) => found,
            Err(_) => panic!("waited for {what}; calls: {:#?}", self.inner.calls.lock().unwrap()),
        }
    }
}

impl Inner {
    async fn until<T>(&self, mut find: impl FnMut(&Self) -> Option<T>) -> T {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(found) = find(self) {
                return found;
            }
            changed.await;
        }
    }

    fn is_refused(&self, text: &str) -> bool {
        self.refused.lock().unwrap().as_ref().is_some_and(|refused| text.contains(refused))
    }

    fn send_batch(&self, body: &Value) -> Value {
        let (mut successful, mut failed) = (Vec::new(), Vec::new());
        for entry in body["Entries"].as_array().unwrap() {
            let text = entry["MessageBody"].as_str().unwrap();
            if self.is_refused(text) {
                failed.push(json!({"Id": entry["Id"], "SenderFault": false, "Code": "InternalError", "Message": "as told"}));
                continue;
            }
            assert!(body["QueueUrl"].as_str().unwrap().ends_with("/123456789012/t-completions"), "{body}");
            self.accepted.lock().unwrap().push(serde_json::from_str(text).unwrap());
            successful.push(json!({"Id": entry["Id"], "MessageId": "x", "MD5OfMessageBody": "x"}));
        }
        json!({"Successful": successful, "Failed": failed})
    }

    async fn receive(&self, body: &Value) -> Value {
        let most = body["MaxNumberOfMessages"].as_u64().unwrap() as usize;
        let answers = self.accepted.lock().unwrap().iter().filter(|c| is_answer(c)).count();
        self.most_in_hand.fetch_max(self.given.load(Ordering::SeqCst) + most - answers, Ordering::SeqCst);
        let take = |inner: &Self| {
            let mut waiting = inner.waiting.lock().unwrap();
            let count = waiting.len().min(most);
            (count > 0).then(|| waiting.drain(..count).collect::<Vec<_>>())
        };
        let wait = Duration::from_secs(body["WaitTimeSeconds"].as_u64().unwrap());
        let taken = tokio::time::timeout(wait, self.until(take)).await.unwrap_or_default();
        self.given.fetch_add(taken.len(), Ordering::SeqCst);
        let message = |m: Value| json!({"MessageId": m["messageId"], "ReceiptHandle": m["receiptHandle"], "Body": m["body"], "Attributes": m["attributes"]});
        json!({"Messages": taken.into_iter().map(message).collect::<Vec<_>>()})
    }
}

/// Reports are no answers.
fn is_answer(complete: &CompleteStep) -> bool {
    !matches!(complete.outcome, Outcome::Started {} | Outcome::Heartbeat {})
}

async fn sqs(State(inner): State<Arc<Inner>>, headers: HeaderMap, body: String) -> Response {
    let body: Value = serde_json::from_str(&body).unwrap();
    let action = headers["x-amz-target"].to_str().unwrap().rsplit('.').next().unwrap().to_owned();
    let every_entry = |body: &Value| {
        let entries = body["Entries"].as_array().unwrap();
        json!({"Successful": entries.iter().map(|entry| json!({"Id": entry["Id"]})).collect::<Vec<_>>(), "Failed": []})
    };
    let answer = match action.as_str() {
        "SendMessageBatch" => Ok(inner.send_batch(&body)),
        "SendMessage" if inner.is_refused(&body.to_string()) => {
            Err(json!({"__type": "com.amazonaws.sqs#AccessDeniedException", "message": "as told"}))
        }
        "SendMessage" => Ok(json!({"MessageId": "x", "MD5OfMessageBody": "x"})),
        "ReceiveMessage" => Ok(inner.receive(&body).await),
        "DeleteMessageBatch" | "ChangeMessageVisibilityBatch" => Ok(every_entry(&body)),
        "GetQueueAttributes" => Ok(json!({"Attributes": {"VisibilityTimeout": "3"}})),
        other => panic!("a worker has no business with {other}"),
    };
    inner.calls.lock().unwrap().push(Call { action, body });
    inner.changed.notify_waiters();
    match answer {
        Ok(answer) => Json(answer).into_response(),
        Err(error) => (StatusCode::BAD_REQUEST, Json(error)).into_response(),
    }
}

async fn next(State(inner): State<Arc<Inner>>) -> Response {
    let (id, left, event) = inner.until(|inner| inner.events.lock().unwrap().pop_front()).await;
    let deadline = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + left;
    let headers = [
        ("lambda-runtime-aws-request-id", id),
        ("lambda-runtime-deadline-ms", deadline.as_millis().to_string()),
        ("lambda-runtime-invoked-function-arn", "arn:aws:lambda:eu-central-1:123456789012:function:t-worker-shop".into()),
    ];
    (headers, Json(event)).into_response()
}

async fn answered(State(inner): State<Arc<Inner>>, Path((_, kind)): Path<(String, String)>, body: String) -> Response {
    inner.answers.lock().unwrap().push((kind, serde_json::from_str(&body).unwrap()));
    inner.changed.notify_waiters();
    StatusCode::ACCEPTED.into_response()
}
