//! What a thief holds.

use std::collections::HashMap;

use counterfoil_tlog::note::NoteSigner;
use counterfoil_tlog::signature::RecordSigner;

/// Signing keys that should not be in these hands.
#[derive(Debug)]
pub struct StolenKeys {
    /// The log's key.
    pub log: NoteSigner,
    producers: HashMap<String, (String, RecordSigner)>,
}

impl StolenKeys {
    /// The log's key alone.
    #[must_use]
    pub fn new(log: NoteSigner) -> Self {
        Self {
            log,
            producers: HashMap::new(),
        }
    }

    /// And the key of the producer of a stream.
    #[must_use]
    pub fn with_producer(mut self, stream: &str, key_id: &str, signer: RecordSigner) -> Self {
        self.producers
            .insert(stream.to_owned(), (key_id.to_owned(), signer));
        self
    }

    /// Key id and key of the producer of a stream.
    #[must_use]
    pub fn producer(&self, stream: &str) -> Option<(&str, &RecordSigner)> {
        self.producers
            .get(stream)
            .map(|(key_id, signer)| (key_id.as_str(), signer))
    }
}
