//! A gate before a peer: while it is shut nothing passes, so that a test can act in the middle of a call to it.

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// The gate; it ends with the runtime of its test.
pub(crate) struct Gate {
    /// Where it listens.
    pub(crate) url: String,
    open: watch::Sender<bool>,
}

impl Gate {
    /// An open gate before this peer.
    pub(crate) async fn before(url: &str) -> Self {
        let peer = url.strip_prefix("http://").unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = format!("http://{}", listener.local_addr().unwrap());
        let (open, state) = watch::channel(true);
        tokio::spawn(async move {
            while let Ok((caller, _)) = listener.accept().await {
                let Ok(peer) = TcpStream::connect(&peer).await else {
                    continue;
                };
                let (from_caller, to_caller) = caller.into_split();
                let (from_peer, to_peer) = peer.into_split();
                tokio::spawn(pass(from_caller, to_peer, state.clone()));
                tokio::spawn(pass(from_peer, to_caller, state.clone()));
            }
        });
        Self { url: own, open }
    }

    pub(crate) fn shut(&self) {
        self.open.send_replace(false);
    }

    pub(crate) fn open(&self) {
        self.open.send_replace(true);
    }
}

async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut open: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if open.wait_for(|open| *open).await.is_err()
            || to.write_all(&buffer[..count]).await.is_err()
        {
            return;
        }
    }
}
