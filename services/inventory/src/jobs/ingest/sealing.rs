//! Sealing a sync: its record (R12), and the moment at which what it wrote is seen.

use counterfoil_chassis::{RecordDraft, WriteTx};
use counterfoil_connectors::ControlTotals;
use counterfoil_evidence::{
    leaf::{GRANT_LEAF_LEN, domain_hash, media_type},
    v1,
};
use counterfoil_tlog::sorted_set::SetRoot;

use super::{Gathered, Ingest, Workshop, applying::Applied};
use crate::{
    error::Result,
    model::{completeness::reason, diff::ChangeCounts},
    store::{
        entities, grants,
        leases::{self, Seal},
        sources::SourceRow,
        stage,
        syncs::{Counts, SyncRow},
    },
};

/// Who acts when no caller does.
const ACTOR: &str = "services/inventory";

/// What a record says of a sync beside its seal.
struct Statement<'a> {
    sync: &'a str,
    source: &'a SourceRow,
    purpose: i64,
    watermark: Option<&'a str>,
}

impl Ingest {
    fn statement<'a>(&'a self, gathered: &'a Gathered) -> Statement<'a> {
        Statement {
            sync: &self.lease.sync,
            source: &self.source,
            purpose: self.purpose,
            watermark: gathered.watermark.as_deref(),
        }
    }

    fn seal(&self, gathered: &Gathered, set: &SetRoot, changes: ChangeCounts) -> Seal {
        Seal {
            complete: gathered.faults.is_empty(),
            started_ms: self.started_ms,
            ended_ms: gathered.ended_ms,
            counts: gathered.counts,
            control_totals: gathered.control_totals,
            set_root: set.root.0,
            set_count: set.count,
            blob_sha256: set.blob_sha256.0,
            errors: gathered.faults.count(),
            error_messages: gathered.faults.messages().to_vec(),
            partial_reasons: gathered.faults.reasons().to_vec(),
            changes,
        }
    }

    /// Makes all that was written the current inventory.
    pub(super) async fn seal_complete(&self, gathered: &Gathered, applied: &Applied) -> Result<()> {
        let seal = self.seal(gathered, &applied.set, applied.changes);
        let mut tx = self.fenced(&gathered.counts).await?;
        let seq = Some(self.lease.seq);
        write_seal(&self.shop, &mut tx, &self.statement(gathered), seq, &seal).await?;
        // If we crash here: either all of it is seen and its record is in the outbox, or nothing is and the sync begins again.
        tx.commit().await?;
        Ok(())
    }

    /// Seals what was read as not the whole source, and takes back what was written.
    pub(super) async fn seal_partial(&self, gathered: &Gathered, set: &SetRoot) -> Result<()> {
        let seal = self.seal(gathered, set, ChangeCounts::default());
        let mut tx = self.fenced(&gathered.counts).await?;
        take_back(&mut tx, &self.source).await?;
        let seq = Some(self.lease.seq);
        write_seal(&self.shop, &mut tx, &self.statement(gathered), seq, &seal).await?;
        // If we crash here: it is taken back and its record is in the outbox, or neither and the sync begins again.
        tx.commit().await?;
        Ok(())
    }
}

/// Takes back all that an unsealed sync of a source wrote.
pub(crate) async fn take_back(tx: &mut WriteTx, source: &SourceRow) -> Result<()> {
    entities::take_back(tx, source.source_no, source.current_seq).await?;
    grants::take_back(tx, source.source_no, source.current_seq).await?;
    stage::clear(tx, source.source_no).await
}

/// Seals a sync whose process ended too often, in a transaction in which it was taken back.
///
/// # Errors
/// When the database refuses.
pub async fn seal_interrupted(
    shop: &Workshop,
    tx: &mut WriteTx,
    row: &SyncRow,
    source: &SourceRow,
) -> Result<()> {
    let now_ms = shop.clock.now_ms();
    let empty = counterfoil_tlog::sorted_set::SortedSetBuilder::new(40, GRANT_LEAF_LEN)?.finish();
    let started_ms = row.started_ms.unwrap_or(now_ms);
    let seal = Seal {
        complete: false,
        started_ms,
        ended_ms: now_ms.max(started_ms),
        counts: Counts::default(),
        control_totals: None,
        set_root: empty.root.0,
        set_count: 0,
        blob_sha256: empty.blob_sha256.0,
        errors: 1,
        error_messages: vec![format!(
            "the sync was begun {} times and interrupted each time",
            row.attempts
        )],
        partial_reasons: vec![reason::INTERRUPTED.to_owned()],
        changes: ChangeCounts::default(),
    };
    let statement = Statement {
        sync: &row.sync,
        source,
        purpose: row.purpose,
        watermark: None,
    };
    write_seal(shop, tx, &statement, None, &seal).await
}

async fn write_seal(
    shop: &Workshop,
    tx: &mut WriteTx,
    statement: &Statement<'_>,
    seq: Option<i64>,
    seal: &Seal,
) -> Result<()> {
    let payload = payload(statement, seal);
    let mut draft = RecordDraft::new(&payload, ACTOR, seal.ended_ms)
        .subject(payload.sync.clone())
        .subject(payload.source.clone());
    if seal.complete {
        let size = seal.set_count.saturating_mul(GRANT_LEAF_LEN as u64);
        draft = draft.blob(seal.blob_sha256, size, media_type::GRANT_SET);
    }
    let record = shop.outbox.emit(tx, draft).await?;
    let source_no = statement.source.source_no;
    let ids = (&record.record_id, &record.record_hash);
    leases::seal(tx, statement.sync, source_no, seq, seal, ids).await
}

fn payload(statement: &Statement<'_>, seal: &Seal) -> v1::SourceSyncSealed {
    let counts = |read: &ControlTotals, inherited| v1::TypeCounts {
        accounts: read.accounts,
        entitlements: read.entitlements,
        edges: read.edges,
        grants_direct: read.grants,
        grants_inherited: inherited,
    };
    let state = if seal.complete {
        v1::SyncState::Complete
    } else {
        v1::SyncState::Partial
    };
    let watermark = statement.watermark.unwrap_or_default().as_bytes();
    v1::SourceSyncSealed {
        sync: format!("syncs/{}", statement.sync),
        source: format!("sources/{}", statement.source.source),
        mode: v1::SyncMode::Full.into(),
        purpose: i32::try_from(statement.purpose).unwrap_or(0),
        state: state.into(),
        started_ms: seal.started_ms,
        ended_ms: seal.ended_ms,
        watermark_hash: domain_hash(b"counterfoil-watermark/v1", &[watermark]).to_vec(),
        pages: seal.counts.pages,
        counts: Some(counts(&seal.counts.read, seal.counts.inherited)),
        control_totals: seal.control_totals.as_ref().map(|totals| counts(totals, 0)),
        set_root: seal.set_root.to_vec(),
        set_count: seal.set_count,
        errors: seal.errors,
        partial_reasons: seal.partial_reasons.clone(),
        reader_principal: statement.source.reader_principal.clone(),
    }
}
