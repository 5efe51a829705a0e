//! Takes tasks in, by HTTP and by the queue of intake.

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::process::ExitCode {
    tasker_lambda::serve(tasker_lambda::intake).await
}
