//! Who decides is chosen by a provider's people only where the tier of their engagement reaches, with the real authority and
//! inventory.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on panics, also in what its tests share"
)]

mod support;

use counterfoil_chassis::{clock::timestamp, testing::TestDatabase};
use counterfoil_proto::{
    authority::{DecisionAction, DecisionRight, GrantDecisionRightsRequest},
    inventory::{ClassifySourceRequest, ListEntitlementsRequest, SetOwnerRequest},
    recertification::ReassignItemRequest,
};
use support::{DAY_MS, NOW_MS, TENANT, World, acting, principal_name};
use tonic::{Response, Status};
use tonic_types::StatusExt;

/// What the operator lacks, by its code.
fn refusal<T>(answer: Result<Response<T>, Status>) -> String {
    let details = answer.map(|_| ()).unwrap_err().get_error_details();
    let info = details.error_info().unwrap();
    assert_eq!(info.reason, "OPERATOR_NOT_QUALIFIED");
    info.metadata["refusal"].clone()
}

impl World {
    /// The customer says of which environment the source "hr" is.
    async fn classify(&self, environment: &str) {
        let request = ClassifySourceRequest {
            name: format!("{TENANT}/sources/hr"),
            environment: Some(environment.into()),
            ..ClassifySourceRequest::default()
        };
        let mut sources = self.olga.sources.clone();
        sources.classify_source(request).await.unwrap();
    }

    /// Lets somebody decide reviews everywhere, as far as they get.
    async fn grant_review(&self, grantee: &str) {
        let request = GrantDecisionRightsRequest {
            tenant: TENANT.into(),
            decision_rights: vec![DecisionRight {
                grantee: grantee.into(),
                action: DecisionAction::Review.into(),
                scope: vec!["*".into()],
                valid_to_time: Some(timestamp(NOW_MS + 10 * DAY_MS)),
                grantor: principal_name("olga"),
                ..DecisionRight::default()
            }],
            request_id: String::new(),
        };
        let mut rights = self.olga.rights.clone();
        rights.grant_decision_rights(request).await.unwrap();
    }

    /// An entitlement of the source "hr".
    async fn entitlement(&self) -> String {
        let request = ListEntitlementsRequest {
            tenant: TENANT.into(),
            page_size: 1,
            ..ListEntitlementsRequest::default()
        };
        let mut inventory = self.olga.inventory.clone();
        let listed = inventory.list_entitlements(request).await.unwrap();
        listed.into_inner().entitlements.remove(0).name
    }
}

counterfoil_chassis::both_engines! {
    /// Whoever cannot decide somewhere chooses nobody who does: neither by giving an item on, nor by saying who owns what is
    /// reviewed.
    async fn b23_an_operator_chooses_nobody_where_their_tier_does_not_reach(db: TestDatabase) {
        let world = World::start(db).await;
        let (otto, acts_as) = world.engaged().await;
        world.grant_review(&acts_as).await;
        let campaign = world.review("q3").await;
        let item = world.item(&campaign, "bob", "root").await;
        let to = |reviewer: &str| ReassignItemRequest {
            name: item.name.clone(),
            reviewer: reviewer.into(),
            request_id: String::new(),
        };
        let own = SetOwnerRequest {
            object: world.entitlement().await,
            owner: principal_name("rita"),
            request_id: String::new(),
        };
        let (mut reviews, mut inventory) = (otto.reviews.clone(), otto.inventory.clone());
        inventory.set_owner(acting(own.clone())).await.unwrap();
        let mut olgas = world.olga.reviews.clone();
        olgas.reassign_item(to(&acts_as)).await.unwrap();
        // Nobody has said how sensitive that is, so it is as sensitive as can be.
        world.classify("prod").await;
        assert_eq!(refusal(reviews.reassign_item(acting(to(&principal_name("rita")))).await), "TIER_TOO_LOW");
        assert_eq!(refusal(inventory.set_owner(acting(own.clone())).await), "TIER_TOO_LOW");
        // The customer's own are held to nothing of the kind.
        world.olga.inventory.clone().set_owner(own).await.unwrap();
        world.classify("default").await;
        reviews.reassign_item(acting(to(&principal_name("rita")))).await.unwrap();
        world.stop().await;
    }
}
