//! Deriving the grants that follow from edges.

use super::reading::Reading;
use crate::{
    error::Result,
    model::{
        completeness::reason,
        inheritance::{Closures, Reached},
        sorting::StagedGrant,
    },
};

impl Reading<'_> {
    /// Follows the edges, and stages what each account inherits.
    pub(super) async fn inherit(&mut self) -> Result<Closures> {
        let mut pairs = std::mem::take(&mut self.pairs);
        pairs.sort_unstable();
        self.find_repeated(&mut pairs);
        if self.parents.is_empty() {
            return Ok(Closures::default());
        }
        let limits = self.ingest.shop.config.limits();
        let ranks = self.entitlements.ranks();
        let (closures, met) = Closures::build(&self.parents, ranks, &limits);
        for (entitlement, limit) in met {
            let native_id = self.entitlements.native_id(entitlement);
            let message = format!("entitlement {native_id:?} {limit}");
            self.faults.add(reason::INHERITANCE_LIMIT, &message);
        }
        for direct in pairs.chunk_by(|left, right| left.0 == right.0) {
            let starts: Vec<u32> = direct
                .iter()
                .map(|(_, entitlement)| *entitlement)
                .filter(|entitlement| closures.inherits(*entitlement))
                .collect();
            if starts.is_empty() {
                continue;
            }
            let Some((account, _)) = direct.first() else {
                continue;
            };
            for reached in closures.inherited(&starts) {
                if !self.within_total() {
                    return Ok(closures);
                }
                self.stage_inherited(*account, reached, &closures).await?;
            }
        }
        Ok(closures)
    }

    async fn stage_inherited(
        &mut self,
        account: u32,
        reached: Reached,
        closures: &Closures,
    ) -> Result<()> {
        let path = closures.path(reached.path);
        let key = self.key(account, reached.entitlement, &path);
        self.counts.inherited += 1;
        self.stage(&StagedGrant {
            key,
            account,
            entitlement: reached.entitlement,
            path: reached.path,
            granted_ms: None,
            expires_ms: None,
            last_used_ms: None,
            purpose: String::new(),
        })
        .await
    }

    fn within_total(&mut self) -> bool {
        let limit = self.ingest.shop.config.inherited_grants_max;
        if self.counts.inherited < limit {
            return true;
        }
        let message = format!("more than {limit} grants would be inherited");
        self.faults.add(reason::INHERITANCE_LIMIT, &message);
        false
    }

    /// A pair that comes twice is a fault of the source; the set has it once.
    fn find_repeated(&mut self, pairs: &mut Vec<(u32, u32)>) {
        let mut repeated: Vec<(u32, u32)> = Vec::new();
        for pair in pairs.windows(2) {
            if let [left, right] = pair
                && left == right
            {
                repeated.push(*left);
            }
        }
        for (account, entitlement) in repeated {
            let message = format!(
                "grant of {:?} to {:?} comes twice",
                self.entitlements.native_id(entitlement),
                self.accounts.native_id(account)
            );
            self.faults.add(reason::ROW_ERROR, &message);
        }
        pairs.dedup();
    }
}
