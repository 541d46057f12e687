//! `counterfoil ca`: what a person types, and is told.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::{Arg, ArgAction, ArgMatches, Command};
use counterfoil_chassis::{
    Clock,
    tls::{self, Holder, Leaf},
};

use super::{Authority, LEAF_DAYS, Rotated, Wanted};
use crate::say;

fn folder() -> Arg {
    Arg::new("dir")
        .long("dir")
        .value_name("DIR")
        .default_value("counterfoil-ca")
        .help("Folder of the certificate authority; keep it off the machines that serve")
}

fn issue() -> Command {
    Command::new("issue")
        .about("Issue a certificate, and write the files that [service.tls] names")
        .arg(folder())
        .arg(
            Arg::new("service")
                .long("service")
                .value_name("NAME")
                .help("For this service"),
        )
        .arg(
            Arg::new("client")
                .long("client")
                .value_name("NAME")
                .conflicts_with("service")
                .required_unless_present("service")
                .help("For a machine of a customer, to which a token may be bound"),
        )
        .arg(
            Arg::new("dns")
                .long("dns")
                .action(ArgAction::Append)
                .value_name("HOST")
                .help("A name under which people connect; may be given again"),
        )
        .arg(
            Arg::new("days")
                .long("days")
                .value_parser(clap::value_parser!(i64).range(1..=super::LEAF_DAYS_MAX))
                .help("Its life, 1 to 90; default 30"),
        )
        .arg(
            Arg::new("out")
                .long("out")
                .required(true)
                .value_name("DIR")
                .help("Where to"),
        )
}

/// The command and its verbs.
#[must_use]
pub fn command() -> Command {
    Command::new("ca")
        .about("A certificate authority for a start: certificates of services and clients")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            Command::new("init")
                .about("Make an authority: a root key that only its owner can read")
                .arg(folder())
                .arg(
                    Arg::new("name")
                        .long("name")
                        .required(true)
                        .value_name("DEPLOYMENT")
                        .help("The deployment, as `deployment` in the services' configuration"),
                ),
        )
        .subcommand(issue())
        .subcommand(
            Command::new("rotate")
                .about(
                    "The next of three steps to another root; says what to do before the one after",
                )
                .arg(folder()),
        )
        .subcommand(
            Command::new("show")
                .about("Whose certificates these are, until when, and their SHA-256")
                .arg(folder())
                .arg(
                    Arg::new("file")
                        .action(ArgAction::Append)
                        .value_name("FILE")
                        .help("Default: the trust bundle"),
                ),
        )
}

/// Does what was typed.
///
/// # Errors
/// When it cannot be done; says why.
pub fn run(arguments: &ArgMatches) -> anyhow::Result<()> {
    let Some((verb, arguments)) = arguments.subcommand() else {
        return Ok(());
    };
    let text = |name: &str| arguments.get_one::<String>(name).cloned();
    let folder = PathBuf::from(text("dir").context("--dir")?);
    let clock = Clock::system();
    if verb == "init" {
        let made = Authority::init(&folder, &text("name").context("--name")?, clock)?;
        say(&format!("trust bundle {}", made.trust_bundle().display()));
        return Ok(());
    }
    let authority = Authority::open(&folder, clock)?;
    match verb {
        "issue" => {
            let (holder, name) = match text("service") {
                Some(name) => (Holder::Service, name),
                None => (Holder::Client, text("client").context("--client")?),
            };
            let dns = arguments.get_many::<String>("dns");
            let wanted = Wanted {
                holder,
                name,
                dns: dns.into_iter().flatten().cloned().collect(),
                days: arguments.get_one("days").copied().unwrap_or(LEAF_DAYS),
            };
            let out = PathBuf::from(text("out").context("--out")?);
            let id = authority.issue(&wanted, &out)?;
            say(&format!("{id} {}", out.display()));
        }
        "rotate" => say(match authority.rotate()? {
            Rotated::Prepared => {
                "Step 1 of 3: a new root is trusted and does not sign yet. Take trust.crt to every service, then rotate again."
            }
            Rotated::Switched => {
                "Step 2 of 3: the new root signs. Issue every certificate again, then rotate again."
            }
            Rotated::Finished => {
                "Step 3 of 3: the old root is gone. Take trust.crt to every service."
            }
        }),
        _ => {
            let files: Vec<PathBuf> = match arguments.get_many::<String>("file") {
                Some(files) => files.map(PathBuf::from).collect(),
                None => vec![authority.trust_bundle()],
            };
            for file in files {
                show(&authority, &file)?;
            }
        }
    }
    Ok(())
}

fn show(authority: &Authority, file: &Path) -> anyhow::Result<()> {
    use sha2::Digest as _;
    let pem = fs::read(file).with_context(|| file.display().to_string())?;
    for der in tls::certificates(file, &pem)? {
        let sha256 = hex::encode(sha2::Sha256::digest(&der));
        let line = match Leaf::read(&der, &authority.deployment) {
            Ok(leaf) => {
                let end = jiff::Timestamp::from_millisecond(leaf.ends_ms)?;
                format!("{} until {end} {sha256}", leaf.id)
            }
            // A root has no SPIFFE id of its own.
            Err(_) => format!("root {sha256}"),
        };
        say(&line);
    }
    Ok(())
}
