//! What a log amounts to, for a report: every figure counted here, none taken from a record's own sums.

use std::collections::BTreeMap;

use super::OVERDUE_GRACE_MS;
use super::closing::Gone;
use super::ending::verified;
use super::plans::Deciders;
use super::state::{Campaign, Item, Pos, State, Sym};
use super::timing::decided_to_verified;
use crate::catalogue::RECORD_TYPES;
use crate::v1::{CampaignOutcome, Decision, Disposition, FindingState, Situation};

/// What the records amount to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Records by R number and short type name.
    pub records: BTreeMap<String, u64>,
    /// When the last record was integrated, milliseconds.
    pub last_recorded_ms: i64,
    /// Sealed epochs.
    pub epochs: u64,
    /// Sources of the newest snapshot.
    pub sources: Vec<SourceFacts>,
    /// Campaigns in order of their names.
    pub campaigns: Vec<CampaignFacts>,
    /// Removals carried out by remediations.
    pub removals: RemovalFacts,
    /// Exceptions decided and not superseded.
    pub exceptions: Vec<ExceptionFacts>,
    /// What is owed and open.
    pub obligations: Vec<ObligationFacts>,
    /// Grants by situation, in the newest run.
    pub situations: BTreeMap<String, u64>,
    /// Findings that are not resolved, by situation.
    pub open_findings: BTreeMap<String, u64>,
}

/// A source in the newest snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFacts {
    /// "sources/{source}".
    pub source: String,
    /// Grants in its sealed set; `None` when it was not observable.
    pub grants: Option<u64>,
    /// Why it was not observable.
    pub missing_reason: Option<String>,
    /// When reading ended, milliseconds.
    pub synced_ms: i64,
}

/// Who decided, and by what right.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DecisionMaker {
    /// "principals/{principal}".
    pub principal: String,
    /// Id of the decision right cited.
    pub right: String,
    /// Who granted that right.
    pub grantor: String,
    /// Decisions that count.
    pub decisions: u64,
}

/// A campaign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CampaignFacts {
    /// "campaigns/{campaign}".
    pub campaign: String,
    /// "OPEN", "CLOSED", "CLOSED_WITH_DEBT" or "CANCELLED".
    pub outcome: &'static str,
    /// Who owns it.
    pub owner: String,
    /// Grants to be reviewed.
    pub population: u64,
    /// Grants that the scope left out.
    pub excluded: u64,
    /// Items by how they ended.
    pub dispositions: BTreeMap<&'static str, u64>,
    /// Items without an end.
    pub undecided: u64,
    /// Who decided, and by what right.
    pub decided_by: Vec<DecisionMaker>,
    /// Removals decided.
    pub removals: u64,
    /// Of these, proved gone by now.
    pub removed: u64,
    /// Debt when it was closed.
    pub debt: u64,
}

/// Removals carried out by remediations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RemovalFacts {
    /// Actions planned.
    pub planned: u64,
    /// Of these, proved gone now.
    pub verified: u64,
    /// Median time from decision to verified absence, milliseconds.
    pub p50_ms: Option<i64>,
    /// Longest such time.
    pub max_ms: Option<i64>,
    /// Access that came back.
    pub regressions: u64,
}

/// An exception.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExceptionFacts {
    /// Key of the grant, hex.
    pub grant: String,
    /// Who owns it.
    pub owner: String,
    /// When it ends, milliseconds.
    pub expires_ms: i64,
    /// Whether it had ended when the log ended.
    pub expired: bool,
}

/// Something owed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObligationFacts {
    /// Kind.
    pub kind: String,
    /// Who owes it.
    pub owner: String,
    /// What it is about.
    pub object: String,
    /// When it is due, milliseconds.
    pub due_ms: i64,
    /// "open", "overdue" or "breached".
    pub state: &'static str,
}

/// Counts what is there.
pub(super) fn collect(state: &State, deciders: &Deciders) -> Facts {
    let gone = Gone::collect(state);
    Facts {
        records: records(state),
        last_recorded_ms: state.last_recorded_ms(),
        epochs: state.epochs.len() as u64,
        sources: sources(state),
        campaigns: state
            .campaigns
            .iter()
            .map(|(name, campaign)| campaign_facts(state, *name, campaign, &gone))
            .collect(),
        removals: removals(state, deciders),
        exceptions: exceptions(state),
        obligations: obligations(state),
        situations: state
            .situations
            .iter()
            .map(|(situation, count)| (situation_name(*situation), *count))
            .collect(),
        open_findings: open_findings(state),
    }
}

fn records(state: &State) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for meta in &state.metas {
        let name = match RECORD_TYPES.get(usize::from(meta.kind)) {
            Some(known) => format!("{} {}", known.number, known.name),
            None => state.names.text(meta.type_name).to_owned(),
        };
        *counts.entry(name).or_default() += 1;
    }
    counts
}

fn sources(state: &State) -> Vec<SourceFacts> {
    let Some(snapshot) = state.snapshots.last_key_value().map(|(_, s)| s) else {
        return Vec::new();
    };
    let there = snapshot.sources.iter().map(|source| SourceFacts {
        source: source.source.clone(),
        grants: Some(source.set_count),
        missing_reason: None,
        synced_ms: source.synced_ms,
    });
    let missing = snapshot.missing_sources.iter().map(|source| SourceFacts {
        source: source.source.clone(),
        grants: None,
        missing_reason: Some(source.reason.clone()),
        synced_ms: 0,
    });
    there.chain(missing).collect()
}

/// How a disposition is called in a report.
fn disposition_name(disposition: Disposition) -> &'static str {
    match disposition {
        Disposition::Unspecified => "unspecified",
        Disposition::Accepted => "accepted",
        Disposition::Revoked => "revoked",
        Disposition::Reduced => "reduced",
        Disposition::Excepted => "excepted",
        Disposition::LapsedRevoke => "lapsed_revoke",
        Disposition::LapsedRetained => "lapsed_retained",
        Disposition::Voided => "voided",
    }
}

fn situation_name(situation: i32) -> String {
    Situation::try_from(situation)
        .unwrap_or_default()
        .as_str_name()
        .trim_start_matches("SITUATION_")
        .to_owned()
}

fn campaign_facts(state: &State, name: Sym, campaign: &Campaign, gone: &Gone<'_>) -> CampaignFacts {
    let items = || {
        campaign
            .items
            .iter()
            .filter_map(|at| state.items.get(*at as usize))
    };
    let mut dispositions = BTreeMap::new();
    let mut makers: BTreeMap<(Sym, u32), u64> = BTreeMap::new();
    let (mut removals, mut removed) = (0, 0);
    for (item, end, disposition) in items().filter_map(|item| {
        let (end, disposition) = item.end?;
        Some((item, end, disposition))
    }) {
        *dispositions
            .entry(disposition_name(disposition))
            .or_default() += 1;
        if let Some(meta) = state.meta(end).filter(|_| by_a_human(disposition)) {
            *makers.entry((meta.actor, meta.authority)).or_default() += 1;
        }
        if removal(disposition) {
            removals += 1;
            let decided_ms = state.occurred_ms(end);
            removed += u64::from(is_gone(gone, item, decided_ms));
        }
    }
    let staged = campaign.staged.as_ref().map(|staged| &staged.what.record);
    let closed = campaign.closed.as_ref().map(|closed| &closed.what.record);
    let ended = items().filter(|item| item.end.is_some()).count() as u64;
    let population = staged.map_or(0, |staged| staged.population_count);
    CampaignFacts {
        campaign: state.names.text(name).to_owned(),
        outcome: closed.map_or("OPEN", |closed| match closed.outcome() {
            CampaignOutcome::Closed => "CLOSED",
            CampaignOutcome::ClosedWithDebt => "CLOSED_WITH_DEBT",
            CampaignOutcome::Cancelled => "CANCELLED",
            CampaignOutcome::Unspecified => "UNSPECIFIED",
        }),
        owner: campaign
            .defined
            .as_ref()
            .map(|defined| defined.what.owner.clone())
            .unwrap_or_default(),
        population,
        excluded: staged.map_or(0, |staged| staged.exclusions_count),
        undecided: population.saturating_sub(ended),
        dispositions,
        decided_by: makers
            .into_iter()
            .map(|((actor, authority), decisions)| maker(state, actor, authority, decisions))
            .collect(),
        removals,
        removed,
        debt: closed.map_or(0, |closed| closed.debt_count),
    }
}

fn by_a_human(disposition: Disposition) -> bool {
    matches!(
        disposition,
        Disposition::Accepted | Disposition::Revoked | Disposition::Reduced | Disposition::Excepted
    )
}

fn removal(disposition: Disposition) -> bool {
    matches!(
        disposition,
        Disposition::Revoked | Disposition::Reduced | Disposition::LapsedRevoke
    )
}

fn is_gone(gone: &Gone<'_>, item: &Item, decided_ms: i64) -> bool {
    gone.by(&item.leaf.key, decided_ms, i64::MAX, Pos::MAX)
}

fn maker(state: &State, actor: Sym, authority: u32, decisions: u64) -> DecisionMaker {
    let right = state
        .digests
        .get(authority)
        .and_then(|hash| state.position(hash))
        .and_then(|pos| state.rights.get(&pos));
    DecisionMaker {
        principal: state.names.text(actor).to_owned(),
        right: right.map(|right| right.right.clone()).unwrap_or_default(),
        grantor: right.map(|right| right.grantor.clone()).unwrap_or_default(),
        decisions,
    }
}

fn removals(state: &State, deciders: &Deciders) -> RemovalFacts {
    let mut facts = RemovalFacts::default();
    let mut times = Vec::new();
    for plan in state.plans.values() {
        facts.planned = facts.planned.saturating_add(plan.record.actions_count);
        facts.verified += verified(state, plan, Pos::MAX).count() as u64;
        times.extend(decided_to_verified(state, plan, Pos::MAX, deciders));
    }
    times.sort_unstable();
    facts.p50_ms = times.get(times.len().saturating_sub(1) / 2).copied();
    facts.max_ms = times.last().copied();
    facts.regressions = state
        .actions
        .iter()
        .map(|action| action.regressions.len() as u64)
        .sum();
    facts
}

fn exceptions(state: &State) -> Vec<ExceptionFacts> {
    let now_ms = state.last_recorded_ms();
    let counts = |pos: Pos, item: u32| {
        let item = state.items.get(item as usize);
        item.and_then(|item| item.end)
            .is_some_and(|(end, _)| end == pos)
    };
    state
        .decisions
        .iter()
        .filter(|decided| {
            decided.decision == Decision::Exception && counts(decided.pos, decided.item)
        })
        .map(|decided| ExceptionFacts {
            grant: decided
                .key
                .0
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect(),
            owner: state.names.text(decided.exception_owner).to_owned(),
            expires_ms: decided.expires_ms,
            expired: decided.expires_ms <= now_ms,
        })
        .collect()
}

fn obligations(state: &State) -> Vec<ObligationFacts> {
    let now_ms = state.last_recorded_ms();
    state
        .obligations
        .values()
        .filter(|obligation| obligation.discharged.is_none())
        .map(|obligation| ObligationFacts {
            kind: state.names.text(obligation.kind).to_owned(),
            owner: state.names.text(obligation.owner).to_owned(),
            object: state.names.text(obligation.object).to_owned(),
            due_ms: obligation.due_ms,
            state: if obligation.breached.is_some() {
                "breached"
            } else if obligation.due_ms.saturating_add(OVERDUE_GRACE_MS) < now_ms {
                "overdue"
            } else {
                "open"
            },
        })
        .collect()
}

fn open_findings(state: &State) -> BTreeMap<String, u64> {
    let mut open = BTreeMap::new();
    for finding in &state.findings {
        if finding.state != FindingState::ResolvedVerified {
            *open
                .entry(situation_name(finding.situation as i32))
                .or_default() += 1;
        }
    }
    open
}
