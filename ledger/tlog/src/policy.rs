//! Witness policies ([c2sp.org/tlog-policy]): which logs and witnesses are known, and whose cosignatures are enough.
//!
//! Invariants: no public key stands for two logs, nor for two witnesses, whatever their names; a name is a member of one group at
//! most, so a witness counts in one way only; a group or quorum refers to lines before it.
//!
//! Absent: ML-DSA-44 keys, whose lines are refused like every other that is not understood. A policy that is not understood in full
//! would be a weaker one.
//!
//! [c2sp.org/tlog-policy]: https://c2sp.org/tlog-policy

use std::collections::{BTreeMap, BTreeSet};

use crate::decimal;
use crate::note::{KeyKind, NoteError, VerifierKey};

/// Most lines that define a log, a witness or a group; implementations should take at least 32 of each.
const DEFINITIONS_MAX: usize = 1024;

/// A log or witness of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyKey {
    /// The name that the policy calls a witness by, which means nothing outside of it; of a log the name of its key, its origin.
    pub name: String,
    /// Its key.
    pub key: VerifierKey,
    /// Where it can be reached, as the policy has it: of a witness the submission prefix.
    pub url: Option<String>,
}

/// How many of whom must have cosigned.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Rule {
    Witness(usize),
    Group(usize, Vec<Rule>),
}

/// A witness policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    logs: Vec<PolicyKey>,
    witnesses: Vec<PolicyKey>,
    rule: Rule,
}

/// Why a text is not a policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// A line is not one of a policy, or says what cannot be.
    #[error("policy line {line}: {why}")]
    Line {
        /// Which, from 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// There is no quorum line.
    #[error("policy: it has no quorum")]
    NoQuorum,
    /// More is asked for than there are.
    #[error("a quorum of {quorum} cannot be met by {witnesses} witnesses")]
    Unreachable {
        /// Cosignatures asked for.
        quorum: usize,
        /// Witnesses there are.
        witnesses: usize,
    },
    /// The cosigned message does not name the cosigner: one key under two names would count twice.
    #[error("{0} has the key of another")]
    SameKey(String),
    /// A witness signs with another kind of key.
    #[error("witness {0} needs a cosignature key")]
    NoCosigner(String),
}

impl Policy {
    /// A policy that is met by `quorum` cosignatures of these witnesses.
    ///
    /// # Errors
    /// When they are fewer, a key is not one of a cosigner, or there twice.
    pub fn of(witnesses: Vec<VerifierKey>, quorum: usize) -> Result<Self, PolicyError> {
        if quorum > witnesses.len() {
            let witnesses = witnesses.len();
            return Err(PolicyError::Unreachable { quorum, witnesses });
        }
        let mut policy = Self::without_quorum();
        for key in witnesses {
            policy.add_witness(key.name().to_owned(), key, None)?;
        }
        let members = (0..policy.witnesses.len()).map(Rule::Witness).collect();
        policy.rule = Rule::Group(quorum, members);
        Ok(policy)
    }

    /// Reads a policy file strictly.
    ///
    /// # Errors
    /// When a line does not follow the format, or the lines contradict each other.
    pub fn parse(text: &[u8]) -> Result<Self, PolicyError> {
        let mut reading = Reading {
            policy: Self::without_quorum(),
            names: BTreeMap::new(),
            members: BTreeSet::new(),
            quorum: None,
        };
        let body = match text {
            [] => text,
            [body @ .., b'\n'] => body,
            _ => {
                let line = text.split(|byte| *byte == b'\n').count();
                let why = "it does not end with a line feed".to_owned();
                return Err(PolicyError::Line { line, why });
            }
        };
        for (number, line) in (1..).zip(body.split(|byte| *byte == b'\n')) {
            reading.line(line).map_err(|why| PolicyError::Line {
                line: number,
                why: why.0,
            })?;
        }
        reading.policy.rule = reading.quorum.ok_or(PolicyError::NoQuorum)?;
        Ok(reading.policy)
    }

    fn without_quorum() -> Self {
        Self {
            logs: Vec::new(),
            witnesses: Vec::new(),
            rule: Rule::Group(0, Vec::new()),
        }
    }

    fn add_witness(
        &mut self,
        name: String,
        key: VerifierKey,
        url: Option<String>,
    ) -> Result<(), PolicyError> {
        if key.kind() != KeyKind::CosignatureV1 {
            return Err(PolicyError::NoCosigner(name));
        }
        if has(&self.witnesses, &key) {
            return Err(PolicyError::SameKey(name));
        }
        self.witnesses.push(PolicyKey { name, key, url });
        Ok(())
    }

    /// The logs, in order of their lines. Empty: the policy is for whatever log the reader knows.
    #[must_use]
    pub fn logs(&self) -> &[PolicyKey] {
        &self.logs
    }

    /// The witnesses, in order of their lines.
    #[must_use]
    pub fn witnesses(&self) -> &[PolicyKey] {
        &self.witnesses
    }

    /// Whether any cosignature is asked for.
    #[must_use]
    pub fn asks_for_witnesses(&self) -> bool {
        !self.is_met_by(&[])
    }

    /// Whether the cosignatures of these keys over one checkpoint are enough. Keys that are not of the policy do not count.
    #[must_use]
    pub fn is_met_by(&self, cosigners: &[VerifierKey]) -> bool {
        self.met(&self.rule, cosigners)
    }

    fn met(&self, rule: &Rule, cosigners: &[VerifierKey]) -> bool {
        match rule {
            Rule::Witness(at) => {
                let witness = self.witnesses.get(*at);
                witness.is_some_and(|witness| cosigners.contains(&witness.key))
            }
            Rule::Group(needed, members) => {
                let good = members.iter().filter(|member| self.met(member, cosigners));
                good.count() >= *needed
            }
        }
    }
}

/// Whether a public key is among those of a list, under any name.
fn has(keys: &[PolicyKey], key: &VerifierKey) -> bool {
    keys.iter()
        .any(|known| known.key.public_key() == key.public_key())
}

/// What is wrong with a line.
struct Wrong(String);

impl From<PolicyError> for Wrong {
    fn from(error: PolicyError) -> Self {
        Self(error.to_string())
    }
}

impl From<NoteError> for Wrong {
    fn from(error: NoteError) -> Self {
        Self(error.to_string())
    }
}

/// A policy that is being read. Names are octets: two of them are one only if all of theirs are.
struct Reading<'a> {
    policy: Policy,
    names: BTreeMap<&'a [u8], Rule>,
    members: BTreeSet<&'a [u8]>,
    quorum: Option<Rule>,
}

impl<'a> Reading<'a> {
    fn line(&mut self, line: &'a [u8]) -> Result<(), Wrong> {
        if line
            .iter()
            .any(|byte| byte.is_ascii_control() && *byte != b'\t')
        {
            return Err(Wrong("it has a control character".to_owned()));
        }
        let words: Vec<&[u8]> = line
            .split(|byte| matches!(byte, b' ' | b'\t'))
            .filter(|word| !word.is_empty())
            .collect();
        match words.as_slice() {
            [] => Ok(()),
            [first, ..] if first.first() == Some(&b'#') => Ok(()),
            [b"log", vkey, url @ ..] if url.len() < 2 => self.log(vkey, url),
            [b"witness", name, vkey, url @ ..] if url.len() < 2 => self.witness(name, vkey, url),
            [b"group", name, needed, members @ ..] if !members.is_empty() => {
                let rule = self.group(needed, members)?;
                self.define(name, rule)
            }
            [b"quorum", name] if self.quorum.is_none() => {
                self.quorum = Some(match *name {
                    b"none" => Rule::Group(0, Vec::new()),
                    name => self.defined(name)?,
                });
                Ok(())
            }
            _ => Err(Wrong("it is no line of a policy".to_owned())),
        }
    }

    fn log(&mut self, vkey: &[u8], url: &[&[u8]]) -> Result<(), Wrong> {
        let key = parse_key(vkey)?;
        let name = key.name().to_owned();
        if key.kind() != KeyKind::Ed25519 {
            return Err(Wrong(format!("log {name} needs an Ed25519 key")));
        }
        if has(&self.policy.logs, &key) {
            return Err(PolicyError::SameKey(name).into());
        }
        let url = url.first().map(|url| shown(url));
        self.policy.logs.push(PolicyKey { name, key, url });
        Self::within_limits(self.policy.logs.len())
    }

    fn witness(&mut self, name: &'a [u8], vkey: &[u8], url: &[&[u8]]) -> Result<(), Wrong> {
        let rule = Rule::Witness(self.policy.witnesses.len());
        let (key, url) = (parse_key(vkey)?, url.first().map(|url| shown(url)));
        self.policy.add_witness(shown(name), key, url)?;
        self.define(name, rule)
    }

    fn group(&mut self, needed: &[u8], members: &[&'a [u8]]) -> Result<Rule, Wrong> {
        let needed = match needed {
            b"all" => members.len(),
            b"any" => 1,
            number => std::str::from_utf8(number)
                .ok()
                .and_then(decimal::parse)
                .and_then(|needed| usize::try_from(needed).ok())
                .filter(|needed| (1..=members.len()).contains(needed))
                .ok_or_else(|| Wrong(format!("{} is no number of members", shown(number))))?,
        };
        let mut rules = Vec::with_capacity(members.len());
        for member in members {
            // A member of two groups could count twice.
            if !self.members.insert(member) {
                return Err(Wrong(format!("{} is used twice", shown(member))));
            }
            rules.push(self.defined(member)?);
        }
        Ok(Rule::Group(needed, rules))
    }

    fn define(&mut self, name: &'a [u8], rule: Rule) -> Result<(), Wrong> {
        if name == b"none" || self.names.insert(name, rule).is_some() {
            return Err(Wrong(format!("{} is defined twice", shown(name))));
        }
        Self::within_limits(self.names.len())
    }

    fn defined(&self, name: &[u8]) -> Result<Rule, Wrong> {
        let rule = self.names.get(name).cloned();
        rule.ok_or_else(|| Wrong(format!("{} is not defined", shown(name))))
    }

    fn within_limits(definitions: usize) -> Result<(), Wrong> {
        if definitions > DEFINITIONS_MAX {
            return Err(Wrong("there are too many".to_owned()));
        }
        Ok(())
    }
}

/// A word for people; only keys are read as text.
fn shown(word: &[u8]) -> String {
    String::from_utf8_lossy(word).into_owned()
}

fn parse_key(vkey: &[u8]) -> Result<VerifierKey, Wrong> {
    let text = std::str::from_utf8(vkey).map_err(|_| Wrong("a key is not UTF-8".to_owned()))?;
    Ok(VerifierKey::parse(text)?)
}
