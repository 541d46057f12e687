//! What is done to the logs past the running service: how they stand, a full check, and bringing back what a database lost.

use std::sync::Arc;

use counterfoil_chassis::{Clock, ProducerKey, StartError};
use counterfoil_engine::{
    DirectoryKeys, Engine, EngineError, FsckReport, LogStatus, Publication, Recovered,
};
use counterfoil_tlog::VerifierKey;

use crate::{Config, EngineClock, SERVICE, anchors, engine_options, other, publisher};

/// Told how many entries are done, and of how many.
pub type Progress<'a> = &'a mut (dyn FnMut(u64, u64) + Send);

/// The logs, opened by an operator.
///
/// On PostgreSQL the service may run meanwhile. SQLite is for one process that writes: stop the service before recovering.
#[derive(Debug)]
pub struct Offline {
    engine: Engine,
    copy: Option<Publication>,
    deployment: String,
    registrar: VerifierKey,
}

impl Offline {
    /// Opens the logs that a configuration names.
    ///
    /// # Errors
    /// When keys, database or published copy cannot be opened.
    pub async fn open(config: &Config) -> Result<Self, StartError> {
        let service = &config.service;
        let name = format!("{}/services/{SERVICE}", service.deployment);
        let key = ProducerKey::load_or_create(&service.producer_key_file, &name).map_err(other)?;
        let keys = DirectoryKeys::open(config.log_keys_dir()).map_err(other)?;
        let copy = config.ledger.publish_url.as_deref().map(publisher::open);
        let copy = copy.transpose().map_err(other)?;
        let options = engine_options(config, anchors(config, copy.as_ref())?);
        let clock = Arc::new(EngineClock(Clock::system()));
        let engine = Engine::open(&service.database_url, Arc::new(keys), clock, options)
            .await
            .map_err(other)?;
        Ok(Self {
            engine,
            copy,
            deployment: service.deployment.clone(),
            registrar: VerifierKey::parse(&key.vkey()).map_err(other)?,
        })
    }

    /// The tenants that have a log in the database.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn tenants(&self) -> Result<Vec<String>, EngineError> {
        self.engine.tenants().await
    }

    /// The tenants that have a published log; none where nothing is published.
    ///
    /// # Errors
    /// When the object store cannot be read.
    pub async fn published(&self) -> Result<Vec<String>, EngineError> {
        match &self.copy {
            Some(copy) => copy.tenants().await,
            None => Ok(Vec::new()),
        }
    }

    /// Entries of a tenant's log.
    ///
    /// # Errors
    /// When there is no such log, or the database cannot be read.
    pub async fn size(&self, tenant: &str) -> Result<u64, EngineError> {
        Ok(self.engine.log(tenant).await?.head().await?.size)
    }

    /// How a log stands beside its published copy. The service may run meanwhile, on SQLite too.
    ///
    /// # Errors
    /// When there is no such log, the database or the object store cannot be read, or the copy is of another log.
    pub async fn status(&self, tenant: &str) -> Result<LogStatus, EngineError> {
        let log = self.engine.log(tenant).await?;
        log.status(self.copy.as_ref()).await
    }

    /// Checks a log in full, with its published copy if there is one.
    ///
    /// # Errors
    /// When the database or the object store cannot be read; what does not fit is in the report.
    pub async fn fsck(
        &self,
        tenant: &str,
        progress: Progress<'_>,
    ) -> Result<FsckReport, EngineError> {
        let log = self.engine.log(tenant).await?;
        log.fsck_with(self.copy.as_ref(), progress).await
    }

    /// Brings a log to what its published copy has.
    ///
    /// # Errors
    /// See [`counterfoil_engine::Log::recover`].
    pub async fn recover(
        &self,
        tenant: &str,
        progress: Progress<'_>,
    ) -> Result<Recovered, EngineError> {
        let origin = format!("{}/t/{tenant}", self.deployment);
        let copy = self.copy.as_ref().ok_or_else(|| EngineError::Publication {
            step: "recover",
            message: "ledger.publish_url is not set: there is no copy to recover from".to_owned(),
        })?;
        let log = self
            .engine
            .lost_log(tenant, &origin, &self.registrar)
            .await?;
        log.recover(copy, progress).await
    }

    /// Closes the database.
    pub async fn close(self) {
        self.engine.close().await;
    }
}
