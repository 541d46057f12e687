//! A PostgreSQL of the test process: its own cluster, on a Unix socket in a folder of its own, so that no port is needed.
//!
//! Its databases collate as those of operators do, by the rules of a language (ICU en-US, so PostgreSQL 15 or later): what
//! only works in the order of bytes fails here and not at theirs.
//!
//! PostgreSQL refuses to run as root; then it runs as user "postgres". A watchdog outside of the process stops it and removes
//! the folder when the process is gone, however it went.

use std::{
    fs,
    os::unix::{fs::MetadataExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use sqlx::{Connection, Executor};

/// Who may do everything in the cluster.
const SUPERUSER: &str = "postgres";
/// Who owns the databases of the tests.
const OWNER: &str = "counterfoil";
const MISSING: &str = "PostgreSQL is needed for this test: run ./tests/run, which installs it";

/// Makes an empty database and answers its address.
///
/// # Panics
/// When there is no PostgreSQL.
pub async fn create_database() -> String {
    static CLUSTER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    create_in(&CLUSTER, "off").await
}

/// As [`create_database`] in a cluster that forces what is committed to the disk, as that of an operator does: to measure on.
///
/// # Panics
/// When there is no PostgreSQL.
pub async fn create_durable_database() -> String {
    static CLUSTER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    create_in(&CLUSTER, "on").await
}

async fn create_in(
    cluster: &'static OnceLock<Result<PathBuf, String>>,
    fsync: &'static str,
) -> String {
    let started = move || cluster.get_or_init(|| start(fsync));
    let cluster = tokio::task::spawn_blocking(started).await;
    let folder = cluster.expect("starting does not panic").as_ref();
    let folder = folder.unwrap_or_else(|reason| {
        #[expect(
            clippy::panic,
            reason = "the test cannot run, and says what is missing"
        )]
        {
            panic!("{reason}")
        }
    });
    let name = format!("t{}", uuid::Uuid::new_v4().simple());
    sqlx::any::install_default_drivers();
    let mut admin = sqlx::AnyConnection::connect(&url(folder, SUPERUSER, "postgres"))
        .await
        .expect("the cluster answers");
    // Owned by a role that is no superuser, so that row-level security stands in its way as it does for a service.
    let create = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name} OWNER {OWNER}"));
    admin
        .execute(sqlx::raw_sql(create))
        .await
        .expect("a database is created");
    admin.close().await.expect("the connection closes");
    url(folder, OWNER, &name)
}

/// The same database as a superuser, whom nothing hides a row from; for tests that look past the services.
#[must_use]
pub fn as_superuser(url: &str) -> String {
    as_role(url, SUPERUSER)
}

/// The same database as another role.
#[must_use]
pub fn as_role(url: &str, role: &str) -> String {
    url.replacen(&format!("//{OWNER}@"), &format!("//{role}@"), 1)
}

fn url(folder: &Path, role: &str, database: &str) -> String {
    format!(
        "postgres://{role}@localhost/{database}?host={}",
        folder.display()
    )
}

/// Starts the cluster and its watchdog; answers the folder of its socket.
fn start(fsync: &str) -> Result<PathBuf, String> {
    let programs = programs()?;
    let folder = tempfile::Builder::new()
        .prefix("counterfoil-pg-")
        // Readable by user postgres, unlike a temporary folder below somebody's home; short enough for a socket's path.
        .tempdir_in("/tmp")
        .map_err(|error| format!("a folder for PostgreSQL: {error}"))?
        .keep();
    let root = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
    if root {
        run(Command::new("chown").arg("postgres").arg(&folder), &folder)?;
    }
    let data = folder.join("data");
    let mut initdb = as_postgres(root, &programs.join("initdb"));
    initdb.args([
        "--auth=trust",
        "--username=postgres",
        "--encoding=UTF8",
        "--locale=C",
        "--locale-provider=icu",
        "--icu-locale=en-US",
        "--no-sync",
    ]);
    run(initdb.arg("-D").arg(&data), &folder)?;
    let options = format!(
        "-c listen_addresses='' -c unix_socket_directories='{}' -c fsync={fsync} -c max_connections=400 \
         -c shared_buffers=64MB -c max_locks_per_transaction=256",
        folder.display()
    );
    let mut pg_ctl = as_postgres(root, &programs.join("pg_ctl"));
    pg_ctl
        .arg("-D")
        .arg(&data)
        .arg("-l")
        .arg(folder.join("log"));
    pg_ctl.args(["-w", "-t", "60", "-o", &options, "start"]);
    watch(root, &programs, &folder)?;
    run(&mut pg_ctl, &folder)?;
    let mut psql = as_postgres(root, &programs.join("psql"));
    psql.arg("-h").arg(&folder);
    psql.args(["-U", SUPERUSER, "-d", "postgres", "-c"]);
    run(psql.arg(format!("CREATE ROLE {OWNER} LOGIN")), &folder)?;
    Ok(folder)
}

/// Where the server's programs are: Debian keeps them out of PATH.
fn programs() -> Result<PathBuf, String> {
    let mut found: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            Some((
                entry.file_name().to_str()?.parse().ok()?,
                entry.path().join("bin"),
            ))
        })
        .filter(|(_, folder)| folder.join("initdb").exists())
        .collect();
    found.sort();
    if let Some((_, folder)) = found.pop() {
        return Ok(folder);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .find(|folder| folder.join("initdb").exists())
        .ok_or_else(|| MISSING.to_owned())
}

fn as_postgres(root: bool, program: &Path) -> Command {
    let mut command = if root {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    // The server must not hold on to the test's standard streams, nor stand in a folder that it may not read.
    command.current_dir("/tmp").stdin(Stdio::null());
    command
}

fn run(command: &mut Command, folder: &Path) -> Result<(), String> {
    let output = fs::File::create(folder.join("output")).map_err(|error| error.to_string())?;
    let errors = output.try_clone().map_err(|error| error.to_string())?;
    let status = command.stdout(output).stderr(errors).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        outcome => {
            let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default();
            let (output, log) = (read("output"), read("log"));
            Err(format!(
                "PostgreSQL does not start: {command:?}: {outcome:?}\n{output}\n{log}\n{MISSING}"
            ))
        }
    }
}

/// Stops the cluster when this process has ended, also by kill -9.
fn watch(root: bool, programs: &Path, folder: &Path) -> Result<(), String> {
    const SCRIPT: &str = r#"
        while kill -0 "$1" 2>/dev/null; do sleep 1; done
        if [ "$4" = root ]; then
            runuser -u postgres -- "$2/pg_ctl" -D "$3/data" -m immediate stop
        else
            "$2/pg_ctl" -D "$3/data" -m immediate stop
        fi
        rm -rf "$3""#;
    Command::new("sh")
        .args(["-c", SCRIPT, "watchdog"])
        .arg(std::process::id().to_string())
        .arg(programs)
        .arg(folder)
        .arg(if root { "root" } else { "user" })
        .current_dir("/tmp")
        // Out of reach of a Ctrl-C at the terminal.
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map(drop)
        .map_err(|error| format!("the watchdog of PostgreSQL: {error}"))
}
