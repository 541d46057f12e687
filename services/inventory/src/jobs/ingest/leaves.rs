//! Merging the staged runs in key order, and judging each grant.

use counterfoil_evidence::leaf::{GRANT_KEY_LEN, GRANT_LEAF_LEN, GrantFlags, domain_hash};
use counterfoil_tlog::sorted_set::{SetRoot, SortedSetBuilder};
use prost::Message;

use super::{Gathered, Ingest};
use crate::{
    error::{Error, Result},
    model::{
        diff::Observed,
        facts::{GrantTerms, grant_value, is_dormant},
        inheritance::NO_PATH,
        sorting::{Merge, Merged, SortedRun, StagedGrant},
    },
    store::grants::{GrantFacts, NewGrant, full_key},
};

/// The grants of a sync in key order, and the set over them.
pub(super) struct Leaves<'a> {
    ingest: &'a Ingest,
    gathered: &'a Gathered,
    merge: Merge,
    /// Next chunk of every staged run.
    next_chunks: Vec<i64>,
    last_run: Option<SortedRun>,
    set: SortedSetBuilder,
    last_key: Option<[u8; 32]>,
    direct_path_digest: [u8; 32],
}

/// A grant that was judged.
pub(super) struct Judged {
    pub(super) observed: Observed,
    staged: StagedGrant,
    inherited_count: u32,
}

impl<'a> Leaves<'a> {
    pub(super) fn new(ingest: &'a Ingest, gathered: &'a Gathered) -> Result<Self> {
        let last_run = gathered
            .last_run
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .take();
        let runs = gathered.staged_runs + usize::from(last_run.is_some());
        Ok(Self {
            ingest,
            gathered,
            merge: Merge::new(runs),
            next_chunks: vec![0; gathered.staged_runs],
            last_run,
            set: SortedSetBuilder::new(GRANT_KEY_LEN, GRANT_LEAF_LEN)?,
            last_key: None,
            direct_path_digest: path_digest(&[]),
        })
    }

    /// The next grant; its leaf is in the set.
    pub(super) async fn next(&mut self) -> Result<Option<Judged>> {
        loop {
            match self.merge.advance()? {
                Merged::End => return Ok(None),
                Merged::Needs(run) => {
                    let chunk = self.chunk(run).await?;
                    self.merge.supply(run, chunk)?;
                }
                // What comes twice was noted when it was read.
                Merged::Row(row) if self.last_key == Some(row.key) => {}
                Merged::Row(row) => {
                    self.last_key = Some(row.key);
                    return self.judge(row).map(Some);
                }
            }
        }
    }

    async fn chunk(&mut self, run: usize) -> Result<Option<Vec<u8>>> {
        let Some(next) = self.next_chunks.get_mut(run) else {
            return Ok(self.last_run.as_mut().and_then(Iterator::next));
        };
        let chunk = *next;
        *next += 1;
        let number = i64::try_from(run).unwrap_or(i64::MAX);
        let stage = self.ingest.stage();
        let tenant = &self.ingest.lease.tenant;
        stage.get(&self.ingest.shop.db, tenant, number, chunk).await
    }

    fn judge(&mut self, staged: StagedGrant) -> Result<Judged> {
        let gathered = self.gathered;
        let account = gathered.accounts.slot(staged.account);
        let entitlement = gathered.entitlements.slot(staged.entitlement);
        let (Some(account), Some(entitlement)) = (account, entitlement) else {
            return Err(Error::Damaged("staged chunk"));
        };
        let direct = staged.path == NO_PATH;
        let inherited_count = if direct {
            gathered.closures.count(staged.entitlement)
        } else {
            0
        };
        let path_digest = if direct {
            self.direct_path_digest
        } else {
            path_digest(&self.path(staged.path))
        };
        let terms = GrantTerms {
            granted_ms: staged.granted_ms,
            expires_ms: staged.expires_ms,
            purpose: &staged.purpose,
            inherited_count,
        };
        let value = grant_value(&account.digest, &entitlement.digest, &path_digest, &terms);
        let used = staged.last_used_ms.or(account.last_seen_ms);
        let dormant = is_dormant(
            used,
            self.ingest.started_ms,
            self.ingest.rules.dormant_after_ms,
        );
        let mut flags = account.flags.with(entitlement.flags);
        if !direct {
            flags = flags.with(GrantFlags::INHERITED);
        }
        if dormant {
            flags = flags.with(GrantFlags::DORMANT);
        }
        let mut leaf = [0; GRANT_LEAF_LEN];
        leaf[..40].copy_from_slice(&full_key(self.ingest.source.tag, &staged.key).0);
        leaf[40..42].copy_from_slice(&flags.0.to_be_bytes());
        leaf[42..].copy_from_slice(&value);
        self.set.push(&leaf)?;
        Ok(Judged {
            observed: Observed {
                key: staged.key,
                flags: flags.0,
                value,
                last_used_ms: staged.last_used_ms,
            },
            staged,
            inherited_count,
        })
    }

    /// Ids of a path, one after another.
    fn path(&self, path: u32) -> Vec<u8> {
        self.gathered
            .closures
            .path(path)
            .iter()
            .filter_map(|step| self.gathered.entitlements.slot(*step))
            .flat_map(|slot| slot.id)
            .collect()
    }

    /// The row of a grant that is new or differs.
    pub(super) fn row(&self, judged: Judged) -> Result<NewGrant> {
        let Judged {
            observed,
            staged,
            inherited_count,
        } = judged;
        let account = self.gathered.accounts.slot(staged.account);
        let entitlement = self.gathered.entitlements.slot(staged.entitlement);
        let (Some(account), Some(entitlement)) = (account, entitlement) else {
            return Err(Error::Damaged("staged chunk"));
        };
        let path = if staged.path == NO_PATH {
            Vec::new()
        } else {
            self.path(staged.path)
        };
        let facts = GrantFacts {
            granted_ms: staged.granted_ms,
            expires_ms: staged.expires_ms,
            purpose: staged.purpose,
            path,
            inherited_count,
        };
        Ok(NewGrant {
            key: observed.key,
            flags: observed.flags,
            value: observed.value,
            account: account.id,
            entitlement: entitlement.id,
            facts: facts.encode_to_vec(),
            last_used_ms: observed.last_used_ms,
        })
    }

    /// The commitment to all of them.
    pub(super) fn finish(self) -> SetRoot {
        self.set.finish()
    }
}

fn path_digest(path: &[u8]) -> [u8; 32] {
    domain_hash(b"counterfoil-grant-path/v1", &[path])
}

impl Ingest {
    /// The set of what was read, when it is not applied.
    pub(super) async fn root_only(&self, gathered: &Gathered) -> Result<SetRoot> {
        let mut leaves = Leaves::new(self, gathered)?;
        while leaves.next().await?.is_some() {}
        Ok(leaves.finish())
    }
}
