//! Tenants of the real service, as the model's world has them: active, with its people, all of them with tokens.

use counterfoil_chassis::clock::timestamp;
use counterfoil_proto::authority as proto;

use super::{
    command::{PEOPLE, Person, organization},
    common::{Clients, DAY_MS, Deployment, token_by},
};
use crate::model::principal::OrganizationKind;

/// Makes a tenant and answers the tokens of its people.
pub(super) async fn onboard(deployment: &Deployment, tenant: &str) -> Vec<String> {
    let name = format!("tenants/{tenant}");
    let request = proto::CreateTenantRequest {
        tenant_id: tenant.to_owned(),
        display_name: "Zebra Holding".to_owned(),
        ..Default::default()
    };
    let mut admin = deployment.admin.clone();
    admin.tenants.create_tenant(request).await.unwrap();
    people(&mut admin, &name).await;
    govern(&mut admin, &name).await;
    let token = async |issuer: &Clients, person: Person| {
        let principal = format!("{name}/principals/{}", person.id);
        token_by(issuer, &principal, 365).await
    };
    let first = deployment.clients_with(&token(&admin, PEOPLE[0]).await);
    let request = proto::ActivateTenantRequest {
        name: name.clone(),
        ..Default::default()
    };
    first
        .tenants
        .clone()
        .activate_tenant(request)
        .await
        .unwrap();
    // What the deployment issued ends a day later.
    let mut tokens = Vec::new();
    for person in PEOPLE {
        // Providers come in another way.
        let person = match person.of {
            OrganizationKind::Provider => PEOPLE[0],
            _ => person,
        };
        tokens.push(token(&first, person).await);
    }
    tokens
}

async fn people(admin: &mut Clients, name: &str) {
    for kind in [
        OrganizationKind::Customer,
        OrganizationKind::Auditor,
        OrganizationKind::Provider,
    ] {
        let request = proto::CreateOrganizationRequest {
            tenant: name.to_owned(),
            organization_id: organization(kind).to_owned(),
            display_name: "An organisation".to_owned(),
            kind: kind as i32,
            ..Default::default()
        };
        admin.principals.create_organization(request).await.unwrap();
    }
    // Whom the world does not know holds what a tenant needs to become active.
    let zoe = Person {
        id: "zoe",
        ..PEOPLE[0]
    };
    for person in PEOPLE.into_iter().chain([zoe]) {
        let request = proto::CreatePrincipalRequest {
            tenant: name.to_owned(),
            principal_id: person.id.to_owned(),
            principal: Some(proto::Principal {
                display_name: person.id.to_owned(),
                kind: person.kind as i32,
                organization: format!("{name}/organizations/{}", organization(person.of)),
                identity_key: person.identity(),
                roles: vec![person.role.to_owned()],
                ..Default::default()
            }),
            ..Default::default()
        };
        admin.principals.create_principal(request).await.unwrap();
    }
}

async fn govern(admin: &mut Clients, name: &str) {
    let person = |id: &str| format!("{name}/principals/{id}");
    let request = proto::SetBusinessUnitOwnerRequest {
        business_unit: Some(proto::BusinessUnit {
            name: format!("{name}/business-units/all"),
            display_name: "All".to_owned(),
            owner: person(PEOPLE[0].id),
            deputy: person(PEOPLE[1].id),
            effective_time: None,
        }),
        ..Default::default()
    };
    admin.rights.set_business_unit_owner(request).await.unwrap();
    let actions = [
        proto::DecisionAction::Review,
        proto::DecisionAction::Remediate,
        proto::DecisionAction::Certify,
    ];
    let rights = actions.map(|action| proto::DecisionRight {
        grantee: person("zoe"),
        grantor: person("zoe"),
        action: action.into(),
        valid_to_time: Some(timestamp(super::NOW_MS + 600 * DAY_MS)),
        ..Default::default()
    });
    let request = proto::GrantDecisionRightsRequest {
        tenant: name.to_owned(),
        decision_rights: rights.to_vec(),
        ..Default::default()
    };
    admin.rights.grant_decision_rights(request).await.unwrap();
    let request = proto::SetEscalationPathRequest {
        tenant: name.to_owned(),
        levels: vec![proto::EscalationLevel {
            principal: person(PEOPLE[1].id),
            after_seconds: 3_600,
        }],
        last_resort: person(PEOPLE[0].id),
        ..Default::default()
    };
    admin.tenants.set_escalation_path(request).await.unwrap();
    let request = proto::SetRetentionPolicyRequest {
        tenant: name.to_owned(),
        rules: vec![proto::RetentionRule {
            retention_class: "governance".to_owned(),
            duration_days: 3_650,
            basis: "SOX-404".to_owned(),
            jurisdiction: "*".to_owned(),
        }],
        ..Default::default()
    };
    admin.tenants.set_retention_policy(request).await.unwrap();
    let request = proto::PublishPolicyRequest {
        tenant: name.to_owned(),
        policy: Some(proto::Policy::default()),
        ..Default::default()
    };
    admin.policies.publish_policy(request).await.unwrap();
}
