//! Streaming what is decided, over all campaigns of a tenant, from one state of the database.

use counterfoil_chassis::error::ApiError;
use counterfoil_proto::recertification::{DecidedGrant, StreamDecidedGrantsResponse};
use tokio::sync::mpsc;
use tonic::Status;

use super::{Api, convert};
use crate::{model::decided::Newest, store::decided};

/// Rows read at once.
const PAGE_ROWS: u32 = 1000;
/// Grants in one answer.
const ANSWER_GRANTS: usize = 1000;

/// Where answers go. It is gone when the caller has left.
pub(super) type Answers = mpsc::Sender<Result<StreamDecidedGrantsResponse, Status>>;

impl Api {
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

/// False: nobody listens any more.
async fn send(answers: &Answers, ready: &mut Vec<DecidedGrant>) -> bool {
    let grants = std::mem::take(ready);
    answers
        .send(Ok(StreamDecidedGrantsResponse { grants }))
        .await
        .is_ok()
}
