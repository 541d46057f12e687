//! The cycle around the review: read, reconcile, remediate, read again, close.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, bail};
use counterfoil_proto::{
    inventory::{
        CreateSnapshotRequest, ListGrantsRequest, Snapshot, StartSyncRequest, Sync, SyncPurpose,
        SyncState, WatchSyncRequest,
    },
    recertification::{
        Campaign, CampaignState, CloseCampaignRequest, GetCampaignRequest, ItemCounts,
    },
    reconciliation::{
        ExecuteRemediationRequest, FindingState, ListFindingsRequest, ListObligationsRequest,
        ListRemediationsRequest, PlanRemediationRequest, ReconRun, Remediation, RemediationState,
        ResolveThresholdRequest, RunDueRereadsRequest, RunReconciliationRequest, Situation,
        WatchRemediationRequest,
    },
};
use tonic::Code;

use super::{Outcome, Player, request_id};
use crate::{bundle::Exported, cli::explain, client::Clients};

/// How often an unfinished remediation is tried again.
const REMEDIATION_TRIES: usize = 3;

/// Problems that the inventory marks on a grant, with what they mean.
const PROBLEMS: [(&[&str], &str); 5] = [
    (&["ORPHANED"], "of accounts that belong to nobody"),
    (&["IDENTITY_ENDED"], "of people who have left"),
    (
        &["PRIVILEGED", "OWNERLESS"],
        "privileged and owned by nobody",
    ),
    (&["NO_EXPIRY"], "of service accounts without an expiry"),
    (&["DORMANT"], "unused for longer than the rules allow"),
];

impl Player<'_> {
    /// Reads every source and seals a snapshot.
    pub(super) async fn snapshot(&self) -> anyhow::Result<Snapshot> {
        let mut sources = self.worker()?.sources()?;
        for source in &self.estate.sources {
            let request = StartSyncRequest {
                source: format!("{}/sources/{}", self.tenant(), source.id),
                purpose: SyncPurpose::Inventory.into(),
                request_id: request_id(),
                not_before_time: None,
            };
            let started = sources
                .start_sync(request)
                .await
                .map_err(explain)?
                .into_inner();
            let name = started.sync.unwrap_or_default().name;
            let sync = self.finished_sync(&name).await?;
            let counts = sync.counts.unwrap_or_default();
            self.story.tell(&format!(
                "{}: {} accounts, {} entitlements, {} grants ({} more follow from them), {}.",
                source.display_name,
                counts.accounts,
                counts.entitlements,
                counts.grants_direct,
                counts.grants_inherited,
                if sync.state() == SyncState::Complete {
                    "complete and sealed"
                } else {
                    "NOT complete"
                },
            ));
            for message in sync.error_messages.iter().take(3) {
                self.story.tell(&format!("  {message}"));
            }
        }
        let request = CreateSnapshotRequest {
            tenant: self.tenant(),
            request_id: request_id(),
        };
        let answer = sources
            .create_snapshot(request)
            .await
            .map_err(explain)?
            .into_inner();
        answer
            .snapshot
            .context("the inventory answered without a snapshot")
    }

    async fn finished_sync(&self, name: &str) -> anyhow::Result<Sync> {
        let request = WatchSyncRequest {
            name: name.to_owned(),
        };
        let mut watch = self
            .worker()?
            .sources()?
            .watch_sync(request)
            .await
            .map_err(explain)?
            .into_inner();
        let mut last = None;
        while let Some(progress) = watch.message().await.map_err(explain)? {
            last = progress.sync;
        }
        last.context("the sync ended without a word")
    }

    /// Says what is wrong before anyone decides.
    pub(super) async fn tell_problems(&self) -> anyhow::Result<()> {
        for (flags, meaning) in PROBLEMS {
            let request = ListGrantsRequest {
                tenant: self.tenant(),
                flags: flags.iter().map(|&flag| flag.to_owned()).collect(),
                page_size: 1_000,
                ..Default::default()
            };
            let page = self
                .customer()?
                .inventory()?
                .list_grants(request)
                .await
                .map_err(explain)?
                .into_inner();
            let direct: Vec<_> = page
                .grants
                .iter()
                .filter(|grant| grant.path.is_empty())
                .collect();
            let Some(first) = direct.first() else {
                continue;
            };
            let named = |name: Option<&str>| name.unwrap_or_default().to_owned();
            self.story.tell(&format!(
                "Found {} grants {meaning}, such as {} on {}.",
                direct.len(),
                named(
                    first
                        .account
                        .as_ref()
                        .map(|account| account.native_id.as_str())
                ),
                named(
                    first
                        .entitlement
                        .as_ref()
                        .map(|entitlement| entitlement.native_id.as_str())
                ),
            ));
        }
        Ok(())
    }

    /// Compares, plans, acts, reads back; and reads again what is due.
    pub(super) async fn remediate(
        &self,
        owner: &Clients,
        campaign: &Campaign,
    ) -> anyhow::Result<()> {
        self.story
            .chapter("Comparing what was decided with what is there");
        for _ in 0..REMEDIATION_TRIES {
            if let Some(open) = self.unfinished_remediation(owner).await? {
                self.carry_out(owner, open).await?;
            }
            let snapshot = self.snapshot().await?;
            let run = self.reconcile(owner, &snapshot).await?;
            let request = PlanRemediationRequest {
                recon_run: run.name,
                request_id: request_id(),
            };
            match owner.remediations()?.plan_remediation(request).await {
                Ok(answer) => {
                    let planned = answer.into_inner().remediation.unwrap_or_default();
                    self.story.chapter("Carrying the decisions out");
                    self.story.tell(&format!(
                        "{} grants are to be removed.",
                        planned.actions_count
                    ));
                    self.carry_out(owner, planned).await?;
                }
                Err(status) if status.code() == Code::FailedPrecondition => break,
                Err(status) => return Err(explain(status)),
            }
        }
        self.reread(owner).await?;
        tracing::debug!(campaign = campaign.name, "remediation done");
        Ok(())
    }

    async fn reconcile(&self, owner: &Clients, snapshot: &Snapshot) -> anyhow::Result<ReconRun> {
        let request = RunReconciliationRequest {
            snapshot: snapshot.name.clone(),
            request_id: request_id(),
        };
        let answer = owner
            .recon()?
            .run_reconciliation(request)
            .await
            .map_err(explain)?;
        let run = answer.into_inner().recon_run.unwrap_or_default();
        let counts: Vec<String> = run
            .situations
            .iter()
            .filter(|count| count.count > 0)
            .map(|count| {
                let name = Situation::try_from(count.situation)
                    .unwrap_or_default()
                    .as_str_name();
                format!("{} {}", count.count, name.trim_start_matches("SITUATION_"))
            })
            .collect();
        self.story.tell(&format!("{}.", counts.join(", ")));
        Ok(run)
    }

    async fn unfinished_remediation(&self, owner: &Clients) -> anyhow::Result<Option<Remediation>> {
        let request = ListRemediationsRequest {
            tenant: self.tenant(),
            page_size: 1_000,
            ..Default::default()
        };
        let page = owner
            .remediations()?
            .list_remediations(request)
            .await
            .map_err(explain)?
            .into_inner();
        Ok(page.remediations.into_iter().find(|remediation| {
            use RemediationState::{Approved, Dispatched, Held, Verifying};
            matches!(
                remediation.state(),
                Held | Approved | Dispatched | Verifying
            )
        }))
    }

    async fn carry_out(&self, owner: &Clients, mut remediation: Remediation) -> anyhow::Result<()> {
        let mut remediations = owner.remediations()?;
        if remediation.state() == RemediationState::Held {
            self.story.tell(&format!(
                "The plan is held: it exceeds the limit of {} ({}). {} looks at it and lets it go on.",
                remediation.threshold_limit, remediation.threshold_metric, self.estate.campaign.owner
            ));
            let request = ResolveThresholdRequest {
                name: remediation.name.clone(),
                resume: true,
                reason: "Every removal was decided in the review that has just ended".to_owned(),
                request_id: request_id(),
            };
            let answer = remediations
                .resolve_threshold(request)
                .await
                .map_err(explain)?;
            remediation = answer.into_inner().remediation.unwrap_or_default();
        }
        if remediation.state() == RemediationState::Approved {
            let request = ExecuteRemediationRequest {
                name: remediation.name.clone(),
                request_id: request_id(),
            };
            let answer = remediations
                .execute_remediation(request)
                .await
                .map_err(explain)?;
            remediation = answer.into_inner().remediation.unwrap_or_default();
        }
        let bar = self
            .story
            .progress("verified gone", remediation.actions_count);
        let request = WatchRemediationRequest {
            name: remediation.name.clone(),
        };
        let mut watch = remediations
            .watch_remediation(request)
            .await
            .map_err(explain)?
            .into_inner();
        while let Some(progress) = watch.message().await.map_err(explain)? {
            remediation = progress.remediation.unwrap_or_default();
            bar.set_position(remediation.verified_count);
        }
        bar.finish_and_clear();
        self.story.tell(&format!(
            "{} of {} removals are proved by reading the target again through another principal; {} stay open.",
            remediation.verified_count, remediation.actions_count, remediation.open_count
        ));
        Ok(())
    }

    /// Whether something that was removed has been seen again.
    async fn came_back(&self, owner: &Clients) -> anyhow::Result<bool> {
        let request = ListRemediationsRequest {
            tenant: self.tenant(),
            page_size: 1_000,
            ..Default::default()
        };
        let page = owner
            .remediations()?
            .list_remediations(request)
            .await
            .map_err(explain)?
            .into_inner();
        let mut remediations = page.remediations.iter();
        Ok(remediations.any(|remediation| remediation.state() == RemediationState::Regressed))
    }

    /// Waits for re-reads that are due within seconds and does them; later ones stay owed, and the bundle says so.
    async fn reread(&self, owner: &Clients) -> anyhow::Result<()> {
        const WAIT_SECONDS_MAX: i64 = 5;
        let mut remediations = owner.remediations()?;
        let obligations = ListObligationsRequest {
            tenant: self.tenant(),
            page_size: 1_000,
            ..Default::default()
        };
        let mut owed_before = 0;
        loop {
            let done = remediations
                .run_due_rereads(RunDueRereadsRequest {
                    tenant: self.tenant(),
                })
                .await
                .map_err(explain)?
                .into_inner();
            let open = remediations
                .list_obligations(obligations.clone())
                .await
                .map_err(explain)?
                .into_inner();
            // The service has a job that does the same, and may have been first.
            let done_by_job = open.obligations.len() < owed_before;
            if done_by_job || done.discharged > 0 || done.regressed > 0 {
                self.story.tell(if self.came_back(owner).await? {
                    "Read again later: access came BACK, and its case is open again."
                } else {
                    "Read again later: what was removed is still gone."
                });
            }
            owed_before = open.obligations.len();
            let next = open
                .obligations
                .iter()
                .filter_map(|owed| owed.due_time.as_ref())
                .map(|due| due.seconds)
                .min();
            let now = jiff::Timestamp::now().as_second();
            match next {
                Some(due) if due <= now + WAIT_SECONDS_MAX && done.unobservable == 0 => {
                    let wait = u64::try_from(due - now + 1).unwrap_or(1);
                    tokio::time::sleep(Duration::from_secs(wait)).await;
                }
                _ => return Ok(()),
            }
        }
    }

    /// Closes the campaign, if it is not closed yet.
    pub(super) async fn close(
        &self,
        owner: &Clients,
        campaign: &Campaign,
    ) -> anyhow::Result<Campaign> {
        let name = campaign.name.clone();
        let mut campaigns = owner.campaigns()?;
        let answer = campaigns
            .get_campaign(GetCampaignRequest { name: name.clone() })
            .await
            .map_err(explain)?;
        let campaign = answer.into_inner().campaign.unwrap_or_default();
        match campaign.state() {
            CampaignState::Closed | CampaignState::ClosedWithDebt => return Ok(campaign),
            CampaignState::Remediating => {}
            other => bail!("{name} is {}, it cannot be closed", other.as_str_name()),
        }
        let request = CloseCampaignRequest {
            name,
            request_id: request_id(),
        };
        let answer = campaigns
            .close_campaign(request)
            .await
            .map_err(explain)?
            .into_inner();
        let campaign = answer.campaign.unwrap_or_default();
        self.story.chapter("Closing");
        self.story.tell(&match campaign.state() {
            CampaignState::Closed => {
                "Everything was decided and every removal is verified: the campaign is CLOSED."
                    .to_owned()
            }
            _ => format!(
                "{} things are open: the campaign is CLOSED_WITH_DEBT, and each is listed.",
                campaign.debt_count
            ),
        });
        Ok(campaign)
    }

    /// The end: what there is to take away.
    pub(super) async fn outcome(
        &self,
        campaign: Campaign,
        exported: Exported,
    ) -> anyhow::Result<Outcome> {
        let request = ListFindingsRequest {
            tenant: self.tenant(),
            state: FindingState::Open.into(),
            page_size: 1_000,
            ..Default::default()
        };
        let findings = self
            .customer()?
            .recon()?
            .list_findings(request)
            .await
            .map_err(explain)?
            .into_inner();
        let request = ListObligationsRequest {
            tenant: self.tenant(),
            page_size: 1_000,
            ..Default::default()
        };
        let owed = self
            .customer()?
            .remediations()?
            .list_obligations(request)
            .await
            .map_err(explain)?
            .into_inner();
        let counts = campaign.counts.unwrap_or_default();
        self.story.chapter("Evidence");
        self.story.tell(&format!(
            "{} findings and {} obligations are open; they are in the bundle too.",
            findings.findings.len(),
            owed.obligations.len()
        ));
        Ok(Outcome {
            verify: exported.verify_command(),
            bundle: exported.bundle,
            trust: exported.trust,
            tenant: self.tenant(),
            campaign_state: campaign
                .state()
                .as_str_name()
                .trim_start_matches("CAMPAIGN_STATE_")
                .to_owned(),
            campaign: campaign.name,
            counts: named_counts(&counts),
            removals_verified: counts.verified,
            findings_open: findings.findings.len() as u64,
            obligations_open: owed.obligations.len() as u64,
        })
    }
}

fn named_counts(counts: &ItemCounts) -> BTreeMap<String, u64> {
    [
        ("pending", counts.pending),
        ("accepted", counts.accepted),
        ("revoked", counts.revoked),
        ("reduced", counts.reduced),
        ("excepted", counts.excepted),
        ("lapsed_revoke", counts.lapsed_revoke),
        ("lapsed_retained", counts.lapsed_retained),
        ("voided", counts.voided),
    ]
    .into_iter()
    .map(|(name, count)| (name.to_owned(), count))
    .collect()
}
