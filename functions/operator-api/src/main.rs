//! Serves every route of the REST interface.

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::process::ExitCode {
    tasker_lambda::serve(tasker_lambda::operator_api).await
}
