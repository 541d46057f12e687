//! Onboarding: the tenant, who answers for it, who may decide, and the gate.

use std::collections::BTreeSet;

use anyhow::{Context as _, bail};
use counterfoil_chassis::secrets;
use counterfoil_proto::{
    authority::{
        ActivateTenantRequest, BatchCreatePrincipalsRequest, BusinessUnit,
        CreateOrganizationRequest, CreatePrincipalRequest, CreateTenantRequest, DecisionAction,
        DecisionRight, EscalationLevel, GetPolicyRequest, GetTenantRequest,
        GrantDecisionRightsRequest, ListBusinessUnitsRequest, ListDecisionRightsRequest,
        ListPrincipalsRequest, OrganizationKind, Policy, Principal, PrincipalKind,
        PublishPolicyRequest, RetentionRule, SetBusinessUnitOwnerRequest, SetEscalationPathRequest,
        SetRetentionPolicyRequest, TenantState,
    },
    inventory::{
        ClassifySourceRequest, CreateSourceRequest, GetSourceRequest, ListSourcesRequest, Source,
    },
};
use prost_types::Timestamp;
use tonic::Code;

use super::{Player, customer_token_file, first_token_file, request_id, token_for_a_year};
use crate::{cli::explain, client::Clients};

/// Principals and rights in one call.
const BATCH: usize = 1_000;

impl Player<'_> {
    /// Brings the tenant to ACTIVE, whatever of it is there already.
    pub(super) async fn onboard(&self) -> anyhow::Result<()> {
        let mut tenants = self.admin.tenants()?;
        let request = GetTenantRequest {
            name: self.tenant(),
        };
        let found = match tenants.get_tenant(request).await {
            Ok(answer) => answer.into_inner().tenant,
            Err(status) if status.code() == Code::NotFound => None,
            Err(status) => return Err(explain(status)),
        };
        if found
            .as_ref()
            .is_some_and(|tenant| tenant.state() == TenantState::Active)
        {
            self.story.chapter(&format!(
                "{} is governed already; going on.",
                self.estate.tenant.display_name
            ));
            return self.hand_over().await;
        }
        self.story
            .chapter(&format!("Onboarding {}", self.estate.tenant.display_name));
        // Without a tenant record behind the log a crash left nothing but its name: creating it again completes it.
        let request_create = CreateTenantRequest {
            tenant_id: self.estate.tenant.id.clone(),
            display_name: self.estate.tenant.display_name.clone(),
            request_id: "estate-tenant".to_owned(),
            ..Default::default()
        };
        tenants
            .create_tenant(request_create)
            .await
            .map_err(explain)?;
        let request_activate = ActivateTenantRequest {
            name: self.tenant(),
            request_id: request_id(),
        };
        if found.is_none() {
            self.refused_while_incomplete(&request_activate).await?;
        }
        self.organizations_and_principals().await?;
        self.accountability().await?;
        self.rules().await?;
        self.prepare_hand_over()
            .await?
            .tenants()?
            .activate_tenant(ActivateTenantRequest {
                request_id: request_id(),
                ..request_activate
            })
            .await
            .map_err(explain)?;
        self.story
            .tell("Everything is there: the tenant is active.");
        self.hand_over().await
    }

    /// Shows that a tenant is not activated before it can be answered for.
    async fn refused_while_incomplete(
        &self,
        request: &ActivateTenantRequest,
    ) -> anyhow::Result<()> {
        let mut tenants = self.admin.tenants()?;
        match tenants.activate_tenant(request.clone()).await {
            Err(refusal) if refusal.code() == Code::FailedPrecondition => {}
            Err(status) => return Err(explain(status)),
            Ok(_) => bail!("a tenant without an accountable owner was activated"),
        }
        let request = GetTenantRequest {
            name: self.tenant(),
        };
        let answer = tenants.get_tenant(request).await.map_err(explain)?;
        let tenant = answer.into_inner().tenant.unwrap_or_default();
        self.story.tell(&format!(
            "Activation is refused while something is missing: {}.",
            tenant.missing_requirements.join(", ")
        ));
        Ok(())
    }

    /// Lets the tenant's accountable owner in before it is active: what is issued here ends a day after the activation.
    async fn prepare_hand_over(&self) -> anyhow::Result<Clients> {
        let file = first_token_file(self.data_dir, &self.estate.tenant.id);
        if !file.exists() {
            let owner = self.principal(&self.estate.tenant.accountable_owner);
            let token = token_for_a_year(&self.admin, &owner).await?;
            // If we crash here: nobody knows that token. The tenant is not active yet, and the next run asks for another.
            secrets::load_or_create(&file, || Ok(token))?;
        }
        self.admin.as_caller(&secrets::read(&file)?)
    }

    /// Goes on as the tenant's accountable owner, who makes themselves a token that lasts: once the tenant is active, the admin
    /// credential has no say in it.
    async fn hand_over(&self) -> anyhow::Result<()> {
        let file = customer_token_file(self.data_dir, &self.estate.tenant.id);
        let first = first_token_file(self.data_dir, &self.estate.tenant.id);
        if !file.exists() {
            let owner = self.principal(&self.estate.tenant.accountable_owner);
            let owner_until_then = self.admin.as_caller(&secrets::read(&first)?)?;
            let token = token_for_a_year(&owner_until_then, &owner).await?;
            // If we crash here: nobody knows that token, and the next run asks for another with the first one, for a day.
            secrets::load_or_create(&file, || Ok(token))?;
        }
        match std::fs::remove_file(&first) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let customer = self.admin.as_caller(&secrets::read(&file)?)?;
        // One run hands over once.
        let _ = self.customer.set(customer);
        Ok(())
    }

    async fn organizations_and_principals(&self) -> anyhow::Result<()> {
        let mut principals = self.admin.principals()?;
        for organization in &self.estate.organizations {
            let kind = format!("ORGANIZATION_KIND_{}", organization.kind.to_uppercase());
            let kind = OrganizationKind::from_str_name(&kind)
                .with_context(|| format!("{:?} is no kind of organisation", organization.kind))?;
            let request = CreateOrganizationRequest {
                tenant: self.tenant(),
                organization_id: organization.id.clone(),
                display_name: organization.display_name.clone(),
                kind: kind.into(),
                request_id: request_id(),
            };
            match principals.create_organization(request).await {
                Err(status) if status.code() != Code::AlreadyExists => return Err(explain(status)),
                _ => {}
            }
        }
        let known = self.principal_names().await?;
        let missing: Vec<_> = self
            .estate
            .principals
            .iter()
            .filter(|principal| !known.contains(&self.principal(&principal.id)))
            .map(|principal| CreatePrincipalRequest {
                tenant: self.tenant(),
                principal_id: principal.id.clone(),
                principal: Some(Principal {
                    display_name: principal.display_name.clone(),
                    kind: PrincipalKind::Human.into(),
                    organization: format!(
                        "{}/organizations/{}",
                        self.tenant(),
                        principal.organization
                    ),
                    identity_key: principal.identity_key.clone().unwrap_or_default(),
                    roles: principal.roles.clone(),
                    ..Default::default()
                }),
                request_id: String::new(),
            })
            .collect();
        for batch in missing.chunks(BATCH) {
            let request = BatchCreatePrincipalsRequest {
                tenant: self.tenant(),
                requests: batch.to_vec(),
                request_id: request_id(),
            };
            principals
                .batch_create_principals(request)
                .await
                .map_err(explain)?;
        }
        self.story.tell(&format!(
            "{} organisations and {} people take part.",
            self.estate.organizations.len(),
            self.estate.principals.len()
        ));
        Ok(())
    }

    async fn principal_names(&self) -> anyhow::Result<BTreeSet<String>> {
        let mut principals = self.admin.principals()?;
        let mut names = BTreeSet::new();
        let mut page_token = String::new();
        loop {
            let request = ListPrincipalsRequest {
                tenant: self.tenant(),
                page_size: 1_000,
                page_token,
            };
            let page = principals
                .list_principals(request)
                .await
                .map_err(explain)?
                .into_inner();
            names.extend(page.principals.into_iter().map(|principal| principal.name));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(names);
            }
        }
    }

    /// Owners and decision rights.
    async fn accountability(&self) -> anyhow::Result<()> {
        let mut rights = self.admin.rights()?;
        let request = ListBusinessUnitsRequest {
            tenant: self.tenant(),
            ..Default::default()
        };
        let units = rights
            .list_business_units(request)
            .await
            .map_err(explain)?
            .into_inner();
        for unit in &self.estate.business_units {
            let name = format!("{}/business-units/{}", self.tenant(), unit.id);
            if units.business_units.iter().any(|known| known.name == name) {
                continue;
            }
            let request = SetBusinessUnitOwnerRequest {
                business_unit: Some(BusinessUnit {
                    name,
                    display_name: unit.display_name.clone(),
                    owner: self.principal(&unit.owner),
                    deputy: self.principal(&unit.deputy),
                    effective_time: None,
                }),
                request_id: request_id(),
            };
            rights
                .set_business_unit_owner(request)
                .await
                .map_err(explain)?;
        }
        let request = ListDecisionRightsRequest {
            tenant: self.tenant(),
            page_size: 1_000,
            ..Default::default()
        };
        let known = rights
            .list_decision_rights(request)
            .await
            .map_err(explain)?
            .into_inner();
        let held: BTreeSet<(String, i32)> = known
            .decision_rights
            .into_iter()
            .map(|right| (right.grantee, right.action))
            .collect();
        let mut missing = self.decision_rights()?;
        missing.retain(|right| !held.contains(&(right.grantee.clone(), right.action)));
        let granted = missing.len();
        for batch in missing.chunks(BATCH) {
            let request = GrantDecisionRightsRequest {
                tenant: self.tenant(),
                decision_rights: batch.to_vec(),
                request_id: request_id(),
            };
            rights
                .grant_decision_rights(request)
                .await
                .map_err(explain)?;
        }
        self.story.tell(&format!(
            "{} answers for the whole, and {granted} decision rights are granted by the customer.",
            self.estate.tenant.accountable_owner
        ));
        Ok(())
    }

    fn decision_rights(&self) -> anyhow::Result<Vec<DecisionRight>> {
        let now = jiff::Timestamp::now().as_second();
        let mut all = Vec::new();
        for rights in &self.estate.decision_rights {
            for (grantee, action) in rights
                .grantees
                .iter()
                .flat_map(|grantee| rights.actions.iter().map(move |action| (grantee, action)))
            {
                let name = format!("DECISION_ACTION_{}", action.to_uppercase());
                let action = DecisionAction::from_str_name(&name)
                    .with_context(|| format!("{action:?} is no action of a decision right"))?;
                let scope = rights.scope.iter().map(|scope| match scope.as_str() {
                    "*" => "*".to_owned(),
                    source => format!("{}/sources/{source}", self.tenant()),
                });
                all.push(DecisionRight {
                    grantee: self.principal(grantee),
                    action: action.into(),
                    scope: scope.collect(),
                    valid_to_time: Some(Timestamp {
                        seconds: now + i64::from(rights.valid_days) * 86_400,
                        nanos: 0,
                    }),
                    grantor: self.principal(&rights.grantor),
                    ..Default::default()
                });
            }
        }
        Ok(all)
    }

    /// Policy, escalation and retention.
    async fn rules(&self) -> anyhow::Result<()> {
        let mut tenants = self.admin.tenants()?;
        let policy = GetPolicyRequest {
            tenant: self.tenant(),
            at_time: None,
        };
        let mut policies = self.admin.policies()?;
        if policies.get_policy(policy).await.is_err() {
            let wanted = &self.estate.policy;
            let request = PublishPolicyRequest {
                tenant: self.tenant(),
                policy: Some(Policy {
                    threshold_count: wanted.threshold_count,
                    threshold_permille: wanted.threshold_permille,
                    persistence_offsets_seconds: wanted.persistence_offsets_seconds.clone(),
                    dormant_after_seconds: wanted.dormant_after_seconds,
                    ..Default::default()
                }),
                request_id: request_id(),
            };
            policies.publish_policy(request).await.map_err(explain)?;
        }
        let levels = self.estate.escalation.iter().map(|level| EscalationLevel {
            principal: self.principal(&level.to),
            after_seconds: i64::from(level.after_hours) * 3_600,
        });
        let request = SetEscalationPathRequest {
            tenant: self.tenant(),
            levels: levels.collect(),
            last_resort: self.principal(&self.estate.tenant.accountable_owner),
            request_id: request_id(),
        };
        tenants
            .set_escalation_path(request)
            .await
            .map_err(explain)?;
        let rules = self.estate.retention.iter().map(|rule| RetentionRule {
            retention_class: rule.class.clone(),
            duration_days: rule.days,
            basis: rule.basis.clone(),
            jurisdiction: "*".to_owned(),
        });
        let request = SetRetentionPolicyRequest {
            tenant: self.tenant(),
            rules: rules.collect(),
            request_id: request_id(),
        };
        tenants
            .set_retention_policy(request)
            .await
            .map_err(explain)?;
        self.story
            .tell("Rules, escalation path and retention are set.");
        Ok(())
    }

    /// Registers the sources that are not registered yet.
    pub(super) async fn connect_sources(&self) -> anyhow::Result<()> {
        let mut sources = self.admin.sources()?;
        let request = ListSourcesRequest {
            tenant: self.tenant(),
            page_size: 1_000,
            ..Default::default()
        };
        let known = sources
            .list_sources(request)
            .await
            .map_err(explain)?
            .into_inner();
        for source in &self.estate.sources {
            let name = format!("{}/sources/{}", self.tenant(), source.id);
            if known.sources.iter().any(|known| known.name == name) {
                continue;
            }
            let request = CreateSourceRequest {
                tenant: self.tenant(),
                source_id: source.id.clone(),
                source: Some(Source {
                    display_name: source.display_name.clone(),
                    config_json: source.config_json(self.directory)?,
                    ..Default::default()
                }),
                request_id: request_id(),
            };
            let created = sources
                .create_source(request)
                .await
                .map_err(explain)?
                .into_inner();
            let created = created.source.unwrap_or_default();
            self.story.tell(&format!(
                "{} is connected: read as {}, changed as {}.",
                source.display_name, created.reader_principal, created.writer_principal
            ));
        }
        self.classify_sources().await
    }

    /// The customer says of which environment and tier the sources are: whoever connects them to the machine may not. What it has said
    /// since of a source stays.
    async fn classify_sources(&self) -> anyhow::Result<()> {
        let mut sources = self.customer()?.sources()?;
        for wanted in &self.estate.sources {
            let name = format!("{}/sources/{}", self.tenant(), wanted.id);
            let request = GetSourceRequest { name: name.clone() };
            let known = sources.get_source(request).await.map_err(explain)?;
            let known = known.into_inner().source.unwrap_or_default();
            let is_said = !(known.environment.is_empty() && known.tier.is_empty());
            if is_said || wanted.environment.is_empty() && wanted.tier.is_empty() {
                continue;
            }
            let request = ClassifySourceRequest {
                name,
                environment: Some(wanted.environment.clone()),
                tier: Some(wanted.tier.clone()),
                request_id: request_id(),
            };
            sources.classify_source(request).await.map_err(explain)?;
            let or = |code: &str, unnamed: &str| match code {
                "" => unnamed.to_owned(),
                named => named.to_owned(),
            };
            self.story.tell(&format!(
                "{} is of environment {} and {}.",
                wanted.display_name,
                or(&wanted.environment, "default"),
                or(&wanted.tier, "no tier")
            ));
        }
        Ok(())
    }
}
