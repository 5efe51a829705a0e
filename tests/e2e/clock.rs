//! A clock that is wrong in our process alone.

use std::{fs, path::PathBuf, time::Duration};

use jiff::Timestamp;
use serde_json::json;
use tasker_test_support::{
    dev::{Place, Starting, dev_command, python_worker},
    skip,
};

use crate::load::template;

const OFF: i64 = 600;

#[test]
fn a_clock_ten_minutes_off_in_our_process_decides_nothing() {
    let Some(library) = libfaketime() else {
        return skip("a clock that is off: libfaketime is not on this machine (apt-get install faketime)");
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for off in [OFF, -OFF] {
        let database = runtime.block_on(tasker_test_support::database());
        let place = Place::create();
        fs::create_dir(place.path("marks")).unwrap();
        place.template(&template());
        // The handlers have the right time.
        let (pool, worker) = python_worker("python").split_once('=').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
        let worker = format!("{pool}=env -u LD_PRELOAD -u FAKETIME {worker}");
        let mut command = dev_command(&place, &["--database-url", &database.url, "--worker", &worker]);
        command.env("LD_PRELOAD", &library).env("FAKETIME", format!("{off:+}s"));
        let dev = Starting::launch(command).ready();
        let told: Timestamp = dev.get("/health")["timestamp"].as_str().unwrap().parse().unwrap();
        assert!((told.as_second() - Timestamp::now().as_second() - off).abs() < OFF / 2, "the clock is off: {told}");

        let task = dev.submit("e2e", "brief", json!({"failures": 2, "folder": place.path("marks")}));
        // If our clock decided about a retry, it would come immediately, or ten minutes late, which is longer than this waits.
        let finished = dev.finished(&task);
        assert_eq!(finished["status"], "complete", "{finished}");
        for step in dev.steps(&task) {
            assert_eq!(step["attempts"], 3);
        }
        for file in fs::read_dir(place.path("marks")).unwrap().flatten() {
            let text = fs::read_to_string(file.path()).unwrap();
            let began: Vec<f64> = text.lines().map(|l| l.parse().unwrap()).collect();
            let pauses: Vec<f64> = began.windows(2).map(|w| w[1] - w[0]).collect();
            println!("{off:+} s: pauses {pauses:.3?}");
            // 50 ms of work, then 100 and 200 ms of backoff, minus a jitter of a sixth.
            assert!(pauses[0] >= 0.13 && pauses[1] >= 0.21, "{pauses:?}");
        }
        dev.assert_healthy();
        assert!(dev.stop());
    }
    // Dropped outside of any runtime.
    runtime.shutdown_timeout(Duration::from_secs(5));
}

fn libfaketime() -> Option<PathBuf> {
    let folders = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib", "/usr/local/lib"];
    folders.iter().map(|dir| PathBuf::from(dir).join("faketime/libfaketime.so.1")).find(|file| file.exists())
}
