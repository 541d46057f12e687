//! A real S3-compatible object store: SeaweedFS, as `tests/run` installs it.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::repository::root;

/// The longest that a start may take on a busy machine.
const START_MAX: Duration = Duration::from_secs(120);

/// A running store with one bucket. Dropped, it is killed and its files are gone.
#[derive(Debug)]
pub struct ObjectStore {
    child: Child,
    filer: u16,
    s3: u16,
    bucket: &'static str,
    _folder: tempfile::TempDir,
}

impl ObjectStore {
    /// Starts the store and makes the bucket.
    ///
    /// # Errors
    /// When SeaweedFS is not installed or does not start.
    pub fn start(bucket: &'static str) -> Result<Self> {
        let weed = root().join("target/tools/python/bin/weed");
        ensure!(
            weed.exists(),
            "SeaweedFS is installed by ./tests/run install"
        );
        let folder = tempfile::tempdir()?;
        let identities = folder.path().join("s3.json");
        std::fs::write(&identities, IDENTITIES)?;
        let [
            master,
            volume,
            filer,
            s3,
            master_grpc,
            volume_grpc,
            filer_grpc,
            s3_grpc,
        ] = free_ports()?;
        let child = Command::new(weed)
            .arg("server")
            .arg(format!("-dir={}", folder.path().display()))
            .args(["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3"])
            .args(["-volume.max=20", "-master.volumeSizeLimitMB=64"])
            .args([
                format!("-master.port={master}"),
                format!("-master.port.grpc={master_grpc}"),
                format!("-volume.port={volume}"),
                format!("-volume.port.grpc={volume_grpc}"),
                format!("-filer.port={filer}"),
                format!("-filer.port.grpc={filer_grpc}"),
                format!("-s3.port={s3}"),
                format!("-s3.port.grpc={s3_grpc}"),
                format!("-s3.config={}", identities.display()),
            ])
            .env("TMPDIR", folder.path())
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("weed")?;
        let store = Self {
            child,
            filer,
            s3,
            bucket,
            _folder: folder,
        };
        store.until_ready()?;
        Ok(store)
    }

    /// Asks again and again until there is a leader that keeps a file in the bucket, and S3 listens.
    fn until_ready(&self) -> Result<()> {
        let end = Instant::now() + START_MAX;
        loop {
            let kept = self.put(".ready", b"x");
            let listens = TcpStream::connect(("127.0.0.1", self.s3)).is_ok();
            if kept.is_ok() && listens {
                return Ok(());
            }
            ensure!(Instant::now() < end, "SeaweedFS is not ready: {kept:?}");
            thread::yield_now();
        }
    }

    /// The environment in which a process finds the store.
    #[must_use]
    pub fn environment(&self) -> BTreeMap<&'static str, String> {
        BTreeMap::from([
            ("AWS_ENDPOINT", format!("http://127.0.0.1:{}", self.s3)),
            ("AWS_ALLOW_HTTP", "true".to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ACCESS_KEY_ID", "counterfoil-tests".to_owned()),
            (
                "AWS_SECRET_ACCESS_KEY",
                "counterfoil-tests-secret".to_owned(),
            ),
        ])
    }

    /// Copies all files below a prefix of the bucket into a directory, past S3.
    ///
    /// # Errors
    /// When the store does not answer.
    pub fn download(&self, prefix: &str, into: &Path) -> Result<()> {
        std::fs::create_dir_all(into)?;
        let path = format!("/buckets/{}/{prefix}/?limit=100000", self.bucket);
        let listed: serde_json::Value = serde_json::from_slice(&self.get(&path)?)?;
        for entry in listed["Entries"].as_array().into_iter().flatten() {
            let full = entry["FullPath"].as_str().context("FullPath")?;
            let name = full.rsplit('/').next().unwrap_or_default();
            let mode = entry["Mode"].as_u64().context("Mode")?;
            // The highest bit of Go's file mode: a folder.
            if mode & (1 << 31) == 0 {
                std::fs::write(into.join(name), self.get(full)?)?;
            } else {
                self.download(&format!("{prefix}/{name}"), &into.join(name))?;
            }
        }
        Ok(())
    }

    fn get(&self, path: &str) -> Result<Vec<u8>> {
        let (status, bytes) = http(self.filer, "GET", path, b"")?;
        ensure!(status == 200, "{path}: {status}");
        Ok(bytes)
    }

    /// Puts a file into the bucket, past S3, whatever was there.
    ///
    /// # Errors
    /// When the store does not take it.
    pub fn put(&self, path: &str, bytes: &[u8]) -> Result<()> {
        let path = format!("/buckets/{}/{path}", self.bucket);
        let (status, _) = http(self.filer, "PUT", &path, bytes)?;
        ensure!((200..300).contains(&status), "{path}: {status}");
        Ok(())
    }
}

impl Drop for ObjectStore {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const IDENTITIES: &str = r#"{"identities": [{"name": "counterfoil", "credentials": [
    {"accessKey": "counterfoil-tests", "secretKey": "counterfoil-tests-secret"}],
    "actions": ["Admin", "Read", "Write", "List", "Tagging"]}]}"#;

fn free_ports<const N: usize>() -> Result<[u16; N]> {
    // All are held until all are known, so no two are the same.
    let held: Vec<TcpListener> = (0..N)
        .map(|_| TcpListener::bind("127.0.0.1:0"))
        .collect::<std::io::Result<_>>()?;
    let mut ports = [0; N];
    for (port, listener) in ports.iter_mut().zip(&held) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}

/// One HTTP/1.0 request: the status and the body.
fn http(port: u16, method: &str, path: &str, body: &[u8]) -> Result<(u16, Vec<u8>)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nHost: 127.0.0.1\r\nAccept: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )?;
    stream.write_all(body)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let (head, body) = answer.split_at(end.context("no answer")? + 4);
    let head = String::from_utf8_lossy(head).into_owned();
    let Some(status) = head.split(' ').nth(1).and_then(|text| text.parse().ok()) else {
        bail!("no status: {head}");
    };
    Ok((status, body.to_vec()))
}
