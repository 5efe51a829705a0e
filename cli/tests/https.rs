//! HTTPS as users meet it: the API and AWS behind a certificate that an authority of this machine signed, or another one.

#![allow(clippy::unwrap_used)]

use std::{
    fs, io,
    net::SocketAddr,
    path::PathBuf,
    process::{Output, Stdio},
    sync::Arc,
};

use axum::{Router, extract::Request, serve::Listener};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use tempfile::TempDir;
use tokio::{
    net::{TcpListener, TcpStream},
    process::Command,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

struct Server {
    url: String,
    home: TempDir,
}

impl Server {
    /// Answers the command line's questions to the API and to SQS.
    async fn start() -> Self {
        let home = tempfile::tempdir().unwrap();
        let authority = authority(home.path().join("ours.pem"));
        authority_of_nothing(home.path().join("other.pem"));
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(["localhost".into()]).unwrap().signed_by(&key, &authority).unwrap();
        let tls = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.into()], key.into())
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let router = Router::new().fallback(|request: Request| async move {
            match request.uri().path() {
                "/v1/doctor" => r#"{"checked": {"tasks": 2, "steps": 9}, "differences": []}"#,
                _ => r#"{"QueueUrls": []}"#,
            }
        });
        let listener = ByTls(listener, TlsAcceptor::from(Arc::new(tls)));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, home }
    }

    /// `tasker-ctl` that trusts the authority in this file.
    async fn ctl(&self, trusted: &str, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_tasker-ctl"))
            .args(arguments)
            .env("SSL_CERT_FILE", self.home.path().join(trusted))
            .env_remove("SSL_CERT_DIR")
            .envs([("TASKER_URL", &*self.url), ("AWS_ENDPOINT_URL", &*self.url), ("AWS_REGION", "eu-central-1")])
            .envs([("AWS_ACCESS_KEY_ID", "none"), ("AWS_SECRET_ACCESS_KEY", "none"), ("NO_PROXY", "localhost")])
            .stdin(Stdio::null())
            .output()
            .await
            .unwrap()
    }
}

struct ByTls(TcpListener, TlsAcceptor);

impl Listener for ByTls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, from) = self.0.accept().await.unwrap();
            // Who does not trust the certificate breaks off.
            if let Ok(stream) = self.1.accept(stream).await {
                return (stream, from);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

fn authority(file: PathBuf) -> Issuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let key = KeyPair::generate().unwrap();
    fs::write(file, params.self_signed(&key).unwrap().pem()).unwrap();
    Issuer::new(params, key)
}

fn authority_of_nothing(file: PathBuf) {
    drop(authority(file));
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[tokio::test]
async fn the_api_is_reached_by_https_if_its_certificate_comes_from_an_authority_that_is_trusted() {
    let server = Server::start().await;
    let found = server.ctl("ours.pem", &["doctor"]).await;
    assert!(found.status.success(), "{}", err(&found));
    assert_eq!(String::from_utf8(found.stdout).unwrap(), "checked 2 tasks and 9 steps: no differences\n");
    let refused = server.ctl("other.pem", &["doctor"]).await;
    assert_eq!(refused.status.code(), Some(1), "{}", err(&refused));
    assert!(err(&refused).contains("certificate"), "{}", err(&refused));
}

#[tokio::test]
async fn aws_is_reached_by_https_if_its_certificate_comes_from_an_authority_that_is_trusted() {
    let server = Server::start().await;
    let prefix = format!("{}/000000000000/shop-", server.url);
    let found = server.ctl("ours.pem", &["queues", "--queues", &prefix]).await;
    assert_eq!(found.status.code(), Some(3), "{}", err(&found));
    assert!(err(&found).contains("there are no queues of a deployment `shop-`"), "{}", err(&found));
    let refused = server.ctl("other.pem", &["queues", "--queues", &prefix]).await;
    assert!(err(&refused).contains("certificate"), "{}", err(&refused));
}
