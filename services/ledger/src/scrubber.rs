//! Hashes every log again, all of it once in an interval, while the service runs: what rots on a disk is found before somebody
//! needs it (C10 of the ledger's design).
//!
//! One step at a time, of the log that is due for the longest time; what a step needs is kept between them, so rounds go on after a
//! restart, and several replicas share them. A round that found everything as it was signed is stated in the log (R93), unless the log
//! has nothing new but such statements: a log that nobody writes to does not grow by being looked after. What does not fit stops the
//! log; nothing is repaired.

use std::collections::BTreeSet;
use std::time::Duration;

use counterfoil_chassis::{CancellationToken, Clock, db::Database};
use counterfoil_engine::{EngineError, Log, Publication, ScrubPlace, ScrubStep, Scrubbed};
use counterfoil_evidence::catalogue::Payload;
use counterfoil_evidence::record::decode_entry;
use counterfoil_evidence::v1::LogScrubbed;
use counterfoil_tlog::hash::sha256;
use prost::{Message, Name};

use crate::error::LedgerError;
use crate::logs::{self, Logs};
use crate::statement::Statement;
use crate::store::scrubs::{self, Scrub};

/// How often a step is taken.
const EVERY: Duration = Duration::from_secs(1);
/// Bundles of a step: 4,096 entries.
const BUNDLES: u64 = 16;
/// How often new logs are looked for, in steps.
const ENROLL_EVERY: u32 = 60;
/// Logs that are taken in with a step. Each is a commit, and the logs' writers wait for it.
const ENROLLED_AT_ONCE: usize = 16;
/// When a log is tried again that cannot be read or written now.
const RETRY_MS: i64 = 60_000;
const INTERVAL_HOURS: u32 = 168;
const HOUR_MS: i64 = 3_600_000;
/// Longer than anybody waits, and far from the end of time.
const NEVER_MS: i64 = i64::MAX / 4;

/// What is hashed again, and how often. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Scrubber {
    db: Database,
    copy: Option<Publication>,
    interval_ms: i64,
}

impl Scrubber {
    pub(crate) fn new(
        db: Database,
        copy: Option<Publication>,
        interval_hours: Option<u32>,
    ) -> Self {
        let interval_ms = match interval_hours.unwrap_or(INTERVAL_HOURS) {
            0 => NEVER_MS,
            hours => i64::from(hours) * HOUR_MS,
        };
        Self {
            db,
            copy,
            interval_ms,
        }
    }

    /// Runs until the service ends. Where no round begins by itself, those that an operator began are ended and stated.
    pub(crate) async fn run(self, logs: Logs, clock: Clock, shutdown: CancellationToken) {
        let mut tick = tokio::time::interval(EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut ticks = 0_u32;
        let mut unknown = Vec::new();
        while shutdown.run_until_cancelled(tick.tick()).await.is_some() {
            let now_ms = clock.now_ms();
            let work = async {
                if self.interval_ms < NEVER_MS && ticks.is_multiple_of(ENROLL_EVERY) {
                    unknown = self.unknown(logs.tenants().await?).await?;
                }
                let rest = unknown.len().saturating_sub(ENROLLED_AT_ONCE);
                self.enroll(&unknown.split_off(rest), now_ms).await?;
                self.run_once(&logs, now_ms).await
            };
            // Cut off anywhere, the same step is taken again.
            if let Some(Err(error)) = shutdown.run_until_cancelled(work).await {
                tracing::warn!(%error, "no log was hashed again; the next step tries again");
            }
            ticks = ticks.wrapping_add(1);
        }
    }

    /// The logs that are not known yet.
    async fn unknown(&self, mut tenants: Vec<String>) -> Result<Vec<String>, LedgerError> {
        let known: BTreeSet<String> = scrubs::tenants(&self.db).await?.into_iter().collect();
        tenants.retain(|tenant| !known.contains(tenant));
        Ok(tenants)
    }

    /// Takes in logs that are not known yet. Their first rounds are spread over the interval, so that not all come at once.
    pub(crate) async fn enroll(&self, tenants: &[String], now_ms: i64) -> Result<(), LedgerError> {
        for tenant in tenants {
            let hash = sha256(tenant.as_bytes()).0;
            let part = i64::from(u16::from_be_bytes([hash[0], hash[1]])) + 1;
            let due_at_ms = now_ms + self.interval_ms / (1 << 16) * part;
            scrubs::enroll(&self.db, tenant, now_ms, due_at_ms).await?;
        }
        Ok(())
    }

    /// Takes one step of the log that is due for the longest time; whether one was due.
    pub(crate) async fn run_once(&self, logs: &Logs, now_ms: i64) -> Result<bool, LedgerError> {
        let Some(due) = scrubs::due(&self.db, now_ms).await? else {
            return Ok(false);
        };
        let done = self.due(logs, &due, now_ms).await;
        let next = match done {
            Ok(next) => next,
            Err(error) => {
                let tenant = &due.tenant;
                tracing::warn!(tenant, %error, "the log is hashed again later");
                Scrub {
                    due_at_ms: now_ms + RETRY_MS,
                    ..due.clone()
                }
            }
        };
        scrubs::keep(&self.db, &next).await?;
        Ok(true)
    }

    /// What is to be kept of the log that is due.
    async fn due(&self, logs: &Logs, due: &Scrub, now_ms: i64) -> Result<Scrub, LedgerError> {
        let log = logs.get(&due.tenant).await?;
        match &due.unstated {
            Some(_) if log.stopped().await?.is_some() => Ok(afresh(due, now_ms)),
            Some(bytes) => {
                state(logs, &log, bytes).await?;
                Ok(self.stated(due))
            }
            None => self.step(&log, due, BUNDLES, now_ms).await,
        }
    }

    fn stated(&self, due: &Scrub) -> Scrub {
        Scrub {
            unstated: None,
            due_at_ms: due.whole_at_ms + self.interval_ms,
            ..due.clone()
        }
    }

    /// Takes a step, unless the log is stopped; what is to be kept after it.
    pub(crate) async fn step(
        &self,
        log: &Log,
        due: &Scrub,
        bundles: u64,
        now_ms: i64,
    ) -> Result<Scrub, LedgerError> {
        if log.stopped().await?.is_some() {
            return Ok(afresh(due, now_ms));
        }
        let place = due.place.as_deref().and_then(ScrubPlace::from_bytes);
        let begun = place.as_ref().and(due.started_at_ms);
        let started_at_ms = begun.unwrap_or(now_ms);
        let next = Scrub {
            started_at_ms: Some(started_at_ms),
            place: None,
            problem: None,
            ..due.clone()
        };
        Ok(
            match log.scrub(place.as_ref(), bundles, self.copy.as_ref()).await {
                Ok(ScrubStep::Going(place)) => Scrub {
                    place: Some(place.to_bytes()),
                    ..next
                },
                Ok(ScrubStep::Whole(scrubbed)) => {
                    let round = round(log, &scrubbed, (started_at_ms, now_ms)).await?;
                    let wait_ms = if round.is_some() { 0 } else { self.interval_ms };
                    Scrub {
                        due_at_ms: now_ms + wait_ms,
                        whole_at_ms: now_ms,
                        started_at_ms: None,
                        unstated: round.map(|round| round.encode_to_vec()),
                        ..next
                    }
                }
                Err(error @ EngineError::Damaged { .. }) => {
                    let tenant = &due.tenant;
                    tracing::error!(alarm = "LOG_STOPPED", tenant, %error, "hashing the log again found what does not fit");
                    // From the beginning, as soon as somebody lets the log go on.
                    Scrub {
                        started_at_ms: None,
                        problem: Some(error.to_string()),
                        ..next
                    }
                }
                Err(error) => return Err(error.into()),
            },
        )
    }
}

/// Of a log that was stopped: somebody looks at it already, and what was hashed before says nothing of it once it goes on.
fn afresh(due: &Scrub, now_ms: i64) -> Scrub {
    Scrub {
        due_at_ms: now_ms + RETRY_MS,
        started_at_ms: None,
        place: None,
        unstated: None,
        ..due.clone()
    }
}

/// What is stated of a round; `None`: the log has nothing new since the round before but its statement.
async fn round(
    log: &Log,
    scrubbed: &Scrubbed,
    (started_ms, ended_ms): (i64, i64),
) -> Result<Option<LogScrubbed>, LedgerError> {
    let name = LogScrubbed::full_name();
    let head = log.head().await?;
    let last = match log.last_of_type(&name, head.size).await? {
        None => None,
        Some(entry) => match logs::read(&entry)?.1 {
            Payload::LogScrubbed(last) => Some(last),
            _ => None,
        },
    };
    let (round, from_size) = last.map_or((1, 0), |last| (last.round + 1, last.to_size));
    let counts = log.type_counts(from_size, scrubbed.size).await?;
    let is_new = counts.iter().any(|count| count.record_type != name);
    // Clocks of replicas differ, and go back; the times of entries do not. A round begins when all that it hashes is there.
    let newest = match scrubbed.size.checked_sub(1) {
        Some(index) => log.entry(index).await?,
        None => None,
    };
    let newest = newest.map(|stored| decode_entry(&stored.bytes)).transpose();
    let newest = newest.map_err(|error| logs::unreadable(scrubbed.size, error))?;
    let started_ms = started_ms.max(newest.map_or(0, |entry| entry.recorded_at_ms));
    let ended_ms = ended_ms.max(started_ms);
    Ok(is_new.then(|| LogScrubbed {
        round,
        from_size,
        to_size: scrubbed.size,
        root: scrubbed.root.0.to_vec(),
        tiles: scrubbed.tiles,
        started_ms,
        ended_ms,
    }))
}

/// States a round in the log, once.
async fn state(logs: &Logs, log: &Log, bytes: &[u8]) -> Result<(), LedgerError> {
    // What cannot be read is not stated: the next round is.
    let Ok(round) = LogScrubbed::decode(bytes) else {
        return Ok(());
    };
    // If we crash after it: it is stated again, and the log has it already.
    logs.state_now(log, vec![Statement::scrub(&round)]).await
}
