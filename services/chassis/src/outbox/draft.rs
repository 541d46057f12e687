//! What a service says when it emits a record.

use counterfoil_evidence::v1::{Accountability, BlobRef};
use prost::{Message, Name};

/// A record as a service states it; ids, sequence, hashes, salts and signature are added by the emission.
#[derive(Debug, Clone)]
pub struct RecordDraft {
    pub(super) type_name: String,
    pub(super) short_name: &'static str,
    pub(super) payload: Vec<u8>,
    pub(super) actor: String,
    pub(super) occurred_at_ms: i64,
    pub(super) record_id: Option<[u8; 16]>,
    pub(super) accountability: Option<Accountability>,
    pub(super) subjects: Vec<String>,
    pub(super) commitments: Vec<(String, Vec<u8>)>,
    pub(super) attachments: Vec<Attachment>,
    pub(super) blobs: Vec<BlobRef>,
    pub(super) retention_class: String,
}

/// An attachment that the chassis keeps; a service that derives its blobs on demand names them with [`RecordDraft::blob`].
#[derive(Debug, Clone)]
pub struct Attachment {
    /// What the bytes are, such as "application/vnd.counterfoil.population".
    pub media_type: String,
    /// The bytes.
    pub content: Vec<u8>,
}

impl RecordDraft {
    /// A record with this payload. `actor` is "principals/{principal}" or "services/{service}" (see `Caller::actor`).
    #[must_use]
    pub fn new<P: Message + Name>(
        payload: &P,
        actor: impl Into<String>,
        occurred_at_ms: i64,
    ) -> Self {
        Self {
            type_name: P::full_name(),
            short_name: P::NAME,
            payload: payload.encode_to_vec(),
            actor: actor.into(),
            occurred_at_ms,
            record_id: None,
            accountability: None,
            subjects: Vec::new(),
            commitments: Vec::new(),
            attachments: Vec::new(),
            blobs: Vec::new(),
            retention_class: "governance".into(),
        }
    }

    /// Who answers for it and by what right. Records that state an outcome must have it.
    #[must_use]
    pub fn accountability(mut self, accountability: Accountability) -> Self {
        self.accountability = Some(accountability);
        self
    }

    /// Adds an opaque key to find the record by, such as "campaigns/{campaign}".
    #[must_use]
    pub fn subject(mut self, subject: impl Into<String>) -> Self {
        self.subjects.push(subject.into());
        self
    }

    /// Commits to a value that stays in this service's database. Labels are unique within a record.
    #[must_use]
    pub fn commit(mut self, label: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.commitments.push((label.into(), value.into()));
        self
    }

    /// Attaches bytes that the chassis keeps and discloses.
    #[must_use]
    pub fn attach(mut self, media_type: impl Into<String>, content: Vec<u8>) -> Self {
        self.attachments.push(Attachment {
            media_type: media_type.into(),
            content,
        });
        self
    }

    /// Names an attachment that a [`crate::disclosure::BlobSource`] of the service produces on demand.
    #[must_use]
    pub fn blob(mut self, sha256: [u8; 32], size: u64, media_type: impl Into<String>) -> Self {
        self.blobs.push(BlobRef {
            sha256: sha256.to_vec(),
            size,
            media_type: media_type.into(),
        });
        self
    }

    /// Gives it an id instead of a new UUIDv7.
    #[must_use]
    pub fn record_id(mut self, record_id: [u8; 16]) -> Self {
        self.record_id = Some(record_id);
        self
    }

    /// Keeps it under another retention class than "governance".
    #[must_use]
    pub fn retention_class(mut self, class: impl Into<String>) -> Self {
        self.retention_class = class.into();
        self
    }
}
