//! What is decided, over all campaigns of a tenant, from one state of the database: streamed, or asked for by grant.

use std::{collections::BTreeSet, time::Duration};

use counterfoil_chassis::{auth::Caller, db::Database, error::ApiError, names::tenant_field};
use counterfoil_evidence::leaf::GrantKey;
use counterfoil_proto::recertification::{
    BatchGetDecidedGrantsRequest, BatchGetDecidedGrantsResponse, DecidedGrant,
    StreamDecidedGrantsResponse,
};
use tokio::{sync::mpsc, time::timeout};
use tonic::Status;

use super::{Api, convert, streams::Leave};
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
        let mut tx = self.context.db.read_tx(&tenant).await?;
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
    pub(super) async fn send_decided(self, tenant: String, leave: Leave, answers: Answers) {
        let patience = self.context.settings.stream_patience();
        let sent = send_pages(&self.context.db, &tenant, &answers, patience).await;
        // A reader who does not read may not take the error either, and waits for it without keeping anybody from anything.
        drop(leave);
        if let Err(error) = sent {
            // The caller may have left in the meantime.
            let _ = answers.send(Err(error.into())).await;
        }
    }
}

/// Sends all pages of one state of the database, which is held until the last is taken or one is not taken in time.
async fn send_pages(
    db: &Database,
    tenant: &str,
    answers: &Answers,
    patience: Duration,
) -> Result<(), ApiError> {
    let mut tx = db.read_tx(tenant).await?;
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
            if ready.len() == ANSWER_GRANTS && !send(answers, &mut ready, patience).await? {
                return Ok(());
            }
        }
    }
    if let Some(complete) = newest.finish() {
        ready.extend(convert::decided(tenant, &complete));
    }
    if !ready.is_empty() {
        send(answers, &mut ready, patience).await?;
    }
    Ok(())
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
async fn send(
    answers: &Answers,
    ready: &mut Vec<DecidedGrant>,
    patience: Duration,
) -> Result<bool, ApiError> {
    let grants = std::mem::take(ready);
    let answer = Ok(StreamDecidedGrantsResponse { grants });
    match timeout(patience, answers.send(answer)).await {
        Ok(sent) => Ok(sent.is_ok()),
        Err(_) => Err(ApiError::aborted(
            "READER_TOO_SLOW",
            format!("an answer was not read within {patience:?}; ask again"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use counterfoil_chassis::testing::TestDatabase;
    use tonic::Code;

    use super::*;
    use crate::store::{MIGRATIONS, conformance};

    const COUNT: u16 = 2_500;

    counterfoil_chassis::both_engines! {
        /// Who reads gets everything, and who does not keeps the state of the database no longer than the patience lasts.
        async fn a_reader_who_does_not_read_is_left(db: TestDatabase) {
            db.migrate(&[MIGRATIONS]).await;
            conformance::decided(&db, COUNT).await;
            let (answers, mut reader) = mpsc::channel(1);
            let patience = Duration::from_millis(50);
            let left = send_pages(&db, conformance::TENANT, &answers, patience).await.unwrap_err();
            assert_eq!((left.code(), left.reason()), (Code::Aborted, "READER_TOO_SLOW"));
            assert_eq!(reader.recv().await.unwrap().unwrap().grants.len(), ANSWER_GRANTS);
            assert!(reader.try_recv().is_err(), "the second answer was not taken in time");
            let reading = async {
                let mut count = 0;
                while let Some(answer) = reader.recv().await {
                    count += answer.unwrap().grants.len();
                }
                count
            };
            let sending = async {
                let patience = Duration::from_secs(30);
                let sent = send_pages(&db, conformance::TENANT, &answers, patience).await;
                drop(answers);
                sent
            };
            let (sent, count) = tokio::join!(sending, reading);
            sent.unwrap();
            assert_eq!(count, usize::from(COUNT));
        }
    }
}
