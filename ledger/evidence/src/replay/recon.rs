//! Reconciliation runs, recomputed: what was decided, what is observed, and what that makes of every grant.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::check::{Check, Tallies};
use super::sets;
use super::sets::Cached;
use super::state::{At, Finding, FindingChange, NewestRun, Pos, Run, SeenGone, State, Sym};
use super::{Blobs, ORDER_SKEW_MS};
use crate::leaf::{
    AUTHORIZED_LEAF_LEN, AuthorizedLeaf, AuthorizedStatus, FINDING_LEAF_LEN, FindingLeaf,
    GRANT_KEY_LEN, GRANT_LEAF_LEN, GrantKey, GrantLeaf, SourceTag,
};
use crate::situation::{Observed, classify, requires_action};
use crate::v1::{CampaignOutcome, Decision, Disposition, FindingState, Situation};

/// Why a run is not as it should be.
enum Flaw {
    Wrong(String),
    Missing(&'static str),
}

impl From<String> for Flaw {
    fn from(why: String) -> Self {
        Self::Wrong(why)
    }
}

impl From<&str> for Flaw {
    fn from(why: &str) -> Self {
        Self::Wrong(why.to_owned())
    }
}

/// Judges every run and the findings opened of it.
pub(super) fn judge(state: &mut State, tallies: &mut Tallies, blobs: &dyn Blobs) {
    let mut timeline = Timeline::new(state);
    let runs = std::mem::take(&mut state.runs);
    let shown = Shown::collect(state, &runs, blobs);
    for run in &runs {
        tallies.checked(Check::I58);
        let to = timeline.read_up_to(state, run, blobs);
        timeline.advance(to);
        match recompute(state, run, &timeline.decided, blobs) {
            Ok(seen) => {
                for (key, gone) in seen.gone {
                    state.seen_gone.entry(key).or_default().push(gone);
                }
                findings_of(state, tallies, run, &seen.findings);
                resolved_by(state, run, &shown, Some(&seen.findings));
                state.newest_run = Some(NewestRun {
                    pos: run.pos,
                    situations: seen.situations,
                    findings: seen.findings,
                });
            }
            Err(Flaw::Wrong(why)) => {
                tallies.fail(Check::I58, format!("{}: {why}", state.entry(run.pos)));
            }
            Err(Flaw::Missing(what)) => {
                tallies.skip(
                    Check::I58,
                    format!("{what} of {} is not in the bundle", state.entry(run.pos)),
                );
                resolved_by(state, run, &shown, None);
            }
        }
    }
    state.runs = runs;
    let known: HashSet<Sym> = state
        .runs
        .iter()
        .filter_map(|run| state.names.find(&run.what.record.recon_run))
        .collect();
    for finding in &state.findings {
        tallies.expect(Check::I58, known.contains(&finding.run), || {
            format!("{} is of no run", state.entry(finding.pos))
        });
    }
}

/// Every decision and lapse that says something about a grant, and what it says; in order of the log.
pub(super) fn decisions(state: &State) -> Vec<(Pos, AuthorizedLeaf)> {
    let changes = Timeline::new(state).changes;
    changes
        .into_iter()
        .map(|(pos, _, leaf)| (pos, leaf))
        .collect()
}

/// The last effective decision on each grant, as the log grows.
struct Timeline {
    /// What has an effect on the decided side, in order of the log.
    changes: Vec<(Pos, Sym, AuthorizedLeaf)>,
    /// Campaigns that were cancelled, and where: their decisions do not count from there on.
    cancelled: Vec<(Pos, Sym)>,
    next: usize,
    cancelled_so_far: usize,
    decided: BTreeMap<GrantKey, AuthorizedLeaf>,
}

impl Timeline {
    fn new(state: &State) -> Self {
        let mut changes: Vec<(Pos, Sym, AuthorizedLeaf)> = Vec::new();
        for decided in &state.decisions {
            let (status, not_after_ms) = match decided.decision {
                Decision::Accept => (AuthorizedStatus::Authorized, decided.review_by_ms),
                Decision::Exception => (AuthorizedStatus::Authorized, decided.expires_ms),
                _ => (AuthorizedStatus::Revoked, 0),
            };
            let campaign = state
                .items
                .get(decided.item as usize)
                .map(|item| item.campaign)
                .unwrap_or_default();
            changes.push((
                decided.pos,
                campaign,
                leaf(state, decided.pos, decided.key, status, not_after_ms),
            ));
        }
        // A lapse that removes is a decision of the rule. One that retains is none, and leaves what was decided before.
        for lapsed in &state.undecided {
            if lapsed.disposition == Disposition::LapsedRevoke {
                let leaf = leaf(state, lapsed.pos, lapsed.key, AuthorizedStatus::Revoked, 0);
                changes.push((lapsed.pos, lapsed.campaign, leaf));
            }
        }
        changes.sort_unstable_by_key(|(pos, _, _)| *pos);
        let mut cancelled: Vec<(Pos, Sym)> = state
            .campaigns
            .iter()
            .filter_map(|(name, campaign)| {
                let closed = campaign.closed.as_ref()?;
                let cancelled = closed.what.record.outcome() == CampaignOutcome::Cancelled;
                cancelled.then_some((closed.pos, *name))
            })
            .collect();
        cancelled.sort_unstable();
        Self {
            changes,
            cancelled,
            next: 0,
            cancelled_so_far: 0,
            decided: BTreeMap::new(),
        }
    }

    /// Up to where a run had read the decisions. Two services write on their own, so that is not always where its record
    /// stands: a decision it had read may be integrated after it, and one that was made while it ran, before it. What was
    /// decided before the moment it speaks of, it must have read.
    fn read_up_to(&self, state: &State, run: &At<Run>, blobs: &dyn Blobs) -> Pos {
        let stated = run.what.authorized.and_then(|digest| blobs.load(&digest));
        let cited = stated
            .iter()
            .flat_map(|set| set.chunks(AUTHORIZED_LEAF_LEN));
        let newest = cited
            .filter_map(|leaf| AuthorizedLeaf::try_from(leaf).ok())
            .filter_map(|leaf| state.position(&leaf.record_hash))
            .max();
        let from = newest.map_or(0, |newest| newest + 1);
        if from > run.pos {
            return from;
        }
        let between = |pos: Pos| from <= pos && pos < run.pos;
        let mut unread = self
            .changes
            .iter()
            .map(|(pos, _, _)| *pos)
            .filter(|pos| between(*pos));
        let as_of_ms = run.what.record.as_of_ms.saturating_sub(ORDER_SKEW_MS);
        let later = unread.all(|pos| state.occurred_ms(pos) >= as_of_ms);
        if later && !self.cancelled.iter().any(|(pos, _)| between(*pos)) {
            return from;
        }
        run.pos
    }

    /// Goes to just before a place of the log.
    fn advance(&mut self, to: Pos) {
        let cancelled = self.cancelled.iter().filter(|(pos, _)| *pos < to).count();
        let passed = self
            .changes
            .get(self.next.wrapping_sub(1))
            .is_some_and(|(pos, _, _)| *pos >= to);
        if cancelled != self.cancelled_so_far || passed {
            self.cancelled_so_far = cancelled;
            self.next = 0;
            self.decided.clear();
        }
        while let Some((pos, campaign, leaf)) = self.changes.get(self.next) {
            if *pos >= to {
                break;
            }
            let void = self
                .cancelled
                .iter()
                .take(cancelled)
                .any(|(_, name)| name == campaign);
            if !void {
                self.decided.insert(leaf.key, *leaf);
            }
            self.next += 1;
        }
    }
}

fn leaf(
    state: &State,
    pos: Pos,
    key: GrantKey,
    status: AuthorizedStatus,
    not_after_ms: i64,
) -> AuthorizedLeaf {
    AuthorizedLeaf {
        key,
        status,
        not_after_ms: u64::try_from(not_after_ms).unwrap_or(0),
        record_hash: state.meta(pos).map_or([0; 32], |meta| meta.hash),
    }
}

/// What a run saw, recomputed.
#[derive(Default)]
struct Seen {
    situations: BTreeMap<i32, u64>,
    /// Leaves of the findings, in order.
    findings: Vec<u8>,
    /// Grants gone after their removal was decided.
    gone: Vec<(GrantKey, SeenGone)>,
    observed: u64,
}

impl Seen {
    fn note(&mut self, key: GrantKey, situation: Situation) {
        *self.situations.entry(situation as i32).or_default() += 1;
        if requires_action(situation) {
            let leaf = FindingLeaf { key, situation };
            self.findings.extend_from_slice(&leaf.to_bytes());
        }
    }
}

fn recompute(
    state: &State,
    run: &At<Run>,
    decided: &BTreeMap<GrantKey, AuthorizedLeaf>,
    blobs: &dyn Blobs,
) -> Result<Seen, Flaw> {
    let record = &run.what.record;
    let load = |digest: Option<[u8; 32]>, what| {
        digest
            .and_then(|digest| blobs.load(&digest))
            .ok_or(Flaw::Missing(what))
    };
    let authorized = load(run.what.authorized, "the authorised set")?;
    let facts = sets::facts(&authorized, GRANT_KEY_LEN, AUTHORIZED_LEAF_LEN)?;
    if !facts.matches(&record.authorized_root, record.authorized_count) {
        return Err("its authorised set has another root or count".into());
    }
    let stated = sets::leaves(&authorized, AUTHORIZED_LEAF_LEN)?;
    if !stated.eq(decided.values().map(AuthorizedLeaf::to_bytes)) {
        return Err("its authorised set is not what was decided before it".into());
    }
    let seen = compare(state, run, decided, &load)?;
    if seen.observed != record.observed_count {
        return Err(Flaw::Wrong(format!(
            "it counts {} observed grants, there are {}",
            record.observed_count, seen.observed
        )));
    }
    let stated: BTreeMap<i32, u64> = record
        .situations
        .iter()
        .filter(|count| count.count > 0)
        .map(|count| (count.situation, count.count))
        .collect();
    let total = record
        .situations
        .iter()
        .fold(0_u64, |total, count| total.saturating_add(count.count));
    if stated != seen.situations || total != seen.situations.values().sum::<u64>() {
        return Err("its counts by situation do not recompute".into());
    }
    let facts = sets::facts(&seen.findings, GRANT_KEY_LEN, FINDING_LEAF_LEN)?;
    if !facts.matches(&record.findings_root, record.findings_count) {
        return Err("its findings are not the situations that require action".into());
    }
    let attached = load(run.what.findings, "the findings")?;
    if attached != seen.findings {
        return Err("its attached findings are not those of its root".into());
    }
    Ok(seen)
}

/// Walks both sides in order of their keys. Sources come in order of their tags, which begin the keys.
fn compare(
    state: &State,
    run: &At<Run>,
    decided: &BTreeMap<GrantKey, AuthorizedLeaf>,
    load: &dyn Fn(Option<[u8; 32]>, &'static str) -> Result<Vec<u8>, Flaw>,
) -> Result<Seen, Flaw> {
    let record = &run.what.record;
    let (_, snapshot) = state
        .snapshot(&record.snapshot_record_hash)
        .ok_or("cites no sealed snapshot")?;
    if snapshot.snapshot_root != record.snapshot_root {
        return Err("states another root than its snapshot has".into());
    }
    let happened_ms = state.occurred_ms(run.pos);
    if record.as_of_ms.abs_diff(happened_ms) > ORDER_SKEW_MS.unsigned_abs() {
        return Err("speaks of another moment than the one at which it was made".into());
    }
    let as_of_ms = u64::try_from(record.as_of_ms).unwrap_or(0);
    let mut seen = Seen::default();
    let mut approved = decided.values().peekable();
    for source in &snapshot.sources {
        let Some((sync_pos, sync)) = state.sync(&source.sync_record_hash) else {
            return Err("its snapshot cites no sealed sync".into());
        };
        let tag = sync.tag;
        let began_ms = sync.sealed.started_ms;
        let set = load(sync.blob, "the set of a source")?;
        while let Some(leaf) = approved.next_if(|leaf| leaf.key.source_tag() < tag) {
            seen.note(
                leaf.key,
                classify(Some(leaf), Observed::Unobservable, as_of_ms),
            );
        }
        let absent = |seen: &mut Seen, leaf: &AuthorizedLeaf| {
            let situation = classify(Some(leaf), Observed::Absent, as_of_ms);
            seen.note(leaf.key, situation);
            let decided_ms = state
                .position(&leaf.record_hash)
                .map_or(i64::MAX, |pos| state.occurred_ms(pos));
            if situation == Situation::Removed && began_ms >= decided_ms {
                let gone = SeenGone {
                    began_ms,
                    sync: sync_pos,
                    run: run.pos,
                };
                seen.gone.push((leaf.key, gone));
            }
        };
        for bytes in sets::leaves(&set, GRANT_LEAF_LEN)? {
            let observed = GrantLeaf::try_from(bytes).map_err(|error| error.to_string())?;
            seen.observed += 1;
            while let Some(leaf) = approved.next_if(|leaf| leaf.key < observed.key) {
                absent(&mut seen, leaf);
            }
            let leaf = approved.next_if(|leaf| leaf.key == observed.key);
            let situation = classify(leaf, Observed::Present(observed.flags), as_of_ms);
            seen.note(observed.key, situation);
        }
        while let Some(leaf) = approved.next_if(|leaf| leaf.key.source_tag() == tag) {
            absent(&mut seen, leaf);
        }
    }
    for leaf in approved {
        seen.note(
            leaf.key,
            classify(Some(leaf), Observed::Unobservable, as_of_ms),
        );
    }
    Ok(seen)
}

/// Every finding opened of a run is one of its findings.
fn findings_of(state: &State, tallies: &mut Tallies, run: &At<Run>, findings: &[u8]) {
    let Some(name) = state.names.find(&run.what.record.recon_run) else {
        return;
    };
    for finding in state.findings.iter().filter(|finding| finding.run == name) {
        let leaf = FindingLeaf {
            key: finding.key,
            situation: finding.situation,
        };
        let bytes = leaf.to_bytes();
        let found = sets::find(findings, FINDING_LEAF_LEN, &finding.key.0);
        tallies.expect(
            Check::I58,
            found.is_some_and(|found| found == bytes),
            || format!("{} is not a finding of its run", state.entry(finding.pos)),
        );
    }
}

/// What each run's snapshot shows of each source: where its reading is on record.
type Readings = HashMap<SourceTag, Pos>;

/// What the snapshots of all runs show.
struct Shown<'b> {
    by_run: HashMap<Sym, Readings>,
    sets: Cached<'b>,
}

impl<'b> Shown<'b> {
    fn collect(state: &State, runs: &[At<Run>], blobs: &'b dyn Blobs) -> Self {
        let by_run = runs.iter().filter_map(|run| {
            let name = state.names.find(&run.what.record.recon_run)?;
            Some((name, readings(state, &run.what)))
        });
        Self {
            by_run: by_run.collect(),
            sets: Cached::new(blobs),
        }
    }

    /// Whether a reading can tell that a finding is over: it is not older than the one in which it was found, and where it
    /// does not show the grant, not older than the one in which it was there again.
    fn can_tell(
        &self,
        state: &State,
        finding: &Finding,
        change: &FindingChange,
        read: Pos,
    ) -> bool {
        let tag = finding.key.source_tag();
        let found = self.by_run.get(&finding.run);
        let found = found.and_then(|shown| shown.get(&tag));
        if found.is_some_and(|found| read < *found) {
            return false;
        }
        let seen_again = seen_again(state, finding, change);
        if seen_again.is_none_or(|again| again <= read) {
            return true;
        }
        let set = state.syncs.get(&read).and_then(|sync| sync.blob);
        set.and_then(|set| self.sets.load(&set))
            .is_some_and(|set| sets::find(&set, GRANT_LEAF_LEN, &finding.key.0).is_some())
    }
}

fn readings(state: &State, run: &Run) -> Readings {
    state
        .snapshot(&run.record.snapshot_record_hash)
        .into_iter()
        .flat_map(|(_, snapshot)| &snapshot.sources)
        .filter_map(|source| {
            let (read, sync) = state.sync(&source.sync_record_hash)?;
            Some((sync.tag, read))
        })
        .collect()
}

/// Where the newest reading is on record that showed access to be there again, before a finding changed.
fn seen_again(state: &State, finding: &Finding, change: &FindingChange) -> Option<Pos> {
    let before = |pos: Pos| finding.pos < pos && pos < change.pos;
    let seen = state
        .actions
        .iter()
        .filter(|action| action.key == finding.key)
        .flat_map(|action| &action.regressions)
        .filter(|regression| before(regression.pos))
        .filter_map(|regression| state.sync(&regression.sync));
    seen.map(|(read, _)| read).max()
}

/// Findings that were resolved because this run does not show them any more: its snapshot can tell that they are over, and their
/// grant is not in that situation. `findings` are the run's, recomputed; `None`: they could not be.
fn resolved_by(state: &mut State, run: &At<Run>, shown: &Shown<'_>, findings: Option<&[u8]>) {
    let Some(hash) = state.meta(run.pos).map(|meta| meta.hash) else {
        return;
    };
    let readings = readings(state, &run.what);
    let mut resolved = Vec::new();
    for change in &state.finding_changes {
        if change.evidence != hash || change.state != FindingState::ResolvedVerified {
            continue;
        }
        let finding = state
            .finding_at
            .get(&change.finding)
            .and_then(|at| state.findings.get(*at as usize));
        let over = findings.map(|findings| {
            finding.is_some_and(|finding| {
                let leaf = FindingLeaf {
                    key: finding.key,
                    situation: finding.situation,
                };
                let found = sets::find(findings, FINDING_LEAF_LEN, &finding.key.0);
                let read = readings.get(&finding.key.source_tag());
                finding.pos < run.pos
                    && found.is_none_or(|found| found != leaf.to_bytes())
                    && read.is_some_and(|read| shown.can_tell(state, finding, change, *read))
            })
        });
        resolved.push((change.pos, over));
    }
    state.resolved_by_runs.extend(resolved);
}
