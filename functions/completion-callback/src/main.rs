//! Applies the outcomes of steps.

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::process::ExitCode {
    tasker_lambda::serve(tasker_lambda::completions).await
}
