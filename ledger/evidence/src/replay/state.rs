//! What is remembered of a log while it is replayed. Compact where there is one a grant, plain where there are few.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use super::governed::Governed;
use super::providers::Providers;
use crate::leaf::{GrantKey, GrantLeaf, SourceTag};
use crate::v1;

/// Position of a record in the log.
pub(super) type Pos = u32;
/// SHA-256 of a record or attachment.
pub(super) type Digest = [u8; 32];

/// A name that occurs often, such as a principal's. 0 is the empty name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(super) struct Sym(u32);

impl Sym {
    /// Whether it is the empty name.
    pub(super) fn is_empty(self) -> bool {
        self == Self::default()
    }
}

/// Keeps each name once.
#[derive(Debug)]
pub(super) struct Names {
    known: HashMap<Arc<str>, Sym>,
    texts: Vec<Arc<str>>,
}

impl Default for Names {
    fn default() -> Self {
        let empty: Arc<str> = Arc::from("");
        Self {
            known: HashMap::from([(Arc::clone(&empty), Sym::default())]),
            texts: vec![empty],
        }
    }
}

impl Names {
    pub(super) fn intern(&mut self, text: &str) -> Sym {
        if let Some(known) = self.known.get(text) {
            return *known;
        }
        let sym = Sym(u32::try_from(self.texts.len()).unwrap_or(u32::MAX));
        let text: Arc<str> = Arc::from(text);
        self.texts.push(Arc::clone(&text));
        self.known.insert(text, sym);
        sym
    }

    pub(super) fn find(&self, text: &str) -> Option<Sym> {
        self.known.get(text).copied()
    }

    pub(super) fn text(&self, sym: Sym) -> &str {
        self.texts
            .get(sym.0 as usize)
            .map_or("", |text| text.as_ref())
    }
}

/// Hashes what is a hash already: its first eight bytes.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct PrefixHasher(u64);

impl Hasher for PrefixHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk::<8>() {
            self.0 ^= u64::from_le_bytes(*first);
        }
    }

    fn write_usize(&mut self, _length: usize) {}
}

/// A map by hashes of records. Its keys are SHA-256: nobody can choose colliding prefixes cheaply enough to matter here.
pub(super) type ByDigest<V> = HashMap<Digest, V, BuildHasherDefault<PrefixHasher>>;

/// What is remembered of every record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Meta {
    pub(super) hash: Digest,
    pub(super) recorded_ms: i64,
    pub(super) occurred_ms: i64,
    /// Position in [`crate::catalogue::RECORD_TYPES`]; `u8::MAX` when unknown.
    pub(super) kind: u8,
    pub(super) type_name: Sym,
    pub(super) stream: Sym,
    pub(super) actor: Sym,
    pub(super) owner: Sym,
    /// Interned digest; 0 when none is cited.
    pub(super) authority: u32,
    /// Interned digest; 0 when none is cited.
    pub(super) policy: u32,
    /// For whom the actor acted, outermost first, separated by spaces; empty: for itself.
    pub(super) on_behalf_of: Sym,
}

/// Digests that many records cite. 0 stands for none.
#[derive(Debug, Default)]
pub(super) struct Digests {
    known: HashMap<Vec<u8>, u32>,
    list: Vec<Vec<u8>>,
}

impl Digests {
    pub(super) fn intern(&mut self, bytes: &[u8]) -> u32 {
        if bytes.is_empty() {
            return 0;
        }
        if let Some(known) = self.known.get(bytes) {
            return *known;
        }
        self.list.push(bytes.to_vec());
        let id = u32::try_from(self.list.len()).unwrap_or(u32::MAX);
        self.known.insert(bytes.to_vec(), id);
        id
    }

    /// The digest; `None` for 0.
    pub(super) fn get(&self, id: u32) -> Option<&[u8]> {
        let at = usize::try_from(id).ok()?.checked_sub(1)?;
        self.list.get(at).map(Vec::as_slice)
    }
}

/// A principal of Counterfoil.
#[derive(Debug, Clone)]
pub(super) struct Principal {
    pub(super) from_ms: i64,
    pub(super) kind: v1::PrincipalKind,
    pub(super) organization: Sym,
    pub(super) organization_kind: v1::OrganizationKind,
    pub(super) identity_tag: Vec<u8>,
}

/// The end of a principal or of a right.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ending {
    pub(super) pos: Pos,
    pub(super) effective_ms: i64,
    /// When the log had it.
    pub(super) recorded_ms: i64,
}

impl Ending {
    /// Two ends of one thing: as early as either says, at the place of this, the first in the log.
    pub(super) fn or(self, other: Self) -> Self {
        let Self { pos, .. } = self;
        if other.effective_ms < self.effective_ms {
            Self { pos, ..other }
        } else {
            self
        }
    }
}

/// A record with its place.
#[derive(Debug, Clone)]
pub(super) struct At<T> {
    pub(super) pos: Pos,
    pub(super) what: T,
}

/// A sealed sync and the attachment with its set.
#[derive(Debug, Clone)]
pub(super) struct Sync {
    pub(super) sealed: v1::SourceSyncSealed,
    pub(super) tag: SourceTag,
    pub(super) blob: Option<Digest>,
}

/// A campaign as far as the log has it.
#[derive(Debug, Default)]
pub(super) struct Campaign {
    pub(super) defined: Option<At<v1::CampaignDefined>>,
    pub(super) staged: Option<At<Staged>>,
    pub(super) stages_closed: Vec<At<StageClose>>,
    pub(super) closed: Option<At<Close>>,
    pub(super) items: Vec<u32>,
}

/// A staging with its attachments.
#[derive(Debug)]
pub(super) struct Staged {
    pub(super) record: v1::CampaignStaged,
    pub(super) population: Option<Digest>,
    pub(super) exclusions: Option<Digest>,
}

/// The close of a stage with its attachment.
#[derive(Debug)]
pub(super) struct StageClose {
    pub(super) record: v1::StageClosed,
    pub(super) dispositions: Option<Digest>,
}

/// The close of a campaign with its attachments.
#[derive(Debug)]
pub(super) struct Close {
    pub(super) record: v1::CampaignClosed,
    pub(super) dispositions: Option<Digest>,
    pub(super) debt: Option<Digest>,
}

/// An item of a campaign.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) campaign: Sym,
    pub(super) name: Sym,
    /// As last shown.
    pub(super) leaf: GrantLeaf,
    pub(super) reviewer: Sym,
    /// Interned digest of the identity whose access it is.
    pub(super) subject_tag: u32,
    pub(super) presentation: Digest,
    /// Whether it was shown again because the grant changed.
    pub(super) represented: bool,
    /// The record that ended it, the last one counting.
    pub(super) end: Option<(Pos, v1::Disposition)>,
}

/// An item that was shown again because its grant changed.
#[derive(Debug)]
pub(super) struct ShownAgain {
    pub(super) pos: Pos,
    pub(super) campaign: Sym,
    /// As shown.
    pub(super) leaf: GrantLeaf,
}

/// A decision.
#[derive(Debug)]
pub(super) struct Decided {
    pub(super) pos: Pos,
    pub(super) item: u32,
    pub(super) key: GrantKey,
    pub(super) decision: v1::Decision,
    pub(super) review_by_ms: i64,
    pub(super) expires_ms: i64,
    pub(super) exception_owner: Sym,
    pub(super) evidence_count: u32,
    pub(super) justified: bool,
    pub(super) based: bool,
    pub(super) reduce_to: Option<Box<GrantKey>>,
    /// Interned digest of the subject's identity as routed.
    pub(super) subject_tag: u32,
}

/// An item that ended without a decision.
#[derive(Debug)]
pub(super) struct Undecided {
    pub(super) pos: Pos,
    pub(super) campaign: Sym,
    pub(super) key: GrantKey,
    pub(super) disposition: v1::Disposition,
}

/// A reconciliation run with its attachments.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) record: v1::ReconRunSealed,
    pub(super) authorized: Option<Digest>,
    pub(super) findings: Option<Digest>,
}

/// A remediation as far as the log has it.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) pos: Pos,
    pub(super) record: v1::RemediationPlanned,
    pub(super) actions_blob: Option<Digest>,
    /// Where it was held first.
    pub(super) tripped: Option<Pos>,
    /// Where it was resolved, and whether it goes on; in order of the log.
    pub(super) resolved: Vec<(Pos, bool)>,
    /// Where it was started, in order of the log.
    pub(super) starts: Vec<Pos>,
    pub(super) closes: Vec<At<v1::RemediationClosed>>,
    pub(super) actions: Vec<u32>,
}

impl Plan {
    /// Whether somebody said that it goes on, and nobody that it does not.
    pub(super) fn goes_on(&self) -> bool {
        !self.resolved.is_empty() && self.resolved.iter().all(|(_, resume)| *resume)
    }
}

/// An action of a remediation.
#[derive(Debug)]
pub(super) struct Action {
    pub(super) remediation: Sym,
    pub(super) name: Sym,
    pub(super) key: GrantKey,
    pub(super) attempts: Vec<Attempt>,
    pub(super) effects: Vec<Effect>,
    pub(super) regressions: Vec<Regression>,
}

/// An intent, and what the target answered.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) pos: Pos,
    pub(super) operation: v1::Operation,
    pub(super) idempotency_key: Sym,
    pub(super) executor: Sym,
    pub(super) read_before: Option<Digest>,
    pub(super) answer: Option<Answer>,
}

/// What a target answered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answer {
    pub(super) started_ms: i64,
    pub(super) ended_ms: i64,
    pub(super) result: v1::AttemptResult,
}

/// A read-back.
#[derive(Debug)]
pub(super) struct Effect {
    pub(super) pos: Pos,
    pub(super) claim: v1::EffectClaim,
    pub(super) method: v1::VerificationMethod,
    pub(super) val: u32,
    pub(super) reader: Sym,
    pub(super) observed_ms: i64,
    pub(super) sync: Digest,
    pub(super) set_root: Digest,
    pub(super) set_count: u64,
    pub(super) proved: bool,
    /// Whether it stands after everything was judged; set by the remediation judge.
    pub(super) stands: bool,
    /// The answer of the last attempt before it, by place in `attempts`.
    pub(super) after_attempt: Option<u32>,
}

/// Access that came back.
#[derive(Debug)]
pub(super) struct Regression {
    pub(super) pos: Pos,
    pub(super) closed: Digest,
    pub(super) sync: Digest,
    pub(super) set_root: Digest,
    pub(super) set_count: u64,
    pub(super) proved: bool,
}

/// A grant said to be over.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) pos: Pos,
    pub(super) key: GrantKey,
    pub(super) decision: Digest,
    pub(super) verified: Digest,
    pub(super) decided_to_attempted_ms: i64,
    pub(super) attempted_to_verified_ms: i64,
}

/// A finding.
#[derive(Debug)]
pub(super) struct Finding {
    pub(super) pos: Pos,
    pub(super) run: Sym,
    pub(super) key: GrantKey,
    pub(super) situation: v1::Situation,
    /// Last state and the place of its record.
    pub(super) state: v1::FindingState,
}

/// A finding that changed its state.
#[derive(Debug)]
pub(super) struct FindingChange {
    pub(super) pos: Pos,
    pub(super) finding: Sym,
    pub(super) state: v1::FindingState,
    pub(super) evidence: Digest,
}

/// Something owed.
#[derive(Debug)]
pub(super) struct Obligation {
    pub(super) pos: Pos,
    pub(super) kind: Sym,
    pub(super) owner: Sym,
    pub(super) due_ms: i64,
    pub(super) object: Sym,
    pub(super) discharged: Option<(Pos, Digest)>,
    pub(super) breached: Option<Pos>,
}

/// A grant that a run's snapshot shows gone.
#[derive(Debug, Clone, Copy)]
pub(super) struct SeenGone {
    /// When reading its source began.
    pub(super) began_ms: i64,
    /// The sealed reading.
    pub(super) sync: Pos,
    pub(super) run: Pos,
}

/// What the newest run shows, recomputed.
#[derive(Debug)]
pub(super) struct NewestRun {
    pub(super) pos: Pos,
    pub(super) situations: BTreeMap<i32, u64>,
    /// Leaves of its findings, in order.
    pub(super) findings: Vec<u8>,
}

/// All that is remembered.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) names: Names,
    pub(super) digests: Digests,
    pub(super) metas: Vec<Meta>,
    pub(super) by_hash: ByDigest<Pos>,
    pub(super) schemas: HashSet<Vec<u8>>,
    /// Where each was registered, in order of the log.
    pub(super) schemas_registered: Vec<(Pos, Vec<u8>)>,
    pub(super) schemas_used: HashMap<Vec<u8>, Pos>,
    pub(super) epochs: Vec<At<v1::EpochSealed>>,
    pub(super) scrubs: Vec<At<v1::LogScrubbed>>,
    pub(super) obligations: BTreeMap<[u8; 16], Obligation>,
    pub(super) principals: HashMap<Sym, Principal>,
    pub(super) rights: BTreeMap<Pos, v1::DecisionRightGranted>,
    pub(super) principals_ended: HashMap<Sym, Ending>,
    /// By the right's id.
    pub(super) rights_revoked: HashMap<Sym, Ending>,
    pub(super) governed: Governed,
    pub(super) policies: Vec<At<v1::PolicyBundlePublished>>,
    pub(super) providers: Providers,
    pub(super) sources: Vec<At<v1::SourceRegistered>>,
    pub(super) places: super::places::Places,
    pub(super) syncs: BTreeMap<Pos, Sync>,
    pub(super) snapshots: BTreeMap<Pos, v1::SnapshotSealed>,
    pub(super) campaigns: BTreeMap<Sym, Campaign>,
    pub(super) items: Vec<Item>,
    pub(super) item_at: HashMap<(Sym, Sym), u32>,
    /// For items whose grant came to belong to another identity: until where whose access each was, as interned digests.
    pub(super) former_subjects: HashMap<u32, Vec<(Pos, u32)>>,
    pub(super) shown_again: Vec<ShownAgain>,
    pub(super) decisions: Vec<Decided>,
    pub(super) undecided: Vec<Undecided>,
    pub(super) voids: Vec<At<v1::ReviewItemVoided>>,
    pub(super) exceptions: Vec<At<v1::ExceptionGranted>>,
    pub(super) runs: Vec<At<Run>>,
    pub(super) findings: Vec<Finding>,
    pub(super) finding_at: HashMap<Sym, u32>,
    pub(super) finding_changes: Vec<FindingChange>,
    /// Findings resolved because a run does not show them any more: whether it is so; `None`: the run could not be judged.
    pub(super) resolved_by_runs: HashMap<Pos, Option<bool>>,
    pub(super) plans: BTreeMap<Sym, Plan>,
    pub(super) actions: Vec<Action>,
    pub(super) action_at: HashMap<(Sym, Sym), u32>,
    pub(super) idempotency_keys: HashSet<Sym>,
    pub(super) grants_ended: Vec<Ended>,
    /// Grants that a run's complete snapshot shows gone after their removal was decided.
    pub(super) seen_gone: HashMap<GrantKey, Vec<SeenGone>>,
    /// The newest run that recomputes.
    pub(super) newest_run: Option<NewestRun>,
    pub(super) credentials: super::credentials::Credentials,
}

impl State {
    /// The place of the record with this hash.
    pub(super) fn position(&self, hash: &[u8]) -> Option<Pos> {
        let hash: &Digest = hash.try_into().ok()?;
        self.by_hash.get(hash).copied()
    }

    pub(super) fn meta(&self, pos: Pos) -> Option<&Meta> {
        self.metas.get(pos as usize)
    }

    /// When what the record states happened.
    pub(super) fn occurred_ms(&self, pos: Pos) -> i64 {
        self.meta(pos).map_or(0, |meta| meta.occurred_ms)
    }

    /// When a record was integrated; never, for what is not there.
    pub(super) fn recorded_ms(&self, pos: Pos) -> i64 {
        self.meta(pos).map_or(i64::MAX, |meta| meta.recorded_ms)
    }

    /// The sync that a record cites.
    pub(super) fn sync(&self, hash: &[u8]) -> Option<(Pos, &Sync)> {
        let pos = self.position(hash)?;
        self.syncs.get(&pos).map(|sync| (pos, sync))
    }

    /// The snapshot that a record cites.
    pub(super) fn snapshot(&self, hash: &[u8]) -> Option<(Pos, &v1::SnapshotSealed)> {
        let pos = self.position(hash)?;
        self.snapshots.get(&pos).map(|snapshot| (pos, snapshot))
    }

    /// The name of the source with this tag.
    pub(super) fn source_of(&self, tag: SourceTag) -> Option<&v1::SourceRegistered> {
        // That the tag is the one of the name is judged with the source (I-19).
        self.sources
            .iter()
            .map(|source| &source.what)
            .find(|source| source.source_tag == tag.0)
    }

    /// When the last record was integrated.
    pub(super) fn last_recorded_ms(&self) -> i64 {
        self.metas.last().map_or(0, |meta| meta.recorded_ms)
    }

    /// "entry 17 (ReviewDecided)": how a record is named in a report.
    pub(super) fn entry(&self, pos: Pos) -> String {
        let name = self
            .meta(pos)
            .map_or("", |meta| self.names.text(meta.type_name));
        let short = name.rsplit('.').next().unwrap_or(name);
        format!("entry {pos} ({short})")
    }
}
