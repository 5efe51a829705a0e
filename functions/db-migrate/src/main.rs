//! Migrates the database to this version's schema.

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::process::ExitCode {
    tasker_lambda::serve(tasker_lambda::migrate).await
}
