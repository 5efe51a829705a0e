//! Something between a function and what it talks to, which can be taken away and put back.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// Passes connections on while it is open.
pub struct Proxy {
    pub address: SocketAddr,
    open: Arc<AtomicBool>,
    cut: watch::Sender<u64>,
    refused: Arc<AtomicUsize>,
}

impl Proxy {
    /// In front of a host and port.
    pub async fn to(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (open, refused) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
        let (cut, _) = watch::channel(0);
        let (is_open, count, cuts, target) = (open.clone(), refused.clone(), cut.clone(), target.to_owned());
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                if !is_open.load(SeqCst) {
                    count.fetch_add(1, SeqCst);
                    continue;
                }
                let (target, mut cut) = (target.clone(), cuts.subscribe());
                tokio::spawn(async move {
                    let Ok(mut server) = TcpStream::connect(target).await else { return };
                    tokio::select! {
                        _ = copy_bidirectional(&mut client, &mut server) => {}
                        _ = cut.changed() => {}
                    }
                });
            }
        });
        Self { address, open, cut, refused }
    }

    /// Breaks every connection, and every new one.
    pub fn close(&self) {
        self.open.store(false, SeqCst);
        self.cut.send_modify(|n| *n += 1);
    }

    pub fn open(&self) {
        self.open.store(true, SeqCst);
    }

    /// Connections that were broken off at once.
    pub fn refused(&self) -> usize {
        self.refused.load(SeqCst)
    }
}
