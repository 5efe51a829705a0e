//! What SQS takes at most, once for everybody who calls it.

/// Messages of one call.
pub(crate) const ENTRIES: usize = 10;
/// Bytes of a message with its attributes, and of all messages of one call together.
pub(crate) const BYTES: usize = 1024 * 1024;
