//! What a log amounts to, for a report: every figure counted here, none taken from a record's own sums.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::authority::campaign_sources;
use super::closing::Gone;
use super::ending::verified;
use super::holds::{self, HoldFacts};
use super::plans::Deciders;
use super::state::{Campaign, Item, NewestRun, Pos, State, Sym};
use super::timing::decided_to_verified;
use super::{Blobs, OVERDUE_GRACE_MS};
use crate::catalogue::RECORD_TYPES;
use crate::leaf::{FINDING_LEAF_LEN, GRANT_KEY_LEN, GrantKey};
use crate::v1::{
    CampaignOutcome, Decision, Disposition, FindingState, OrganizationKind, PrincipalKind,
    Situation, SnapshotSealed,
};

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
    /// Legal holds, also those that were released.
    pub holds: Vec<HoldFacts>,
    /// Whether it is the log of a provider's own tenant.
    pub of_provider: bool,
    /// Calls of providers' people, or in a provider's own log their mirrors.
    pub accesses: Vec<AccessFacts>,
    /// Versions of the policy that carry conditions, which are held to their hash and not replayed.
    pub conditions: Vec<u64>,
    /// The newest run that recomputes.
    pub newest_run: Option<RunFacts>,
    /// Grants by situation, in the newest run.
    pub situations: BTreeMap<String, u64>,
    /// Findings that are not resolved, by situation; also those of the newest run that nobody opened.
    pub open_findings: BTreeMap<String, u64>,
}

fn with_conditions(state: &State) -> Vec<u64> {
    let published = state.policies.iter().map(|policy| &policy.what);
    let carrying = published.filter(|bundle| {
        let rules = bundle.rules.as_ref();
        rules.is_some_and(|rules| !rules.conditions.is_empty())
    });
    carrying.map(|bundle| bundle.version).collect()
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
    /// "human", "service", "AI agent" or "system"; "unregistered" when the log does not know them.
    pub kind: &'static str,
    /// Kind of their organisation, such as "customer"; "unknown" when the log does not say.
    pub organization: &'static str,
    /// Whether they had ended when they decided.
    pub ended: bool,
    /// Whether a human decided, as far as the log knows.
    pub human: bool,
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
    /// Sources that were reviewed: "sources/{source}".
    pub reviewed: Vec<String>,
    /// Sources that its snapshot misses, and why. Nothing of them was reviewed.
    pub missing: Vec<(String, String)>,
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

/// A reconciliation run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunFacts {
    /// "recon-runs/{run}".
    pub recon_run: String,
    /// The moment it speaks of, milliseconds.
    pub as_of_ms: i64,
    /// "snapshots/{snapshot}" that it compared.
    pub snapshot: String,
    /// When that was sealed, milliseconds.
    pub sealed_ms: i64,
    /// When the source of it that was read first had been read, milliseconds.
    pub oldest_read_ms: Option<i64>,
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
    /// Access that came back, told by somebody or shown by the newest set of its source.
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

/// A call of somebody of a provider, as one of the two logs tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessFacts {
    /// Id of the record, which is the same in both logs.
    pub access_id: Vec<u8>,
    /// SHA-256 of the record in the customer's log.
    pub access_hash: Vec<u8>,
    /// Origin of the customer's log; empty when this is it.
    pub customer_log_origin: String,
    /// Who: "tenants/{tenant}/principals/{principal}" in the customer's log, "principals/{principal}" in the provider's.
    pub operator: String,
    /// Method that was called.
    pub method: String,
    /// When the log had it, milliseconds.
    pub recorded_ms: i64,
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
pub(super) fn collect(state: &State, deciders: &Deciders, blobs: &dyn Blobs) -> Facts {
    let gone = Gone::collect(state, blobs);
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
        removals: removals(state, deciders, &gone),
        exceptions: exceptions(state),
        obligations: obligations(state),
        holds: holds::facts(state),
        of_provider: state.governed.of_provider(),
        accesses: accesses(state),
        conditions: with_conditions(state),
        newest_run: state
            .newest_run
            .as_ref()
            .and_then(|run| run_facts(state, run)),
        situations: state
            .newest_run
            .iter()
            .flat_map(|run| &run.situations)
            .map(|(situation, count)| (situation_name(*situation), *count))
            .collect(),
        open_findings: open_findings(state),
    }
}

fn accesses(state: &State) -> Vec<AccessFacts> {
    let used = state.providers.accesses.iter().map(|used| AccessFacts {
        access_id: used.what.record_id.clone(),
        access_hash: state
            .meta(used.pos)
            .map(|meta| meta.hash.to_vec())
            .unwrap_or_default(),
        customer_log_origin: String::new(),
        operator: used.what.what.operator.clone(),
        method: used.what.what.method.clone(),
        recorded_ms: state.recorded_ms(used.pos),
    });
    let links = state.providers.links.iter().map(|link| AccessFacts {
        access_id: link.what.record_id.clone(),
        access_hash: link.what.what.access_hash.clone(),
        customer_log_origin: link.what.what.customer_log_origin.clone(),
        operator: link.what.what.operator.clone(),
        method: link.what.what.method.clone(),
        recorded_ms: state.recorded_ms(link.pos),
    });
    used.chain(links).collect()
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

fn run_facts(state: &State, newest: &NewestRun) -> Option<RunFacts> {
    let run = state.runs.iter().find(|run| run.pos == newest.pos)?;
    let record = &run.what.record;
    let (sealed, snapshot) = state.snapshot(&record.snapshot_record_hash)?;
    Some(RunFacts {
        recon_run: record.recon_run.clone(),
        as_of_ms: record.as_of_ms,
        snapshot: snapshot.snapshot.clone(),
        sealed_ms: state.occurred_ms(sealed),
        oldest_read_ms: snapshot.sources.iter().map(|source| source.synced_ms).min(),
    })
}

fn campaign_facts(state: &State, name: Sym, campaign: &Campaign, gone: &Gone<'_>) -> CampaignFacts {
    let items = || {
        campaign
            .items
            .iter()
            .filter_map(|at| state.items.get(*at as usize))
    };
    let mut dispositions = BTreeMap::new();
    let mut makers: BTreeMap<(Sym, u32, bool), u64> = BTreeMap::new();
    let (mut removals, mut removed) = (0, 0);
    for (item, end, disposition) in items().filter_map(|item| {
        let (end, disposition) = item.end?;
        Some((item, end, disposition))
    }) {
        *dispositions
            .entry(disposition_name(disposition))
            .or_default() += 1;
        if let Some(meta) = state.meta(end).filter(|_| decided(disposition)) {
            let ended = state.principals_ended.get(&meta.actor);
            let ended = ended.is_some_and(|end| end.effective_ms <= meta.occurred_ms);
            let maker = (meta.actor, meta.authority, ended);
            *makers.entry(maker).or_default() += 1;
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
        reviewed: reviewed(state, campaign),
        missing: missing(state, campaign),
        population,
        excluded: staged.map_or(0, |staged| staged.exclusions_count),
        undecided: population.saturating_sub(ended),
        dispositions,
        decided_by: makers
            .into_iter()
            .map(|(maker, decisions)| decision_maker(state, maker, decisions))
            .collect(),
        removals,
        removed,
        debt: closed.map_or(0, |closed| closed.debt_count),
    }
}

fn staged_snapshot<'s>(state: &'s State, campaign: &Campaign) -> Option<&'s SnapshotSealed> {
    let staged = campaign.staged.as_ref()?;
    let found = state.snapshot(&staged.what.record.snapshot_record_hash);
    found.map(|(_, snapshot)| snapshot)
}

fn reviewed(state: &State, campaign: &Campaign) -> Vec<String> {
    let scope = campaign_sources(state, campaign);
    let sources = staged_snapshot(state, campaign).map_or(&[][..], |snapshot| &snapshot.sources);
    sources
        .iter()
        .map(|source| source.source.clone())
        .filter(|source| scope.contains(&source.as_str()))
        .collect()
}

fn missing(state: &State, campaign: &Campaign) -> Vec<(String, String)> {
    staged_snapshot(state, campaign)
        .map_or(&[][..], |snapshot| &snapshot.missing_sources)
        .iter()
        .map(|missing| (missing.source.clone(), missing.reason.clone()))
        .collect()
}

/// Whether somebody decided it, and no rule did. Whether that was a human is another matter.
fn decided(disposition: Disposition) -> bool {
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
    gone.now(&item.leaf.key, decided_ms)
}

fn decision_maker(
    state: &State,
    (actor, authority, ended): (Sym, u32, bool),
    decisions: u64,
) -> DecisionMaker {
    let right = state
        .digests
        .get(authority)
        .and_then(|hash| state.position(hash))
        .and_then(|pos| state.rights.get(&pos));
    let principal = state.principals.get(&actor);
    let kind = principal.map(|principal| principal.kind);
    DecisionMaker {
        principal: state.names.text(actor).to_owned(),
        kind: match kind {
            None => "unregistered",
            Some(PrincipalKind::Human) => "human",
            Some(PrincipalKind::Service) => "service",
            Some(PrincipalKind::AiAgent) => "AI agent",
            Some(PrincipalKind::System) => "system",
            Some(PrincipalKind::Unspecified) => "unknown",
        },
        organization: match principal.map(|principal| principal.organization_kind) {
            Some(OrganizationKind::Customer) => "customer",
            Some(OrganizationKind::Provider) => "provider",
            Some(OrganizationKind::Subcontractor) => "subcontractor",
            Some(OrganizationKind::Vendor) => "vendor",
            Some(OrganizationKind::Auditor) => "auditor",
            Some(OrganizationKind::Unspecified) | None => "unknown",
        },
        ended,
        human: kind == Some(PrincipalKind::Human) && !ended,
        right: right.map(|right| right.right.clone()).unwrap_or_default(),
        grantor: right.map(|right| right.grantor.clone()).unwrap_or_default(),
        decisions,
    }
}

/// Removals that were proved, and are gone still: what the newest set of a source shows is there again, whoever said so.
fn removals(state: &State, deciders: &Deciders, gone: &Gone<'_>) -> RemovalFacts {
    let mut facts = RemovalFacts::default();
    let mut times = Vec::new();
    for plan in state.plans.values() {
        facts.planned = facts.planned.saturating_add(plan.record.actions_count);
        for (action, effect) in verified(state, plan, Pos::MAX) {
            if gone.now(&action.key, i64::MIN) {
                facts.verified += 1;
                times.extend(decided_to_verified(state, action, effect, deciders));
            } else {
                facts.regressions += 1;
            }
        }
    }
    times.sort_unstable();
    facts.p50_ms = times.get(times.len().saturating_sub(1) / 2).copied();
    facts.max_ms = times.last().copied();
    let told = state.actions.iter();
    facts.regressions += told
        .map(|action| action.regressions.len() as u64)
        .sum::<u64>();
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

/// Findings that are not resolved: those that were opened, and those of the newest run that nobody opened.
fn open_findings(state: &State) -> BTreeMap<String, u64> {
    let mut changed: HashMap<u32, Pos> = HashMap::new();
    for change in &state.finding_changes {
        if let Some(at) = state.finding_at.get(&change.finding) {
            changed.insert(*at, change.pos);
        }
    }
    let newest = state.newest_run.as_ref().map_or(0, |run| run.pos);
    let mut open = BTreeMap::new();
    let mut count = |situation: Situation| {
        *open.entry(situation_name(situation as i32)).or_default() += 1;
    };
    let mut known = HashSet::new();
    for (at, finding) in (0..).zip(&state.findings) {
        let resolved = finding.state == FindingState::ResolvedVerified;
        if !resolved {
            count(finding.situation);
        }
        if !resolved || changed.get(&at).is_some_and(|pos| *pos > newest) {
            known.insert((finding.key, finding.situation as i32));
        }
    }
    let found = state.newest_run.iter().map(|run| run.findings.as_slice());
    for leaf in found.flat_map(|findings| findings.chunks_exact(FINDING_LEAF_LEN)) {
        let (key, situation) = leaf.split_at(GRANT_KEY_LEN);
        let situation = situation.first().copied().map_or(0, i32::from);
        let situation = Situation::try_from(situation).unwrap_or_default();
        let opened = |key| known.contains(&(key, situation as i32));
        if GrantKey::try_from(key).is_ok_and(|key| !opened(key)) {
            count(situation);
        }
    }
    open
}
