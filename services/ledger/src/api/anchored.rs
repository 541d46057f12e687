//! What the anchor log proves of a tenant's log.

use std::time::Duration;

use counterfoil_chassis::{ApiError, Caller};
use counterfoil_proto::ledger::{AnchoredEpoch, ProveAnchoredRequest, ProveAnchoredResponse};

use super::receipts::check_wait;
use super::{Api, told};

/// Most epochs of one answer: the map of each is made again.
const EPOCHS_MAX: usize = 16;

impl Api {
    pub(super) async fn prove_anchored(
        &self,
        caller: &Caller,
        request: ProveAnchoredRequest,
    ) -> Result<ProveAnchoredResponse, ApiError> {
        let log = self.log(caller, &request.tenant).await?;
        if request.epochs.len() > EPOCHS_MAX {
            let reason = format!("must be at most {EPOCHS_MAX}");
            return Err(ApiError::invalid("epochs", reason));
        }
        check_wait(request.wait_seconds)?;
        let Some(epochs) = &self.waits.epochs else {
            return Ok(ProveAnchoredResponse::default());
        };
        let held = log.head().await.map_err(told)?.size;
        let size = match request.size {
            0 => held,
            asked => asked.min(held),
        };
        let wait = Duration::from_secs(request.wait_seconds.into());
        epochs.wait(&log, size, wait).await.map_err(told)?;
        let mut numbers = request.epochs;
        let counted = epochs.counted().await.map_err(told)?;
        // What witnesses have not cosigned yet is shown where it is asked for, and where they have cosigned nothing: it is proved, and claims less.
        let wanted = numbers.iter().copied().max().unwrap_or(0);
        let anchor = match counted.filter(|counted| counted.epoch >= wanted) {
            Some(counted) => Some(counted),
            None => epochs.anchor().await.map_err(told)?,
        };
        let Some(anchor) = anchor else {
            return Ok(ProveAnchoredResponse::default());
        };
        if numbers.is_empty() {
            let most = EPOCHS_MAX as u64;
            let spread = epochs.spread(&anchor, &log, size, most).await;
            numbers = spread.map_err(told)?;
        }
        numbers.retain(|number| *number <= anchor.epoch);
        numbers.sort_unstable();
        numbers.dedup();
        let binding = epochs.binding(&anchor, &log).await.map_err(told)?;
        let mut answer = ProveAnchoredResponse {
            vkey: anchor.log.info().vkey.to_string(),
            registrar_vkey: self.logs.registrar().to_string(),
            binding: binding.unwrap_or_default().into_bytes(),
            epochs: Vec::new(),
        };
        for epoch in numbers {
            let proof = epochs.prove(&anchor, &log, epoch).await.map_err(told)?;
            answer.epochs.extend(proof.map(|proof| AnchoredEpoch {
                epoch,
                proof: proof.into_bytes(),
            }));
        }
        Ok(answer)
    }
}
