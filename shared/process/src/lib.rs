//! Shared by every program: settings from the environment, logs, graceful shutdown, the duties of process 1, secrets, current problems, and
//! batched calls. It knows no AWS, no database and no HTTP.

mod batcher;
mod errors;
mod init;
mod lines;
mod logs;
mod problems;
mod secrets;
pub mod settings;
mod shutdown;

pub use batcher::Batcher;
pub use errors::{panic_text, root_cause};
pub use init::as_init;
pub use lines::{LAST_WORDS, Stream, flush, say, styles_are_refused};
pub use logs::begin_logs;
pub use problems::Problems;
pub use secrets::{Secret, SecretError, SecretSource, Secrets, Stage};
pub use settings::BadSetting;
pub use shutdown::Shutdown;
