//! What every call and every job of the service works with.

use std::{
    collections::{BTreeSet, HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use counterfoil_chassis::{
    CancellationToken,
    auth::Caller,
    clock::Clock,
    db::{Database, WriteTx},
    error::ApiError,
    operators::not_qualified,
    outbox::Outbox,
    pages::Pages,
    tenants::TenantDirectory,
};
use counterfoil_evidence::place::Place;
use tokio::sync::{mpsc, watch};

use crate::{
    api::peers::{
        authority::{Agent, Authority, Duty, Right, Standing},
        inventory::Inventory,
        recertification::Recertification,
    },
    config::Settings,
    error::JobError,
    model::{
        entities::{Digest, Remediation},
        ids::{Principal, RemediationKey},
    },
    records::{SERVICE, Stamp},
};

/// Held by one task at a time.
type Turn = Arc<tokio::sync::Mutex<()>>;

/// What every call and every job of the service works with.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) db: Database,
    pub(crate) clock: Clock,
    pub(crate) outbox: Outbox,
    pub(crate) tenants: TenantDirectory,
    pub(crate) pages: Pages,
    pub(crate) authority: Authority,
    pub(crate) inventory: Inventory,
    pub(crate) recertification: Recertification,
    pub(crate) settings: Settings,
    pub(crate) shutdown: CancellationToken,
    /// Rung after every change of a remediation in this process.
    pub(crate) bell: watch::Sender<u64>,
    /// Where remediations to carry out go; the supervisor takes them.
    pub(crate) work: mpsc::UnboundedSender<RemediationKey>,
    /// Remediations that a task of this process carries out, one at a time each, and whether it was asked for again since.
    /// Only `occupy` and [`Running`] write it.
    running: Mutex<HashMap<RemediationKey, bool>>,
    /// Re-reads of a source, by tenant and id, take turns, so that two callers do not read it for the same obligation. The
    /// tables decide all the same.
    rereading: Mutex<HashMap<(String, String), Turn>>,
    /// When a source, by tenant and id, could not be re-read the last time. Losing it costs a read.
    pub(crate) unread: Mutex<HashMap<(String, String), i64>>,
    #[cfg(test)]
    pub(crate) crash: Mutex<Option<crate::jobs::Step>>,
}

/// What a context is made of beside its peers.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) db: Database,
    pub(crate) clock: Clock,
    pub(crate) outbox: Outbox,
    pub(crate) tenants: TenantDirectory,
    pub(crate) pages: Pages,
    pub(crate) settings: Settings,
    pub(crate) shutdown: CancellationToken,
    pub(crate) work: mpsc::UnboundedSender<RemediationKey>,
}

/// Under what somebody may decide.
#[derive(Debug)]
pub(crate) struct Asked {
    /// The caller's stamp.
    pub(crate) stamp: Stamp,
    /// `cite` chooses one.
    pub(crate) rights: Vec<Right>,
    /// Set for an AI agent: what it decides is counted first.
    pub(crate) agent: Option<Agent>,
}

/// The services that are asked.
#[derive(Debug)]
pub(crate) struct Peers {
    pub(crate) authority: Authority,
    pub(crate) inventory: Inventory,
    pub(crate) recertification: Recertification,
}

impl Context {
    /// Puts a context together.
    pub(crate) fn new(parts: Parts, peers: Peers) -> Self {
        Self {
            db: parts.db,
            clock: parts.clock,
            outbox: parts.outbox,
            tenants: parts.tenants,
            pages: parts.pages,
            authority: peers.authority,
            inventory: peers.inventory,
            recertification: peers.recertification,
            settings: parts.settings,
            shutdown: parts.shutdown,
            bell: watch::Sender::new(0),
            work: parts.work,
            running: Mutex::default(),
            rereading: Mutex::default(),
            unread: Mutex::default(),
            #[cfg(test)]
            crash: Mutex::default(),
        }
    }

    /// The principal that calls; services and operators of the deployment are none and decide nothing.
    pub(crate) fn principal(tenant: &str, caller: &Caller) -> Result<Principal, ApiError> {
        Principal::of_tenant(tenant, caller.principal()).ok_or_else(|| {
            ApiError::permission_denied(
                "NO_DECISION_RIGHT",
                "only principals of the tenant can hold a decision right",
            )
        })
    }

    /// A caller's stamp for what is a fact and no decision.
    pub(crate) async fn fact(&self, tenant: &str, caller: &Caller) -> Result<Stamp, ApiError> {
        let now_ms = self.clock.now_ms();
        let standing = match Principal::of_tenant(tenant, caller.principal()) {
            Some(principal) => {
                self.authority
                    .standing(tenant, &principal, Duty::Remediate)
                    .await?
            }
            None => self.authority.default_standing(tenant).await?,
        };
        Ok(stamp(caller.actor(), now_ms, standing, Vec::new()))
    }

    /// A caller's stamp for a decision, and the rights it may be taken under, also those for some environments and tiers: inventory
    /// says where sources lie. `cite` chooses one.
    pub(crate) async fn decision(
        &self,
        tenant: &str,
        caller: &Caller,
        duty: Duty,
    ) -> Result<Asked, ApiError> {
        // Taken before authority is asked, so that a right that is revoked in the meantime still held at this moment.
        let now_ms = self.clock.now_ms();
        let principal = Self::principal(tenant, caller)?;
        let mut standing = self.authority.standing(tenant, &principal, duty).await?;
        let mut rights = std::mem::take(&mut standing.rights);
        if rights.iter().any(Right::is_limited) {
            let places = self.inventory.places(tenant).await?;
            let placed = rights.into_iter().map(|right| right.placed(&places));
            rights = placed.collect();
        }
        if rights.is_empty() {
            return Err(no_right(duty));
        }
        Ok(Asked {
            agent: standing.agent.take(),
            stamp: stamp(principal.as_str(), now_ms, standing, Vec::new()),
            rights,
        })
    }

    /// A caller's stamp for starting what is decided already, and whether it is an AI agent: one needs a right for it, so that its
    /// mandate says where.
    pub(crate) async fn starting(
        &self,
        tenant: &str,
        caller: &Caller,
        sources: &BTreeSet<String>,
    ) -> Result<(Stamp, Option<Agent>), ApiError> {
        let duty = Duty::Remediate;
        let now_ms = self.clock.now_ms();
        let principal = Self::principal(tenant, caller)?;
        let mut standing = self.authority.standing(tenant, &principal, duty).await?;
        let agent = standing.agent.take();
        if agent.is_none() {
            return Ok((
                stamp(principal.as_str(), now_ms, standing, Vec::new()),
                None,
            ));
        }
        let Asked { stamp, rights, .. } = self.decision(tenant, caller, duty).await?;
        let stamp = cite(stamp, &rights, duty, |right| right.covers(sources))?;
        Ok((stamp, agent))
    }

    /// Counts what an AI agent is about to do, with so many removals, or refuses it.
    pub(crate) async fn count(
        &self,
        tenant: &str,
        (caller, agent): (&Caller, &Agent),
        duty: Duty,
        act: (&str, u64),
    ) -> Result<(), ApiError> {
        let who = (tenant, &Self::principal(tenant, caller)?);
        self.authority.count(who, agent, duty, act).await
    }

    /// Refuses one of a provider's people where the tier of their engagement does not reach (B23): carrying out needs no right of
    /// its own.
    pub(crate) async fn require_reach<'s>(
        &self,
        tenant: &str,
        caller: &Caller,
        sources: impl IntoIterator<Item = &'s String>,
    ) -> Result<(), ApiError> {
        if caller.operator().is_none() {
            return Ok(());
        }
        let principal = Self::principal(tenant, caller)?;
        let asked = self.authority.standing(tenant, &principal, Duty::Remediate);
        let Some(reach) = asked.await?.reach else {
            return Ok(());
        };
        let places = self.inventory.places(tenant).await?;
        let reached = |source: &String| {
            let found = places.get(&format!("sources/{source}"));
            found.is_some_and(|(environment, tier)| {
                let place = Place { environment, tier };
                place.is_reached(&reach)
            })
        };
        match sources.into_iter().all(reached) {
            true => Ok(()),
            false => Err(not_qualified("TIER_TOO_LOW")),
        }
    }

    /// The service's stamp for what it does on a remediation, with whoever owns and rules the tenant now; as planned when
    /// authority does not answer.
    pub(crate) async fn of_service(
        &self,
        tenant: &str,
        remediation: &Remediation,
    ) -> Result<Stamp, JobError> {
        let asked = self
            .authority
            .standing(tenant, &remediation.approver, Duty::Remediate)
            .await;
        let standing = asked.unwrap_or_else(|error| {
            tracing::warn!(%error, "authority does not say who owns the tenant: as planned");
            Standing {
                rights: Vec::new(),
                reach: None,
                agent: None,
                owner: remediation.owner.clone(),
                policy_hash: remediation.policy_hash.clone(),
            }
        });
        let approver = vec![remediation.approver.clone()];
        Ok(stamp(SERVICE, self.clock.now_ms(), standing, approver))
    }

    /// Rings the bell when the transaction is committed.
    pub(crate) fn ring_on_commit(&self, tx: &mut WriteTx) {
        let bell = self.bell.clone();
        tx.on_commit(move || bell.send_modify(|rung| *rung = rung.wrapping_add(1)));
    }

    /// Marks a remediation as being carried out by this process. `None`: it is already, and whoever is at it looks once more
    /// before they leave.
    pub(crate) fn occupy(&self, key: &RemediationKey) -> Option<Running<'_>> {
        match lock(&self.running).entry(key.clone()) {
            Entry::Occupied(mut asked_again) => {
                asked_again.insert(true);
                None
            }
            Entry::Vacant(free) => {
                free.insert(false);
                Some(Running {
                    context: self,
                    key: Some(key.clone()),
                })
            }
        }
    }

    /// Whoever holds this re-reads a source.
    pub(crate) fn reread_turn(&self, tenant: &str, source: &str) -> Turn {
        let key = (tenant.to_owned(), source.to_owned());
        Arc::clone(lock(&self.rereading).entry(key).or_default())
    }

    /// Remediations at which nobody was seen since then may be taken over.
    pub(crate) fn unseen_since_ms(&self) -> i64 {
        self.clock.now_ms() - i64::from(self.settings.takeover_ms)
    }

    /// Where tests let a job die. Nothing else happens here.
    #[cfg(test)]
    pub(crate) fn reached(&self, step: crate::jobs::Step) -> Result<(), JobError> {
        let mut crash = lock(&self.crash);
        if *crash == Some(step) {
            *crash = None;
            self.bell.send_modify(|rung| *rung = rung.wrapping_add(1));
            return Err(JobError::Stopped);
        }
        Ok(())
    }

    /// Where tests let a job die. Nothing happens here.
    #[cfg(not(test))]
    #[expect(
        clippy::unused_self,
        clippy::unnecessary_wraps,
        reason = "tests let a job die here"
    )]
    pub(crate) fn reached(&self, _: crate::jobs::Step) -> Result<(), JobError> {
        Ok(())
    }
}

/// The first right that holds at the stamp's time and covers what it must, cited in the stamp.
pub(crate) fn cite(
    stamp: Stamp,
    rights: &[Right],
    duty: Duty,
    covers: impl Fn(&Right) -> bool,
) -> Result<Stamp, ApiError> {
    let right = rights
        .iter()
        .find(|right| right.holds_at(stamp.now_ms) && covers(right))
        .ok_or_else(|| no_right(duty))?;
    let names = right.on_behalf_of.iter();
    Ok(Stamp {
        right: Some(right.record_hash),
        on_behalf_of: names.map(|(name, _)| name.clone()).collect(),
        ..stamp
    })
}

fn no_right(duty: Duty) -> ApiError {
    let duty = match duty {
        Duty::Remediate => "REMEDIATE",
        Duty::Except => "EXCEPT",
    };
    ApiError::permission_denied(
        "NO_DECISION_RIGHT",
        format!("no decision right {duty} covers the sources"),
    )
}

fn stamp(actor: &str, now_ms: i64, standing: Standing, on_behalf_of: Vec<Principal>) -> Stamp {
    Stamp {
        actor: actor.to_owned(),
        now_ms,
        owner: standing.owner,
        right: None::<Digest>,
        policy_hash: standing.policy_hash,
        on_behalf_of,
    }
}

/// A remediation that this process carries out, until this is left or dropped.
#[derive(Debug)]
pub(crate) struct Running<'c> {
    context: &'c Context,
    /// `None`: left already.
    key: Option<RemediationKey>,
}

impl Running<'_> {
    /// Leaves the remediation. `Some`: not yet, for it was asked for since; it is executed again at the moment it ends, say. Were
    /// that dropped, nobody would be at it until the next round of the jobs.
    pub(crate) fn leave(mut self) -> Option<Self> {
        // One lock for looking and leaving: whoever asks finds it occupied and is heard, or free.
        let mut running = lock(&self.context.running);
        let asked_again = self.key.as_ref().and_then(|key| running.get_mut(key));
        if asked_again.is_some_and(std::mem::take) {
            drop(running);
            return Some(self);
        }
        self.key.take().and_then(|key| running.remove(&key));
        drop(running);
        None
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            lock(&self.context.running).remove(&key);
        }
    }
}

/// Locks a mutex that guards nothing a panic could leave half-done.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
