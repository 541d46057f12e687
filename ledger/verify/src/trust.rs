//! What the auditor trusts: keys and checkpoints that came another way than the bundle.
//!
//! ```json
//! {"format": "counterfoil-trust/v1",
//!  "logs": [{"origin": "...", "vkey": "...", "registrar": "<vkey>", "checkpoints": ["<signed checkpoint>", ...]}],
//!  "witnesses": [{"name": "...", "vkey": "..."}], "quorum": 0}
//! ```
//!
//! A witness policy may also come as a file of its own in the C2SP form ([c2sp.org/tlog-policy]); it then replaces
//! `witnesses` and `quorum`.
//!
//! [c2sp.org/tlog-policy]: https://c2sp.org/tlog-policy

use std::collections::{BTreeMap, BTreeSet};

use counterfoil_tlog::note::KeyKind;
use counterfoil_tlog::{Checkpoint, VerifierKey, checkpoint};
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
}

/// How many of whom must have cosigned.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Rule {
    Witness(usize),
    Group(usize, Vec<Rule>),
}

/// What the auditor trusts.
#[derive(Debug, Clone)]
pub struct Trust {
    logs: Vec<TrustedLog>,
    witnesses: Vec<VerifierKey>,
    rule: Rule,
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
        let witnesses: Vec<VerifierKey> = file
            .witnesses
            .iter()
            .map(|entry| witness(&entry.name, &entry.vkey))
            .collect::<Result<_, _>>()?;
        check_distinct(&witnesses)?;
        if file.quorum > witnesses.len() {
            return Err(TrustError(format!(
                "a quorum of {} cannot be met by {} witnesses",
                file.quorum,
                witnesses.len()
            )));
        }
        let rule = Rule::Group(
            file.quorum,
            (0..witnesses.len()).map(Rule::Witness).collect(),
        );
        Ok(Self {
            logs,
            witnesses,
            rule,
        })
    }

    /// Takes the witnesses and the quorum from a policy file in the C2SP form instead. Its log lines must be among the logs.
    ///
    /// # Errors
    /// When a line is not one of a policy.
    pub fn with_policy(mut self, text: &str) -> Result<Self, TrustError> {
        let mut names: BTreeMap<String, Rule> = BTreeMap::new();
        let mut used: BTreeSet<String> = BTreeSet::new();
        let mut quorum = None;
        self.witnesses.clear();
        for (number, line) in (1..).zip(text.lines()) {
            let at = |why: String| TrustError(format!("policy line {number}: {why}"));
            let line = line.split('#').next().unwrap_or_default();
            let words: Vec<&str> = line.split([' ', '\t']).filter(|w| !w.is_empty()).collect();
            match words.as_slice() {
                [] => {}
                ["log", vkey] | ["log", vkey, _] => {
                    let key = VerifierKey::parse(vkey).map_err(|error| at(error.to_string()))?;
                    if !self.logs.iter().any(|log| log.key == key) {
                        return Err(at("the trust file does not have this log".to_owned()));
                    }
                }
                ["witness", name, vkey] | ["witness", name, vkey, _] => {
                    let key = VerifierKey::parse(vkey).map_err(|error| at(error.to_string()))?;
                    if key.kind() != KeyKind::CosignatureV1 {
                        return Err(at("a witness needs a cosignature key".to_owned()));
                    }
                    let rule = Rule::Witness(self.witnesses.len());
                    self.witnesses.push(key);
                    define(&mut names, name, rule).map_err(at)?;
                }
                ["group", name, needed, members @ ..] if !members.is_empty() => {
                    let rule = group(&names, &mut used, needed, members).map_err(at)?;
                    define(&mut names, name, rule).map_err(at)?;
                }
                ["quorum", name] if quorum.is_none() => {
                    quorum = Some(match *name {
                        "none" => Rule::Group(0, Vec::new()),
                        name => names
                            .get(name)
                            .cloned()
                            .ok_or_else(|| at(format!("{name} is not defined")))?,
                    });
                }
                _ => return Err(at("it is no line of a policy".to_owned())),
            }
        }
        check_distinct(&self.witnesses)?;
        self.rule = quorum.ok_or_else(|| TrustError("policy: it has no quorum".to_owned()))?;
        Ok(self)
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

    /// Keys of the witnesses.
    #[must_use]
    pub fn witnesses(&self) -> &[VerifierKey] {
        &self.witnesses
    }

    /// Whether any cosignature is asked for.
    #[must_use]
    pub fn asks_for_witnesses(&self) -> bool {
        !met(&self.rule, &self.witnesses, &[])
    }

    /// Whether these cosigners are enough.
    #[must_use]
    pub fn quorum_met(&self, cosigners: &[VerifierKey]) -> bool {
        met(&self.rule, &self.witnesses, cosigners)
    }
}

fn met(rule: &Rule, witnesses: &[VerifierKey], cosigners: &[VerifierKey]) -> bool {
    match rule {
        Rule::Witness(at) => witnesses
            .get(*at)
            .is_some_and(|witness| cosigners.contains(witness)),
        Rule::Group(needed, members) => {
            let good = members
                .iter()
                .filter(|member| met(member, witnesses, cosigners));
            good.count() >= *needed
        }
    }
}

fn define(names: &mut BTreeMap<String, Rule>, name: &str, rule: Rule) -> Result<(), String> {
    if name == "none" || names.insert(name.to_owned(), rule).is_some() {
        return Err(format!("{name} is defined twice"));
    }
    Ok(())
}

fn group(
    names: &BTreeMap<String, Rule>,
    used: &mut BTreeSet<String>,
    needed: &str,
    members: &[&str],
) -> Result<Rule, String> {
    let needed = match needed {
        "all" => members.len(),
        "any" => 1,
        number => number
            .parse()
            .ok()
            .filter(|needed| (1..=members.len()).contains(needed))
            .ok_or_else(|| format!("{number} is no number of members"))?,
    };
    let mut rules = Vec::with_capacity(members.len());
    for member in members {
        // A member of two groups could count twice.
        if !used.insert((*member).to_owned()) {
            return Err(format!("{member} is used twice"));
        }
        let rule = names
            .get(*member)
            .ok_or_else(|| format!("{member} is not defined"))?;
        rules.push(rule.clone());
    }
    Ok(Rule::Group(needed, rules))
}

fn refuse<E: ToString>(what: &str) -> impl Fn(E) -> TrustError {
    let what = what.to_owned();
    move |error| TrustError(format!("{what}: {}", error.to_string()))
}

fn trusted_log(entry: &LogEntry) -> Result<TrustedLog, TrustError> {
    let origin = &entry.origin;
    let plain = |vkey: &str, what: &str| {
        let key = VerifierKey::parse(vkey).map_err(refuse(&format!("{what} of {origin}")))?;
        if key.kind() == KeyKind::Ed25519 {
            Ok(key)
        } else {
            Err(TrustError(format!("{what} of {origin} is no Ed25519 key")))
        }
    };
    let key = plain(&entry.vkey, "key")?;
    let registrar = plain(&entry.registrar, "registrar")?;
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
    })
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

/// The signed message does not name the cosigner: one key under two names would count twice.
fn check_distinct(witnesses: &[VerifierKey]) -> Result<(), TrustError> {
    let mut seen = BTreeSet::new();
    for witness in witnesses {
        if !seen.insert(*witness.public_key()) {
            return Err(TrustError(format!(
                "witness {} has the key of another",
                witness.name()
            )));
        }
    }
    Ok(())
}
