//! What is read to be shown.
