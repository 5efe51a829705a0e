//! Connections to the database: its address, TLS, and logins that change while the process runs.

use std::{fs, future::Future, net::IpAddr, path::Path, pin::Pin, str::FromStr, sync::Arc, time::Duration};

use deadpool_postgres::Connect;
use percent_encoding::percent_decode_str;
use rustls::{ClientConfig, RootCertStore, pki_types::CertificateDer, pki_types::pem::PemObject};
use tokio::task::JoinHandle;
use tokio_postgres::{
    CancelToken, Client, Config, NoTls,
    config::{Host, SslMode},
    error::SqlState,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::{
    StoreError,
    session::{Fence, Session},
};

type Connected = Result<(Client, JoinHandle<()>), tokio_postgres::Error>;

const CONNECT: Duration = Duration::from_secs(5);
/// How long opening a connection may take altogether, with its TLS, login and first statements.
const OPEN: Duration = Duration::from_secs(10);
/// The pause before a connection that carries nothing is probed, and between two probes.
const KEEP_ALIVE: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(5)];
/// Unanswered probes that end a connection.
const PROBES: u32 = 3;
/// How long sent data may stay unacknowledged before the connection ends.
const UNACKNOWLEDGED: Duration = Duration::from_secs(25);
/// The driver's value where a URL names none.
const DRIVERS_KEEP_ALIVE: Duration = Duration::from_secs(2 * 60 * 60);

#[derive(Clone)]
pub struct Login {
    pub user: String,
    pub password: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Login({})", self.user)
    }
}

/// A source of logins that change while the process runs.
pub trait Credentials: Send + Sync + 'static {
    /// The login to try after the server rejected `refused` logins in this attempt to connect. `None` if there is no other.
    fn login(&self, refused: u32) -> Pin<Box<dyn Future<Output = Option<Login>> + Send + '_>>;
}

/// Opens connections to a database.
#[derive(Clone)]
pub struct Connector {
    pub(crate) config: Config,
    tls: Option<MakeRustlsConnect>,
    logins: Option<Arc<dyn Credentials>>,
    session: Session,
}

impl Connector {
    /// Reads a libpq URL or key-value string. `sslmode` is `verify-full` or `disable`; by default, connections to other machines use
    /// TLS. `sslrootcert` (in a URL) names a file with trusted certificate authorities; by default, those of the system are trusted.
    /// The URL may contain a password, so errors do not repeat it.
    pub fn by_url(database_url: &str) -> Result<Self, StoreError> {
        let (rest, ours) = take_tls_settings(database_url);
        let mut config = Config::from_str(&rest).map_err(|e| {
            StoreError::Setting(format!(
                "the database URL cannot be read ({e}); expected postgres://user:password@host:port/database"
            ))
        })?;
        let wanted = match ours.mode.as_deref() {
            Some("disable") => false,
            // libpq's `require` accepts any certificate, which keeps no attacker out. Here it means verify-full.
            Some("verify-full" | "require") => true,
            Some(other) => {
                return Err(StoreError::Setting(format!(
                    "sslmode={other} is not supported in the database URL; use verify-full (TLS with a checked certificate) or disable"
                )));
            }
            None => match config.get_ssl_mode() {
                SslMode::Require => true,
                SslMode::Disable => false,
                _ => !is_local(&config),
            },
        };
        let tls = if wanted { Some(connector(ours.authorities.as_deref())?) } else { None };
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT);
        }
        config.ssl_mode(if wanted { SslMode::Require } else { SslMode::Disable });
        keep_alive(&mut config);
        Ok(Self { config, tls, logins: None, session: Session::default() })
    }

    /// Begins each session with further statements.
    pub(crate) fn with_settings(mut self, statements: &str) -> Self {
        self.session.more.push_str(statements);
        self
    }

    /// Opens connections only while that ownership is held.
    pub(crate) fn fenced(mut self, fence: Fence) -> Self {
        self.session.fence = Some(fence);
        self
    }

    /// Asks `logins` for a login at each connection.
    pub fn with_logins(mut self, logins: Arc<dyn Credentials>) -> Self {
        self.logins = Some(logins);
        self
    }

    /// Whether the address contains a user or a password.
    pub fn has_login(&self) -> bool {
        self.config.get_user().is_some() || self.config.get_password().is_some()
    }

    /// Opens a connection in a bounded time, and the tokio task that drives it.
    pub(crate) async fn open(&self) -> Result<(Client, JoinHandle<()>), StoreError> {
        match tokio::time::timeout(OPEN, self.connect()).await {
            Ok(opened) => Ok(opened?),
            Err(_) => Err(StoreError::Unavailable(format!("no session within {} s", OPEN.as_secs()))),
        }
    }

    /// Opens a connection, begins its session, and returns the tokio task that drives it. An error of the connection reaches the call
    /// that it breaks.
    async fn connect(&self) -> Connected {
        let (client, connection) = self.log_in().await?;
        client.batch_execute(&self.session.statements()).await?;
        Ok((client, connection))
    }

    async fn log_in(&self) -> Connected {
        let Some(logins) = &self.logins else { return self.connect_as(&self.config).await };
        let mut refused = 0;
        let mut last = None;
        while let Some(login) = logins.login(refused).await {
            let mut config = self.config.clone();
            config.user(&login.user).password(&login.password);
            match self.connect_as(&config).await {
                Err(e) if e.code() == Some(&SqlState::INVALID_PASSWORD) => last = Some(e),
                answer => return answer,
            }
            refused += 1;
        }
        match last {
            Some(error) => Err(error),
            // Without a login, the server's answer is the error. The source of logins has logged why there is none.
            None => self.connect_as(&self.config).await,
        }
    }

    /// Asks the server to end the statement that a session runs.
    pub(crate) async fn cancel(&self, token: CancelToken) -> Result<(), tokio_postgres::Error> {
        match &self.tls {
            Some(tls) => token.cancel_query(tls.clone()).await,
            None => token.cancel_query(NoTls).await,
        }
    }

    async fn connect_as(&self, config: &Config) -> Connected {
        match &self.tls {
            Some(tls) => {
                let (client, connection) = config.connect(tls.clone()).await?;
                Ok((client, tokio::spawn(async move { drop(connection.await) })))
            }
            None => {
                let (client, connection) = config.connect(NoTls).await?;
                Ok((client, tokio::spawn(async move { drop(connection.await) })))
            }
        }
    }
}

impl Connect for Connector {
    fn connect(&self, _: &Config) -> Pin<Box<dyn Future<Output = Connected> + Send + '_>> {
        Box::pin(Self::connect(self))
    }
}

/// A connection whose other side is gone ends within half a minute, unless the URL says otherwise.
fn keep_alive(config: &mut Config) {
    let [idle, interval] = KEEP_ALIVE;
    if config.get_keepalives_idle() == DRIVERS_KEEP_ALIVE {
        config.keepalives_idle(idle);
    }
    if config.get_keepalives_interval().is_none() {
        config.keepalives_interval(interval);
    }
    if config.get_keepalives_retries().is_none() {
        config.keepalives_retries(PROBES);
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(UNACKNOWLEDGED);
    }
}

#[derive(Default)]
struct TlsSettings {
    mode: Option<String>,
    authorities: Option<String>,
}

/// Removes the settings from a URL that the driver does not know. A key-value string stays unchanged.
fn take_tls_settings(database_url: &str) -> (String, TlsSettings) {
    let mut settings = TlsSettings::default();
    let is_url = database_url.starts_with("postgres://") || database_url.starts_with("postgresql://");
    let Some((address, query)) = database_url.split_once('?').filter(|_| is_url) else {
        return (database_url.to_owned(), settings);
    };
    let mut others = Vec::new();
    for pair in query.split('&') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let decoded = || percent_decode_str(value).decode_utf8_lossy().into_owned();
        match key {
            "sslmode" => settings.mode = Some(decoded()),
            "sslrootcert" => settings.authorities = Some(decoded()).filter(|file| !file.is_empty()),
            _ => others.push(pair),
        }
    }
    let rest = if others.is_empty() { address.to_owned() } else { format!("{address}?{}", others.join("&")) };
    (rest, settings)
}

/// Whether the database is on this machine.
fn is_local(config: &Config) -> bool {
    if !config.get_hostaddrs().is_empty() {
        return config.get_hostaddrs().iter().all(IpAddr::is_loopback);
    }
    config.get_hosts().iter().all(|host| match host {
        Host::Tcp(name) => name == "localhost" || IpAddr::from_str(name).is_ok_and(|ip| ip.is_loopback()),
        Host::Unix(_) => true,
    })
}

fn connector(authorities: Option<&str>) -> Result<MakeRustlsConnect, StoreError> {
    let mut roots = RootCertStore::empty();
    match authorities {
        Some(file) => add_file(&mut roots, Path::new(file))?,
        None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
    }
    if roots.is_empty() {
        return Err(StoreError::Setting(
            "no certificate authority is trusted: name a file of authorities with sslrootcert in the database URL".into(),
        ));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| StoreError::Bug(e.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

fn add_file(roots: &mut RootCertStore, file: &Path) -> Result<(), StoreError> {
    let unusable = |why: String| StoreError::Setting(format!("sslrootcert {} of the database URL: {why}", file.display()));
    let pem = fs::read(file).map_err(|e| unusable(e.to_string()))?;
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|e| unusable(e.to_string()))?;
        roots.add(certificate).map_err(|e| unusable(e.to_string()))?;
    }
    if roots.is_empty() { Err(unusable("it contains no certificate".into())) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uses_tls(url: &str) -> bool {
        Connector::by_url(url).unwrap().tls.is_some()
    }

    #[test]
    fn connections_to_other_machines_use_tls_unless_the_url_disables_it() {
        for local in ["postgres://u@localhost/d", "postgres://u@127.0.0.1:5/d", "postgres://u@/d?host=/tmp", "host=/tmp user=u"] {
            assert!(!uses_tls(local), "{local}");
        }
        for (remote, tls) in [
            ("postgres://u@db.example/d", true),
            ("postgres://u@db.example/d?connect_timeout=3&sslmode=disable", false),
            ("postgres://u@127.0.0.1/d?sslmode=verify-full", true),
            ("host=10.0.0.1 user=u", true),
        ] {
            assert_eq!(uses_tls(remote), tls, "{remote}");
        }
    }

    #[test]
    fn a_connection_that_is_half_open_ends_by_itself_as_soon_as_the_url_says_or_within_half_a_minute() {
        let ours = Connector::by_url("postgres://u@h/d?sslmode=disable").unwrap().config;
        assert_eq!(ours.get_keepalives_idle() + PROBES * ours.get_keepalives_interval().unwrap(), Duration::from_secs(25));
        assert_eq!((ours.get_keepalives_retries(), ours.get_tcp_user_timeout()), (Some(3), Some(&Duration::from_secs(25))));
        let theirs = "host=h sslmode=disable keepalives_idle=60 keepalives_interval=20 keepalives_retries=9 tcp_user_timeout=70";
        let theirs = Connector::by_url(theirs).unwrap().config;
        assert_eq!((theirs.get_keepalives_idle().as_secs(), theirs.get_keepalives_retries()), (60, Some(9)));
        assert_eq!(theirs.get_keepalives_interval().unwrap().as_secs(), 20);
        assert_eq!(theirs.get_tcp_user_timeout().unwrap().as_secs(), 70);
    }

    #[test]
    fn a_setting_that_would_not_check_the_certificate_is_refused_in_a_sentence() {
        for mode in ["prefer", "allow", "verify-ca", "nonsense"] {
            let error = Connector::by_url(&format!("postgres://u:secret@h/d?sslmode={mode}")).err().unwrap().to_string();
            assert!(error.contains(mode) && error.contains("verify-full") && !error.contains("secret"), "{error}");
        }
        let error = Connector::by_url("postgres://u:secret@h/d?sslrootcert=%2Fnot%2Fthere").err().unwrap().to_string();
        assert!(error.contains("/not/there") && !error.contains("secret"), "{error}");
    }

    #[test]
    fn tls_settings_are_removed_from_the_url_and_the_rest_is_unchanged() {
        let (rest, settings) = take_tls_settings("postgres://u:p%3F@h/d?a=1&sslrootcert=x%20y&b=2&sslmode=disable");
        assert_eq!(rest, "postgres://u:p%3F@h/d?a=1&b=2");
        assert_eq!((settings.mode.as_deref(), settings.authorities.as_deref()), (Some("disable"), Some("x y")));
        assert_eq!(take_tls_settings("postgres://h/d?sslmode=disable").0, "postgres://h/d");
    }
}
