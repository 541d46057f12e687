//! The cosignatures of a log's checkpoints: kept by size and witness, verified whenever they are read, and added to the checkpoint of
//! their size where it is shown.
//!
//! A checkpoint of one size is one text with one signature of the log; cosignatures are lines after it, and more of them may come at any
//! time. So whoever compares two checkpoints compares their texts and the log's signature, and never the notes.

use counterfoil_tlog::note::{Note, NoteError, SignatureLine};
use counterfoil_tlog::{Policy, VerifierKey, checkpoint};

use crate::engine::Shared;
use crate::faults::{self, FaultPoint};
use crate::{Engine, EngineError, Log};

/// A witness's cosignature of the checkpoint of one size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cosignature {
    /// Entries of the log that was cosigned.
    pub size: u64,
    /// Whose it is.
    pub witness: VerifierKey,
    /// The time that it states, seconds since 1970.
    pub cosigned_at_s: u64,
    /// The signature line, without its line feed.
    pub line: String,
}

/// What the database has in the place of a cosignature that is to be kept.
#[derive(Debug)]
pub(crate) enum Found {
    Nothing,
    /// It stays.
    Good,
    /// It is not its witness's, or not of its checkpoint.
    Bad {
        cosigned_at_s: u64,
        line: String,
    },
    /// A row of which nothing can be told.
    Unreadable,
}

impl Engine {
    /// Makes cosignatures of any logs durable, all of them in one commit.
    ///
    /// # Errors
    /// When the database fails: none of them is kept then.
    pub async fn keep_cosignatures(
        &self,
        cosignatures: &[(&Log, &Cosignature)],
    ) -> Result<(), EngineError> {
        keep(self.shared(), cosignatures).await
    }
}

/// See [`Engine::keep_cosignatures`].
pub(crate) async fn keep(
    shared: &Shared,
    cosignatures: &[(&Log, &Cosignature)],
) -> Result<(), EngineError> {
    if cosignatures.is_empty() {
        return Ok(());
    }
    let mut rows = Vec::with_capacity(cosignatures.len());
    for (log, cosignature) in cosignatures {
        let found = log.in_place_of(cosignature).await?;
        rows.push((log.info(), *cosignature, found));
    }
    // In one order, so that replicas that keep the same do not wait for each other in a circle.
    rows.sort_by_key(|(log, ..)| log.id);
    let keep = shared.store.keep_cosignatures(&rows);
    let point = FaultPoint::KeepCosignature;
    faults::step(shared.faults.as_ref(), point, keep).await
}

impl Log {
    /// The good cosignatures of the checkpoint of a size. What the database garbled is left out: one bad line would spoil the note.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn cosignatures(&self, size: u64) -> Result<Vec<Cosignature>, EngineError> {
        let (rows, _) = self.shared().store.cosignatures(self.info(), size).await?;
        if rows.is_empty() {
            return Ok(rows);
        }
        let checkpoint = self.checkpoint_at(size).await?;
        let good = rows
            .into_iter()
            .filter(|row| self.is_good(&checkpoint, row));
        Ok(good.collect())
    }

    fn is_good(&self, checkpoint: &str, row: &Cosignature) -> bool {
        let verified = self.verify(checkpoint, row);
        if let Err(error) = &verified {
            let (origin, size) = (&self.info().origin, row.size);
            tracing::error!(origin, size, %error, "a cosignature that was kept is not good any more");
        }
        verified.is_ok()
    }

    async fn in_place_of(&self, kept: &Cosignature) -> Result<Found, EngineError> {
        let store = &self.shared().store;
        let found = store.cosignature_of(self.info(), kept.size, &kept.witness);
        Ok(match found.await? {
            None => Found::Nothing,
            Some(None) => Found::Unreadable,
            Some(Some(row)) => {
                let checkpoint = self.checkpoint_at(kept.size).await?;
                match self.verify(&checkpoint, &row) {
                    Ok(()) => Found::Good,
                    Err(_) => Found::Bad {
                        cosigned_at_s: row.cosigned_at_s,
                        line: row.line,
                    },
                }
            }
        })
    }

    /// What is not good of the cosignatures that are kept, in plain words.
    pub(crate) async fn bad_cosignatures(&self) -> Result<Vec<String>, EngineError> {
        let store = &self.shared().store;
        let mut found = Vec::new();
        let (sizes, others) = store.cosigned_sizes(self.info()).await?;
        if others > 0 {
            found.push(format!("cosignatures have {others} sizes that are none"));
        }
        // Afterwards: the log may grow.
        let head = self.head().await?;
        for size in sizes {
            if size > head.size {
                found.push(format!(
                    "a cosignature is of {size} entries, the log has {}",
                    head.size
                ));
                continue;
            }
            let checkpoint = match self.checkpoint_at(size).await {
                Ok(checkpoint) => checkpoint,
                // The other findings must not be lost by it.
                Err(EngineError::Damaged { reason, .. }) => {
                    found.push(format!("cosignatures of {size} entries: {reason}"));
                    continue;
                }
                Err(error) => return Err(error),
            };
            let (rows, nameless) = store.cosignatures(self.info(), size).await?;
            if nameless > 0 {
                found.push(format!(
                    "{nameless} cosignatures of {size} entries name no witness, or cannot be read"
                ));
            }
            for row in rows {
                if let Err(error) = self.verify(&checkpoint, &row) {
                    let witness = row.witness.name();
                    found.push(format!(
                        "the cosignature of {witness} of {size} entries: {error}"
                    ));
                }
            }
        }
        Ok(found)
    }

    fn verify(&self, checkpoint: &str, row: &Cosignature) -> Result<(), String> {
        let note = format!("{checkpoint}{}\n", row.line);
        let known = std::slice::from_ref(&row.witness);
        let opened = checkpoint::open(note.as_bytes(), &self.info().vkey, known);
        let opened = opened.map_err(|error| error.to_string())?;
        match opened.cosignatures.as_slice() {
            [one] if one.timestamp == Some(row.cosigned_at_s) => Ok(()),
            _ => Err("it is not of its witness, or not of its time".to_owned()),
        }
    }

    /// The checkpoint of a size that the log has had, with all cosignatures that are kept of it.
    ///
    /// # Errors
    /// As [`Log::checkpoint_at`].
    pub async fn cosigned_checkpoint(&self, size: u64) -> Result<String, EngineError> {
        let mut checkpoint = self.checkpoint_at(size).await?;
        for cosignature in self.cosignatures(size).await? {
            checkpoint.push_str(&cosignature.line);
            checkpoint.push('\n');
        }
        Ok(checkpoint)
    }

    /// The newest checkpoint, with all cosignatures that are kept of it.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn cosigned_head(&self) -> Result<Vec<u8>, EngineError> {
        let head = self.head().await?;
        let checkpoint = head.checkpoint.into_bytes();
        let cosigned = self.with_cosignatures(&checkpoint, head.size).await?;
        Ok(cosigned.unwrap_or(checkpoint))
    }

    /// The sizes whose checkpoints have cosignatures that are kept, the largest first.
    pub(crate) async fn cosigned_sizes(&self) -> Result<Vec<u64>, EngineError> {
        let (sizes, _) = self.shared().store.cosigned_sizes(self.info()).await?;
        Ok(sizes)
    }

    /// A checkpoint of a size with the cosignatures that are kept; `None`: it has them all.
    pub(crate) async fn with_cosignatures(
        &self,
        note: &[u8],
        size: u64,
    ) -> Result<Option<Vec<u8>>, EngineError> {
        let kept = self.cosignatures(size).await?;
        with_lines(note, &kept)
            .map_err(|error| EngineError::damaged(&self.info().origin, error.to_string()))
    }

    /// The largest size whose checkpoint has the cosignatures that a policy asks for; `None`: there is none.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn witnessed(&self, policy: &Policy) -> Result<Option<u64>, EngineError> {
        for size in self.cosigned_sizes().await? {
            if self.is_witnessed(policy, size).await? {
                return Ok(Some(size));
            }
        }
        Ok(None)
    }

    /// Whether the checkpoint of a size has the cosignatures that a policy asks for.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn is_witnessed(&self, policy: &Policy, size: u64) -> Result<bool, EngineError> {
        let found = self.cosignatures(size).await?;
        let keys: Vec<VerifierKey> = found.into_iter().map(|one| one.witness).collect();
        Ok(policy.is_met_by(&keys))
    }

    /// The largest size of the log that a witness has cosigned, as far as is known here; 0: none. What the database garbled is none: the
    /// witness is asked again.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn cosigned_size(&self, witness: &VerifierKey) -> Result<u64, EngineError> {
        let store = &self.shared().store;
        let held = self.head().await?.size;
        let mut below = held.saturating_add(1);
        loop {
            let rows = store
                .cosignatures_by(self.info(), witness, below, 4)
                .await?;
            let Some(last) = rows.last() else {
                return Ok(0);
            };
            below = last.size;
            for row in &rows {
                let checkpoint = self.checkpoint_at(row.size).await?;
                if self.is_good(&checkpoint, row) {
                    return Ok(row.size);
                }
            }
        }
    }

    /// Takes away the cosignatures of sizes below one, but for those of `witnessed`, and for each witness's first of each day (UTC):
    /// those bound in time what the log had by then.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn thin_cosignatures(&self, below: u64, witnessed: u64) -> Result<(), EngineError> {
        let store = &self.shared().store;
        store.thin_cosignatures(self.info(), below, witnessed).await
    }
}

/// The note with the lines that it has not yet; `None`: it has them all.
fn with_lines(note: &[u8], lines: &[Cosignature]) -> Result<Option<Vec<u8>>, NoteError> {
    let mut note = Note::parse(note)?;
    let mut added = false;
    for one in lines {
        let line = SignatureLine::parse(&one.line)?;
        let is_there = note
            .signatures()
            .iter()
            .any(|there| there.name() == line.name() && there.key_id() == line.key_id());
        if !is_there {
            note.add_signature(line)?;
            added = true;
        }
    }
    Ok(added.then(|| note.to_bytes()))
}

/// Whether a note is a checkpoint as the log has signed it, with any lines of others after it or without.
pub(crate) fn is_note_of(note: &[u8], signed: &str) -> bool {
    let (Ok(note), Ok(signed)) = (Note::parse(note), Note::parse(signed.as_bytes())) else {
        return false;
    };
    let mut lines = signed.signatures().iter();
    note.text() == signed.text() && lines.all(|line| note.signatures().contains(line))
}
