//! `counterfoil-verify BUNDLE --trust trust.json [--policy FILE] [--as-of TIME] [--delay-days N] [--cross BUNDLE] [--json]`: offline, and small.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

use clap::Parser;
use counterfoil_verify::bundle::{BundleReader, Limits};
use counterfoil_verify::time::parse_rfc3339;
use counterfoil_verify::{Options, Trust, Verdict, Verification, cross, report, verify};

const DAY_MS: i64 = 86_400_000;

/// Verifies an evidence bundle offline, against a trust file that came another way.
///
/// Exit: 0 every required check passed; 1 a check failed; 2 the bundle or the trust file is malformed; 3 the auditor's
/// policy is not met; 4 nothing failed, and something required could not be checked.
#[derive(Debug, Parser)]
#[command(name = "counterfoil-verify", version)]
struct Arguments {
    /// The bundle: a directory, or one .cfbundle file.
    bundle: PathBuf,
    /// The trust file: keys, and checkpoints kept from earlier bundles. Not the one inside of the bundle.
    #[arg(long, value_name = "FILE")]
    trust: PathBuf,
    /// A witness policy (c2sp.org/tlog-policy) that replaces the trust file's witnesses and quorum.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// The log must reach this moment, such as 2026-11-21T00:00:00Z.
    #[arg(long, value_name = "RFC3339", value_parser = parse_moment)]
    as_of: Option<i64>,
    /// How many days after a fact it may be in the log: more, when an outage of the ledger is known to have been longer.
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u16))]
    delay_days: Option<u16>,
    /// The bundle of the other side of an engagement, of the customer or of the provider: its log must be in the trust file too.
    #[arg(long, value_name = "BUNDLE")]
    cross: Option<PathBuf>,
    /// One JSON object instead of text.
    #[arg(long)]
    json: bool,
}

fn parse_moment(text: &str) -> Result<i64, String> {
    parse_rfc3339(text).ok_or_else(|| "it is no RFC 3339 moment".to_owned())
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let (text, verdict) = match run(&arguments) {
        Ok(found) if arguments.json => (format!("{:#}\n", report::json(&found)), found.verdict),
        Ok(found) => (report::text(&found), found.verdict),
        Err(why) if arguments.json => (
            format!("{:#}\n", report::malformed_json(&why)),
            Verdict::Malformed,
        ),
        Err(why) => (
            format!("{} (exit 2): {why}\n", Verdict::Malformed.as_str()),
            Verdict::Malformed,
        ),
    };
    // A reader that has gone away changes nothing about the verdict.
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::from(verdict.exit())
}

/// The clock of this machine; `None`: it is before 1970, and says nothing.
#[expect(
    clippy::disallowed_methods,
    reason = "the command alone reads the clock; whoever calls the library says what time it is"
)]
fn now_ms() -> Option<i64> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    i64::try_from(since.ok()?.as_millis()).ok()
}

fn run(arguments: &Arguments) -> Result<Verification, String> {
    let read = |path: &PathBuf| {
        std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
    };
    let mut trust = Trust::parse(&read(&arguments.trust)?).map_err(|error| error.to_string())?;
    if let Some(policy) = &arguments.policy {
        let text = read(policy)?;
        trust = trust
            .with_policy(&text)
            .map_err(|error| error.to_string())?;
    }
    let options = Options {
        trust_file: Some(&arguments.trust),
        as_of_ms: arguments.as_of,
        now_ms: now_ms(),
        delay_max_ms: arguments.delay_days.map(|days| i64::from(days) * DAY_MS),
        threads: 0,
    };
    let one = |path: &PathBuf| {
        let bundle = BundleReader::open(path, &Limits::default())?;
        verify(&bundle, &trust, &options)
    };
    let found = one(&arguments.bundle).map_err(|error| error.to_string())?;
    let Some(path) = &arguments.cross else {
        return Ok(found);
    };
    let other = one(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(cross(found, &other))
}
