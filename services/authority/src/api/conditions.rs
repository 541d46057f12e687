//! Conditions of the policy in force, read once and remembered: reading them takes a hundred times as long as asking them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use counterfoil_chassis::{ApiError, names::PrincipalName};
use counterfoil_proto::authority as proto;

use super::convert;
use crate::model::{
    RecordHash,
    conditions::{Act, Asking, Conditions},
    ids::PrincipalId,
    policy::Bundle,
    principal::Principal,
    right::Scope,
};

/// Bundles remembered at once; beyond that all are read anew.
const REMEMBERED_MAX: usize = 1_000;

/// Conditions by the hash of their bundle. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Known(Arc<Mutex<HashMap<RecordHash, Arc<Conditions>>>>);

/// A right that somebody may decide under, before the conditions of the policy are asked.
#[derive(Debug)]
pub(super) struct Offered {
    pub(super) scope: Scope,
    /// Those in whose names it would be decided: what is forbidden to them, nobody does for them.
    pub(super) delegators: Vec<Principal>,
    /// People of providers on whom it rests.
    pub(super) operators: Vec<PrincipalName>,
    /// As it is answered.
    pub(super) right: proto::DecisionRight,
}

impl Known {
    /// What rights give where the conditions of a bundle leave something of them, and the conditions that took something away.
    pub(super) fn narrow(
        &self,
        bundle: Option<&Bundle>,
        act: Act<'_>,
        offered: Vec<Offered>,
    ) -> Result<(Vec<proto::DecisionRight>, Vec<String>), ApiError> {
        let Some(bundle) = bundle.filter(|bundle| !bundle.rules.conditions.is_empty()) else {
            let whole = offered.into_iter().map(|one| one.right);
            return Ok((whole.collect(), Vec::new()));
        };
        let conditions = self.of(bundle)?;
        let mut forbidding = Vec::new();
        // Rights are many and people few: each is asked about once in each place.
        let people: HashMap<PrincipalId, Principal> = offered
            .iter()
            .flat_map(|one| one.delegators.iter().chain([act.principal]))
            .map(|person| (person.id.clone(), person.clone()))
            .collect();
        let asked = people
            .values()
            .map(|principal| (&principal.id, conditions.asked(Act { principal, ..act })));
        let mut asked: HashMap<&PrincipalId, Asking<'_>> = asked.collect();
        let narrowed = offered.into_iter().filter_map(|one| {
            let (mut scope, mut excluded) = (one.scope, Vec::new());
            for principal in std::iter::once(act.principal).chain(&one.delegators) {
                let asked = asked.get_mut(&principal.id)?;
                let (left, taken) = asked.narrow(&scope, &mut forbidding)?;
                scope = left;
                excluded.extend(taken);
            }
            excluded.sort_unstable();
            excluded.dedup();
            Some(proto::DecisionRight {
                scope: convert::scope_names(&scope, act.tenant),
                excluded_sources: match scope {
                    Scope::Everywhere => excluded.iter().map(|one| one.name(act.tenant)).collect(),
                    Scope::Sources(_) => Vec::new(),
                },
                ..one.right
            })
        });
        let narrowed = narrowed.collect();
        forbidding.sort_unstable();
        forbidding.dedup();
        Ok((narrowed, forbidding))
    }

    fn of(&self, bundle: &Bundle) -> Result<Arc<Conditions>, ApiError> {
        let hash = bundle.hash();
        let known = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(conditions) = known().get(&hash) {
            return Ok(Arc::clone(conditions));
        }
        // Read without the lock: other tenants do not wait for it.
        let conditions = Conditions::accepted(&bundle.rules.conditions)
            .map_err(|why| ApiError::internal(format!("conditions that were accepted: {why}")))?;
        let conditions = Arc::new(conditions);
        let mut known = known();
        if known.len() >= REMEMBERED_MAX {
            known.clear();
        }
        known.insert(hash, Arc::clone(&conditions));
        Ok(conditions)
    }
}
