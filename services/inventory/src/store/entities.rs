//! Writing identities, accounts and entitlements in versions. Reading them is in [`super::listing`].

use counterfoil_chassis::db::{BulkValue, Database, WriteTx, bulk_execute, bulk_insert};
use futures::TryStreamExt;
use sqlx::Row;

use super::bytes;
use crate::{error::Result, model::facts::Id};

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
    tenant: &str,
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
    let mut connection = db.read(tenant).await?;
    let mut rows = sqlx::query(sql).bind(source_no).fetch(connection.conn());
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
    .fetch_all(db.read(tenant).await?.conn())
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
