//! Which key may write which stream, as the log's own records say (R08).

use std::collections::{BTreeMap, BTreeSet};

use counterfoil_evidence::catalogue::stream;
use counterfoil_evidence::v1::{ActorKeyRegistered, ActorKeyRevoked};
use counterfoil_tlog::VerifierKey;
use counterfoil_tlog::note::KeyKind;

use crate::Refusal;
use crate::model::key_id_of;

/// Longest verifier key text: keeps an entry's own fields below what the record leaves free.
const VKEY_BYTES_MAX: usize = 512;

/// The streams there are.
const STREAMS: [&str; 5] = [
    stream::AUTHORITY,
    stream::INVENTORY,
    stream::RECERTIFICATION,
    stream::RECONCILIATION,
    stream::LEDGER,
];

/// What a record of the log changes in its key book.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KeyEvent {
    Registered(Registration),
    Revoked { key_id: String, after_ms: i64 },
}

/// A key that may write some streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Registration {
    pub(crate) key_id: String,
    pub(crate) public_key: [u8; 32],
    pub(crate) streams: Vec<String>,
    pub(crate) valid_from_ms: i64,
}

impl Registration {
    /// Checks what a registration states.
    pub(crate) fn read(payload: &ActorKeyRegistered) -> Result<Self, Refusal> {
        if payload.vkey.len() > VKEY_BYTES_MAX {
            return Err(Refusal::BadRegistration(
                "has a verifier key that is too long",
            ));
        }
        let key = VerifierKey::parse(&payload.vkey)
            .map_err(|_| Refusal::BadRegistration("has no acceptable verifier key"))?;
        if key.kind() != KeyKind::Ed25519 {
            return Err(Refusal::BadRegistration("is not of a plain Ed25519 key"));
        }
        if key_id_of(&key) != payload.key_id {
            return Err(Refusal::BadRegistration(
                "names another key id than its key has",
            ));
        }
        let known = |name: &String| STREAMS.contains(&name.as_str());
        if payload.streams.is_empty() || !payload.streams.iter().all(known) {
            return Err(Refusal::BadRegistration(
                "names no stream, or an unknown one",
            ));
        }
        let streams: BTreeSet<String> = payload.streams.iter().cloned().collect();
        Ok(Self {
            key_id: payload.key_id.clone(),
            public_key: *key.public_key(),
            streams: streams.into_iter().collect(),
            valid_from_ms: payload.valid_from_ms,
        })
    }
}

impl KeyEvent {
    pub(crate) fn revoked(payload: &ActorKeyRevoked) -> Self {
        Self::Revoked {
            key_id: payload.key_id.clone(),
            after_ms: payload.effective_ms,
        }
    }
}

/// One registered key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RegisteredKey {
    pub(crate) public_key: [u8; 32],
    /// Stream and the time from which it may be written.
    pub(crate) streams: BTreeMap<String, i64>,
    pub(crate) revoked_after_ms: Option<i64>,
}

/// The keys of one log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct KeyBook {
    pub(crate) keys: BTreeMap<String, RegisteredKey>,
}

impl KeyBook {
    /// The book of a log without entries: its registrar may write the ledger's stream, to register itself and all others.
    pub(crate) fn new(registrar: &VerifierKey) -> Self {
        let key = RegisteredKey {
            public_key: *registrar.public_key(),
            streams: BTreeMap::from([(stream::LEDGER.to_owned(), i64::MIN)]),
            revoked_after_ms: None,
        };
        Self {
            keys: BTreeMap::from([(key_id_of(registrar), key)]),
        }
    }

    pub(crate) fn public_key(&self, key_id: &str) -> Option<&[u8; 32]> {
        self.keys.get(key_id).map(|key| &key.public_key)
    }

    /// The key, if it may write the stream in an entry recorded at this time.
    pub(crate) fn allowed(
        &self,
        key_id: &str,
        stream: &str,
        recorded_at_ms: i64,
    ) -> Result<&[u8; 32], Refusal> {
        let not_allowed = || Refusal::KeyNotAllowed(key_id.to_owned());
        let key = self.keys.get(key_id).ok_or_else(not_allowed)?;
        let valid_from_ms = key.streams.get(stream).ok_or_else(not_allowed)?;
        if recorded_at_ms < *valid_from_ms {
            return Err(not_allowed());
        }
        if key
            .revoked_after_ms
            .is_some_and(|after| recorded_at_ms > after)
        {
            return Err(Refusal::KeyRevoked(key_id.to_owned()));
        }
        Ok(&key.public_key)
    }

    /// Whether an event fits what is registered: an id keeps its key, a revoked key stays revoked.
    pub(crate) fn check(&self, event: &KeyEvent) -> Result<(), Refusal> {
        match event {
            KeyEvent::Registered(registration) => match self.keys.get(&registration.key_id) {
                Some(known) if known.public_key != registration.public_key => Err(
                    Refusal::BadRegistration("has the id of another registered key"),
                ),
                Some(known) if known.revoked_after_ms.is_some() => {
                    Err(Refusal::BadRegistration("is of a revoked key"))
                }
                _ => Ok(()),
            },
            KeyEvent::Revoked { key_id, .. } if !self.keys.contains_key(key_id) => {
                Err(Refusal::KeyNotAllowed(key_id.clone()))
            }
            KeyEvent::Revoked { .. } => Ok(()),
        }
    }

    /// Applies a checked event.
    pub(crate) fn apply(&mut self, event: &KeyEvent) {
        match event {
            KeyEvent::Registered(registration) => {
                let key = self
                    .keys
                    .entry(registration.key_id.clone())
                    .or_insert_with(|| RegisteredKey {
                        public_key: registration.public_key,
                        streams: BTreeMap::new(),
                        revoked_after_ms: None,
                    });
                for stream in &registration.streams {
                    // A second registration never takes away what the first one gave.
                    let from = key
                        .streams
                        .entry(stream.clone())
                        .or_insert(registration.valid_from_ms);
                    *from = (*from).min(registration.valid_from_ms);
                }
            }
            KeyEvent::Revoked { key_id, after_ms } => {
                if let Some(key) = self.keys.get_mut(key_id) {
                    let after = key
                        .revoked_after_ms
                        .map_or(*after_ms, |old| old.min(*after_ms));
                    key.revoked_after_ms = Some(after);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use counterfoil_tlog::NoteSigner;

    use super::*;

    fn registration(name: &str, seed: u8, streams: &[&str]) -> ActorKeyRegistered {
        let signer = NoteSigner::from_seed(name, &[seed; 32]).unwrap();
        ActorKeyRegistered {
            principal: "services/x".to_owned(),
            key_id: key_id_of(signer.verifier_key()),
            vkey: signer.vkey(),
            streams: streams.iter().map(|&stream| stream.to_owned()).collect(),
            valid_from_ms: 100,
        }
    }

    fn book() -> KeyBook {
        let registrar = NoteSigner::from_seed("registrar", &[1; 32]).unwrap();
        KeyBook::new(registrar.verifier_key())
    }

    #[test]
    fn a_key_writes_only_the_streams_it_is_registered_for_and_only_from_then_on() {
        let mut book = book();
        let payload = registration("inventory", 2, &["inventory"]);
        let event = KeyEvent::Registered(Registration::read(&payload).unwrap());
        book.check(&event).unwrap();
        book.apply(&event);
        assert!(book.allowed(&payload.key_id, "inventory", 100).is_ok());
        assert!(book.allowed(&payload.key_id, "inventory", 99).is_err());
        assert!(book.allowed(&payload.key_id, "authority", 100).is_err());
    }

    #[test]
    fn a_revoked_key_writes_nothing_later_and_is_not_registered_again() {
        let mut book = book();
        let payload = registration("inventory", 2, &["inventory"]);
        let event = KeyEvent::Registered(Registration::read(&payload).unwrap());
        book.apply(&event);
        book.apply(&KeyEvent::Revoked {
            key_id: payload.key_id.clone(),
            after_ms: 200,
        });
        assert!(book.allowed(&payload.key_id, "inventory", 200).is_ok());
        assert_eq!(
            book.allowed(&payload.key_id, "inventory", 201),
            Err(Refusal::KeyRevoked(payload.key_id.clone()))
        );
        assert!(book.check(&event).is_err());
    }

    #[test]
    fn a_registration_must_say_what_its_key_says() {
        let mut other_id = registration("inventory", 2, &["inventory"]);
        other_id.key_id = "inventory+00000000".to_owned();
        assert!(Registration::read(&other_id).is_err());
        assert!(Registration::read(&registration("inventory", 2, &[])).is_err());
        assert!(Registration::read(&registration("inventory", 2, &["payroll"])).is_err());
    }
}
