//! The heads of all logs, and which of them the epochs of the anchor log have: what its records leave out.
//!
//! Making an epoch takes three durable steps: [`Engine::open_anchor_epoch`] says which heads it has, its record is appended to the anchor
//! log, [`Engine::close_anchor_epoch`] says where that stands. Whoever finds an open epoch goes on with it, so of several processes that
//! make the same epoch one says what is in it, and a process that was cut off leaves nothing that cannot be proved.
//!
//! Not here: the map over the heads, its record, and when one is made.

use std::ops::RangeInclusive;

use counterfoil_tlog::{Hash, VerifierKey, checkpoint};

use crate::faults::{self, FaultPoint};
use crate::{Engine, EngineError, Log, LogId};

/// A log with its newest signed state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogHead {
    /// Number of the log.
    pub log: LogId,
    /// Whose it is.
    pub tenant: String,
    /// Its name in checkpoints.
    pub origin: String,
    /// The key that signs its checkpoints, C2SP text form.
    pub vkey: String,
    /// Number of entries.
    pub size: u64,
    /// Root over them.
    pub root: Hash,
    /// What the log's key has signed for it, if nothing has changed in the database since.
    pub checkpoint: String,
}

impl LogHead {
    /// Whether size and root are those that the log's key has signed.
    #[must_use]
    pub fn is_signed(&self) -> bool {
        let Ok(vkey) = VerifierKey::parse(&self.vkey) else {
            return false;
        };
        let signed = checkpoint::open(self.checkpoint.as_bytes(), &vkey, &[]);
        signed.is_ok_and(|signed| {
            let said = &signed.checkpoint;
            (said.origin.as_str(), said.size, said.root)
                == (self.origin.as_str(), self.size, self.root)
        })
    }
}

/// A log whose newest signed state cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreadableHead {
    /// Number of the log.
    pub log: LogId,
    /// Whose it is.
    pub tenant: String,
    /// Its name in checkpoints.
    pub origin: String,
    /// The key that signs its checkpoints, C2SP text form.
    pub vkey: String,
    /// Why, in plain words.
    pub reason: String,
}

/// The logs with their newest signed states, in order of creation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Heads {
    /// Those that can be read.
    pub read: Vec<LogHead>,
    /// Those that cannot.
    pub unreadable: Vec<UnreadableHead>,
}

/// A head of a log that was taken into an epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnchoredHead {
    /// Number of the log.
    pub log: LogId,
    /// Its name in checkpoints.
    pub origin: String,
    /// Number of entries.
    pub size: u64,
    /// Root over them.
    pub root: Hash,
}

/// What is kept of an epoch beside its heads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnchorEpoch {
    /// 1, 2, 3, ...
    pub number: u64,
    /// What the salts of its map are made of.
    pub secret: [u8; 32],
    /// Canonical bytes of its record's payload.
    pub payload: Vec<u8>,
    /// Where the record stands in the anchor log; `None`: it is open.
    pub index: Option<u64>,
}

impl Engine {
    /// The newest head of every log, stopped or not. Those that cannot be read are among [`Engine::troubles`] until they can.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn heads(&self) -> Result<Heads, EngineError> {
        let shared = self.shared();
        let heads = shared.store.heads().await?;
        let unreadable = heads.unreadable.iter();
        let unreadable = unreadable.map(|one| (one.origin.clone(), one.reason.clone()));
        shared.meters.unreadable("head", unreadable.collect());
        Ok(heads)
    }

    /// The newest epoch that the database knows.
    ///
    /// # Errors
    /// [`EngineError::Damaged`] when what is kept of it cannot be read; otherwise when the database cannot be.
    pub async fn newest_anchor_epoch(&self) -> Result<Option<AnchorEpoch>, EngineError> {
        self.shared().store.newest_anchor_epoch().await
    }

    /// The newest epoch up to a number whose record stands in the anchor log.
    ///
    /// # Errors
    /// As [`Self::newest_anchor_epoch`].
    pub async fn closed_anchor_epoch(
        &self,
        until: u64,
    ) -> Result<Option<AnchorEpoch>, EngineError> {
        self.shared().store.closed_anchor_epoch(until).await
    }

    /// The number of the newest epoch up to a number whose record stands in the anchor log, even if nothing else of it can be read.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn closed_anchor_number(&self, until: u64) -> Result<Option<u64>, EngineError> {
        self.shared().store.closed_anchor_number(until).await
    }

    /// The head of every log that an epoch has, in order of creation; without those that cannot be read. Of an epoch of which
    /// the database does not know, those of the last one before it.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn anchored_heads(&self, epoch: u64) -> Result<Vec<AnchoredHead>, EngineError> {
        self.shared().store.anchored_heads(epoch).await
    }

    /// Opens an epoch with the heads that changed since the one before; whether this did, and not somebody else before.
    ///
    /// # Errors
    /// When the database fails: it is open whether the epoch is there.
    pub async fn open_anchor_epoch(
        &self,
        epoch: &AnchorEpoch,
        changed: &[AnchoredHead],
    ) -> Result<bool, EngineError> {
        let shared = self.shared();
        // If we crash before it is durable: there is no such epoch, and the next attempt makes one of what there is then. If we crash after
        // it: the epoch is open, and whoever comes next appends its record.
        let open = shared.store.open_anchor_epoch(epoch, changed);
        faults::step(shared.faults.as_ref(), FaultPoint::OpenEpoch, open).await
    }

    /// Notes where the record of an epoch stands.
    ///
    /// # Errors
    /// When the database fails; noting it again does no harm.
    pub async fn close_anchor_epoch(&self, epoch: u64, index: u64) -> Result<(), EngineError> {
        let shared = self.shared();
        // If we crash before it is durable: the record is in the anchor log and the epoch is open. Whoever goes on with it finds the record by
        // its id, and appends no second one.
        let close = shared.store.close_anchor_epoch(epoch, index);
        faults::step(shared.faults.as_ref(), FaultPoint::CloseEpoch, close).await
    }

    /// Takes back an open epoch of which the anchor log has another record.
    ///
    /// # Errors
    /// When the database fails; taking it back again does no harm.
    pub async fn void_anchor_epoch(&self, epoch: u64) -> Result<(), EngineError> {
        self.shared().store.void_anchor_epoch(epoch).await
    }
}

impl Log {
    /// The head that an epoch has of the log; `None`: the log had none yet.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn anchored_head(&self, epoch: u64) -> Result<Option<AnchoredHead>, EngineError> {
        self.shared().store.anchored_head(self.info(), epoch).await
    }

    /// From which epoch on, and up to which, the log has a head of at most `size` entries; `None`: in no epoch.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn anchored_epochs(
        &self,
        size: u64,
    ) -> Result<Option<RangeInclusive<u64>>, EngineError> {
        self.shared().store.anchored_epochs(self.info(), size).await
    }
}
