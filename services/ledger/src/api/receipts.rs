//! Receipts of entries from before, at the state of evidence that they have reached meanwhile.

use std::time::{Duration, Instant};

use counterfoil_chassis::{ApiError, Caller, clock::timestamp};
use counterfoil_engine::{Head, Log, StoredEntry};
use counterfoil_evidence::record::{decode_entry, decode_record};
use counterfoil_proto::{
    common::{self, EvidenceState},
    ledger::{GetReceiptRequest, GetReceiptResponse, get_receipt_request::Selector},
};

use super::entries::{Which, at, nothing_selected};
use super::{Api, told};
use crate::copies::Copied;
use crate::witnesses::Witnessed;

/// The longest that a call waits: well below the minute after which a call is cut off by default, so that whoever waits is answered.
const WAIT_SECONDS_MAX: u32 = 30;

impl Api {
    pub(super) async fn receipt(
        &self,
        caller: &Caller,
        request: GetReceiptRequest,
    ) -> Result<GetReceiptResponse, ApiError> {
        let log = self.log(caller, &request.tenant).await?;
        let wanted = match EvidenceState::try_from(request.state) {
            Ok(EvidenceState::Unspecified) => EvidenceState::Logged,
            Ok(state) if state >= EvidenceState::Logged => state,
            _ => return Err(ApiError::invalid("state", "must be LOGGED or higher")),
        };
        if request.wait_seconds > WAIT_SECONDS_MAX {
            let reason = format!("must be 0 to {WAIT_SECONDS_MAX}");
            return Err(ApiError::invalid("wait_seconds", reason));
        }
        let stored = match request.selector {
            Some(Selector::Index(index)) => at(&log, Which::Index(index)).await?,
            Some(Selector::RecordId(id)) => at(&log, Which::Record(id)).await?,
            None => return Err(nothing_selected()),
        };
        let seconds = match wanted {
            EvidenceState::Logged => 0,
            // It never comes.
            EvidenceState::Witnessed if self.waits.witnessed.is_none() => 0,
            _ => request.wait_seconds,
        };
        let wait = Duration::from_secs(seconds.into());
        let (state, head) = self.evidence(&log, &stored, wanted, wait).await?;
        let proofs = log
            .receipts(&head, std::slice::from_ref(&stored))
            .await
            .map_err(told)?;
        let record_id = decode_entry(&stored.bytes)
            .and_then(|entry| decode_record(&entry.record))
            .map(|record| record.record_id)
            .map_err(|error| {
                ApiError::data_loss("LOG_DAMAGED", format!("entry {}: {error}", stored.index))
            })?;
        let receipt = common::Receipt {
            record_id,
            record_hash: stored.record_hash.to_vec(),
            state: state.into(),
            index: stored.index,
            leaf_hash: stored.leaf_hash.as_bytes().to_vec(),
            tlog_proof: proofs.into_iter().next().unwrap_or_default().into_bytes(),
            checkpoint_time: Some(timestamp(head.recorded_at_ms)),
        };
        Ok(GetReceiptResponse {
            receipt: Some(receipt),
        })
    }

    /// The state that an entry has reached after the wait, with the head that shows it.
    async fn evidence(
        &self,
        log: &Log,
        entry: &StoredEntry,
        wanted: EvidenceState,
        wait: Duration,
    ) -> Result<(EvidenceState, Head), ApiError> {
        let until = Instant::now() + wait;
        let (tenant, size) = (&log.info().tenant, entry.index + 1);
        let copied = match &self.waits.copies {
            Some(copies) => copies.wait(tenant, size, wait).await,
            None => None,
        };
        if let Some(witnessed) = &self.waits.witnessed {
            let left = match wanted {
                EvidenceState::Witnessed => until.saturating_duration_since(Instant::now()),
                _ => Duration::ZERO,
            };
            let reached = witnessed.reached.wait(tenant, size, left).await;
            if let Some(head) = witnessed_head(log, witnessed, reached, size).await? {
                return Ok((EvidenceState::Witnessed, head));
            }
        }
        match copied.filter(|copied| copied.size >= size) {
            Some(copied) => {
                let head = log.head_at(copied.size).await.map_err(told)?;
                Ok((EvidenceState::Published, head))
            }
            None => Ok((EvidenceState::Logged, log.head().await.map_err(told)?)),
        }
    }
}

/// The head that enough witnesses have cosigned, with their lines; `None`: it has not this size, or they are not enough any more.
async fn witnessed_head(
    log: &Log,
    witnessed: &Witnessed,
    reached: Option<Copied>,
    size: u64,
) -> Result<Option<Head>, ApiError> {
    let Some(reached) = reached.filter(|reached| reached.size >= size) else {
        return Ok(None);
    };
    let note = witnessed.checkpoint(log, reached.size).await;
    let Some(checkpoint) = note.map_err(told)? else {
        return Ok(None);
    };
    let head = log.head_at(reached.size).await.map_err(told)?;
    Ok(Some(Head { checkpoint, ..head }))
}
