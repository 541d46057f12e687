//! The heads of all logs, and what the epochs of the anchor log have of them.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use counterfoil_tlog::Hash;
use sqlx::Any;
use sqlx::any::{AnyArguments, AnyRow};

use super::rows::{Kind, Statement, Together, Value};
use super::{Dialect, Store, fixed, get, number, readable, set, to_db};
use crate::EngineError;
use crate::epochs::{AnchorEpoch, AnchoredHead, Heads, LogHead, UnreadableHead};
use crate::model::{LogId, LogInfo};

impl Store {
    /// The newest head of every log, in order of creation. A row that is not there, or cannot be read, is a matter of its log alone.
    pub(crate) async fn heads(&self) -> Result<Heads, EngineError> {
        let failed = |error: sqlx::Error| EngineError::storage("list heads", &error);
        let mut reading = self.reading_heads().await?;
        // The logs first: one that is made in between is not taken for one that has no head.
        let logs = sqlx::query("SELECT log_id, tenant, origin, vkey FROM logs ORDER BY log_id")
            .fetch_all(&mut *reading)
            .await
            .map_err(failed)?;
        let mut found: HashMap<LogId, (u64, Hash, String)> = HashMap::new();
        // By the log where that can be read, for a text that is none spoils the row before anybody sees its log.
        let mut reasons: HashMap<LogId, String> = HashMap::new();
        let text = "SELECT log_id, size, root, checkpoint FROM log_heads";
        let (rows, _) = readable(sqlx::query(text).fetch(&mut *reading), "list heads").await?;
        for row in &rows {
            let log = LogId(get(row, "log_id")?);
            match read_head(row) {
                Ok(head) => drop(found.insert(log, head)),
                Err(error) => drop(reasons.insert(log, error.to_string())),
            }
        }
        let mut heads = Heads::default();
        for row in &logs {
            let log = LogId(get(row, "log_id")?);
            let (tenant, origin, vkey) =
                (get(row, "tenant")?, get(row, "origin")?, get(row, "vkey")?);
            match found.remove(&log) {
                Some((size, root, checkpoint)) => heads.read.push(LogHead {
                    log,
                    tenant,
                    origin,
                    vkey,
                    size,
                    root,
                    checkpoint,
                }),
                None => heads.unreadable.push(UnreadableHead {
                    log,
                    tenant,
                    origin,
                    vkey,
                    reason: reasons.remove(&log).unwrap_or_else(|| NO_HEAD.to_owned()),
                }),
            }
        }
        Ok(heads)
    }

    /// The newest epoch.
    pub(crate) async fn newest_anchor_epoch(&self) -> Result<Option<AnchorEpoch>, EngineError> {
        let mut reading = self.reading_heads().await?;
        sqlx::query(
            "SELECT epoch, secret, payload, idx FROM log_anchor_epochs ORDER BY epoch DESC LIMIT 1",
        )
        .fetch_optional(&mut *reading)
        .await
        .map_err(|error| EngineError::storage("read the newest epoch", &error))?
        .map(|row| read_epoch(&row))
        .transpose()
    }

    /// The newest epoch up to a number that is closed.
    pub(crate) async fn closed_anchor_epoch(
        &self,
        until: u64,
    ) -> Result<Option<AnchorEpoch>, EngineError> {
        let mut reading = self.reading_heads().await?;
        sqlx::query(
            "SELECT epoch, secret, payload, idx FROM log_anchor_epochs \
             WHERE epoch <= $1 AND idx IS NOT NULL ORDER BY epoch DESC LIMIT 1",
        )
        .bind(position(until))
        .fetch_optional(&mut *reading)
        .await
        .map_err(|error| EngineError::storage("read an epoch", &error))?
        .map(|row| read_epoch(&row))
        .transpose()
    }

    /// The number of the newest epoch up to one that is closed, whether the rest of it can be read or not.
    pub(crate) async fn closed_anchor_number(
        &self,
        until: u64,
    ) -> Result<Option<u64>, EngineError> {
        let mut reading = self.reading_heads().await?;
        let row = sqlx::query(
            "SELECT epoch FROM log_anchor_epochs WHERE epoch <= $1 AND idx IS NOT NULL ORDER BY epoch DESC LIMIT 1",
        )
        .bind(position(until))
        .fetch_optional(&mut *reading)
        .await
        .map_err(|error| EngineError::storage("read the number of an epoch", &error))?;
        let number = row.map(|row| number(&row, "epoch")).transpose();
        number.map_err(|error| error.in_log(EPOCHS))
    }

    /// The head that an epoch has of a log.
    pub(crate) async fn anchored_head(
        &self,
        log: &LogInfo,
        epoch: u64,
    ) -> Result<Option<AnchoredHead>, EngineError> {
        sqlx::query(
            "SELECT size, root FROM log_anchored_heads WHERE log_id = $1 AND epoch <= $2 \
             ORDER BY epoch DESC LIMIT 1",
        )
        .bind(log.id.0)
        .bind(position(epoch))
        .fetch_optional(&mut *self.reading(log.id).await?)
        .await
        .map_err(|error| EngineError::storage("read an anchored head", &error))?
        .map(|row| anchored_head(log, &row))
        .transpose()
    }

    /// At most so many heads of a log that are those of epochs after one, with the numbers of these, ascending.
    pub(crate) async fn anchored_heads_of(
        &self,
        log: &LogInfo,
        after: u64,
        limit: u32,
    ) -> Result<Vec<(u64, AnchoredHead)>, EngineError> {
        sqlx::query(
            "SELECT epoch, size, root FROM log_anchored_heads WHERE log_id = $1 AND epoch > $2 \
             ORDER BY epoch LIMIT $3",
        )
        .bind(log.id.0)
        .bind(position(after))
        .bind(i64::from(limit))
        .fetch_all(&mut *self.reading(log.id).await?)
        .await
        .map_err(|error| EngineError::storage("read anchored heads of a log", &error))?
        .iter()
        .map(|row| Ok((number(row, "epoch")?, anchored_head(log, row)?)))
        .collect()
    }

    /// The epochs that have a head of a log of at most so many entries.
    pub(crate) async fn anchored_epochs(
        &self,
        log: &LogInfo,
        size: u64,
    ) -> Result<Option<RangeInclusive<u64>>, EngineError> {
        let row = sqlx::query(
            "SELECT MIN(epoch) AS first, MIN(CASE WHEN size > $2 THEN epoch END) AS larger \
             FROM log_anchored_heads WHERE log_id = $1",
        )
        .bind(log.id.0)
        .bind(position(size))
        .fetch_one(&mut *self.reading(log.id).await?)
        .await
        .map_err(|error| EngineError::storage("read anchored heads", &error))?;
        let (first, larger): (Option<i64>, Option<i64>) =
            (get(&row, "first")?, get(&row, "larger")?);
        let first = first.and_then(|first| u64::try_from(first).ok());
        let last = larger.map_or(Some(u64::MAX), |larger| u64::try_from(larger - 1).ok());
        Ok(first
            .zip(last)
            .filter(|(first, last)| first <= last)
            .map(|(first, last)| first..=last))
    }

    /// The head of every log that an epoch has, as far as they can be read: whether they are all, the epoch's record says.
    pub(crate) async fn anchored_heads(
        &self,
        epoch: u64,
    ) -> Result<Vec<AnchoredHead>, EngineError> {
        let mut reading = self.reading_heads().await?;
        let rows = sqlx::query(
            "SELECT logs.log_id, logs.origin, anchored.size, anchored.root FROM logs \
             JOIN log_anchored_heads anchored ON anchored.log_id = logs.log_id AND anchored.epoch = \
             (SELECT MAX(epoch) FROM log_anchored_heads WHERE log_id = logs.log_id AND epoch <= $1) ORDER BY logs.log_id",
        )
        .bind(position(epoch))
        .fetch_all(&mut *reading)
        .await
        .map_err(|error| EngineError::storage("read anchored heads", &error))?;
        let read = rows.iter().filter_map(|row| {
            let log = LogId(get(row, "log_id").ok()?);
            let origin: String = get(row, "origin").ok()?;
            let (Ok(size), Ok(root)) = (number(row, "size"), fixed(row, "root")) else {
                tracing::error!(
                    origin,
                    epoch,
                    "the head of the log that an epoch has cannot be read"
                );
                return None;
            };
            let root = Hash(root);
            Some(AnchoredHead {
                log,
                origin,
                size,
                root,
            })
        });
        Ok(read.collect())
    }

    /// Inserts an epoch and its heads; whether it was not there yet.
    pub(crate) async fn open_anchor_epoch(
        &self,
        epoch: &AnchorEpoch,
        changed: &[AnchoredHead],
    ) -> Result<bool, EngineError> {
        let failed = |error: sqlx::Error| EngineError::storage("open an epoch", &error);
        let mut transaction = self.write.begin().await.map_err(failed)?;
        if self.dialect == Dialect::Postgres {
            let logs: Vec<String> = changed.iter().map(|head| head.log.to_string()).collect();
            let logs = logs.join(",");
            for (name, value) in [("counterfoil.tenant", "*"), ("counterfoil.logs", &logs)] {
                set(&mut transaction, name, value).await.map_err(failed)?;
            }
        }
        let inserted = sqlx::query(
            "INSERT INTO log_anchor_epochs (epoch, secret, payload) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        )
        .bind(to_db(epoch.number)?)
        .bind(epoch.secret.as_slice())
        .bind(epoch.payload.as_slice())
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
        if inserted.rows_affected() == 0 {
            return Ok(false);
        }
        if !changed.is_empty() {
            let mut together = Together::new(self.dialect, false);
            let rows = changed.iter().map(|head| {
                Ok(vec![
                    Value::Number(head.log.0),
                    Value::Number(to_db(epoch.number)?),
                    Value::Number(to_db(head.size)?),
                    Value::Bytes(head.root.as_bytes()),
                ])
            });
            let rows = rows.collect::<Result<Vec<_>, EngineError>>()?;
            together.add(&HEADS, &rows).map_err(failed)?;
            together.execute(&mut transaction).await.map_err(failed)?;
        }
        transaction.commit().await.map_err(failed)?;
        Ok(true)
    }

    /// Notes where the record of an epoch stands.
    pub(crate) async fn close_anchor_epoch(
        &self,
        epoch: u64,
        index: u64,
    ) -> Result<(), EngineError> {
        let text = "UPDATE log_anchor_epochs SET idx = $2 WHERE epoch = $1";
        self.change_epoch(sqlx::query(text).bind(to_db(epoch)?).bind(to_db(index)?))
            .await
    }

    /// Takes an open epoch back. Its heads stay: whichever of them is right, a later epoch has a newer one.
    pub(crate) async fn void_anchor_epoch(&self, epoch: u64) -> Result<(), EngineError> {
        let text = "DELETE FROM log_anchor_epochs WHERE epoch = $1 AND idx IS NULL";
        self.change_epoch(sqlx::query(text).bind(to_db(epoch)?))
            .await
    }

    async fn change_epoch(&self, change: Change<'_>) -> Result<(), EngineError> {
        let failed = |error: sqlx::Error| EngineError::storage("change an epoch", &error);
        let mut transaction = self.write.begin().await.map_err(failed)?;
        if self.dialect == Dialect::Postgres {
            set(&mut transaction, "counterfoil.tenant", "*")
                .await
                .map_err(failed)?;
        }
        change.execute(&mut *transaction).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)
    }
}

/// As what the rows of epochs are told of when they cannot be read.
const EPOCHS: &str = "of epochs";

/// What is told of a head that is not there, or of which not even the log can be read.
const NO_HEAD: &str = "its head is not there, or cannot be read";

/// A statement on one epoch.
type Change<'q> = sqlx::query::Query<'q, Any, AnyArguments>;

const HEADS: Statement = Statement {
    before: "INSERT INTO log_anchored_heads (log_id, epoch, size, root) ",
    columns: &[Kind::Number, Kind::Number, Kind::Number, Kind::Bytes],
    after: "",
};

/// A number or size as the database has it; nothing is beyond its largest.
fn position(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn anchored_head(log: &LogInfo, row: &AnyRow) -> Result<AnchoredHead, EngineError> {
    Ok(AnchoredHead {
        log: log.id,
        origin: log.origin.clone(),
        size: number(row, "size")?,
        root: Hash(fixed(row, "root")?),
    })
}

fn read_head(row: &AnyRow) -> Result<(u64, Hash, String), EngineError> {
    let root = Hash(fixed(row, "root")?);
    Ok((number(row, "size")?, root, get(row, "checkpoint")?))
}

fn read_epoch(row: &AnyRow) -> Result<AnchorEpoch, EngineError> {
    epoch_of(row).map_err(|error| error.in_log(EPOCHS))
}

fn epoch_of(row: &AnyRow) -> Result<AnchorEpoch, EngineError> {
    let index: Option<i64> = get(row, "idx")?;
    Ok(AnchorEpoch {
        number: number(row, "epoch")?,
        secret: fixed(row, "secret")?,
        payload: get(row, "payload")?,
        index: index.and_then(|index| u64::try_from(index).ok()),
    })
}
