//! A database that stops, starts, refuses writes and runs out of connections under a running system. Every accepted task
//! finishes, and every request is answered with a task or with 503.

use std::time::Duration;

use serde_json::json;
use tasker_test_support::{
    dev::{Dev, Place, python_worker},
    let_pass, wait_until,
};

use crate::{
    cluster::Cluster,
    load::{Accepted, template},
};

/// The pause between two disturbances.
const PAUSE: Duration = Duration::from_millis(200);
const BATCH: usize = 10;

/// A system over a cluster.
pub struct System {
    pub place: Place,
    pub dev: Dev,
    pub accepted: Accepted,
}

impl System {
    pub fn over(cluster: &Cluster, user: &str) -> Self {
        let place = Place::create();
        place.template(&template());
        let dev = Dev::start(&place, &["--database-url", &cluster.url(user), "--worker", &python_worker("python")]);
        Self { place, dev, accepted: Accepted::default() }
    }

    /// A task is accepted again once the database is back.
    pub fn assert_takes_tasks(&mut self) {
        let before = self.accepted.len();
        wait_until("a task is accepted again", || {
            self.accepted.ask(&self.dev, 1);
            self.accepted.len() > before
        });
    }

    /// Every accepted task finishes, no process is left, and the log has few lines.
    pub fn assert_unharmed(self, times_away: usize) {
        let Self { place, dev, accepted } = self;
        accepted.assert_complete(&dev, 0);
        accepted.assert_no_others(&dev);
        dev.assert_healthy();
        let (away, defects) = (dev.logged("the database is not available"), dev.logged("this is a defect"));
        println!("{} tasks finished; the database was said to be away {away} times", accepted.len());
        assert!(away <= times_away, "{away} lines for {times_away} times that it was away");
        assert_eq!(defects, 0);
        assert!(dev.stop());
        assert_eq!(place.processes(), Vec::<i32>::new(), "nothing is left");
    }
}

#[test]
fn immediate_stops_and_starts_of_postgresql_under_load_lose_nothing() {
    let cluster = Cluster::start();
    let mut system = System::over(&cluster, "tasker");
    for _ in 0..4 {
        system.accepted.ask(&system.dev, BATCH);
        cluster.stop_at_once();
        let answers = system.accepted.ask_at_once(&system.dev, BATCH);
        println!("while it is away: {:?}, the slowest after {:.1?}", answers.statuses, answers.slowest);
        cluster.start_again();
        system.assert_takes_tasks();
    }
    // A server that starts up refuses each of several connections.
    system.assert_unharmed(3 * 4);
}

#[test]
fn ending_all_sessions_every_200_ms_loses_nothing() {
    let cluster = Cluster::start();
    let mut system = System::over(&cluster, "tasker");
    let rounds = 15;
    for _ in 0..rounds {
        let answers = system.accepted.ask_at_once(&system.dev, BATCH);
        assert_eq!(answers.statuses.values().sum::<usize>(), BATCH);
        cluster.execute(&[
            "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and backend_type = 'client backend'",
        ]);
        let_pass(PAUSE);
    }
    system.assert_takes_tasks();
    system.assert_unharmed(2 * rounds);
}

#[test]
fn a_read_only_database_refuses_tasks_by_503_and_loses_nothing() {
    let cluster = Cluster::start();
    let mut system = System::over(&cluster, "tasker");
    let mut times = 0;
    for _ in 0..2 {
        system.accepted.ask(&system.dev, 2 * BATCH);
        cluster.execute(&["alter system set default_transaction_read_only = on", "select pg_reload_conf()"]);
        wait_until("a task is refused", || {
            times += 1;
            system.dev.post("/v1/tasks", &json!({"namespace": "e2e", "name": "brief", "context": {"failures": 0}})).0 == 503
        });
        let answers = system.accepted.ask_at_once(&system.dev, BATCH);
        assert_eq!(answers.statuses.get(&503), Some(&BATCH), "{:?}", answers.statuses);
        let_pass(3 * PAUSE);
        assert_eq!(system.dev.get("/v1/tasks?per_page=1")["pagination"]["per_page"], 1, "what is there can be read");
        cluster.execute(&["alter system reset default_transaction_read_only", "select pg_reload_conf()"]);
        system.assert_takes_tasks();
    }
    // Reads succeed meanwhile, so the known state of the database changes: a few lines, but not one for each refused request.
    system.assert_unharmed(2 * 10);
}

/// Much longer than two waits of five seconds for a connection. A gateway would have given up by then.
const GIVEN_UP: Duration = Duration::from_secs(29);

#[test]
fn two_hundred_requests_over_five_connections_wait_a_bounded_time_and_none_is_lost() {
    let cluster = Cluster::start();
    cluster.execute(&[
        "create role modest login connection limit 5",
        "grant all on database postgres to modest",
        "alter database postgres owner to modest",
    ]);
    let mut system = System::over(&cluster, "modest");
    let answers = system.accepted.ask_at_once(&system.dev, 200);
    println!("alone: {:?}, the slowest after {:.1?}", answers.statuses, answers.slowest);

    // From here on the role has only one connection beside the owner's, as if a second application took the others.
    cluster.execute(&[
        "alter role modest connection limit 2",
        "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and backend_type = 'client backend'",
    ]);
    let answers = system.accepted.ask_at_once(&system.dev, 200);
    println!("with two: {:?}, the slowest after {:.1?}", answers.statuses, answers.slowest);
    // Requests that come together share a connection, so perhaps none is refused.
    assert!(answers.statuses.keys().all(|status| [201, 503, 504].contains(status)), "{:?}", answers.statuses);
    assert!(answers.slowest < GIVEN_UP, "a request waited {:.1?} for its answer", answers.slowest);

    cluster.execute(&[
        "alter role modest connection limit 0",
        "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and backend_type = 'client backend'",
    ]);
    let answers = system.accepted.ask_at_once(&system.dev, 200);
    println!("with none: {:?}, the slowest after {:.1?}", answers.statuses, answers.slowest);
    assert_eq!(answers.statuses.keys().collect::<Vec<_>>(), [&503], "they are refused rather than kept waiting");
    assert!(answers.slowest < GIVEN_UP, "a request waited {:.1?} for its answer", answers.slowest);
    cluster.execute(&["alter role modest connection limit 5"]);
    system.assert_takes_tasks();
    system.assert_unharmed(usize::MAX);
}
