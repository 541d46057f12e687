//! The process that is killed, stopped or cut off: it opens the logs as a service does, writes all of them at once from where it is told
//! to, publishes them meanwhile, and tells every receipt and every published checkpoint on a line of its own.

use std::io::{BufRead as _, BufReader, Write as _};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use counterfoil_engine::{Engine, EngineError, Log};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::dice::Dice;
use crate::place::Place;
use crate::records::{Position, Producer, STREAMS, origin, tenant};

/// How long a caller waits after a failure before it sends again.
const AGAIN_AFTER: Duration = Duration::from_millis(10);

/// Longest pause of a caller between its records, in milliseconds.
const PAUSE_MS_MAX: u64 = 8;

/// Longest pause between two publications, in milliseconds.
const PUBLISH_PAUSE_MS_MAX: u64 = 60;

/// What it tells. The texts of notes and proofs have lines and no bars.
#[derive(Debug)]
pub(crate) enum Line {
    /// A record of a log's stream is in the log.
    Receipt {
        log: usize,
        stream: usize,
        seq: u64,
        leaf: String,
        proof: String,
    },
    /// A copy's checkpoint.
    Published { log: usize, note: String },
    /// The log is damaged or stopped, and is not written any more.
    Refused { log: usize, why: String },
    /// Something failed, and is tried again.
    Failed { why: String },
    /// What must never happen.
    Wrong { what: String },
}

impl Line {
    pub(crate) fn parse(line: &str) -> anyhow::Result<Self> {
        let (what, rest) = line.split_once(' ').context("not a line")?;
        let text = |text: &str| text.replace('|', "\n");
        let number = |text: &str| text.parse::<usize>();
        let words: Vec<&str> = rest.splitn(5, ' ').collect();
        Ok(match (what, words.as_slice()) {
            ("receipt", [log, stream, seq, leaf, proof]) => Self::Receipt {
                log: number(log)?,
                stream: number(stream)?,
                seq: seq.parse()?,
                leaf: (*leaf).to_owned(),
                proof: text(proof),
            },
            ("failed", _) => Self::Failed { why: text(rest) },
            ("wrong", _) => Self::Wrong { what: text(rest) },
            ("published", [log, ..]) => Self::Published {
                log: number(log)?,
                note: text(rest.split_once(' ').unwrap_or_default().1),
            },
            ("refused", [log, ..]) => Self::Refused {
                log: number(log)?,
                why: text(rest.split_once(' ').unwrap_or_default().1),
            },
            _ => bail!("not a line: {line:?}"),
        })
    }

    /// Says it, whole or not at all: a line is shorter than what a pipe takes at once.
    pub(crate) fn say(&self) {
        let text = |text: &str| text.replace('\n', "|");
        let line = match self {
            Self::Receipt {
                log,
                stream,
                seq,
                leaf,
                proof,
            } => format!("receipt {log} {stream} {seq} {leaf} {}\n", text(proof)),
            Self::Published { log, note } => format!("published {log} {}\n", text(note)),
            Self::Refused { log, why } => format!("refused {log} {}\n", text(why)),
            Self::Failed { why } => format!("failed {}\n", text(why)),
            Self::Wrong { what } => format!("wrong {}\n", text(what)),
        };
        let mut output = std::io::stdout().lock();
        // Whoever listened has gone: then this process ends too, as soon as it reads that.
        let _ = output.write_all(line.as_bytes());
        let _ = output.flush();
    }
}

/// What it is told on standard input: `from LOG STREAM SEQ HASH` for each stream, then `go`. It goes on until standard input ends.
fn read_orders(logs: usize) -> anyhow::Result<(Vec<Vec<Position>>, watch::Receiver<bool>)> {
    let mut positions = vec![vec![Position::START; STREAMS.len()]; logs];
    let mut lines = BufReader::new(std::io::stdin()).lines();
    for line in lines.by_ref() {
        let line = line?;
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["go"] => break,
            ["from", log, stream, seq, hash] => {
                let hash = <[u8; 32]>::try_from(hex::decode(hash)?);
                let position = Position {
                    seq: seq.parse()?,
                    hash: hash.ok().context("not a hash")?,
                };
                let of_log = positions.get_mut(log.parse::<usize>()?);
                let place =
                    of_log.and_then(|streams| streams.get_mut(stream.parse::<usize>().ok()?));
                *place.context("no such stream")? = position;
            }
            _ => bail!("not an order: {line:?}"),
        }
    }
    let (stopping, stopped) = watch::channel(false);
    std::thread::spawn(move || {
        for line in lines {
            drop(line);
        }
        stopping.send_replace(true);
    });
    Ok((positions, stopped))
}

/// Lives until it is told to stop.
pub(crate) async fn live(place: &Place, logs: usize, seed: u64) -> anyhow::Result<()> {
    let (positions, stop) = read_orders(logs)?;
    let mut dice = Dice::new(seed);
    let engine = loop {
        match place.open().await {
            Ok(engine) => break engine,
            Err(_) if *stop.borrow() => return Ok(()),
            Err(error) => tell_failure(&error, &stop).await,
        }
    };
    let mut tasks = JoinSet::new();
    for (log, positions) in positions.into_iter().enumerate() {
        let life = Life {
            place: place.clone(),
            engine: engine.clone(),
            number: log,
            stop: stop.clone(),
        };
        let seed = dice.next();
        tasks.spawn(async move { life.live(positions, Dice::new(seed)).await });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    engine.close().await;
    Ok(())
}

/// Says that something failed, and waits a moment before it is tried again.
async fn tell_failure(error: &EngineError, stop: &watch::Receiver<bool>) {
    Line::Failed {
        why: error.to_string(),
    }
    .say();
    pause(AGAIN_AFTER, stop).await;
}

/// Waits a while, or until it is told to stop: so often it writes, fails and publishes. Nothing is awaited by this.
async fn pause(at_most: Duration, stop: &watch::Receiver<bool>) {
    let mut stop = stop.clone();
    // Passed, stopped, or whoever stops it is gone: each time it looks by itself what comes next.
    drop(tokio::time::timeout(at_most, stop.changed()).await);
}

/// One log in this process.
#[derive(Clone)]
struct Life {
    place: Place,
    engine: Engine,
    number: usize,
    stop: watch::Receiver<bool>,
}

impl Life {
    async fn live(self, positions: Vec<Position>, mut dice: Dice) -> anyhow::Result<()> {
        let registrar = Producer::of(0)?;
        let log = loop {
            let (tenant, origin) = (tenant(self.number), origin(self.number));
            let log = self.engine.create_log(&tenant, &origin, registrar.key());
            match log.await {
                Ok(log) => break log,
                Err(_) if *self.stop.borrow() => return Ok(()),
                Err(error) => tell_failure(&error, &self.stop).await,
            }
        };
        // The keys first: without them nothing else is taken.
        let registrations = STREAMS.len() as u64;
        self.write(&log, 0, positions[0], registrations, &mut dice)
            .await?;
        let mut tasks = JoinSet::new();
        for (stream, position) in positions.into_iter().enumerate().skip(1) {
            let (life, log, mut dice) = (self.clone(), log.clone(), Dice::new(dice.next()));
            tasks.spawn(async move {
                let end = u64::MAX;
                life.write(&log, stream, position, end, &mut dice).await
            });
        }
        tasks.spawn(async move { self.publish(&log, dice).await });
        while let Some(ended) = tasks.join_next().await {
            ended??;
        }
        Ok(())
    }

    /// Sends the records of a stream, several at once, and again what was not acknowledged; until `end` or until it is told to stop.
    async fn write(
        &self,
        log: &Log,
        stream: usize,
        mut at: Position,
        end: u64,
        dice: &mut Dice,
    ) -> anyhow::Result<()> {
        let producer = Producer::of(stream)?;
        while at.seq < end && !*self.stop.borrow() {
            let mut next = at;
            let mut sent = Vec::new();
            for _ in 0..=dice.below(3) {
                let (mut records, mut positions) = (Vec::new(), Vec::new());
                for _ in 0..=dice.below(2) {
                    if next.seq < end {
                        let (record, after) = producer.next(self.number, next)?;
                        records.push(record);
                        positions.push(after);
                        next = after;
                    }
                }
                if !records.is_empty() {
                    let pending = log.begin_append(records).await;
                    sent.push((positions, pending));
                }
            }
            let mut failed = false;
            for (positions, pending) in sent {
                let outcomes = match pending {
                    Ok(pending) => pending.outcomes().await,
                    Err(error) => Err(error),
                };
                match outcomes {
                    Ok(outcomes) => {
                        for (position, outcome) in positions.into_iter().zip(outcomes) {
                            match outcome {
                                Ok(receipt) => {
                                    Line::Receipt {
                                        log: self.number,
                                        stream,
                                        seq: position.seq,
                                        leaf: receipt.leaf_hash.to_string(),
                                        proof: receipt.tlog_proof,
                                    }
                                    .say();
                                    if receipt.record_hash != position.hash {
                                        let what = format!("a receipt of another record: {stream}");
                                        Line::Wrong { what }.say();
                                    }
                                    if !failed {
                                        at = position;
                                    }
                                }
                                // What follows a failure is refused as a gap, and sent again.
                                Err(_) if failed => {}
                                Err(refusal) => {
                                    let what = format!("{} {stream}: {refusal}", self.number);
                                    Line::Wrong { what }.say();
                                    return Ok(());
                                }
                            }
                        }
                    }
                    Err(error) => {
                        failed = true;
                        if !self.goes_on(&error).await {
                            return Ok(());
                        }
                    }
                }
            }
            if at.seq > 3 {
                pause(dice.less_than_ms(PAUSE_MS_MAX), &self.stop).await;
            }
        }
        Ok(())
    }

    /// Whether it is tried again after this.
    async fn goes_on(&self, error: &EngineError) -> bool {
        match error {
            EngineError::Damaged { .. } => {
                Line::Refused {
                    log: self.number,
                    why: error.to_string(),
                }
                .say();
                return false;
            }
            EngineError::Storage { .. } | EngineError::Publication { .. } => {
                tell_failure(error, &self.stop).await;
            }
            // Nothing else is a reason not to do what was asked.
            error => Line::Wrong {
                what: format!("log {}: {error}", self.number),
            }
            .say(),
        }
        !*self.stop.borrow()
    }

    async fn publish(&self, log: &Log, mut dice: Dice) -> anyhow::Result<()> {
        let copy = Arc::new(self.place.publication()?);
        while !*self.stop.borrow() {
            pause(dice.less_than_ms(PUBLISH_PAUSE_MS_MAX), &self.stop).await;
            match log.publish(&copy).await {
                Ok(_) => {
                    if let Some(note) = self.place.published(self.number)? {
                        let log = self.number;
                        Line::Published { log, note }.say();
                    }
                }
                Err(error) => {
                    if !self.goes_on(&error).await {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }
}
