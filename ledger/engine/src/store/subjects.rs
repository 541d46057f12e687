//! Entries by their subjects: rows of bundles, put together when a run of bundles is full, and searched.

use std::ops::Range;

use sqlx::any::AnyRow;
use sqlx::{Any, AnyConnection, AssertSqlSafe, Transaction};

use super::commit::{LABELS, LogCommit, label_values};
use super::rows::Together;
use super::{Store, get, number, to_db};
use crate::labels::{BUNDLE, LabelRow, RUN, SubjectKey, run_rows};
use crate::{EngineError, LogId};

/// Most runs that are searched in one statement. The first one searches one: what every record has fills a page from there.
const RUNS_AT_ONCE: i64 = 256;

/// A run of bundles that a batch fills.
#[derive(Debug)]
pub(super) struct FullRun {
    log: LogId,
    run: u64,
    /// What the bundles of the batch have of subjects.
    bundles: Vec<LabelRow>,
}

impl LogCommit {
    /// Runs that are full with this batch: by the log's size and not by its rows, because a bundle without subjects has none, and may be the
    /// one that fills the run.
    fn filled(&self) -> Range<u64> {
        self.old_size / BUNDLE / RUN..self.new_size / BUNDLE / RUN
    }

    /// The rows of labels that are written as they are: what is of a run that is full now is put together instead.
    pub(super) fn labels_that_stay(&self) -> impl Iterator<Item = (LogId, &LabelRow)> + Clone {
        let full = self.filled().end;
        let rows = self.labels.iter();
        rows.filter(move |row| !row.has_subjects() || row.n / RUN >= full)
            .map(|row| (self.log, row))
    }

    pub(super) fn full_runs(&self) -> impl Iterator<Item = FullRun> {
        self.filled().map(|run| {
            let of_run = |row: &&LabelRow| row.has_subjects() && row.n / RUN == run;
            FullRun {
                log: self.log,
                run,
                bundles: self.labels.iter().filter(of_run).cloned().collect(),
            }
        })
    }
}

impl Store {
    /// Writes the rows of runs that a batch fills, and takes those of their bundles out: in the batch's own transaction, so that a search finds each
    /// subject in one or the other. How many rows were written.
    pub(super) async fn put_runs_together(
        &self,
        transaction: &mut Transaction<'_, Any>,
        full: Vec<FullRun>,
    ) -> Result<u64, EngineError> {
        let failed = |error: sqlx::Error| EngineError::storage("put labels together", &error);
        let mut put = 0;
        for FullRun { log, run, bundles } in full {
            let before = take_bundles(transaction, log, run).await?;
            let rows = run_rows(run, before.iter().chain(&bundles));
            let values = rows.iter().map(|row| label_values(log, row));
            let values = values.collect::<Result<Vec<_>, EngineError>>()?;
            let mut together = Together::new(self.dialect, false);
            together.add(&LABELS, &values).map_err(failed)?;
            put += together.execute(transaction).await.map_err(failed)?;
        }
        Ok(put)
    }

    /// Where entries of a range have a subject, ascending: those of the next runs that have it, or of the last bundles.
    pub(super) async fn places_of_subject(
        &self,
        log: LogId,
        key: &SubjectKey,
        range: &Range<u64>,
    ) -> Result<Vec<u64>, EngineError> {
        let within = |rows: &[LabelRow]| -> Vec<u64> {
            let found = rows.iter().flat_map(|row| row.positions(key));
            found.filter(|at| range.contains(at)).collect()
        };
        // Bundles first: what is taken out of them meanwhile is in a run when those are read.
        let first = range.start / BUNDLE;
        let reading = &mut *self.reading(log).await?;
        let bundles = bundles_from(reading, log, first..u64::MAX).await?;
        let (mut next, mut at_once) = (first / RUN, 1);
        let end = range.end.div_ceil(RUN * BUNDLE);
        loop {
            let rows = sqlx::query(
                "SELECT label, n, positions FROM log_labels WHERE log_id = $1 AND label = $2 AND n >= $3 AND n < $4 \
                 ORDER BY n LIMIT $5",
            )
            .bind(log.0)
            .bind(&key[..1])
            .bind(to_db(next)?)
            .bind(to_db(end)?)
            .bind(at_once)
            .fetch_all(&mut *reading)
            .await
            .map_err(|error| EngineError::storage("read labels", &error))?;
            let rows = rows.iter().map(label_row).collect::<Result<Vec<_>, _>>()?;
            let found = within(&rows);
            match rows.last() {
                Some(row) if found.is_empty() => {
                    next = row.n + 1;
                    at_once = RUNS_AT_ONCE.min(at_once * 2);
                }
                Some(_) => return Ok(found),
                None => return Ok(within(&bundles)),
            }
        }
    }

    /// What is not in the rows of a run before this one: all rows of bundles, and the run's own, if it became full meanwhile.
    pub(crate) async fn last_subjects(
        &self,
        log: LogId,
        run: u64,
    ) -> Result<Vec<LabelRow>, EngineError> {
        let reading = &mut *self.reading(log).await?;
        let mut rows = bundles_from(reading, log, 0..u64::MAX).await?;
        let marks = self.dialect.marks(2 + 256);
        // The log, the run, and every label that a run has.
        let mut marks = marks.splitn(3, ", ");
        let [of_log, of_run, labels] = std::array::from_fn(|_| marks.next().unwrap_or_default());
        let text = format!(
            "SELECT label, n, positions FROM log_labels WHERE log_id = {of_log} AND n = {of_run} AND label IN ({labels})"
        );
        let mut query = sqlx::query(AssertSqlSafe(text))
            .bind(log.0)
            .bind(to_db(run)?);
        for first in 0..=u8::MAX {
            query = query.bind(vec![first]);
        }
        let of_run = query
            .fetch_all(&mut *reading)
            .await
            .map_err(|error| EngineError::storage("read labels", &error))?;
        for row in &of_run {
            rows.push(label_row(row)?);
        }
        Ok(rows)
    }
}

/// Takes the rows of a run's bundles out.
async fn take_bundles(
    transaction: &mut Transaction<'_, Any>,
    log: LogId,
    run: u64,
) -> Result<Vec<LabelRow>, EngineError> {
    let bundles = run * RUN..(run + 1) * RUN;
    let rows = read_bundles(&mut *transaction, log, &bundles).await?;
    sqlx::query("DELETE FROM log_labels WHERE log_id = $1 AND label = $2 AND n >= $3 AND n < $4")
        .bind(log.0)
        .bind(LabelRow::BUNDLE_SUBJECTS)
        .bind(to_db(bundles.start)?)
        .bind(to_db(bundles.end)?)
        .execute(&mut **transaction)
        .await
        .map_err(|error| EngineError::storage("put labels together", &error))?;
    // What cannot be read is a finding of whoever checks all; it must not keep anybody from appending.
    Ok(rows.iter().filter_map(|row| label_row(row).ok()).collect())
}

/// What bundles of a range that are in no full run have of subjects.
async fn bundles_from(
    connection: &mut AnyConnection,
    log: LogId,
    bundles: Range<u64>,
) -> Result<Vec<LabelRow>, EngineError> {
    let rows = read_bundles(connection, log, &bundles).await?;
    rows.iter().map(label_row).collect()
}

async fn read_bundles(
    connection: &mut AnyConnection,
    log: LogId,
    bundles: &Range<u64>,
) -> Result<Vec<AnyRow>, EngineError> {
    sqlx::query(
        "SELECT label, n, positions FROM log_labels WHERE log_id = $1 AND label = $2 AND n >= $3 AND n < $4 ORDER BY n",
    )
    .bind(log.0)
    .bind(LabelRow::BUNDLE_SUBJECTS)
    .bind(to_db(bundles.start)?)
    .bind(i64::try_from(bundles.end).unwrap_or(i64::MAX))
    .fetch_all(connection)
    .await
    .map_err(|error| EngineError::storage("read labels", &error))
}

/// Reads a row.
pub(super) fn label_row(row: &AnyRow) -> Result<LabelRow, EngineError> {
    Ok(LabelRow {
        label: get(row, "label")?,
        n: number(row, "n")?,
        places: get(row, "positions")?,
    })
}
