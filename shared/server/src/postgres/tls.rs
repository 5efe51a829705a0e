//! TLS for a private server, as for a remote one: a password, and a certificate authority of its own.

use std::{
    fs::OpenOptions,
    io::Write,
    net::{Ipv4Addr, TcpListener},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tasker_store::StoreError;
use tokio_postgres::NoTls;
use uuid::Uuid;

use super::{account::Account, cluster::ROLE};
use crate::data_dir::{DataDir, read_line};

/// How to connect to a server over TLS.
pub struct Tls {
    /// On 127.0.0.1.
    pub port: u16,
    pub user: &'static str,
    pub password: String,
    /// The file of the authority's certificate. Beside it is `other-ca.crt`, of an authority that signed nothing.
    pub authority: PathBuf,
}

/// The settings of a server with TLS, and its port. The first call chooses the port and creates the certificates.
pub fn settings(data: &DataDir, cluster: &Path, account: &Account) -> Result<(u16, Vec<String>)> {
    let file = data.path().join("port");
    let port = match read_line(&file)? {
        Some(port) => port.parse().with_context(|| format!("{} does not contain a port", file.display()))?,
        None => {
            write_certificates(data.path(), cluster, account).context("cannot create the certificates of PostgreSQL")?;
            let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
            write(&file, &port.to_string(), 0o644)?;
            port
        }
    };
    // The names of the certificate and its key are PostgreSQL's defaults.
    Ok((port, vec![format!("port={port}"), "listen_addresses=127.0.0.1".into(), "ssl=on".into()]))
}

/// Sets the role's password to the data dir's. The first call chooses it.
pub async fn open(data: &DataDir, url: &str, port: u16) -> Result<Tls> {
    let file = data.path().join("password");
    let password = match read_line(&file)? {
        Some(password) => password,
        None => {
            let password = Uuid::new_v4().simple().to_string();
            write(&file, &password, 0o600)?;
            password
        }
    };
    let connected = tokio_postgres::connect(url, NoTls).await.map_err(StoreError::from);
    let (client, connection) = connected.context("cannot connect to PostgreSQL")?;
    let connection = tokio::spawn(connection);
    let set = client.batch_execute(&format!("alter role {ROLE} password '{password}'")).await.map_err(StoreError::from);
    set.context("cannot set the password")?;
    drop(client);
    let _ = connection.await;
    Ok(Tls { port, user: ROLE, password, authority: data.path().join("ca.crt") })
}

fn write_certificates(data: &Path, cluster: &Path, account: &Account) -> Result<()> {
    let (authority, certificate_of_authority) = authority("Tasker local authority")?;
    let (_, other) = self::authority("Another authority")?;
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(["localhost".into(), "127.0.0.1".into()])?.signed_by(&key, &authority)?;
    for (file, text, mode) in [
        (data.join("ca.crt"), certificate_of_authority, 0o644),
        (data.join("other-ca.crt"), other, 0o644),
        (cluster.join("server.crt"), certificate.pem(), 0o600),
        (cluster.join("server.key"), key.serialize_pem(), 0o600),
    ] {
        write(&file, &text, mode)?;
        if file.starts_with(cluster) {
            account.take(&file)?;
        }
    }
    Ok(())
}

fn write(file: &Path, text: &str, mode: u32) -> Result<()> {
    let mut options = OpenOptions::new();
    let opened = options.write(true).create(true).truncate(true).mode(mode).open(file);
    opened.and_then(|mut opened| opened.write_all(text.as_bytes())).with_context(|| format!("cannot write {}", file.display()))
}

/// A new certificate authority, and its certificate.
fn authority(name: &str) -> Result<(Issuer<'static, KeyPair>, String)> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?.pem();
    Ok((Issuer::new(params, key), certificate))
}
