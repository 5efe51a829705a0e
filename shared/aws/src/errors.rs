//! Formats the error of a call to AWS. The SDK's own format shows whole responses, including secrets and payloads.

use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use tasker_process::root_cause;

/// The service's message, or the root cause if the service did not answer.
pub fn call_error<E, R>(error: &SdkError<E, R>) -> String
where
    E: std::error::Error + ProvideErrorMetadata + 'static,
    R: std::fmt::Debug + 'static,
{
    if let Some(answer) = error.as_service_error() {
        let message = answer.message().unwrap_or("the service gave no reason").trim_end_matches('.');
        return answer.code().map_or_else(|| message.to_owned(), |code| format!("{message} ({code})"));
    }
    if matches!(error, SdkError::ResponseError(_)) {
        return "the answer of the service cannot be read".into();
    }
    root_cause(error).to_string().trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use aws_sdk_sqs::{error::ErrorMetadata, operation::send_message::SendMessageError};

    use super::*;

    #[test]
    fn an_answer_is_never_repeated_and_a_reason_of_the_service_is() {
        let body = "hunter2".to_owned();
        let unreadable: SdkError<SendMessageError, String> = SdkError::response_error("hunter2", body.clone());
        assert_eq!(call_error(&unreadable), "the answer of the service cannot be read");
        let metadata = ErrorMetadata::builder().code("AccessDenied").message("You may not.").build();
        let refused = SdkError::service_error(SendMessageError::generic(metadata), body);
        assert_eq!(call_error(&refused), "You may not (AccessDenied)");
        let late: SdkError<SendMessageError, String> = SdkError::timeout_error("no answer in time");
        assert!(call_error(&late).contains("no answer in time"), "{}", call_error(&late));
    }
}
