//! A wire to the database that can lose an answer after the server has committed.

use std::{
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixStream},
};
use tokio_postgres::{Config, config::Host};

/// The server's last word of an answer: ready for a query, outside a transaction.
const READY: &[u8] = b"Z\0\0\0\x05I";

pub struct Proxy {
    /// The database by way of this proxy.
    pub url: String,
    /// Answers that still come through; the next one is lost and its connection cut. Negative: none is lost.
    left: Arc<AtomicI64>,
}

impl Proxy {
    pub async fn to(url: &str) -> Self {
        let config = Config::from_str(url).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let left = Arc::new(AtomicI64::new(-1));
        let url =
            format!("host=127.0.0.1 port={port} user={} dbname={}", config.get_user().unwrap(), config.get_dbname().unwrap());
        let password = config.get_password().map(|p| format!(" password='{}'", String::from_utf8_lossy(p))).unwrap_or_default();
        // Of several hosts the socket is the one that surely answers.
        let hosts = config.get_hosts();
        let host = hosts.iter().find(|host| matches!(host, Host::Unix(_))).unwrap_or(&hosts[0]).clone();
        let server_port = config.get_ports().first().copied().unwrap_or(5432);
        let shared = left.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let left = shared.clone();
                match &host {
                    Host::Tcp(name) => {
                        let server = TcpStream::connect((name.as_str(), server_port)).await.unwrap();
                        tokio::spawn(carry(client, server, left));
                    }
                    Host::Unix(folder) => {
                        let server = UnixStream::connect(folder.join(format!(".s.PGSQL.{server_port}"))).await.unwrap();
                        tokio::spawn(carry(client, server, left));
                    }
                }
            }
        });
        Self { url: url + &password, left }
    }

    /// Lets so many answers come through and loses the next one.
    pub fn lose_after(&self, answers: i64) {
        self.left.store(answers, Relaxed);
    }

    /// Whether the answer that was to be lost is lost.
    pub fn lost(&self) -> bool {
        self.left.load(Relaxed) < 0
    }
}

/// Carries both ways until one side ends, or an answer is to be lost.
async fn carry<S: AsyncRead + AsyncWrite + Unpin>(client: TcpStream, server: S, left: Arc<AtomicI64>) {
    client.set_nodelay(true).unwrap();
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = tokio::io::split(server);
    let up = tokio::io::copy(&mut from_client, &mut to_server);
    let down = async {
        let mut answer = vec![0; 1 << 16];
        loop {
            let n = from_server.read(&mut answer).await.unwrap_or(0);
            // Counted at its end, which the server writes only after the commit.
            let complete = answer[..n].ends_with(READY);
            if n == 0 || (complete && left.load(Relaxed) >= 0 && left.fetch_sub(1, Relaxed) == 0) {
                return;
            }
            if to_client.write_all(&answer[..n]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        _ = up => {}
        () = down => {}
    }
}
