//! A way to a target system that can be cut in the middle of an answer.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

/// Forwards connections on a free port of the loopback to a target, until it has let a number of answered bytes through:
/// from then on every connection is cut. Dropped, it stops listening.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    gate: Arc<Gate>,
}

#[derive(Debug)]
struct Gate {
    target: SocketAddr,
    bytes_left: AtomicU64,
    closed: AtomicBool,
}

impl Proxy {
    /// Starts it wide open.
    ///
    /// # Errors
    /// When no port is free.
    pub fn start(target: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let gate = Arc::new(Gate {
            target,
            bytes_left: AtomicU64::new(u64::MAX),
            closed: AtomicBool::new(false),
        });
        let inside = Arc::clone(&gate);
        thread::spawn(move || {
            for client in listener.incoming() {
                if inside.closed.load(Ordering::SeqCst) {
                    return;
                }
                if let Ok(client) = client {
                    // A target that does not answer closes the client's connection too.
                    let _ = inside.serve(client);
                }
            }
        });
        Ok(Self { address, gate })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets so many more bytes of answers through, in all connections together, then cuts.
    pub fn cut_after(&self, bytes: u64) {
        self.gate.bytes_left.store(bytes, Ordering::SeqCst);
    }

    /// Lets everything through again.
    pub fn mend(&self) {
        self.cut_after(u64::MAX);
    }

    /// Whether it has cut since it was last told.
    #[must_use]
    pub fn has_cut(&self) -> bool {
        self.gate.bytes_left.load(Ordering::SeqCst) == 0
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.gate.closed.store(true, Ordering::SeqCst);
        // Wakes the listener; it fails only when that is gone already.
        let _ = TcpStream::connect(self.address);
    }
}

impl Gate {
    fn serve(self: &Arc<Self>, client: TcpStream) -> io::Result<()> {
        let server = TcpStream::connect(self.target)?;
        let (mut questions, mut to_server) = (client.try_clone()?, server.try_clone()?);
        thread::spawn(move || {
            // However it ends, the other side is told.
            let _ = io::copy(&mut questions, &mut to_server);
            let _ = to_server.shutdown(Shutdown::Write);
        });
        let gate = Arc::clone(self);
        thread::spawn(move || {
            let _ = gate.answers(&server, &client);
            let _ = client.shutdown(Shutdown::Both);
            let _ = server.shutdown(Shutdown::Both);
        });
        Ok(())
    }

    fn answers(&self, mut server: &TcpStream, mut client: &TcpStream) -> io::Result<()> {
        let mut buffer = [0; 4096];
        loop {
            let read = server.read(&mut buffer)?;
            let allowed = self.take(read as u64);
            let part = usize::try_from(allowed).unwrap_or(read).min(read);
            client.write_all(buffer.get(..part).unwrap_or_default())?;
            if read == 0 || part < read {
                return Ok(());
            }
        }
    }

    /// How many of so many bytes may still go.
    fn take(&self, wanted: u64) -> u64 {
        let left = |left: u64| {
            if left == u64::MAX {
                Some(left)
            } else {
                Some(left.saturating_sub(wanted))
            }
        };
        let before = self
            .bytes_left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, left)
            .unwrap_or_default();
        before.min(wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers every connection with 10,000 bytes.
    fn target() -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for client in listener.incoming().take(3) {
                client.unwrap().write_all(&[7; 10_000]).unwrap_or_default();
            }
        });
        address
    }

    fn read(proxy: &Proxy) -> usize {
        let mut bytes = Vec::new();
        let mut client = TcpStream::connect(proxy.address()).unwrap();
        // A cut connection may end by a reset.
        let _ = client.read_to_end(&mut bytes);
        bytes.len()
    }

    #[test]
    fn an_answer_is_cut_in_its_middle_until_the_way_is_mended() {
        let proxy = Proxy::start(target()).unwrap();
        assert_eq!(read(&proxy), 10_000);
        proxy.cut_after(6_000);
        assert_eq!(read(&proxy), 6_000);
        assert!(proxy.has_cut());
        proxy.mend();
        assert_eq!(read(&proxy), 10_000);
    }
}
