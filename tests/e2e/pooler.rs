//! A real PgBouncer between the server and its database.

use std::{
    fs::{self, Permissions},
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::unix::fs::{MetadataExt, PermissionsExt},
    process::{Child, Command, Stdio},
    str::FromStr,
};

use tasker_test_support::{
    Proxy, database,
    dev::{Dev, Place, dev_command},
    skip, wait_until,
};
use tokio::runtime::Runtime;
use tokio_postgres::Config;

struct PgBouncer {
    child: Child,
    url: String,
}

impl PgBouncer {
    /// Starts one in front of a database, to which `url` leads by TCP. `None`: it is not installed.
    fn start(place: &Place, url: &str, pool_mode: &str) -> Option<Self> {
        let program = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"].into_iter().find(|path| fs::exists(path).unwrap())?;
        let config = Config::from_str(url).unwrap();
        let (user, name, server_port) = (config.get_user().unwrap(), config.get_dbname().unwrap(), config.get_ports()[0]);
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let settings = format!(
            "[databases]\n{name} = host=127.0.0.1 port={server_port} user={user}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = {pool_mode}\n"
        );
        fs::write(place.path("pgbouncer.ini"), settings).unwrap();
        let mut command = Command::new(program);
        // It refuses to run as root.
        if fs::metadata("/proc/self").unwrap().uid() == 0 {
            fs::set_permissions(place.dir.path(), Permissions::from_mode(0o755)).unwrap();
            command.args(["-u", "nobody"]);
        }
        let child = command.arg(place.path("pgbouncer.ini")).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        wait_until("PgBouncer accepts connections", || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok());
        Some(Self { child, url: format!("postgres://{user}@127.0.0.1:{port}/{name}") })
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const MISSING: &str = "the tests behind PgBouncer: it is not installed (apt-get install pgbouncer)";

#[test]
fn behind_a_pooler_in_transaction_mode_every_start_is_refused_with_the_remedy() {
    let runtime = Runtime::new().unwrap();
    let database = runtime.block_on(database());
    let (_proxy, url) = runtime.block_on(Proxy::to_database(&database.url));
    for round in 0..6 {
        let place = Place::create();
        // Fresh, so that the first transactions meet the same session of the server.
        let Some(pooler) = PgBouncer::start(&place, &url, "transaction") else { return skip(MISSING) };
        for start in 0..2 {
            let output = dev_command(&place, &["--database-url", &pooler.url]).output().unwrap();
            let stderr = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(1), "round {round}, start {start}: {stderr}");
            assert!(stderr.contains("PgBouncer in transaction mode") && stderr.contains("session mode"), "{stderr}");
        }
    }
}

#[test]
fn behind_a_pooler_in_session_mode_one_process_runs_and_a_second_one_is_refused() {
    let runtime = Runtime::new().unwrap();
    let database = runtime.block_on(database());
    let (_proxy, url) = runtime.block_on(Proxy::to_database(&database.url));
    let (place, second) = (Place::create(), Place::create());
    let Some(pooler) = PgBouncer::start(&place, &url, "session") else { return skip(MISSING) };
    let dev = Dev::start(&place, &["--database-url", &pooler.url]);
    assert_eq!(dev.get("/health/ready")["status"], "ready");
    let output = dev_command(&second, &["--database-url", &pooler.url]).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("another tasker process uses this database"), "{stderr}");
    assert!(dev.stop());
}
