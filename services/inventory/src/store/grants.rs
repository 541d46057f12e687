//! Grants.

use counterfoil_chassis::db::{
    BulkValue, Database, Engine, WriteTx, bulk_execute, bulk_insert, select_in,
};
use counterfoil_evidence::leaf::{GrantFlags, GrantKey, GrantLeaf, SourceTag};
use prost::Message;
use sqlx::{Row, any::AnyRow};

use super::{
    bytes,
    entities::{AccountRow, EntitlementRow},
    listing::{account, account_columns, entitlement, entitlement_columns, identity_id},
};
use crate::{
    error::{Error, Result},
    model::{diff::Current, facts::Id, sorting::KEY_BYTES},
};

/// What a grant's row holds beside its columns. Never filtered by, so it is one column.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct GrantFacts {
    /// Since when.
    #[prost(sint64, optional, tag = "1")]
    pub granted_ms: Option<i64>,
    /// Until when.
    #[prost(sint64, optional, tag = "2")]
    pub expires_ms: Option<i64>,
    /// What for.
    #[prost(string, tag = "3")]
    pub purpose: String,
    /// Ids of the entitlements through which it follows, 16 bytes each, the one held directly first.
    #[prost(bytes = "vec", tag = "4")]
    pub path: Vec<u8>,
    /// How many entitlements follow from it.
    #[prost(uint32, tag = "5")]
    pub inherited_count: u32,
}

/// A new version of a grant.
#[derive(Debug, Clone)]
pub struct NewGrant {
    /// Key without the source tag.
    pub key: [u8; KEY_BYTES],
    /// Flags as sealed.
    pub flags: u16,
    /// Value as sealed.
    pub value: [u8; 32],
    /// Its account.
    pub account: Id,
    /// Its entitlement.
    pub entitlement: Id,
    /// [`GrantFacts`].
    pub facts: Vec<u8>,
    /// When it was last used.
    pub last_used_ms: Option<i64>,
}

/// A version of a grant: key and first sync.
pub type Version = ([u8; KEY_BYTES], i64);

/// Adds versions that are seen once `seq` is sealed.
///
/// # Errors
/// When the database refuses.
pub async fn add(tx: &mut WriteTx, source_no: i64, seq: i64, grants: Vec<NewGrant>) -> Result<()> {
    let rows = grants.into_iter().map(|new| -> [BulkValue; 9] {
        [
            source_no.into(),
            new.key.into(),
            seq.into(),
            i64::from(new.flags).into(),
            new.value.into(),
            new.account.into(),
            new.entitlement.into(),
            new.facts.into(),
            new.last_used_ms.into(),
        ]
    });
    let columns = [
        "source_no",
        "key",
        "first_seq",
        "flags",
        "value",
        "account",
        "entitlement",
        "facts",
        "last_used_ms",
    ];
    bulk_insert(tx, "grants", columns, "", rows).await?;
    Ok(())
}

/// Ends versions with `seq`: they are seen until that is sealed.
///
/// # Errors
/// When the database refuses.
pub async fn end(
    tx: &mut WriteTx,
    source_no: i64,
    seq: i64,
    versions: impl IntoIterator<Item = Version>,
) -> Result<()> {
    let template = "UPDATE grants SET gone_seq = ? FROM (VALUES {rows}) AS v \
        WHERE grants.key = v.column1 AND grants.first_seq = v.column2 AND grants.source_no = ?";
    let rows = versions
        .into_iter()
        .map(|(key, first_seq)| [key.into(), first_seq.into()]);
    bulk_execute(tx, template, &[seq.into()], rows, &[source_no.into()]).await?;
    Ok(())
}

/// Notes when versions were last used.
///
/// # Errors
/// When the database refuses.
pub async fn note_used(
    tx: &mut WriteTx,
    source_no: i64,
    uses: impl IntoIterator<Item = (Version, Option<i64>)>,
) -> Result<()> {
    let template = "UPDATE grants SET last_used_ms = v.column3 FROM (VALUES {rows}) AS v \
        WHERE grants.key = v.column1 AND grants.first_seq = v.column2 AND grants.source_no = ?";
    let rows = uses
        .into_iter()
        .map(|((key, first_seq), ms)| [key.into(), first_seq.into(), ms.into()]);
    bulk_execute(tx, template, &[], rows, &[source_no.into()]).await?;
    Ok(())
}

/// Takes back what unsealed syncs wrote.
///
/// # Errors
/// When the database refuses.
pub async fn take_back(tx: &mut WriteTx, source_no: i64, current_seq: i64) -> Result<()> {
    for sql in [
        "DELETE FROM grants WHERE source_no = $1 AND first_seq > $2",
        "UPDATE grants SET gone_seq = 9223372036854775807 WHERE source_no = $1 AND gone_seq > $2 \
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

/// Hexadecimal digits of one grant in a page of [`at`]: key, value, first sync, flags, last use.
const DIGITS: usize = 2 * (KEY_BYTES + 32) + 16 + 4 + 16;
const NO_TIME: i64 = i64::MIN;

// A page is one text: a million rows one by one cost several times more than what is done with them.
const PAGE_SQLITE: &str = "SELECT string_agg(hex(key) || hex(value) || printf('%016x%04x%016x', first_seq, flags, \
    coalesce(last_used_ms, -9223372036854775808)), '') FROM (SELECT key, value, first_seq, flags, last_used_ms FROM grants \
    WHERE source_no = $1 AND key > $2 AND first_seq <= $3 AND gone_seq > $3 ORDER BY key LIMIT $4) AS page";
const PAGE_POSTGRES: &str = "SELECT string_agg(encode(key, 'hex') || encode(value, 'hex') || lpad(to_hex(first_seq), 16, '0') \
    || lpad(to_hex(flags), 4, '0') || lpad(to_hex(coalesce(last_used_ms, -9223372036854775808)), 16, '0'), '') \
    FROM (SELECT key, value, first_seq, flags, last_used_ms FROM grants \
    WHERE source_no = $1 AND key > $2 AND first_seq <= $3 AND gone_seq > $3 ORDER BY key LIMIT $4) AS page";

/// What is there at a sync, in order of the keys, as a merge join reads it. `after` is empty at the start.
///
/// # Errors
/// When the database fails.
pub async fn at(
    db: &Database,
    tenant: &str,
    source_no: i64,
    seq: i64,
    after: &[u8],
    limit: i64,
) -> Result<Vec<Current>> {
    let sql = match db.engine() {
        Engine::Sqlite => PAGE_SQLITE,
        Engine::Postgres => PAGE_POSTGRES,
    };
    let page: Option<String> = sqlx::query_scalar(sql)
        .bind(source_no)
        .bind(after.to_vec())
        .bind(seq)
        .bind(limit)
        .fetch_one(db.read(tenant).await?.conn())
        .await?;
    let page = page.unwrap_or_default();
    let mut grants = page
        .as_bytes()
        .chunks(DIGITS)
        .map(|digits| read_current(digits).ok_or(Error::Damaged("grants")))
        .collect::<Result<Vec<_>>>()?;
    // The engines add them up in the order of the rows, but do not promise it.
    grants.sort_unstable_by_key(|grant| grant.key);
    Ok(grants)
}

fn read_current(digits: &[u8]) -> Option<Current> {
    let mut bytes = [0; DIGITS / 2];
    hex::decode_to_slice(digits, &mut bytes).ok()?;
    let (key, rest) = bytes.split_first_chunk::<KEY_BYTES>()?;
    let (value, rest) = rest.split_first_chunk::<32>()?;
    let (first_seq, rest) = rest.split_first_chunk::<8>()?;
    let (flags, rest) = rest.split_first_chunk::<2>()?;
    let used = i64::from_be_bytes(*rest.first_chunk::<8>()?);
    Some(Current {
        key: *key,
        first_seq: i64::from_be_bytes(*first_seq),
        flags: u16::from_be_bytes(*flags),
        value: *value,
        last_used_ms: (used != NO_TIME).then_some(used),
    })
}

pub(super) fn flags(row: &AnyRow) -> Result<u16> {
    u16::try_from(row.try_get::<i64, _>("flags")?).map_err(|_| Error::Damaged("flags"))
}

/// The leaf of a grant.
#[must_use]
pub fn leaf(tag: SourceTag, current: &Current) -> GrantLeaf {
    GrantLeaf {
        key: full_key(tag, &current.key),
        flags: GrantFlags(current.flags),
        value: current.value,
    }
}

/// A key with its source tag.
#[must_use]
pub fn full_key(tag: SourceTag, key: &[u8; KEY_BYTES]) -> GrantKey {
    let mut full = [0; 40];
    full[..8].copy_from_slice(&tag.0);
    full[8..].copy_from_slice(key);
    GrantKey(full)
}

/// A grant with what is around it.
#[derive(Debug, Clone, PartialEq)]
pub struct ListedGrant {
    /// Key, flags, value and last use.
    pub grant: Current,
    /// Times, path, purpose, breadth.
    pub facts: GrantFacts,
    /// Id of its account.
    pub account_id: Id,
    /// Its account.
    pub account: AccountRow,
    /// Id of the account's identity.
    pub identity: Option<Id>,
    /// Id of its entitlement.
    pub entitlement_id: Id,
    /// Its entitlement.
    pub entitlement: EntitlementRow,
}

fn listed(row: &AnyRow) -> Result<ListedGrant> {
    let facts: Vec<u8> = row.try_get("facts")?;
    Ok(ListedGrant {
        grant: Current {
            key: bytes(row, "key")?,
            first_seq: row.try_get("first_seq")?,
            flags: flags(row)?,
            value: bytes(row, "value")?,
            last_used_ms: row.try_get("last_used_ms_of_grant")?,
        },
        facts: GrantFacts::decode(facts.as_slice()).map_err(|_| Error::Damaged("facts"))?,
        account_id: bytes(row, "account")?,
        account: account(row)?,
        identity: identity_id(row)?,
        entitlement_id: bytes(row, "entitlement")?,
        entitlement: entitlement(row)?,
    })
}

/// Which part of a source's grants.
#[derive(Debug, Clone, Copy)]
pub struct Slice<'a> {
    /// Number of the source.
    pub source_no: i64,
    /// At which sync.
    pub seq: i64,
    /// Only with all of these flags.
    pub flags: GrantFlags,
    /// After this key; empty at the start.
    pub after: &'a [u8],
    /// At most so many.
    pub limit: i64,
}

macro_rules! grant_columns {
    () => {
        concat!(
            "g.key, g.first_seq, g.flags, g.value, g.account, g.entitlement, g.facts, \
             g.last_used_ms AS last_used_ms_of_grant, ",
            account_columns!(),
            ", ",
            entitlement_columns!()
        )
    };
}

/// What is there at a sync, in order of the keys, with accounts and entitlements as they were at that sync.
///
/// # Errors
/// When the database fails.
pub async fn list(db: &Database, tenant: &str, slice: Slice<'_>) -> Result<Vec<ListedGrant>> {
    let rows = sqlx::query(concat!(
        "SELECT ",
        grant_columns!(),
        " FROM (SELECT key, first_seq, flags, value, account, entitlement, facts, last_used_ms FROM grants \
         WHERE source_no = $1 AND key > $2 AND first_seq <= $3 AND gone_seq > $3 AND (flags & $4) = $4 \
         ORDER BY key LIMIT $5) g \
         JOIN accounts a ON a.tenant = $6 AND a.account = g.account AND a.first_seq <= $3 AND a.gone_seq > $3 \
         JOIN entitlements e ON e.tenant = $6 AND e.entitlement = g.entitlement AND e.first_seq <= $3 AND e.gone_seq > $3 \
         LEFT JOIN identities i ON i.tenant = $6 AND i.identity_key = a.identity_key ORDER BY g.key"
    ))
    .bind(slice.source_no)
    .bind(slice.after.to_vec())
    .bind(slice.seq)
    .bind(i64::from(slice.flags.0))
    .bind(slice.limit)
    .bind(tenant)
    .fetch_all(db.read(tenant).await?.conn())
    .await?;
    rows.iter().map(listed).collect()
}

/// Grants of a source by key at a sync; what is not there has no row.
///
/// # Errors
/// When the database fails.
pub async fn by_keys(
    db: &Database,
    tenant: &str,
    source_no: i64,
    seq: i64,
    keys: impl IntoIterator<Item = [u8; KEY_BYTES]>,
) -> Result<Vec<ListedGrant>> {
    let template = concat!(
        "SELECT ",
        grant_columns!(),
        " FROM grants g \
         JOIN accounts a ON a.tenant = ? AND a.account = g.account AND a.first_seq <= ? AND a.gone_seq > ? \
         JOIN entitlements e ON e.tenant = ? AND e.entitlement = g.entitlement AND e.first_seq <= ? AND e.gone_seq > ? \
         LEFT JOIN identities i ON i.tenant = ? AND i.identity_key = a.identity_key \
         WHERE g.source_no = ? AND g.first_seq <= ? AND g.gone_seq > ? AND g.key IN ({list})"
    );
    let (own, seq) = (BulkValue::from(tenant), BulkValue::from(seq));
    let fixed = [
        own.clone(),
        seq.clone(),
        seq.clone(),
        own.clone(),
        seq.clone(),
        seq.clone(),
        own,
        source_no.into(),
        seq.clone(),
        seq,
    ];
    let mut connection = db.read(tenant).await?;
    let rows = select_in(&mut connection, db.engine(), template, &fixed, keys).await?;
    rows.iter().map(listed).collect()
}
