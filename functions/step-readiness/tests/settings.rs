//! A function with a wrong setting. All functions start in the same way.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::process::Command;

#[test]
fn a_wrong_setting_ends_a_function_with_one_sentence_that_names_it() {
    for (name, value, sentence) in [
        ("TASKER_LOG", "inof", "TASKER_LOG is wrong: expected levels, as debug or info,tasker_engine=debug"),
        (
            "TASKER_POOLS",
            "rust,a pool",
            "TASKER_POOLS is wrong: expected names of pools, separated by commas, such as rust,python",
        ),
        ("TASKER_MAX_RECEIVES", "0", "TASKER_MAX_RECEIVES is wrong: expected the number of receives"),
        ("AWS_REGION", "", "AWS_REGION is not set: give the region of the queues and secrets"),
    ] {
        let usual = [
            ("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:1"),
            ("TASKER_DATABASE_URL", "postgres://db.example/tasker"),
            ("TASKER_DATABASE_SECRET", "login"),
            ("TASKER_SIGNING_SECRET", "keys"),
            ("TASKER_QUEUES", "https://sqs.example/123456789012/t-"),
            ("TASKER_POOLS", ""),
            ("TASKER_ENV", "production"),
        ];
        let mut command = Command::new(env!("CARGO_BIN_EXE_step-readiness"));
        let output = command.env_clear().envs(usual).env(name, value).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let told = String::from_utf8(output.stdout).unwrap();
        assert_eq!(told.lines().count(), 1, "{told}");
        assert!(told.contains(&format!(r#""level":"ERROR","message":"{sentence}"#)), "{told}");
    }
}
