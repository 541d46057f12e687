//! Accesses of providers' people: on record before the call runs, and in the provider's log once, whatever crashes between.

#![cfg(test)]

mod common;

use std::{collections::BTreeMap, sync::atomic::Ordering};

use common::operators::{METHOD, forget_marks, links, used, world};
use counterfoil_chassis::{
    Caller, both_engines,
    operators::{self, Named, Operators},
    tenants::record_log_origin,
    testing::TestDatabase,
};
use http::{HeaderMap, HeaderValue};
use tonic::Code;

both_engines! {
    async fn i53_an_access_stands_in_both_logs_cross_linked(db: TestDatabase) {
        let world = world(&db).await;
        let caller = world.call("CHG-1").await.unwrap();
        assert_eq!(caller.principal(), "tenants/acme/principals/otto-msp");
        let used = used(&world.outbox).await;
        let [(record, access, hash)] = used.as_slice() else { panic!("{}", used.len()) };
        assert_eq!(record.actor, "principals/otto-msp");
        assert_eq!((access.operator.as_str(), access.ticket.as_str()), ("tenants/msp/principals/otto", "CHG-1"));
        assert_eq!((access.method.as_str(), access.permission.as_str()), (METHOD, "syncs.start"));
        assert_eq!(links(&world.outbox).await.len(), 0);
        assert_eq!(world.operators.mirror_once().await.unwrap(), 1);
        assert_eq!(world.operators.mirror_once().await.unwrap(), 0);
        let links = links(&world.outbox).await;
        let [(mirror, link)] = links.as_slice() else { panic!("{}", links.len()) };
        assert_eq!(mirror.record_id, record.record_id);
        assert_eq!(link.access_hash, hash.to_vec());
        assert_eq!(link.customer_log_origin, common::ORIGIN);
        assert_eq!(link.operator, "principals/otto");
    }

    /// The crash: the provider's log has them, and the customer's table does not say so.
    async fn a_mirror_that_was_cut_off_is_completed_and_nothing_is_told_twice(db: TestDatabase) {
        let world = world(&db).await;
        for _ in 0..3 {
            world.call("").await.unwrap();
        }
        assert_eq!(world.operators.mirror_once().await.unwrap(), 3);
        forget_marks(&world.outbox).await;
        world.call("").await.unwrap();
        assert_eq!(world.operators.mirror_once().await.unwrap(), 4);
        let links = links(&world.outbox).await;
        assert_eq!(links.len(), 4);
        let used = used(&world.outbox).await;
        let told: BTreeMap<_, _> = links.into_iter().map(|(mirror, link)| (mirror.record_id, link.access_hash)).collect();
        let made: BTreeMap<_, _> = used.into_iter().map(|(record, _, hash)| (record.record_id, hash.to_vec())).collect();
        assert_eq!(told, made);
    }

    /// The crash before anything was told: another start of the job tells all of it, whoever else cannot be told.
    async fn what_was_not_carried_over_is_by_the_next_run_and_one_provider_keeps_no_other_waiting(db: TestDatabase) {
        let world = world(&db).await;
        world.call("").await.unwrap();
        world.forge_access_of("tenants/gone/principals/gil").await;
        world.call("").await.unwrap();
        // Nobody knows the log of "gone".
        assert!(world.operators.mirror_once().await.is_err());
        assert_eq!(links(&world.outbox).await.len(), 2);
        let again = Operators::new(world.otto.clone(), world.outbox.clone(), world.clock.clock(), None);
        assert!(again.mirror_once().await.is_err());
        assert_eq!(links(&world.outbox).await.len(), 2);
        let mut tx = db.write_tx("gone").await.unwrap();
        record_log_origin(&mut tx, "counterfoil.local/t/gone").await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(again.mirror_once().await.unwrap(), 1);
        assert_eq!(again.mirror_once().await.unwrap(), 0);
    }

    async fn a_call_whose_access_cannot_be_recorded_is_refused(db: TestDatabase) {
        let world = world(&db).await;
        world.call("").await.unwrap();
        let mut tx = db.write_tx("acme").await.unwrap();
        sqlx::raw_sql("DROP TABLE operator_accesses").execute(tx.conn()).await.unwrap();
        tx.commit().await.unwrap();
        let refused = world.call("").await.unwrap_err();
        assert_eq!((refused.code(), refused.reason()), (Code::Unavailable, "ACCESS_NOT_RECORDED"));
        assert_eq!(used(&world.outbox).await.len(), 1, "neither record nor call");
    }

    async fn what_lapses_with_the_clock_is_refused_by_the_services_own(db: TestDatabase) {
        let world = world(&db).await;
        world.clock.set_ms(4_999);
        world.call("").await.unwrap();
        world.clock.set_ms(5_000);
        let refused = world.call("").await.unwrap_err();
        assert_eq!((refused.code(), refused.reason()), (Code::PermissionDenied, "OPERATOR_NOT_QUALIFIED"));
        world.clock.set_ms(2_000);
        world.otto.lacks.store(true, Ordering::SeqCst);
        assert_eq!(world.call("").await.unwrap_err().reason(), "OPERATOR_NOT_QUALIFIED");
        world.otto.lacks.store(false, Ordering::SeqCst);
        assert_eq!(world.call("as he said").await.unwrap_err().code(), Code::InvalidArgument);
        assert_eq!(used(&world.outbox).await.len(), 1);
    }

    /// By the clock, while the call waited for the tenant's lock.
    async fn what_lapses_while_a_call_waits_its_turn_is_refused(db: TestDatabase) {
        let world = world(&db).await;
        world.clock.set_ms(4_999);
        let turn = world.outbox.db().write_tx("acme").await.unwrap();
        let go_on = async {
            world.clock.set_ms(5_000);
            turn.rollback().await.unwrap();
        };
        let (called, ()) = tokio::join!(world.call(""), go_on);
        assert_eq!(called.unwrap_err().reason(), "OPERATOR_NOT_QUALIFIED");
        assert_eq!(used(&world.outbox).await.len(), 0);
    }

    async fn an_operator_calls_a_thousand_times_at_once_and_then_a_hundred_times_a_second(db: TestDatabase) {
        let world = world(&db).await;
        for _ in 0..1_000 {
            assert_eq!(world.call("as he said").await.unwrap_err().code(), Code::InvalidArgument);
        }
        let refused = world.call("").await.unwrap_err();
        assert_eq!((refused.code(), refused.reason()), (Code::ResourceExhausted, "TOO_MANY_CALLS"));
        assert_eq!(used(&world.outbox).await.len(), 0);
        world.clock.advance_ms(10);
        world.call("").await.unwrap();
        assert_eq!(world.call("").await.unwrap_err().code(), Code::ResourceExhausted);
    }

    async fn a_tenant_that_one_may_not_act_for_does_not_exist(db: TestDatabase) {
        let world = world(&db).await;
        let operators = Some(&world.operators);
        let select = async |caller: Caller, tenant: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("counterfoil-tenant", HeaderValue::from_static(tenant));
            operators::select(operators, caller, &Named::of(&headers)).await
        };
        let otto = || Caller::of_tenant("msp", "otto", ["operator"]).limited_to(vec!["syncs.start".into()]);
        for tenant in ["beta", "nobody", "", "tenants/acme", "Acme"] {
            assert_eq!(select(otto(), tenant).await.unwrap_err().code(), Code::NotFound, "{tenant}");
        }
        let petra = Caller::of_tenant("msp", "petra", ["tenant-administrator"]);
        assert_eq!(select(petra, "acme").await.unwrap_err().code(), Code::NotFound);
        let service = Caller::of_deployment("services/inventory", []);
        assert_eq!(select(service, "acme").await.unwrap_err().reason(), "OPERATOR_NOT_ALLOWED");
        assert_eq!(select(otto(), "msp").await.unwrap().operator(), None);
        // What limits the credential at home limits it there.
        let acting = select(otto(), "acme").await.unwrap();
        assert!(acting.covers("syncs.start") && !acting.covers("sources.get"));
        // A service that could not tell of it lets nobody in.
        let mut headers = HeaderMap::new();
        headers.insert("counterfoil-tenant", HeaderValue::from_static("acme"));
        let refused = operators::select(None, otto(), &Named::of(&headers)).await.unwrap_err();
        assert_eq!(refused.reason(), "OPERATOR_NOT_ALLOWED");
    }
}
