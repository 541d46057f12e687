//! What stands before a remediation: the tenant, its people and rights, sources, reviews; and the steps of a remediation.

use counterfoil_chassis::clock::timestamp;
use counterfoil_proto::{
    authority::{
        ActivateTenantRequest, BusinessUnit, CreateOrganizationRequest, CreatePrincipalRequest,
        CreateTenantRequest, DecisionAction, DecisionRight, EscalationLevel,
        GrantDecisionRightsRequest, ListDecisionRightsRequest, OrganizationKind, Policy, Principal,
        PrincipalKind, PublishPolicyRequest, RetentionRule, RevokeDecisionRightRequest,
        SetBusinessUnitOwnerRequest, SetEscalationPathRequest, SetRetentionPolicyRequest,
    },
    inventory::{
        CreateSnapshotRequest, CreateSourceRequest, Source, StartSyncRequest, WatchSyncRequest,
    },
    recertification::{
        ActivateCampaignRequest, BatchDecideItemsRequest, Campaign, CloseCampaignRequest,
        CreateCampaignRequest, Decision, EndReviewRequest, Evidence, ItemDecision,
        ListItemsRequest, StageCampaignRequest,
    },
    reconciliation::{
        Action, ExecuteRemediationRequest, Finding, ListActionsRequest, ListFindingsRequest,
        ListObligationsRequest, Obligation, PlanRemediationRequest, PlanRemediationResponse,
        ReconRun, Remediation, RunDueRereadsRequest, RunDueRereadsResponse,
        RunReconciliationRequest, WatchRemediationRequest,
    },
};
use tokio::time::timeout;
use tonic::Status;

use super::world::{Account, DAY_MS, NOW_MS, PATIENCE, TENANT, World, principal_name, write_files};

impl World {
    pub(super) async fn onboard(&mut self) {
        let mut tenants = self.admin.tenants.clone();
        let request = CreateTenantRequest {
            tenant_id: "acme".into(),
            display_name: "Acme".into(),
            request_id: String::new(),
            ..Default::default()
        };
        tenants.create_tenant(request).await.unwrap();
        self.people().await;
        self.publish(|_| {}).await;
        let request = SetEscalationPathRequest {
            tenant: TENANT.into(),
            levels: vec![EscalationLevel {
                principal: principal_name("finn"),
                after_seconds: 86_400,
            }],
            last_resort: principal_name("olga"),
            request_id: String::new(),
        };
        tenants.set_escalation_path(request).await.unwrap();
        let request = SetRetentionPolicyRequest {
            tenant: TENANT.into(),
            rules: vec![RetentionRule {
                retention_class: "governance".into(),
                duration_days: 3650,
                basis: "SOX-404".into(),
                jurisdiction: "*".into(),
            }],
            request_id: String::new(),
        };
        tenants.set_retention_policy(request).await.unwrap();
        // Once the tenant is active, it governs itself, and what the deployment issued ends a day after.
        self.olga = self.of("olga").await;
        let request = ActivateTenantRequest {
            name: TENANT.into(),
            request_id: String::new(),
        };
        self.olga
            .tenants
            .clone()
            .activate_tenant(request)
            .await
            .unwrap();
        self.olga = self.of("olga").await;
    }

    /// Publishes a policy that reads again after a minute and after an hour and lapses into removal; `change` says what differs.
    pub(super) async fn publish(&self, change: impl FnOnce(&mut Policy)) {
        let mut policy = Policy {
            persistence_offsets_seconds: vec![60, 3600],
            ..Policy::default()
        };
        change(&mut policy);
        let request = PublishPolicyRequest {
            tenant: TENANT.into(),
            policy: Some(policy),
            request_id: String::new(),
        };
        self.olga
            .policies
            .clone()
            .publish_policy(request)
            .await
            .unwrap();
    }

    async fn people(&self) {
        let mut principals = self.admin.principals.clone();
        for (id, kind) in [
            ("acme", OrganizationKind::Customer),
            ("provider", OrganizationKind::Provider),
        ] {
            let request = CreateOrganizationRequest {
                tenant: TENANT.into(),
                organization_id: id.into(),
                display_name: id.into(),
                kind: kind.into(),
                request_id: String::new(),
            };
            principals.create_organization(request).await.unwrap();
        }
        for (id, kind, roles) in [
            (
                "olga",
                PrincipalKind::Human,
                ["tenant-administrator", "operator"],
            ),
            ("finn", PrincipalKind::Human, ["operator", "reviewer"]),
            ("robo", PrincipalKind::Service, ["operator", "reviewer"]),
            ("sam", PrincipalKind::Human, ["operator", "reviewer"]),
        ] {
            let request = CreatePrincipalRequest {
                tenant: TENANT.into(),
                principal_id: id.into(),
                principal: Some(Principal {
                    display_name: format!("Name of {id}"),
                    kind: kind.into(),
                    // sam works for the provider, and never calls from here.
                    organization: match id {
                        "sam" => format!("{TENANT}/organizations/provider"),
                        _ => format!("{TENANT}/organizations/acme"),
                    },
                    identity_key: format!("{id}@acme.example"),
                    roles: roles.iter().map(|role| (*role).to_owned()).collect(),
                    ..Principal::default()
                }),
                request_id: String::new(),
            };
            principals.create_principal(request).await.unwrap();
        }
        let request = SetBusinessUnitOwnerRequest {
            business_unit: Some(BusinessUnit {
                name: format!("{TENANT}/business-units/whole"),
                display_name: "The whole".into(),
                owner: principal_name("olga"),
                deputy: principal_name("finn"),
                effective_time: None,
            }),
            request_id: String::new(),
        };
        let mut rights = self.admin.rights.clone();
        rights.set_business_unit_owner(request).await.unwrap();
        for (grantee, action) in [
            ("finn", DecisionAction::Review),
            ("olga", DecisionAction::Certify),
            ("olga", DecisionAction::Except),
            ("olga", DecisionAction::Remediate),
            ("robo", DecisionAction::Remediate),
        ] {
            self.grant_right(grantee, action, "*").await;
        }
    }

    pub(super) async fn grant_right(&self, grantee: &str, action: DecisionAction, scope: &str) {
        let right = DecisionRight {
            grantee: principal_name(grantee),
            action: action.into(),
            scope: vec![scope.into()],
            valid_to_time: Some(timestamp(NOW_MS + 300 * DAY_MS)),
            grantor: principal_name("olga"),
            ..DecisionRight::default()
        };
        let request = GrantDecisionRightsRequest {
            tenant: TENANT.into(),
            decision_rights: vec![right],
            request_id: String::new(),
        };
        self.olga
            .rights
            .clone()
            .grant_decision_rights(request)
            .await
            .unwrap();
    }

    /// Revokes all rights of a principal.
    pub(super) async fn revoke_rights(&self, grantee: &str) {
        let mut rights = self.olga.rights.clone();
        let request = ListDecisionRightsRequest {
            tenant: TENANT.into(),
            page_size: 1000,
            page_token: String::new(),
        };
        let found = rights
            .list_decision_rights(request)
            .await
            .unwrap()
            .into_inner()
            .decision_rights;
        for right in found
            .into_iter()
            .filter(|right| right.grantee == principal_name(grantee))
        {
            let request = RevokeDecisionRightRequest {
                name: right.name,
                request_id: String::new(),
            };
            rights.revoke_decision_right(request).await.unwrap();
        }
    }

    /// Writes the files of a source, registers and reads it. `change` may change its settings.
    pub(super) async fn add_source(
        &self,
        id: &str,
        accounts: &[Account<'_>],
        change: impl FnOnce(&mut serde_json::Value),
    ) {
        let folder = self.files(id);
        write_files(&folder, accounts);
        let mut config = serde_json::json!({"kind": "csv", "directory": folder});
        change(&mut config);
        let request = CreateSourceRequest {
            tenant: TENANT.into(),
            source_id: id.into(),
            source: Some(Source {
                display_name: id.to_uppercase(),
                config_json: config.to_string(),
                ..Source::default()
            }),
            request_id: String::new(),
        };
        // The folder is not one of the tenant's own, so only who owns the machine may name it.
        self.admin
            .sources
            .clone()
            .create_source(request)
            .await
            .unwrap();
        self.sync(id).await;
    }

    /// Reads a source to its seal.
    pub(super) async fn sync(&self, source: &str) {
        self.clock.advance_ms(1_000);
        let mut sources = self.olga.sources.clone();
        let request = StartSyncRequest {
            source: format!("{TENANT}/sources/{source}"),
            ..StartSyncRequest::default()
        };
        let started = sources.start_sync(request).await.unwrap().into_inner();
        let name = started.sync.unwrap().name;
        let mut states = sources
            .watch_sync(WatchSyncRequest { name })
            .await
            .unwrap()
            .into_inner();
        let watched = async { while states.message().await.unwrap().is_some() {} };
        timeout(PATIENCE, watched).await.unwrap();
    }

    /// Whoever wants to read the source from now on waits for so long: at most five minutes.
    pub(super) async fn not_read_for(&self, source: &str, ms: i64) {
        let request = StartSyncRequest {
            source: format!("{TENANT}/sources/{source}"),
            not_before_time: Some(timestamp(self.clock.now_ms() + ms)),
            ..StartSyncRequest::default()
        };
        let mut sources = self.olga.sources.clone();
        sources.start_sync(request).await.unwrap();
    }

    /// A review of everything, decided by finn and ended: `decide` answers an account's entitlement.
    pub(super) async fn review(&self, id: &str, decide: impl Fn(&str, &str) -> Decision) -> String {
        let name = self.open_review(id).await;
        self.decide(&name, decide, true).await;
        self.end_review(&name).await;
        name
    }

    /// A review of everything, open.
    pub(super) async fn open_review(&self, id: &str) -> String {
        self.clock.advance_ms(1_000);
        let campaign = Campaign {
            display_name: "Quarterly review".into(),
            fallback_reviewer: principal_name("finn"),
            ..Campaign::default()
        };
        let request = CreateCampaignRequest {
            tenant: TENANT.into(),
            campaign_id: id.into(),
            campaign: Some(campaign),
            request_id: String::new(),
        };
        let mut campaigns = self.olga.campaigns.clone();
        let name = campaigns
            .create_campaign(request)
            .await
            .unwrap()
            .into_inner()
            .campaign
            .unwrap()
            .name;
        let (snapshot, request_id) = (self.snapshot().await, String::new());
        let request = StageCampaignRequest {
            name: name.clone(),
            snapshot,
            request_id,
        };
        campaigns.stage_campaign(request).await.unwrap();
        let request = ActivateCampaignRequest {
            name: name.clone(),
            request_id: String::new(),
        };
        campaigns.activate_campaign(request).await.unwrap();
        name
    }

    pub(super) async fn end_review(&self, name: &str) {
        let request = EndReviewRequest {
            name: name.into(),
            request_id: String::new(),
        };
        let mut campaigns = self.olga.campaigns.clone();
        campaigns.end_review(request).await.unwrap();
    }

    /// Decides every item; `logged`: until it is in the ledger.
    pub(super) async fn decide(
        &self,
        campaign: &str,
        decide: impl Fn(&str, &str) -> Decision,
        logged: bool,
    ) {
        let all = |account: &str, entitlement: &str| Some(decide(account, entitlement));
        self.decide_some(campaign, all, logged).await;
    }

    /// Decides the items on which there is an answer.
    pub(super) async fn decide_some(
        &self,
        campaign: &str,
        decide: impl Fn(&str, &str) -> Option<Decision>,
        logged: bool,
    ) {
        let request = ListItemsRequest {
            campaign: campaign.into(),
            page_size: 1000,
            ..ListItemsRequest::default()
        };
        let mut reviews = self.finn.reviews.clone();
        let items = reviews
            .list_items(request)
            .await
            .unwrap()
            .into_inner()
            .items;
        let narrow = |account: &str| {
            let shown = items.iter().find(|item| {
                let shown = item.presentation.as_ref().unwrap();
                shown.account_native_id == account && shown.entitlement_native_id == "narrow"
            });
            shown.unwrap().grant.clone()
        };
        let decisions: Vec<ItemDecision> = items
            .iter()
            .filter_map(|item| {
                let shown = item.presentation.as_ref().unwrap();
                let decision = decide(&shown.account_native_id, &shown.entitlement_native_id)?;
                let keeps = decision == Decision::Accept;
                Some(ItemDecision {
                    item: item.name.clone(),
                    decision: decision.into(),
                    justification: "Checked with the team".into(),
                    evidence: vec![Evidence {
                        kind: "ticket".into(),
                        reference: "T-1".into(),
                        sha256: Vec::new(),
                    }],
                    review_by_time: keeps.then(|| timestamp(self.clock.now_ms() + 100 * DAY_MS)),
                    reduce_to_grant: match decision {
                        Decision::Reduce => narrow(&shown.account_native_id),
                        _ => String::new(),
                    },
                    presentation_hash: item.presentation_hash.clone(),
                    ..ItemDecision::default()
                })
            })
            .collect();
        let request = BatchDecideItemsRequest {
            campaign: campaign.into(),
            decisions,
            request_id: String::new(),
            wait_for_receipts: logged,
        };
        let results = reviews
            .batch_decide_items(request)
            .await
            .unwrap()
            .into_inner()
            .results;
        for result in results {
            assert_eq!(result.code, 0, "{result:?}");
        }
    }

    /// Closes a campaign.
    pub(super) async fn close(&self, name: &str) -> Campaign {
        let request = CloseCampaignRequest {
            name: name.into(),
            request_id: String::new(),
        };
        let answer = self
            .olga
            .campaigns
            .clone()
            .close_campaign(request)
            .await
            .unwrap();
        answer.into_inner().campaign.unwrap()
    }

    /// Seals all sources as they are.
    pub(super) async fn snapshot(&self) -> String {
        let request = CreateSnapshotRequest {
            tenant: TENANT.into(),
            request_id: String::new(),
        };
        let answer = self
            .olga
            .sources
            .clone()
            .create_snapshot(request)
            .await
            .unwrap();
        answer.into_inner().snapshot.unwrap().name
    }

    /// Compares on a new snapshot, a second later.
    pub(super) async fn reconcile(&self) -> ReconRun {
        self.clock.advance_ms(1_000);
        let request = RunReconciliationRequest {
            snapshot: self.snapshot().await,
            request_id: String::new(),
        };
        let answer = self
            .olga
            .recon
            .clone()
            .run_reconciliation(request)
            .await
            .unwrap();
        answer.into_inner().recon_run.unwrap()
    }

    pub(super) async fn plan(&self, run: &ReconRun) -> Result<PlanRemediationResponse, Status> {
        let request = PlanRemediationRequest {
            recon_run: run.name.clone(),
            request_id: String::new(),
        };
        let answer = self
            .olga
            .remediations
            .clone()
            .plan_remediation(request)
            .await?;
        Ok(answer.into_inner())
    }

    /// Compares and plans what is found.
    pub(super) async fn planned(&self) -> Remediation {
        let run = self.reconcile().await;
        self.plan(&run).await.unwrap().remediation.unwrap()
    }

    pub(super) async fn execute(&self, name: &str) -> Result<Remediation, Status> {
        self.clock.advance_ms(1_000);
        let request = ExecuteRemediationRequest {
            name: name.into(),
            request_id: String::new(),
        };
        let answer = self
            .olga
            .remediations
            .clone()
            .execute_remediation(request)
            .await?;
        Ok(answer.into_inner().remediation.unwrap())
    }

    /// Watches a remediation until nothing moves any more.
    pub(super) async fn watch(&self, name: &str) -> Remediation {
        let request = WatchRemediationRequest { name: name.into() };
        let answer = self
            .olga
            .remediations
            .clone()
            .watch_remediation(request)
            .await;
        let mut seen = answer.unwrap().into_inner();
        let watched = async {
            let mut last = None;
            while let Some(progress) = seen.message().await.unwrap() {
                last = progress.remediation;
            }
            last.unwrap()
        };
        timeout(PATIENCE, watched)
            .await
            .expect("the remediation never ended")
    }

    /// Carries a remediation out to its end.
    pub(super) async fn carried_out(&self, name: &str) -> Remediation {
        self.execute(name).await.unwrap();
        self.watch(name).await
    }

    pub(super) async fn actions(&self, remediation: &str) -> Vec<Action> {
        let request = ListActionsRequest {
            remediation: remediation.into(),
            page_size: 1000,
            page_token: String::new(),
        };
        let answer = self
            .olga
            .remediations
            .clone()
            .list_actions(request)
            .await
            .unwrap();
        answer.into_inner().actions
    }

    pub(super) async fn findings(&self) -> Vec<Finding> {
        let request = ListFindingsRequest {
            tenant: TENANT.into(),
            page_size: 1000,
            ..ListFindingsRequest::default()
        };
        self.olga
            .recon
            .clone()
            .list_findings(request)
            .await
            .unwrap()
            .into_inner()
            .findings
    }

    pub(super) async fn obligations(&self) -> Vec<Obligation> {
        let request = ListObligationsRequest {
            tenant: TENANT.into(),
            page_size: 1000,
            page_token: String::new(),
        };
        let answer = self
            .olga
            .remediations
            .clone()
            .list_obligations(request)
            .await
            .unwrap();
        answer.into_inner().obligations
    }

    pub(super) async fn rereads(&self) -> RunDueRereadsResponse {
        let request = RunDueRereadsRequest {
            tenant: TENANT.into(),
        };
        let answer = self
            .olga
            .remediations
            .clone()
            .run_due_rereads(request)
            .await
            .unwrap();
        answer.into_inner()
    }
}
