//! What a service must know of a tenant before it does anything for it: that it exists, its state, its log.
//!
//! Authority knows tenants; other services ask it and remember the answer for a second. The origin of a tenant's log never
//! changes and is kept in `tenant_logs`, because it stands in every record. The authority service itself writes that table
//! with [`record_log_origin`] when it has created the log.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use counterfoil_proto::authority::{
    GetTenantRequest, TenantKind, TenantState, tenant_service_client::TenantServiceClient,
};
use tokio::time::Instant;
use tonic::Code;

use crate::{
    client::ServiceChannel,
    db::{Database, WriteTx},
    error::ApiError,
    names::tenant_name,
    sync::lock,
};

/// How long an answer of authority is good.
const FRESH: Duration = Duration::from_secs(1);
/// How long it is good enough when authority does not answer.
const STALE: Duration = Duration::from_secs(60);

/// A tenant, as other services need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// Bare id.
    pub id: String,
    /// Whose it is.
    pub kind: TenantKind,
    /// State.
    pub state: TenantState,
    /// Origin of its log; empty while it has none.
    pub log_origin: String,
    /// Salt of identity tags, 32 bytes.
    pub correlation_salt: Vec<u8>,
}

impl Tenant {
    /// Whether it has left: its log takes nothing more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.state == TenantState::Closed
    }
}

/// When authority was asked about a tenant, and what it said.
type Remembered = (Instant, Arc<Tenant>);

/// Asks authority about tenants. Cheap to clone.
#[derive(Debug, Clone)]
pub struct TenantDirectory {
    db: Database,
    authority: TenantServiceClient<ServiceChannel>,
    known: Arc<Mutex<HashMap<String, Remembered>>>,
}

impl TenantDirectory {
    /// A directory that asks authority behind `channel`.
    #[must_use]
    pub fn new(db: Database, channel: ServiceChannel) -> Self {
        Self {
            db,
            authority: TenantServiceClient::new(channel),
            known: Arc::default(),
        }
    }

    /// The tenant. Ask before every write transaction that emits records.
    ///
    /// # Errors
    /// NOT_FOUND when there is no such tenant; UNAVAILABLE when authority does not answer.
    pub async fn require(&self, tenant: &str) -> Result<Arc<Tenant>, ApiError> {
        let remembered = lock(&self.known).get(tenant).cloned();
        if let Some((at, known)) = &remembered
            && at.elapsed() < FRESH
        {
            return Ok(Arc::clone(known));
        }
        let asked = self.ask(tenant).await;
        match (asked, remembered) {
            (Ok(found), remembered) => {
                let found = Arc::new(found);
                let origin_is_known =
                    remembered.is_some_and(|(_, known)| known.log_origin == found.log_origin);
                if !origin_is_known && !found.log_origin.is_empty() {
                    self.keep_origin(&found).await?;
                }
                let entry = (Instant::now(), Arc::clone(&found));
                lock(&self.known).insert(tenant.to_owned(), entry);
                Ok(found)
            }
            (Err(error), Some((at, known)))
                if error.code() == Code::Unavailable && at.elapsed() < STALE =>
            {
                Ok(known)
            }
            (Err(error), _) => Err(error),
        }
    }

    /// The tenant, if it is governed now.
    ///
    /// # Errors
    /// As [`Self::require`], and FAILED_PRECONDITION with reason TENANT_NOT_ACTIVE, or TENANT_IS_PROVIDER: a provider's own
    /// tenant governs nothing.
    pub async fn require_active(&self, tenant: &str) -> Result<Arc<Tenant>, ApiError> {
        self.require_in(tenant, &[TenantState::Active]).await
    }

    /// The tenant, if what is under way there may come to its end: it is governed now, or leaves.
    ///
    /// # Errors
    /// As [`Self::require_active`].
    pub async fn require_under_way(&self, tenant: &str) -> Result<Arc<Tenant>, ApiError> {
        let states = [TenantState::Active, TenantState::Exiting];
        self.require_in(tenant, &states).await
    }

    async fn require_in(
        &self,
        tenant: &str,
        states: &[TenantState],
    ) -> Result<Arc<Tenant>, ApiError> {
        let found = self.require(tenant).await?;
        if found.kind == TenantKind::Provider {
            return Err(ApiError::failed_precondition(
                "TENANT_IS_PROVIDER",
                "a provider's own tenant governs nothing",
            ));
        }
        if states.contains(&found.state) {
            return Ok(found);
        }
        Err(ApiError::failed_precondition(
            "TENANT_NOT_ACTIVE",
            "the tenant is not active",
        ))
    }

    async fn ask(&self, tenant: &str) -> Result<Tenant, ApiError> {
        let request = GetTenantRequest {
            name: tenant_name(tenant).to_string(),
        };
        let answer = self.authority.clone().get_tenant(request).await;
        let found = match answer {
            Ok(answer) => answer.into_inner().tenant.unwrap_or_default(),
            Err(status) if status.code() == Code::NotFound => return Err(ApiError::not_found()),
            Err(status) => return Err(ApiError::from_peer("authority", status)),
        };
        Ok(Tenant {
            id: tenant.to_owned(),
            kind: found.kind(),
            state: found.state(),
            log_origin: found.log_origin,
            correlation_salt: found.correlation_salt,
        })
    }

    async fn keep_origin(&self, tenant: &Tenant) -> Result<(), ApiError> {
        let mut tx = self.db.write_tx(&tenant.id).await?;
        record_log_origin(&mut tx, &tenant.log_origin).await?;
        tx.commit().await?;
        Ok(())
    }
}

/// Writes down the origin of the log of the transaction's tenant.
///
/// # Errors
/// INTERNAL when another origin is known: a log's origin never changes, so one of the two is wrong.
pub async fn record_log_origin(tx: &mut WriteTx, origin: &str) -> Result<(), ApiError> {
    let tenant = tx.tenant().to_owned();
    sqlx::query(
        "INSERT INTO tenant_logs (tenant, origin) VALUES ($1, $2) ON CONFLICT (tenant) DO NOTHING",
    )
    .bind(&tenant)
    .bind(origin)
    .execute(tx.conn())
    .await?;
    let known: String = sqlx::query_scalar("SELECT origin FROM tenant_logs WHERE tenant = $1")
        .bind(&tenant)
        .fetch_one(tx.conn())
        .await?;
    if known == origin {
        return Ok(());
    }
    tracing::error!(
        alarm = "LOG_ORIGIN_CHANGED",
        tenant,
        known,
        origin,
        "a log's origin never changes"
    );
    Err(ApiError::internal(format!(
        "the log of {tenant} has origin {known}, not {origin}"
    )))
}
