//! Takes the heads of all logs into the anchor log, a while after one of them changed.
//!
//! Invariants: what an epoch's map is made of is durable before its record is appended, and the record's id follows from the epoch's number.
//! So several replicas make an epoch once, and whoever finds one open goes on with it. An epoch is opened only where it is known that no
//! head in it is older than in any epoch before: by the last epoch's own heads or, where the database lost those, by all that remembers the logs.

#[cfg(test)]
mod losses;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use counterfoil_chassis::{CancellationToken, Clock, secrets};
use counterfoil_engine::{
    AnchorEpoch, AnchoredHead, Engine, EngineError, EntryFilter, Heads, Log, LogId,
};
use counterfoil_evidence::catalogue::Payload;
use counterfoil_evidence::v1::{HeadsAnchored, TenantBound};
use prost::Name as _;
use tokio::sync::Mutex;

use crate::anchored::Epochs;
use crate::error::LedgerError;
use crate::logs::{Logs, read};
use crate::model::anchoring::{self, ANCHOR, Last, Next, NoEpoch};
use crate::statement::Statement;

/// How often it is looked whether it is time.
const LOOK: Duration = Duration::from_secs(1);
const INTERVAL_SECONDS: u32 = 10;
/// Entries read at once.
const PAGE: u32 = 1000;
/// Logs that are bound with one append.
const BOUND_AT_ONCE: usize = 1000;

/// Makes epochs. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Anchorer {
    logs: Logs,
    epochs: Epochs,
    clock: Clock,
    interval_ms: i64,
    /// One epoch at a time.
    known: Arc<Mutex<Known>>,
}

/// What was read before and is not read again.
#[derive(Debug, Default)]
struct Known {
    /// An epoch and its heads.
    anchored: Option<(u64, Vec<AnchoredHead>)>,
    /// Names of the statements that bind logs; `None`: not read yet.
    bound: Option<BTreeSet<String>>,
    /// An epoch of which the database has what it states.
    whole: Option<u64>,
    /// That there is an epoch is noted beside the key.
    is_noted: bool,
    /// The logs that were found to be as far as anything remembers, while the database does not have the last epoch.
    remembered: HashSet<LogId>,
}

impl Anchorer {
    /// `interval_seconds`: `None` is the default; an epoch is made so long after the one before, or when somebody waits for it, if a head has
    /// changed.
    pub(crate) fn new(
        logs: Logs,
        epochs: Epochs,
        clock: Clock,
        interval_seconds: Option<u32>,
    ) -> Self {
        let seconds = interval_seconds.unwrap_or(INTERVAL_SECONDS);
        Self {
            logs,
            epochs,
            clock,
            interval_ms: i64::from(seconds) * 1000,
            known: Arc::default(),
        }
    }

    /// Runs until the service ends.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut last_ms, mut took_ms) = (self.clock.now_ms(), 0);
        while shutdown.run_until_cancelled(look.tick()).await.is_some() {
            let now_ms = self.clock.now_ms();
            let wanted = || self.epochs.take_wanted();
            if !anchoring::is_due(now_ms - last_ms, self.interval_ms, took_ms, wanted) {
                continue;
            }
            last_ms = now_ms;
            // Cut off anywhere, it leaves an epoch that the next round goes on with.
            match shutdown.run_until_cancelled(self.run_once()).await {
                Some(Err(
                    error @ (LedgerError::NoEpoch(_)
                    | LedgerError::Engine(EngineError::Damaged { .. })),
                )) => tracing::error!(alarm = "NOT_ANCHORED", %error, "no head is anchored"),
                // Tried again in the next round.
                Some(Err(error)) => tracing::warn!(%error, "no head was anchored"),
                // Another replica may have made one.
                Some(Ok(None)) => self.epochs.look().await,
                Some(Ok(Some(_))) | None => {}
            }
            took_ms = self.clock.now_ms() - now_ms;
        }
    }

    /// Makes an epoch, or goes on with one that is open; its number. `None`: no head has changed, or another replica was faster.
    pub(crate) async fn run_once(&self) -> Result<Option<u64>, LedgerError> {
        let mut known = self.known.lock().await;
        let engine = self.logs.engine();
        // Before the epochs are read: another replica may state the first one, and note it, just now.
        let begun = self.logs.begun().is_noted();
        let newest = engine.newest_anchor_epoch().await?;
        if newest.is_none() {
            self.begins(engine, begun).await?;
        }
        let (epoch, is_ours) = match newest {
            Some(open) if open.index.is_none() => (open, false),
            newest => match self.open(engine, newest, &mut known).await? {
                Some(opened) => (opened, true),
                None => return Ok(None),
            },
        };
        let closed = self.close(engine, &epoch, &mut known).await?;
        if closed {
            self.epochs.closed(epoch.number);
            // What another process, or this one before it was cut off, has opened was only read, and not all of it may have been.
            known.whole = is_ours.then_some(epoch.number);
            known.remembered.clear();
            self.note(&mut known);
        }
        Ok(closed.then_some(epoch.number))
    }

    /// Refuses the first epoch where there was one, before anything is written to a log that was begun anew.
    async fn begins(
        &self,
        engine: &Engine,
        begun: Result<bool, std::io::Error>,
    ) -> Result<(), LedgerError> {
        let begun = begun.map_err(|error| EngineError::Key {
            origin: ANCHOR.to_owned(),
            reason: format!("whether it has stated epochs: {error}"),
        })?;
        if !begun {
            return Ok(());
        }
        let last = match engine.log(ANCHOR).await {
            Ok(log) => self.last(&log, None).await?,
            Err(EngineError::NoSuchLog(_)) => Last::default(),
            Err(error) => return Err(error.into()),
        };
        if last.number > 0 {
            return Ok(());
        }
        let note = self.logs.begun().file().display().to_string();
        Err(NoEpoch::Begun { note }.into())
    }

    /// Notes that there is an epoch, which stands in the anchor log.
    fn note(&self, known: &mut Known) {
        if known.is_noted {
            return;
        }
        let begun = self.logs.begun();
        // Also where it is there: a process may have ended between writing it and making it durable.
        match begun.note() {
            Ok(()) => known.is_noted = true,
            // Who may not write to the folder of the keys reads what another one wrote.
            Err(error) if is_denied(&error) && matches!(begun.is_noted(), Ok(true)) => {
                known.is_noted = true;
            }
            // Tried again with the next epoch: what it helps against is rare, and what it would hold up is not.
            Err(error) => tracing::warn!(%error, "that there is an epoch was not noted"),
        }
    }

    /// Opens the next epoch; `None` where there is none, or another replica has opened it.
    async fn open(
        &self,
        engine: &Engine,
        newest: Option<AnchorEpoch>,
        known: &mut Known,
    ) -> Result<Option<AnchorEpoch>, LedgerError> {
        let before = newest.as_ref().map_or(0, |newest| newest.number);
        if !has_entries(&engine.heads().await?) {
            return Ok(None);
        }
        // Where the log was lost, it is refused here.
        let log = self.logs.create(ANCHOR).await?;
        if known.whole.is_none() {
            // A copy that cannot be read just now must not hide that it knows more epochs: that is found before one is signed.
            log.check_remembered().await?;
        }
        let last = self.last(&log, newest.as_ref()).await?;
        if last.number > 0 {
            self.note(known);
        }
        // An epoch's row is there before its record: another replica was faster.
        if last.number > before
            && let Some(newer) = engine.newest_anchor_epoch().await?
            && newer.number >= last.number
        {
            return Ok(None);
        }
        let mut anchored = anchored(engine, before, known).await?;
        let bound = if is_known(&last, newest.as_ref(), &anchored, known).await? {
            None
        } else {
            tracing::warn!(
                epoch = last.number,
                "the database does not have the last epoch; all logs are compared with what remembers them"
            );
            // What it has of older ones may be as wrong. All heads are taken in anew.
            anchored.clear();
            Some(self.remembered(engine, &log, known).await?)
        };
        // After all of that, so that no head is older than in an epoch before.
        let now = engine.heads().await?;
        let vkeys = now.read.iter().map(|head| (head.log, head.vkey.clone()));
        let vkeys: HashMap<LogId, String> = vkeys.collect();
        let secret = secrets::random().map_err(|error| LedgerError::Secret(error.to_string()))?;
        let now_ms = self.clock.now_ms();
        // For ten thousand logs half a second of verifying signatures, and as much of hashing.
        let worked_out = tokio::task::spawn_blocking(move || {
            let (heads, unsigned) = anchoring::heads(&anchored, now);
            for origin in unsigned {
                tracing::error!(
                    alarm = "NOT_ANCHORED",
                    origin,
                    "the head of the log is not what its key has signed, or cannot be read; it is not anchored"
                );
            }
            if let Some(bound) = bound {
                anchoring::all_there(&bound, &heads, &vkeys)?;
            }
            let next = anchoring::next(&last, &anchored, &heads, secret, now_ms)?;
            Ok::<_, NoEpoch>(next.map(|next| (next, heads)))
        });
        let worked_out = worked_out.await.map_err(|_| EngineError::Closed)??;
        let Some((Next { epoch, changed }, heads)) = worked_out else {
            return Ok(None);
        };
        if !engine.open_anchor_epoch(&epoch, &changed).await? {
            return Ok(None);
        }
        known.anchored = Some((epoch.number, heads));
        Ok(Some(epoch))
    }

    /// The last epoch: as the database or, where its tables are younger than the anchor log, the log itself has it.
    async fn last(&self, log: &Log, newest: Option<&AnchorEpoch>) -> Result<Last, LedgerError> {
        let mut last = match newest {
            Some(newest) => Last::of(&anchoring::payload(newest)?),
            None => Last::default(),
        };
        let stated = log
            .last_of_type(&HeadsAnchored::full_name(), log.head().await?.size)
            .await?;
        if let Some(entry) = stated
            && let Payload::HeadsAnchored(anchored) = read(&entry)?.1
            && anchored.epoch > last.number
        {
            last = Last::of(&anchored);
        }
        Ok(last)
    }

    /// Compares every log that has entries with what remembers it apart from the database; SHA-256 of the key of each log that the anchor log
    /// bound.
    async fn remembered(
        &self,
        engine: &Engine,
        anchor: &Log,
        known: &mut Known,
    ) -> Result<BTreeSet<Vec<u8>>, LedgerError> {
        for head in engine.heads().await?.read {
            if head.tenant == ANCHOR || head.size == 0 || known.remembered.contains(&head.log) {
                continue;
            }
            let log = engine.log(&head.tenant).await?;
            if !log.check_remembered().await? {
                let origin = head.origin;
                return Err(NoEpoch::Forgotten { origin }.into());
            }
            known.remembered.insert(head.log);
        }
        let filter = EntryFilter {
            record_type: Some(TenantBound::full_name()),
            ..EntryFilter::default()
        };
        let (mut bound, mut from) = (BTreeSet::new(), 0);
        loop {
            let page = anchor.list(&filter, from, u64::MAX, PAGE).await?;
            let Some(last) = page.last() else {
                return Ok(bound);
            };
            from = last.index + 1;
            for entry in &page {
                if let Payload::TenantBound(of_log) = read(entry)?.1 {
                    bound.insert(of_log.vkey_hash);
                }
            }
        }
    }

    /// States what an open epoch has, and notes where. `false`: the anchor log has another epoch of this number.
    async fn close(
        &self,
        engine: &Engine,
        epoch: &AnchorEpoch,
        known: &mut Known,
    ) -> Result<bool, LedgerError> {
        let log = self.logs.create(ANCHOR).await?;
        self.bind(engine, &log, epoch, known).await?;
        let statement = Statement::heads_anchored(epoch.number, &anchoring::payload(epoch)?);
        let record_id = statement.record_id(&log.info().origin);
        self.logs.state_now(&log, vec![statement]).await?;
        let stated = log.entry_by_record(&record_id).await?;
        let entry = stated.ok_or_else(|| EngineError::Damaged {
            origin: log.info().origin.clone(),
            reason: format!("epoch {} was stated and is not there", epoch.number),
        })?;
        if read(&entry)?.0.payload == epoch.payload {
            engine.close_anchor_epoch(epoch.number, entry.index).await?;
            return Ok(true);
        }
        // It was opened on a database that had come back from a backup, before the anchor log was brought back.
        engine.void_anchor_epoch(epoch.number).await?;
        Ok(false)
    }

    /// States of each log of an epoch under which origin and key it is anchored, before the first of its heads is.
    async fn bind(
        &self,
        engine: &Engine,
        log: &Log,
        epoch: &AnchorEpoch,
        known: &mut Known,
    ) -> Result<(), LedgerError> {
        let heads = anchored(engine, epoch.number, known).await?;
        let mut bound = match known.bound.take() {
            Some(bound) => bound,
            None => self.logs.stated(ANCHOR).await?,
        };
        let of_epoch: BTreeSet<_> = heads.iter().map(|head| head.log).collect();
        let all = engine.heads().await?;
        let read = all.read.iter().map(|head| (head.log, &head.vkey));
        let others = all.unreadable.iter().map(|head| (head.log, &head.vkey));
        let unbound: Vec<Statement> = read
            .chain(others)
            .filter(|(log, _)| of_epoch.contains(log))
            .map(|(_, vkey)| Statement::tenant_bound(vkey))
            .filter(|statement| !bound.contains(&statement.name))
            .collect();
        for statements in unbound.chunks(BOUND_AT_ONCE) {
            self.logs.state_once(log, statements.to_vec()).await?;
            bound.extend(statements.iter().map(|statement| statement.name.clone()));
        }
        known.bound = Some(bound);
        Ok(())
    }
}

fn is_denied(error: &io::Error) -> bool {
    use io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
    matches!(error.kind(), PermissionDenied | ReadOnlyFilesystem)
}

/// Whether there is anything to anchor; of a log whose head cannot be read it is not known that there is nothing.
fn has_entries(heads: &Heads) -> bool {
    let mut read = heads.read.iter();
    let mut unreadable = heads.unreadable.iter();
    read.any(|head| head.tenant != ANCHOR && head.size > 0)
        || unreadable.any(|head| head.tenant != ANCHOR)
}

/// Whether the database has what the last epoch states. The map is made once; from then on the epochs follow each other.
async fn is_known(
    last: &Last,
    newest: Option<&AnchorEpoch>,
    anchored: &[AnchoredHead],
    known: &mut Known,
) -> Result<bool, LedgerError> {
    let Some(newest) = newest else {
        return Ok(last.number == 0);
    };
    let is_last = Last::of(&anchoring::payload(newest)?) == *last;
    if is_last && known.whole.is_none() {
        let (newest, anchored) = (newest.clone(), anchored.to_vec());
        let making = tokio::task::spawn_blocking(move || anchoring::is_whole(&newest, &anchored));
        let is_whole = making.await.map_err(|_| EngineError::Closed)??;
        known.whole = is_whole.then_some(last.number);
    }
    Ok(is_last && known.whole.is_some())
}

/// The heads of an epoch, read once.
async fn anchored(
    engine: &Engine,
    epoch: u64,
    known: &mut Known,
) -> Result<Vec<AnchoredHead>, EngineError> {
    match &known.anchored {
        Some((number, heads)) if *number == epoch => Ok(heads.clone()),
        _ => {
            let heads = engine.anchored_heads(epoch).await?;
            // Those that cannot be read are not among them: that these are all must be found anew.
            known.whole = None;
            known.anchored = Some((epoch, heads.clone()));
            Ok(heads)
        }
    }
}
