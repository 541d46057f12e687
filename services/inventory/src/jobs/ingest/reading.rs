//! Taking the pages of a source.

use std::collections::{HashMap, HashSet};

use counterfoil_chassis::names::uuid_v7;
use counterfoil_connectors::{
    AccountRecord, ConnectorError, ControlTotals, EntitlementEdge, EntitlementRecord, GrantRecord,
    Page, ReadSummary, Reader, SourceConfig, SourceRecord,
};
use counterfoil_evidence::leaf::{GrantKey, canonical_identity_key};
use tokio::sync::mpsc;

use super::{Gathered, Ingest, directory::Directory};
use crate::{
    error::Result,
    model::{
        completeness::{Faults, reason, reason_of},
        facts::{
            Id, account_digest, account_flags, class_number, entitlement_digest, entitlement_flags,
            lifecycle_word,
        },
        inheritance::NO_PATH,
        sorting::{KEY_BYTES, Run, SortedRun, StagedGrant},
    },
    store::{
        entities::{self, AccountRow, EntitlementRow, Kind, NewAccount, NewEntitlement},
        owners,
        syncs::Counts,
    },
};

/// Pages that wait while one is taken.
const PAGES_AHEAD: usize = 4;
/// New versions that wait before they are written.
const VERSIONS_AHEAD: usize = 4096;

/// What a sync has taken so far.
pub(super) struct Reading<'a> {
    pub(super) ingest: &'a Ingest,
    pub(super) accounts: Directory,
    pub(super) entitlements: Directory,
    pub(super) parents: HashMap<u32, Vec<u32>>,
    /// Direct grants by number, 8 bytes each, to derive what is inherited and to find repetitions.
    pub(super) pairs: Vec<(u32, u32)>,
    pub(super) counts: Counts,
    pub(super) faults: Faults,
    owners: HashMap<String, String>,
    ended_elsewhere: HashSet<String>,
    new_accounts: Vec<NewAccount>,
    new_entitlements: Vec<NewEntitlement>,
    new_identities: Vec<(String, Id)>,
    replaced: Vec<(Kind, Id, i64)>,
    seen: Vec<(Id, i64, Option<i64>)>,
    run: Run,
    staged_runs: usize,
}

/// Who reads, and what became of it.
type Outcome = (
    Box<dyn Reader>,
    std::result::Result<ReadSummary, ConnectorError>,
);

impl Ingest {
    /// Reads the source whole.
    pub(super) async fn gather(&self) -> Result<Gathered> {
        let mut reading = Reading::begin(self).await?;
        let (watermark, control_totals) = match self.reader() {
            Err(error) => {
                reading.failed(&error);
                (None, None)
            }
            Ok(reader) => reading.read(reader).await?,
        };
        let ended_ms = self.shop.clock.now_ms().max(self.started_ms);
        if let Some(stated) = &control_totals {
            reading.faults.compare(&reading.counts.read, stated);
        }
        let closures = reading.inherit().await?;
        reading.flush(true).await?;
        let last_run = reading.last_run().await?;
        Ok(Gathered {
            accounts: reading.accounts,
            entitlements: reading.entitlements,
            closures,
            staged_runs: reading.staged_runs,
            last_run: std::sync::Mutex::new(last_run),
            counts: reading.counts,
            control_totals,
            watermark,
            faults: reading.faults,
            ended_ms,
            seen: reading.seen,
        })
    }

    fn new_id(&self) -> Id {
        uuid_v7(self.shop.clock.now_ms()).into_bytes()
    }

    fn reader(&self) -> std::result::Result<Box<dyn Reader>, ConnectorError> {
        let config: SourceConfig =
            serde_json::from_str(&self.source.config_json).map_err(|error| {
                ConnectorError::InvalidConfig {
                    field: "config_json".into(),
                    reason: error.to_string(),
                }
            })?;
        self.shop.readers.reader(&config)
    }
}

impl<'a> Reading<'a> {
    async fn begin(ingest: &'a Ingest) -> Result<Self> {
        let (db, source) = (&ingest.shop.db, &ingest.source);
        let (tenant, source_no) = (&source.tenant, source.source_no);
        let ended = entities::ended_elsewhere(db, tenant, source_no).await?;
        let reading = Self {
            ingest,
            accounts: Directory::load(db, tenant, Kind::Account, source_no).await?,
            entitlements: Directory::load(db, tenant, Kind::Entitlement, source_no).await?,
            parents: HashMap::new(),
            pairs: Vec::new(),
            counts: Counts::default(),
            faults: Faults::default(),
            owners: owners::all(db, tenant).await?,
            ended_elsewhere: ended.into_iter().collect(),
            new_accounts: Vec::new(),
            new_entitlements: Vec::new(),
            new_identities: Vec::new(),
            replaced: Vec::new(),
            seen: Vec::new(),
            run: Run::new(ingest.shop.config.sort_buffer_bytes),
            staged_runs: 0,
        };
        // Says that reading has begun.
        ingest.fenced(&reading.counts).await?.commit().await?;
        Ok(reading)
    }

    async fn read(
        &mut self,
        mut reader: Box<dyn Reader>,
    ) -> Result<(Option<String>, Option<ControlTotals>)> {
        let (sender, mut pages) = mpsc::channel::<Page>(PAGES_AHEAD);
        let reads = tokio::spawn(async move {
            let outcome = reader.read(sender).await;
            (reader, outcome)
        });
        while let Some(page) = pages.recv().await {
            self.page(page).await?;
            self.ingest.progressed(&self.counts);
        }
        let (mut reader, outcome): Outcome = reads.await?;
        match outcome {
            Err(error) => {
                self.failed(&error);
                Ok((None, None))
            }
            Ok(summary) => {
                let totals = self.check(&mut reader, &summary).await;
                Ok((summary.watermark, totals))
            }
        }
    }

    /// What the source says of itself after it was read.
    async fn check(
        &mut self,
        reader: &mut Box<dyn Reader>,
        summary: &ReadSummary,
    ) -> Option<ControlTotals> {
        for error in summary.errors.listed() {
            self.faults.add(reason::ROW_ERROR, &error.to_string());
        }
        let listed = u64::try_from(summary.errors.listed().len()).unwrap_or(0);
        let unlisted = summary.errors.total().saturating_sub(listed);
        self.faults.count_more(reason::ROW_ERROR, unlisted);
        if summary.pages != self.counts.pages {
            let message = format!(
                "{} pages came, the connector sent {}",
                self.counts.pages, summary.pages
            );
            self.faults.add(reason::PAGE_GAP, &message);
        }
        match reader.control_totals().await {
            Ok(totals) => Some(totals),
            Err(error) => {
                self.faults
                    .add(reason::CONTROL_TOTAL_UNAVAILABLE, &error.to_string());
                None
            }
        }
    }

    fn failed(&mut self, error: &ConnectorError) {
        self.faults.add(reason_of(error), &error.to_string());
    }

    fn row_error(&mut self, message: &str) {
        self.faults.add(reason::ROW_ERROR, message);
    }

    async fn page(&mut self, page: Page) -> Result<()> {
        if page.number != self.counts.pages {
            let message = format!(
                "page {} came in place of {}",
                page.number, self.counts.pages
            );
            self.faults.add(reason::PAGE_GAP, &message);
        }
        self.counts.pages += 1;
        for record in page.records {
            self.counts.read.add(&record);
            match record {
                SourceRecord::Account(record) => self.account(record),
                SourceRecord::Entitlement(record) => self.entitlement(record),
                SourceRecord::Edge(edge) => self.edge(&edge),
                SourceRecord::Grant(grant) => self.grant(grant),
            }
        }
        if self.run.is_full() {
            self.spill().await?;
        }
        self.flush(false).await
    }

    /// The owner that counts: one set here before the source's own.
    fn owner(&self, object: impl FnOnce() -> String, stated: Option<&String>) -> Option<String> {
        if self.owners.is_empty() {
            return stated.cloned();
        }
        self.owners.get(&object()).or(stated).cloned()
    }

    fn account(&mut self, mut record: AccountRecord) {
        let ingest = self.ingest;
        record.identity_key = canonical(record.identity_key);
        record.owner_key = canonical(record.owner_key);
        let number = self.accounts.number(&record.native_id, || ingest.new_id());
        let Some(slot) = self.accounts.slot(number) else {
            return;
        };
        if slot.seen {
            return self.row_error(&format!("account {:?} comes twice", record.native_id));
        }
        let id = slot.id;
        let owner_key = self.owner(|| owners::account_object(&id), record.owner_key.as_ref());
        let ended = record
            .identity_key
            .as_ref()
            .is_some_and(|key| self.ended_elsewhere.contains(key));
        let digest = account_digest(&id, &record, owner_key.as_deref(), &self.ingest.rules.salt);
        let flags = account_flags(&record, owner_key.as_deref(), ended);
        let last_seen_ms = record.last_seen_ms;
        let Some(slot) = self.accounts.slot_mut(number) else {
            return;
        };
        let known = slot
            .version
            .map(|first_seq| (first_seq, slot.digest, slot.last_seen_ms));
        slot.seen = true;
        slot.digest = digest;
        slot.flags = flags;
        slot.last_seen_ms = last_seen_ms;
        match known {
            Some((first_seq, stored, seen_ms)) if stored == digest => {
                if seen_ms != last_seen_ms {
                    self.seen.push((id, first_seq, last_seen_ms));
                }
                return;
            }
            Some((first_seq, ..)) => self.replaced.push((Kind::Account, id, first_seq)),
            None => {}
        }
        if let Some(key) = &record.identity_key {
            self.new_identities.push((key.clone(), ingest.new_id()));
        }
        self.new_accounts.push(NewAccount {
            id,
            digest,
            account: account_row(record, owner_key),
        });
    }

    fn entitlement(&mut self, mut record: EntitlementRecord) {
        let ingest = self.ingest;
        record.owner_key = canonical(record.owner_key);
        let number = self
            .entitlements
            .number(&record.native_id, || ingest.new_id());
        let Some(slot) = self.entitlements.slot(number) else {
            return;
        };
        if slot.seen {
            return self.row_error(&format!("entitlement {:?} comes twice", record.native_id));
        }
        let id = slot.id;
        let owner_key = self.owner(
            || owners::entitlement_object(&id),
            record.owner_key.as_ref(),
        );
        let owner = owner_key.as_deref();
        let digest = entitlement_digest(&id, &record, owner, &self.ingest.rules.salt);
        let flags = entitlement_flags(&record, owner);
        let Some(slot) = self.entitlements.slot_mut(number) else {
            return;
        };
        let known = slot.version.map(|first_seq| (first_seq, slot.digest));
        slot.seen = true;
        slot.digest = digest;
        slot.flags = flags;
        match known {
            Some((_, stored)) if stored == digest => return,
            Some((first_seq, _)) => self.replaced.push((Kind::Entitlement, id, first_seq)),
            None => {}
        }
        self.new_entitlements.push(NewEntitlement {
            id,
            digest,
            entitlement: EntitlementRow {
                native_id: record.native_id,
                display_name: record.display_name,
                kind: record.kind,
                privileged: record.privileged,
                owner_key,
                purpose: record.purpose,
            },
        });
    }

    fn edge(&mut self, edge: &EntitlementEdge) {
        let child = self.entitlements.met(&edge.child_native_id);
        let parent = self.entitlements.met(&edge.parent_native_id);
        match (child, parent) {
            (Some(child), Some(parent)) => self.parents.entry(child).or_default().push(parent),
            _ => self.row_error(&format!(
                "edge from {:?} to {:?} names an entitlement that was not read",
                edge.child_native_id, edge.parent_native_id
            )),
        }
    }

    fn grant(&mut self, grant: GrantRecord) {
        let account = self.accounts.met(&grant.account_native_id);
        let entitlement = self.entitlements.met(&grant.entitlement_native_id);
        let (Some(account), Some(entitlement)) = (account, entitlement) else {
            return self.row_error(&format!(
                "grant of {:?} to {:?} names something that was not read",
                grant.entitlement_native_id, grant.account_native_id
            ));
        };
        self.pairs.push((account, entitlement));
        let key = self.key(account, entitlement, &[]);
        self.run.push(&StagedGrant {
            key,
            account,
            entitlement,
            path: NO_PATH,
            granted_ms: grant.granted_ms,
            expires_ms: grant.expires_ms,
            last_used_ms: grant.last_used_ms,
            purpose: grant.purpose.unwrap_or_default(),
        });
    }

    /// Key of a grant without the source's tag.
    pub(super) fn key(&self, account: u32, entitlement: u32, path: &[u32]) -> [u8; KEY_BYTES] {
        let named = |directory: &Directory, number: u32, name: fn(&Id) -> String| {
            directory
                .slot(number)
                .map_or_else(String::new, |slot| name(&slot.id))
        };
        let path: Vec<String> = path
            .iter()
            .map(|step| named(&self.entitlements, *step, owners::entitlement_object))
            .collect();
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let account = named(&self.accounts, account, owners::account_object);
        let entitlement = named(&self.entitlements, entitlement, owners::entitlement_object);
        let full = GrantKey::new(self.ingest.source.tag, &account, &entitlement, &path);
        let mut key = [0; KEY_BYTES];
        key.copy_from_slice(&full.0[8..]);
        key
    }

    /// Stages an inherited grant.
    pub(super) async fn stage(&mut self, grant: &StagedGrant) -> Result<()> {
        self.run.push(grant);
        if self.run.is_full() {
            self.spill().await?;
        }
        Ok(())
    }

    async fn sort(&mut self) -> Result<SortedRun> {
        let fresh = Run::new(self.ingest.shop.config.sort_buffer_bytes);
        let run = std::mem::replace(&mut self.run, fresh);
        Ok(tokio::task::spawn_blocking(move || run.sorted()).await?)
    }

    async fn spill(&mut self) -> Result<()> {
        let sorted = self.sort().await?;
        let run = i64::try_from(self.staged_runs).unwrap_or(i64::MAX);
        let mut tx = self.ingest.fenced(&self.counts).await?;
        for (chunk, content) in (0..).zip(sorted) {
            self.ingest
                .stage()
                .put(&mut tx, run, chunk, content)
                .await?;
        }
        // If we crash here: staged chunks are left, which nobody reads and the next attempt forgets.
        tx.commit().await?;
        self.staged_runs += 1;
        Ok(())
    }

    async fn last_run(&mut self) -> Result<Option<SortedRun>> {
        if self.run.is_empty() {
            return Ok(None);
        }
        self.sort().await.map(Some)
    }

    /// Writes the new versions that wait, when they are many or it is the last time.
    async fn flush(&mut self, last: bool) -> Result<()> {
        let waiting = self.new_accounts.len() + self.new_entitlements.len() + self.replaced.len();
        if waiting == 0 || (!last && waiting < VERSIONS_AHEAD) {
            return Ok(());
        }
        let (source_no, seq) = (self.ingest.lease.source_no, self.ingest.lease.seq);
        let mut tx = self.ingest.fenced(&self.counts).await?;
        entities::add_identities(&mut tx, std::mem::take(&mut self.new_identities)).await?;
        let accounts = std::mem::take(&mut self.new_accounts);
        entities::add_accounts(&mut tx, source_no, seq, accounts).await?;
        let entitlements = std::mem::take(&mut self.new_entitlements);
        entities::add_entitlements(&mut tx, source_no, seq, entitlements).await?;
        let replaced = std::mem::take(&mut self.replaced);
        for kind in [Kind::Account, Kind::Entitlement] {
            let versions = replaced
                .iter()
                .filter(|(of, ..)| *of == kind)
                .map(|(_, id, first_seq)| (*id, *first_seq));
            entities::end(&mut tx, kind, seq, versions).await?;
        }
        // If we crash here: versions of a sync that is not sealed are left; they are taken back before it is begun again.
        tx.commit().await?;
        Ok(())
    }
}

/// Here every key of every kind of source comes in, so here each gets the form in which keys are compared.
fn canonical(key: Option<String>) -> Option<String> {
    key.map(|key| canonical_identity_key(&key))
        .filter(|key| !key.is_empty())
}

fn account_row(record: AccountRecord, owner_key: Option<String>) -> AccountRow {
    AccountRow {
        lifecycle: lifecycle_word(record.lifecycle).to_owned(),
        identity_class: i64::from(class_number(record.identity_class)),
        enabled: record.status == counterfoil_connectors::AccountStatus::Active,
        native_id: record.native_id,
        display_name: record.display_name,
        identity_key: record.identity_key,
        owner_key,
        expires_ms: record.expires_ms,
        purpose: record.purpose,
        last_seen_ms: record.last_seen_ms,
    }
}
