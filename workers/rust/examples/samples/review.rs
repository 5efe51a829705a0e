//! A step that a person does. The template is `document_review.yaml`.

use serde_json::{Value, json};
use tasker_sdk::{PermanentError, StepContext, Worker};

pub fn register(worker: Worker) -> Worker {
    worker
        .handler("prepare_document", prepare_document)
        .handler("human_review", human_review)
        .handler("publish_document", publish_document)
}

/// Counts the words for the reviewer.
async fn prepare_document(context: StepContext) -> Result<Value, PermanentError> {
    let (title, text): (String, String) = (context.input("title")?, context.input("text")?);
    Ok(json!({ "title": title, "words": text.split_whitespace().count() }))
}

/// Fails for good, and says what a person must do.
async fn human_review(context: StepContext) -> Result<(), PermanentError> {
    let document = context.get_dependency_result("prepare_document");
    let what = r#"resolve this step with a result such as {"approved": true, "reviewer": "Ada"}"#;
    let problem = format!("'{}' must be read by a person: {what}", document["title"].as_str().unwrap_or_default());
    Err(PermanentError::new(problem).with_code("needs_a_person"))
}

/// Publishes what was approved. A review without a result, which was skipped, approves nothing.
async fn publish_document(context: StepContext) -> Result<Value, PermanentError> {
    let review = context.get_dependency_result("human_review");
    let title = &context.get_dependency_result("prepare_document")["title"];
    Ok(json!({ "title": title, "published": review["approved"] == true, "reviewer": review["reviewer"] }))
}
