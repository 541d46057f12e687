//! Stored rows as the API shows them.

use counterfoil_chassis::clock::timestamp;
use counterfoil_connectors::ControlTotals;
use counterfoil_evidence::leaf::{GrantFlags, SourceTag};
use counterfoil_proto::{common::Receipt, inventory as proto};
use prost_types::Timestamp;

use super::names;
use crate::{
    model::facts::{Id, flag_names},
    store::{
        entities::{AccountRow, EntitlementRow},
        grants::{self, ListedGrant},
        snapshots::{SnapshotRow, SourceStanding},
        sources::SourceRow,
        syncs::{State, SyncRow},
    },
};

pub(super) fn time(ms: Option<i64>) -> Option<Timestamp> {
    ms.map(timestamp)
}

pub(super) fn source(row: &SourceRow) -> proto::Source {
    let tenant = &row.tenant;
    let sync = |id: &Option<String>| id.as_ref().map(|id| names::sync(tenant, id));
    proto::Source {
        name: names::source(tenant, &row.source),
        display_name: row.display_name.clone(),
        kind: row.kind.clone(),
        config_json: String::new(),
        reader_principal: row.reader_principal.clone(),
        writer_principal: row.writer_principal.clone(),
        latest_sync: sync(&row.current_sync).unwrap_or_default(),
        latest_sync_time: time(row.current_ended_ms),
        source_tag: row.tag.0.to_vec(),
        last_attempted_sync: sync(&row.last_attempted_sync).unwrap_or_default(),
        environment: row.environment.clone(),
        tier: row.tier.clone(),
    }
}

fn totals(totals: &ControlTotals, inherited: u64) -> proto::TypeCounts {
    proto::TypeCounts {
        accounts: totals.accounts,
        entitlements: totals.entitlements,
        edges: totals.edges,
        grants_direct: totals.grants,
        grants_inherited: inherited,
    }
}

pub(super) fn sync(row: &SyncRow, receipt: Option<Receipt>) -> proto::Sync {
    let state = match row.state {
        State::Waiting | State::Running => proto::SyncState::Running,
        State::Complete => proto::SyncState::Complete,
        State::Partial => proto::SyncState::Partial,
    };
    proto::Sync {
        name: names::sync(&row.tenant, &row.sync),
        source: names::source(&row.tenant, &row.source),
        purpose: i32::try_from(row.purpose).unwrap_or(0),
        state: state.into(),
        start_time: time(row.started_ms),
        end_time: time(row.ended_ms),
        counts: Some(totals(&row.counts.read, row.counts.inherited)),
        control_totals: row.control_totals.as_ref().map(|stated| totals(stated, 0)),
        set_root: row.set_root.map(Vec::from).unwrap_or_default(),
        set_count: row.set_count,
        errors: row.errors,
        error_messages: row.error_messages.clone(),
        partial_reasons: row.partial_reasons.clone(),
        record_hash: row.record_hash.map(Vec::from).unwrap_or_default(),
        receipt,
    }
}

pub(super) fn snapshot(
    tenant: &str,
    row: &SnapshotRow,
    receipt: Option<Receipt>,
) -> proto::Snapshot {
    let mut sources = Vec::new();
    let mut missing_sources = Vec::new();
    for one in &row.sources {
        let (source, source_tag) = (names::source(tenant, &one.source), one.tag.0.to_vec());
        match &one.standing {
            SourceStanding::Sealed(sealed) => sources.push(proto::SnapshotSource {
                source,
                source_tag,
                sync: names::sync(tenant, &sealed.sync),
                sync_record_hash: sealed.record_hash.to_vec(),
                set_root: sealed.set_root.to_vec(),
                set_count: sealed.set_count,
                sync_time: Some(timestamp(sealed.ended_ms)),
            }),
            SourceStanding::Missing(reason) => missing_sources.push(proto::MissingSource {
                source,
                source_tag,
                reason: reason.clone(),
            }),
        }
    }
    proto::Snapshot {
        name: names::snapshot(tenant, &row.snapshot),
        sources,
        missing_sources,
        snapshot_root: row.snapshot_root.to_vec(),
        grant_count: row.grant_count,
        record_hash: row.record_hash.to_vec(),
        create_time: Some(timestamp(row.created_ms)),
        receipt,
    }
}

pub(super) fn account(
    tenant: &str,
    source: &str,
    id: &Id,
    identity: Option<&Id>,
    row: AccountRow,
) -> proto::Account {
    proto::Account {
        name: names::account(tenant, id),
        source: names::source(tenant, source),
        native_id: row.native_id,
        display_name: row.display_name,
        identity: identity.map_or_else(String::new, |identity| names::identity(tenant, identity)),
        identity_class: i32::try_from(row.identity_class).unwrap_or(0),
        enabled: row.enabled,
        owner_key: row.owner_key.unwrap_or_default(),
        last_seen_time: time(row.last_seen_ms),
        expire_time: time(row.expires_ms),
        purpose: row.purpose.unwrap_or_default(),
    }
}

pub(super) fn entitlement(
    tenant: &str,
    source: &str,
    id: &Id,
    row: EntitlementRow,
) -> proto::Entitlement {
    proto::Entitlement {
        name: names::entitlement(tenant, id),
        source: names::source(tenant, source),
        native_id: row.native_id,
        display_name: row.display_name,
        kind: row.kind,
        privileged: row.privileged,
        owner_key: row.owner_key.unwrap_or_default(),
        purpose: row.purpose.unwrap_or_default(),
    }
}

/// Where a grant was observed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) tenant: &'a str,
    pub(super) source: &'a str,
    pub(super) tag: SourceTag,
    pub(super) observed_ms: Option<i64>,
}

pub(super) fn grant(place: Place<'_>, row: ListedGrant) -> proto::Grant {
    let Place { tenant, source, .. } = place;
    let leaf = grants::leaf(place.tag, &row.grant);
    let steps = row.facts.path.chunks_exact(16);
    let path = steps
        .filter_map(|step| <&Id>::try_from(step).ok())
        .map(|step| names::entitlement(tenant, step));
    proto::Grant {
        name: names::grant(tenant, &leaf.key),
        leaf: leaf.to_bytes().to_vec(),
        path: path.collect(),
        identity_key: row.account.identity_key.clone().unwrap_or_default(),
        grant_time: time(row.facts.granted_ms),
        expire_time: time(row.facts.expires_ms),
        last_used_time: time(row.grant.last_used_ms),
        purpose: row.facts.purpose,
        inherited_count: row.facts.inherited_count,
        flags: flag_names(leaf.flags),
        identity_ended: leaf.flags.contains(GrantFlags::IDENTITY_ENDED),
        observed_time: time(place.observed_ms),
        account: Some(account(
            tenant,
            source,
            &row.account_id,
            row.identity.as_ref(),
            row.account,
        )),
        entitlement: Some(entitlement(
            tenant,
            source,
            &row.entitlement_id,
            row.entitlement,
        )),
    }
}
