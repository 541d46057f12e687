//! An LDAP directory as a source: people are accounts, groups are entitlements, a group in a group is an edge, a person in
//! a group is a grant. How entries are mapped is described in this crate's README.
//!
//! Reader and writer bind as different principals, over connections of their own. Values from the directory get into a
//! filter only escaped (RFC 4515). Referrals are never followed: the server they name is chosen by whoever can write the
//! directory, and would be sent our password.

pub(crate) mod dn;
mod entry;
mod index;
mod read;
mod session;
mod time;
mod write;

use async_trait::async_trait;
use tokio::sync::mpsc;

use crate::config::{LdapBind, LdapConfig};
use crate::connector::{GrantRef, Hash, ProbeReport, Reader, RevokeRequest, WriteOutcome, Writer};
use crate::error::{ConnectorError, Result};
use crate::record::{ControlTotals, Page, ReadSummary};
use session::Session;

/// Reads a directory.
#[derive(Debug)]
pub(crate) struct LdapReader {
    config: LdapConfig,
}

impl LdapReader {
    pub(crate) fn new(config: &LdapConfig) -> Self {
        Self {
            config: config.clone(),
        }
    }
}

#[async_trait]
impl Reader for LdapReader {
    fn principal(&self) -> &str {
        &self.config.reader.dn
    }

    async fn probe(&mut self) -> Result<ProbeReport> {
        probe(&self.config, &self.config.reader).await
    }

    async fn read(&mut self, sink: mpsc::Sender<Page>) -> Result<ReadSummary> {
        read::read(&self.config, sink).await
    }

    async fn control_totals(&mut self) -> Result<ControlTotals> {
        read::control_totals(&self.config).await
    }
}

async fn probe(config: &LdapConfig, bind: &LdapBind) -> Result<ProbeReport> {
    let mut session = Session::open(config, bind).await?;
    read::base_entry(&mut session, config, &bind.dn).await?;
    let server = session
        .vendor
        .clone()
        .unwrap_or_else(|| "LDAP server".to_owned());
    session.close().await;
    Ok(ProbeReport {
        principal: bind.dn.clone(),
        target: format!("{server} at {}, {}", config.url, config.base_dn),
    })
}

/// Takes members out of groups. Keeps its connection from one order to the next while all goes well.
#[derive(Debug)]
pub(crate) struct LdapWriter {
    config: LdapConfig,
    session: Option<Session>,
}

impl LdapWriter {
    pub(crate) fn new(config: &LdapConfig) -> Self {
        Self {
            config: config.clone(),
            session: None,
        }
    }

    /// The kept connection, or a new one.
    async fn take_session(&mut self) -> Result<Session> {
        match self.session.take() {
            Some(session) => Ok(session),
            None => Session::open(&self.config, &self.config.writer).await,
        }
    }

    /// Reads what is held for a grant; a kept connection that turns out to be dead is replaced once, since reading again
    /// is always safe.
    async fn held(&mut self, grant: &GrantRef) -> Result<(Session, write::Held)> {
        let kept = self.session.is_some();
        let mut session = self.take_session().await?;
        match write::held(&mut session, &self.config, grant).await {
            Ok(held) => Ok((session, held)),
            Err(ConnectorError::Unreachable { .. }) if kept => {
                let mut session = self.take_session().await?;
                let held = write::held(&mut session, &self.config, grant).await?;
                Ok((session, held))
            }
            Err(error) => {
                if !matches!(error, ConnectorError::Unreachable { .. }) {
                    self.session = Some(session);
                }
                Err(error)
            }
        }
    }
}

#[async_trait]
impl Writer for LdapWriter {
    fn principal(&self) -> &str {
        &self.config.writer.dn
    }

    async fn probe(&mut self) -> Result<ProbeReport> {
        probe(&self.config, &self.config.writer).await
    }

    async fn grant_state(&mut self, grant: &GrantRef) -> Result<Option<Hash>> {
        let (session, held) = self.held(grant).await?;
        self.session = Some(session);
        Ok(held.state())
    }

    async fn revoke(&mut self, request: &RevokeRequest) -> Result<WriteOutcome> {
        let (mut session, held) = self
            .held(&request.grant())
            .await
            .map_err(ConnectorError::before_write)?;
        let result = write::remove(&mut session, &self.config, request, &held).await;
        tracing::debug!(idempotency_key = %request.idempotency_key, ?result, "LDAP revoke");
        // After anything but a definite answer the connection is in an unknown state.
        if matches!(result, Ok(_) | Err(ConnectorError::Refused { .. })) {
            self.session = Some(session);
        }
        result
    }
}
