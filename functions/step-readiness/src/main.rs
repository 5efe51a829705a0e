//! Evaluates steps whose retry is due, and sweeps what time makes due.

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::process::ExitCode {
    tasker_lambda::serve(tasker_lambda::readiness).await
}
