//! Telling what was found: one line a check, then a report in words that auditors use, and what it does not prove.

use counterfoil_evidence::replay::{CampaignFacts, DecisionMaker, Facts, HoldFacts};
use serde_json::{Value, json};

use crate::check::Check;
use crate::time::{format_rfc3339, format_span};
use crate::verify::Verification;

/// So many single things are listed; the rest is counted.
const LISTED_MAX: usize = 10;

/// `PASS|FAIL|SKIP id [aliases] title — detail`.
#[must_use]
pub fn check_line(check: &Check) -> String {
    let aliases = if check.aliases.is_empty() {
        String::new()
    } else {
        format!(" [{}]", check.aliases.join(", "))
    };
    let detail = if check.detail.is_empty() {
        String::new()
    } else {
        format!(" \u{2014} {}", check.detail)
    };
    format!(
        "{} {}{aliases} {}{detail}",
        check.status.as_str(),
        check.id,
        check.title
    )
}

/// Everything, for people.
#[must_use]
pub fn text(found: &Verification) -> String {
    let mut out = String::new();
    for check in &found.checks {
        line(&mut out, &check_line(check));
    }
    line(&mut out, "");
    line(&mut out, &format!("Report on {}", found.info.tenant));
    if let Some(checkpoint) = &found.checkpoint {
        line(
            &mut out,
            &format!(
                "  log {} with {} entries, root {}, last entry {}",
                checkpoint.origin,
                checkpoint.size,
                checkpoint.root.to_base64(),
                format_rfc3339(found.facts.last_recorded_ms)
            ),
        );
    }
    sources(&mut out, &found.facts);
    for campaign in &found.facts.campaigns {
        campaign_text(&mut out, campaign);
    }
    removals(&mut out, &found.facts);
    exceptions(&mut out, &found.facts);
    owed(&mut out, &found.facts);
    holds(&mut out, &found.facts);
    newest_run(&mut out, &found.facts);
    counted(
        &mut out,
        "Grants by situation, newest run",
        &found.facts.situations,
    );
    counted(&mut out, "Open findings", &found.facts.open_findings);
    counted(&mut out, "Values withheld", &found.disclosed.withheld);
    line(&mut out, "");
    line(&mut out, "What this does not prove");
    for limit in limits(found) {
        line(&mut out, &format!("  - {limit}"));
    }
    line(&mut out, "");
    line(
        &mut out,
        &format!("{} (exit {})", found.verdict.as_str(), found.verdict.exit()),
    );
    out
}

/// One line, whatever a hostile log has put into a name: nothing in it can end the line or command a terminal.
fn line(out: &mut String, text: &str) {
    let plain = |c: char| {
        if c.is_control() {
            char::REPLACEMENT_CHARACTER
        } else {
            c
        }
    };
    out.extend(text.chars().map(plain));
    out.push('\n');
}

fn counted<'c>(
    out: &mut String,
    title: &str,
    counts: impl IntoIterator<Item = (&'c String, &'c u64)>,
) {
    let counts: Vec<String> = counts
        .into_iter()
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    if !counts.is_empty() {
        line(out, &format!("{title}: {}", counts.join(", ")));
    }
}

fn sources(out: &mut String, facts: &Facts) {
    let grants = facts
        .sources
        .iter()
        .filter_map(|source| source.grants)
        .fold(0_u64, u64::saturating_add);
    let there = facts
        .sources
        .iter()
        .filter(|source| source.grants.is_some());
    line(
        out,
        &format!(
            "Sources in the newest snapshot: {} with {grants} grants",
            there.count()
        ),
    );
    for source in &facts.sources {
        if let Some(reason) = &source.missing_reason {
            line(
                out,
                &format!("  NOT OBSERVABLE: {} ({reason})", source.source),
            );
        }
    }
}

fn campaign_text(out: &mut String, facts: &CampaignFacts) {
    line(
        out,
        &format!(
            "Campaign {}: {}, owned by {}",
            facts.campaign, facts.outcome, facts.owner
        ),
    );
    let ended: Vec<String> = facts
        .dispositions
        .iter()
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    line(
        out,
        &format!(
            "  population {} ({} excluded by scope): {}; without an end {}",
            facts.population,
            facts.excluded,
            ended.join(", "),
            facts.undecided
        ),
    );
    let missing: Vec<String> = facts
        .missing
        .iter()
        .map(|(source, reason)| format!("{source} ({reason})"))
        .collect();
    listed(out, "  reviewed", &facts.reviewed);
    listed(out, "  MISSING from its snapshot", &missing);
    for maker in facts.decided_by.iter().take(LISTED_MAX) {
        line(
            out,
            &format!(
                "  decided by {} ({}): {} under right {} granted by {}",
                maker.principal,
                standing(maker),
                maker.decisions,
                maker.right,
                maker.grantor
            ),
        );
    }
    more(out, facts.decided_by.len());
    line(
        out,
        &format!(
            "  removals decided {}, verified gone {}, not verified {}; debt at close {}",
            facts.removals,
            facts.removed,
            facts.removals.saturating_sub(facts.removed),
            facts.debt
        ),
    );
}

/// One line with names, when there are any.
fn listed(out: &mut String, title: &str, names: &[String]) {
    if names.is_empty() {
        return;
    }
    let told: Vec<&str> = names.iter().take(LISTED_MAX).map(String::as_str).collect();
    line(out, &format!("{title}: {}", told.join(", ")));
    more(out, names.len());
}

/// What whoever decided is, in words.
fn standing(maker: &DecisionMaker) -> String {
    let of = match maker.organization {
        "unknown" => String::new(),
        organization => format!(" of the {organization}"),
    };
    let ended = if maker.ended { ", ended before" } else { "" };
    let no_human = if maker.human { "" } else { "NO HUMAN: " };
    format!("{no_human}{}{of}{ended}", maker.kind)
}

fn more(out: &mut String, count: usize) {
    if count > LISTED_MAX {
        line(out, &format!("  and {} more", count - LISTED_MAX));
    }
}

fn removals(out: &mut String, facts: &Facts) {
    let removals = &facts.removals;
    if removals.planned == 0 {
        line(out, "Remediation: nothing was planned");
        return;
    }
    let fast = match (removals.p50_ms, removals.max_ms) {
        (Some(p50), Some(max)) => format!(
            "; from decision to verified absence p50 {}, max {}",
            format_span(p50),
            format_span(max)
        ),
        _ => String::new(),
    };
    line(
        out,
        &format!(
            "Remediation: {} actions planned, {} verified gone{fast}; came back {}",
            removals.planned, removals.verified, removals.regressions
        ),
    );
}

fn newest_run(out: &mut String, facts: &Facts) {
    let Some(run) = &facts.newest_run else {
        return;
    };
    let read = run.oldest_read_ms.map_or(String::new(), |read_ms| {
        format!(
            ", none of its sources read before {}",
            format_rfc3339(read_ms)
        )
    });
    line(
        out,
        &format!(
            "Newest run {}: as of {}, over {} of {}{read}",
            run.recon_run,
            format_rfc3339(run.as_of_ms),
            run.snapshot,
            format_rfc3339(run.sealed_ms)
        ),
    );
}

fn exceptions(out: &mut String, facts: &Facts) {
    line(out, &format!("Exceptions: {}", facts.exceptions.len()));
    for exception in facts.exceptions.iter().take(LISTED_MAX) {
        line(
            out,
            &format!(
                "  grant {} owned by {} until {}{}",
                exception.grant.get(..24).unwrap_or(&exception.grant),
                exception.owner,
                format_rfc3339(exception.expires_ms),
                if exception.expired { ", EXPIRED" } else { "" }
            ),
        );
    }
    more(out, facts.exceptions.len());
}

fn owed(out: &mut String, facts: &Facts) {
    line(
        out,
        &format!("Open obligations: {}", facts.obligations.len()),
    );
    for owed in facts.obligations.iter().take(LISTED_MAX) {
        line(
            out,
            &format!(
                "  {} of {}: {} owes it, due {}, {}",
                owed.kind,
                owed.object,
                owed.owner,
                format_rfc3339(owed.due_ms),
                owed.state
            ),
        );
    }
    more(out, facts.obligations.len());
}

/// Holds in force one by one; those that were released are counted. A log without any says nothing.
fn holds(out: &mut String, facts: &Facts) {
    let in_force: Vec<&HoldFacts> = facts
        .holds
        .iter()
        .filter(|hold| hold.released.is_none())
        .collect();
    if facts.holds.is_empty() {
        return;
    }
    let released = facts.holds.len() - in_force.len();
    let counts = format!("{} in force, {released} released", in_force.len());
    line(out, &format!("Legal holds: {counts}"));
    for hold in in_force.iter().take(LISTED_MAX) {
        let covered = match &hold.retention_classes[..] {
            [] => "the whole log".to_owned(),
            classes => classes.join(", "),
        };
        line(
            out,
            &format!(
                "  {} on {covered} ({}), placed by {} at {}",
                hold.hold,
                hold.basis,
                hold.placed_by,
                format_rfc3339(hold.placed_ms)
            ),
        );
    }
    more(out, in_force.len());
}

/// What a good verdict leaves open.
#[must_use]
pub fn limits(found: &Verification) -> Vec<String> {
    let mut limits = Vec::new();
    match &found.witnesses.0 {
        none if none.is_empty() && !found.anchor_witnesses.is_empty() => limits.push(format!(
            "The anchor log is cosigned by {}, this log's own checkpoint by nobody: what W9 does not show as anchored is not covered by them, and times are the operator's own.",
            found.anchor_witnesses.join(", ")
        )),
        none if none.is_empty() => limits.push(
            "No trusted witness has cosigned: the operator could show another history to somebody else, and times are the operator's own."
                .to_owned(),
        ),
        names => limits.push(format!(
            "Cosigned by {}{}: what came later is not covered by them.",
            names.join(", "),
            found
                .witnesses
                .1
                .and_then(|seconds| i64::try_from(seconds).ok())
                .map(|seconds| format!(" at {}", format_rfc3339(seconds.saturating_mul(1000))))
                .unwrap_or_default()
        )),
    }
    if found.kept_checkpoints == 0 {
        limits.push(
            "No earlier checkpoint was kept: keep the one of this bundle, so that the next can be held against it."
                .to_owned(),
        );
    }
    limits.push(
        "That this bundle is the newest: ask for --as-of, and compare with what others hold."
            .to_owned(),
    );
    limits.push(
        "That the sources told the truth: a connector sees what the target shows to its reader."
            .to_owned(),
    );
    for source in found.facts.sources.iter().filter(|s| s.grants.is_none()) {
        limits.push(format!(
            "Anything about {}: it could not be observed.",
            source.source
        ));
    }
    if !found.disclosed.withheld.is_empty() {
        limits.push("What stands in values that are withheld.".to_owned());
    }
    if !found.facts.conditions.is_empty() {
        let versions: Vec<String> = found.facts.conditions.iter().map(u64::to_string).collect();
        limits.push(format!(
            "That the services held to the conditions of policy version {}: they are in the record, and any implementation of Cedar can ask them.",
            versions.join(", ")
        ));
    }
    limits.push(
        "That a decision was wise: only that it was taken by whom, by what right, on what."
            .to_owned(),
    );
    limits
}

/// One object for programs.
#[must_use]
pub fn json(found: &Verification) -> Value {
    let checks: Vec<Value> = found.checks.iter().map(check_json).collect();
    json!({
        "verdict": found.verdict.as_str(),
        "exit": found.verdict.exit(),
        "checks": checks,
        "report": report_json(found),
        "log": found.checkpoint.as_ref().map(|checkpoint| json!({
            "origin": checkpoint.origin,
            "size": checkpoint.size,
            "root": checkpoint.root.to_base64(),
        })),
    })
}

/// The object for a bundle or trust file that is none.
#[must_use]
pub fn malformed_json(error: &str) -> Value {
    json!({
        "verdict": crate::Verdict::Malformed.as_str(),
        "exit": crate::Verdict::Malformed.exit(),
        "checks": [],
        "report": {},
        "log": null,
        "error": error,
    })
}

fn check_json(check: &Check) -> Value {
    json!({
        "id": check.id,
        "aliases": check.aliases,
        "status": check.status.as_str(),
        "title": check.title,
        "detail": check.detail,
    })
}

fn report_json(found: &Verification) -> Value {
    let facts = &found.facts;
    json!({
        "tenant": found.info.tenant,
        "last_recorded": format_rfc3339(facts.last_recorded_ms),
        "records": facts.records,
        "epochs": facts.epochs,
        "sources": facts.sources.iter().map(|source| json!({
            "source": source.source,
            "observable": source.grants.is_some(),
            "grants": source.grants,
            "missing_reason": source.missing_reason,
            "synced": source.grants.map(|_| format_rfc3339(source.synced_ms)),
        })).collect::<Vec<_>>(),
        "campaigns": facts.campaigns.iter().map(campaign_json).collect::<Vec<_>>(),
        "removals": {
            "planned": facts.removals.planned,
            "verified_gone": facts.removals.verified,
            "decided_to_verified_p50_ms": facts.removals.p50_ms,
            "decided_to_verified_max_ms": facts.removals.max_ms,
            "regressions": facts.removals.regressions,
        },
        "exceptions": facts.exceptions.iter().map(|exception| json!({
            "grant": exception.grant,
            "owner": exception.owner,
            "expires": format_rfc3339(exception.expires_ms),
            "expired": exception.expired,
        })).collect::<Vec<_>>(),
        "open_obligations": facts.obligations.iter().map(|owed| json!({
            "kind": owed.kind,
            "owner": owed.owner,
            "object": owed.object,
            "due": format_rfc3339(owed.due_ms),
            "state": owed.state,
        })).collect::<Vec<_>>(),
        "legal_holds": facts.holds.iter().map(|hold| json!({
            "legal_hold": hold.hold,
            "retention_classes": hold.retention_classes,
            "basis": hold.basis,
            "placed_by": hold.placed_by,
            "placed": format_rfc3339(hold.placed_ms),
            "released_by": hold.released.as_ref().map(|(by, _)| by),
            "released": hold.released.as_ref().map(|(_, ms)| format_rfc3339(*ms)),
        })).collect::<Vec<_>>(),
        "newest_run": facts.newest_run.as_ref().map(|run| json!({
            "recon_run": run.recon_run,
            "as_of": format_rfc3339(run.as_of_ms),
            "snapshot": run.snapshot,
            "sealed": format_rfc3339(run.sealed_ms),
            "oldest_read": run.oldest_read_ms.map(format_rfc3339),
        })),
        "situations": facts.situations,
        "open_findings": facts.open_findings,
        "opened": found.disclosed.opened,
        "withheld": found.disclosed.withheld,
        "witnesses": found.witnesses.0,
        "anchor_witnesses": found.anchor_witnesses,
        "does_not_prove": limits(found),
    })
}

fn campaign_json(facts: &CampaignFacts) -> Value {
    json!({
        "campaign": facts.campaign,
        "outcome": facts.outcome,
        "owner": facts.owner,
        "reviewed": facts.reviewed,
        "missing": facts.missing.iter().map(|(source, reason)| json!({
            "source": source,
            "reason": reason,
        })).collect::<Vec<_>>(),
        "population": facts.population,
        "excluded": facts.excluded,
        "dispositions": facts.dispositions,
        "undecided": facts.undecided,
        "decided_by": facts.decided_by.iter().map(|maker| json!({
            "principal": maker.principal,
            "principal_kind": maker.kind,
            "organization_kind": maker.organization,
            "ended": maker.ended,
            "human": maker.human,
            "right": maker.right,
            "grantor": maker.grantor,
            "decisions": maker.decisions,
        })).collect::<Vec<_>>(),
        "removals_decided": facts.removals,
        "verified_gone": facts.removed,
        "debt": facts.debt,
    })
}
