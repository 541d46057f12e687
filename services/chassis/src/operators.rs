//! People of a provider who act for a customer: as whom, on what that rests, and a record of every call in both logs.
//!
//! Invariants:
//! - The header selects among what the verified credential may do and gives nothing: for a tenant that the caller may not act for,
//!   the answer is that of one that does not exist.
//! - What lapses with the clock counts with the next call: a remembered answer is not used beyond its end. What is revoked
//!   counts within a second, and at once in authority, which remembers nothing.
//! - No call without its record: OperatorAccessUsed is durable before the handler runs, or the call is refused. It stands behind no
//!   record that took the right away: where that can be known it is looked at again under the tenant's lock.
//! - Every access stands in the provider's log too, sooner or later, once: under the same record id, with the hash of the record
//!   in the customer's log. A transaction belongs to one tenant, so a job carries it over.
//!
//! A service that has no ledger to tell, the ledger itself, lets no operator in: the evidence is the customer's.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use counterfoil_evidence::{
    engagement::ALWAYS,
    v1::{OperatorAccessUsed, OperatorLogCrossLinked},
};
use counterfoil_proto::authority::{
    ResolveOperatorRequest, engagement_service_client::EngagementServiceClient,
};
use http::HeaderMap;
use sqlx::{Row, any::AnyRow};
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;
use tonic::Code;

use crate::{
    auth::{ActingOperator, Caller},
    client::ServiceChannel,
    clock::{self, Clock},
    db::{Database, WriteTx},
    error::ApiError,
    names::{PrincipalName, check_tenant_id, tenant_name, uuid_v7},
    outbox::{Outbox, RecordDraft},
    rates::Rates,
    sync::lock,
    tenants::TenantDirectory,
};

/// Header in which somebody of a provider names the customer, by its bare id.
pub const TENANT_HEADER: &str = "counterfoil-tenant";
/// Header in which they may name a ticket, as a code.
pub const TICKET_HEADER: &str = "counterfoil-ticket";

/// How long an answer of authority is remembered.
const REMEMBERED: Duration = Duration::from_secs(1);
/// The same, milliseconds.
const REMEMBERED_MS: i64 = 1_000;
/// Answers remembered at once.
const REMEMBERED_MAX: usize = 10_000;
/// Accesses carried over at once.
const MIRRORED_AT_ONCE: i64 = 500;
/// How often the tables are searched for accesses that another replica, or a crash, has left behind.
const SWEEP: Duration = Duration::from_secs(5);

/// As whom somebody of a provider acts for a customer, and on what that rests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// Id of the principal of the customer's tenant.
    pub principal: String,
    /// Names of its roles.
    pub roles: Vec<String>,
    /// "engagements/{engagement}".
    pub engagement: String,
    /// SHA-256 of the record of the assignment.
    pub assignment_hash: Vec<u8>,
    /// What they lack, as a code; empty: nothing.
    pub refusal: String,
    /// When to ask again, milliseconds.
    pub until_ms: i64,
    /// When it was asked, milliseconds: the answer may have been remembered since.
    pub asked_at_ms: i64,
    /// What the customer's policy leaves to which of the roles.
    pub role_permissions: Vec<(String, Vec<String>)>,
}

impl Resolved {
    /// Whether it may still be used, by the service's clock.
    const fn is_fresh(&self, now_ms: i64) -> bool {
        let old_ms = self.asked_at_ms.saturating_add(REMEMBERED_MS);
        self.asked_at_ms <= now_ms && now_ms < old_ms && now_ms < self.until_ms
    }
}

/// Knows who acts for whom. Authority looks into its tables, the other services ask authority.
#[async_trait]
pub trait OperatorSource: Send + Sync + 'static {
    /// As whom `operator` acts for `customer`. `None`: they do not, or there is no such customer.
    async fn resolve(
        &self,
        operator: &PrincipalName,
        customer: &str,
    ) -> Result<Option<Resolved>, ApiError>;

    /// Looks again while the lock of the customer's tenant is held, and refuses who does not act any longer as they did when they
    /// were let in: what took that away may have stood before them in the queue. Elsewhere than in authority nobody can, and what
    /// authority said counts.
    ///
    /// # Errors
    /// NOT_FOUND when they act for the customer no longer; PERMISSION_DENIED as [`require_qualified`].
    async fn look_again(&self, _tx: &mut WriteTx, _caller: &Caller) -> Result<(), ApiError> {
        Ok(())
    }
}

/// When authority was asked about somebody and a customer, and what it said.
type Remembered = (Instant, Option<Resolved>);

/// Asks authority, and remembers the answer for a second.
pub struct RemoteOperators {
    authority: EngagementServiceClient<ServiceChannel>,
    clock: Clock,
    remembered: Mutex<HashMap<(String, String), Remembered>>,
}

impl RemoteOperators {
    /// Asks authority behind `channel`.
    #[must_use]
    pub fn new(channel: ServiceChannel, clock: Clock) -> Self {
        Self {
            authority: EngagementServiceClient::new(channel),
            clock,
            remembered: Mutex::default(),
        }
    }

    async fn ask(&self, operator: &str, customer: &str) -> Result<Option<Resolved>, ApiError> {
        let asked_at_ms = self.clock.now_ms();
        let request = ResolveOperatorRequest {
            operator: operator.to_owned(),
            customer: tenant_name(customer).to_string(),
        };
        let found = match self.authority.clone().resolve_operator(request).await {
            Ok(answer) => answer.into_inner(),
            Err(status) if status.code() == Code::NotFound => return Ok(None),
            Err(status) => return Err(ApiError::from_peer("authority", status)),
        };
        let broken = |what: &str| ApiError::internal(format!("authority: {what}"));
        let name = PrincipalName::parse(&found.principal).map_err(|_| broken("principal"))?;
        let engagement = found.engagement.split_once("/engagements/");
        let (_, engagement) = engagement.ok_or_else(|| broken("engagement"))?;
        Ok(Some(Resolved {
            asked_at_ms,
            principal: name.principal,
            roles: found.roles,
            engagement: format!("engagements/{engagement}"),
            assignment_hash: found.assignment_hash,
            refusal: found.refusal,
            until_ms: found
                .expire_time
                .as_ref()
                .and_then(clock::millis)
                .unwrap_or(i64::MAX),
            role_permissions: found
                .role_permissions
                .into_iter()
                .map(|kept| (kept.role, kept.permissions))
                .collect(),
        }))
    }
}

impl fmt::Debug for RemoteOperators {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RemoteOperators")
    }
}

#[async_trait]
impl OperatorSource for RemoteOperators {
    async fn resolve(
        &self,
        operator: &PrincipalName,
        customer: &str,
    ) -> Result<Option<Resolved>, ApiError> {
        let key = (operator.to_string(), customer.to_owned());
        let now_ms = self.clock.now_ms();
        if let Some((at, found)) = lock(&self.remembered).get(&key)
            && at.elapsed() < REMEMBERED
            && found.as_ref().is_none_or(|found| found.is_fresh(now_ms))
        {
            return Ok(found.clone());
        }
        // The answer is as old as the question.
        let at = Instant::now();
        let found = self.ask(&key.0, customer).await?;
        let mut remembered = lock(&self.remembered);
        if remembered.len() >= REMEMBERED_MAX {
            remembered.retain(|_, (at, _)| at.elapsed() < REMEMBERED);
        }
        if remembered.len() < REMEMBERED_MAX {
            remembered.insert(key, (at, found.clone()));
        }
        Ok(found)
    }
}

/// Lets people of providers in, and keeps their accesses. Cheap to clone.
#[derive(Clone)]
pub struct Operators {
    inner: Arc<Inner>,
}

struct Inner {
    source: Arc<dyn OperatorSource>,
    db: Database,
    outbox: Outbox,
    clock: Clock,
    /// `None` in authority, which knows the logs of all tenants.
    tenants: Option<TenantDirectory>,
    recorded: Notify,
    rates: Rates,
}

impl fmt::Debug for Operators {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Operators")
    }
}

/// The tenant that a call names as the one to act for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    /// None: the caller acts as whom the credential says.
    Nothing,
    /// Several, or what is no text: nothing that can be there.
    Garbled,
    /// This one, by its bare id; whether there is one is another question.
    Tenant(String),
}

impl Named {
    /// What a request names.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        match header(headers, TENANT_HEADER) {
            Ok(None) => Self::Nothing,
            Ok(Some(tenant)) => Self::Tenant(tenant.to_owned()),
            Err(()) => Self::Garbled,
        }
    }
}

/// A header that is there once at most. `Err`: it is there and says nothing that can be.
fn header<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h str>, ()> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| ()),
        _ => Err(()),
    }
}

/// As whom a caller acts who names a tenant. Without `operators`, nobody acts for another.
///
/// # Errors
/// NOT_FOUND for a tenant that the caller may not act for; PERMISSION_DENIED where no operator is let in.
pub async fn select(
    operators: Option<&Operators>,
    caller: Caller,
    named: &Named,
) -> Result<Caller, ApiError> {
    let at_home = match named {
        Named::Nothing => true,
        Named::Tenant(customer) => caller.tenant() == Some(customer),
        Named::Garbled => false,
    };
    if at_home {
        return Ok(caller);
    }
    let (Some(operators), Some(_)) = (operators, caller.tenant()) else {
        let message = "nobody acts for a customer here under an engagement";
        return Err(ApiError::permission_denied("OPERATOR_NOT_ALLOWED", message));
    };
    let Named::Tenant(customer) = named else {
        return Err(ApiError::not_found());
    };
    let name = PrincipalName::parse(caller.principal()).map_err(|_| ApiError::not_found())?;
    check_tenant_id(customer).map_err(|_| ApiError::not_found())?;
    let found = operators.inner.source.resolve(&name, customer).await?;
    let found = found.ok_or_else(ApiError::not_found)?;
    let ground = ActingOperator {
        operator: name.to_string(),
        engagement: found.engagement,
        assignment_hash: found.assignment_hash,
        refusal: found.refusal,
        until_ms: found.until_ms,
        asked_at_ms: found.asked_at_ms,
    };
    let roles = found.roles.iter().map(String::as_str);
    let kept = found.role_permissions.iter();
    let kept = kept.map(|(role, permissions)| (role.as_str(), permissions.clone()));
    let acting = caller.acting_as(customer, &found.principal, roles, ground);
    Ok(acting.narrowed_to(kept))
}

/// Refuses an operator who lacks something, but for showing what they can.
///
/// # Errors
/// PERMISSION_DENIED with reason OPERATOR_NOT_QUALIFIED and what they lack as metadata "refusal".
pub fn require_qualified(caller: &Caller, permission: &str, now_ms: i64) -> Result<(), ApiError> {
    let Some(ground) = caller.operator() else {
        return Ok(());
    };
    let lapsed = now_ms >= ground.until_ms;
    let refusal = if lapsed { "LAPSED" } else { &ground.refusal };
    if refusal.is_empty() || (ALWAYS.contains(&permission) && !lapsed) {
        return Ok(());
    }
    Err(not_qualified(refusal))
}

/// PERMISSION_DENIED for an operator who lacks something.
#[must_use]
pub fn not_qualified(refusal: &str) -> ApiError {
    let message = "the operator lacks what this engagement asks for";
    let error = ApiError::permission_denied("OPERATOR_NOT_QUALIFIED", message);
    error.with_metadata("refusal", refusal)
}

/// Lets an operator's call in once it is on record; all others at once.
///
/// # Errors
/// RESOURCE_EXHAUSTED (TOO_MANY_CALLS) when they call too often; UNAVAILABLE (ACCESS_NOT_RECORDED) when the record cannot be written; NOT_FOUND or PERMISSION_DENIED when the right has ended since.
pub async fn enter(
    operators: Option<&Operators>,
    caller: &Caller,
    method: &str,
    permission: &str,
    headers: &HeaderMap,
) -> Result<(), ApiError> {
    let (Some(operators), Some(ground)) = (operators, caller.operator()) else {
        return Ok(());
    };
    let (rates, now_ms) = (&operators.inner.rates, operators.inner.clock.now_ms());
    let customer = caller.tenant().unwrap_or_default();
    rates.take(&ground.operator, customer, now_ms)?;
    let ticket = header(headers, TICKET_HEADER)
        .map(Option::unwrap_or_default)
        .ok();
    let Some(ticket) = ticket.filter(|ticket| is_ticket(ticket)) else {
        return Err(ApiError::invalid(
            TICKET_HEADER,
            "must be a code of at most 64 of A-Z, a-z, 0-9, '.', '_', '-', '/' and ':'",
        ));
    };
    let access = OperatorAccessUsed {
        operator: ground.operator.clone(),
        engagement: ground.engagement.clone(),
        assignment_hash: ground.assignment_hash.clone(),
        method: method.to_owned(),
        permission: permission.to_owned(),
        ticket: ticket.to_owned(),
    };
    let recorded = operators.record(caller, &access).await;
    recorded.map_err(|error| {
        if matches!(error.code(), Code::PermissionDenied | Code::NotFound) {
            return error;
        }
        tracing::warn!(%error, method, "an access cannot be recorded: the call is refused");
        let message = "the access cannot be recorded";
        ApiError::unavailable("ACCESS_NOT_RECORDED", message, Duration::from_millis(500))
    })
}

fn is_ticket(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/:".contains(&byte);
    text.len() <= 64 && text.bytes().all(allowed)
}

/// An access that the provider's log does not have yet.
struct Pending {
    customer: String,
    access_id: [u8; 16],
    operator: PrincipalName,
    method: String,
    record_hash: Vec<u8>,
    log_origin: String,
}

impl Operators {
    /// Lets in whom `source` knows. `tenants`: how logs of other tenants become known here.
    #[must_use]
    pub fn new(
        source: Arc<dyn OperatorSource>,
        outbox: Outbox,
        clock: Clock,
        tenants: Option<TenantDirectory>,
    ) -> Self {
        let inner = Inner {
            source,
            db: outbox.db().clone(),
            outbox,
            clock,
            tenants,
            recorded: Notify::new(),
            rates: Rates::default(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    async fn know(&self, tenant: &str) -> Result<(), ApiError> {
        match &self.inner.tenants {
            Some(tenants) => tenants.require(tenant).await.map(drop),
            None => Ok(()),
        }
    }

    /// Writes the record of an access, and what the job needs to tell the provider's log.
    async fn record(&self, caller: &Caller, access: &OperatorAccessUsed) -> Result<(), ApiError> {
        let inner = &self.inner;
        let tenant = caller.tenant().ok_or_else(ApiError::not_found)?;
        self.know(tenant).await?;
        let mut tx = inner.db.write_tx(tenant).await?;
        // While this waited for its turn, the right may have ended: by the clock, or by what was written before it.
        let now_ms = inner.clock.now_ms();
        require_qualified(caller, &access.permission, now_ms)?;
        inner.source.look_again(&mut tx, caller).await?;
        let access_id = uuid_v7(now_ms).into_bytes();
        let draft = RecordDraft::new(access, caller.actor(), now_ms)
            .record_id(access_id)
            .subject(access.engagement.as_str())
            .subject(caller.actor());
        let emitted = inner.outbox.emit(&mut tx, draft).await?;
        sqlx::query(
            "INSERT INTO operator_accesses (tenant, access_id, operator, method, record_hash) VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(tenant)
        .bind(access_id.to_vec())
        .bind(&access.operator)
        .bind(&access.method)
        .bind(emitted.record_hash.to_vec())
        .execute(tx.conn())
        .await?;
        // If we crash here: neither record nor call has happened. After the commit and before the handler: an access stands on
        // record that changed nothing, which is true.
        tx.commit().await?;
        inner.recorded.notify_one();
        Ok(())
    }

    /// Tells the providers' logs of accesses that they do not have yet; answers of how many.
    ///
    /// # Errors
    /// When a database or authority does not answer: the rest is told by the next call. A provider that cannot be told keeps no
    /// other waiting.
    pub async fn mirror_once(&self) -> Result<usize, ApiError> {
        let mut last = (String::new(), Vec::new());
        let (mut told, mut failed) = (0, None);
        loop {
            let pending = self.pending(&last).await?;
            let Some(end) = pending.last() else { break };
            last = (end.customer.clone(), end.access_id.to_vec());
            let mut by_provider: BTreeMap<String, Vec<Pending>> = BTreeMap::new();
            for one in pending {
                let provider = one.operator.tenant.clone();
                by_provider.entry(provider).or_default().push(one);
            }
            for (provider, accesses) in &by_provider {
                match self.carry_over(provider, accesses).await {
                    Ok(()) => told += accesses.len(),
                    Err(error) => failed = Some(error),
                }
            }
        }
        failed.map_or(Ok(told), Err)
    }

    /// Tells one provider's log of accesses, and notes that it has them.
    async fn carry_over(&self, provider: &str, accesses: &[Pending]) -> Result<(), ApiError> {
        self.tell(provider, accesses).await?;
        // If we crash here: the provider's log has them, and we do not know it. The next run finds their ids there, tells nothing
        // twice, and marks them.
        self.mark(accesses).await
    }

    /// The next accesses to carry over, of all tenants, after this one by customer and id.
    async fn pending(&self, last: &(String, Vec<u8>)) -> Result<Vec<Pending>, ApiError> {
        let reason = "accesses that providers' logs do not have";
        let rows = sqlx::query(
            "SELECT a.tenant, a.access_id, a.operator, a.method, a.record_hash, l.origin FROM operator_accesses a \
             JOIN tenant_logs l ON l.tenant = a.tenant WHERE a.mirrored_at_ms IS NULL \
             AND (a.tenant > $1 OR (a.tenant = $1 AND a.access_id > $2)) ORDER BY a.tenant, a.access_id LIMIT $3",
        )
        .bind(&last.0)
        .bind(&last.1)
        .bind(MIRRORED_AT_ONCE)
        .fetch_all(self.inner.db.read_everything(reason).await?.conn())
        .await?;
        rows.iter().map(read).collect()
    }

    /// Writes into the log of a provider what its people did for customers, but for what it has.
    async fn tell(&self, provider: &str, accesses: &[Pending]) -> Result<(), ApiError> {
        let inner = &self.inner;
        self.know(provider).await?;
        let now_ms = inner.clock.now_ms();
        let mut tx = inner.db.write_tx(provider).await?;
        let mut emission = inner.outbox.begin(&mut tx).await?;
        for access in accesses {
            // The tenant's lock is held: of two replicas that carry over the same access, the second finds it here.
            let there =
                sqlx::query("SELECT seq FROM outbox_records WHERE tenant = $1 AND record_id = $2")
                    .bind(provider)
                    .bind(access.access_id.to_vec())
                    .fetch_optional(tx.conn())
                    .await?;
            if there.is_some() {
                continue;
            }
            let payload = OperatorLogCrossLinked {
                operator: format!("principals/{}", access.operator.principal),
                customer: tenant_name(&access.customer).to_string(),
                customer_log_origin: access.log_origin.clone(),
                access_hash: access.record_hash.clone(),
                method: access.method.clone(),
            };
            let actor = format!("services/{}", inner.outbox.stream());
            let draft = RecordDraft::new(&payload, actor, now_ms)
                .record_id(access.access_id)
                .subject(payload.operator.clone())
                .subject(payload.customer.clone());
            emission.add(draft)?;
        }
        emission.finish(&mut tx).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Notes that the provider's log has them.
    async fn mark(&self, accesses: &[Pending]) -> Result<(), ApiError> {
        let now_ms = self.inner.clock.now_ms();
        let mut by_customer: BTreeMap<&str, Vec<&Pending>> = BTreeMap::new();
        for access in accesses {
            by_customer
                .entry(&access.customer)
                .or_default()
                .push(access);
        }
        for (customer, accesses) in by_customer {
            let mut tx = self.inner.db.write_tx(customer).await?;
            for access in accesses {
                sqlx::query(
                    "UPDATE operator_accesses SET mirrored_at_ms = $1 WHERE tenant = $2 AND access_id = $3",
                )
                .bind(now_ms)
                .bind(customer)
                .bind(access.access_id.to_vec())
                .execute(tx.conn())
                .await?;
            }
            tx.commit().await?;
        }
        Ok(())
    }

    /// Carries accesses over until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut sweep = tokio::time::interval(SWEEP);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.inner.recorded.notified() => {}
                _ = sweep.tick() => {}
            }
            if let Err(error) = self.mirror_once().await {
                tracing::warn!(%error, "accesses are not in the providers' logs yet");
            }
        }
    }
}

fn read(row: &AnyRow) -> Result<Pending, ApiError> {
    let operator: String = row.try_get("operator")?;
    let access_id: Vec<u8> = row.try_get("access_id")?;
    Ok(Pending {
        customer: row.try_get("tenant")?,
        access_id: access_id
            .try_into()
            .map_err(|_| ApiError::internal("an access id has 16 bytes"))?,
        operator: PrincipalName::parse(&operator).map_err(ApiError::internal)?,
        method: row.try_get("method")?,
        record_hash: row.try_get("record_hash")?,
        log_origin: row.try_get("origin")?,
    })
}
