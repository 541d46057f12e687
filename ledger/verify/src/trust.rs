//! What the auditor trusts: keys and checkpoints that came another way than the bundle.
//!
//! ```json
//! {"format": "counterfoil-trust/v1",
//!  "logs": [{"origin": "...", "vkey": "...", "registrar": "<vkey>", "checkpoints": ["<signed checkpoint>", ...]}],
//!  "witnesses": [{"name": "...", "vkey": "..."}], "quorum": 0,
//!  "anchor": {"vkey": "<vkey>", "registrar": "<vkey>", "witnesses": [...], "quorum": 0}}
//! ```
//!
//! `anchor` is left out where no anchor log is trusted; its origin is the name of its key. How many witnesses must have cosigned its
//! checkpoint says its own `quorum`, of its own `witnesses` or of those above; without it, what is asked of every log is asked of it too.
//!
//! A witness policy may also come as a file of its own in the C2SP form ([c2sp.org/tlog-policy]); it then replaces all `witnesses` and
//! `quorum`. Where its `log` lines name the anchor log and leave out another, the cosignatures on the anchor log's checkpoint are enough for
//! that one; where they name others alone, none are asked for on it.
//!
//! [c2sp.org/tlog-policy]: https://c2sp.org/tlog-policy

use counterfoil_evidence::anchor::AnchorKeys;
use counterfoil_tlog::note::KeyKind;
use counterfoil_tlog::{Checkpoint, Policy, VerifierKey, checkpoint};
use serde::Deserialize;

/// Format of a trust file, as it states itself.
pub const FORMAT: &str = "counterfoil-trust/v1";

/// Why a trust file or policy is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TrustError(String);

/// A log that is trusted under a key.
#[derive(Debug, Clone)]
pub struct TrustedLog {
    /// Its origin.
    pub origin: String,
    /// Its key.
    pub key: VerifierKey,
    /// Key of the ledger service as a producer, which registers all other producers.
    pub registrar: VerifierKey,
    /// Checkpoints kept from before, in order of their sizes.
    pub checkpoints: Vec<Checkpoint>,
    /// The same as they were signed, with the lines of others.
    pub notes: Vec<String>,
}

/// What the auditor trusts.
#[derive(Debug, Clone)]
pub struct Trust {
    logs: Vec<TrustedLog>,
    witnesses: Vec<VerifierKey>,
    policy: Policy,
    anchor: Option<TrustedAnchor>,
}

/// The anchor log that is trusted.
#[derive(Debug, Clone)]
pub struct TrustedAnchor {
    /// Who makes it, and who may cosign its checkpoints.
    pub keys: AnchorKeys,
    /// `None`: nobody needs to.
    policy: Option<Policy>,
}

impl TrustedAnchor {
    /// Whether any cosignature is asked for.
    #[must_use]
    pub fn asks_for_witnesses(&self) -> bool {
        self.policy.as_ref().is_some_and(Policy::asks_for_witnesses)
    }

    /// Whether these cosigners are enough.
    #[must_use]
    pub fn quorum_met(&self, cosigners: &[VerifierKey]) -> bool {
        let policy = self.policy.as_ref();
        policy.is_none_or(|policy| policy.is_met_by(cosigners))
    }

    fn asking(self, policy: Option<Policy>) -> Self {
        let witnesses = policy.as_ref().map(keys).unwrap_or_default();
        let keys = AnchorKeys {
            witnesses,
            ..self.keys
        };
        Self { keys, policy }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TrustFile {
    format: String,
    logs: Vec<LogEntry>,
    #[serde(default)]
    witnesses: Vec<WitnessEntry>,
    #[serde(default)]
    quorum: usize,
    anchor: Option<AnchorEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AnchorEntry {
    vkey: String,
    registrar: String,
    #[serde(default)]
    witnesses: Vec<WitnessEntry>,
    quorum: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LogEntry {
    origin: String,
    vkey: String,
    registrar: String,
    #[serde(default)]
    checkpoints: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WitnessEntry {
    name: String,
    vkey: String,
}

impl Trust {
    /// Reads a trust file.
    ///
    /// # Errors
    /// When it does not follow the format, a key is none, a kept checkpoint is not signed by its log, or one key stands for two
    /// witnesses.
    pub fn parse(json: &[u8]) -> Result<Self, TrustError> {
        let file: TrustFile = serde_json::from_slice(json).map_err(refuse("trust file"))?;
        if file.format != FORMAT {
            return Err(TrustError(format!(
                "trust file: unknown format {:?}",
                file.format
            )));
        }
        let mut logs: Vec<TrustedLog> = Vec::new();
        for entry in &file.logs {
            if logs.iter().any(|log| log.origin == entry.origin) {
                return Err(TrustError(format!("log {} is there twice", entry.origin)));
            }
            logs.push(trusted_log(entry)?);
        }
        let policy = policy(&file.witnesses, file.quorum)?;
        let anchor = file
            .anchor
            .map(|entry| trusted_anchor(&entry, &file.witnesses, &policy));
        Ok(Self::new(logs, policy.clone(), anchor.transpose()?))
    }

    fn new(logs: Vec<TrustedLog>, policy: Policy, anchor: Option<TrustedAnchor>) -> Self {
        Self {
            logs,
            witnesses: keys(&policy),
            policy,
            anchor,
        }
    }

    /// Takes the witnesses and the quorum from a policy file in the C2SP form instead. Its log lines must be among the logs, or the anchor log.
    ///
    /// # Errors
    /// When a line is not one of a policy.
    pub fn with_policy(self, text: &[u8]) -> Result<Self, TrustError> {
        let policy = Policy::parse(text).map_err(|error| TrustError(error.to_string()))?;
        let names = |key: &VerifierKey| policy.logs().iter().any(|log| log.key == *key);
        let is_anchor =
            |key: &VerifierKey| self.anchor().is_some_and(|anchor| anchor.keys.log == *key);
        for named in policy.logs() {
            if !self.logs.iter().any(|log| log.key == named.key) && !is_anchor(&named.key) {
                let name = &named.name;
                let why = format!("policy: the trust file does not have the log {name}");
                return Err(TrustError(why));
            }
        }
        let anchor = self.anchor.clone().map(|anchor| {
            let is_asked = policy.logs().is_empty() || names(&anchor.keys.log);
            anchor.asking(is_asked.then(|| policy.clone()))
        });
        Ok(Self::new(self.logs, policy, anchor))
    }

    /// The log with an origin.
    #[must_use]
    pub fn log(&self, origin: &str) -> Option<&TrustedLog> {
        self.logs.iter().find(|log| log.origin == origin)
    }

    /// The only log, when there is one only.
    #[must_use]
    pub fn only_log(&self) -> Option<&TrustedLog> {
        match self.logs.as_slice() {
            [log] => Some(log),
            _ => None,
        }
    }

    /// The anchor log, if one is trusted.
    #[must_use]
    pub fn anchor(&self) -> Option<&TrustedAnchor> {
        self.anchor.as_ref()
    }

    /// Keys of the witnesses.
    #[must_use]
    pub fn witnesses(&self) -> &[VerifierKey] {
        &self.witnesses
    }

    /// Whether any cosignature is asked for on a log's own checkpoint. A policy that names the anchor log, and not this one, asks for them there.
    #[must_use]
    pub fn asks_for_witnesses(&self, log: &TrustedLog) -> bool {
        let named = self.policy.logs();
        let names = |key: &VerifierKey| named.iter().any(|log| log.key == *key);
        let by_anchor = self
            .anchor
            .as_ref()
            .is_some_and(|anchor| names(&anchor.keys.log));
        self.policy.asks_for_witnesses() && (names(&log.key) || !by_anchor)
    }

    /// Whether these cosigners of a log's own checkpoint are enough.
    #[must_use]
    pub fn quorum_met(&self, log: &TrustedLog, cosigners: &[VerifierKey]) -> bool {
        !self.asks_for_witnesses(log) || self.policy.is_met_by(cosigners)
    }
}

/// Keys of a policy's witnesses.
fn keys(policy: &Policy) -> Vec<VerifierKey> {
    let witnesses = policy.witnesses().iter();
    witnesses.map(|witness| witness.key.clone()).collect()
}

fn refuse<E: ToString>(what: &str) -> impl Fn(E) -> TrustError {
    let what = what.to_owned();
    move |error| TrustError(format!("{what}: {}", error.to_string()))
}

fn plain_key(vkey: &str, what: &str) -> Result<VerifierKey, TrustError> {
    let key = VerifierKey::parse(vkey).map_err(refuse(what))?;
    if key.kind() == KeyKind::Ed25519 {
        Ok(key)
    } else {
        Err(TrustError(format!("{what} is no Ed25519 key")))
    }
}

fn trusted_log(entry: &LogEntry) -> Result<TrustedLog, TrustError> {
    let origin = &entry.origin;
    let key = plain_key(&entry.vkey, &format!("key of {origin}"))?;
    let registrar = plain_key(&entry.registrar, &format!("registrar of {origin}"))?;
    let mut checkpoints = Vec::new();
    for text in &entry.checkpoints {
        let signed = checkpoint::open_origin(text.as_bytes(), origin, &key, &[])
            .map_err(refuse(&format!("kept checkpoint of {origin}")))?;
        checkpoints.push(signed.checkpoint);
    }
    checkpoints.sort_by_key(|kept| kept.size);
    Ok(TrustedLog {
        origin: origin.clone(),
        key,
        registrar,
        checkpoints,
        notes: entry.checkpoints.clone(),
    })
}

fn trusted_anchor(
    entry: &AnchorEntry,
    witnesses: &[WitnessEntry],
    of_all: &Policy,
) -> Result<TrustedAnchor, TrustError> {
    let own = match (entry.quorum, entry.witnesses.as_slice()) {
        (None, []) => of_all.clone(),
        (Some(quorum), []) => policy(witnesses, quorum)?,
        (Some(quorum), own) => policy(own, quorum)?,
        (None, _) => {
            let why = "trust file: the anchor log has witnesses and no quorum";
            return Err(TrustError(why.to_owned()));
        }
    };
    let keys = AnchorKeys {
        log: plain_key(&entry.vkey, "key of the anchor log")?,
        registrar: plain_key(&entry.registrar, "registrar of the anchor log")?,
        witnesses: Vec::new(),
    };
    let anchor = TrustedAnchor { keys, policy: None };
    Ok(anchor.asking(Some(own)))
}

fn policy(witnesses: &[WitnessEntry], quorum: usize) -> Result<Policy, TrustError> {
    let keys = witnesses
        .iter()
        .map(|entry| witness(&entry.name, &entry.vkey));
    let keys = keys.collect::<Result<_, _>>()?;
    Policy::of(keys, quorum).map_err(refuse("trust file"))
}

fn witness(name: &str, vkey: &str) -> Result<VerifierKey, TrustError> {
    let key = VerifierKey::parse(vkey).map_err(refuse(&format!("witness {name}")))?;
    if key.kind() != KeyKind::CosignatureV1 || key.name() != name {
        return Err(TrustError(format!(
            "witness {name} needs a cosignature key of that name"
        )));
    }
    Ok(key)
}
