//! Reading removals again when it is due.
//!
//! Invariants: each source is read by itself, so that a slow one holds up nobody else; what cannot be read stays owed, also
//! after it was breached: access that comes back is found, however late.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use counterfoil_chassis::error::ApiError;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::{
    task::{self, JoinSet},
    time::{Instant, timeout_at},
};

use super::persistence;
use crate::{
    api::peers::inventory::Purpose,
    context::{Context, lock},
    error::JobError,
    model::{entities::Obligation, ids::RemediationKey},
    store::{self, obligations::Due},
};

/// A source that stays unreadable is tried at least this often.
const PAUSE_MAX_MS: i64 = 3_600_000;

/// What was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) discharged: u64,
    pub(crate) regressed: u64,
    pub(crate) unobservable: u64,
}

impl Done {
    fn and(self, more: Self) -> Self {
        Self {
            discharged: self.discharged + more.discharged,
            regressed: self.regressed + more.regressed,
            unobservable: self.unobservable + more.unobservable,
        }
    }
}

/// Does the re-reads of a tenant that are due by now, as far as they are done before the call must answer. What is not is the
/// background job's.
pub(crate) async fn run(context: &Context, tenant: &str) -> Result<Done, ApiError> {
    let deadline = Instant::now() + context.settings.reread_answer();
    let now_ms = context.clock.now_ms();
    let sources = store::obligations::sources_due(&context.db, tenant, now_ms).await?;
    let done = stream::iter(sources)
        .map(async |due| {
            let read = async {
                let turn = context.reread_turn(tenant, &due.source);
                let _turn = turn.lock().await;
                reread(context, &due).await
            };
            if let Ok(done) = timeout_at(deadline, read).await {
                return done;
            }
            let db = &context.db;
            let owed = store::obligations::rereads_due(db, tenant, &due.source, now_ms).await?;
            Ok(Done {
                unobservable: owed.len() as u64,
                ..Done::default()
            })
        })
        .buffer_unordered(at_once(context))
        .try_fold(Done::default(), async |sum, one| Ok(sum.and(one)));
    Ok(done.await?)
}

/// Re-reads that are under way in the background, one task a source.
#[derive(Default)]
struct Reads {
    tasks: JoinSet<Result<Done, JobError>>,
    /// The tenant of each.
    tenants: HashMap<task::Id, String>,
}

/// Does what is due in all tenants, as many sources as may be read at once, and waits for it.
pub(super) async fn run_in_background(context: &Arc<Context>) -> Result<Done, ApiError> {
    let mut reads = Reads::default();
    reads.start(context).await?;
    let mut done = Done::default();
    while let Some(one) = reads.next().await {
        done = done.and(one);
    }
    Ok(done)
}

/// Does what is due in all tenants at the interval of the jobs, until the service ends.
pub(super) async fn keep_up(context: &Arc<Context>) {
    let mut reads = Reads::default();
    let mut interval = super::interval(context);
    loop {
        tokio::select! {
            () = context.shutdown.cancelled() => break,
            Some(_) = reads.next() => {}
            _ = interval.tick() => {
                if let Err(error) = reads.start(context).await {
                    tracing::warn!(%error, "nobody knows what is to be read again");
                }
            }
        }
    }
    while reads.next().await.is_some() {}
}

impl Reads {
    /// Begins what is due and that nobody reads, but for sources that could not be read a moment ago.
    async fn start(&mut self, context: &Arc<Context>) -> Result<(), ApiError> {
        let now_ms = context.clock.now_ms();
        for due in store::obligations::sources_due(&context.db, "", now_ms).await? {
            let same = |tenant: &&String| **tenant == due.tenant;
            let under_way = self.tenants.values().filter(same).count();
            if under_way >= at_once(context) || !may_read(context, &due, now_ms) {
                continue;
            }
            let Ok(turn) = context
                .reread_turn(&due.tenant, &due.source)
                .try_lock_owned()
            else {
                continue;
            };
            let (context, tenant) = (Arc::clone(context), due.tenant.clone());
            let task = self.tasks.spawn(async move {
                let _turn = turn;
                let read = context.shutdown.run_until_cancelled(reread(&context, &due));
                read.await.unwrap_or(Err(JobError::Stopped))
            });
            self.tenants.insert(task.id(), tenant);
        }
        Ok(())
    }

    /// What the next one did that ends. `None`: none is under way.
    async fn next(&mut self) -> Option<Done> {
        let (id, read) = match self.tasks.join_next_with_id().await? {
            Ok((id, read)) => (id, read.map_err(|error| error.to_string())),
            Err(error) => (error.id(), Err(error.to_string())),
        };
        let tenant = self.tenants.remove(&id);
        Some(read.unwrap_or_else(|error| {
            tracing::warn!(tenant, error, "a source could not be re-read");
            Done::default()
        }))
    }
}

fn at_once(context: &Context) -> usize {
    usize::try_from(context.settings.rereads_at_once.max(1)).unwrap_or(1)
}

/// A source that could not be read is left alone for a while: the longer, the longer ago it was due.
fn may_read(context: &Context, due: &Due, now_ms: i64) -> bool {
    let pause_ms = i64::try_from(context.settings.reread_pause_ms).unwrap_or(i64::MAX);
    let overdue_ms = now_ms.saturating_sub(due.newest_ms);
    let pause_ms = pause_ms.max((overdue_ms / 8).min(PAUSE_MAX_MS));
    lock(&context.unread)
        .get(&(due.tenant.clone(), due.source.clone()))
        .is_none_or(|unread_ms| unread_ms.saturating_add(pause_ms) <= now_ms)
}

/// Reads a source once for all that is owed there by now.
async fn reread(context: &Context, due: &Due) -> Result<Done, JobError> {
    let (tenant, source) = (due.tenant.as_str(), due.source.as_str());
    if context.tenants.require(tenant).await?.is_closed() {
        // It has left: its sources are nobody's to read, and its log takes nothing more.
        return Ok(Done::default());
    }
    let not_before_ms = context.clock.now_ms();
    let mut owed: BTreeMap<String, Vec<Obligation>> = BTreeMap::new();
    let db = &context.db;
    for one in store::obligations::rereads_due(db, tenant, source, not_before_ms).await? {
        owed.entry(one.remediation.clone()).or_default().push(one);
    }
    // Somebody else was faster.
    if owed.is_empty() {
        return Ok(Done::default());
    }
    let mut done = Done::default();
    match read(context, due, not_before_ms).await {
        Ok(sync) => {
            for (remediation, owed) in owed {
                let tenant = tenant.to_owned();
                let key = RemediationKey {
                    tenant,
                    remediation,
                };
                match persistence::one(context, &key, source, &sync, &owed).await {
                    Ok(met) => done = done.and(met),
                    Err(error) => {
                        tracing::warn!(remediation = %key, %error, "what was removed could not be read again");
                        done.unobservable += owed.len() as u64;
                    }
                }
            }
        }
        Err(why) => {
            tracing::warn!(tenant, source, why, "a source could not be re-read");
            done.unobservable = owed.values().map(|owed| owed.len() as u64).sum();
        }
    }
    let key = (due.tenant.clone(), due.source.clone());
    if done.unobservable == 0 {
        lock(&context.unread).remove(&key);
    } else {
        lock(&context.unread).insert(key, not_before_ms);
    }
    Ok(done)
}

/// The name of a sync that read the source completely, or why there is none.
async fn read(context: &Context, due: &Due, not_before_ms: i64) -> Result<String, String> {
    let patience = context.settings.reader_timeout();
    let (inventory, purpose) = (&context.inventory, Purpose::Persistence);
    let read = inventory
        .read_source(&due.tenant, &due.source, purpose, not_before_ms, patience)
        .await;
    match read {
        Ok(read) if read.complete => Ok(read.name),
        Ok(read) => Err(read.reasons),
        Err(error) => Err(error.to_string()),
    }
}
