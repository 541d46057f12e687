//! Witnesses ([c2sp.org/tlog-witness]): asking them to cosign checkpoints, and comparing the log with what they have seen.
//!
//! A witness is a stranger: slow, away, or wrong. So its word alone changes nothing here. A cosignature is kept after it verified;
//! a contradiction stops the log after the witness has shown a checkpoint that the log's own key has signed. Without that it is told.
//!
//! Nothing that is appended waits for a witness, and an append that crosses a request does not disturb it.
//!
//! [c2sp.org/tlog-witness]: https://c2sp.org/tlog-witness

use std::fmt::{self, Debug};
use std::sync::Arc;

use async_trait::async_trait;
use counterfoil_tlog::hash::sha256;
use counterfoil_tlog::note::{Note, VerifiedSignature};
use counterfoil_tlog::{VerifierKey, checkpoint};

use crate::anchor::{self, Anchor, AnchorError};
use crate::cosignatures::{self, Cosignature};
use crate::model::Head;
use crate::prove;
use crate::{EngineError, Log, LogInfo};

/// How often a witness is asked again at once because it was at another size.
const ATTEMPTS: usize = 4;

/// How far the clocks of log and witness may be apart.
const CLOCKS_APART_MS: i64 = 300_000;

/// Content type of the size at which a witness is.
const SIZE_TYPE: &str = "text/x.tlog.size";

/// What of a witness's words is told.
const TOLD_BYTES_MAX: usize = 200;

/// An answer of a witness over HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WitnessAnswer {
    /// Status code.
    pub status: u16,
    /// `Content-Type`, if there is one.
    pub content_type: Option<String>,
    /// Body.
    pub body: Vec<u8>,
}

/// Carries requests to a witness and its answers back. The errors are for people.
#[async_trait]
pub trait WitnessCalls: Debug + Send + Sync + 'static {
    /// `POST {submission prefix}/add-checkpoint`.
    ///
    /// # Errors
    /// When there is no answer.
    async fn add_checkpoint(&self, body: String) -> Result<WitnessAnswer, String>;

    /// `GET {monitoring prefix}/{path}`.
    ///
    /// # Errors
    /// When there is no answer.
    async fn monitor(&self, path: String) -> Result<WitnessAnswer, String>;
}

/// A witness. Cheap to clone.
#[derive(Clone)]
pub struct Witness {
    key: VerifierKey,
    calls: Arc<dyn WitnessCalls>,
}

/// Why a witness has not cosigned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WitnessError {
    /// There was no answer, or one that says to come again.
    #[error("it is out of reach: {0}")]
    Unreachable(String),
    /// It does not know the log, or not its key, or does not understand, or cannot be followed.
    #[error("it refuses: {0}")]
    Refused(String),
    /// What it answered is no good cosignature of its key.
    #[error("it answered with no good cosignature: {0}")]
    BadCosignature(String),
    /// It says that it has seen another history, and shows nothing that the log has signed.
    #[error("it contradicts, and shows nothing that this log has signed: {0}")]
    Contradicts(String),
    /// The log itself cannot be read, or has been stopped: [`EngineError::Damaged`] also when the witness has shown a checkpoint that
    /// the log has signed and is not.
    #[error(transparent)]
    Log(#[from] EngineError),
}

impl Witness {
    /// A witness with the key that its cosignatures must verify with.
    #[must_use]
    pub fn new(key: VerifierKey, calls: Arc<dyn WitnessCalls>) -> Self {
        Self { key, calls }
    }

    /// Its key.
    #[must_use]
    pub fn key(&self) -> &VerifierKey {
        &self.key
    }
}

impl Debug for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Witness({})", self.key)
    }
}

/// Remembers what it has cosigned, where it shows that: a witness may have no monitoring prefix.
#[async_trait]
impl Anchor for Witness {
    fn name(&self) -> String {
        format!("the witness {}", self.key.name())
    }

    async fn newest(&self, log: &LogInfo) -> Result<Option<Vec<u8>>, AnchorError> {
        let failed = |reason: String| AnchorError {
            name: self.name(),
            reason,
        };
        let path = format!("{}/checkpoint", sha256(log.origin.as_bytes()));
        let answer = self.calls.monitor(path).await.map_err(failed)?;
        match answer.status {
            // A stranger's word would not do: only what the log's own key has signed is remembered.
            200 => match checkpoint::open(&answer.body, &log.vkey, &[]) {
                Ok(_) => Ok(Some(answer.body)),
                Err(error) => Err(failed(format!(
                    "it shows a checkpoint that the log has not signed: {error}"
                ))),
            },
            404 => Ok(None),
            _ => Err(failed(told(&answer))),
        }
    }

    fn is_near(&self) -> bool {
        false
    }
}

/// What a witness answers to a checkpoint.
enum Said {
    Cosigned(Box<Cosignature>),
    /// It is at another size.
    IsAt(u64),
    /// The checkpoint does not follow what it has seen.
    Contradicts(String),
}

impl Log {
    /// [`Self::ask_to_cosign`]; the cosignature is durable when this answers.
    ///
    /// # Errors
    /// See [`WitnessError`].
    pub async fn cosign(&self, witness: &Witness, size: u64) -> Result<Cosignature, WitnessError> {
        let cosignature = self.ask_to_cosign(witness, size, u64::MAX).await?;
        cosignatures::keep(self.shared(), &[(self, &cosignature)]).await?;
        Ok(cosignature)
    }

    /// Has a witness cosign the checkpoint of a size that the log has had, or of a larger one that the witness has seen already, or says so; but
    /// of none above `most`, because its word must not draw out what nobody has been shown yet. Nothing is kept: see
    /// [`crate::Engine::keep_cosignatures`].
    ///
    /// # Errors
    /// See [`WitnessError`].
    pub async fn ask_to_cosign(
        &self,
        witness: &Witness,
        size: u64,
        most: u64,
    ) -> Result<Cosignature, WitnessError> {
        if let Some(why) = self.stopped().await? {
            let why = format!("it was stopped: {why}");
            return Err(EngineError::damaged(&self.info().origin, why).into());
        }
        let mut old = self.cosigned_size(witness.key()).await?;
        let mut size = size.max(old);
        let mut told = None;
        for _ in 0..ATTEMPTS {
            let head = self.head_at(size).await?;
            let claim = match self.offer(witness, old, &head).await? {
                // If we crash here: the witness has persisted this size and we have no cosignature. The next attempt is
                // answered with its size, and the same checkpoint gets a fresh cosignature.
                Said::Cosigned(cosignature) => return Ok(*cosignature),
                // Another replica of this service may have been faster. What a witness has seen only grows.
                Said::IsAt(at)
                    if at != old
                        && told.is_none_or(|before| at > before)
                        && at <= self.head().await?.size =>
                {
                    if at > size.max(most) {
                        let why = format!("it has cosigned {at} entries, which are not shown yet");
                        return Err(WitnessError::Refused(why));
                    }
                    old = at;
                    told = Some(at);
                    size = size.max(at);
                    continue;
                }
                Said::IsAt(at) => format!("it has cosigned {at} entries"),
                Said::Contradicts(claim) => claim,
            };
            self.check_witness(witness).await?;
            return Err(WitnessError::Contradicts(claim));
        }
        let why = "it is at another size each time, or other processes keep asking it for the log";
        Err(WitnessError::Refused(why.to_owned()))
    }

    /// Compares the log with what a witness shows of it. Behind that, or beside it: the log is stopped. A witness that shows nothing, or
    /// cannot be reached, changes nothing.
    ///
    /// # Errors
    /// [`EngineError::Damaged`] when the log is stopped now; otherwise when the database cannot be read.
    pub async fn check_witness(&self, witness: &Witness) -> Result<(), EngineError> {
        let (shared, info) = (self.shared(), self.info());
        let note = match witness.newest(info).await {
            Ok(Some(note)) => note,
            Ok(None) => return Ok(()),
            Err(error) => {
                tracing::info!(origin = info.origin, %error, "the log was not compared with it");
                return Ok(());
            }
        };
        let (head, _) = shared.store.head(info).await?;
        let checked = anchor::check(shared, info, &head, &witness.name(), &note).await;
        if let Err(error @ EngineError::Damaged { .. }) = &checked {
            self.stop(error).await?;
        }
        checked.map(drop)
    }

    /// Sends one checkpoint, with the proof that it follows what the witness has seen.
    async fn offer(&self, witness: &Witness, old: u64, head: &Head) -> Result<Said, WitnessError> {
        let (shared, info) = (self.shared(), self.info());
        let mut body = format!("old {old}\n");
        if old > 0 {
            // The proof is verified before it leaves, so that what a witness refuses is not for want of one.
            prove::root_at(shared, info, old, head).await?;
            let proof = prove::consistency(shared, info, old, head.size).await?;
            for hash in proof {
                body.push_str(&hash.to_base64());
                body.push('\n');
            }
        }
        body.push('\n');
        body.push_str(&head.checkpoint);
        let answer = witness.calls.add_checkpoint(body).await;
        let answer = answer.map_err(WitnessError::Unreachable)?;
        match answer.status {
            200 => self
                .cosigned(witness, head, &answer.body)
                .map(|one| Said::Cosigned(Box::new(one))),
            409 => Ok(match size_of(&answer) {
                Some(at) => Said::IsAt(at),
                None => Said::Contradicts(told(&answer)),
            }),
            422 => Ok(Said::Contradicts(told(&answer))),
            400..=499 if answer.status != 429 => Err(WitnessError::Refused(told(&answer))),
            _ => Err(WitnessError::Unreachable(told(&answer))),
        }
    }

    /// Reads the cosignature of a witness out of its answer: the lines that it would add to the checkpoint.
    fn cosigned(
        &self,
        witness: &Witness,
        head: &Head,
        lines: &[u8],
    ) -> Result<Cosignature, WitnessError> {
        let bad = |error: &dyn fmt::Display| WitnessError::BadCosignature(error.to_string());
        let key = witness.key();
        let note = [head.checkpoint.as_bytes(), lines].concat();
        let known = std::slice::from_ref(key);
        let opened = checkpoint::open(&note, &self.info().vkey, known);
        let opened = opened.map_err(|error| bad(&error))?;
        let Some(VerifiedSignature {
            timestamp: Some(cosigned_at_s),
            ..
        }) = opened.cosignatures.first()
        else {
            return Err(bad(&"its key has not signed"));
        };
        let at_ms = i64::try_from(*cosigned_at_s)
            .unwrap_or(i64::MAX)
            .saturating_mul(1000);
        let (earliest, latest) = (
            head.recorded_at_ms - CLOCKS_APART_MS,
            self.shared().clock.now_ms() + CLOCKS_APART_MS,
        );
        if !(earliest..=latest).contains(&at_ms) {
            return Err(bad(&format!(
                "it states the time {cosigned_at_s}, before the checkpoint's or after the present"
            )));
        }
        let line = line_of(&opened.note, key).ok_or_else(|| bad(&"it has no line of its key"))?;
        Ok(Cosignature {
            size: head.size,
            witness: key.clone(),
            cosigned_at_s: *cosigned_at_s,
            line,
        })
    }
}

/// The first signature line of a key.
fn line_of(note: &Note, key: &VerifierKey) -> Option<String> {
    let mut lines = note.signatures().iter();
    let line = lines.find(|line| line.name() == key.name() && line.key_id() == key.key_id());
    line.map(ToString::to_string)
}

/// The size in a conflict's body.
fn size_of(answer: &WitnessAnswer) -> Option<u64> {
    let kind = answer.content_type.as_deref()?.split(';').next()?;
    if !kind.trim().eq_ignore_ascii_case(SIZE_TYPE) {
        return None;
    }
    let text = std::str::from_utf8(&answer.body).ok()?.strip_suffix('\n')?;
    let canonical = text == "0" || !text.starts_with('0');
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| canonical && digits)
}

/// An answer for people: its status, and the first words of what it says.
fn told(answer: &WitnessAnswer) -> String {
    let said = String::from_utf8_lossy(answer.body.get(..TOLD_BYTES_MAX).unwrap_or(&answer.body));
    let said = said.trim().escape_debug();
    format!("status {} ({said})", answer.status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_read_in_its_one_form_only() {
        let answer = |kind: &str, body: &str| WitnessAnswer {
            status: 409,
            content_type: Some(kind.to_owned()),
            body: body.as_bytes().to_vec(),
        };
        assert_eq!(size_of(&answer(SIZE_TYPE, "1000\n")), Some(1000));
        assert_eq!(
            size_of(&answer("Text/X.tlog.size; charset=utf-8", "0\n")),
            Some(0)
        );
        for (kind, body) in [
            ("text/plain", "1000\n"),
            (SIZE_TYPE, "1000"),
            (SIZE_TYPE, "01\n"),
            (SIZE_TYPE, "+1\n"),
            (SIZE_TYPE, "\n"),
            (SIZE_TYPE, ""),
            (SIZE_TYPE, "1\n2\n"),
            (SIZE_TYPE, "18446744073709551616\n"),
        ] {
            assert_eq!(size_of(&answer(kind, body)), None, "{kind} {body:?}");
        }
    }
}
