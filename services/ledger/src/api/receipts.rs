//! Receipts of entries from before, at the state of evidence that they have reached meanwhile.

use std::time::Duration;

use counterfoil_chassis::{ApiError, Caller, clock::timestamp};
use counterfoil_engine::{Head, Log, StoredEntry};
use counterfoil_evidence::record::{decode_entry, decode_record};
use counterfoil_proto::{
    common::{self, EvidenceState},
    ledger::{GetReceiptRequest, GetReceiptResponse, get_receipt_request::Selector},
};
use tokio::time::Instant;

use super::entries::{Which, at, nothing_selected};
use super::{Api, told};
use crate::error::LedgerError;

/// The longest that a call waits: well below the minute after which a call is cut off by default, so that whoever waits is answered.
const WAIT_SECONDS_MAX: u32 = 30;

/// Refuses to wait too long.
pub(super) fn check_wait(seconds: u32) -> Result<(), ApiError> {
    if seconds <= WAIT_SECONDS_MAX {
        return Ok(());
    }
    let reason = format!("must be 0 to {WAIT_SECONDS_MAX}");
    Err(ApiError::invalid("wait_seconds", reason))
}

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
        check_wait(request.wait_seconds)?;
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
        let evidence = self.evidence(&log, &stored, wanted, wait).await?;
        let proofs = log
            .receipts(&evidence.head, std::slice::from_ref(&stored))
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
            state: evidence.state.into(),
            index: stored.index,
            leaf_hash: stored.leaf_hash.as_bytes().to_vec(),
            tlog_proof: proofs.into_iter().next().unwrap_or_default().into_bytes(),
            checkpoint_time: Some(timestamp(evidence.head.recorded_at_ms)),
            anchor_proof: evidence.anchor_proof.unwrap_or_default().into_bytes(),
        };
        Ok(GetReceiptResponse {
            receipt: Some(receipt),
        })
    }

    /// What an entry has reached after the wait.
    async fn evidence(
        &self,
        log: &Log,
        entry: &StoredEntry,
        wanted: EvidenceState,
        wait: Duration,
    ) -> Result<Evidence, ApiError> {
        let until = Instant::now() + wait;
        let left = |state| match wanted == state {
            true => until.saturating_duration_since(Instant::now()),
            false => Duration::ZERO,
        };
        let size = entry.index + 1;
        let copied = match &self.waits.copies {
            Some(copies) => copies.wait(&log.info().tenant, size, wait).await,
            None => None,
        };
        let published = copied.filter(|copied| copied.size >= size);
        // Whoever asks for ANCHORED gets the proof of it, also where witnesses have cosigned.
        if wanted == EvidenceState::Anchored
            && published.is_some()
            && let Some(anchored) = self
                .anchored(log, size, left(EvidenceState::Anchored))
                .await
        {
            return Ok(anchored);
        }
        let patience = left(EvidenceState::Witnessed);
        if let Some(witnessed) = self.witnessed(log, size, patience).await? {
            return Ok(witnessed);
        }
        let Some(published) = published else {
            return Ok(Evidence {
                state: EvidenceState::Logged,
                head: log.head().await.map_err(told)?,
                anchor_proof: None,
            });
        };
        if let Some(anchored) = self.anchored(log, size, Duration::ZERO).await {
            return Ok(anchored);
        }
        Ok(Evidence {
            state: EvidenceState::Published,
            head: log.head_at(published.size).await.map_err(told)?,
            anchor_proof: None,
        })
    }

    /// The head that enough witnesses have cosigned, with their lines, after the wait; `None`: it has not this size, or they are not enough
    /// any more.
    async fn witnessed(
        &self,
        log: &Log,
        size: u64,
        wait: Duration,
    ) -> Result<Option<Evidence>, ApiError> {
        let Some(witnessed) = &self.waits.witnessed else {
            return Ok(None);
        };
        let enough = |head: &Head| head.size >= size;
        let mut head = witnessed.head(log).await.map_err(told)?.filter(enough);
        if head.is_none() && !wait.is_zero() {
            let tenant = &log.info().tenant;
            witnessed.reached.wait(tenant, size, wait).await;
            head = witnessed.head(log).await.map_err(told)?.filter(enough);
        }
        Ok(head.map(|head| Evidence {
            state: EvidenceState::Witnessed,
            head,
            anchor_proof: None,
        }))
    }

    /// The anchored head that has so many entries, after the wait; `None` also where the anchor log cannot be read.
    async fn anchored(&self, log: &Log, size: u64, wait: Duration) -> Option<Evidence> {
        // What is published stays so, whatever has become of the anchor log.
        let found = self.find_anchored(log, size, wait).await;
        found.unwrap_or_else(|error| {
            tracing::warn!(%error, "a receipt goes without its anchor");
            None
        })
    }

    async fn find_anchored(
        &self,
        log: &Log,
        size: u64,
        wait: Duration,
    ) -> Result<Option<Evidence>, LedgerError> {
        let Some(epochs) = &self.waits.epochs else {
            return Ok(None);
        };
        if let Some(reached) = epochs.wait(log, size, wait).await?
            && reached.head.size >= size
            && let Some(proof) = epochs.prove(&reached.anchor, log, reached.epoch).await?
        {
            return Ok(Some(Evidence {
                state: EvidenceState::Anchored,
                head: log.head_at(reached.head.size).await?,
                anchor_proof: Some(proof),
            }));
        }
        Ok(None)
    }
}

/// How far the evidence of an entry is.
struct Evidence {
    state: EvidenceState,
    /// The head that shows it.
    head: Head,
    /// That the head is anchored.
    anchor_proof: Option<String>,
}
