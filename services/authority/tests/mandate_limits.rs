//! What AI agents do is counted against the limits of their mandates (E11), over gRPC.

#![cfg(test)]

mod common;

use common::{mandates::*, *};
use counterfoil_chassis::{both_engines, testing::TestDatabase};
use counterfoil_proto::authority::*;
use tonic::Code;

const HOUR_MS: i64 = 3_600_000;

both_engines! {
    async fn e11_what_an_agent_does_is_counted_against_its_limits(db: TestDatabase) {
        let world = World::start(db).await;
        let granted = world.granted(mandate(Autonomy::ExecuteBounded)).await;
        let uses = async |act: &str, removals| world.uses(act, removals).await;
        assert_eq!(uses("plan-1", 6).await, Ok(()));
        assert_eq!(uses("plan-1", 6).await, Ok(()), "the same act counts once");
        assert_eq!(uses("plan-2", 5).await, Err((Code::FailedPrecondition, "MANDATE_LIMIT".into())), "11 of 10 a day");
        assert_eq!(uses("plan-3", 4).await, Ok(()));
        assert_eq!(uses("risk", 0).await, Ok(()), "no removal needs room for none");
        let shown = world.shown(&granted.name).await;
        assert_eq!((shown.acts_last_hour, shown.removals_last_day, shown.removals_total), (3, 10, 10));
        assert_eq!(uses("risk-2", 0).await, Err((Code::FailedPrecondition, "MANDATE_LIMIT".into())), "4 of 3 an hour");
        world.deployment.clock.advance_ms(HOUR_MS);
        assert_eq!(uses("risk-2", 0).await, Ok(()));
        // Another mandate does not begin the hour or the day anew, only its own total.
        let second = world.granted(AgentMandate { removals_max: 3, ..mandate(Autonomy::ExecuteBounded) }).await;
        assert_eq!(uses("plan-4", 1).await.unwrap_err().1, "MANDATE_LIMIT");
        world.deployment.clock.advance_ms(DAY_MS - HOUR_MS);
        assert_eq!(uses("plan-4", 4).await.unwrap_err().1, "MANDATE_LIMIT", "4 of 3 in all");
        assert_eq!(uses("plan-4", 3).await, Ok(()));
        world.deployment.clock.advance_ms(2 * DAY_MS);
        assert_eq!(uses("plan-5", 1).await.unwrap_err().1, "MANDATE_LIMIT", "the total is for good");
        assert_eq!(world.shown(&second.name).await.removals_total, 3);
        for (act, code) in [("", Code::InvalidArgument), (&*"x".repeat(201), Code::InvalidArgument)] {
            assert_eq!(uses(act, 0).await.unwrap_err().0, code);
        }
    }

    async fn e11_an_act_that_is_tried_again_later_counts_when_it_is_done(db: TestDatabase) {
        let world = World::start(db).await;
        let first = world.granted(mandate(Autonomy::ExecuteBounded)).await;
        // Counted, and then the service failed: nothing is on record.
        world.uses("plan-1", 6).await.unwrap();
        world.deployment.clock.advance_ms(HOUR_MS);
        assert_eq!(world.shown(&first.name).await.acts_last_hour, 0);
        world.uses("plan-1", 6).await.unwrap();
        let shown = world.shown(&first.name).await;
        assert_eq!((shown.acts_last_hour, shown.removals_last_day, shown.removals_total), (1, 6, 6), "it is done now, once");
        for act in ["a", "b"] {
            world.uses(act, 0).await.unwrap();
        }
        world.uses("plan-1", 6).await.unwrap();
        world.deployment.clock.advance_ms(HOUR_MS - 1);
        assert_eq!(world.uses("c", 0).await.unwrap_err().1, "MANDATE_LIMIT");
        // Under another mandate it is another one's.
        let second = world.granted(AgentMandate { removals_max: 5, ..mandate(Autonomy::ExecuteBounded) }).await;
        assert_eq!(world.uses("plan-1", 6).await.unwrap_err().1, "MANDATE_LIMIT", "6 of 5 in all");
        assert_eq!(world.shown(&second.name).await.removals_total, 0);
    }

    async fn e11_what_was_judged_under_one_mandate_is_not_counted_under_another(db: TestDatabase) {
        let world = World::start(db).await;
        let wide = world.granted(mandate(Autonomy::ExecuteBounded)).await;
        world.uses_under(wide.name.clone(), "a", 1).await.unwrap();
        world.granted(AgentMandate { scope: vec!["tenants/acme/sources/lab".into()], ..mandate(Autonomy::Propose) }).await;
        assert_eq!(world.uses_under(wide.name, "b", 1).await, Err((Code::PermissionDenied, "MANDATE_REQUIRED".into())));
    }

    async fn e11_two_acts_at_once_never_both_take_the_last_place(db: TestDatabase) {
        let world = World::start(db).await;
        world.granted(AgentMandate { acts_per_hour_max: 5, ..mandate(Autonomy::ExecuteBounded) }).await;
        let names: Vec<String> = (0..20).map(|number| format!("act-{number}")).collect();
        let answers = futures::future::join_all(names.iter().map(|act| world.uses(act, 0))).await;
        assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 5);
    }
}
