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
//! | `scrubs` | rounds of hashing the log again (I-83) |
//! | `authority`, `policies` | owners, rights, policies (I-11, I-13, I-18) |
//! | `providers`, `standing`, `accesses` | what providers were let do, and on what evidence (I-13, I-14, I-45 to I-47, I-49, I-51, I-53) |
//! | `titles`, `two_people`, `emergencies` | rights passed on, four eyes, break-glass (I-13, I-16, I-43, I-82) |
//! | `mandates`, `acts`, `volumes` | nothing: when an AI agent may have had a mandate, what it did, how much of it |
//! | `mandated`, `agents` | mandates of AI agents, and what they did under them (I-65 to I-69) |
//! | `known` | nothing: from where on a log can have records of a type |
//! | `governed`, `life` | the tenant and its units (I-12, I-17) |
//! | `holds` | legal holds (I-70) |
//! | `inventory` | syncs and snapshots (I-19, I-20) |
//! | `places` | who says of which environment and tier a source is (I-46), which rights and tiers are held to (I-13) |
//! | `review` | decisions (I-25, I-26, I-27, G10) |
//! | `population`, `current`, `closing` | what was to be reviewed, what had changed, and that all of it was (I-27, I-28, I-32) |
//! | `recon` | situations (I-58) |
//! | `plans`, `remediation`, `ending`, `persistence`, `timing` | removals (I-33, I-34, I-36 to I-40, I-59, G13) |
//! | `starts` | who let plans out (I-46, I-67) |
//! | `returned` | nothing: what the sealed sets say of access that was gone |
//!
//! How each invariant is read over these records is in `docs/auditing.md`. Not here: bytes, hashes and signatures of the log itself.

mod absorb;
mod accesses;
mod acts;
mod agents;
mod authority;
pub mod check;
mod closing;
mod credentials;
mod current;
mod emergencies;
mod ending;
mod facts;
mod governed;
mod holds;
mod inventory;
mod known;
mod ledger;
mod life;
mod mandated;
mod mandates;
mod persistence;
mod places;
mod plans;
mod policies;
mod population;
mod prepare;
mod providers;
mod recon;
mod remediation;
mod returned;
mod review;
mod scrubs;
mod sets;
mod standing;
mod starts;
mod state;
mod timing;
mod titles;
mod two_people;
mod volumes;

pub use check::{CheckInfo, Judgement, Verdict};
pub use credentials::is_permission;
pub use facts::{
    AccessFacts, CampaignFacts, DecisionMaker, ExceptionFacts, Facts, ObligationFacts,
    RemovalFacts, RunFacts, SourceFacts,
};
pub use holds::HoldFacts;
pub use prepare::{Decoded, Prepared, prepare};

use check::{Check, Tallies};
use state::State;

/// The clocks of producers and of the ledger may differ by this much (I-04), milliseconds.
pub const CLOCK_SKEW_MS: i64 = 300_000;
/// Where a record proves that one thing came before another, clocks may disagree by this much, milliseconds.
pub const ORDER_SKEW_MS: i64 = 1_000;
/// An obligation is overdue when it is open this long after it was due, milliseconds.
pub const OVERDUE_GRACE_MS: i64 = 300_000;

/// A fact must be in the log this long after it happened (I-04), milliseconds: seven days, in which an outage of the ledger can be
/// mended and what services kept meanwhile can be sent. Nobody can date a record further back than that.
pub const INTEGRATION_DELAY_MAX_MS: i64 = 7 * 86_400_000;

/// Where the attachments of the records are, and the log itself.
pub trait Blobs {
    /// The bytes with this SHA-256; `None` when they are not there. Never other bytes.
    fn load(&self, sha256: &[u8; 32]) -> Option<Vec<u8>>;

    /// Root of the log's tree over so many entries; `None` where it cannot be had: what was said of it is not judged then.
    fn root(&self, _size: u64) -> Option<[u8; 32]> {
        None
    }
}

/// A replay in progress.
#[derive(Debug)]
pub struct Replay {
    state: State,
    tallies: Tallies,
    delay_max_ms: i64,
}

impl Default for Replay {
    fn default() -> Self {
        Self {
            state: State::default(),
            tallies: Tallies::default(),
            delay_max_ms: INTEGRATION_DELAY_MAX_MS,
        }
    }
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

    /// The same, with another limit than [`INTEGRATION_DELAY_MAX_MS`].
    #[must_use]
    pub fn with_delay_max_ms(self, delay_max_ms: i64) -> Self {
        Self {
            delay_max_ms,
            ..self
        }
    }

    /// Takes the next record of the log.
    pub fn push(&mut self, recorded_at_ms: i64, prepared: Prepared) {
        let times = (recorded_at_ms, self.delay_max_ms);
        absorb::record(&mut self.state, &mut self.tallies, times, prepared);
    }

    /// Keeps the place of an entry that cannot be read, so that those after it keep theirs.
    pub fn push_unreadable(&mut self) {
        absorb::unreadable(&mut self.state);
    }

    /// Takes a value that was opened, as the record at a place committed to it (I-25). Whatever was withheld is not judged.
    pub fn opened(&mut self, at: u64, label: &str, value: &[u8]) {
        let reason = matches!(label, "justification" | "exception_basis");
        let blank = std::str::from_utf8(value).is_ok_and(|text| text.trim().is_empty());
        self.tallies.expect(Check::I25, !(reason && blank), || {
            format!("entry {at} has a {label} that says nothing")
        });
    }

    /// Judges what needs the whole log and the attachments.
    #[must_use]
    pub fn finish(mut self, blobs: &dyn Blobs) -> Outcome {
        let (state, tallies) = (&mut self.state, &mut self.tallies);
        ledger::judge(state, tallies);
        scrubs::judge(state, tallies, blobs);
        policies::judge(state, tallies);
        authority::judge(state, tallies);
        credentials::judge(state, tallies);
        providers::judge(state, tallies);
        accesses::judge(state, tallies);
        places::judge(state, tallies);
        titles::judge(state, tallies);
        two_people::judge(state, tallies);
        emergencies::judge(state, tallies);
        mandated::judge(state, tallies);
        life::judge(state, tallies, blobs);
        holds::judge(state, tallies);
        inventory::judge(state, tallies, blobs);
        review::judge(state, tallies);
        population::judge(state, tallies, blobs);
        current::judge(state, tallies, blobs);
        recon::judge(state, tallies, blobs);
        let deciders = remediation::judge(state, tallies, blobs);
        starts::judge(state, tallies, blobs);
        agents::judge(state, tallies, blobs);
        persistence::judge(state, tallies, blobs);
        closing::judge(state, tallies, blobs);
        timing::judge(state, tallies, &deciders);
        Outcome {
            facts: facts::collect(state, &deciders, blobs),
            judgements: self.tallies.into_judgements(),
        }
    }
}
