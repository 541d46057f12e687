//! A PostgreSQL that is stopped as if the machine had lost its power, and started again.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use sqlx::{AnyConnection, Connection as _};

/// A cluster in a folder of its own, on a Unix socket; it vanishes with this.
///
/// It runs with the settings that make a commit durable (`fsync`, `synchronous_commit`), and checks its pages.
#[derive(Debug)]
pub(crate) struct Cluster {
    folder: tempfile::TempDir,
}

impl Cluster {
    pub(crate) fn start() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = folder.path();
        if is_root()? {
            // The server refuses to run as root.
            let id = |flag| -> anyhow::Result<u32> {
                Ok(output(Command::new("id").args([flag, "postgres"]))?.parse()?)
            };
            chown(path, Some(id("-u")?), Some(id("-g")?))?;
        } else {
            fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
        }
        let cluster = Self { folder };
        let mut initdb = command("initdb")?;
        initdb.args(["--username=postgres", "--auth=trust", "--data-checksums"]);
        run(initdb.arg("--no-sync").arg("-D").arg(cluster.data()))?;
        cluster.start_again()?;
        Ok(cluster)
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Starts the server and waits until it takes connections: after a crash, until it is recovered.
    pub(crate) fn start_again(&self) -> anyhow::Result<()> {
        let options = format!(
            "-c listen_addresses= -c max_connections=200 -c shared_buffers=32MB -k {}",
            self.folder.path().display()
        );
        let mut start = command("pg_ctl")?;
        start.args(["start", "--silent", "--wait", "-l"]);
        start.arg(self.folder.path().join("log"));
        start.args(["-o", &options, "-D"]).arg(self.data());
        run(&mut start)
    }

    /// Ends all its processes at once, without a word to the disk: the next start recovers.
    pub(crate) fn stop_immediately(&self) -> anyhow::Result<()> {
        let mut stop = command("pg_ctl")?;
        stop.args(["stop", "--silent", "--wait", "--mode=immediate", "-D"]);
        run(stop.arg(self.data()))
    }

    /// The URL of a new database; `template`: of which it is a copy, and which nobody may use meanwhile.
    pub(crate) fn create_database(&self, name: &str, template: &str) -> anyhow::Result<String> {
        let mut create = command("createdb")?;
        create.arg("-h").arg(self.folder.path());
        run(create.args(["-U", "postgres", "-E", "UTF8", "-T", template, name]))?;
        Ok(self.url(name))
    }

    pub(crate) fn drop_database(&self, name: &str) -> anyhow::Result<()> {
        let mut drop = command("dropdb")?;
        drop.arg("-h").arg(self.folder.path());
        run(drop.args(["-U", "postgres", "--force", name]))
    }

    /// Ends sessions of a database: those of one user's name for itself, or all.
    pub(crate) async fn cut(
        &self,
        database: &str,
        application: Option<&str>,
    ) -> anyhow::Result<()> {
        sqlx::any::install_default_drivers();
        let mut connection = AnyConnection::connect(&self.url("postgres")).await?;
        let cut = sqlx::query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE datname = $1 AND (application_name = $2 OR $2 = '')",
        );
        let cut = cut.bind(database).bind(application.unwrap_or_default());
        cut.execute(&mut connection).await?;
        connection.close().await?;
        Ok(())
    }

    pub(crate) fn url(&self, name: &str) -> String {
        let socket = self.folder.path().display();
        format!("postgres://postgres@localhost/{name}?host={socket}")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.stop_immediately());
    }
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    // A server that is started keeps what it inherits: a pipe would never end.
    let status = command
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status()
        .with_context(|| format!("{command:?}"))?;
    if !status.success() {
        bail!("{command:?}: {status}");
    }
    Ok(())
}

fn command(program: &str) -> anyhow::Result<Command> {
    let program = find(program);
    if is_root()? {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]).arg(program);
        command.current_dir("/");
        Ok(command)
    } else {
        Ok(Command::new(program))
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

fn is_root() -> anyhow::Result<bool> {
    Ok(output(Command::new("id").arg("-u"))? == "0")
}

fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output()?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
