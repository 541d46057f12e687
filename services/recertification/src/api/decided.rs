//! What is decided, over all campaigns of a tenant, from one state of the database: streamed, or asked for by grant.

use std::collections::BTreeSet;

use counterfoil_chassis::{auth::Caller, error::ApiError, names::tenant_field};
use counterfoil_evidence::leaf::GrantKey;
use counterfoil_proto::recertification::{
    BatchGetDecidedGrantsRequest, BatchGetDecidedGrantsResponse, DecidedGrant,
    StreamDecidedGrantsResponse,
};
use tokio::sync::mpsc;
use tonic::Status;

use super::{Api, convert};
use crate::{model::decided::Newest, store::decided};

/// Rows read at once.
const PAGE_ROWS: u32 = 1000;
/// Grants in one answer.
const ANSWER_GRANTS: usize = 1000;

/// Most grants in one question.
const KEYS_MAX: usize = 10_000;

/// Where answers go. It is gone when the caller has left.
pub(super) type Answers = mpsc::Sender<Result<StreamDecidedGrantsResponse, Status>>;

impl Api {
    /// The newest decision or lapse on each of these grants.
    pub(super) async fn get_decided(
        &self,
        caller: &Caller,
        request: BatchGetDecidedGrantsRequest,
    ) -> Result<BatchGetDecidedGrantsResponse, ApiError> {
        let tenant = tenant_field(&request.tenant)?;
        caller.require_tenant(&tenant)?;
        self.context.tenants.require(&tenant).await?;
        let keys = grant_keys(&request.grant_keys)?;
        let mut tx = self.context.db.read_tx().await?;
        let engine = self.context.db.engine();
        let mut newest = Newest::default();
        let mut grants = Vec::new();
        for one in decided::of_grants(tx.conn(), engine, &tenant, &keys).await? {
            let complete = newest.push(one);
            grants.extend(complete.and_then(|complete| convert::decided(&tenant, &complete)));
        }
        let complete = newest.finish();
        grants.extend(complete.and_then(|complete| convert::decided(&tenant, &complete)));
        Ok(BatchGetDecidedGrantsResponse { grants })
    }

    /// Sends everything, and at the end the error if there was one.
    pub(super) async fn send_decided(self, tenant: String, answers: Answers) {
        if let Err(error) = self.send_pages(&tenant, &answers).await {
            // The caller may have left in the meantime.
            let _ = answers.send(Err(error.into())).await;
        }
    }

    async fn send_pages(&self, tenant: &str, answers: &Answers) -> Result<(), ApiError> {
        let mut tx = self.context.db.read_tx().await?;
        let mut newest = Newest::default();
        let mut ready: Vec<DecidedGrant> = Vec::with_capacity(ANSWER_GRANTS);
        let mut after = None;
        loop {
            let page = decided::page(tx.conn(), tenant, after, PAGE_ROWS).await?;
            let Some(last) = page.last() else { break };
            after = Some((last.key, last.stream_seq));
            for row in page {
                if let Some(complete) = newest.push(row) {
                    ready.extend(convert::decided(tenant, &complete));
                }
                if ready.len() == ANSWER_GRANTS && !send(answers, &mut ready).await {
                    return Ok(());
                }
            }
        }
        if let Some(complete) = newest.finish() {
            ready.extend(convert::decided(tenant, &complete));
        }
        if !ready.is_empty() {
            send(answers, &mut ready).await;
        }
        Ok(())
    }
}

/// The keys of a request, each once.
fn grant_keys(asked: &[Vec<u8>]) -> Result<Vec<GrantKey>, ApiError> {
    let field = "grant_keys";
    if asked.is_empty() || asked.len() > KEYS_MAX {
        let limit = format!("1 to {KEYS_MAX} are allowed");
        return Err(ApiError::invalid(field, limit));
    }
    let keys: Result<BTreeSet<GrantKey>, ApiError> = asked
        .iter()
        .map(|key| {
            GrantKey::try_from(key.as_slice())
                .map_err(|_| ApiError::invalid(field, "a key has 40 bytes"))
        })
        .collect();
    Ok(keys?.into_iter().collect())
}

/// False: nobody listens any more.
async fn send(answers: &Answers, ready: &mut Vec<DecidedGrant>) -> bool {
    let grants = std::mem::take(ready);
    answers
        .send(Ok(StreamDecidedGrantsResponse { grants }))
        .await
        .is_ok()
}
