//! Asking conditions about one principal and one action, in as many places as it takes.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    str::FromStr,
};

use cedar_policy::{
    AuthorizationError, Authorizer, Context, Decision, Entities, Entity, EntityId, EntityTypeName,
    EntityUid, Request, RestrictedExpression,
};

use super::{Conditions, SCHEMA, UNNAMED};
use crate::model::{
    ids::SourceId,
    principal::Principal,
    right::{DecisionAction, Scope},
};

/// What somebody wants to do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Act<'a> {
    pub(crate) tenant: &'a str,
    pub(crate) principal: &'a Principal,
    pub(crate) action: DecisionAction,
    pub(crate) now_ms: i64,
}

/// Where it is to be done.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// On all sources at once.
    Everywhere,
    /// On one source.
    Source(SourceId),
}

/// What conditions say to one act, place by place; each place is evaluated once.
///
/// A condition can tell sources apart by their names alone. So one source that none names stands for all of those.
#[derive(Debug)]
pub(crate) struct Asking<'c> {
    conditions: &'c Conditions,
    act: Act<'c>,
    /// `None`: malformed. Nothing that comes from this service is; if it were, nobody would know what to allow.
    entities: Option<Entities>,
    /// Which conditions forbid it where; empty: none.
    known: BTreeMap<Place, Vec<String>>,
}

impl Conditions {
    /// Asks about an act.
    pub(crate) fn asked<'c>(&'c self, act: Act<'c>) -> Asking<'c> {
        let named = self.sources().iter().map(SourceId::as_str);
        Asking {
            conditions: self,
            act,
            entities: entities(act, named.chain([UNNAMED])),
            known: BTreeMap::new(),
        }
    }
}

impl Asking<'_> {
    /// What is left of a scope, and the sources that are taken out of it when it is everywhere; `None`: nothing is left. Adds to
    /// `forbidding` what took something away.
    pub(crate) fn narrow(
        &mut self,
        scope: &Scope,
        forbidding: &mut Vec<String>,
    ) -> Option<(Scope, Vec<SourceId>)> {
        let named: Vec<SourceId> = match scope {
            Scope::Everywhere => self.conditions.sources().iter().cloned().collect(),
            Scope::Sources(named) => named.clone(),
        };
        let mut allowed = |place: &Place| {
            let why = self.forbid_at(place);
            forbidding.extend_from_slice(why);
            why.is_empty()
        };
        let everywhere = *scope == Scope::Everywhere;
        let (left, taken): (Vec<SourceId>, Vec<SourceId>) = named
            .into_iter()
            .partition(|source| allowed(&Place::Source(source.clone())));
        let unnamed = Place::Source(SourceId::stored(UNNAMED.to_owned()));
        if everywhere && allowed(&Place::Everywhere) && allowed(&unnamed) {
            return Some((Scope::Everywhere, taken));
        }
        (!left.is_empty()).then_some((Scope::Sources(left), Vec::new()))
    }

    /// Which conditions forbid the act; empty: none. An act everywhere is one on the tenant and on every source that a condition
    /// names.
    pub(crate) fn forbid(&mut self, place: &Place) -> Vec<String> {
        if self.conditions.is_empty() {
            return Vec::new();
        }
        let mut forbidding = self.forbid_at(place).to_vec();
        if *place == Place::Everywhere {
            let conditions = self.conditions;
            for source in conditions.sources() {
                forbidding.extend_from_slice(self.forbid_at(&Place::Source(source.clone())));
            }
        }
        forbidding.sort_unstable();
        forbidding.dedup();
        forbidding
    }

    fn forbid_at(&mut self, place: &Place) -> &[String] {
        let place = match place {
            Place::Source(source) if !self.conditions.sources().contains(source) => {
                Place::Source(SourceId::stored(UNNAMED.to_owned()))
            }
            place => place.clone(),
        };
        let (conditions, act, entities) = (self.conditions, self.act, self.entities.as_ref());
        self.known
            .entry(place)
            .or_insert_with_key(|place| evaluate(conditions, act, entities, place))
    }
}

fn evaluate(
    conditions: &Conditions,
    act: Act<'_>,
    entities: Option<&Entities>,
    place: &Place,
) -> Vec<String> {
    let (Some(entities), Some(request)) = (entities, request(act, place)) else {
        return vec!["malformed".into()];
    };
    let answer = Authorizer::new().is_authorized(&request, &conditions.policies, entities);
    let diagnostics = answer.diagnostics();
    let failed = diagnostics
        .errors()
        .map(|AuthorizationError::PolicyEvaluationError(error)| conditions.name(error.policy_id()));
    let mut forbidding: Vec<String> = failed.collect();
    if answer.decision() == Decision::Deny {
        forbidding.extend(diagnostics.reason().map(|id| conditions.name(id)));
    }
    forbidding
}

fn uid(kind: &str, id: &str) -> Option<EntityUid> {
    let kind = EntityTypeName::from_str(&format!("Counterfoil::{kind}")).ok()?;
    Some(EntityUid::from_type_name_and_id(kind, EntityId::new(id)))
}

fn place_uid(act: Act<'_>, place: &Place) -> Option<EntityUid> {
    match place {
        Place::Everywhere => uid("Tenant", act.tenant),
        Place::Source(source) => uid("Source", source.as_str()),
    }
}

fn request(act: Act<'_>, place: &Place) -> Option<Request> {
    let action = match act.action {
        DecisionAction::Review => "review",
        DecisionAction::Remediate => "remediate",
        DecisionAction::Except => "except",
        DecisionAction::Certify => "certify",
        DecisionAction::Export => "export",
        DecisionAction::Unspecified => return None,
    };
    let now = RestrictedExpression::new_datetime(&datetime(act.now_ms)?);
    let context = Context::from_pairs([("now".to_owned(), now)]).ok()?;
    let principal = uid("Principal", act.principal.id.as_str())?;
    let schema = SCHEMA.as_ref().ok()?;
    Request::new(
        principal,
        uid("Action", action)?,
        place_uid(act, place)?,
        context,
        Some(schema),
    )
    .ok()
}

/// A moment as Cedar writes it; `None`: beyond the year 9999.
fn datetime(ms: i64) -> Option<String> {
    let moment = jiff::Timestamp::from_millisecond(ms).ok()?;
    Some(moment.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string())
}

/// Everything that a condition can speak of: the principal with its roles, the tenant, and its sources.
fn entities<'s>(act: Act<'_>, sources: impl Iterator<Item = &'s str>) -> Option<Entities> {
    let tenant = uid("Tenant", act.tenant)?;
    let mut all = vec![Entity::with_uid(tenant.clone())];
    for source in sources {
        let above = HashSet::from([tenant.clone()]);
        all.push(Entity::new_no_attrs(uid("Source", source)?, above));
    }
    let principal = act.principal;
    let roles: Option<HashSet<EntityUid>> = principal
        .roles
        .iter()
        .map(|role| uid("Role", role))
        .collect();
    let roles = roles?;
    all.extend(roles.iter().cloned().map(Entity::with_uid));
    let text = |value: &str| RestrictedExpression::new_string(value.to_owned());
    let kind = |name: &str, prefix: &str| text(name.strip_prefix(prefix).unwrap_or(name));
    let attributes = HashMap::from([
        (
            "kind".to_owned(),
            kind(principal.kind.as_str_name(), "PRINCIPAL_KIND_"),
        ),
        (
            "organization".to_owned(),
            text(principal.organization.as_str()),
        ),
        (
            "organization_kind".to_owned(),
            kind(
                principal.organization_kind.as_str_name(),
                "ORGANIZATION_KIND_",
            ),
        ),
    ]);
    all.push(Entity::new(uid("Principal", principal.id.as_str())?, attributes, roles).ok()?);
    Entities::from_entities(all, SCHEMA.as_ref().ok()).ok()
}
