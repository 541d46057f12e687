//! A tenant that is suspended while a remediation runs: nothing more goes out, what has gone out is proved, and the rest follows
//! when the tenant is governed again.

use counterfoil_chassis::testing::TestDatabase;
use counterfoil_evidence::v1::AttemptResult;
use counterfoil_proto::{
    authority::{
        BeginExitRequest, CloseTenantRequest, RecordEvidencePackRequest, ResumeTenantRequest,
        SuspendTenantRequest,
    },
    inventory::{ListSyncsRequest, StartSyncRequest},
    reconciliation::{ActionState, ExecuteRemediationRequest, RemediationState},
};
use tokio::time::timeout;

use super::{Account, TENANT, World, reason, revoke_root, world::PATIENCE};
use crate::{
    jobs::{Progress, Step, remediate},
    model::ids::RemediationKey,
};

impl World {
    async fn suspend(&self) {
        let request = SuspendTenantRequest {
            name: TENANT.into(),
            reason_code: "incident".into(),
            request_id: String::new(),
        };
        let mut tenants = self.olga.tenants.clone();
        tenants.suspend_tenant(request).await.unwrap();
        self.known_not_active().await;
    }

    async fn resume(&self) {
        let request = ResumeTenantRequest {
            name: TENANT.into(),
            reason_code: "over".into(),
            request_id: String::new(),
        };
        let mut tenants = self.olga.tenants.clone();
        tenants.resume_tenant(request).await.unwrap();
    }

    /// Lets the tenant leave and be closed, and waits until the service knows it.
    async fn close_tenant(&self) {
        let mut tenants = self.olga.tenants.clone();
        let request = BeginExitRequest {
            name: TENANT.into(),
            reason_code: "leaves".into(),
            request_id: String::new(),
        };
        tenants.begin_exit(request).await.unwrap();
        let request = RecordEvidencePackRequest {
            tenant: TENANT.into(),
            tree_size: 1,
            root_hash: vec![1; 32],
            format_code: "bundle".into(),
            request_id: String::new(),
        };
        tenants.record_evidence_pack(request).await.unwrap();
        let request = CloseTenantRequest {
            name: TENANT.into(),
            request_id: String::new(),
        };
        tenants.close_tenant(request).await.unwrap();
        let context = self.context();
        let tenant = async || context.tenants.require("acme").await.unwrap();
        let known = async {
            while !tenant().await.is_closed() {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, known).await.unwrap();
    }

    /// How often a source was read, or is to be.
    async fn syncs(&self, source: &str) -> usize {
        let request = ListSyncsRequest {
            tenant: TENANT.into(),
            source: format!("{TENANT}/sources/{source}"),
            page_size: 1000,
            page_token: String::new(),
        };
        let mut sources = self.of_service("reconciliation").sources;
        let answer = sources.list_syncs(request).await.unwrap();
        answer.into_inner().syncs.len()
    }

    /// Waits until the service knows that the tenant is not active any more.
    pub(super) async fn known_not_active(&self) {
        let request = ExecuteRemediationRequest {
            name: format!("{TENANT}/remediations/none"),
            request_id: String::new(),
        };
        let mut remediations = self.olga.remediations.clone();
        let mut answer = async || {
            let asked = remediations.execute_remediation(request.clone());
            reason(&asked.await.unwrap_err())
        };
        let known = async { while answer().await != "TENANT_NOT_ACTIVE" {} };
        timeout(PATIENCE, known).await.unwrap();
    }
}

counterfoil_chassis::both_engines! {
    /// Suspended before anything was intended: nothing is, until the tenant goes on.
    async fn nothing_is_intended_while_the_tenant_is_suspended(db: TestDatabase) {
        let mut world = World::start(db).await;
        world.settings.takeover_ms = 400;
        world.restart().await;
        world.add_source("hr", &[Account("amy", &["crew", "root"])], |_| {}).await;
        world.review("q3", revoke_root).await;
        let planned = world.planned().await;
        world.die_at(Step::Settled);
        world.execute(&planned.name).await.unwrap();
        world.died().await;
        world.suspend().await;
        world.clock.advance_ms(500);
        world.restart().await;
        world.gives_up(&planned.name).await;
        assert_eq!((world.intents().await, world.grants_in("hr").len()), (0, 2));
        world.resume().await;
        assert_eq!(world.watch(&planned.name).await.state(), RemediationState::Closed);
        assert_eq!(world.grants_in("hr").len(), 1);
        world.audited().await;
        world.stop().await;
    }

    /// Suspended while an intent waits for the ledger: its call never goes out, and it is tried again.
    async fn an_intent_that_waits_is_not_sent_while_the_tenant_is_suspended(db: TestDatabase) {
        let mut world = World::start(db).await;
        world.add_source("hr", &[Account("amy", &["crew", "root"])], |_| {}).await;
        world.review("q3", revoke_root).await;
        let planned = world.planned().await;
        world.stop_service("ledger").await;
        world.execute(&planned.name).await.unwrap();
        world.comes_to(&planned.name, ActionState::Intended).await;
        world.suspend().await;
        world.start_service("ledger").await;
        world.gives_up(&planned.name).await;
        assert_eq!(world.grants_in("hr").len(), 2);
        world.resume().await;
        assert_eq!(world.watch(&planned.name).await.state(), RemediationState::Closed);
        assert_eq!(world.results().await, [AttemptResult::NotAttempted, AttemptResult::Ok]);
        world.audited().await;
        world.stop().await;
    }

    /// What went out before is read back and proved all the same: evidence goes on.
    async fn what_went_out_is_proved_while_the_tenant_is_suspended(db: TestDatabase) {
        let mut world = World::start(db).await;
        world.settings.takeover_ms = 400;
        world.restart().await;
        world.add_source("hr", &[Account("amy", &["crew", "root"])], |_| {}).await;
        world.review("q3", revoke_root).await;
        let planned = world.planned().await;
        world.die_at(Step::CallReturned);
        world.execute(&planned.name).await.unwrap();
        world.died().await;
        world.suspend().await;
        world.clock.advance_ms(500);
        world.restart().await;
        assert_eq!(world.watch(&planned.name).await.state(), RemediationState::Closed);
        world.audited().await;
        world.stop().await;
    }

    /// Closed while it runs: there is nobody left to remove anything for, and no log to tell of it.
    async fn nobody_goes_on_for_a_tenant_that_is_closed(db: TestDatabase) {
        let world = World::start(db).await;
        world.add_source("hr", &[Account("amy", &["crew", "root"])], |_| {}).await;
        world.review("q3", revoke_root).await;
        let planned = world.planned().await;
        world.die_at(Step::Settled);
        world.execute(&planned.name).await.unwrap();
        world.died().await;
        world.close_tenant().await;
        let id = planned.name.rsplit('/').next().unwrap();
        let before = world.runner(id).await;
        let key = RemediationKey { tenant: "acme".into(), remediation: id.into() };
        remediate::carry_out(world.context(), &key, i64::MAX).await.unwrap();
        assert_eq!(world.runner(id).await, before, "nobody takes it over");
        assert_eq!(world.grants_in("hr").len(), 2);
        world.stop().await;
    }

    /// Closed after it ended: what was removed is nobody's to read any more, and no log tells that it was not.
    async fn nothing_is_read_again_for_a_tenant_that_is_closed(db: TestDatabase) {
        let world = World::start(db).await;
        world.removed().await;
        world.close_tenant().await;
        let before = (world.syncs("hr").await, world.last_records().await);
        world.clock.advance_ms(3_900_000);
        assert_eq!(world.jobs().run_once().await.unwrap(), Progress::default());
        assert_eq!((world.syncs("hr").await, world.last_records().await), before);
        // Nor for any other service that asks, as soon as inventory knows it.
        let request = StartSyncRequest { source: format!("{TENANT}/sources/hr"), ..StartSyncRequest::default() };
        let mut sources = world.of_service("recertification").sources;
        let refused = async {
            loop {
                if let Err(refused) = sources.start_sync(request.clone()).await {
                    break refused;
                }
            }
        };
        assert_eq!(reason(&timeout(PATIENCE, refused).await.unwrap()), "TENANT_NOT_ACTIVE");
        world.stop().await;
    }
}
