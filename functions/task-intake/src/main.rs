//! Accepts tasks over HTTP and from the intake queue.

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::process::ExitCode {
    tasker_lambda::serve(tasker_lambda::intake).await
}
