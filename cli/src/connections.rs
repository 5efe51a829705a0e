//! The connections of HTTP clients, no more than a number of them: who comes beyond it is told to come back, at once.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::serve::Listener;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// Clients that were refused and are heard out; those beyond them may lose the answer when they speak at the wrong moment.
const REFUSALS: usize = 1024;
/// How long a client may take to hear that it is refused.
const REFUSAL: Duration = Duration::from_secs(1);
const BODY: &str = r#"{"error":{"code":"BACKPRESSURE","message":"too busy: too many connections are open; send the request again later","retry_after_seconds":1}}"#;

/// As many connections as there are file descriptors for, at most `most`: half of them are for everything else. A session of a shell usually
/// begins with 1,024 and may have more.
pub fn affordable(most: usize) -> usize {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return most };
    let wanted = 2 * most as u64;
    let soft = match setrlimit(Resource::RLIMIT_NOFILE, wanted.min(hard), hard) {
        Ok(()) if soft < wanted => wanted.min(hard),
        _ => soft,
    };
    most.min(usize::try_from(soft / 2).unwrap_or(most)).max(1)
}

/// Accepts connections as long as there are places.
pub struct Connections {
    listener: TcpListener,
    places: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
}

impl Connections {
    /// At most `most` at once.
    pub fn of(listener: TcpListener, most: usize) -> Self {
        Self { listener, places: Arc::new(Semaphore::new(most)), refusals: Arc::new(Semaphore::new(REFUSALS)) }
    }
}

impl Listener for Connections {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            // Of the listener's own: it waits and tries again when there are no file descriptors.
            let (stream, address) = Listener::accept(&mut self.listener).await;
            if let Ok(place) = self.places.clone().try_acquire_owned() {
                // An answer leaves at once, also when the last one was not acknowledged yet.
                let _ = stream.set_nodelay(true);
                return (Connection { stream, _place: place }, address);
            }
            // It fits into the buffer of a new connection; if it does not, the client sees us hang up.
            let _ = stream.try_write(refusal().as_bytes());
            if let Ok(place) = self.refusals.clone().try_acquire_owned() {
                tokio::spawn(async move {
                    let _ = timeout(REFUSAL, hear_out(stream)).await;
                    drop(place);
                });
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

fn refusal() -> String {
    let head = "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\nconnection: close\r\n";
    format!("{head}content-length: {}\r\n\r\n{BODY}", BODY.len())
}

/// Hanging up on what it still says would take the answer away from it.
async fn hear_out(mut stream: TcpStream) -> io::Result<()> {
    stream.shutdown().await?;
    let mut said = [0; 4096];
    while stream.read(&mut said).await? > 0 {}
    Ok(())
}

/// A connection; its place is free when it is dropped.
pub struct Connection {
    stream: TcpStream,
    _place: OwnedSemaphorePermit,
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use axum::{Router, routing::get};

    use super::*;

    async fn get_from(address: SocketAddr) -> (TcpStream, String) {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"}") && !answer.ends_with(b"here") {
            let mut some = [0; 1024];
            let count = stream.read(&mut some).await.unwrap();
            assert!(count > 0, "hung up after {:?}", String::from_utf8_lossy(&answer));
            answer.extend_from_slice(&some[..count]);
        }
        (stream, String::from_utf8(answer).unwrap())
    }

    #[tokio::test]
    async fn who_comes_beyond_the_places_is_told_to_come_back_and_may_when_one_is_free() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let routes = Router::new().route("/", get(async || "here"));
        let server = tokio::spawn(async move { axum::serve(Connections::of(listener, 2), routes).await });
        let (first, answer) = get_from(address).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let (_second, _) = get_from(address).await;
        let (_third, refused) = get_from(address).await;
        assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("retry-after: 1\r\n"), "{refused}");
        let (_, body) = refused.split_once("\r\n\r\n").unwrap();
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["error"]["code"], "BACKPRESSURE");
        drop(first);
        // The server hears of it a little later.
        while !get_from(address).await.1.starts_with("HTTP/1.1 200") {}
        server.abort();
    }
}
