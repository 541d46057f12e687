//! Finding entries by what they are about: in full bundles by their labels, in the growing one by reading it.
//!
//! Labels are committed with the entry that fills a bundle, so below the last full bundle of a head that was read they are complete.

use std::collections::BTreeMap;
use std::ops::Range;

use counterfoil_tlog::tile::TILE_WIDTH;
use sqlx::AssertSqlSafe;
use sqlx::any::AnyRow;

use super::{Store, get, number, to_db};
use crate::labels::{BUNDLE, Label, Labels};
use crate::model::{LogInfo, StoredEntry, TypeCount};
use crate::{EngineError, LogId};

/// Entries read in one statement.
const AT_ONCE: usize = 500;

/// Bundles whose places are read in one statement.
const BUNDLES_AT_ONCE: i64 = 64;

impl Store {
    /// At most `limit` entries of a range that have all of these labels, in order of the log. The first label is searched by.
    pub(crate) async fn labelled(
        &self,
        log: &LogInfo,
        labels: &[Label<'_>],
        range: Range<u64>,
        limit: u32,
    ) -> Result<Vec<StoredEntry>, EngineError> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let full = self.in_full_bundles(log.id).await?;
        let mut page = Vec::new();
        let mut next = range.start;
        while let Some(first) = labels.first()
            && page.len() < limit
        {
            let part = next..range.end.min(full);
            let places = self.places(log.id, *first, part).await?;
            let Some(last) = places.last() else { break };
            next = last + 1;
            for places in places.chunks(limit.min(AT_ONCE)) {
                let found = self.at(log, places).await?;
                take(log, labels, found, &mut page)?;
                if page.len() >= limit {
                    break;
                }
            }
        }
        next = range.start.max(full);
        while page.len() < limit {
            let found = self
                .entries(log, next..range.end, u32::from(TILE_WIDTH))
                .await?;
            let Some(last) = found.last() else { break };
            next = last.index + 1;
            take(log, labels, found, &mut page)?;
        }
        page.truncate(limit);
        Ok(page)
    }

    /// The last entry of a type or a stream below a size.
    pub(crate) async fn last_labelled(
        &self,
        log: &LogInfo,
        label: Label<'_>,
        size: u64,
    ) -> Result<Option<StoredEntry>, EngineError> {
        let full = self.in_full_bundles(log.id).await?;
        let mut page = Vec::new();
        if size > full {
            let found = self.entries(log, full..size, u32::from(TILE_WIDTH)).await?;
            take(log, &[label], found, &mut page)?;
        }
        if page.is_empty() {
            let bundles = sqlx::query(
                "SELECT n, positions FROM log_labels WHERE log_id = $1 AND label = $2 AND n * 256 < $3 \
                 ORDER BY n DESC LIMIT 2",
            )
            .bind(log.id.0)
            .bind(label.to_bytes())
            .bind(to_db(size.min(full))?)
            .fetch_all(&mut *self.reading(log.id).await?)
            .await
            .map_err(|error| EngineError::storage("read labels", &error))?;
            let places = bundles.iter().map(|row| spread(row, &(0..size)));
            let places = places.collect::<Result<Vec<_>, _>>()?;
            if let Some(last) = places.into_iter().flatten().max() {
                page = self.at(log, &[last]).await?;
            }
        }
        Ok(page.pop())
    }

    /// How many entries of a range have which type, ascending by type.
    pub(crate) async fn type_counts(
        &self,
        log: LogId,
        range: Range<u64>,
    ) -> Result<Vec<TypeCount>, EngineError> {
        let full = self.in_full_bundles(log).await?;
        // Whole bundles by their labels, what is before and behind them entry by entry.
        let first = range.start.next_multiple_of(BUNDLE).min(range.end);
        let last = (range.end.min(full) / BUNDLE * BUNDLE).max(first);
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        for edge in [range.start..first, last..range.end] {
            let rows = sqlx::query(
                "SELECT record_type, count(*) AS entries FROM log_entries \
                 WHERE log_id = $1 AND idx >= $2 AND idx < $3 GROUP BY record_type",
            )
            .bind(log.0)
            .bind(to_db(edge.start)?)
            .bind(to_db(edge.end)?)
            .fetch_all(&mut *self.reading(log).await?)
            .await
            .map_err(|error| EngineError::storage("count types", &error))?;
            for row in &rows {
                let record_type: String = get(row, "record_type")?;
                *counts.entry(record_type).or_default() += number(row, "entries")?;
            }
        }
        let [types, beyond] = Label::TYPES;
        let rows = sqlx::query(
            "SELECT label, CAST(SUM(LENGTH(positions)) AS BIGINT) AS entries FROM log_labels \
             WHERE log_id = $1 AND label >= $2 AND label < $3 AND n >= $4 AND n < $5 GROUP BY label",
        )
        .bind(log.0)
        .bind(types)
        .bind(beyond)
        .bind(to_db(first / BUNDLE)?)
        .bind(to_db(last / BUNDLE)?)
        .fetch_all(&mut *self.reading(log).await?)
        .await
        .map_err(|error| EngineError::storage("count types", &error))?;
        for row in &rows {
            let label: Vec<u8> = get(row, "label")?;
            let record_type = Label::type_of(&label).unwrap_or_default().to_owned();
            *counts.entry(record_type).or_default() += number(row, "entries")?;
        }
        let counts = counts.into_iter();
        Ok(counts
            .map(|(record_type, count)| TypeCount { record_type, count })
            .collect())
    }

    /// How many entries of a log are in full bundles, and so have labels.
    async fn in_full_bundles(&self, log: LogId) -> Result<u64, EngineError> {
        let head = sqlx::query("SELECT size FROM log_heads WHERE log_id = $1")
            .bind(log.0)
            .fetch_optional(&mut *self.reading(log).await?)
            .await
            .map_err(|error| EngineError::storage("read head", &error))?;
        let size = head.map_or(Ok(0), |row| number(&row, "size"))?;
        Ok(size / BUNDLE * BUNDLE)
    }

    /// Where entries of a range have a label, ascending: those of the next bundles or runs that have any.
    async fn places(
        &self,
        log: LogId,
        label: Label<'_>,
        range: Range<u64>,
    ) -> Result<Vec<u64>, EngineError> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        if let Label::Subject(key) = label {
            return self.places_of_subject(log, key, &range).await;
        }
        let mut next = range.start / BUNDLE;
        loop {
            let rows = sqlx::query(
                "SELECT n, positions FROM log_labels WHERE log_id = $1 AND label = $2 AND n >= $3 AND n * 256 < $4 \
                 ORDER BY n LIMIT $5",
            )
            .bind(log.0)
            .bind(label.to_bytes())
            .bind(to_db(next)?)
            .bind(to_db(range.end)?)
            .bind(BUNDLES_AT_ONCE)
            .fetch_all(&mut *self.reading(log).await?)
            .await
            .map_err(|error| EngineError::storage("read labels", &error))?;
            let mut found = Vec::new();
            for row in &rows {
                found.extend(spread(row, &range)?);
                next = number(row, "n")? + 1;
            }
            // The first bundle may have it only before the range.
            if rows.is_empty() || !found.is_empty() {
                return Ok(found);
            }
        }
    }

    /// The entries at these places, in order of the log; every one is hashed and compared with its leaf hash.
    async fn at(&self, log: &LogInfo, places: &[u64]) -> Result<Vec<StoredEntry>, EngineError> {
        let marks = self.dialect.marks(places.len() + 1);
        // The first is the log, the rest are the places.
        let (log_mark, places_marks) = marks.split_once(", ").unwrap_or_default();
        let text = format!(
            "SELECT idx, leaf_hash, record_id, record_hash, record_type, stream, entry FROM log_entries \
             WHERE log_id = {log_mark} AND idx IN ({places_marks}) ORDER BY idx"
        );
        let mut query = sqlx::query(AssertSqlSafe(text))
            .persistent(false)
            .bind(log.id.0);
        for place in places {
            query = query.bind(to_db(*place)?);
        }
        let rows = query
            .fetch_all(&mut *self.reading(log.id).await?)
            .await
            .map_err(|error| EngineError::storage("read entries", &error))?;
        self.whole(log, &rows).await
    }
}

/// The positions of a bundle's row that lie in a range.
fn spread(row: &AnyRow, range: &Range<u64>) -> Result<Vec<u64>, EngineError> {
    let start = number(row, "n")? * BUNDLE;
    let places: Vec<u8> = get(row, "positions")?;
    let places = places.into_iter().map(|place| start + u64::from(place));
    Ok(places.filter(|place| range.contains(place)).collect())
}

/// Adds the entries that have all of these labels to a page.
fn take(
    log: &LogInfo,
    labels: &[Label<'_>],
    found: Vec<StoredEntry>,
    page: &mut Vec<StoredEntry>,
) -> Result<(), EngineError> {
    for entry in found {
        let has = Labels::read(&entry.bytes)
            .map_err(|error| EngineError::damaged(&log.origin, error.to_string()))?;
        if labels.iter().all(|label| has.has(*label)) {
            page.push(entry);
        }
    }
    Ok(())
}
