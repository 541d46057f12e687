//! A PostgreSQL that the tests start themselves, on a Unix socket in a directory of its own.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

static SHARED: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());
static NEXT_DATABASE: AtomicU32 = AtomicU32::new(1);

/// A running cluster; it stops and vanishes with its last user.
pub(crate) struct Cluster {
    directory: tempfile::TempDir,
    server: Child,
}

impl Cluster {
    /// The cluster of this process.
    pub(crate) fn shared() -> Arc<Self> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let cluster = Arc::new(Self::start());
            *shared = Arc::downgrade(&cluster);
            cluster
        })
    }

    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        if is_root() {
            // The server refuses to run as root.
            let id = |flag| -> u32 {
                output(Command::new("id").args([flag, "postgres"]))
                    .parse()
                    .unwrap()
            };
            chown(path, Some(id("-u")), Some(id("-g"))).unwrap();
        } else {
            fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
        }
        let data = path.join("data");
        let made = command("initdb")
            .args(["--username=postgres", "--auth=trust", "--no-sync", "-D"])
            .arg(&data)
            .output()
            .unwrap();
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
        let mut server = command("postgres")
            .arg("-D")
            .arg(&data)
            .args([
                "-c",
                "listen_addresses=",
                "-c",
                "fsync=off",
                "-c",
                "max_connections=200",
                "-k",
            ])
            .arg(path)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(server.stderr.take().unwrap()).lines();
        let ready = lines
            .by_ref()
            .map_while(Result::ok)
            .any(|line| line.contains("ready to accept connections"));
        assert!(ready, "postgres did not start");
        // A full pipe would stop the server.
        std::thread::spawn(move || lines.for_each(drop));
        Self { directory, server }
    }

    /// The URL of a new, empty database.
    pub(crate) fn create_database(&self) -> String {
        self.copy_database("template0")
    }

    /// The URL of a new database that is a copy of another one, which nobody may use meanwhile.
    pub(crate) fn copy_database(&self, template: &str) -> String {
        let name = format!("db{}", NEXT_DATABASE.fetch_add(1, Ordering::SeqCst));
        let socket = self.directory.path();
        let made = command("createdb")
            .arg("-h")
            .arg(socket)
            .args(["-U", "postgres", "-E", "UTF8", "-T", template, &name])
            .output()
            .unwrap();
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
        format!(
            "postgres://postgres@localhost/{name}?host={}",
            socket.display()
        )
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let stopped = command("pg_ctl")
            .args(["stop", "-m", "immediate", "-D"])
            .arg(self.directory.path().join("data"))
            .output();
        drop(stopped);
        drop(self.server.wait());
    }
}

fn command(program: &str) -> Command {
    let program = find(program);
    if is_root() {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]).arg(program);
        command.current_dir("/");
        command
    } else {
        Command::new(program)
    }
}

/// Debian keeps the server's programs out of the path.
fn find(program: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|version| version.path().join("bin").join(program));
    versions
        .filter(|path| path.is_file())
        .max()
        .unwrap_or_else(|| Path::new(program).to_owned())
}

fn is_root() -> bool {
    output(Command::new("id").arg("-u")) == "0"
}

fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
