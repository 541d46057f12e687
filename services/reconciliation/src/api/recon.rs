//! ReconService.

use counterfoil_chassis::{error::ApiError, names::tenant_field};
use counterfoil_proto::{
    common::Receipt,
    reconciliation::{
        AcceptFindingRiskRequest, AcceptFindingRiskResponse, GetReconRunRequest,
        GetReconRunResponse, ListFindingsRequest, ListFindingsResponse, ListReconRunsRequest,
        ListReconRunsResponse, RunReconciliationRequest, RunReconciliationResponse,
        recon_service_server::ReconService,
    },
};
use tonic::{Request, Response, Status};

use super::{Api, ReconRunName, convert, open};
use crate::{model::entities::Run, store};

#[tonic::async_trait]
impl ReconService for Api {
    async fn run_reconciliation(
        &self,
        request: Request<RunReconciliationRequest>,
    ) -> Result<Response<RunReconciliationResponse>, Status> {
        let (caller, request) = open(request)?;
        Ok(Response::new(self.reconcile(&caller, request).await?))
    }

    async fn get_recon_run(
        &self,
        request: Request<GetReconRunRequest>,
    ) -> Result<Response<GetReconRunResponse>, Status> {
        let (caller, request) = open(request)?;
        let name = ReconRunName::parse_field("name", &request.name)?;
        caller.require_tenant(&name.tenant)?;
        let run = self.run(&name).await?;
        let mut runs = self.with_receipts(&name.tenant, vec![run]).await?;
        Ok(Response::new(GetReconRunResponse {
            recon_run: runs.pop(),
        }))
    }

    async fn list_recon_runs(
        &self,
        request: Request<ListReconRunsRequest>,
    ) -> Result<Response<ListReconRunsResponse>, Status> {
        let (caller, request) = open(request)?;
        let tenant = tenant_field(&request.tenant)?;
        caller.require_tenant(&tenant)?;
        let scope = ["ListReconRuns", &tenant];
        let page = self
            .context
            .pages
            .open(request.page_size, &request.page_token, &scope)?;
        let mut runs = store::runs::list(
            &self.context.db,
            &tenant,
            page.after_text()?,
            i64::from(page.size) + 1,
        )
        .await
        .map_err(ApiError::from)?;
        let next_page_token = page.cut(&mut runs, |run| run.id.clone().into_bytes());
        let recon_runs = self.with_receipts(&tenant, runs).await?;
        Ok(Response::new(ListReconRunsResponse {
            recon_runs,
            next_page_token,
        }))
    }

    async fn list_findings(
        &self,
        request: Request<ListFindingsRequest>,
    ) -> Result<Response<ListFindingsResponse>, Status> {
        let (caller, request) = open(request)?;
        Ok(Response::new(self.findings(&caller, &request).await?))
    }

    async fn accept_finding_risk(
        &self,
        request: Request<AcceptFindingRiskRequest>,
    ) -> Result<Response<AcceptFindingRiskResponse>, Status> {
        let (caller, request) = open(request)?;
        Ok(Response::new(self.accept_risk(&caller, request).await?))
    }
}

impl Api {
    pub(super) async fn run(&self, name: &ReconRunName) -> Result<Run, ApiError> {
        let mut connection = self.context.db.read(&name.tenant).await?;
        let found = store::runs::get(&mut connection, &name.tenant, &name.recon_run).await?;
        found.ok_or_else(ApiError::not_found)
    }

    async fn with_receipts(
        &self,
        tenant: &str,
        runs: Vec<Run>,
    ) -> Result<Vec<counterfoil_proto::reconciliation::ReconRun>, ApiError> {
        let ids: Vec<Vec<u8>> = runs.iter().map(|run| run.record_id.clone()).collect();
        let mut receipts = self.context.outbox.receipts(tenant, &ids).await?;
        let with_receipt = |run: &Run| {
            let receipt: Option<Receipt> = receipts.remove(&run.record_id);
            convert::run(tenant, run, receipt)
        };
        Ok(runs.iter().map(with_receipt).collect())
    }
}
