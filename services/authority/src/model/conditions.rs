//! Conditions on decision rights, in Cedar (<https://docs.cedarpolicy.com>).
//!
//! Invariants:
//! - A condition only forbids. What is allowed is said by decision rights, which the customer grants one by one; so a mistake in
//!   a condition can take authority away and can give none.
//! - What was published was validated strictly against `conditions.cedarschema`; what still fails when it is evaluated forbids.
//! - The canonical text has no comments: rules stand in records, which hold no free text.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fmt,
    str::FromStr,
    sync::LazyLock,
};

use cedar_policy::{
    AuthorizationError, Authorizer, Context, Decision, Effect, Entities, Entity, EntityId,
    EntityTypeName, EntityUid, Policy, PolicyId, PolicySet, Request, RestrictedExpression, Schema,
    ValidationMode, Validator,
};

use miette::Diagnostic as _;

use super::{
    ids::{PrincipalId, SourceId},
    principal::Principal,
    right::{DecisionAction, Scope},
    text,
};

/// Longest text, bytes.
pub(crate) const BYTES_MAX: usize = 16 << 10;
/// Most policies.
const POLICIES_MAX: usize = 200;
/// No source has this id, and no condition may name it.
const UNNAMED: &str = "*";
/// The only annotation: a code that says which condition it is.
const ANNOTATION: &str = "id";

static SCHEMA: LazyLock<Result<Schema, String>> = LazyLock::new(|| {
    Schema::from_cedarschema_str(include_str!("conditions.cedarschema"))
        .map(|(schema, _)| schema)
        .map_err(|error| error.to_string())
});

/// Conditions that were validated.
#[derive(Clone)]
pub(crate) struct Conditions {
    policies: PolicySet,
    text: String,
    /// Sources that some condition names.
    sources: BTreeSet<SourceId>,
}

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

impl Conditions {
    /// Reads conditions; an empty text has none.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.len() > BYTES_MAX {
            return Err("must have at most 16 KiB".into());
        }
        let policies = PolicySet::from_str(text).map_err(|error| located(text, &error))?;
        if policies.num_of_templates() > 0 {
            return Err("must have no templates".into());
        }
        if policies.num_of_policies() > POLICIES_MAX {
            return Err(format!("must be at most {POLICIES_MAX} policies"));
        }
        for policy in policies.policies() {
            check(policy)?;
        }
        let schema = SCHEMA.as_ref().map_err(Clone::clone)?;
        let found = Validator::new(schema.clone()).validate(&policies, ValidationMode::Strict);
        if let Some(error) = found.validation_errors().next() {
            return Err(error.to_string());
        }
        let sources = policies.policies().flat_map(named_sources).collect();
        // The text that is kept is what is evaluated, here and by whoever reads the record.
        let text = canonical(&policies)?;
        let policies = PolicySet::from_str(&text).map_err(|error| error.to_string())?;
        Ok(Self {
            policies: with_permit(policies)?,
            text,
            sources,
        })
    }

    /// The canonical text.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// The sources that some condition names.
    pub(crate) fn sources(&self) -> &BTreeSet<SourceId> {
        &self.sources
    }

    /// What is left of a scope, and the sources that are taken out of it when it is everywhere; `None`: nothing is left. Adds to
    /// `forbidding` what took something away.
    ///
    /// A condition can tell sources apart by their names alone. So one source that none names stands for all of them.
    pub(crate) fn narrow(
        &self,
        act: Act<'_>,
        scope: &Scope,
        forbidding: &mut Vec<String>,
    ) -> Option<(Scope, Vec<SourceId>)> {
        let mut allowed = |place: &Place| {
            let why = self.forbid_at(act, place);
            let allowed = why.is_empty();
            forbidding.extend(why);
            allowed
        };
        let everywhere = *scope == Scope::Everywhere;
        let named = match scope {
            Scope::Everywhere => self.sources.iter().cloned().collect(),
            Scope::Sources(named) => named.clone(),
        };
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
    pub(crate) fn forbid(&self, act: Act<'_>, place: &Place) -> Vec<String> {
        if self.is_empty() {
            return Vec::new();
        }
        let mut forbidding = self.forbid_at(act, place);
        if *place == Place::Everywhere {
            for source in &self.sources {
                forbidding.extend(self.forbid_at(act, &Place::Source(source.clone())));
            }
        }
        forbidding.sort_unstable();
        forbidding.dedup();
        forbidding
    }

    fn forbid_at(&self, act: Act<'_>, place: &Place) -> Vec<String> {
        let asked = request(act, place).and_then(|request| Some((request, entities(act, place)?)));
        let Some((request, entities)) = asked else {
            // Nothing that comes from this service is malformed; if it were, nobody would know what to allow.
            return vec!["malformed".into()];
        };
        let answer = Authorizer::new().is_authorized(&request, &self.policies, &entities);
        let diagnostics = answer.diagnostics();
        let mut forbidding: Vec<String> = diagnostics
            .errors()
            .map(|AuthorizationError::PolicyEvaluationError(error)| self.name(error.policy_id()))
            .collect();
        if answer.decision() == Decision::Deny {
            forbidding.extend(diagnostics.reason().map(|id| self.name(id)));
        }
        forbidding
    }

    /// The code of a condition: its annotation, or its place.
    fn name(&self, id: &PolicyId) -> String {
        let annotation = self.policies.annotation(id, ANNOTATION);
        annotation.map_or_else(|| id.to_string(), str::to_owned)
    }
}

impl fmt::Debug for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Conditions({:?})", self.text)
    }
}

impl PartialEq for Conditions {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

/// What a condition must be beside valid.
fn check(policy: &Policy) -> Result<(), String> {
    let at = policy.id();
    if policy.effect() != Effect::Forbid {
        return Err(format!("{at}: must forbid; decision rights permit"));
    }
    if named_sources(policy)
        .iter()
        .any(|source| source.as_str() == UNNAMED)
    {
        return Err(format!(
            "{at}: no source is called {UNNAMED:?}; leave the source out to mean all"
        ));
    }
    for (key, value) in policy.annotations() {
        if key != ANNOTATION || !text::is_code(value) {
            return Err(format!(
                "{at}: the only annotation is @id, and its value {}",
                text::CODE
            ));
        }
    }
    Ok(())
}

/// Cedar permits nothing by itself; here the decision right did.
fn with_permit(mut policies: PolicySet) -> Result<PolicySet, String> {
    let permit = Policy::parse(
        Some(PolicyId::new("permit")),
        "permit (principal, action, resource);",
    );
    let permit = permit.map_err(|error| error.to_string())?;
    policies.add(permit).map_err(|error| error.to_string())?;
    Ok(policies)
}

/// The policies in their order, as the library writes them when it knows nothing but their meaning.
fn canonical(policies: &PolicySet) -> Result<String, String> {
    let mut ordered: Vec<(usize, String)> = Vec::new();
    for policy in policies.policies() {
        let json = policy.to_json().map_err(|error| error.to_string())?;
        let bare = Policy::from_json(None, json).map_err(|error| error.to_string())?;
        let number = policy.id().to_string();
        let number = number.trim_start_matches("policy").parse();
        ordered.push((
            number.unwrap_or(usize::MAX),
            bare.to_cedar().unwrap_or_default(),
        ));
    }
    ordered.sort_unstable();
    let texts: Vec<String> = ordered.into_iter().map(|(_, text)| text).collect();
    Ok(texts.join("\n"))
}

/// Where a text is no Cedar.
fn located(text: &str, error: &cedar_policy::ParseErrors) -> String {
    let offset = error
        .labels()
        .and_then(|mut labels| labels.next())
        .map(|label| label.offset());
    let before = text.get(..offset.unwrap_or(0)).unwrap_or_default();
    format!("line {}: {error}", before.matches('\n').count() + 1)
}

fn named_sources(policy: &Policy) -> Vec<SourceId> {
    let literals = policy.entity_literals();
    let sources = literals
        .into_iter()
        .filter(|uid| uid.type_name().basename() == "Source");
    sources
        .map(|uid| SourceId::stored(uid.id().unescaped().to_owned()))
        .collect()
}

fn uid(kind: &str, id: &str) -> Option<EntityUid> {
    let kind = EntityTypeName::from_str(&format!("Counterfoil::{kind}")).ok()?;
    Some(EntityUid::from_type_name_and_id(kind, EntityId::new(id)))
}

fn principal_uid(principal: &PrincipalId) -> Option<EntityUid> {
    uid("Principal", principal.as_str())
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
    let principal = principal_uid(&act.principal.id)?;
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

fn entities(act: Act<'_>, place: &Place) -> Option<Entities> {
    let tenant = uid("Tenant", act.tenant)?;
    let mut all = vec![Entity::with_uid(tenant.clone())];
    if matches!(place, Place::Source(_)) {
        let above = HashSet::from([tenant]);
        all.push(Entity::new_no_attrs(place_uid(act, place)?, above));
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
    all.push(Entity::new(principal_uid(&principal.id)?, attributes, roles).ok()?);
    Entities::from_entities(all, SCHEMA.as_ref().ok()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::principal::{OrganizationKind, tests::customer_human};

    /// 2026-11-22T06:00:00Z, a Sunday.
    const NOW_MS: i64 = 1_795_327_200_000;

    fn source(id: &str) -> Place {
        Place::Source(SourceId::stored(id.to_owned()))
    }

    fn act(principal: &Principal, action: DecisionAction) -> Act<'_> {
        Act {
            tenant: "acme",
            principal,
            action,
            now_ms: NOW_MS,
        }
    }

    fn provider_human(id: &str) -> Principal {
        Principal {
            organization_kind: OrganizationKind::Provider,
            ..customer_human(id)
        }
    }

    const PAYROLL: &str = r#"
        // Nobody of the provider touches payroll.
        @id("payroll-stays-inside")
        forbid (principal, action, resource == Counterfoil::Source::"payroll")
        when { principal.organization_kind != "CUSTOMER" };
        forbid (principal, action == Counterfoil::Action::"certify", resource)
        when { context.now > datetime("2027-01-01") };
    "#;

    #[test]
    fn a_condition_takes_away_and_says_which_it_is() {
        let conditions = Conditions::parse(PAYROLL).unwrap();
        let (inside, outside) = (customer_human("ada"), provider_human("olga"));
        let review = DecisionAction::Review;
        assert!(
            conditions
                .forbid(act(&inside, review), &source("payroll"))
                .is_empty()
        );
        assert!(
            conditions
                .forbid(act(&outside, review), &source("crm"))
                .is_empty()
        );
        let why = conditions.forbid(act(&outside, review), &source("payroll"));
        assert_eq!(why, ["payroll-stays-inside"]);
        let certify = act(&inside, DecisionAction::Certify);
        assert!(conditions.forbid(certify, &source("crm")).is_empty());
        let next_year = Act {
            now_ms: NOW_MS + 41 * 86_400_000,
            ..certify
        };
        assert_eq!(conditions.forbid(next_year, &source("crm")), ["policy1"]);
    }

    #[test]
    fn an_act_everywhere_is_forbidden_where_any_source_that_is_named_is() {
        let conditions = Conditions::parse(PAYROLL).unwrap();
        let olga = provider_human("olga");
        let everywhere = conditions.forbid(act(&olga, DecisionAction::Review), &Place::Everywhere);
        assert_eq!(everywhere, ["payroll-stays-inside"]);
        let named: Vec<&str> = conditions.sources().iter().map(SourceId::as_str).collect();
        assert_eq!(named, ["payroll"]);
    }

    #[test]
    fn a_scope_is_narrowed_to_what_is_left_of_it() {
        let conditions = Conditions::parse(PAYROLL).unwrap();
        let (inside, olga) = (customer_human("ada"), provider_human("olga"));
        let of = |ids: &[&str]| -> Vec<SourceId> {
            ids.iter()
                .map(|id| SourceId::stored((*id).to_owned()))
                .collect()
        };
        let narrow = |who: &Principal, scope: Scope| {
            let mut why = Vec::new();
            let left = conditions.narrow(act(who, DecisionAction::Review), &scope, &mut why);
            (left, why.len())
        };
        let named = |ids: &[&str]| Scope::of(of(ids), false);
        assert_eq!(
            narrow(&olga, named(&["crm", "payroll"])),
            (Some((named(&["crm"]), vec![])), 1)
        );
        assert_eq!(narrow(&olga, named(&["payroll"])), (None, 1));
        assert_eq!(
            narrow(&olga, named(&["crm"])),
            (Some((named(&["crm"]), vec![])), 0)
        );
        assert_eq!(
            narrow(&olga, Scope::Everywhere),
            (Some((Scope::Everywhere, of(&["payroll"]))), 1)
        );
        assert_eq!(
            narrow(&inside, Scope::Everywhere),
            (Some((Scope::Everywhere, vec![])), 0)
        );
    }

    #[test]
    fn where_all_but_some_is_forbidden_some_is_left() {
        let text = r#"forbid (principal, action, resource)
            unless { resource == Counterfoil::Source::"crm" || resource == Counterfoil::Source::"hr" };"#;
        let conditions = Conditions::parse(text).unwrap();
        let ada = customer_human("ada");
        let mut why = Vec::new();
        let review = act(&ada, DecisionAction::Review);
        let (left, taken) = conditions
            .narrow(review, &Scope::Everywhere, &mut why)
            .unwrap();
        let named = ["crm", "hr"].map(|id| SourceId::stored(id.to_owned()));
        assert_eq!((left, taken.len()), (Scope::Sources(named.to_vec()), 0));
        assert_eq!(why, ["policy0", "policy0"][..why.len()]);
        assert!(!why.is_empty());
    }

    #[test]
    fn the_canonical_text_has_no_comments_and_comes_back_the_same() {
        let once = Conditions::parse(PAYROLL).unwrap();
        assert!(!once.text().contains("Nobody") && once.text().contains("payroll-stays-inside"));
        let twice = Conditions::parse(once.text()).unwrap();
        assert_eq!(once.text(), twice.text());
        let none = Conditions::parse(" // nothing at all ").unwrap();
        assert!(none.is_empty() && none.text().is_empty());
        assert!(
            none.forbid(
                act(&customer_human("ada"), DecisionAction::Except),
                &source("x")
            )
            .is_empty()
        );
    }

    #[test]
    fn roles_and_the_tenant_can_be_named() {
        let text = r#"forbid (principal in Counterfoil::Role::"auditor", action, resource in Counterfoil::Tenant::"acme");"#;
        let conditions = Conditions::parse(text).unwrap();
        let mut ada = customer_human("ada");
        ada.roles = vec!["reviewer".to_owned()];
        assert!(
            conditions
                .forbid(act(&ada, DecisionAction::Export), &source("crm"))
                .is_empty()
        );
        ada.roles.push("auditor".to_owned());
        assert_eq!(
            conditions.forbid(act(&ada, DecisionAction::Export), &source("crm")),
            ["policy0"]
        );
        assert_eq!(
            conditions.forbid(act(&ada, DecisionAction::Export), &Place::Everywhere),
            ["policy0"]
        );
        let elsewhere = Act {
            tenant: "beta",
            ..act(&ada, DecisionAction::Export)
        };
        assert!(conditions.forbid(elsewhere, &source("crm")).is_empty());
    }

    #[test]
    fn what_could_give_or_means_nothing_is_refused_with_its_reason() {
        let long = format!("// {}", "x".repeat(BYTES_MAX));
        for (text, reason) in [
            ("permit (principal, action, resource);", "must forbid"),
            (
                "forbid (principal == ?principal, action, resource);",
                "templates",
            ),
            ("forbid (principal, action, resource)", "line 1"),
            (
                "\n\nforbid (principal, action, resource) when { principal.salary > 3 };",
                "salary",
            ),
            (
                "forbid (principal, action == Counterfoil::Action::\"delete\", resource);",
                "delete",
            ),
            (
                "@note(\"Ada wants this\") forbid (principal, action, resource);",
                "annotation",
            ),
            (
                "@id(\"Ada wants this\") forbid (principal, action, resource);",
                "annotation",
            ),
            (
                "forbid (principal, action, resource == Counterfoil::Source::\"*\");",
                "no source is called",
            ),
            (&long, "16 KiB"),
        ] {
            let error = Conditions::parse(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
