//! The full check of what the database keeps of the epochs of the anchor log, against the records that state them.

use counterfoil_engine::{AnchorEpoch, Engine, EngineError, FsckProblem, Log};

use crate::anchored::evenly;
use crate::error::LedgerError;
use crate::logs::read;
use crate::model::anchoring;

/// Epochs whose maps are made again, the newest one and others at even distances: each takes half a second for ten thousand logs.
const MAPS: u64 = 16;

/// What does not fit. That a head is one that its log had, the check of that log says.
pub(crate) async fn check(engine: &Engine, anchor: &Log) -> Result<Vec<FsckProblem>, EngineError> {
    let mut problems = Vec::new();
    let mut numbers = Vec::new();
    let mut next = Some(u64::MAX);
    while let Some(until) = next
        && let Some(number) = engine.closed_anchor_number(until).await?
    {
        let (index, differs) = match engine.closed_anchor_epoch(number).await {
            Ok(Some(epoch)) => (epoch.index, differs(anchor, &epoch).await?),
            Ok(None) => (None, None),
            Err(EngineError::Damaged { reason, .. }) => (None, Some(reason)),
            Err(error) => return Err(error),
        };
        match differs {
            Some(what) => problems.push(FsckProblem {
                index,
                what: format!("epoch {number}: {what}"),
            }),
            None => numbers.push(number),
        }
        next = number.checked_sub(1);
    }
    numbers.reverse();
    let Some(last) = (numbers.len() as u64).checked_sub(1) else {
        return Ok(problems);
    };
    for at in evenly(0..=last, MAPS) {
        let number = usize::try_from(at).ok().and_then(|at| numbers.get(at));
        let Some(number) = number else { continue };
        let Some(epoch) = engine.closed_anchor_epoch(*number).await? else {
            continue;
        };
        let heads = engine.anchored_heads(*number).await?;
        let (index, number) = (epoch.index, epoch.number);
        let making = tokio::task::spawn_blocking(move || anchoring::is_whole(&epoch, &heads));
        let is_whole = making.await.map_err(|_| EngineError::Closed)?;
        if !is_whole.unwrap_or(false) {
            let what =
                format!("epoch {number}: the map over its heads is not the one that was anchored");
            problems.push(FsckProblem { index, what });
        }
    }
    Ok(problems)
}

/// How an epoch differs from its record.
async fn differs(anchor: &Log, epoch: &AnchorEpoch) -> Result<Option<String>, EngineError> {
    let stated = match epoch.index {
        Some(index) => anchor.entry(index).await,
        None => Ok(None),
    };
    let stated = match stated {
        Ok(Some(stated)) => stated,
        Ok(None) => return Ok(Some("the anchor log does not have its record".to_owned())),
        Err(EngineError::Damaged { reason, .. }) => return Ok(Some(reason)),
        Err(error) => return Err(error),
    };
    let is_stated = match read(&stated) {
        Ok((record, _)) => record.payload == epoch.payload,
        Err(LedgerError::Engine(error)) => return Err(error),
        Err(error) => return Ok(Some(error.to_string())),
    };
    let numbered = anchoring::payload(epoch).is_ok_and(|stated| stated.epoch == epoch.number);
    let differs = !(is_stated && numbered);
    Ok(differs.then(|| "its record says something else".to_owned()))
}
