//! Many rows in one statement: inserts, updates and `IN` lists, the same text for both engines.
//!
//! A template has anonymous `?` for its fixed values and one `{rows}`, which becomes `(?,?),(?,?),...`, or `{list}`, which
//! becomes `?,?,...`. On SQLite they stay anonymous (named parameters are quadratic there), on PostgreSQL they are
//! numbered. Statements are cut to sizes that are powers of two, so that few texts exist and each is prepared once.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, LazyLock, Mutex},
};

use futures::{FutureExt, future::BoxFuture};

use sqlx::{
    Any, AnyConnection, AssertSqlSafe,
    any::{AnyArguments, AnyRow},
    query::Query,
};

use super::{Engine, WriteTx};
use crate::sync::lock;

/// Parameters a statement may have: SQLite allows 32,766, PostgreSQL 65,535.
const PARAMETERS_MAX: usize = 32_000;
/// Rows a statement may have; more gain nothing.
const ROWS_MAX: usize = 1024;
/// Bytes of bound values at which a statement is cut.
const BYTES_MAX: usize = 4 << 20;

/// A value that both engines carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BulkValue {
    /// BIGINT.
    Int(Option<i64>),
    /// BLOB or BYTEA.
    Bytes(Option<Vec<u8>>),
    /// TEXT.
    Text(Option<String>),
}

macro_rules! from_value {
    ($($from:ty => $variant:ident($convert:expr);)*) => {
        $(impl From<$from> for BulkValue {
            fn from(value: $from) -> Self {
                Self::$variant(Some($convert(value)))
            }
        }
        impl From<Option<$from>> for BulkValue {
            fn from(value: Option<$from>) -> Self {
                Self::$variant(value.map($convert))
            }
        })*
    };
}

from_value! {
    i64 => Int(std::convert::identity);
    Vec<u8> => Bytes(std::convert::identity);
    &[u8] => Bytes(<[u8]>::to_vec);
    [u8; 32] => Bytes(|bytes: [u8; 32]| bytes.to_vec());
    [u8; 16] => Bytes(|bytes: [u8; 16]| bytes.to_vec());
    String => Text(std::convert::identity);
    &str => Text(str::to_owned);
}

impl From<i32> for BulkValue {
    fn from(value: i32) -> Self {
        Self::Int(Some(value.into()))
    }
}

impl From<bool> for BulkValue {
    fn from(value: bool) -> Self {
        Self::Int(Some(value.into()))
    }
}

impl BulkValue {
    fn size_bytes(&self) -> usize {
        match self {
            Self::Int(_) => 8,
            Self::Bytes(value) => value.as_ref().map_or(0, Vec::len),
            Self::Text(value) => value.as_ref().map_or(0, String::len),
        }
    }
}

type AnyQuery<'q> = Query<'q, Any, AnyArguments>;

fn bind(query: AnyQuery<'_>, value: BulkValue) -> AnyQuery<'_> {
    match value {
        BulkValue::Int(value) => query.bind(value),
        BulkValue::Bytes(value) => query.bind(value),
        BulkValue::Text(value) => query.bind(value),
    }
}

/// The texts of bulk statements, by template, columns and rows.
#[derive(Debug, Default)]
pub(super) struct StatementCache {
    texts: Mutex<HashMap<(String, usize, usize), Arc<str>>>,
}

impl StatementCache {
    fn text(&self, engine: Engine, template: &str, columns: usize, rows: usize) -> Arc<str> {
        let mut texts = lock(&self.texts);
        let key = (template.to_owned(), columns, rows);
        let text = texts
            .entry(key)
            .or_insert_with(|| expand(engine, template, columns, rows).into());
        Arc::clone(text)
    }
}

/// Writes a template out. `columns` = 0: a list of single values without parentheses.
fn expand(engine: Engine, template: &str, columns: usize, rows: usize) -> String {
    let mut text = String::with_capacity(template.len() + rows * (columns * 6 + 3));
    let mut parameters = 0;
    let mut parameter = |text: &mut String| {
        parameters += 1;
        match engine {
            Engine::Sqlite => text.push('?'),
            Engine::Postgres => {
                text.push('$');
                text.push_str(&parameters.to_string());
            }
        }
    };
    let mut rest = template;
    while let Some(position) = rest.find(['?', '{']) {
        let (before, from) = rest.split_at(position);
        text.push_str(before);
        let marker = ["{rows}", "{list}", "?"]
            .into_iter()
            .find(|marker| from.starts_with(marker));
        match marker {
            Some("?") => parameter(&mut text),
            Some(_) => {
                for row in 0..rows {
                    let open = if columns == 0 { "" } else { "(" };
                    text.push_str(if row == 0 { "" } else { "," });
                    text.push_str(open);
                    for column in 0..columns.max(1) {
                        text.push_str(if column == 0 { "" } else { "," });
                        parameter(&mut text);
                    }
                    text.push_str(if columns == 0 { "" } else { ")" });
                }
            }
            None => text.push('{'),
        }
        rest = &from[marker.map_or(1, str::len)..];
    }
    text.push_str(rest);
    text
}

/// The largest power of two of rows that may go into one statement.
fn statement_rows(pending: usize, columns: usize, fixed: usize) -> usize {
    let fit = (PARAMETERS_MAX - fixed.min(PARAMETERS_MAX - 1)) / columns.max(1);
    let limit = pending.min(ROWS_MAX).min(fit).max(1);
    1 << limit.ilog2()
}

/// Inserts many rows: `bulk_insert(&mut tx, "grants", ["tenant", "grant_key"], "ON CONFLICT DO NOTHING", rows)`.
/// Answers how many rows were inserted or changed. All texts are the program's own, never input.
///
/// # Errors
/// When the database refuses a row; the transaction must then be given up.
pub fn bulk_insert<'t, const N: usize>(
    tx: &'t mut WriteTx,
    table: &'static str,
    columns: [&'static str; N],
    conflict: &'static str,
    rows: impl IntoIterator<Item = [BulkValue; N]>,
) -> BoxFuture<'t, Result<u64, sqlx::Error>> {
    let columns = columns.join(", ");
    let template = format!("INSERT INTO {table} ({columns}) VALUES {{rows}} {conflict}");
    execute_rows(tx, template, Vec::new(), collect(rows), Vec::new()).boxed()
}

/// Runs a template with `{rows}` over many rows, such as
/// `"UPDATE items SET state = v.column2 FROM (VALUES {rows}) AS v WHERE items.tenant = ? AND items.id = v.column1"`.
/// `before` and `after` are the fixed values left and right of `{rows}`. Answers how many rows were changed.
///
/// # Errors
/// When the database refuses; the transaction must then be given up.
pub fn bulk_execute<'t, const N: usize>(
    tx: &'t mut WriteTx,
    template: &'static str,
    before: &[BulkValue],
    rows: impl IntoIterator<Item = [BulkValue; N]>,
    after: &[BulkValue],
) -> BoxFuture<'t, Result<u64, sqlx::Error>> {
    let (before, after) = (before.to_vec(), after.to_vec());
    execute_rows(tx, template.to_owned(), before, collect(rows), after).boxed()
}

/// Rows are taken before the first await: an iterator that borrows would make the caller's future hard to send.
fn collect<const N: usize>(
    rows: impl IntoIterator<Item = [BulkValue; N]>,
) -> VecDeque<[BulkValue; N]> {
    rows.into_iter().collect()
}

async fn execute_rows<const N: usize>(
    tx: &mut WriteTx,
    template: String,
    before: Vec<BulkValue>,
    mut rows: VecDeque<[BulkValue; N]>,
    after: Vec<BulkValue>,
) -> Result<u64, sqlx::Error> {
    let mut changed = 0;
    while !rows.is_empty() {
        let fit = fitting(&rows);
        let count = statement_rows(fit, N, before.len() + after.len());
        let (connection, engine, statements) = tx.parts();
        let text = statements.text(engine, &template, N, count);
        let mut query = sqlx::query(AssertSqlSafe(text));
        for value in &before {
            query = bind(query, value.clone());
        }
        for value in rows.drain(..count).flatten() {
            query = bind(query, value);
        }
        for value in &after {
            query = bind(query, value.clone());
        }
        changed += query.execute(connection).await?.rows_affected();
    }
    Ok(changed)
}

/// How many of the first rows stay within the bounds of one statement, at least one.
fn fitting<const N: usize>(rows: &VecDeque<[BulkValue; N]>) -> usize {
    let mut bytes = 0;
    let fit = rows.iter().take(ROWS_MAX).take_while(|row| {
        bytes += row.iter().map(BulkValue::size_bytes).sum::<usize>();
        bytes <= BYTES_MAX
    });
    fit.count().max(1)
}

/// Reads the rows of many keys: a template such as `"SELECT id, name FROM items WHERE tenant = ? AND id IN ({list})"`, with
/// the values of its `?` in `fixed`. The order of the rows is the database's; what is not there has no row.
///
/// # Errors
/// When the database refuses.
pub fn select_in<'t>(
    connection: &'t mut AnyConnection,
    engine: Engine,
    template: &'static str,
    fixed: &[BulkValue],
    keys: impl IntoIterator<Item = impl Into<BulkValue>>,
) -> BoxFuture<'t, Result<Vec<AnyRow>, sqlx::Error>> {
    let keys = keys.into_iter().map(Into::into).collect();
    select_keys(connection, engine, template, fixed.to_vec(), keys).boxed()
}

async fn select_keys(
    connection: &mut AnyConnection,
    engine: Engine,
    template: &'static str,
    fixed: Vec<BulkValue>,
    mut keys: VecDeque<BulkValue>,
) -> Result<Vec<AnyRow>, sqlx::Error> {
    static STATEMENTS: LazyLock<[StatementCache; 2]> = LazyLock::new(Default::default);
    let cache = match engine {
        Engine::Sqlite => &STATEMENTS[0],
        Engine::Postgres => &STATEMENTS[1],
    };
    let mut found = Vec::new();
    while !keys.is_empty() {
        let count = statement_rows(keys.len(), 1, fixed.len());
        let text = cache.text(engine, template, 0, count);
        let mut query = sqlx::query(AssertSqlSafe(text));
        for value in &fixed {
            query = bind(query, value.clone());
        }
        for key in keys.drain(..count) {
            query = bind(query, key);
        }
        found.extend(query.fetch_all(&mut *connection).await?);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_numbered_for_postgresql_and_anonymous_for_sqlite() {
        let template = "UPDATE t SET a = v.column2 FROM (VALUES {rows}) AS v WHERE t.b = ?";
        assert_eq!(
            expand(Engine::Postgres, template, 2, 2),
            "UPDATE t SET a = v.column2 FROM (VALUES ($1,$2),($3,$4)) AS v WHERE t.b = $5"
        );
        assert_eq!(
            expand(
                Engine::Sqlite,
                "SELECT 1 WHERE a = ? AND b IN ({list})",
                0,
                3
            ),
            "SELECT 1 WHERE a = ? AND b IN (?,?,?)"
        );
    }

    #[test]
    fn few_statement_sizes_exist() {
        assert_eq!(statement_rows(5000, 4, 1), 1024);
        assert_eq!(statement_rows(1000, 4, 1), 512);
        assert_eq!(statement_rows(5000, 100, 0), 256);
        assert_eq!(statement_rows(1, 4, 0), 1);
    }
}
