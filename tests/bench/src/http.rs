//! The HTTP connection of one caller. It uses only hyper, because the client shares the CPU with the measured system.

use anyhow::{Context, Result, bail};
use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, StatusCode,
    body::Bytes,
    client::conn::http1::{SendRequest, handshake},
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

pub struct Http {
    address: String,
    sender: Option<SendRequest<Full<Bytes>>>,
}

impl Http {
    /// Connects before the measurement starts.
    pub async fn to(address: &str) -> Result<Self> {
        let mut http = Self { address: address.to_owned(), sender: None };
        http.sender = Some(http.connect().await?);
        Ok(http)
    }

    /// Sends a request. Reconnects once if the server has closed the connection.
    pub async fn request(&mut self, method: Method, path: &str, body: &str) -> Result<(StatusCode, Bytes)> {
        for _ in 0..2 {
            let mut sender = match self.sender.take() {
                Some(sender) if !sender.is_closed() => sender,
                _ => self.connect().await?,
            };
            let request = Request::builder()
                .method(method.clone())
                .uri(path)
                .header("host", &self.address)
                .header("content-type", "application/json")
                .body(Full::new(Bytes::copy_from_slice(body.as_bytes())))?;
            if sender.ready().await.is_err() {
                continue;
            }
            let response = sender.send_request(request).await?;
            let status = response.status();
            let body = response.into_body().collect().await?.to_bytes();
            self.sender = Some(sender);
            return Ok((status, body));
        }
        bail!("{} closes its connections", self.address)
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>> {
        let stream = TcpStream::connect(&self.address).await.with_context(|| format!("{} does not answer", self.address))?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(sender)
    }
}
