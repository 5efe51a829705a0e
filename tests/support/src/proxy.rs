//! A proxy between a program and a server: it breaks connections, leaves them half open, refuses new ones, and loses answers of
//! PostgreSQL.

use std::{
    io,
    net::SocketAddr,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering::SeqCst},
    },
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split},
    net::{TcpListener, TcpStream, UnixStream},
    sync::watch,
};
use tokio_postgres::{Config, config::Host};

/// The last bytes of a PostgreSQL answer: ready for a query, outside a transaction.
const READY: &[u8] = b"Z\0\0\0\x05I";

/// A connection to a server, by TCP or by a socket.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Passes connections on while it is open.
pub struct Proxy {
    pub address: SocketAddr,
    state: Arc<State>,
}

struct State {
    open: AtomicBool,
    /// New connections are accepted and never answered.
    silent: AtomicBool,
    cut: watch::Sender<()>,
    halved: watch::Sender<()>,
    refused: AtomicUsize,
    /// Answers that still come through; the next one is lost and its connection cut. Negative: none is lost.
    answers_left: AtomicI64,
}

impl Proxy {
    /// In front of a host and port.
    pub async fn to(target: &str) -> Self {
        let (host, port) = target.rsplit_once(':').expect("a target is a host and a port");
        Self::between(Host::Tcp(host.to_owned()), port.parse().expect("a port is a number")).await
    }

    /// In front of a database; also answers the database's URL by way of the proxy.
    pub async fn to_database(url: &str) -> (Self, String) {
        let config = Config::from_str(url).expect("the URL of a test database is valid");
        let (host, port) = host_of(&config);
        let proxy = Self::between(host, port).await;
        let (user, database) = (config.get_user().unwrap_or_default(), config.get_dbname().unwrap_or_default());
        let password = config.get_password().map(|p| format!(" password='{}'", String::from_utf8_lossy(p))).unwrap_or_default();
        let url = format!("host=127.0.0.1 port={} user={user} dbname={database}{password}", proxy.address.port());
        (proxy, url)
    }

    async fn between(host: Host, port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let state = Arc::new(State {
            open: AtomicBool::new(true),
            silent: AtomicBool::new(false),
            cut: watch::Sender::default(),
            halved: watch::Sender::default(),
            refused: AtomicUsize::new(0),
            answers_left: AtomicI64::new(-1),
        });
        let shared = state.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(shared.clone().serve(client, host.clone(), port));
            }
        });
        Self { address, state }
    }

    /// Breaks every connection, and refuses new ones.
    pub fn close(&self) {
        self.state.open.store(false, SeqCst);
        self.state.cut.send_replace(());
    }

    pub fn open(&self) {
        self.state.open.store(true, SeqCst);
    }

    /// Ends the server's side of every connection and says nothing to the client, as a proxy that lost its state does. New connections
    /// are served, unless they are to be `silent` too.
    pub fn leave_half_open(&self, silent: bool) {
        self.state.silent.store(silent, SeqCst);
        self.state.halved.send_replace(());
    }

    /// How many connections were refused.
    pub fn refused(&self) -> usize {
        self.state.refused.load(SeqCst)
    }

    /// Forwards a number of PostgreSQL's responses, and loses the next one after its commit.
    pub fn lose_after(&self, answers: i64) {
        self.state.answers_left.store(answers, SeqCst);
    }

    /// Whether the answer has been lost.
    pub fn lost(&self) -> bool {
        self.state.answers_left.load(SeqCst) < 0
    }
}

impl State {
    async fn serve(self: Arc<Self>, mut client: TcpStream, host: Host, port: u16) {
        let (mut cut, mut halved) = (self.cut.subscribe(), self.halved.subscribe());
        if !self.open.load(SeqCst) {
            self.refused.fetch_add(1, SeqCst);
            return;
        }
        if !self.silent.load(SeqCst) {
            let Ok(server) = connect(&host, port).await else { return };
            tokio::select! {
                () = self.carry(&mut client, server) => return,
                _ = cut.changed() => return,
                _ = halved.changed() => {}
            }
        }
        // Takes what the client sends until it hangs up.
        let _ = tokio::io::copy(&mut client, &mut tokio::io::sink()).await;
    }

    /// Copies both ways until one side ends, or an answer is lost.
    async fn carry(&self, client: &mut TcpStream, server: Box<dyn Stream>) {
        let _ = client.set_nodelay(true);
        let (mut from_client, mut to_client) = client.split();
        let (mut from_server, mut to_server) = split(server);
        let up = tokio::io::copy(&mut from_client, &mut to_server);
        let down = async {
            let mut answer = vec![0; 1 << 16];
            loop {
                let n = from_server.read(&mut answer).await.unwrap_or(0);
                if n == 0 || self.loses(&answer[..n]) || to_client.write_all(&answer[..n]).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            _ = up => {}
            () = down => {}
        }
    }

    /// Counts an answer at its end. The server writes the end only after the commit.
    fn loses(&self, answer: &[u8]) -> bool {
        let counts = answer.ends_with(READY) && self.answers_left.load(SeqCst) >= 0;
        counts && self.answers_left.fetch_sub(1, SeqCst) == 0
    }
}

/// Where the server of a database is. Of several hosts the socket is the one that surely answers.
pub fn host_of(config: &Config) -> (Host, u16) {
    let hosts = config.get_hosts();
    let socket = hosts.iter().find(|host| matches!(host, Host::Unix(_)));
    let host = socket.or(hosts.first()).expect("the URL of a test database names a host").clone();
    (host, config.get_ports().first().copied().unwrap_or(5432))
}

pub async fn connect(host: &Host, port: u16) -> io::Result<Box<dyn Stream>> {
    Ok(match host {
        Host::Tcp(name) => {
            let stream = TcpStream::connect((name.as_str(), port)).await?;
            stream.set_nodelay(true)?;
            Box::new(stream)
        }
        Host::Unix(folder) => Box::new(UnixStream::connect(folder.join(format!(".s.PGSQL.{port}"))).await?),
    })
}
