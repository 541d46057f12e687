//! Conditions of the policy in force, read once and remembered: reading them takes a hundred times as long as asking them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use counterfoil_chassis::ApiError;

use crate::model::{
    RecordHash,
    conditions::{Act, Conditions},
    ids::SourceId,
    policy::Bundle,
    right::Right,
};

/// Bundles remembered at once; beyond that all are read anew.
const REMEMBERED_MAX: usize = 1_000;

/// Conditions by the hash of their bundle. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Known(Arc<Mutex<HashMap<RecordHash, Arc<Conditions>>>>);

/// What is left of a right, and the sources that are taken out of "*".
pub(super) type Narrowed = (Right, Vec<SourceId>);

impl Known {
    /// What rights give where the conditions of a bundle leave something of them, and the conditions that took something away.
    pub(super) fn narrow(
        &self,
        bundle: Option<&Bundle>,
        act: Act<'_>,
        rights: Vec<Right>,
    ) -> Result<(Vec<Narrowed>, Vec<String>), ApiError> {
        let Some(bundle) = bundle.filter(|bundle| !bundle.rules.conditions.is_empty()) else {
            let whole = rights.into_iter().map(|right| (right, Vec::new()));
            return Ok((whole.collect(), Vec::new()));
        };
        let conditions = self.of(bundle)?;
        let mut forbidding = Vec::new();
        let narrowed = rights.into_iter().filter_map(|right| {
            let (scope, excluded) = conditions.narrow(act, &right.scope, &mut forbidding)?;
            Some((Right { scope, ..right }, excluded))
        });
        let narrowed = narrowed.collect();
        forbidding.sort_unstable();
        forbidding.dedup();
        Ok((narrowed, forbidding))
    }

    fn of(&self, bundle: &Bundle) -> Result<Arc<Conditions>, ApiError> {
        let hash = bundle.hash();
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(conditions) = known.get(&hash) {
            return Ok(Arc::clone(conditions));
        }
        let conditions = Conditions::parse(&bundle.rules.conditions)
            .map_err(|why| ApiError::internal(format!("conditions that were accepted: {why}")))?;
        let conditions = Arc::new(conditions);
        if known.len() >= REMEMBERED_MAX {
            known.clear();
        }
        known.insert(hash, Arc::clone(&conditions));
        Ok(conditions)
    }
}
