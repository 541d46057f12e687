//! `counterfoil decision import`: decisions from a file, in batches, one result each.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
};

use anyhow::{Context as _, bail};
use clap::{Arg, ArgAction, ArgMatches, Command};
use counterfoil_evidence::leaf::{GrantKey, SourceTag};
use counterfoil_proto::{
    authority::IssueTokenRequest,
    recertification::{
        BatchDecideItemsRequest, Decision, Evidence, Item, ItemDecision, ItemState,
        ListItemsRequest,
    },
};
use prost_types::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    cli::{Output, Session, explain},
    client::Clients,
};

/// Decisions in one call.
const BATCH_ITEMS: usize = 1_000;

/// One line of a decisions file. Times are days from now.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecisionRow {
    /// Id of the source.
    pub source: String,
    /// The account's id in the source.
    pub account: String,
    /// The entitlement's id in the source.
    pub entitlement: String,
    /// ACCEPT, REVOKE, REDUCE or EXCEPTION.
    pub decision: String,
    /// Why.
    pub justification: String,
    /// Kind of evidence.
    pub evidence_kind: String,
    /// Reference of the evidence.
    pub evidence_ref: String,
    /// When it must be reviewed again.
    pub review_by_days: Option<i64>,
    /// For EXCEPTION: the basis.
    pub exception_basis: String,
    /// For EXCEPTION: when it ends.
    pub exception_expires_days: Option<i64>,
    /// Principal id of the reviewer the line is meant for; empty = whoever the item is routed to. Owns an exception.
    pub reviewer: String,
    /// For REDUCE: the narrower entitlement's id in the source.
    pub reduce_to: String,
}

/// What an import did.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct ImportSummary {
    /// Decisions taken, by kind.
    pub taken: BTreeMap<String, u64>,
    /// Refusals, by reason.
    pub refused: BTreeMap<String, u64>,
    /// The first refusals in words.
    pub refusals: Vec<String>,
    /// Lines that match no item with this caller.
    pub unmatched: u64,
}

/// The subcommand.
#[must_use]
pub fn command() -> Command {
    Command::new("import")
        .about("Take decisions from a CSV file, in batches of 1,000, one result each")
        .arg(Arg::new("campaign").required(true).help("tenants/{tenant}/campaigns/{campaign}; the id alone will do"))
        .arg(Arg::new("file").required(true).help("source,account,entitlement,decision,justification,evidence_kind,evidence_ref,review_by_days,exception_basis,exception_expires_days,reviewer,reduce_to"))
        .arg(Arg::new("as-reviewers").long("as-reviewers").action(ArgAction::SetTrue).help("For trials and tests: issue each routed reviewer a token that lives ten minutes and decide as that reviewer. Without it, the caller decides its own items"))
}

/// Runs the subcommand.
///
/// # Errors
/// When the file is malformed, the campaign is not there, or a decision was refused.
pub async fn run(session: &Session, arguments: &ArgMatches) -> anyhow::Result<()> {
    let campaign = arguments
        .get_one::<String>("campaign")
        .context("campaign")?;
    let campaign = if campaign.starts_with("tenants/") {
        campaign.clone()
    } else {
        let tenant = session.tenant.as_deref().context("give --tenant")?;
        let tenant = tenant.trim_start_matches("tenants/");
        format!("tenants/{tenant}/campaigns/{campaign}")
    };
    let file = PathBuf::from(arguments.get_one::<String>("file").context("file")?);
    let rows = read(&file)?;
    let clients = Clients::open(&session.endpoints, &session.endpoints.token()?)?;
    let play = arguments.get_flag("as-reviewers");
    let summary = import(&clients, &campaign, &rows, play, |_, _| {}).await?;
    match session.output {
        Output::Json => crate::say(&serde_json::to_string_pretty(&summary)?),
        Output::Table => {
            for (decision, count) in &summary.taken {
                crate::say(&format!("{count:>8}  {decision}"));
            }
            for (reason, count) in &summary.refused {
                crate::say(&format!("{count:>8}  refused: {reason}"));
            }
            if summary.unmatched > 0 {
                crate::say(&format!(
                    "{:>8}  lines match no open item",
                    summary.unmatched
                ));
            }
        }
    }
    if !summary.refused.is_empty() {
        bail!(
            "some decisions were refused:\n{}",
            summary.refusals.join("\n")
        );
    }
    Ok(())
}

/// Reads a decisions file; an error names file and line.
///
/// # Errors
/// When a line does not have the columns or their form.
pub fn read(file: &std::path::Path) -> anyhow::Result<Vec<DecisionRow>> {
    let mut reader = csv::Reader::from_path(file)
        .with_context(|| format!("{} cannot be read", file.display()))?;
    let rows = reader
        .deserialize()
        .enumerate()
        .map(|(at, row)| row.with_context(|| format!("{}, line {}", file.display(), at + 2)));
    rows.collect()
}

/// Takes the decisions; calls `progress(done, total)` after each batch.
///
/// # Errors
/// When a call fails as a whole; refusals of single decisions are in the summary.
pub async fn import(
    clients: &Clients,
    campaign: &str,
    rows: &[DecisionRow],
    as_reviewers: bool,
    mut progress: impl FnMut(usize, usize),
) -> anyhow::Result<ImportSummary> {
    let items = all_items(clients, campaign).await?;
    let mut by_native: HashMap<(SourceTag, &str, &str), &Item> = HashMap::new();
    for item in &items {
        let Some(shown) = &item.presentation else {
            continue;
        };
        let Some(Ok(key)) = shown.leaf.get(..40).map(GrantKey::try_from) else {
            continue;
        };
        let native = (
            shown.account_native_id.as_str(),
            shown.entitlement_native_id.as_str(),
        );
        by_native.insert((key.source_tag(), native.0, native.1), item);
    }
    let mut summary = ImportSummary::default();
    let mut by_reviewer: BTreeMap<String, Vec<ItemDecision>> = BTreeMap::new();
    for row in rows {
        let tag = SourceTag::of(&format!("sources/{}", row.source));
        let find = |entitlement| by_native.get(&(tag, row.account.as_str(), entitlement));
        let open = find(row.entitlement.as_str()).filter(|item| item.state() == ItemState::Routed);
        let Some(item) = open else {
            summary.unmatched += 1;
            continue;
        };
        let meant = row.reviewer.is_empty()
            || item
                .reviewer
                .ends_with(&format!("/principals/{}", row.reviewer));
        if !meant {
            summary.unmatched += 1;
            continue;
        }
        let reduce_to = match row.reduce_to.as_str() {
            "" => String::new(),
            native => find(native)
                .map(|narrower| narrower.grant.clone())
                .unwrap_or_default(),
        };
        by_reviewer
            .entry(item.reviewer.clone())
            .or_default()
            .push(decision(row, item, reduce_to)?);
    }
    let total = by_reviewer.values().map(Vec::len).sum();
    let mut done = 0;
    for (reviewer, decisions) in by_reviewer {
        let caller = if as_reviewers {
            let token = reviewer_token(clients, &reviewer).await?;
            clients.as_caller(&token)?
        } else {
            clients.clone()
        };
        for batch in decisions.chunks(BATCH_ITEMS) {
            decide(&caller, campaign, batch, &mut summary).await?;
            done += batch.len();
            progress(done, total);
        }
    }
    tracing::debug!(campaign, total, "decisions imported");
    Ok(summary)
}

/// All items, also those decided already: what a reduction keeps may be among them.
async fn all_items(clients: &Clients, campaign: &str) -> anyhow::Result<Vec<Item>> {
    let mut reviews = clients.reviews()?;
    let mut items = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListItemsRequest {
            campaign: campaign.to_owned(),
            page_size: 1_000,
            page_token,
            ..Default::default()
        };
        let page = reviews
            .list_items(request)
            .await
            .map_err(explain)?
            .into_inner();
        items.extend(page.items);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(items);
        }
    }
}

async fn reviewer_token(clients: &Clients, reviewer: &str) -> anyhow::Result<String> {
    let request = IssueTokenRequest {
        principal: reviewer.to_owned(),
        ttl_seconds: 600,
        ..IssueTokenRequest::default()
    };
    let answer = clients
        .principals()?
        .issue_token(request)
        .await
        .map_err(explain)?;
    Ok(answer.into_inner().token)
}

async fn decide(
    caller: &Clients,
    campaign: &str,
    batch: &[ItemDecision],
    summary: &mut ImportSummary,
) -> anyhow::Result<()> {
    let request = BatchDecideItemsRequest {
        campaign: campaign.to_owned(),
        decisions: batch.to_vec(),
        request_id: uuid::Uuid::now_v7().to_string(),
        wait_for_receipts: true,
    };
    let answer = caller
        .reviews()?
        .batch_decide_items(request)
        .await
        .map_err(explain)?
        .into_inner();
    for (decision, result) in batch.iter().zip(answer.results) {
        if result.code == 0 {
            let name = Decision::try_from(decision.decision).unwrap_or_default();
            let name = name.as_str_name().trim_start_matches("DECISION_");
            *summary.taken.entry(name.to_owned()).or_default() += 1;
        } else {
            *summary.refused.entry(result.reason.clone()).or_default() += 1;
            if summary.refusals.len() < 10 {
                summary.refusals.push(format!(
                    "{}: {} [{}]",
                    result.item, result.message, result.reason
                ));
            }
        }
    }
    Ok(())
}

fn decision(
    row: &DecisionRow,
    item: &Item,
    reduce_to_grant: String,
) -> anyhow::Result<ItemDecision> {
    let name = format!("DECISION_{}", row.decision.to_uppercase());
    let Some(decision) = Decision::from_str_name(&name) else {
        bail!("{:?} of {} is no decision", row.decision, row.account);
    };
    let evidence = if row.evidence_kind.is_empty() {
        Vec::new()
    } else {
        vec![Evidence {
            kind: row.evidence_kind.clone(),
            reference: row.evidence_ref.clone(),
            sha256: Vec::new(),
        }]
    };
    let exception = decision == Decision::Exception;
    Ok(ItemDecision {
        item: item.name.clone(),
        decision: decision.into(),
        justification: row.justification.clone(),
        evidence,
        review_by_time: row.review_by_days.map(in_days),
        exception_basis: row.exception_basis.clone(),
        exception_owner: if exception {
            item.reviewer.clone()
        } else {
            String::new()
        },
        exception_expire_time: row
            .exception_expires_days
            .filter(|_| exception)
            .map(in_days),
        reduce_to_grant,
        presentation_hash: item.presentation_hash.clone(),
        dwell_ms: 0,
    })
}

fn in_days(days: i64) -> Timestamp {
    let now = jiff::Timestamp::now().as_second();
    Timestamp {
        seconds: now.saturating_add(days.saturating_mul(86_400)),
        nanos: 0,
    }
}

/// A moment in the API's form, from seconds since 1970-01-01T00:00:00Z.
#[must_use]
pub fn at_second(second: u64) -> Timestamp {
    Timestamp {
        seconds: i64::try_from(second).unwrap_or(i64::MAX),
        nanos: 0,
    }
}
