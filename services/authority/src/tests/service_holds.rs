//! The same commands about holds to the real service.

use counterfoil_proto::authority as proto;
use tonic::Status;

use super::{
    command_holds::HoldAct,
    common::Clients,
    service::{Realm, Thing, nth_name},
    turn_holds::rules,
};

impl Realm {
    pub(super) async fn call_hold(
        &mut self,
        mut caller: Clients,
        act: &HoldAct,
    ) -> Result<(), Status> {
        let (tenant, request_id) = (self.name(), String::new());
        match act {
            HoldAct::Place(class) => {
                let hold = proto::LegalHold {
                    retention_classes: class.iter().map(|class| (*class).to_owned()).collect(),
                    basis: "FRCP-37E".to_owned(),
                    reason_code: "litigation".to_owned(),
                    ..Default::default()
                };
                let request = proto::PlaceLegalHoldRequest {
                    tenant,
                    hold: Some(hold),
                    request_id,
                };
                let answer = caller.tenants.place_legal_hold(request).await?;
                let hold = answer.into_inner().hold.unwrap();
                self.holds.push(Thing::new(hold.name, hold.record_hash));
            }
            HoldAct::Release(nth) => {
                let request = proto::ReleaseLegalHoldRequest {
                    name: nth_name(&self.holds, *nth, &self.id, "legal-holds"),
                    reason_code: "settled".to_owned(),
                    request_id,
                };
                caller.tenants.release_legal_hold(request).await?;
            }
            HoldAct::Keep(days) => {
                let rules = rules(*days).into_iter().map(|rule| proto::RetentionRule {
                    retention_class: rule.retention_class,
                    duration_days: rule.duration_days,
                    basis: rule.basis,
                    jurisdiction: rule.jurisdiction,
                });
                let request = proto::SetRetentionPolicyRequest {
                    tenant,
                    rules: rules.collect(),
                    request_id,
                };
                caller.tenants.set_retention_policy(request).await?;
            }
        }
        Ok(())
    }
}
