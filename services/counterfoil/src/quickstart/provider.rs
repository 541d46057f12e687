//! The provider of an estate: a tenant of its own, an engagement that the customer approves, and an operator who runs the syncs under
//! it once they have shown what they can.

use std::collections::BTreeSet;

use anyhow::{Context as _, bail};
use counterfoil_chassis::secrets;
use counterfoil_proto::authority::{
    AcceptCompetencyRequest, ActivateTenantRequest, ApproveEngagementRequest,
    AssignOperatorRequest, AssignResponsibilityRequest, AttestControlRequest, Competency,
    CompleteReassessmentRequest, CreateOrganizationRequest, CreatePrincipalRequest,
    CreateTenantRequest, Engagement, EngagementProfile, EngagementState, GetTenantRequest,
    ListEngagementsRequest, ListOperatorsRequest, OrganizationKind, Principal, PrincipalKind,
    ReassessmentResult, RequestEngagementRequest, Responsibility, SetEnvironmentSensitivityRequest,
    SetPartnerTierRequest, SubmitCompetencyRequest, TenantKind, TenantState,
};
use counterfoil_tlog::hash::sha256;
use prost_types::Timestamp;
use tonic::Code;

use super::{Player, request_id, token_for_a_year};
use crate::{cli::explain, client::Clients, estate::Organization};

/// How long everything shown and approved is good.
const DAYS: u32 = 365;
/// What a STANDARD engagement asks an operator for.
const TOPICS: [&str; 3] = ["onboarding", "access_reviews", "incident_response"];

/// People of the provider.
struct Hired {
    tenant: String,
    administrator: Clients,
    operator: Clients,
}

impl Player<'_> {
    /// Lets the estate's provider work for the customer, whatever of that is there already.
    pub(super) async fn engage_provider(&self) -> anyhow::Result<()> {
        let mut organizations = self.estate.organizations.iter();
        let Some(provider) = organizations.find(|one| one.kind == "provider") else {
            return Ok(());
        };
        let Some(hired) = self.hired(provider).await? else {
            self.story.tell(&format!(
                "{} has a tenant that others set up: the customer goes on alone.",
                provider.display_name
            ));
            return Ok(());
        };
        self.story
            .chapter(&format!("Engaging {}", provider.display_name));
        let engagement = self.engagement(provider, &hired).await?;
        self.qualify(&engagement, &hired).await?;
        // One run engages once.
        let _ = self.worker.set(hired.operator);
        self.story.tell(
            "Its operator shows evidence for each topic, the customer accepts it: every call stands in both logs from now on.",
        );
        Ok(())
    }

    /// The provider's tenant with an administrator and an operator; `None`: it is there, and their tokens are not here.
    async fn hired(&self, provider: &Organization) -> anyhow::Result<Option<Hired>> {
        let tenant = format!("tenants/{}", provider.id);
        let mut tenants = self.admin.tenants()?;
        let request = GetTenantRequest {
            name: tenant.clone(),
        };
        let state = match tenants.get_tenant(request).await {
            Ok(answer) => answer.into_inner().tenant.map(|one| one.state()),
            Err(status) if status.code() == Code::NotFound => None,
            Err(status) => return Err(explain(status)),
        };
        let people = ["administrator", "operator"];
        let file = |person: &str| {
            let name = format!("provider-{}-{person}.token", provider.id);
            self.data_dir.join("keys").join(name)
        };
        let name = |person: &str| format!("{tenant}/principals/{person}");
        let first = file("first");
        if state != Some(TenantState::Active) {
            self.set_up(provider, &tenant).await?;
            if !first.exists() {
                let token = token_for_a_year(&self.admin, &name("administrator")).await?;
                secrets::load_or_create(&first, || Ok(token))?;
            }
            let request = ActivateTenantRequest {
                name: tenant.clone(),
                request_id: request_id(),
            };
            let administrator = self.admin.as_caller(&secrets::read(&first)?)?;
            let mut tenants = administrator.tenants()?;
            tenants.activate_tenant(request).await.map_err(explain)?;
        }
        if first.exists() {
            // What the deployment issued ends a day after the activation: the administrator issues what lasts.
            let administrator = self.admin.as_caller(&secrets::read(&first)?)?;
            for person in people {
                if !file(person).exists() {
                    let token = token_for_a_year(&administrator, &name(person)).await?;
                    secrets::load_or_create(&file(person), || Ok(token))?;
                }
            }
            // If we crash here: the next run has nothing left to issue.
            std::fs::remove_file(&first)?;
        }
        if !people.iter().all(|person| file(person).exists()) {
            return Ok(None);
        }
        let clients = |person: &str| self.admin.as_caller(&secrets::read(&file(person))?);
        Ok(Some(Hired {
            administrator: clients("administrator")?,
            operator: clients("operator")?.acting_for(&self.estate.tenant.id)?,
            tenant,
        }))
    }

    /// Makes the provider's tenant, or what is left of it to make.
    async fn set_up(&self, provider: &Organization, tenant: &str) -> anyhow::Result<()> {
        let request = CreateTenantRequest {
            tenant_id: provider.id.clone(),
            display_name: provider.display_name.clone(),
            request_id: "estate-provider".to_owned(),
            kind: TenantKind::Provider.into(),
        };
        let mut tenants = self.admin.tenants()?;
        there(tenants.create_tenant(request).await)?;
        let mut principals = self.admin.principals()?;
        let request = CreateOrganizationRequest {
            tenant: tenant.to_owned(),
            organization_id: "own".to_owned(),
            display_name: provider.display_name.clone(),
            kind: OrganizationKind::Provider.into(),
            request_id: request_id(),
        };
        there(principals.create_organization(request).await)?;
        for (person, role) in [
            ("administrator", "tenant-administrator"),
            ("operator", "operator"),
        ] {
            let request = CreatePrincipalRequest {
                tenant: tenant.to_owned(),
                principal_id: person.to_owned(),
                principal: Some(Principal {
                    display_name: format!("{} {person}", provider.display_name),
                    kind: PrincipalKind::Human.into(),
                    organization: format!("{tenant}/organizations/own"),
                    roles: vec![role.to_owned()],
                    ..Default::default()
                }),
                request_id: request_id(),
            };
            there(principals.create_principal(request).await)?;
        }
        Ok(())
    }

    /// The live engagement of the provider, asked for and approved when there is none.
    async fn engagement(&self, provider: &Organization, hired: &Hired) -> anyhow::Result<String> {
        let request = ListEngagementsRequest {
            tenant: self.tenant(),
            page_size: 1_000,
            ..Default::default()
        };
        let mut customer = self.customer()?.engagements()?;
        let known = customer.list_engagements(request).await.map_err(explain)?;
        let own = known.into_inner().engagements.into_iter();
        let own: Vec<Engagement> = own.filter(|one| one.provider == hired.tenant).collect();
        let mut live = own
            .iter()
            .filter(|one| one.state() == EngagementState::Live);
        if let Some(live) = live.next() {
            return Ok(live.name.clone());
        }
        for activity in ["onboarding", "access_design", "offboarding"] {
            let request = AssignResponsibilityRequest {
                tenant: self.tenant(),
                responsibility: Some(Responsibility {
                    activity: activity.to_owned(),
                    operator_organization: self.organization(&provider.id),
                    risk_owner: self.principal(&self.estate.tenant.accountable_owner),
                }),
                request_id: request_id(),
            };
            let mut qualifications = self.customer()?.qualifications()?;
            let done = qualifications.assign_responsibility(request).await;
            done.map_err(explain)?;
        }
        let mut asked = own
            .iter()
            .filter(|one| one.state() == EngagementState::Requested);
        let name = match asked.next() {
            Some(asked) => asked.name.clone(),
            None => self.ask(hired).await?,
        };
        let request = ApproveEngagementRequest {
            name: name.clone(),
            organization: self.organization(&provider.id),
            request_id: request_id(),
            ..Default::default()
        };
        let approved = customer.approve_engagement(request).await;
        approved.map_err(explain)?;
        self.story.tell(&format!(
            "{} asks for the role of an operator for {DAYS} days, and {} approves.",
            provider.display_name, self.estate.tenant.accountable_owner
        ));
        Ok(name)
    }

    async fn ask(&self, hired: &Hired) -> anyhow::Result<String> {
        let request = RequestEngagementRequest {
            customer: self.tenant(),
            engagement: Some(Engagement {
                roles: vec!["operator".to_owned()],
                purpose: "RUNS-THE-PROCESS".to_owned(),
                profile: EngagementProfile::Standard.into(),
                term_days: DAYS,
                ..Default::default()
            }),
            request_id: request_id(),
        };
        let mut provider = hired.administrator.engagements()?;
        let asked = provider.request_engagement(request).await;
        let asked = asked.map_err(explain)?.into_inner().engagement;
        Ok(asked.context("no engagement in the answer")?.name)
    }

    fn organization(&self, id: &str) -> String {
        format!("{}/organizations/{id}", self.tenant())
    }

    /// Brings the operator to where they lack nothing.
    async fn qualify(&self, engagement: &str, hired: &Hired) -> anyhow::Result<()> {
        let operator = format!("{}/principals/operator", hired.tenant);
        let Some(refusal) = self.refusal(engagement, &operator).await? else {
            let request = AssignOperatorRequest {
                engagement: engagement.to_owned(),
                operator: operator.clone(),
                roles: vec!["operator".to_owned()],
                request_id: request_id(),
            };
            let mut provider = hired.administrator.engagements()?;
            provider.assign_operator(request).await.map_err(explain)?;
            return Box::pin(self.qualify(engagement, hired)).await;
        };
        if refusal.is_empty() {
            return Ok(());
        }
        self.rate(engagement).await?;
        let digest = |what: &str| sha256(what.as_bytes()).0.to_vec();
        let request = AttestControlRequest {
            engagement: engagement.to_owned(),
            control: "access_control".to_owned(),
            statement_sha256: digest("statement"),
            evidence_sha256: digest("report"),
            valid_to_time: Some(later()),
            request_id: request_id(),
        };
        let mut provider = hired.administrator.qualifications()?;
        provider.attest_control(request).await.map_err(explain)?;
        for topic in TOPICS {
            let request = SubmitCompetencyRequest {
                tenant: self.tenant(),
                competency: Some(Competency {
                    topic: topic.to_owned(),
                    issuer: "ISC2".to_owned(),
                    evidence_sha256: digest(topic),
                    valid_to_time: Some(later()),
                    ..Default::default()
                }),
                request_id: request_id(),
            };
            let mut operator = hired.operator.qualifications()?;
            let shown = operator.submit_competency(request);
            let shown = shown.await.map_err(explain)?.into_inner().competency;
            let request = AcceptCompetencyRequest {
                name: shown.context("no evidence in the answer")?.name,
                request_id: request_id(),
                ..Default::default()
            };
            let mut customer = self.customer()?.qualifications()?;
            let accepted = customer.accept_competency(request);
            accepted.await.map_err(explain)?;
        }
        match self.refusal(engagement, &operator).await? {
            Some(refusal) if refusal.is_empty() => Ok(()),
            refusal => bail!("the operator still lacks {}", refusal.unwrap_or_default()),
        }
    }

    /// What an operator lacks, as a code; `None`: they are not assigned.
    async fn refusal(&self, engagement: &str, operator: &str) -> anyhow::Result<Option<String>> {
        let request = ListOperatorsRequest {
            engagement: engagement.to_owned(),
            page_size: 1_000,
            ..Default::default()
        };
        let mut customer = self.customer()?.engagements()?;
        let listed = customer.list_operators(request);
        let listed = listed.await.map_err(explain)?.into_inner().operators;
        let mut assigned = listed.into_iter().filter(|one| one.unassign_time.is_none());
        let found = assigned.find(|one| one.operator == operator);
        Ok(found.map(|found| found.refusal))
    }

    /// The customer rates the provider, says how sensitive its environments are, and looks whether the provider can do it.
    async fn rate(&self, engagement: &str) -> anyhow::Result<()> {
        let mut qualifications = self.customer()?.qualifications()?;
        let request = SetPartnerTierRequest {
            engagement: engagement.to_owned(),
            tier: 3,
            basis: "ISO-27001".to_owned(),
            request_id: request_id(),
        };
        let set = qualifications.set_partner_tier(request).await;
        set.map_err(explain)?;
        let named = self
            .estate
            .sources
            .iter()
            .map(|source| &*source.environment);
        let named = named.filter(|environment| !environment.is_empty());
        let environments: BTreeSet<&str> = named.chain(["default"]).collect();
        for environment in environments {
            let request = SetEnvironmentSensitivityRequest {
                tenant: self.tenant(),
                environment: environment.to_owned(),
                level: 3,
                request_id: request_id(),
            };
            let set = qualifications.set_environment_sensitivity(request).await;
            set.map_err(explain)?;
        }
        let request = CompleteReassessmentRequest {
            engagement: engagement.to_owned(),
            result: ReassessmentResult::Passed.into(),
            next_due_time: Some(later()),
            request_id: request_id(),
        };
        let done = qualifications.complete_reassessment(request).await;
        done.map_err(explain)?;
        Ok(())
    }
}

/// Until when everything is good.
fn later() -> Timestamp {
    Timestamp {
        seconds: jiff::Timestamp::now().as_second() + i64::from(DAYS) * 86_400,
        nanos: 0,
    }
}

/// What was made now or before.
fn there<T>(answer: Result<tonic::Response<T>, tonic::Status>) -> anyhow::Result<()> {
    match answer {
        Err(status) if status.code() != Code::AlreadyExists => Err(explain(status)),
        _ => Ok(()),
    }
}
