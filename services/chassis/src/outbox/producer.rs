//! The Ed25519 key under which a service signs its records.

use std::{fmt, path::Path};

use base64::{Engine, engine::general_purpose::STANDARD};
use counterfoil_tlog::{NoteSigner, signature::RecordSigner};

use crate::secrets::{self, SecretError};

/// A producer's key: named "{deployment}/services/{service}", kept in one file, mode 0600, as Go's private key text.
pub struct ProducerKey {
    note: NoteSigner,
    seed: [u8; 32],
    key_id: String,
}

impl ProducerKey {
    /// Reads the key, or makes it on the first start.
    ///
    /// # Errors
    /// When the file holds something else, a key of another name, or can be read by others.
    pub fn load_or_create(path: &Path, name: &str) -> Result<Self, SecretError> {
        let content = |reason: String| SecretError::Content {
            path: path.to_owned(),
            reason,
        };
        let text = secrets::load_or_create(path, || {
            let seed = secrets::random::<32>()?;
            let signer = NoteSigner::from_seed(name, &seed).map_err(|e| content(e.to_string()))?;
            Ok(signer.to_private_key())
        })?;
        let note = NoteSigner::parse_private_key(&text).map_err(|e| content(e.to_string()))?;
        if note.name() != name {
            return Err(content(format!("is the key {}, not {name}", note.name())));
        }
        let seed = seed_of(&text).ok_or_else(|| content("has no seed".into()))?;
        let key_id = format!("{name}+{:08x}", note.verifier_key().key_id());
        Ok(Self { note, seed, key_id })
    }

    /// "{name}+{8 hex digits}".
    #[must_use]
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// Verifier key, C2SP text form.
    #[must_use]
    pub fn vkey(&self) -> String {
        self.note.vkey()
    }

    /// A signer of records.
    #[must_use]
    pub fn record_signer(&self) -> RecordSigner {
        RecordSigner::from_seed(&self.seed)
    }

    /// A secret that belongs to the service and to nobody else; different for every `purpose`.
    #[must_use]
    pub fn derive_secret(&self, purpose: &str) -> [u8; 32] {
        counterfoil_evidence::leaf::domain_hash(
            b"counterfoil-derived-secret/v1",
            &[purpose.as_bytes(), &self.seed],
        )
    }
}

/// The private key text has been parsed before: it ends with the base64 of a type byte and the seed.
fn seed_of(private_key: &str) -> Option<[u8; 32]> {
    // Base64 may hold a '+', a key's name may not: PRIVATE+KEY+name+id+base64.
    let encoded = private_key.splitn(5, '+').nth(4)?;
    let payload = STANDARD.decode(encoded).ok()?;
    payload.get(1..)?.try_into().ok()
}

impl fmt::Debug for ProducerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProducerKey({})", self.key_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_key_comes_back_and_signs_under_its_vkey() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("service.key");
        // Some seeds have a '+' in their base64: a few keys make it likely that one is seen.
        for round in 0..8 {
            let path = path.with_extension(round.to_string());
            let made = ProducerKey::load_or_create(&path, "d/services/x").unwrap();
            let read = ProducerKey::load_or_create(&path, "d/services/x").unwrap();
            assert_eq!(made.vkey(), read.vkey());
            assert_eq!(
                read.record_signer().public_key(),
                *read.note.verifier_key().public_key()
            );
        }
    }

    #[test]
    fn a_key_of_another_name_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("service.key");
        ProducerKey::load_or_create(&path, "d/services/x").unwrap();
        let error = ProducerKey::load_or_create(&path, "d/services/y").unwrap_err();
        assert!(error.to_string().contains("d/services/x"), "{error}");
    }
}
