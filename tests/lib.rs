//! Tests of the whole system: a folder for each subject, and what they share in `support`.
