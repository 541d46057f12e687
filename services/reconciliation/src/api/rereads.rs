//! Obligations: listing them, and doing the re-reads that are due.

use counterfoil_chassis::{auth::Caller, error::ApiError, names::tenant_field};
use counterfoil_proto::reconciliation::{
    ListObligationsRequest, ListObligationsResponse, RunDueRereadsRequest, RunDueRereadsResponse,
};

use super::{Api, convert};
use crate::{jobs, store};

impl Api {
    pub(super) async fn rereads(
        &self,
        caller: &Caller,
        request: &RunDueRereadsRequest,
    ) -> Result<RunDueRereadsResponse, ApiError> {
        let tenant = tenant_field(&request.tenant)?;
        caller.require_tenant(&tenant)?;
        self.context.tenants.require_active(&tenant).await?;
        let done = jobs::rereads::run(&self.context, &tenant).await?;
        Ok(RunDueRereadsResponse {
            discharged: done.discharged,
            regressed: done.regressed,
            unobservable: done.unobservable,
        })
    }

    pub(super) async fn obligations(
        &self,
        tenant: &str,
        request: &ListObligationsRequest,
    ) -> Result<ListObligationsResponse, ApiError> {
        let scope = ["ListObligations", tenant];
        let page = self
            .context
            .pages
            .open(request.page_size, &request.page_token, &scope)?;
        let after = page.after.as_deref().and_then(position);
        let limit = i64::from(page.size) + 1;
        let mut found = store::obligations::list(&self.context.db, tenant, after, limit).await?;
        let next_page_token = page.cut(&mut found, |owed| {
            [owed.due_ms.to_be_bytes().as_slice(), &owed.id].concat()
        });
        Ok(ListObligationsResponse {
            obligations: found.iter().map(convert::obligation).collect(),
            next_page_token,
        })
    }
}

/// Due time and id of a page token.
fn position(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let (due_ms, id) = bytes.split_first_chunk::<8>()?;
    Some((i64::from_be_bytes(*due_ms), id))
}
