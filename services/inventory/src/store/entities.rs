//! Identities, accounts and entitlements.

use std::collections::BTreeMap;

use counterfoil_chassis::db::{BulkValue, Database, WriteTx, bulk_execute, bulk_insert, select_in};
use futures::TryStreamExt;
use sqlx::{Row, any::AnyRow};

use super::bytes;
use crate::{
    error::{Error, Result},
    model::facts::Id,
};

/// A version of an account or entitlement that a sync found in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Its opaque id.
    pub id: Id,
    /// Id in the source.
    pub native_id: String,
    /// Since which sync.
    pub first_seq: i64,
    /// Before which sync it went; [`super::STILL_THERE`].
    pub gone_seq: i64,
    /// Over its facts.
    pub digest: [u8; 32],
    /// When it was last seen; accounts only.
    pub last_seen_ms: Option<i64>,
}

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Accounts.
    Account,
    /// Entitlements.
    Entitlement,
}

/// Hands all versions of a source's accounts or entitlements to `take`, older ones first.
///
/// # Errors
/// When the database fails.
pub async fn known(
    db: &Database,
    kind: Kind,
    source_no: i64,
    mut take: impl FnMut(Known),
) -> Result<()> {
    let sql = match kind {
        Kind::Account => {
            "SELECT account AS id, native_id, first_seq, gone_seq, digest, last_seen_ms FROM accounts \
             WHERE source_no = $1 ORDER BY first_seq"
        }
        Kind::Entitlement => {
            "SELECT entitlement AS id, native_id, first_seq, gone_seq, digest, CAST(NULL AS BIGINT) AS last_seen_ms \
             FROM entitlements WHERE source_no = $1 ORDER BY first_seq"
        }
    };
    let mut rows = sqlx::query(sql).bind(source_no).fetch(db.reader());
    while let Some(row) = rows.try_next().await? {
        take(Known {
            id: bytes(&row, "id")?,
            native_id: row.try_get("native_id")?,
            first_seq: row.try_get("first_seq")?,
            gone_seq: row.try_get("gone_seq")?,
            digest: bytes(&row, "digest")?,
            last_seen_ms: row.try_get("last_seen_ms")?,
        });
    }
    Ok(())
}

/// Keys of the identities that other sources of the tenant say have ended.
///
/// # Errors
/// When the database fails.
pub async fn ended_elsewhere(db: &Database, tenant: &str, source_no: i64) -> Result<Vec<String>> {
    let rows = sqlx::query(
        "SELECT DISTINCT a.identity_key FROM accounts a JOIN sources s ON s.source_no = a.source_no \
         WHERE a.tenant = $1 AND a.source_no <> $2 AND a.identity_key IS NOT NULL \
         AND a.lifecycle IN ('deprecated', 'archived') AND a.first_seq <= s.current_seq AND a.gone_seq > s.current_seq",
    )
    .bind(tenant)
    .bind(source_no)
    .fetch_all(db.reader())
    .await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// Gives ids to identity keys that have none.
///
/// # Errors
/// When the database refuses.
pub async fn add_identities(
    tx: &mut WriteTx,
    identities: impl IntoIterator<Item = (String, Id)>,
) -> Result<()> {
    let tenant = tx.tenant().to_owned();
    let rows = identities
        .into_iter()
        .map(|(key, id)| [tenant.as_str().into(), key.into(), id.into()]);
    let columns = ["tenant", "identity_key", "identity"];
    bulk_insert(tx, "identities", columns, "ON CONFLICT DO NOTHING", rows).await?;
    Ok(())
}

/// A new version of an account.
#[derive(Debug, Clone)]
pub struct NewAccount {
    /// Its opaque id.
    pub id: Id,
    /// Its facts.
    pub account: AccountRow,
    /// Over its facts.
    pub digest: [u8; 32],
}

/// An account as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountRow {
    /// Id in the source.
    pub native_id: String,
    /// Name shown to people.
    pub display_name: String,
    /// Key of its identity.
    pub identity_key: Option<String>,
    /// Class of its identity, as the API numbers it.
    pub identity_class: i64,
    /// Whether the source lets it sign in.
    pub enabled: bool,
    /// Life of its identity; empty when the source does not say.
    pub lifecycle: String,
    /// Key of the owner that counts.
    pub owner_key: Option<String>,
    /// When it ends by itself.
    pub expires_ms: Option<i64>,
    /// What it is for.
    pub purpose: Option<String>,
    /// When it was last seen.
    pub last_seen_ms: Option<i64>,
}

/// An entitlement as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntitlementRow {
    /// Id in the source.
    pub native_id: String,
    /// Name shown to people.
    pub display_name: String,
    /// Kind as the source has it.
    pub kind: String,
    /// Whether it gives privileged access.
    pub privileged: bool,
    /// Key of the owner that counts.
    pub owner_key: Option<String>,
    /// What it is for.
    pub purpose: Option<String>,
}

/// A new version of an entitlement.
#[derive(Debug, Clone)]
pub struct NewEntitlement {
    /// Its opaque id.
    pub id: Id,
    /// Its facts.
    pub entitlement: EntitlementRow,
    /// Over its facts.
    pub digest: [u8; 32],
}

/// Adds versions of accounts that are seen once `seq` is sealed.
///
/// # Errors
/// When the database refuses.
pub async fn add_accounts(
    tx: &mut WriteTx,
    source_no: i64,
    seq: i64,
    accounts: Vec<NewAccount>,
) -> Result<()> {
    let tenant = tx.tenant().to_owned();
    let rows = accounts.into_iter().map(|new| -> [BulkValue; 15] {
        let account = new.account;
        [
            tenant.as_str().into(),
            new.id.into(),
            seq.into(),
            source_no.into(),
            account.native_id.into(),
            account.display_name.into(),
            account.identity_key.into(),
            account.identity_class.into(),
            account.enabled.into(),
            account.lifecycle.into(),
            account.owner_key.into(),
            account.expires_ms.into(),
            account.purpose.into(),
            new.digest.into(),
            account.last_seen_ms.into(),
        ]
    });
    let columns = [
        "tenant",
        "account",
        "first_seq",
        "source_no",
        "native_id",
        "display_name",
        "identity_key",
        "identity_class",
        "enabled",
        "lifecycle",
        "owner_key",
        "expires_ms",
        "purpose",
        "digest",
        "last_seen_ms",
    ];
    bulk_insert(tx, "accounts", columns, "", rows).await?;
    Ok(())
}

/// Adds versions of entitlements that are seen once `seq` is sealed.
///
/// # Errors
/// When the database refuses.
pub async fn add_entitlements(
    tx: &mut WriteTx,
    source_no: i64,
    seq: i64,
    entitlements: Vec<NewEntitlement>,
) -> Result<()> {
    let tenant = tx.tenant().to_owned();
    let rows = entitlements.into_iter().map(|new| -> [BulkValue; 11] {
        let entitlement = new.entitlement;
        [
            tenant.as_str().into(),
            new.id.into(),
            seq.into(),
            source_no.into(),
            entitlement.native_id.into(),
            entitlement.display_name.into(),
            entitlement.kind.into(),
            entitlement.privileged.into(),
            entitlement.owner_key.into(),
            entitlement.purpose.into(),
            new.digest.into(),
        ]
    });
    let columns = [
        "tenant",
        "entitlement",
        "first_seq",
        "source_no",
        "native_id",
        "display_name",
        "kind",
        "privileged",
        "owner_key",
        "purpose",
        "digest",
    ];
    bulk_insert(tx, "entitlements", columns, "", rows).await?;
    Ok(())
}

/// Ends versions, given by id and first sync, with `seq`: they are seen until that is sealed.
///
/// # Errors
/// When the database refuses.
pub async fn end(
    tx: &mut WriteTx,
    kind: Kind,
    seq: i64,
    versions: impl IntoIterator<Item = (Id, i64)>,
) -> Result<()> {
    let template = match kind {
        Kind::Account => {
            "UPDATE accounts SET gone_seq = ? FROM (VALUES {rows}) AS v \
             WHERE accounts.account = v.column1 AND accounts.first_seq = v.column2 AND accounts.tenant = ?"
        }
        Kind::Entitlement => {
            "UPDATE entitlements SET gone_seq = ? FROM (VALUES {rows}) AS v \
             WHERE entitlements.entitlement = v.column1 AND entitlements.first_seq = v.column2 AND entitlements.tenant = ?"
        }
    };
    let tenant = BulkValue::from(tx.tenant());
    let rows = versions
        .into_iter()
        .map(|(id, first_seq)| [id.into(), first_seq.into()]);
    bulk_execute(tx, template, &[seq.into()], rows, &[tenant]).await?;
    Ok(())
}

/// Notes when accounts were last seen, in the versions that are there.
///
/// # Errors
/// When the database refuses.
pub async fn note_seen(
    tx: &mut WriteTx,
    seen: impl IntoIterator<Item = (Id, i64, Option<i64>)>,
) -> Result<()> {
    let tenant = BulkValue::from(tx.tenant());
    let rows = seen
        .into_iter()
        .map(|(id, first_seq, ms)| [id.into(), first_seq.into(), ms.into()]);
    let template = "UPDATE accounts SET last_seen_ms = v.column3 FROM (VALUES {rows}) AS v \
        WHERE accounts.account = v.column1 AND accounts.first_seq = v.column2 AND accounts.tenant = ?";
    bulk_execute(tx, template, &[], rows, &[tenant]).await?;
    Ok(())
}

/// Takes back what unsealed syncs wrote: versions above `current_seq` go, ends above it are undone.
///
/// # Errors
/// When the database refuses.
pub async fn take_back(tx: &mut WriteTx, source_no: i64, current_seq: i64) -> Result<()> {
    for sql in [
        "DELETE FROM accounts WHERE source_no = $1 AND first_seq > $2",
        "UPDATE accounts SET gone_seq = 9223372036854775807 WHERE source_no = $1 AND gone_seq > $2 \
         AND gone_seq < 9223372036854775807",
        "DELETE FROM entitlements WHERE source_no = $1 AND first_seq > $2",
        "UPDATE entitlements SET gone_seq = 9223372036854775807 WHERE source_no = $1 AND gone_seq > $2 \
         AND gone_seq < 9223372036854775807",
    ] {
        sqlx::query(sql)
            .bind(source_no)
            .bind(current_seq)
            .execute(tx.conn())
            .await?;
    }
    Ok(())
}

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
    .fetch_all(db.reader())
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
    .fetch_all(db.reader())
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

/// Whether an account or entitlement of the current inventory has this id.
///
/// # Errors
/// When the database fails.
pub async fn is_there(tx: &mut WriteTx, kind: Kind, id: &Id) -> Result<bool> {
    let sql = match kind {
        Kind::Account => {
            "SELECT 1 FROM accounts x JOIN sources s ON s.source_no = x.source_no WHERE x.tenant = $1 AND x.account = $2 \
             AND x.first_seq <= s.current_seq AND x.gone_seq > s.current_seq"
        }
        Kind::Entitlement => {
            "SELECT 1 FROM entitlements x JOIN sources s ON s.source_no = x.source_no WHERE x.tenant = $1 \
             AND x.entitlement = $2 AND x.first_seq <= s.current_seq AND x.gone_seq > s.current_seq"
        }
    };
    let tenant = tx.tenant().to_owned();
    let row = sqlx::query(sql)
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
    .fetch_all(db.reader())
    .await?;
    let mut identities = Vec::with_capacity(rows.len());
    for row in &rows {
        identities.push(ListedIdentity {
            id: bytes(row, "identity")?,
            identity_key: row.try_get("identity_key")?,
            accounts: Vec::new(),
        });
    }
    let mut connection = db.reader().acquire().await?;
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
