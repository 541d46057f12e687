//! `counterfoil ledger status`, `fsck`, `scrub` and `recover`: they open the logs themselves, past the services.
//!
//! For a status the services may run. For the others those of the embedded default must be stopped; replicas on PostgreSQL may go on,
//! and cannot write what is being recovered.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::{Arg, ArgAction, ArgMatches, Command};
use counterfoil_chassis::{clock::timestamp, config, outbox::KeptOutbox};
use counterfoil_ledger::{EngineError, FsckReport, LogStatus, Offline};
use futures::StreamExt as _;
use serde_json::{Value, json};

use crate::cli::{Output, server_args, table};
use crate::{serve, up};

/// Logs whose published copies are asked at once.
const STATUSES_AT_ONCE: usize = 16;

/// The commands.
#[must_use]
pub fn commands() -> [Command; 4] {
    let common = |command: Command| {
        command
            .args(server_args())
            .arg(
                Arg::new("config")
                    .long("config")
                    .value_name("FILE")
                    .help("Configuration of a ledger service, instead of the data folder of the embedded default"),
            )
            .arg(
                Arg::new("tenants")
                    .num_args(0..)
                    .value_name("TENANT")
                    .help("tenants/{tenant}; the id alone will do; default all"),
            )
    };
    [
        common(Command::new("fsck").about(
            "Hash every entry again and rebuild every tile; compare with head, checkpoint and published copy. Exit status 0: all is whole",
        ))
        .arg(
            Arg::new("done")
                .long("done")
                .value_name("FILE")
                .help("Notes each log that is whole, and leaves out those that it notes at their present size: so a check that was cut off goes on"),
        )
        .arg(
            Arg::new("without-copy")
                .long("without-copy")
                .action(ArgAction::SetTrue)
                .help("Leave the published copy alone"),
        )
        .arg(
            Arg::new("records")
                .long("records")
                .value_name("FILE")
                .action(ArgAction::Append)
                .conflicts_with("done")
                .help("Compare also with the receipts that a producer has kept, one JSON object a line"),
        ),
        common(Command::new("scrub").about(
            "What the running service does by and by, at once: hash every entry again, rebuild every tile, compare with the signed head and the              published copy. Cut off, it goes on where it was. What does not fit stops the log. Exit status 0: all is whole",
        )),
        common(Command::new("status").about(
            "Size of each log, of its published copy, of its newest anchored head and of what witnesses have cosigned, the oldest entries that are \
             not published, not anchored or not witnessed, and why a log was stopped. Exit status 0: all are in order",
        )),
        common(Command::new("recover").about(
            "Bring back what the database lost, bit for bit: from the published copy, then from the producers' outboxes; a log that was \
             stopped goes on if nothing contradicts it",
        ))
        .arg(
            Arg::new("producer")
                .long("producer")
                .value_name("SERVICE=FILE")
                .action(ArgAction::Append)
                .help("Configuration of a service whose outbox is read; the embedded default reads those of its data folder"),
        )
        .arg(
            Arg::new("records")
                .long("records")
                .value_name("FILE")
                .action(ArgAction::Append)
                .help("Records with their receipts that a producer without an outbox has kept, one JSON object a line"),
        ),
    ]
}

/// Whether the arguments of `ledger` name one of them.
#[must_use]
pub fn is_one(ledger: &ArgMatches) -> bool {
    matches!(
        ledger.subcommand_name(),
        Some("status" | "fsck" | "scrub" | "recover")
    )
}

/// Runs one of them. `options` reads what `up` would be started with.
///
/// # Errors
/// When something cannot be opened, or is not whole, or cannot be recovered.
pub async fn run(
    ledger: &ArgMatches,
    options: impl Fn(&ArgMatches, bool) -> anyhow::Result<up::Options>,
) -> anyhow::Result<()> {
    let (name, arguments) = ledger.subcommand().context("which command")?;
    let (config, _lock) = match arguments.get_one::<String>("config") {
        Some(file) => (config::load(Path::new(file))?, None),
        None if name == "status" => (up::ledger_of(&options(arguments, true)?)?, None),
        None => {
            let (config, lock) = up::stopped_ledger(&options(arguments, true)?)?;
            (config, Some(lock))
        }
    };
    let mut config: counterfoil_ledger::Config = config;
    let recover = name == "recover";
    if name == "fsck" && arguments.get_flag("without-copy") {
        config.ledger.publish_url = None;
    }
    let mut logs = Offline::open(&config).await?;
    if name != "status" {
        let embedded = !arguments.contains_id("config");
        let outboxes = match recover {
            true => outboxes(arguments, embedded, &options).await?,
            false => Vec::new(),
        };
        let files = match name {
            "scrub" => None,
            _ => arguments.get_many::<String>("records"),
        };
        let files = files.unwrap_or_default();
        let files: Vec<PathBuf> = files.map(PathBuf::from).collect();
        logs = logs.with_producers(outboxes, &files)?;
    }
    let tenants = tenants(arguments, &logs, recover).await?;
    let outcome = match name {
        "status" => Ok(status_of_all(&logs, &tenants).await),
        "recover" => recover_all(&logs, &tenants).await,
        "scrub" => scrub_all(&logs, &tenants).await,
        _ => {
            let done = arguments.get_one::<String>("done").map(PathBuf::from);
            check_all(&logs, &tenants, done.as_deref()).await
        }
    };
    logs.close().await;
    let outcome = outcome?;
    let output = arguments.get_one::<Output>("output");
    outcome.show(output.copied().unwrap_or(Output::Table))
}

/// The outboxes of the services that are named, or of those in the data folder.
async fn outboxes(
    arguments: &ArgMatches,
    embedded: bool,
    options: &impl Fn(&ArgMatches, bool) -> anyhow::Result<up::Options>,
) -> anyhow::Result<Vec<KeptOutbox>> {
    let mut urls = Vec::new();
    if embedded {
        urls = up::producers_of(&options(arguments, true)?)?;
    }
    for named in arguments.get_many::<String>("producer").unwrap_or_default() {
        let (service, file) = named
            .split_once('=')
            .with_context(|| format!("{named:?} is not SERVICE=FILE"))?;
        urls.push((
            service.to_owned(),
            serve::database_url(service, Path::new(file))?,
        ));
    }
    let mut outboxes = Vec::new();
    for (service, url) in urls {
        let opened = KeptOutbox::open(&url, &service).await;
        outboxes.push(opened.with_context(|| format!("the outbox of {service}"))?);
    }
    Ok(outboxes)
}

async fn tenants(
    arguments: &ArgMatches,
    logs: &Offline,
    recover: bool,
) -> anyhow::Result<Vec<String>> {
    let named = arguments.get_many::<String>("tenants").unwrap_or_default();
    let named: Vec<String> = named
        .chain(arguments.get_one::<String>("tenant-name"))
        .map(|tenant| tenant.trim_start_matches("tenants/").to_owned())
        .collect();
    if !named.is_empty() {
        return Ok(named);
    }
    // What the database does not know any more can be recovered too.
    Ok(if recover {
        logs.recoverable().await?
    } else {
        logs.tenants().await?
    })
}

/// What became of each log.
struct Outcome {
    rows: Vec<Value>,
    columns: &'static [&'static str],
    bad: usize,
    what: &'static str,
}

impl Outcome {
    fn show(self, output: Output) -> anyhow::Result<()> {
        match output {
            Output::Json => {
                crate::say(&serde_json::to_string_pretty(
                    &json!({ "logs": self.rows }),
                )?);
            }
            Output::Table => crate::say(&table(&self.rows, self.columns)),
        }
        if self.bad > 0 {
            bail!("{} of {} logs {}", self.bad, self.rows.len(), self.what);
        }
        Ok(())
    }
}

async fn status_of_all(logs: &Offline, tenants: &[String]) -> Outcome {
    let mut outcome = Outcome {
        rows: Vec::new(),
        columns: &[
            "tenant",
            "size",
            "recorded_time",
            "published",
            "unpublished_since",
            "evicted",
            "anchored",
            "unanchored_since",
            "witnessed",
            "unwitnessed_since",
            "problem",
        ],
        bad: 0,
        what: "need looking after",
    };
    let statuses = futures::stream::iter(tenants)
        .map(|tenant| async move { (tenant, logs.status(tenant).await) })
        .buffered(STATUSES_AT_ONCE);
    tokio::pin!(statuses);
    while let Some((tenant, status)) = statuses.next().await {
        let row = match status {
            Ok(status) => {
                outcome.bad += usize::from(!status.is_in_order());
                status_row(tenant, &status)
            }
            Err(error) => {
                outcome.bad += 1;
                json!({ "tenant": tenant, "problem": error.to_string() })
            }
        };
        outcome.rows.push(row);
    }
    outcome
}

fn status_row(tenant: &str, status: &LogStatus) -> Value {
    let mut row = json!({
        "tenant": tenant,
        "size": status.size,
        "recorded_time": timestamp(status.recorded_at_ms).to_string(),
    });
    if let Some(published) = status.published {
        row["published"] = published.into();
    }
    if let Some(since_ms) = status.unpublished_since_ms {
        row["unpublished_since"] = timestamp(since_ms).to_string().into();
    }
    if status.evicted > 0 {
        row["evicted"] = status.evicted.into();
    }
    if let Some(anchored) = status.anchored {
        row["anchored"] = anchored.into();
    }
    if let Some(since_ms) = status.unanchored_since_ms {
        row["unanchored_since"] = timestamp(since_ms).to_string().into();
    }
    if let Some(witnessed) = status.witnessed {
        row["witnessed"] = witnessed.into();
    }
    if let Some(since_ms) = status.unwitnessed_since_ms {
        row["unwitnessed_since"] = timestamp(since_ms).to_string().into();
    }
    if let Some(why) = &status.stopped {
        row["problem"] = format!("it was stopped: {why}").into();
    } else if !status.is_in_order() {
        row["problem"] = "the published copy has more entries than the database".into();
    }
    row
}

async fn scrub_all(logs: &Offline, tenants: &[String]) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome {
        rows: Vec::new(),
        columns: &["tenant", "size", "problem"],
        bad: 0,
        what: "are not whole",
    };
    let rounds = logs.rounds().await?;
    for tenant in tenants {
        let bar = crate::progress("hashed", logs.size(tenant).await?);
        let scrubbed = logs
            .scrub(&rounds, tenant, &mut |done, of| {
                bar.set_length(of);
                bar.set_position(done);
            })
            .await;
        bar.finish_and_clear();
        outcome.rows.push(match scrubbed {
            Ok(size) => json!({ "tenant": tenant, "size": size }),
            Err(error) => {
                outcome.bad += 1;
                json!({ "tenant": tenant, "problem": error.to_string() })
            }
        });
    }
    rounds.close().await;
    Ok(outcome)
}

async fn recover_all(logs: &Offline, tenants: &[String]) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome {
        rows: Vec::new(),
        columns: &["tenant", "had", "has", "error"],
        bad: 0,
        what: "were not recovered",
    };
    for tenant in tenants {
        let bar = crate::progress("recovered", 0);
        let recovered = logs
            .recover(tenant, &mut |size, of| {
                bar.set_length(of);
                bar.set_position(size);
            })
            .await;
        bar.finish_and_clear();
        outcome.rows.push(match recovered {
            Ok(done) => json!({ "tenant": tenant, "had": done.from, "has": done.size }),
            Err(error) => {
                outcome.bad += 1;
                json!({ "tenant": tenant, "error": error.to_string() })
            }
        });
    }
    Ok(outcome)
}

async fn check_all(
    logs: &Offline,
    tenants: &[String],
    done: Option<&Path>,
) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome {
        rows: Vec::new(),
        columns: &["tenant", "size", "root", "problems"],
        bad: 0,
        what: "are not whole",
    };
    let problems = logs.check_database().await?;
    if !problems.is_empty() {
        outcome.bad += 1;
        outcome
            .rows
            .push(json!({ "tenant": "(the database)", "problems": problems }));
    }
    let mut notes = done.map(Done::open).transpose()?;
    for tenant in tenants {
        let size = logs.size(tenant).await?;
        if notes.as_ref().is_some_and(|notes| notes.has(tenant, size)) {
            continue;
        }
        let bar = crate::progress("checked", size);
        let checked = logs
            .fsck(tenant, &mut |size, _| bar.set_position(size))
            .await;
        bar.finish_and_clear();
        let row = match checked {
            Ok(report) => {
                if let (true, Some(notes)) = (report.is_clean(), &mut notes) {
                    notes.add(tenant, report.size)?;
                }
                outcome.bad += usize::from(!report.is_clean());
                row(tenant, &report)
            }
            Err(error @ EngineError::NoSuchLog(_)) => return Err(error.into()),
            Err(error) => {
                outcome.bad += 1;
                json!({ "tenant": tenant, "size": size, "problems": [error.to_string()] })
            }
        };
        outcome.rows.push(row);
    }
    Ok(outcome)
}

fn row(tenant: &str, report: &FsckReport) -> Value {
    let problems: Vec<String> = report
        .problems
        .iter()
        .map(|problem| match problem.index {
            Some(index) => format!("entry {index}: {}", problem.what),
            None => problem.what.clone(),
        })
        .collect();
    json!({
        "tenant": tenant,
        "size": report.size,
        "root": report.root.to_string(),
        "problems": problems,
    })
}

/// The logs that were found whole, in a file: a line each, `tenant size`.
struct Done {
    sizes: BTreeMap<String, u64>,
    file: File,
}

impl Done {
    fn open(path: &Path) -> anyhow::Result<Self> {
        let context = || path.display().to_string();
        let file = OpenOptions::new().create(true).append(true).open(path);
        let file = file.with_context(context)?;
        let text = fs::read_to_string(path).with_context(context)?;
        // A line that was cut off with the run before says nothing.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let sizes = whole
            .lines()
            .filter_map(|line| {
                let (tenant, size) = line.split_once(' ')?;
                Some((tenant.to_owned(), size.parse().ok()?))
            })
            .collect();
        Ok(Self { sizes, file })
    }

    fn has(&self, tenant: &str, size: u64) -> bool {
        self.sizes.get(tenant) == Some(&size)
    }

    fn add(&mut self, tenant: &str, size: u64) -> anyhow::Result<()> {
        writeln!(self.file, "{tenant} {size}")?;
        Ok(())
    }
}
