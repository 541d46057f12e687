//! The client: `counterfoil <noun> <verb>`. Every command but a few is one call, described by its proto.

mod call;
mod commands;
mod render;
mod request;
mod schema;

use anyhow::{Context as _, bail};
use clap::{Arg, ArgAction, ArgMatches, Command};
use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor, Value as Field};
use serde_json::Value;

pub(crate) use call::explain;
pub use render::Output;
pub(crate) use render::table;

use crate::endpoints::Endpoints;
use call::Connection;
use commands::{COMMANDS, NOUNS, Spec};

/// Largest answer that the client reads: a page of 1,000 with all that is shown of each.
pub(crate) const MESSAGE_BYTES_MAX: usize = 32 << 20;

/// What every command of the client knows.
#[derive(Debug, Clone)]
pub struct Session {
    /// Where the services are and which token the caller has.
    pub endpoints: Endpoints,
    /// How answers are shown.
    pub output: Output,
    /// Tenant that short names are completed with.
    pub tenant: Option<String>,
    /// Customer for whom somebody of a provider acts, by its bare id.
    pub acting_for: Option<String>,
}

/// Adds the nouns and their verbs to the executable's command.
///
/// # Errors
/// When the table of commands and the API disagree; a test keeps this from happening.
pub fn nouns(mut root: Command) -> anyhow::Result<Command> {
    let pool = schema::pool()?;
    for (noun, about) in NOUNS {
        let mut command = Command::new(*noun)
            .about(*about)
            .subcommand_required(true)
            .arg_required_else_help(true);
        for spec in COMMANDS.iter().filter(|spec| spec.noun == *noun) {
            command = command.subcommand(schema::command(&pool, spec)?);
        }
        command = match *noun {
            "decision" => command.subcommand(crate::decisions::command()),
            "bundle" => command.subcommand(crate::bundle::command()),
            "ledger" => command.subcommands(crate::offline::commands()),
            _ => command,
        };
        root = root.subcommand(command);
    }
    Ok(root)
}

/// Options of the commands that open the embedded default's own data.
#[must_use]
pub fn server_args() -> [Arg; 4] {
    [
        Arg::new("database-url")
            .long("database-url")
            .value_name("URL")
            .help("PostgreSQL for all services, one schema each, instead of SQLite files"),
        Arg::new("migration-database-url")
            .long("migration-database-url")
            .value_name("URL")
            .help("The same PostgreSQL for the role that owns the tables, when the other role owns nothing"),
        Arg::new("publish-url")
            .long("publish-url")
            .value_name("URL")
            .help("Where logs are published, file:///folder or s3://bucket/prefix (AWS_* in the environment), instead of the data folder's published/"),
        Arg::new("deployment")
            .long("deployment")
            .value_name("NAME")
            .help("First part of log origins and key names; default counterfoil.local"),
    ]
}

/// Options that all commands of the client share.
#[must_use]
pub fn shared_args() -> Vec<Arg> {
    vec![
        Arg::new("data-dir")
            .long("data-dir")
            .global(true)
            .default_value("counterfoil-data")
            .help("Folder of the embedded default; `up` writes endpoints.json there"),
        Arg::new("endpoints")
            .long("endpoints")
            .global(true)
            .value_name("FILE")
            .help("Where the services are; default endpoints.json in the data folder"),
        Arg::new("token-file")
            .long("token-file")
            .global(true)
            .value_name("FILE")
            .help("File with the caller's token; default the admin credential"),
        Arg::new("tenant-name")
            .long("tenant")
            .global(true)
            .value_name("TENANT")
            .help("Tenant that short names are completed with"),
        Arg::new("acting-for")
            .long("acting-for")
            .global(true)
            .value_name("CUSTOMER")
            .help("Customer that somebody of a provider acts for, under an engagement"),
        Arg::new("output")
            .long("output")
            .short('o')
            .global(true)
            .value_parser(clap::value_parser!(Output))
            .default_value("table")
            .help("How answers are shown"),
        Arg::new("verbose")
            .long("verbose")
            .short('v')
            .global(true)
            .action(ArgAction::Count)
            .help("Show what the services log"),
    ]
}

/// Runs a noun's verb.
///
/// # Errors
/// What the service refused, in words.
pub async fn run(session: &Session, noun: &str, matches: &ArgMatches) -> anyhow::Result<()> {
    let Some((verb, arguments)) = matches.subcommand() else {
        bail!("{noun} needs a verb");
    };
    match (noun, verb) {
        ("decision", "import") => return crate::decisions::run(session, arguments).await,
        ("bundle", "export") => return crate::bundle::run(session, arguments).await,
        _ => {}
    }
    let spec = COMMANDS
        .iter()
        .find(|spec| spec.noun == noun && spec.verb == verb)
        .with_context(|| format!("no command {noun} {verb}"))?;
    let pool = schema::pool()?;
    let method = schema::method(&pool, spec)?;
    let now = jiff::Timestamp::now();
    let message = request::build(spec, &method, arguments, session.tenant.as_deref(), now)?;
    let token = session.endpoints.token()?;
    let connection = Connection::open(&session.endpoints, package(spec), token).await?;
    let connection = connection.acting_for(session.acting_for.as_deref())?;
    if method.is_server_streaming() {
        return stream(session, spec, &connection, &method, message).await;
    }
    let answer = all_pages(&connection, &method, message, arguments).await?;
    show(session, spec, &answer)
}

fn package(spec: &Spec) -> &'static str {
    spec.method.split('.').next().unwrap_or_default()
}

/// Calls a list method until the last page, unless the caller asked for one page.
async fn all_pages(
    connection: &Connection,
    method: &MethodDescriptor,
    message: DynamicMessage,
    arguments: &ArgMatches,
) -> anyhow::Result<DynamicMessage> {
    let first = unary(connection, method, message.clone()).await?;
    let pages = method
        .output()
        .get_field_by_name("next_page_token")
        .is_some();
    let one_page = pages
        && ["page-size", "page-token"]
            .iter()
            .any(|flag| arguments.get_one::<String>(flag).is_some());
    if !pages || one_page {
        return Ok(first);
    }
    let mut whole = first;
    while let Some(token) = next_page(&whole) {
        let mut next = message.clone();
        next.set_field_by_name("page_token", Field::String(token));
        let mut page = unary(connection, method, next).await?;
        if let Some(field) = schema::list_field(&page)
            && let Some(Field::List(values)) = page.take_field(&field)
            && let Field::List(all) = whole.get_field_mut(&field)
        {
            all.extend(values);
        }
        let token = next_page(&page).unwrap_or_default();
        whole.set_field_by_name("next_page_token", Field::String(token));
    }
    Ok(whole)
}

fn next_page(message: &DynamicMessage) -> Option<String> {
    let token = message.get_field_by_name("next_page_token")?;
    token
        .as_str()
        .filter(|token| !token.is_empty())
        .map(str::to_owned)
}

async fn unary(
    connection: &Connection,
    method: &MethodDescriptor,
    message: DynamicMessage,
) -> anyhow::Result<DynamicMessage> {
    let mut answer = None;
    connection
        .call(method, message, |message| {
            answer = Some(message);
            Ok(())
        })
        .await?;
    answer.context("the service answered nothing")
}

/// A stream prints each message as it comes: a JSON line, or a row.
async fn stream(
    session: &Session,
    spec: &Spec,
    connection: &Connection,
    method: &MethodDescriptor,
    message: DynamicMessage,
) -> anyhow::Result<()> {
    let mut header = true;
    connection
        .call(method, message, |message| {
            if session.output == Output::Json {
                crate::say(&render::to_json(&message)?.to_string());
                return Ok(());
            }
            let text = table(&render::rows(&message)?, spec.columns);
            let body = if std::mem::take(&mut header) {
                text.as_str()
            } else {
                text.split_once('\n').map_or("", |(_, body)| body)
            };
            crate::say(body.trim_end());
            Ok(())
        })
        .await
}

fn show(session: &Session, spec: &Spec, answer: &DynamicMessage) -> anyhow::Result<()> {
    match session.output {
        Output::Json => crate::say(&serde_json::to_string_pretty(&render::to_json(answer)?)?),
        Output::Table => {
            let rows: Vec<Value> = render::rows(answer)?;
            crate::say(table(&rows, spec.columns).trim_end());
        }
    }
    Ok(())
}

/// The API's descriptors, for whoever checks the table of commands against them.
///
/// # Errors
/// When the descriptor set in this executable is damaged.
pub fn descriptors() -> anyhow::Result<DescriptorPool> {
    schema::pool()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client() -> Command {
        nouns(Command::new("counterfoil").args(shared_args())).unwrap()
    }

    #[test]
    fn every_command_is_well_formed() {
        client().debug_assert();
    }

    #[test]
    fn the_readme_lists_every_noun() {
        let readme = include_str!("../../../../README.md");
        let listed = readme.split_once("Every command is `counterfoil <noun> <verb>`: ");
        let (listed, _) = listed.unwrap().1.split_once('.').unwrap();
        let listed: Vec<&str> = listed.split(',').map(str::trim).collect();
        let nouns: Vec<&str> = NOUNS.iter().map(|(noun, _)| *noun).collect();
        assert_eq!(listed, nouns);
    }

    #[test]
    fn a_tenant_is_given_by_position_or_by_flag() {
        for arguments in [
            &["source", "create", "acme", "crm"][..],
            &["source", "create", "crm", "--tenant", "acme"],
        ] {
            let matches = client()
                .try_get_matches_from([&["counterfoil"], arguments].concat())
                .unwrap();
            let (_, noun) = matches.subcommand().unwrap();
            let (_, verb) = noun.subcommand().unwrap();
            let text = |name: &str| verb.get_one::<String>(name).cloned();
            assert_eq!(text("source-id").as_deref(), Some("crm"));
            let tenant = text("tenant").or_else(|| text("tenant-name"));
            assert_eq!(tenant.as_deref(), Some("acme"));
        }
    }
}
