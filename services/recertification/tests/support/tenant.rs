//! What stands before a review: the tenant, its people and their rights, its sources, syncs and snapshots, the campaign.

use counterfoil_chassis::clock::timestamp;
use counterfoil_proto::{
    authority::{
        ActivateTenantRequest, BusinessUnit, CreateOrganizationRequest, CreatePrincipalRequest,
        CreateTenantRequest, DecisionAction, DecisionRight, EscalationLevel,
        GrantDecisionRightsRequest, OrganizationKind, Policy, Principal, PrincipalKind,
        PublishPolicyRequest, RetentionRule, SetAbsenceRequest, SetBusinessUnitOwnerRequest,
        SetEscalationPathRequest, SetRetentionPolicyRequest,
    },
    inventory::{
        CreateSnapshotRequest, CreateSourceRequest, Source, StartSyncRequest, SyncPurpose,
        SyncState, WatchSyncRequest,
    },
    recertification::{
        ActivateCampaignRequest, BatchDecideItemsRequest, Campaign, CreateCampaignRequest,
        DecideItemRequest, DecideItemResponse, DecideResult, Decision, Evidence,
        GetCampaignRequest, GetItemRequest, Item, ItemDecision, ListItemsRequest,
        StageCampaignRequest,
    },
};
use tokio::time::timeout;
use tonic::Status;

use super::{Clients, DAY_MS, Grant, NOW_MS, PATIENCE, TENANT, World, estate, principal_name};

const REVIEWERS: [&str; 5] = ["olga", "rita", "ada", "finn", "nemo"];

impl World {
    pub(super) async fn onboard(&mut self) {
        let mut tenants = self.admin.tenants.clone();
        let request = CreateTenantRequest {
            tenant_id: "acme".into(),
            display_name: "Acme".into(),
            request_id: "tenant".into(),
            ..Default::default()
        };
        tenants.create_tenant(request).await.unwrap();
        self.people().await;
        self.rights().await;
        let request = PublishPolicyRequest {
            tenant: TENANT.into(),
            policy: Some(Policy::default()),
            request_id: "policy".into(),
        };
        self.admin
            .policies
            .clone()
            .publish_policy(request)
            .await
            .unwrap();
        let request = SetEscalationPathRequest {
            tenant: TENANT.into(),
            levels: vec![EscalationLevel {
                principal: principal_name("finn"),
                after_seconds: 86_400,
            }],
            last_resort: principal_name("olga"),
            request_id: "escalation".into(),
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
            request_id: "retention".into(),
        };
        tenants.set_retention_policy(request).await.unwrap();
        // Once the tenant is active, it governs itself, and what the deployment issued ends a day after.
        self.olga = self.of("olga").await;
        let request = ActivateTenantRequest {
            name: TENANT.into(),
            request_id: "activate".into(),
        };
        self.olga
            .tenants
            .clone()
            .activate_tenant(request)
            .await
            .unwrap();
        self.olga = self.of("olga").await;
    }

    async fn people(&self) {
        let mut principals = self.admin.principals.clone();
        let organizations = [
            ("acme", OrganizationKind::Customer),
            ("provider", OrganizationKind::Provider),
        ];
        for (id, kind) in organizations {
            let request = CreateOrganizationRequest {
                tenant: TENANT.into(),
                organization_id: id.into(),
                display_name: id.into(),
                kind: kind.into(),
                request_id: String::new(),
            };
            principals.create_organization(request).await.unwrap();
        }
        for id in ["olga", "rita", "ada", "finn", "sam", "nemo"] {
            let roles: &[&str] = match id {
                "olga" => &["tenant-administrator", "operator", "reviewer"],
                "nemo" => &["operator", "reviewer"],
                _ => &["reviewer"],
            };
            // sam works for the provider.
            let organization = if id == "sam" { "provider" } else { "acme" };
            let request = CreatePrincipalRequest {
                tenant: TENANT.into(),
                principal_id: id.into(),
                principal: Some(Principal {
                    display_name: format!("Name of {id}"),
                    kind: PrincipalKind::Human.into(),
                    organization: format!("{TENANT}/organizations/{organization}"),
                    // Nobody knows who nemo is.
                    identity_key: match id {
                        "nemo" => String::new(),
                        _ => format!("{id}@acme.example"),
                    },
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
            request_id: "unit".into(),
        };
        let mut rights = self.admin.rights.clone();
        rights.set_business_unit_owner(request).await.unwrap();
    }

    async fn rights(&self) {
        let mut wanted: Vec<(&str, DecisionAction)> = REVIEWERS
            .into_iter()
            .map(|id| (id, DecisionAction::Review))
            .collect();
        wanted.push(("rita", DecisionAction::Except));
        wanted.push(("olga", DecisionAction::Certify));
        wanted.push(("olga", DecisionAction::Remediate));
        let decision_rights = wanted
            .into_iter()
            .map(|(grantee, action)| DecisionRight {
                grantee: principal_name(grantee),
                action: action.into(),
                scope: vec!["*".into()],
                valid_to_time: Some(timestamp(NOW_MS + 300 * DAY_MS)),
                grantor: principal_name("olga"),
                ..DecisionRight::default()
            })
            .collect();
        let request = GrantDecisionRightsRequest {
            tenant: TENANT.into(),
            decision_rights,
            request_id: "rights".into(),
        };
        let mut rights = self.admin.rights.clone();
        rights.grant_decision_rights(request).await.unwrap();
    }

    /// Writes the files of a source.
    pub(crate) fn write_source(&self, source: &str, grants: &[Grant]) {
        estate::write(&self.source_folder(source), grants);
    }

    /// Registers a CSV source over its folder.
    pub(crate) async fn add_source(&self, id: &str) {
        let folder = self.source_folder(id);
        let config_json = serde_json::json!({"kind": "csv", "directory": folder}).to_string();
        let request = CreateSourceRequest {
            tenant: TENANT.into(),
            source_id: id.into(),
            source: Some(Source {
                display_name: id.to_uppercase(),
                config_json,
                ..Source::default()
            }),
            request_id: String::new(),
        };
        // The folder is not one of the tenant's own, so only who owns the machine may name it.
        let mut sources = self.admin.sources.clone();
        sources.create_source(request).await.unwrap();
    }

    /// Reads a source to the seal; it must be COMPLETE.
    pub(crate) async fn sync(&self, source: &str) {
        self.clock.advance_ms(1_000);
        let mut sources = self.olga.sources.clone();
        let request = StartSyncRequest {
            source: format!("{TENANT}/sources/{source}"),
            purpose: SyncPurpose::Inventory.into(),
            ..StartSyncRequest::default()
        };
        let started = sources.start_sync(request).await.unwrap().into_inner();
        let name = started.sync.unwrap().name;
        let watched = async {
            let request = WatchSyncRequest { name };
            let mut states = sources.watch_sync(request).await.unwrap().into_inner();
            let mut last = None;
            while let Some(answer) = states.message().await.unwrap() {
                last = answer.sync;
            }
            last.unwrap()
        };
        let last = timeout(PATIENCE, watched).await.unwrap();
        assert_eq!(
            last.state(),
            SyncState::Complete,
            "{:?}",
            last.error_messages
        );
    }

    /// Seals all sources as they are.
    pub(crate) async fn snapshot(&self) -> String {
        let request = CreateSnapshotRequest {
            tenant: TENANT.into(),
            request_id: String::new(),
        };
        let mut sources = self.olga.sources.clone();
        let answer = sources.create_snapshot(request).await.unwrap();
        answer.into_inner().snapshot.unwrap().name
    }

    /// Defines a campaign; `change` says what differs from a review of everything within 30 days.
    pub(crate) async fn define(&self, id: &str, change: impl FnOnce(&mut Campaign)) -> String {
        let mut campaign = Campaign {
            display_name: "Quarterly review".into(),
            fallback_reviewer: principal_name("finn"),
            ..Campaign::default()
        };
        change(&mut campaign);
        let request = CreateCampaignRequest {
            tenant: TENANT.into(),
            campaign_id: id.into(),
            campaign: Some(campaign),
            request_id: String::new(),
        };
        let mut campaigns = self.olga.campaigns.clone();
        let answer = campaigns.create_campaign(request).await.unwrap();
        answer.into_inner().campaign.unwrap().name
    }

    /// Stages a campaign on a new snapshot.
    pub(crate) async fn stage(&self, name: &str) -> Result<Campaign, Status> {
        let request = StageCampaignRequest {
            name: name.into(),
            snapshot: self.snapshot().await,
            request_id: String::new(),
        };
        let mut campaigns = self.olga.campaigns.clone();
        let answer = campaigns.stage_campaign(request).await?;
        Ok(answer.into_inner().campaign.unwrap())
    }

    /// A principal is away for a day, and another stands in.
    pub(crate) async fn away(&self, principal: &str, deputy: &str) {
        let request = SetAbsenceRequest {
            tenant: TENANT.into(),
            deputy: principal_name(deputy),
            from_time: None,
            to_time: Some(timestamp(self.clock.now_ms() + DAY_MS)),
            request_id: String::new(),
        };
        let mut delegations = self.of(principal).await.delegations;
        delegations.set_absence(request).await.unwrap();
    }

    /// Opens the review.
    pub(crate) async fn activate(&self, name: &str) -> Campaign {
        let request = ActivateCampaignRequest {
            name: name.into(),
            request_id: String::new(),
        };
        let mut campaigns = self.olga.campaigns.clone();
        let answer = campaigns.activate_campaign(request).await.unwrap();
        answer.into_inner().campaign.unwrap()
    }

    /// A campaign over everything, under review.
    pub(crate) async fn review(&self, id: &str) -> String {
        let name = self.define(id, |_| {}).await;
        self.stage(&name).await.unwrap();
        self.activate(&name).await;
        name
    }

    /// Reads a campaign.
    pub(crate) async fn campaign(&self, name: &str) -> Campaign {
        let request = GetCampaignRequest { name: name.into() };
        let mut campaigns = self.olga.campaigns.clone();
        let answer = campaigns.get_campaign(request).await.unwrap();
        answer.into_inner().campaign.unwrap()
    }

    /// All items of a campaign.
    pub(crate) async fn items(&self, campaign: &str) -> Vec<Item> {
        let request = ListItemsRequest {
            campaign: campaign.into(),
            page_size: 1000,
            ..ListItemsRequest::default()
        };
        let mut reviews = self.olga.reviews.clone();
        reviews
            .list_items(request)
            .await
            .unwrap()
            .into_inner()
            .items
    }

    /// The item of an account's entitlement.
    pub(crate) async fn item(&self, campaign: &str, account: &str, entitlement: &str) -> Item {
        let items = self.items(campaign).await;
        let found = items.into_iter().find(|item| {
            let shown = item.presentation.as_ref().unwrap();
            shown.account_native_id == account && shown.entitlement_native_id == entitlement
        });
        found.unwrap()
    }

    /// Reads an item again.
    pub(crate) async fn reread(&self, item: &Item) -> Item {
        let request = GetItemRequest {
            name: item.name.clone(),
        };
        let mut reviews = self.olga.reviews.clone();
        reviews
            .get_item(request)
            .await
            .unwrap()
            .into_inner()
            .item
            .unwrap()
    }
}

/// A decision on an item as it was shown, with all that it needs.
pub(crate) fn decision(item: &Item, decision: Decision) -> ItemDecision {
    let mut asked = ItemDecision {
        item: item.name.clone(),
        decision: decision.into(),
        justification: "Checked with the team".into(),
        evidence: vec![Evidence {
            kind: "ticket".into(),
            reference: "T-1".into(),
            sha256: Vec::new(),
        }],
        review_by_time: Some(timestamp(NOW_MS + 100 * DAY_MS)),
        presentation_hash: item.presentation_hash.clone(),
        ..ItemDecision::default()
    };
    if decision == Decision::Exception {
        asked.exception_basis = "No other way until the migration".into();
        asked.exception_owner = principal_name("olga");
        asked.exception_expire_time = Some(timestamp(NOW_MS + 30 * DAY_MS));
    }
    asked
}

impl Clients {
    /// Decides one item.
    pub(crate) async fn decide(
        &self,
        decision: ItemDecision,
    ) -> Result<DecideItemResponse, Status> {
        let request = DecideItemRequest {
            decision: Some(decision),
            request_id: String::new(),
        };
        let answer = self.reviews.clone().decide_item(request).await?;
        Ok(answer.into_inner())
    }

    /// Decides many items.
    pub(crate) async fn decide_all(
        &self,
        campaign: &str,
        decisions: Vec<ItemDecision>,
        request_id: &str,
    ) -> Result<Vec<DecideResult>, Status> {
        let request = BatchDecideItemsRequest {
            campaign: campaign.into(),
            decisions,
            request_id: request_id.into(),
            wait_for_receipts: true,
        };
        let answer = self.reviews.clone().batch_decide_items(request).await?;
        Ok(answer.into_inner().results)
    }
}
