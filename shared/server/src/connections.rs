//! Serves HTTP to a bounded number of connections. Further clients get 503 immediately. A connection without a timely request is closed.

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use axum::{Router, serve::Listener};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};

/// Rejected clients whose request is read to its end. A further one may lose the response if it is still sending.
const REFUSALS: usize = 1024;
/// How long a rejected client may take to read its response.
const REFUSAL: Duration = Duration::from_secs(1);
const BODY: &str = r#"{"error":{"code":"BACKPRESSURE","message":"too busy: too many connections are open; send the request again later","retry_after_seconds":1}}"#;

/// The maximum number of connections, and the time for the head of a request.
pub struct Bounds {
    pub connections: usize,
    pub head: Duration,
}

/// The number of connections that the file descriptors allow, at most `most`. Half of the descriptors are for everything else. Raises the
/// soft limit if it can: a shell usually starts with 1,024.
pub fn affordable(most: usize) -> usize {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return most };
    let wanted = 2 * most as u64;
    let soft = match setrlimit(Resource::RLIMIT_NOFILE, wanted.min(hard), hard) {
        Ok(()) if soft < wanted => wanted.min(hard),
        _ => soft,
    };
    most.min(usize::try_from(soft / 2).unwrap_or(most)).max(1)
}

/// Serves until `shutdown`, answers the requests that have arrived, and returns.
pub async fn serve(mut listener: TcpListener, router: Router, bounds: Bounds, shutdown: impl Future<Output = ()>) {
    let open = GracefulShutdown::new();
    tokio::select! {
        never = accept(&mut listener, router, bounds, &open) => match never {},
        () = shutdown => {}
    }
    drop(listener);
    open.shutdown().await;
}

async fn accept(listener: &mut TcpListener, router: Router, bounds: Bounds, open: &GracefulShutdown) -> Infallible {
    let (places, refusals) = (Arc::new(Semaphore::new(bounds.connections)), Arc::new(Semaphore::new(REFUSALS)));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(bounds.head);
    loop {
        // axum's accept waits and retries when file descriptors run out.
        let (stream, _) = Listener::accept(listener).await;
        let Ok(place) = places.clone().try_acquire_owned() else {
            refuse(stream, &refusals);
            continue;
        };
        // A response is sent immediately, even if the last one is not acknowledged yet.
        let _ = stream.set_nodelay(true);
        let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router.clone()));
        let connection = open.watch(connection);
        tokio::spawn(async move {
            // A client that hangs up, breaks the protocol or is too slow is not an error of the server.
            let _ = connection.await;
            drop(place);
        });
    }
}

fn refuse(stream: TcpStream, refusals: &Arc<Semaphore>) {
    // The response fits into the buffer of a new connection. Otherwise the client sees a closed connection.
    let _ = stream.try_write(refusal().as_bytes());
    if let Ok(place) = refusals.clone().try_acquire_owned() {
        tokio::spawn(async move {
            let _ = timeout(REFUSAL, read_to_the_end(stream)).await;
            drop(place);
        });
    }
}

fn refusal() -> String {
    let head = "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\nconnection: close\r\n";
    format!("{head}content-length: {}\r\n\r\n{BODY}", BODY.len())
}

/// Reads to the end: closing with unread data would reset the connection and discard the response.
async fn read_to_the_end(mut stream: TcpStream) -> io::Result<()> {
    stream.shutdown().await?;
    let mut ignored = [0; 4096];
    while stream.read(&mut ignored).await? > 0 {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{future::pending, net::SocketAddr};

    use axum::routing::get;
    use tokio::task::JoinHandle;
    use tokio_util::sync::CancellationToken;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    async fn server(bounds: Bounds, shutdown: impl Future<Output = ()> + Send + 'static) -> (SocketAddr, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let routes = Router::new().route("/", get(async || "here"));
        (address, tokio::spawn(serve(listener, routes, bounds, shutdown)))
    }

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
    async fn a_client_beyond_the_limit_gets_503_and_is_served_once_a_connection_is_free() {
        let (address, server) = server(Bounds { connections: 2, head: LONG }, pending()).await;
        let (first, answer) = get_from(address).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let (_second, _) = get_from(address).await;
        let (_third, refused) = get_from(address).await;
        assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("retry-after: 1\r\n"), "{refused}");
        let (_, body) = refused.split_once("\r\n\r\n").unwrap();
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["error"]["code"], "BACKPRESSURE");
        drop(first);
        // The server notices the closed connection a little later.
        while !get_from(address).await.1.starts_with("HTTP/1.1 200") {}
        server.abort();
    }

    #[tokio::test]
    async fn a_connection_that_says_nothing_is_closed_and_its_place_is_free() {
        let (address, server) = server(Bounds { connections: 1, head: Duration::from_millis(100) }, pending()).await;
        let mut silent = TcpStream::connect(address).await.unwrap();
        assert_eq!(silent.read(&mut [0; 16]).await.unwrap(), 0, "the server hangs up");
        while !get_from(address).await.1.starts_with("HTTP/1.1 200") {}
        server.abort();
    }

    #[tokio::test]
    async fn a_connection_that_drips_its_head_is_closed() {
        let (address, server) = server(Bounds { connections: 1, head: Duration::from_millis(100) }, pending()).await;
        let mut slow = TcpStream::connect(address).await.unwrap();
        slow.write_all(b"GET / HTTP/1.1\r\nhost: ").await.unwrap();
        let (mut reads, mut writes) = slow.into_split();
        let mut drips = tokio::time::interval(Duration::from_millis(10));
        let mut answer = [0; 16];
        let closed = loop {
            tokio::select! {
                read = reads.read(&mut answer) => break read,
                _ = drips.tick() => { let _ = writes.write_all(b"x").await; }
            }
        };
        // A drop that arrives after the server hung up is answered by a reset.
        assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");
        server.abort();
    }

    #[tokio::test]
    async fn a_shutdown_hangs_up_on_idle_connections_and_takes_no_more() {
        let shutdown = CancellationToken::new();
        let (address, server) = server(Bounds { connections: 2, head: LONG }, shutdown.clone().cancelled_owned()).await;
        let (mut idle, _) = get_from(address).await;
        shutdown.cancel();
        server.await.unwrap();
        assert_eq!(idle.read(&mut [0; 16]).await.unwrap(), 0);
        assert!(TcpStream::connect(address).await.is_err());
    }
}
