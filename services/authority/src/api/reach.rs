//! How far people of providers get: to environments whose sensitivity the tier of their engagement reaches (B23, I-46). Standing
//! says by the default environment whether they come in at all.

use std::collections::HashMap;

use counterfoil_chassis::ApiError;

use super::conditions::Offered;
use crate::{
    model::{ids::PrincipalId, standing::LEVEL_MAX},
    store::{self, Connection},
};

/// Environments; `None`: all, whichever they are.
type Reach = Option<Vec<String>>;

/// What rights give where everybody on whom they rest gets, and how far their holder gets.
pub(super) async fn narrow(
    connection: &mut Connection,
    (tenant, holder): (&str, &PrincipalId),
    offered: Vec<Offered>,
) -> Result<(Vec<Offered>, Reach), ApiError> {
    let own = of(connection, tenant, holder).await?;
    let mut known: HashMap<PrincipalId, Reach> = HashMap::new();
    let mut narrowed = Vec::with_capacity(offered.len());
    'rights: for mut one in offered {
        for delegator in &one.delegators {
            if !known.contains_key(&delegator.id) {
                let reach = of(connection, tenant, &delegator.id).await?;
                known.insert(delegator.id.clone(), reach);
            }
        }
        let below = one.delegators.iter().filter_map(|one| known.get(&one.id));
        for reach in below.chain([&own]).flatten() {
            let environments = &mut one.right.environments;
            if environments.is_empty() {
                environments.clone_from(reach);
            } else {
                environments.retain(|environment| reach.contains(environment));
            }
            // An empty list would be every environment.
            if environments.is_empty() {
                continue 'rights;
            }
        }
        narrowed.push(one);
    }
    Ok((narrowed, own))
}

async fn of(
    connection: &mut Connection,
    tenant: &str,
    principal: &PrincipalId,
) -> Result<Reach, ApiError> {
    let found = store::qualifications::acting_as(connection, tenant, principal).await?;
    let Some(acting) = found else { return Ok(None) };
    let engagement = store::engagements::get(connection, tenant, &acting.engagement).await?;
    let tier = engagement.map_or(0, |engagement| engagement.tier);
    // What nobody has spoken of is the most sensitive: only the highest tier gets there.
    if tier >= LEVEL_MAX {
        return Ok(None);
    }
    let reached = store::qualifications::environments_up_to(connection, tenant, tier).await?;
    Ok(Some(reached))
}
