//! Rows of a tenant, and columns as the model's types. What does not fit is damage, and an error that names the column.

use sqlx::{AnyConnection, Row, any::AnyRow};

use super::From;
use crate::model::right::DecisionAction;

/// Reads the row of a tenant that an id names: `$1` and `$2`.
pub(super) async fn by_id<T>(
    connection: &mut AnyConnection,
    sql: &'static str,
    (tenant, id): (&str, &str),
    read: impl Fn(&AnyRow) -> Result<T, sqlx::Error>,
) -> Result<Option<T>, sqlx::Error> {
    let row = sqlx::query(sql).bind(tenant).bind(id);
    let row = row.fetch_optional(connection).await?;
    row.as_ref().map(read).transpose()
}

/// Reads rows of a tenant, ascending by their ids: `$1` is the tenant, `$2` the id that they come after, `$3` how many at most.
pub(super) async fn page<T>(
    connection: &mut AnyConnection,
    sql: &'static str,
    (tenant, from): (&str, From<'_>),
    read: impl Fn(&AnyRow) -> Result<T, sqlx::Error>,
) -> Result<Vec<T>, sqlx::Error> {
    let rows = sqlx::query(sql).bind(tenant).bind(from.after);
    let rows = rows.bind(from.limit).fetch_all(connection).await?;
    rows.iter().map(read).collect()
}

pub(super) fn text(row: &AnyRow, column: &str) -> Result<String, sqlx::Error> {
    row.try_get(column)
}

pub(super) fn int(row: &AnyRow, column: &str) -> Result<i64, sqlx::Error> {
    row.try_get(column)
}

pub(super) fn optional_int(row: &AnyRow, column: &str) -> Result<Option<i64>, sqlx::Error> {
    row.try_get(column)
}

/// A number that says yes or no.
pub(super) fn flag(row: &AnyRow, column: &str) -> Result<bool, sqlx::Error> {
    Ok(int(row, column)? != 0)
}

pub(super) fn bytes(row: &AnyRow, column: &str) -> Result<Vec<u8>, sqlx::Error> {
    row.try_get(column)
}

pub(super) fn hash(row: &AnyRow, column: &str) -> Result<[u8; 32], sqlx::Error> {
    let bytes = bytes(row, column)?;
    bytes
        .try_into()
        .map_err(|_| damaged(column, "does not have 32 bytes"))
}

pub(super) fn optional_hash(row: &AnyRow, column: &str) -> Result<Option<[u8; 32]>, sqlx::Error> {
    let bytes: Option<Vec<u8>> = row.try_get(column)?;
    let hash = bytes.map(|bytes| bytes.try_into());
    hash.transpose()
        .map_err(|_| damaged(column, "does not have 32 bytes"))
}

/// An enum of the records by its number.
pub(super) fn code<E: TryFrom<i32>>(row: &AnyRow, column: &str) -> Result<E, sqlx::Error> {
    let number = int(row, column)?;
    i32::try_from(number)
        .ok()
        .and_then(|number| E::try_from(number).ok())
        .ok_or_else(|| damaged(column, "is no known code"))
}

/// Ids, separated by commas.
pub(super) fn list(row: &AnyRow, column: &str) -> Result<Vec<String>, sqlx::Error> {
    let text = text(row, column)?;
    let parts = text.split(',').filter(|part| !part.is_empty());
    Ok(parts.map(str::to_owned).collect())
}

/// The actions of a column that [`actions_text`] wrote.
pub(super) fn actions(row: &AnyRow) -> Result<Vec<DecisionAction>, sqlx::Error> {
    let numbers = list(row, "actions")?;
    let actions = numbers.iter().map(|number| {
        let number: Option<i32> = number.parse().ok();
        number
            .and_then(|number| DecisionAction::try_from(number).ok())
            .ok_or_else(|| damaged("actions", "is no known action"))
    });
    actions.collect()
}

/// Actions as a column has them: their numbers.
pub(super) fn actions_text(actions: &[DecisionAction]) -> String {
    let numbers = actions.iter().map(|one| (*one as i32).to_string());
    numbers.collect::<Vec<_>>().join(",")
}

pub(super) fn damaged(column: &str, what: &str) -> sqlx::Error {
    sqlx::Error::ColumnDecode {
        index: column.to_owned(),
        source: what.to_owned().into(),
    }
}
