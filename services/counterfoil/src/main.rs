//! `counterfoil`: the services and their client.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::{Arg, ArgAction, ArgMatches, Command};
use counterfoil::{
    ca,
    cli::{self, Output, Session},
    client::{Clients, SERVICES},
    ending::Ending,
    endpoints::{self, Endpoints},
    estate, offline, quickstart, say, serve,
    up::{Options, Suite},
    warn,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("no runtime")
        .and_then(|runtime| runtime.block_on(run()));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            warn(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn command() -> anyhow::Result<Command> {
    let root = Command::new("counterfoil")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Continuous identity governance with evidence that verifies offline")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .args(cli::shared_args())
        .subcommand(
            Command::new("quickstart")
                .about("Play one whole governance cycle on an estate and end with its evidence bundle; a second run continues")
                .args(cli::server_args())
                .arg(Arg::new("estate").long("estate").value_name("DIR").help("Your own estate; default a copy of the sample estate in the data folder")),
        )
        .subcommand(
            Command::new("up")
                .about("Run the services until asked to stop")
                .args(cli::server_args())
                .arg(Arg::new("any-port").long("any-port").action(ArgAction::SetTrue).help("Listen on any free ports instead of 7441 to 7445")),
        );
    let root = root
        .subcommand(ca::command())
        .subcommand(
            Command::new("serve")
                .about("Run one service from its configuration file, as a replica does")
                .arg(Arg::new("service").required(true).value_parser(SERVICES))
                .arg(
                    Arg::new("config")
                        .long("config")
                        .required(true)
                        .value_name("FILE")
                        .help("Samples: deploy/config"),
                ),
        )
        .subcommand(
            Command::new("check-config")
                .about("Say what is wrong with a service's configuration file, and touch nothing")
                .arg(Arg::new("service").required(true).value_parser(SERVICES))
                .arg(Arg::new("config").required(true).value_name("FILE")),
        );
    cli::nouns(root)
}

async fn run() -> anyhow::Result<()> {
    let matches = command()?.get_matches();
    let Some((name, arguments)) = matches.subcommand() else {
        return Ok(());
    };
    let filter = match arguments.get_count("verbose") {
        0 => "warn",
        1 => "info",
        _ => "debug",
    };
    counterfoil_chassis::telemetry::init(filter, counterfoil_chassis::telemetry::LogFormat::Text)?;
    match name {
        "up" => up(arguments).await,
        "quickstart" => play(arguments).await,
        "serve" => {
            let (service, file) = service_file(arguments)?;
            serve::run(&service, &file, |running| {
                say(&format!("{service} {}", running.url()));
            })
            .await
        }
        "check-config" => {
            let (service, file) = service_file(arguments)?;
            serve::check(&service, &file)
        }
        "ca" => ca::run(arguments),
        "ledger" if offline::is_one(arguments) => offline::run(arguments, options).await,
        noun => cli::run(&session(arguments)?, noun, arguments).await,
    }
}

fn text(arguments: &ArgMatches, name: &str) -> Option<String> {
    arguments.get_one::<String>(name).cloned()
}

fn service_file(arguments: &ArgMatches) -> anyhow::Result<(String, PathBuf)> {
    let service = text(arguments, "service").context("which service")?;
    let file = text(arguments, "config").context("--config")?;
    Ok((service, PathBuf::from(file)))
}

fn options(arguments: &ArgMatches, any_port: bool) -> anyhow::Result<Options> {
    Ok(Options {
        data_dir: PathBuf::from(text(arguments, "data-dir").context("--data-dir")?),
        database_url: text(arguments, "database-url"),
        migration_database_url: text(arguments, "migration-database-url"),
        publish_url: text(arguments, "publish-url"),
        deployment: text(arguments, "deployment"),
        any_port,
    })
}

fn session(arguments: &ArgMatches) -> anyhow::Result<Session> {
    let data_dir = PathBuf::from(text(arguments, "data-dir").context("--data-dir")?);
    let file = text(arguments, "endpoints")
        .map_or_else(|| data_dir.join(endpoints::FILE_NAME), PathBuf::from);
    let mut endpoints = Endpoints::read(&file)?;
    if let Some(token_file) = text(arguments, "token-file") {
        endpoints.token_file = PathBuf::from(token_file);
    }
    Ok(Session {
        endpoints,
        output: output(arguments),
        tenant: text(arguments, "tenant-name"),
        acting_for: text(arguments, "acting-for"),
    })
}

fn output(arguments: &ArgMatches) -> Output {
    arguments
        .get_one::<Output>("output")
        .copied()
        .unwrap_or(Output::Table)
}

async fn up(arguments: &ArgMatches) -> anyhow::Result<()> {
    let mut ending = Ending::listen()?;
    let options = options(arguments, arguments.get_flag("any-port"))?;
    let suite = tokio::select! {
        suite = Suite::start(&options) => suite?,
        // Nothing was served yet: ending now is no more than a crash, and every database is made for that.
        () = ending.asked() => return Ok(()),
    };
    if output(arguments) == Output::Json {
        say(&serde_json::to_string(&suite.endpoints)?);
    } else {
        for (service, address) in &suite.endpoints.services {
            say(&format!("{service:<16} {address}"));
        }
        let credential = suite.endpoints.token_file.display();
        say(&format!("admin credential {credential}"));
        say("ready; end with Ctrl-C");
    }
    suite.run(ending).await
}

async fn play(arguments: &ArgMatches) -> anyhow::Result<()> {
    let options = options(arguments, true)?;
    let suite = Suite::start(&options).await?;
    let data_dir = options.data_dir.canonicalize()?;
    let directory = match text(arguments, "estate") {
        Some(directory) => PathBuf::from(directory),
        None => {
            let directory = data_dir.join("estate");
            estate::copy_sample(&directory)?;
            directory
        }
    };
    let json = output(arguments) == Output::Json;
    let clients = Clients::open(&suite.endpoints, &suite.endpoints.token()?)?;
    let outcome = quickstart::play(clients, &directory, &data_dir, json).await?;
    suite.stop().await?;
    if json {
        say(&serde_json::to_string(&outcome)?);
    } else {
        say(&format!(
            "\nThe evidence bundle: {}",
            outcome.bundle.display()
        ));
        say(&format!("Verify it offline:\n\n  {}\n", outcome.verify));
    }
    Ok(())
}
