//! The rules in force.

use counterfoil_chassis::{ApiError, Caller, names::tenant_field};
use counterfoil_evidence::v1::PolicyBundlePublished;
use counterfoil_proto::authority as proto;

use super::{Api, change::Asked, convert};
use crate::{
    error::Refusal,
    model::{
        Faults,
        policy::{self, Bundle},
    },
    store,
};

pub(super) async fn publish_policy(
    api: &Api,
    caller: &Caller,
    request: proto::PublishPolicyRequest,
) -> Result<proto::PublishPolicyResponse, ApiError> {
    let tenant = tenant_field(&request.tenant)?;
    let method = "PublishPolicy";
    let mut change = match api
        .begin(caller, &tenant, method, &request.request_id, &request)
        .await?
    {
        Asked::Done(answer) => return Ok(answer),
        Asked::New(change) => *change,
    };
    let wanted = request.policy.as_ref();
    let wanted = wanted.ok_or_else(|| ApiError::invalid("policy", "is required"))?;
    let rules = policy::rules(&convert::wanted(wanted)).map_err(|wrong| {
        let mut faults = Faults::default();
        faults.add_all("policy.", wrong);
        Refusal::Invalid(faults)
    })?;
    let last = store::policies::latest(change.tx.conn(), &tenant).await?;
    let effective_from_ms = policy::effective_from_ms(last.as_ref(), change.now_ms);
    let bundle_hash = policy::bundle_hash(&rules);
    // The record that publishes a policy is the first under it.
    change.cite_policy(bundle_hash);
    let version = last.map_or(1, |last| last.version + 1);
    let payload = PolicyBundlePublished {
        bundle_hash: bundle_hash.to_vec(),
        version,
        effective_from_ms,
        rules: Some(rules.clone()),
    };
    let draft = change.draft(&payload, format!("policies/{version}"));
    let emitted = api.emit(&mut change, draft).await?;
    let bundle = Bundle {
        version,
        rules,
        effective_from_ms,
        record_hash: emitted.record_hash,
    };
    store::policies::insert(change.tx.conn(), &tenant, &bundle).await?;
    let answer = proto::PublishPolicyResponse {
        policy: Some(convert::policy(&bundle)),
        receipt: Some(emitted.pending_receipt()),
    };
    api.finish(change, answer).await
}

pub(super) async fn get_policy(
    api: &Api,
    caller: &Caller,
    request: proto::GetPolicyRequest,
) -> Result<proto::GetPolicyResponse, ApiError> {
    let tenant = api.known_tenant(caller, "tenant", &request.tenant).await?;
    let mut reader = api.reader().await?;
    let bundle = store::policies::latest(&mut reader, &tenant).await?;
    let bundle = bundle.ok_or_else(ApiError::not_found)?;
    Ok(proto::GetPolicyResponse {
        policy: Some(convert::policy(&bundle)),
    })
}
