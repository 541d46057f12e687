//! One service in a process of its own, from its configuration file: what a replica runs.

use std::path::Path;

use anyhow::{Context as _, bail};
use counterfoil_chassis::{CancellationToken, Clock, config, server::Running};

use crate::client::SERVICES;
use crate::ending::Ending;

/// Reads the configuration file of a service and says what is wrong with it. Touches nothing else.
///
/// # Errors
/// Names the file, and the line or key at fault.
pub fn check(service: &str, file: &Path) -> anyhow::Result<()> {
    match service {
        "ledger" => drop(config::load::<counterfoil_ledger::Config>(file)?),
        "authority" => config::load::<counterfoil_authority::Config>(file)?
            .check()
            .map_err(anyhow::Error::msg)?,
        "inventory" => drop(config::load::<counterfoil_inventory::Config>(file)?),
        "recertification" => drop(config::load::<counterfoil_recertification::Config>(file)?),
        "reconciliation" => drop(config::load::<counterfoil_reconciliation::Config>(file)?),
        other => bail!("{other:?} is none of {}", SERVICES.join(", ")),
    }
    Ok(())
}

/// Address of the database that a service's configuration names.
///
/// # Errors
/// As [`check`].
pub fn database_url(service: &str, file: &Path) -> anyhow::Result<String> {
    let config = match service {
        "authority" => config::load::<counterfoil_authority::Config>(file)?.service,
        "inventory" => config::load::<counterfoil_inventory::Config>(file)?.service,
        "recertification" => config::load::<counterfoil_recertification::Config>(file)?.service,
        "reconciliation" => config::load::<counterfoil_reconciliation::Config>(file)?.service,
        other => bail!("{other:?} has no outbox"),
    };
    Ok(config.database_url)
}

/// Runs one service until the process is asked to end, or it fails. `started` is told where it listens.
///
/// # Errors
/// When its configuration, its database, its keys or its listener cannot be used, or when it fails.
pub async fn run(service: &str, file: &Path, started: impl FnOnce(&Running)) -> anyhow::Result<()> {
    let mut ending = Ending::listen()?;
    let shutdown = CancellationToken::new();
    let running = tokio::select! {
        running = start(service, file, shutdown.clone()) => {
            running.with_context(|| format!("the {service} service does not start"))?
        }
        () = ending.asked() => return Ok(()),
    };
    started(&running);
    let mut ends = Box::pin(running.wait());
    tokio::select! {
        ended = &mut ends => return ended.with_context(|| format!("the {service} service failed")),
        () = ending.asked() => {}
    }
    shutdown.cancel();
    Ok(ends.await?)
}

async fn start(service: &str, file: &Path, shutdown: CancellationToken) -> anyhow::Result<Running> {
    let clock = Clock::system();
    Ok(match service {
        "ledger" => counterfoil_ledger::start(config::load(file)?, clock, None, shutdown).await?,
        "authority" => {
            counterfoil_authority::start(config::load(file)?, clock, None, shutdown).await?
        }
        "inventory" => {
            counterfoil_inventory::start(config::load(file)?, clock, None, shutdown).await?
        }
        "recertification" => {
            counterfoil_recertification::start(config::load(file)?, clock, None, shutdown).await?
        }
        "reconciliation" => {
            counterfoil_reconciliation::start(config::load(file)?, clock, None, shutdown).await?
        }
        other => bail!("{other:?} is none of {}", SERVICES.join(", ")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(service: &str) -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../deploy/config")
            .join(format!("{service}.toml"))
    }

    #[test]
    fn every_sample_configuration_parses() {
        for service in SERVICES {
            check(service, &sample(service)).unwrap();
        }
    }

    #[test]
    fn an_unknown_key_is_refused_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ledger.toml");
        let text = std::fs::read_to_string(sample("ledger")).unwrap();
        std::fs::write(&file, format!("{text}\n[surplus]\nkey = 1\n")).unwrap();
        let refusal = format!("{:#}", check("ledger", &file).unwrap_err());
        assert!(refusal.contains("surplus"), "{refusal}");
    }

    #[test]
    fn a_service_that_does_not_exist_is_refused() {
        assert!(check("witness", &sample("ledger")).is_err());
    }
}
