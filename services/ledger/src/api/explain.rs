//! What the log says of one grant.

use counterfoil_chassis::{
    ApiError, Caller,
    clock::{millis, timestamp},
};
use counterfoil_engine::{EntryFilter, StoredEntry};
use counterfoil_evidence::leaf::GRANT_KEY_LEN;
use counterfoil_proto::ledger::{
    AccessEvent as ProtoEvent, ExplainAccessRequest, ExplainAccessResponse,
};

use super::{Api, told};
use crate::logs::read;
use crate::model::access::{AccessEvent, state_at};

counterfoil_chassis::resource_name! {
    /// "tenants/{tenant}/grants/{grant}".
    pub(super) struct GrantName { tenant: "tenants", grant: "grants" }
}

/// Entries read at once.
const PAGE: u32 = 500;
/// Most events of one answer: each carries a proof. A grant that was reviewed every month for decades has fewer.
const EVENTS_MAX: usize = 2000;

impl Api {
    pub(super) async fn explain(
        &self,
        caller: &Caller,
        request: ExplainAccessRequest,
    ) -> Result<ExplainAccessResponse, ApiError> {
        let name = GrantName::parse_field("grant", &request.grant)?;
        let is_key = hex::decode(&name.grant).is_ok_and(|key| key.len() == GRANT_KEY_LEN);
        if !is_key || name.grant.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(ApiError::invalid(
                "grant",
                "must end with a grant key: 80 lower-case hex digits",
            ));
        }
        let at_ms = match &request.at_time {
            None => self.clock.now_ms(),
            Some(time) => {
                millis(time).ok_or_else(|| ApiError::invalid("at_time", "is not a time"))?
            }
        };
        let log = self.log_of(caller, &name.tenant).await?;
        let head = log.head().await.map_err(told)?;
        let filter = EntryFilter {
            subject: Some(format!("grants/{}", name.grant)),
            ..EntryFilter::default()
        };
        let (mut entries, mut events): (Vec<StoredEntry>, Vec<AccessEvent>) = Default::default();
        let mut from = 0;
        loop {
            let page = log
                .list(&filter, from, head.size, PAGE)
                .await
                .map_err(told)?;
            let Some(last) = page.last() else { break };
            from = last.index + 1;
            for stored in page {
                let (record, payload) = read(&stored)?;
                let event = AccessEvent::read(record, &payload);
                if event.occurred_at_ms <= at_ms && events.len() < EVENTS_MAX {
                    events.push(event);
                    entries.push(stored);
                }
            }
        }
        if events.is_empty() {
            return Err(ApiError::not_found());
        }
        let proofs = log.receipts(&head, &entries).await.map_err(told)?;
        let state = state_at(&events, at_ms).word().to_owned();
        let events = events
            .into_iter()
            .zip(&entries)
            .zip(proofs)
            .map(|((event, entry), proof)| event_of(event, entry.index, proof))
            .collect();
        Ok(ExplainAccessResponse { events, state })
    }
}

fn event_of(event: AccessEvent, index: u64, proof: String) -> ProtoEvent {
    ProtoEvent {
        r#type: event.type_name,
        occurred_time: Some(timestamp(event.occurred_at_ms)),
        actor: event.actor,
        accountable_owner: event.accountable_owner,
        authority_record_hash: event.authority_record_hash,
        outcome: event.outcome,
        evidence_sha256: event.evidence_sha256,
        review_by_time: event.review_by_ms.map(timestamp),
        index,
        tlog_proof: proof.into_bytes(),
    }
}
