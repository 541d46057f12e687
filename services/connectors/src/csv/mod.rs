//! A directory of CSV files as a source. The files and their columns are described in this crate's README.
//!
//! The reader streams; memory grows only with the number of keys (16 bytes and some for an account or an entitlement, 8 for
//! a grant). The writer never changes a file in place: it writes a new grants.csv beside the old one and renames it, so
//! whoever reads sees the old file or the new one, whole. Whoever can write the directory can of course write the files:
//! the two principals of a CSV source are two names, and two paths if wanted, but the file system tells them apart only
//! when the processes run as different system accounts.

#[cfg(test)]
mod crash_images;
mod lines;
mod read;
mod source;
mod table;
mod totals;
mod write;

use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use crate::config::CsvConfig;
use crate::connector::{GrantRef, Hash, ProbeReport, Reader, RevokeRequest, WriteOutcome, Writer};
use crate::error::{ConnectorError, Result};
use crate::record::{ControlTotals, Page, ReadSummary};

/// Every file of a source that the reader or the writer opens by its name.
pub(crate) const FILES: [&str; 7] = [
    table::account::TABLE.file,
    table::entitlement::TABLE.file,
    table::grant::TABLE.file,
    table::edge::TABLE.file,
    table::control::TABLE.file,
    write::LOCK_FILE,
    write::NEW_FILE,
];

/// Reads a directory of CSV files.
#[derive(Debug)]
pub(crate) struct CsvReader {
    config: CsvConfig,
    principal: String,
}

impl CsvReader {
    pub(crate) fn new(config: &CsvConfig) -> Self {
        Self {
            config: config.clone(),
            principal: config.reader_name(),
        }
    }

    /// Runs what blocks where it may.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&CsvConfig, &str) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (config, principal) = (self.config.clone(), self.principal.clone());
        match spawn_blocking(move || work(&config, &principal)).await {
            Ok(result) => result,
            Err(error) => Err(ConnectorError::Interrupted {
                pages: 0,
                reason: error.to_string(),
            }),
        }
    }
}

#[async_trait]
impl Reader for CsvReader {
    fn principal(&self) -> &str {
        &self.principal
    }

    async fn probe(&mut self) -> Result<ProbeReport> {
        self.blocking(|config, principal| read::probe(&config.directory, principal))
            .await?;
        Ok(ProbeReport {
            principal: self.principal.clone(),
            target: format!("CSV files in {}", self.config.directory.display()),
        })
    }

    async fn read(&mut self, sink: mpsc::Sender<Page>) -> Result<ReadSummary> {
        self.blocking(move |config, principal| read::read(&config.directory, principal, sink))
            .await
    }

    async fn control_totals(&mut self) -> Result<ControlTotals> {
        self.blocking(|config, principal| totals::control_totals(&config.directory, principal))
            .await
    }
}

/// Takes rows out of grants.csv.
#[derive(Debug)]
pub(crate) struct CsvWriter {
    config: CsvConfig,
    principal: String,
}

impl CsvWriter {
    pub(crate) fn new(config: &CsvConfig) -> Self {
        Self {
            config: config.clone(),
            principal: config.writer_name(),
        }
    }

    fn target(&self) -> write::Target {
        write::Target {
            directory: self.config.writer_path().to_owned(),
            principal: self.principal.clone(),
            lock_timeout: self.config.lock_timeout(),
        }
    }

    async fn states(&self, grants: Vec<GrantRef>) -> Result<Vec<Option<Hash>>> {
        let target = self.target();
        match spawn_blocking(move || target.states(&grants)).await {
            Ok(result) => result,
            Err(error) => Err(ConnectorError::not_attempted(error.to_string())),
        }
    }
}

#[async_trait]
impl Writer for CsvWriter {
    fn principal(&self) -> &str {
        &self.principal
    }

    async fn probe(&mut self) -> Result<ProbeReport> {
        let target = self.target();
        let probed = spawn_blocking(move || target.probe()).await;
        probed.map_err(|error| ConnectorError::not_attempted(error.to_string()))??;
        Ok(ProbeReport {
            principal: self.principal.clone(),
            target: format!("CSV files in {}", self.config.writer_path().display()),
        })
    }

    async fn grant_state(&mut self, grant: &GrantRef) -> Result<Option<Hash>> {
        let states = self.states(vec![grant.clone()]).await?;
        Ok(states.into_iter().next().flatten())
    }

    async fn read_grants(&mut self, grants: &[GrantRef]) -> Vec<Result<bool>> {
        match self.states(grants.to_vec()).await {
            Ok(states) => states
                .into_iter()
                .map(|state| Ok(state.is_some()))
                .collect(),
            Err(error) => grants.iter().map(|_| Err(error.clone())).collect(),
        }
    }

    async fn revoke(&mut self, request: &RevokeRequest) -> Result<WriteOutcome> {
        let mut results = self.revoke_many(std::slice::from_ref(request)).await;
        results
            .pop()
            .unwrap_or_else(|| Err(ConnectorError::ambiguous("the writer gave no answer")))
    }

    /// All of them in one rewrite of the file: together they happen or together they do not.
    async fn revoke_many(&mut self, requests: &[RevokeRequest]) -> Vec<Result<WriteOutcome>> {
        if requests.is_empty() {
            return Vec::new();
        }
        let target = self.target();
        let owned = requests.to_vec();
        match spawn_blocking(move || target.revoke(&owned, &mut |_| {})).await {
            Ok(results) => results,
            Err(error) => {
                let unknown = ConnectorError::ambiguous(error.to_string());
                requests.iter().map(|_| Err(unknown.clone())).collect()
            }
        }
    }
}
