//! Reading identities, accounts and entitlements as the current syncs of their sources show them.

use std::collections::BTreeMap;

use counterfoil_chassis::db::{Database, WriteTx, select_in};
use sqlx::{Row, any::AnyRow};

use super::{
    bytes,
    entities::{AccountRow, EntitlementRow, Kind},
};
use crate::{
    error::{Error, Result},
    model::facts::Id,
};

/// An account as listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedAccount {
    /// Its opaque id.
    pub id: Id,
    /// Id of its source.
    pub source: String,
    /// Opaque id of its identity.
    pub identity: Option<Id>,
    /// Its facts.
    pub account: AccountRow,
}

/// An entitlement as listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedEntitlement {
    /// Its opaque id.
    pub id: Id,
    /// Id of its source.
    pub source: String,
    /// Its facts.
    pub entitlement: EntitlementRow,
}

pub(super) fn account(row: &AnyRow) -> Result<AccountRow> {
    Ok(AccountRow {
        native_id: row.try_get("a_native_id")?,
        display_name: row.try_get("a_display_name")?,
        identity_key: row.try_get("identity_key")?,
        identity_class: row.try_get("identity_class")?,
        enabled: row.try_get::<i64, _>("enabled")? != 0,
        lifecycle: row.try_get("lifecycle")?,
        owner_key: row.try_get("a_owner_key")?,
        expires_ms: row.try_get("a_expires_ms")?,
        purpose: row.try_get("a_purpose")?,
        last_seen_ms: row.try_get("last_seen_ms")?,
    })
}

pub(super) fn entitlement(row: &AnyRow) -> Result<EntitlementRow> {
    Ok(EntitlementRow {
        native_id: row.try_get("e_native_id")?,
        display_name: row.try_get("e_display_name")?,
        kind: row.try_get("kind")?,
        privileged: row.try_get::<i64, _>("privileged")? != 0,
        owner_key: row.try_get("e_owner_key")?,
        purpose: row.try_get("e_purpose")?,
    })
}

pub(super) fn identity_id(row: &AnyRow) -> Result<Option<Id>> {
    super::optional_bytes(row, "identity")
}

macro_rules! account_columns {
    () => {
        "a.native_id AS a_native_id, a.display_name AS a_display_name, a.identity_key, a.identity_class, a.enabled, \
         a.lifecycle, a.owner_key AS a_owner_key, a.expires_ms AS a_expires_ms, a.purpose AS a_purpose, a.last_seen_ms, \
         i.identity"
    };
}
macro_rules! entitlement_columns {
    () => {
        "e.native_id AS e_native_id, e.display_name AS e_display_name, e.kind, e.privileged, \
         e.owner_key AS e_owner_key, e.purpose AS e_purpose"
    };
}
pub(super) use account_columns;
pub(super) use entitlement_columns;

/// A page of the current accounts, ascending by id. `source_no` 0 means all sources.
///
/// # Errors
/// When the database fails.
pub async fn list_accounts(
    db: &Database,
    tenant: &str,
    source_no: i64,
    orphaned: bool,
    after: &[u8],
    limit: i64,
) -> Result<Vec<ListedAccount>> {
    let rows = sqlx::query(concat!(
        "SELECT a.account AS id, s.source, ",
        account_columns!(),
        " FROM accounts a JOIN sources s ON s.source_no = a.source_no \
         LEFT JOIN identities i ON i.tenant = a.tenant AND i.identity_key = a.identity_key \
         WHERE a.tenant = $1 AND a.account > $2 AND a.first_seq <= s.current_seq AND a.gone_seq > s.current_seq \
         AND (CAST($3 AS BIGINT) = 0 OR a.source_no = CAST($3 AS BIGINT)) \
         AND (CAST($4 AS BIGINT) = 0 OR a.identity_key IS NULL) ORDER BY a.account LIMIT $5"
    ))
    .bind(tenant)
    .bind(after.to_vec())
    .bind(source_no)
    .bind(i64::from(orphaned))
    .bind(limit)
    .fetch_all(db.read(tenant).await?.conn())
    .await?;
    let listed = |row: &AnyRow| {
        Ok(ListedAccount {
            id: bytes(row, "id")?,
            source: row.try_get("source")?,
            identity: identity_id(row)?,
            account: account(row)?,
        })
    };
    rows.iter().map(listed).collect()
}

/// A page of the current entitlements, ascending by id. `source_no` 0 means all sources.
///
/// # Errors
/// When the database fails.
pub async fn list_entitlements(
    db: &Database,
    tenant: &str,
    source_no: i64,
    ownerless: bool,
    after: &[u8],
    limit: i64,
) -> Result<Vec<ListedEntitlement>> {
    let rows = sqlx::query(concat!(
        "SELECT e.entitlement AS id, s.source, ",
        entitlement_columns!(),
        " FROM entitlements e JOIN sources s ON s.source_no = e.source_no \
         WHERE e.tenant = $1 AND e.entitlement > $2 AND e.first_seq <= s.current_seq AND e.gone_seq > s.current_seq \
         AND (CAST($3 AS BIGINT) = 0 OR e.source_no = CAST($3 AS BIGINT)) \
         AND (CAST($4 AS BIGINT) = 0 OR e.owner_key IS NULL) ORDER BY e.entitlement LIMIT $5"
    ))
    .bind(tenant)
    .bind(after.to_vec())
    .bind(source_no)
    .bind(i64::from(ownerless))
    .bind(limit)
    .fetch_all(db.read(tenant).await?.conn())
    .await?;
    let listed = |row: &AnyRow| {
        Ok(ListedEntitlement {
            id: bytes(row, "id")?,
            source: row.try_get("source")?,
            entitlement: entitlement(row)?,
        })
    };
    rows.iter().map(listed).collect()
}

/// Finds an account or entitlement of the current inventory by tenant and id, and says where its source lies.
const fn environment_sql(kind: Kind) -> &'static str {
    match kind {
        Kind::Account => {
            "SELECT s.environment FROM accounts x JOIN sources s ON s.source_no = x.source_no WHERE x.tenant = $1 AND x.account = $2 \
             AND x.first_seq <= s.current_seq AND x.gone_seq > s.current_seq"
        }
        Kind::Entitlement => {
            "SELECT s.environment FROM entitlements x JOIN sources s ON s.source_no = x.source_no WHERE x.tenant = $1 \
             AND x.entitlement = $2 AND x.first_seq <= s.current_seq AND x.gone_seq > s.current_seq"
        }
    }
}

/// The environment of the source that has an account or entitlement now; empty: none was named. `None`: no source has it.
///
/// # Errors
/// When the database fails.
pub async fn environment(
    db: &Database,
    tenant: &str,
    kind: Kind,
    id: &Id,
) -> Result<Option<String>> {
    let row = sqlx::query(environment_sql(kind))
        .bind(tenant)
        .bind(id.to_vec())
        .fetch_optional(db.read(tenant).await?.conn())
        .await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}

/// Whether an account or entitlement of the current inventory has this id.
///
/// # Errors
/// When the database fails.
pub async fn is_there(tx: &mut WriteTx, kind: Kind, id: &Id) -> Result<bool> {
    let tenant = tx.tenant().to_owned();
    let row = sqlx::query(environment_sql(kind))
        .bind(tenant)
        .bind(id.to_vec())
        .fetch_optional(tx.conn())
        .await?;
    Ok(row.is_some())
}

/// An identity with its current accounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedIdentity {
    /// Its opaque id.
    pub id: Id,
    /// Key by which sources know it.
    pub identity_key: String,
    /// Its accounts, ordered by id.
    pub accounts: Vec<AccountRow>,
}

/// A page of the identities that have an account, ascending by id, with their accounts in one more statement.
///
/// # Errors
/// When the database fails.
pub async fn list_identities(
    db: &Database,
    tenant: &str,
    after: &[u8],
    limit: i64,
) -> Result<Vec<ListedIdentity>> {
    let rows = sqlx::query(
        "SELECT i.identity, i.identity_key FROM identities i WHERE i.tenant = $1 AND i.identity > $2 AND EXISTS \
         (SELECT 1 FROM accounts a JOIN sources s ON s.source_no = a.source_no WHERE a.tenant = i.tenant \
         AND a.identity_key = i.identity_key AND a.first_seq <= s.current_seq AND a.gone_seq > s.current_seq) \
         ORDER BY i.identity LIMIT $3",
    )
    .bind(tenant)
    .bind(after.to_vec())
    .bind(limit)
    .fetch_all(db.read(tenant).await?.conn())
    .await?;
    let mut identities = Vec::with_capacity(rows.len());
    for row in &rows {
        identities.push(ListedIdentity {
            id: bytes(row, "identity")?,
            identity_key: row.try_get("identity_key")?,
            accounts: Vec::new(),
        });
    }
    let mut connection = db.read(tenant).await?;
    let template = concat!(
        "SELECT a.account AS id, ",
        account_columns!(),
        " FROM accounts a JOIN sources s ON s.source_no = a.source_no \
         LEFT JOIN identities i ON i.tenant = a.tenant AND i.identity_key = a.identity_key \
         WHERE a.tenant = ? AND a.first_seq <= s.current_seq AND a.gone_seq > s.current_seq \
         AND a.identity_key IN ({list})"
    );
    let keys = identities.iter().map(|one| one.identity_key.as_str());
    let rows = select_in(
        &mut connection,
        db.engine(),
        template,
        &[tenant.into()],
        keys,
    )
    .await?;
    let mut accounts: BTreeMap<String, BTreeMap<Id, AccountRow>> = BTreeMap::new();
    for row in &rows {
        let found = account(row)?;
        let key = found
            .identity_key
            .clone()
            .ok_or(Error::Damaged("identity_key"))?;
        accounts
            .entry(key)
            .or_default()
            .insert(bytes(row, "id")?, found);
    }
    for identity in &mut identities {
        let found = accounts.remove(&identity.identity_key).unwrap_or_default();
        identity.accounts = found.into_values().collect();
    }
    Ok(identities)
}
