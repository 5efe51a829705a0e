//! A full disk under a running system.

use std::{fs, io::Write};

use tasker_test_support::{skip, wait_until};

use crate::{cluster::Cluster, database_outages::System};

const DISK_MEGABYTES: u32 = 64;

#[test]
fn a_full_disk_refuses_tasks_by_503_and_once_there_is_space_everything_accepted_finishes() {
    let Some(cluster) = Cluster::start_on_a_small_disk(DISK_MEGABYTES) else {
        return skip("a full disk: a small tmpfs cannot be mounted here");
    };
    let mut system = System::over(&cluster, "tasker");
    system.accepted.ask(&system.dev, 10);
    let ballast = cluster.disk().join("ballast");
    fill(&ballast);
    // The server first uses the space that it had reserved.
    let mut refused = 0;
    wait_until("a task is refused", || {
        let answers = system.accepted.ask_at_once(&system.dev, 50);
        refused += answers.statuses.get(&503).copied().unwrap_or_default();
        refused > 0
    });
    let before = system.accepted.len();
    println!("{before} tasks accepted until the disk was full; the server runs: {}", cluster.runs());
    fs::remove_file(&ballast).unwrap();
    if !cluster.runs() {
        // The server stops when it cannot write its log.
        cluster.start_again();
    }
    system.assert_takes_tasks();
    system.assert_unharmed(usize::MAX);
}

/// Fills the disk.
fn fill(ballast: &std::path::Path) {
    let mut file = fs::File::create(ballast).unwrap();
    for size in [1 << 20, 1 << 12] {
        let block = vec![1; size];
        while file.write_all(&block).is_ok() {}
    }
}
