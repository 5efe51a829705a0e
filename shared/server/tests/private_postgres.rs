//! The private PostgreSQL of a data dir, with the programs of this machine.

#![allow(clippy::unwrap_used, reason = "a test fails at the first surprise")]

use std::{
    fs::{self, Permissions},
    future::Future,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, Uid},
};
use tasker_server::postgres::PrivatePostgres;
use tokio_postgres::NoTls;

/// A data dir. Dropping it also removes a cluster outside of it.
struct Home {
    dir: tempfile::TempDir,
}

impl Home {
    fn open_to_all() -> Self {
        Self::with_mode(0o755)
    }

    fn with_mode(mode: u32) -> Self {
        let home = Self { dir: tempfile::tempdir().unwrap() };
        fs::set_permissions(home.dir.path(), Permissions::from_mode(mode)).unwrap();
        home
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn cluster(&self) -> PathBuf {
        match fs::read_to_string(self.path().join("postgres-is-in")) {
            Ok(outside) => outside.trim().into(),
            Err(_) => self.path().canonicalize().unwrap().join("postgres"),
        }
    }

    fn server(&self) -> Pid {
        let text = fs::read_to_string(self.cluster().join("postmaster.pid")).unwrap();
        Pid::from_raw(text.lines().next().unwrap().parse().unwrap())
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if let Ok(outside) = fs::read_to_string(self.path().join("postgres-is-in")) {
            let _ = fs::remove_dir_all(outside.trim());
        }
    }
}

async fn query(url: &str, sql: &str) -> Vec<String> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    let rows = client.query(sql, &[]).await.unwrap();
    let rows = rows.iter().map(|row| row.get(0)).collect();
    drop(client);
    connection.await.unwrap().unwrap();
    rows
}

fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap().block_on(test)
}

#[test]
fn data_is_there_after_a_stop_and_a_start() {
    run(async {
        let home = Home::open_to_all();
        let postgres = PrivatePostgres::start(&home.path()).await.unwrap();
        query(postgres.url(), "create table kept as select 'it'::text as what").await;
        let pid = home.server();
        postgres.stop().await.unwrap();
        assert!(kill(pid, None).is_err(), "the server is still running");

        let postgres = PrivatePostgres::start(&home.path()).await.unwrap();
        assert_eq!(query(postgres.url(), "select what from kept").await, ["it"]);
        postgres.stop().await.unwrap();
    });
}

#[test]
fn it_listens_on_no_network_and_its_files_are_private_and_durable() {
    run(async {
        let home = Home::open_to_all();
        let postgres = PrivatePostgres::start(&home.path()).await.unwrap();
        let settings = query(
            postgres.url(),
            "select name || '=' || setting from pg_settings where name in ('listen_addresses', 'fsync', 'synchronous_commit', 'server_encoding', \
             'lc_collate', 'max_connections') union all select 'collate=' || datcollate from pg_database where datname = 'postgres' order by 1",
        )
        .await;
        assert!(settings.contains(&"listen_addresses=".to_owned()), "{settings:?}");
        assert!(
            settings.contains(&"fsync=on".to_owned()) && settings.contains(&"synchronous_commit=on".to_owned()),
            "{settings:?}"
        );
        assert!(
            settings.contains(&"server_encoding=UTF8".to_owned()) && settings.contains(&"collate=C".to_owned()),
            "{settings:?}"
        );
        assert!(settings.contains(&"max_connections=50".to_owned()), "{settings:?}");
        assert_eq!(home.cluster().metadata().unwrap().permissions().mode() & 0o077, 0);
        postgres.stop().await.unwrap();
    });
}

#[test]
fn a_server_that_was_killed_is_restarted() {
    run(async {
        let home = Home::open_to_all();
        let postgres = PrivatePostgres::start(&home.path()).await.unwrap();
        query(postgres.url(), "create table kept as select 'it'::text as what").await;
        let killed = home.server();
        kill(killed, Signal::SIGKILL).unwrap();
        let answer = loop {
            if let Ok((client, connection)) = tokio_postgres::connect(postgres.url(), NoTls).await {
                let connection = tokio::spawn(connection);
                let answer = client.query("select what from kept", &[]).await;
                drop(client);
                let _ = connection.await;
                if let Ok(rows) = answer {
                    break rows[0].get::<_, String>(0);
                }
            }
            tokio::task::yield_now().await;
        };
        assert_eq!(answer, "it");
        assert_ne!(home.server(), killed);
        postgres.stop().await.unwrap();
    });
}

/// Starts a server in a runtime of its own and abandons it, as a killed process does.
fn abandon(home: &Home) -> Pid {
    run(async {
        let postgres = PrivatePostgres::start(&home.path()).await.unwrap();
        query(postgres.url(), "create table kept as select 'it'::text as what").await;
    });
    home.server()
}

#[test]
fn a_server_that_outlived_its_process_is_adopted() {
    let home = Home::open_to_all();
    let survivor = abandon(&home);
    run(async {
        let postgres = PrivatePostgres::start(&home.path()).await.unwrap();
        assert_eq!(home.server(), survivor);
        assert_eq!(query(postgres.url(), "select what from kept").await, ["it"]);
        postgres.stop().await.unwrap();
    });
    assert!(!home.cluster().join("postmaster.pid").exists());
}

#[test]
fn data_is_there_after_a_kill_of_the_server_and_its_process() {
    let home = Home::open_to_all();
    let killed = abandon(&home);
    kill(killed, Signal::SIGKILL).unwrap();
    run(async {
        let postgres = PrivatePostgres::start(&home.path()).await.unwrap();
        assert_ne!(home.server(), killed);
        assert_eq!(query(postgres.url(), "select what from kept").await, ["it"]);
        postgres.stop().await.unwrap();
    });
}

#[test]
fn a_start_waits_for_the_processes_of_a_killed_server_to_end() {
    let home = Home::open_to_all();
    let killed = abandon(&home);
    // A suspended child cannot notice the death of its server, and holds the shared memory.
    let child = children_of(killed)[0];
    kill(child, Signal::SIGSTOP).unwrap();
    kill(killed, Signal::SIGKILL).unwrap();
    run(async {
        let data = home.path();
        let mut starting = Box::pin(PrivatePostgres::start(&data));
        let log = data.join("postgres.log");
        let refused = async {
            while !fs::read_to_string(&log).unwrap().contains("shared memory block") {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            _ = &mut starting => panic!("started beside the remains of another server"),
            () = refused => {}
        }
        kill(child, Signal::SIGCONT).unwrap();
        let postgres = starting.await.unwrap();
        assert_eq!(query(postgres.url(), "select what from kept").await, ["it"]);
        postgres.stop().await.unwrap();
    });
}

fn children_of(parent: Pid) -> Vec<Pid> {
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap();
    children.split_whitespace().map(|pid| Pid::from_raw(pid.parse().unwrap())).collect()
}

#[test]
fn an_interrupted_first_start_starts_over() {
    run(async {
        let home = Home::open_to_all();
        let half = home.path().join("postgres.new");
        fs::create_dir_all(&half).unwrap();
        fs::write(half.join("PG_VERSION"), "15\n").unwrap();
        let postgres = PrivatePostgres::start(&home.path()).await.unwrap();
        assert!(!half.exists());
        postgres.stop().await.unwrap();
    });
}

#[test]
fn a_path_that_is_too_long_or_strange_for_a_socket_works() {
    run(async {
        let home = Home::open_to_all();
        let path = home.path().join(format!("a folder, ümlaut & {}", "long".repeat(20)));
        fs::create_dir_all(&path).unwrap();
        let postgres = PrivatePostgres::start(&path).await.unwrap();
        assert_eq!(query(postgres.url(), "select 'it'::text").await, ["it"]);
        let socket_dir = PathBuf::from(postgres.url().split_once("host=").unwrap().1);
        assert!(socket_dir.starts_with("/tmp"), "{}", socket_dir.display());
        postgres.stop().await.unwrap();
        assert!(!socket_dir.exists());
    });
}

#[test]
fn under_a_folder_that_only_root_can_enter_the_cluster_is_kept_outside() {
    if !Uid::effective().is_root() {
        return;
    }
    run(async {
        let home = Home::with_mode(0o700);
        let postgres = PrivatePostgres::start(&home.path()).await.unwrap();
        query(postgres.url(), "create table kept as select 'it'::text as what").await;
        assert!(home.cluster().starts_with("/var/lib"), "{}", home.cluster().display());
        postgres.stop().await.unwrap();
        let postgres = PrivatePostgres::start(&home.path()).await.unwrap();
        assert_eq!(query(postgres.url(), "select what from kept").await, ["it"]);
        postgres.stop().await.unwrap();
    });
}

#[test]
fn a_cluster_that_was_removed_is_not_silently_replaced() {
    run(async {
        let home = Home::open_to_all();
        fs::create_dir(home.path()).unwrap();
        fs::write(home.path().join("postgres-is-in"), "/var/lib/tasker-which-is-gone\n").unwrap();
        let refusal = PrivatePostgres::start(&home.path()).await.err().unwrap().to_string();
        assert!(refusal.contains("/var/lib/tasker-which-is-gone, but it is not there; to start over, remove"), "{refusal}");
    });
}
