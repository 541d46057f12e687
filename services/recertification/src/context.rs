//! What every call and every job of the service works with.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use counterfoil_chassis::{
    auth::Caller, clock::Clock, db::Database, error::ApiError, operators::not_qualified,
    outbox::Outbox, pages::Pages, tenants::TenantDirectory,
};
use counterfoil_evidence::place::Place;

use crate::{
    api::peers::{
        authority::{Authority, DecisionAction, Standing},
        inventory::Inventory,
    },
    api::streams::Streams,
    config::Settings,
    jobs::staging::Stagings,
    model::{
        campaign::Definition,
        ids::{CampaignKey, Principal, Source},
        rights::Right,
        routing::Directory,
    },
    records::{SERVICE, Stamp},
};

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
    pub(crate) settings: Settings,
    pub(crate) busy: Busy,
    pub(crate) stagings: Stagings,
    pub(crate) streams: Streams,
}

/// Campaigns on which a call of this process is working, so that the job leaves them alone. Only a courtesy: steps are safe
/// to run twice at once, as other replicas may.
#[derive(Debug, Default)]
pub(crate) struct Busy(Mutex<HashMap<CampaignKey, usize>>);

/// A call is working on the campaign until this is dropped.
#[derive(Debug)]
pub(crate) struct BusyGuard<'b> {
    busy: &'b Busy,
    key: CampaignKey,
}

impl Busy {
    /// A call begins to work on the campaign.
    pub(crate) fn enter(&self, key: &CampaignKey) -> BusyGuard<'_> {
        let mut calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *calls.entry(key.clone()).or_default() += 1;
        BusyGuard {
            busy: self,
            key: key.clone(),
        }
    }

    /// Whether any call is working on it.
    pub(crate) fn is_busy(&self, key: &CampaignKey) -> bool {
        let calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        calls.contains_key(key)
    }
}

impl Drop for BusyGuard<'_> {
    fn drop(&mut self) {
        let mut calls = self.busy.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = calls.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                calls.remove(&self.key);
            }
        }
    }
}

/// Who moves a campaign on.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Mover<'c> {
    /// Somebody who calls, and needs the decision right CERTIFY.
    Caller {
        caller: &'c Caller,
        /// Names what they do: an agent's same act counts once.
        act: &'c str,
    },
    /// The service itself, because a rule says so: a review is due, a step was cut off.
    Rule,
}

impl Context {
    /// The principal that calls; services and operators of the deployment are none and decide nothing.
    pub(crate) fn principal(&self, tenant: &str, caller: &Caller) -> Result<Principal, ApiError> {
        Principal::of_tenant(tenant, caller.principal()).ok_or_else(|| {
            ApiError::permission_denied(
                "NO_DECISION_RIGHT",
                "only principals of the tenant can hold a decision right",
            )
        })
    }

    /// What a principal may do now, also under rights for some environments and tiers: inventory says where sources lie.
    pub(crate) async fn standing(
        &self,
        tenant: &str,
        principal: &Principal,
        action: DecisionAction,
    ) -> Result<Standing, ApiError> {
        let mut standing = self.authority.standing(tenant, principal, action).await?;
        if standing.rights.iter().any(Right::is_limited) {
            let places = self.inventory.places(tenant).await?;
            let rights = standing.rights.into_iter();
            standing.rights = rights.map(|right| right.placed(&places)).collect();
        }
        Ok(standing)
    }

    /// Refuses one of a provider's people where the tier of their engagement does not reach (B23): choosing who decides there needs
    /// no right of its own.
    pub(crate) async fn require_reach(
        &self,
        tenant: &str,
        caller: &Caller,
        standing: &Standing,
        source: &Source,
    ) -> Result<(), ApiError> {
        let (Some(_), Some(reach)) = (caller.operator(), &standing.reach) else {
            return Ok(());
        };
        let places = self.inventory.places(tenant).await?;
        let reached = places.get(source).is_some_and(|(environment, tier)| {
            let place = Place { environment, tier };
            place.is_reached(reach)
        });
        match reached {
            true => Ok(()),
            false => Err(not_qualified("TIER_TOO_LOW")),
        }
    }

    /// All principals with their rights REVIEW, in the same way.
    pub(crate) async fn directory(&self, tenant: &str) -> Result<Directory, ApiError> {
        let directory = self.authority.directory(tenant).await?;
        if !directory.is_limited() {
            return Ok(directory);
        }
        Ok(directory.placed(&self.inventory.places(tenant).await?))
    }

    /// Who states what happens to a campaign as a whole, and who owns it: the campaign's owner while that is an active human of
    /// the customer, else the tenant's accountable owner (I-11).
    pub(crate) async fn stamp(
        &self,
        mover: Mover<'_>,
        definition: &Definition,
    ) -> Result<Stamp, ApiError> {
        let tenant = &definition.key.tenant;
        // Taken before authority is asked, so that a right that is revoked in the meantime still held at this moment.
        let now_ms = self.clock.now_ms();
        let (actor, asked) = match mover {
            Mover::Caller { caller, .. } => {
                (caller.actor().to_owned(), self.principal(tenant, caller)?)
            }
            Mover::Rule => (SERVICE.to_owned(), definition.owner.clone()),
        };
        let (standing, owner) = tokio::try_join!(
            self.standing(tenant, &asked, DecisionAction::Certify),
            self.authority.person(tenant, &definition.owner),
        )?;
        let right = match mover {
            Mover::Rule => None,
            Mover::Caller { act, .. } => {
                let sources = &definition.scope.sources;
                let held = standing
                    .rights
                    .iter()
                    // Who certifies, does so in their own name: a campaign is moved by steps that outlive the call.
                    .filter(|right| right.on_behalf_of.is_empty())
                    .find(|right| right.covers_all(sources, now_ms));
                let held = held.ok_or_else(|| {
                    ApiError::permission_denied(
                        "NO_DECISION_RIGHT",
                        "no decision right CERTIFY covers the campaign's sources",
                    )
                })?;
                let right = held.record_hash;
                if let Some(mandate) = &standing.mandate {
                    let agent = &asked.full(tenant);
                    self.authority.count(agent, mandate, act).await?;
                }
                Some(right)
            }
        };
        let owns = owner.is_some_and(|owner| owner.may_be_accountable());
        Ok(Stamp {
            actor,
            now_ms,
            accountable_owner: if owns {
                definition.owner.clone()
            } else {
                standing.accountable_owner
            },
            right,
            on_behalf_of: Vec::new(),
            policy_hash: standing.policy_hash,
        })
    }
}
