//! Conditions on decision rights, in Cedar (<https://docs.cedarpolicy.com>).
//!
//! Invariants:
//! - A condition only forbids. What is allowed is said by decision rights, which the customer grants one by one; so a mistake in
//!   a condition can take authority away and can give none.
//! - What was published was validated strictly against `conditions.cedarschema`; what still fails when it is evaluated forbids.
//! - The canonical text has no comments: rules stand in records, which hold no free text.
//! - What is accepted can be read again: the bounds hold for the text that is kept, and its depth for every stack it meets.

mod asking;
mod bounds;
#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, fmt, str::FromStr, sync::LazyLock};

use cedar_policy::{Effect, Policy, PolicyId, PolicySet, Schema, ValidationMode, Validator};

use miette::Diagnostic as _;

use super::{ids::SourceId, text};

pub(crate) use asking::{Act, Asking, Place};

/// Longest text, bytes.
pub(crate) const BYTES_MAX: usize = 16 << 10;
/// Most policies.
const POLICIES_MAX: usize = 200;
/// Most sources that they name: each is asked about whenever somebody may decide everywhere.
const SOURCES_MAX: usize = 64;
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

impl Conditions {
    /// Reads conditions that somebody wants; an empty text has none.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.len() > BYTES_MAX {
            return Err("must have at most 16 KiB".into());
        }
        bounds::check(text)?;
        let read = bounds::on_a_deep_stack(|| Self::validated(text))?;
        if read.text.len() > BYTES_MAX {
            return Err("must have at most 16 KiB when written out in full".into());
        }
        if read.sources.len() > SOURCES_MAX {
            return Err(format!("must name at most {SOURCES_MAX} sources"));
        }
        Ok(read)
    }

    /// Reads the text of conditions that were accepted.
    pub(crate) fn accepted(text: &str) -> Result<Self, String> {
        bounds::on_a_deep_stack(|| {
            let policies = PolicySet::from_str(text).map_err(|error| error.to_string())?;
            let sources = policies.policies().flat_map(named_sources).collect();
            Ok(Self {
                policies: with_permit(policies)?,
                text: text.to_owned(),
                sources,
            })
        })
    }

    fn validated(text: &str) -> Result<Self, String> {
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
        // The text that is kept is what is evaluated, here and by whoever reads the record.
        Self::accepted(&canonical(&policies)?)
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
