//! Between the words of the API and those of the model.

use counterfoil_chassis::{
    clock::{millis, timestamp},
    error::ApiError,
};
use counterfoil_evidence::leaf::GrantKey;
use counterfoil_proto::recertification::{
    Campaign as ApiCampaign, CampaignState as ApiCampaignState, DecidedGrant,
    Decision as ApiDecision, Item as ApiItem, ItemCounts, ItemDecision, ItemState as ApiItemState,
    LapseRule as ApiLapseRule, Presentation,
};
use prost::Message;
use sha2::{Digest, Sha256};

use super::{GrantName, ItemName, SourceName};
use crate::{
    model::{
        campaign::{Campaign, CampaignState, LapseRule},
        decided::DecidedItem,
        decision::{Decision, EvidenceRef, Proposal},
        disposition::Disposition,
        ids::{CampaignKey, Principal, Source},
        item::{self, ItemState, PresentedItem},
    },
    store::{StoreError, items::StandingCount},
};

/// A campaign as callers see it.
pub(super) fn campaign(found: &Campaign, standing: &[StandingCount]) -> ApiCampaign {
    let definition = &found.definition;
    let tenant = &definition.key.tenant;
    let population = found.population.as_ref();
    ApiCampaign {
        name: definition.key.full(),
        display_name: definition.display_name.clone(),
        state: campaign_state(found.state).into(),
        sources: definition
            .scope
            .sources
            .iter()
            .map(|source| source.full(tenant))
            .collect(),
        privileged_only: definition.scope.privileged_only,
        include_inherited: definition.scope.include_inherited,
        lapse_rule: match definition.lapse_rule {
            LapseRule::Revoke => ApiLapseRule::Revoke,
            LapseRule::RetainAsDebt => ApiLapseRule::RetainAsDebt,
        }
        .into(),
        owner: definition.owner.full(tenant),
        fallback_reviewer: definition.fallback_reviewer.full(tenant),
        due_time: Some(timestamp(definition.due_ms)),
        snapshot: population
            .map(|population| format!("tenants/{tenant}/{}", population.snapshot))
            .unwrap_or_default(),
        population_root: population
            .map(|population| population.root.to_vec())
            .unwrap_or_default(),
        population_count: population.map_or(0, |population| population.count),
        counts: population.map(|_| counts(standing)),
        create_time: Some(timestamp(definition.create_ms)),
        debt_count: found.debt_count,
    }
}

fn campaign_state(state: CampaignState) -> ApiCampaignState {
    match state {
        CampaignState::Draft => ApiCampaignState::Draft,
        CampaignState::Staging => ApiCampaignState::Staging,
        CampaignState::Staged | CampaignState::Activating => ApiCampaignState::Staged,
        CampaignState::Active | CampaignState::Ending => ApiCampaignState::Active,
        CampaignState::Remediating => ApiCampaignState::Remediating,
        CampaignState::Closed => ApiCampaignState::Closed,
        CampaignState::ClosedWithDebt => ApiCampaignState::ClosedWithDebt,
        CampaignState::Cancelled => ApiCampaignState::Cancelled,
    }
}

fn counts(standing: &[StandingCount]) -> ItemCounts {
    let mut counts = ItemCounts::default();
    for one in standing {
        let place = match one.disposition {
            None => &mut counts.pending,
            Some(Disposition::Decided(Decision::Accept)) => &mut counts.accepted,
            Some(Disposition::Decided(Decision::Revoke)) => &mut counts.revoked,
            Some(Disposition::Decided(Decision::Reduce)) => &mut counts.reduced,
            Some(Disposition::Decided(Decision::Exception)) => &mut counts.excepted,
            Some(Disposition::LapsedRevoke) => &mut counts.lapsed_revoke,
            Some(Disposition::LapsedRetained) => &mut counts.lapsed_retained,
            Some(Disposition::Voided) => &mut counts.voided,
        };
        *place += one.count;
        if one.state == ItemState::Verified {
            counts.verified += one.count;
        }
    }
    counts
}

/// An item as callers see it.
pub(super) fn item(key: &CampaignKey, found: &PresentedItem) -> Result<ApiItem, ApiError> {
    let item = &found.item;
    let presentation = Presentation::decode(found.presentation.as_slice())
        .map_err(|_| StoreError::Damaged("presentation"))?;
    let state = match item.state {
        ItemState::Unrouted => ApiItemState::Unspecified,
        ItemState::Routed => ApiItemState::Routed,
        ItemState::Decided => ApiItemState::Decided,
        ItemState::Lapsed => ApiItemState::Lapsed,
        ItemState::Voided => ApiItemState::Voided,
        ItemState::Verified => ApiItemState::Verified,
    };
    let decision = match item.disposition {
        Some(Disposition::Decided(decision)) => match decision {
            Decision::Accept => ApiDecision::Accept,
            Decision::Revoke => ApiDecision::Revoke,
            Decision::Reduce => ApiDecision::Reduce,
            Decision::Exception => ApiDecision::Exception,
        },
        _ => ApiDecision::Unspecified,
    };
    Ok(ApiItem {
        name: format!("{}/{}", key.full(), item.local()),
        grant: format!("tenants/{}/grants/{}", key.tenant, hex::encode(item.key.0)),
        state: state.into(),
        reviewer: item
            .reviewer
            .as_ref()
            .map(|reviewer| reviewer.full(&key.tenant))
            .unwrap_or_default(),
        presentation: Some(presentation),
        presentation_hash: item
            .presentation_hash
            .map(|hash| hash.to_vec())
            .unwrap_or_default(),
        decision: decision.into(),
        decide_time: (item.decide_ms != 0).then(|| timestamp(item.decide_ms)),
    })
}

/// The state that a list is narrowed to; `None` = all.
pub(super) fn item_state(state: ApiItemState) -> Option<ItemState> {
    match state {
        ApiItemState::Unspecified => None,
        ApiItemState::Routed => Some(ItemState::Routed),
        ApiItemState::Decided => Some(ItemState::Decided),
        ApiItemState::Lapsed => Some(ItemState::Lapsed),
        ApiItemState::Voided => Some(ItemState::Voided),
        ApiItemState::Verified => Some(ItemState::Verified),
    }
}

/// A decided grant as callers see it; `None` when it says nothing about the grant.
pub(super) fn decided(tenant: &str, found: &DecidedItem) -> Option<DecidedGrant> {
    Some(DecidedGrant {
        leaf: found.leaf()?.to_bytes().to_vec(),
        campaign: format!("tenants/{tenant}/campaigns/{}", found.campaign),
        reduce_to_grant_key: found
            .reduce_to
            .map(|key| key.0.to_vec())
            .unwrap_or_default(),
        decide_time: Some(timestamp(found.decide_ms)),
        decided_by: found
            .decided_by
            .as_ref()
            .map(|principal| principal.full(tenant))
            .unwrap_or_default(),
    })
}

/// The sources of a new campaign.
pub(super) fn sources(tenant: &str, names: &[String]) -> Result<Vec<Source>, ApiError> {
    let field = "campaign.sources";
    let mut sources = Vec::with_capacity(names.len());
    for name in names {
        let parsed = SourceName::parse_field(field, name)?;
        if parsed.tenant != tenant {
            return Err(ApiError::invalid(field, "is of another tenant"));
        }
        let source = Source::of_id(&parsed.source);
        if sources.contains(&source) {
            return Err(ApiError::invalid(
                field,
                format!("{source} stands there twice"),
            ));
        }
        sources.push(source);
    }
    sources.sort_unstable();
    Ok(sources)
}

/// A principal of the tenant in a field.
pub(super) fn principal(tenant: &str, field: &str, name: &str) -> Result<Principal, ApiError> {
    Principal::of_tenant(tenant, name).ok_or_else(|| {
        ApiError::invalid(
            field,
            "must look like tenants/{tenant}/principals/{principal}",
        )
    })
}

/// The grant of an item's name in a field; the item must be of this campaign.
pub(super) fn item_key(key: &CampaignKey, field: &str, name: &str) -> Result<GrantKey, ApiError> {
    let parsed = ItemName::parse_field(field, name)?;
    if parsed.tenant != key.tenant || parsed.campaign != key.campaign {
        return Err(ApiError::invalid(field, "is of another campaign"));
    }
    item::key_of_id(&parsed.item).ok_or_else(ApiError::not_found)
}

/// A decision to take, as the model knows it. Only its form is read here; its rules are the model's.
pub(super) fn proposal(key: &CampaignKey, asked: &ItemDecision) -> Result<Proposal, ApiError> {
    let decision = match asked.decision() {
        ApiDecision::Unspecified => return Err(ApiError::invalid("decision", "is required")),
        ApiDecision::Accept => Decision::Accept,
        ApiDecision::Revoke => Decision::Revoke,
        ApiDecision::Reduce => Decision::Reduce,
        ApiDecision::Exception => Decision::Exception,
    };
    let time = |field: &str, time: &Option<prost_types::Timestamp>| {
        time.as_ref()
            .map(|time| millis(time).ok_or_else(|| ApiError::invalid(field, "is not a time")))
            .transpose()
    };
    let optional = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Ok(Proposal {
        key: item_key(key, "item", &asked.item)?,
        decision,
        justification: asked.justification.clone(),
        evidence: asked
            .evidence
            .iter()
            .map(evidence)
            .collect::<Result<_, _>>()?,
        review_by_ms: time("review_by_time", &asked.review_by_time)?,
        exception_basis: asked.exception_basis.clone(),
        exception_owner: optional(&asked.exception_owner)
            .map(|owner| principal(&key.tenant, "exception_owner", &owner))
            .transpose()?,
        exception_expires_ms: time("exception_expire_time", &asked.exception_expire_time)?,
        reduce_to: optional(&asked.reduce_to_grant)
            .map(|grant| grant_key(&key.tenant, "reduce_to_grant", &grant))
            .transpose()?,
        presentation_hash: asked
            .presentation_hash
            .as_slice()
            .try_into()
            .map_err(|_| ApiError::invalid("presentation_hash", "has 32 bytes"))?,
        dwell_ms: asked.dwell_ms,
    })
}

fn evidence(asked: &counterfoil_proto::recertification::Evidence) -> Result<EvidenceRef, ApiError> {
    let sha256 = match (asked.reference.as_str(), asked.sha256.as_slice()) {
        ("", []) => {
            return Err(ApiError::invalid(
                "evidence",
                "needs a reference or a sha256",
            ));
        }
        ("", sha256) => sha256
            .try_into()
            .map_err(|_| ApiError::invalid("evidence.sha256", "has 32 bytes"))?,
        (reference, []) => Sha256::digest(reference).into(),
        _ => {
            return Err(ApiError::invalid(
                "evidence",
                "has either a reference or a sha256",
            ));
        }
    };
    Ok(EvidenceRef {
        kind: asked.kind.clone(),
        sha256,
    })
}

fn grant_key(tenant: &str, field: &str, name: &str) -> Result<GrantKey, ApiError> {
    let parsed = GrantName::parse_field(field, name)?;
    let key = item::key_of_id(&parsed.grant).filter(|_| parsed.tenant == tenant);
    key.ok_or_else(|| ApiError::invalid(field, "is no grant of this tenant"))
}
