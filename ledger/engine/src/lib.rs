//! The engine of the ledger: takes signed records, sequences them into one log a tenant, and proves what it holds.
//!
//! - [`Engine::open`] starts one sequencer for all logs; [`Engine::create_log`] and [`Engine::log`] give a [`Log`].
//! - [`Log::append`] answers one [`Outcome`] a record, and a receipt only for what is durable.
//! - The other methods of [`Log`] read: entries, proofs, tiles, an export of a prefix, a full check ([`Log::fsck`]).
//!
//! Invariants:
//! - A log only grows. Its head moves by compare-and-swap on size *and* root, in the transaction that inserts the entries.
//! - No signature leaves the process before the state that it signs is committed; a checkpoint for a past size is signed
//!   only after it was proved to be a prefix of the committed head.
//! - A record is in a log at most once: the same id and bytes give the original position, other bytes are refused.
//! - A stream has no gaps, and each of its records names the one before.
//! - Which key may write which stream follows from the log's own records, never from configuration.
//!
//! - [`Log::publish`] copies a log to an object store, [`Log::recover`] brings back from there what the database lost, and
//!   [`Log::recover_from`] also what only the producers have ([`KeptRecords`]).
//! - [`Engine::open_anchor_epoch`] keeps what the epochs of a deployment's anchor log have of the other logs.
//! - [`Log::evict`] lets the bytes of old entries go that the copy has; they are read from there.
//!
//! - [`Log::cosign`] has a witness cosign a checkpoint ([`Witness`]), over whatever carries the requests.
//!
//! Not here: callers, permissions, gRPC, HTTP, which witnesses are asked when, and what is stated in logs, the anchor log among them.

mod admission;
mod anchor;
mod clock;
mod copy_check;
mod cosignatures;
mod engine;
mod epochs;
mod error;
mod evict;
mod export;
mod faults;
mod fsck;
mod high_water;
mod kept;
mod key_book;
mod keys;
mod labels;
mod log;
mod meters;
mod model;
mod prove;
mod publication;
mod recover;
mod scrub;
mod sequencer;
mod state;
mod status;
mod store;
mod tiles;
mod witness;

pub use anchor::{Anchor, AnchorError};
pub use clock::Clock;
pub use cosignatures::Cosignature;
pub use engine::{Engine, EngineOptions};
pub use epochs::{AnchorEpoch, AnchoredHead, Heads, LogHead, UnreadableHead};
pub use error::{EngineError, Refusal};
pub use evict::Evicted;
pub use export::{Export, ExportedFile};
pub use faults::{FaultPoint, Faults, NoFaults, Verdict};
pub use fsck::{FsckProblem, FsckReport};
pub use high_water::HighWater;
pub use kept::{KeptReceipt, KeptRecord, KeptRecords, RecordList};
pub use keys::{DirectoryKeys, KeyError, LogKeys};
pub use log::{EntryFilter, Log, Pending};
pub use meters::{COMMIT_MS_BOUNDS, EngineCounts};
pub use model::{
    Head, LogId, LogInfo, Outcome, Receipt, SignedRecord, StoredEntry, StreamHead, TypeCount,
    key_id_of,
};
pub use publication::{Publication, Published};
pub use recover::Recovered;
pub use scrub::{ScrubPlace, ScrubStep, Scrubbed};
pub use status::LogStatus;
pub use witness::{Witness, WitnessAnswer, WitnessCalls, WitnessError};
