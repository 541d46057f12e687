//! RemediationService, and reading and watching remediations.

use std::{sync::Arc, time::Duration};

use counterfoil_chassis::{db::scope, error::ApiError, names::tenant_field};
use counterfoil_proto::reconciliation::{
    ExecuteRemediationRequest, ExecuteRemediationResponse, GetRemediationRequest,
    GetRemediationResponse, ListActionsRequest, ListActionsResponse, ListObligationsRequest,
    ListObligationsResponse, ListRemediationsRequest, ListRemediationsResponse,
    PlanRemediationRequest, PlanRemediationResponse, ResolveThresholdRequest,
    ResolveThresholdResponse, RunDueRereadsRequest, RunDueRereadsResponse, WatchRemediationRequest,
    WatchRemediationResponse, remediation_service_server::RemediationService,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{Api, convert, open};
use crate::{
    context::Context,
    model::{entities::Remediation, ids::RemediationKey},
    store,
};

/// Another replica may carry a remediation out: its changes are seen in the database only.
const RECHECK: Duration = Duration::from_secs(1);

#[tonic::async_trait]
impl RemediationService for Api {
    type WatchRemediationStream = ReceiverStream<Result<WatchRemediationResponse, Status>>;

    async fn plan_remediation(
        &self,
        request: Request<PlanRemediationRequest>,
    ) -> Result<Response<PlanRemediationResponse>, Status> {
        let (caller, request) = open(request)?;
        Ok(Response::new(self.plan(&caller, request).await?))
    }

    async fn resolve_threshold(
        &self,
        request: Request<ResolveThresholdRequest>,
    ) -> Result<Response<ResolveThresholdResponse>, Status> {
        let (caller, request) = open(request)?;
        Ok(Response::new(self.resolve(&caller, request).await?))
    }

    async fn execute_remediation(
        &self,
        request: Request<ExecuteRemediationRequest>,
    ) -> Result<Response<ExecuteRemediationResponse>, Status> {
        let (caller, request) = open(request)?;
        Ok(Response::new(self.execute(&caller, request).await?))
    }

    async fn get_remediation(
        &self,
        request: Request<GetRemediationRequest>,
    ) -> Result<Response<GetRemediationResponse>, Status> {
        let (caller, request) = open(request)?;
        let key = Self::remediation_key(&caller, "name", &request.name)?;
        let (remediation, verified) = read(&self.context, &key).await?;
        Ok(Response::new(GetRemediationResponse {
            remediation: Some(convert::remediation(&key.tenant, &remediation, verified)),
        }))
    }

    async fn list_remediations(
        &self,
        request: Request<ListRemediationsRequest>,
    ) -> Result<Response<ListRemediationsResponse>, Status> {
        let (caller, request) = open(request)?;
        let tenant = tenant_field(&request.tenant)?;
        caller.require_tenant(&tenant)?;
        Ok(Response::new(self.remediations(&tenant, &request).await?))
    }

    async fn list_actions(
        &self,
        request: Request<ListActionsRequest>,
    ) -> Result<Response<ListActionsResponse>, Status> {
        let (caller, request) = open(request)?;
        let key = Self::remediation_key(&caller, "remediation", &request.remediation)?;
        Ok(Response::new(self.actions(&key, &request).await?))
    }

    async fn watch_remediation(
        &self,
        request: Request<WatchRemediationRequest>,
    ) -> Result<Response<Self::WatchRemediationStream>, Status> {
        let (caller, request) = open(request)?;
        let key = Self::remediation_key(&caller, "name", &request.name)?;
        // Subscribed before it is read: a change in between is not missed.
        let bell = self.context.bell.subscribe();
        let (remediation, verified) = read(&self.context, &key).await?;
        let (sender, receiver) = mpsc::channel(4);
        let context = Arc::clone(&self.context);
        scope::spawn(watch(context, key, bell, (remediation, verified), sender));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn run_due_rereads(
        &self,
        request: Request<RunDueRereadsRequest>,
    ) -> Result<Response<RunDueRereadsResponse>, Status> {
        let (caller, request) = open(request)?;
        Ok(Response::new(self.rereads(&caller, &request).await?))
    }

    async fn list_obligations(
        &self,
        request: Request<ListObligationsRequest>,
    ) -> Result<Response<ListObligationsResponse>, Status> {
        let (caller, request) = open(request)?;
        let tenant = tenant_field(&request.tenant)?;
        caller.require_tenant(&tenant)?;
        Ok(Response::new(self.obligations(&tenant, &request).await?))
    }
}

impl Api {
    async fn remediations(
        &self,
        tenant: &str,
        request: &ListRemediationsRequest,
    ) -> Result<ListRemediationsResponse, ApiError> {
        let db = &self.context.db;
        let scope = ["ListRemediations", tenant];
        let page = self
            .context
            .pages
            .open(request.page_size, &request.page_token, &scope)?;
        let limit = i64::from(page.size) + 1;
        let mut found = store::remediations::list(db, tenant, page.after_text()?, limit).await?;
        let next_page_token = page.cut(&mut found, |one| one.id.clone().into_bytes());
        let last = found.first().map_or("", |one| one.id.as_str());
        let first = found.last().map_or("", |one| one.id.as_str());
        let mut connection = db.read(tenant).await?;
        let verified =
            store::actions::verified_counts(&mut connection, tenant, first, last).await?;
        let shown = |one: &Remediation| {
            let verified = verified.get(&one.id).copied().unwrap_or(0);
            convert::remediation(tenant, one, verified)
        };
        Ok(ListRemediationsResponse {
            remediations: found.iter().map(shown).collect(),
            next_page_token,
        })
    }

    async fn actions(
        &self,
        key: &RemediationKey,
        request: &ListActionsRequest,
    ) -> Result<ListActionsResponse, ApiError> {
        read(&self.context, key).await?;
        let scope = ["ListActions", &key.tenant, &key.remediation];
        let page = self
            .context
            .pages
            .open(request.page_size, &request.page_token, &scope)?;
        let limit = i64::from(page.size) + 1;
        let mut found =
            store::actions::list(&self.context.db, key, page.after.as_deref(), limit).await?;
        let next_page_token = page.cut(&mut found, |action| action.key.0.to_vec());
        let shown = |action| convert::action(&key.tenant, &key.remediation, action);
        Ok(ListActionsResponse {
            actions: found.iter().map(shown).collect(),
            next_page_token,
        })
    }
}

/// A remediation and how many of its actions are verified.
async fn read(context: &Context, key: &RemediationKey) -> Result<(Remediation, u64), ApiError> {
    let mut connection = context.db.read(&key.tenant).await?;
    let found = store::remediations::get(&mut connection, key).await?;
    let remediation = found.ok_or_else(ApiError::not_found)?;
    let (tenant, id) = (&key.tenant, &key.remediation);
    let counts = store::actions::verified_counts(&mut connection, tenant, id, id).await?;
    Ok((remediation, counts.get(id).copied().unwrap_or(0)))
}

/// Sends a remediation whenever it has changed, until nothing moves any more, the watcher leaves, or the service ends.
async fn watch(
    context: Arc<Context>,
    key: RemediationKey,
    mut bell: tokio::sync::watch::Receiver<u64>,
    mut seen: (Remediation, u64),
    sender: mpsc::Sender<Result<WatchRemediationResponse, Status>>,
) {
    loop {
        let progress = WatchRemediationResponse {
            remediation: Some(convert::remediation(&key.tenant, &seen.0, seen.1)),
        };
        if sender.send(Ok(progress)).await.is_err() || !seen.0.state.is_running() {
            return;
        }
        loop {
            tokio::select! {
                () = context.shutdown.cancelled() => return,
                () = sender.closed() => return,
                _ = tokio::time::timeout(RECHECK, bell.changed()) => {}
            }
            match read(&context, &key).await {
                Ok(now) if now == seen => {}
                Ok(now) => {
                    seen = now;
                    break;
                }
                Err(error) => {
                    // The watcher may have left in the meantime; then nobody is told.
                    drop(sender.send(Err(error.into())).await);
                    return;
                }
            }
        }
    }
}
