//! The two halves of a connector. A [`Reader`] can only look, a [`Writer`] can only take away; they are different
//! principals of the target, so that what the one did is confirmed by the other.

use async_trait::async_trait;
use tokio::sync::mpsc;

use crate::error::Result;
use crate::record::{ControlTotals, Page, ReadSummary};

/// A SHA-256.
pub type Hash = [u8; 32];

/// What a probe found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeReport {
    /// The principal that was used.
    pub principal: String,
    /// What answered, in words.
    pub target: String,
}

/// A grant, named by its two ends.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GrantRef {
    /// Who holds it.
    pub account_native_id: String,
    /// What is held.
    pub entitlement_native_id: String,
}

/// The order to take a direct grant away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevokeRequest {
    /// Who holds it.
    pub account_native_id: String,
    /// What is held.
    pub entitlement_native_id: String,
    /// Names this order in the log of the process. Taking away what is already gone answers
    /// [`WriteOutcome::AlreadyAbsent`], so repeating an order is harmless by itself.
    pub idempotency_key: String,
    /// If given, the order is refused unless [`Writer::grant_state`] still is this.
    pub expected_before: Option<Hash>,
}

impl RevokeRequest {
    /// The grant it is about.
    #[must_use]
    pub fn grant(&self) -> GrantRef {
        GrantRef {
            account_native_id: self.account_native_id.clone(),
            entitlement_native_id: self.entitlement_native_id.clone(),
        }
    }
}

/// What became of an order that was carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteOutcome {
    /// The target said that it made the change. Only a read-back makes it true.
    Applied {
        /// Hash of what the target held for this grant just before ([`Writer::grant_state`]).
        before_hash: Hash,
        /// Hash of the target's answer.
        response_hash: Hash,
    },
    /// There was nothing to take away.
    AlreadyAbsent,
}

/// Looks at a target, under a principal that need not be able to change anything.
#[async_trait]
pub trait Reader: Send {
    /// The principal as it goes into the records.
    fn principal(&self) -> &str;

    /// Checks, cheaply, that the source answers and can be read.
    async fn probe(&mut self) -> Result<ProbeReport>;

    /// Sends everything the source holds, page by page, waiting whenever `sink` is full.
    ///
    /// An error that comes back after pages were sent leaves the sync PARTIAL; so does any row error in the summary.
    async fn read(&mut self, sink: mpsc::Sender<Page>) -> Result<ReadSummary>;

    /// The source's own count, obtained without looking at what `read` streamed.
    async fn control_totals(&mut self) -> Result<ControlTotals>;
}

/// Takes grants away in a target, under a principal of its own.
///
/// The errors of the changing methods are only `Refused` and `NotAttempted` (nothing changed) and `Ambiguous` (unknown).
#[async_trait]
pub trait Writer: Send {
    /// The principal as it goes into the records.
    fn principal(&self) -> &str;

    /// Checks, cheaply and without changing anything, that the target lets this principal in.
    async fn probe(&mut self) -> Result<ProbeReport>;

    /// Hash of what the target holds for a direct grant, `None` when it is absent.
    async fn grant_state(&mut self, grant: &GrantRef) -> Result<Option<Hash>>;

    /// Whether the target holds a direct grant now. For settling an AMBIGUOUS attempt; closing takes the [`Reader`].
    async fn read_grant(&mut self, grant: &GrantRef) -> Result<bool> {
        Ok(self.grant_state(grant).await?.is_some())
    }

    /// [`Writer::read_grant`] for many, one result each, in order.
    async fn read_grants(&mut self, grants: &[GrantRef]) -> Vec<Result<bool>> {
        let mut results = Vec::with_capacity(grants.len());
        for grant in grants {
            results.push(self.read_grant(grant).await);
        }
        results
    }

    /// Takes one direct grant away.
    async fn revoke(&mut self, request: &RevokeRequest) -> Result<WriteOutcome>;

    /// Takes many away, one result each, in order. Each stands alone: one that fails does not stop the others.
    async fn revoke_many(&mut self, requests: &[RevokeRequest]) -> Vec<Result<WriteOutcome>> {
        let mut results = Vec::with_capacity(requests.len());
        for request in requests {
            results.push(self.revoke(request).await);
        }
        results
    }
}
