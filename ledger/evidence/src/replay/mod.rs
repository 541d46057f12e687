//! Replaying the records of a log: what the invariants of the domain say about them, re-derived and not believed.
//!
//! Records come in the order of the log ([`Replay::push`]); what concerns one stream is judged on the way, because a stream is
//! ordered; what concerns several streams is judged at the end ([`Replay::finish`]), because services write on their own
//! and a record may be integrated before one that it depends on. Sealed sets are loaded one at a time through [`Blobs`].
//!
//! | Module | Judges |
//! | --- | --- |
//! | [`check`] | nothing: the ids, and what was found under each |
//! | `prepare` | one record alone: payload and set proofs; the only part worth spreading over cores |
//! | `state`, `absorb` | nothing: what is remembered of a log |
//! | `ledger` | epochs, obligations, clocks (I-04, I-07, I-08) |
//! | `authority` | owners, rights, policies (I-11, I-13, I-18) |
//! | `inventory` | syncs and snapshots (I-19, I-20) |
//! | `review` | decisions (I-25, I-26, I-27, G10) |
//! | `population`, `closing` | what was to be reviewed, and that all of it was (I-27, I-28, I-32) |
//! | `recon` | situations (I-58) |
//! | `plans`, `remediation`, `ending`, `persistence`, `timing` | removals (I-33, I-34, I-36 to I-40, I-59, G13) |
//! | `returned` | nothing: what the sealed sets say of access that was gone |
//!
//! How each invariant is read over these records is in `docs/auditing.md`. Not here: bytes, hashes and signatures of the log itself.

mod absorb;
mod authority;
pub mod check;
mod closing;
mod ending;
mod facts;
mod inventory;
mod ledger;
mod persistence;
mod plans;
mod population;
mod prepare;
mod recon;
mod remediation;
mod returned;
mod review;
mod sets;
mod state;
mod timing;

pub use check::{CheckInfo, Judgement, Verdict};
pub use facts::{
    CampaignFacts, DecisionMaker, ExceptionFacts, Facts, ObligationFacts, RemovalFacts, RunFacts,
    SourceFacts,
};
pub use prepare::{Decoded, Prepared, prepare};

use check::Tallies;
use state::State;

/// The clocks of producers and of the ledger may differ by this much (I-04), milliseconds.
pub const CLOCK_SKEW_MS: i64 = 300_000;
/// Where a record proves that one thing came before another, clocks may disagree by this much, milliseconds.
pub const ORDER_SKEW_MS: i64 = 1_000;
/// An obligation is overdue when it is open this long after it was due, milliseconds.
pub const OVERDUE_GRACE_MS: i64 = 300_000;

/// Where the attachments of the records are.
pub trait Blobs {
    /// The bytes with this SHA-256; `None` when they are not there. Never other bytes.
    fn load(&self, sha256: &[u8; 32]) -> Option<Vec<u8>>;
}

/// A replay in progress.
#[derive(Debug, Default)]
pub struct Replay {
    state: State,
    tallies: Tallies,
}

/// What a replay found.
#[derive(Debug)]
pub struct Outcome {
    /// One judgement a check, in a fixed order.
    pub judgements: Vec<Judgement>,
    /// What the records amount to.
    pub facts: Facts,
}

impl Replay {
    /// A replay of an empty log.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next record of the log.
    pub fn push(&mut self, recorded_at_ms: i64, prepared: Prepared) {
        absorb::record(&mut self.state, &mut self.tallies, recorded_at_ms, prepared);
    }

    /// Keeps the place of an entry that cannot be read, so that those after it keep theirs.
    pub fn push_unreadable(&mut self) {
        absorb::unreadable(&mut self.state);
    }

    /// Judges what needs the whole log and the attachments.
    #[must_use]
    pub fn finish(mut self, blobs: &dyn Blobs) -> Outcome {
        let (state, tallies) = (&mut self.state, &mut self.tallies);
        ledger::judge(state, tallies);
        authority::judge(state, tallies);
        inventory::judge(state, tallies, blobs);
        review::judge(state, tallies);
        population::judge(state, tallies, blobs);
        recon::judge(state, tallies, blobs);
        let deciders = remediation::judge(state, tallies, blobs);
        persistence::judge(state, tallies, blobs);
        closing::judge(state, tallies, blobs);
        timing::judge(state, tallies, &deciders);
        Outcome {
            facts: facts::collect(state, &deciders, blobs),
            judgements: self.tallies.into_judgements(),
        }
    }
}
