//! Who reviews an item: the owner of the entitlement, or whom the campaign names, and never the subject (I-26).

use std::collections::{BTreeMap, HashMap};

use super::{
    identity,
    ids::{Principal, Source},
    rights::{self, Places, Right},
};

/// A principal as the authority service knows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Person {
    /// Which principal.
    pub(crate) principal: Principal,
    /// The identity they are; empty when none.
    pub(crate) identity_key: String,
    /// A natural person.
    pub(crate) human: bool,
    /// Of the customer organisation.
    pub(crate) of_customer: bool,
    /// When they ended, milliseconds; `None` while active.
    pub(crate) end_ms: Option<i64>,
}

impl Person {
    /// Whether they may own an outcome (I-11).
    pub(crate) fn may_be_accountable(&self) -> bool {
        self.human && self.of_customer && self.end_ms.is_none()
    }

    fn may_review(&self) -> bool {
        self.human && self.end_ms.is_none()
    }
}

/// All principals of a tenant with their rights REVIEW.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    people: BTreeMap<Principal, Person>,
    by_identity: HashMap<String, Vec<Principal>>,
    review: HashMap<Principal, Vec<Right>>,
}

/// Whom a campaign falls back to, in order.
#[derive(Debug, Clone)]
pub(crate) struct Fallbacks {
    /// The campaign's fallback reviewer.
    pub(crate) fallback: Principal,
    /// The campaign's owner.
    pub(crate) owner: Principal,
    /// Who answers in the end.
    pub(crate) last_resort: Option<Principal>,
}

/// What routing needs to know of an item.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Routable<'i> {
    /// Identity that owns the entitlement; empty when none.
    pub(crate) owner_key: &'i str,
    /// Identity whose access it is; empty when none.
    pub(crate) subject_key: &'i str,
    /// Source of the grant.
    pub(crate) source: &'i Source,
}

impl Directory {
    /// A directory of these people; rights are given to them by name.
    pub(crate) fn new(
        people: impl IntoIterator<Item = Person>,
        review: HashMap<Principal, Vec<Right>>,
    ) -> Self {
        let people: BTreeMap<_, _> = people
            .into_iter()
            .map(|person| (person.principal.clone(), person))
            .collect();
        let mut by_identity: HashMap<String, Vec<Principal>> = HashMap::new();
        for person in people.values().filter(|one| !one.identity_key.is_empty()) {
            by_identity
                .entry(identity::canonical(&person.identity_key))
                .or_default()
                .push(person.principal.clone());
        }
        Self {
            people,
            by_identity,
            review,
        }
    }

    /// Whether only the places of sources tell what some of the rights cover.
    pub(crate) fn is_limited(&self) -> bool {
        self.review.values().flatten().any(Right::is_limited)
    }

    /// The same, where the rights are limited to the sources that lie where they hold.
    pub(crate) fn placed(mut self, places: &Places) -> Self {
        for held in self.review.values_mut() {
            let rights = std::mem::take(held).into_iter();
            *held = rights.map(|right| right.placed(places)).collect();
        }
        self
    }

    /// The person with this name.
    pub(crate) fn person(&self, principal: &Principal) -> Option<&Person> {
        self.people.get(principal)
    }

    /// Whether the person may be given the item: an active human, known and not the subject.
    pub(crate) fn eligible(&self, principal: &Principal, item: Routable<'_>) -> bool {
        self.person(principal).is_some_and(|person| {
            person.may_review()
                && identity::barred(&person.identity_key, item.subject_key).is_none()
        })
    }

    /// Whether the person holds a right REVIEW over the item's source.
    pub(crate) fn has_right(&self, principal: &Principal, source: &Source, now_ms: i64) -> bool {
        self.review
            .get(principal)
            .is_some_and(|held| rights::covering(held, source, now_ms).is_some())
    }

    /// Who reviews the item. An owner reviews only with a right. Of those the campaign names, the first with a right does; when
    /// none has one the first eligible gets it, so that the item waits with somebody instead of with nobody.
    pub(crate) fn route(
        &self,
        item: Routable<'_>,
        fallbacks: &Fallbacks,
        now_ms: i64,
    ) -> Option<Principal> {
        let owners: &[Principal] = match item.owner_key {
            "" => &[],
            key => self
                .by_identity
                .get(&identity::canonical(key))
                .map_or(&[], Vec::as_slice),
        };
        let named: Vec<&Principal> = [&fallbacks.fallback, &fallbacks.owner]
            .into_iter()
            .chain(&fallbacks.last_resort)
            .filter(|principal| self.eligible(principal, item))
            .collect();
        owners
            .iter()
            .filter(|owner| self.eligible(owner, item))
            .chain(named.iter().copied())
            .find(|principal| self.has_right(principal, item.source, now_ms))
            .or_else(|| named.first().copied())
            .cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(id: &str, human: bool, end_ms: Option<i64>) -> Person {
        Person {
            principal: Principal::of_id(id),
            identity_key: format!("{id}@acme"),
            human,
            of_customer: true,
            end_ms,
        }
    }

    fn everywhere() -> Right {
        Right {
            on_behalf_of: Vec::new(),
            sources: None,
            excluded: Vec::new(),
            tiers: Vec::new(),
            environments: Vec::new(),
            valid_from_ms: 0,
            valid_to_ms: 100,
            record_hash: [1; 32],
        }
    }

    fn directory(with_right: &[&str]) -> Directory {
        let people = vec![
            person("ann", true, None),
            person("bob", true, None),
            person("cat", true, None),
            person("dan", true, None),
            person("bot", false, None),
            person("gone", true, Some(1)),
        ];
        let review = with_right
            .iter()
            .map(|id| (Principal::of_id(id), vec![everywhere()]))
            .collect();
        Directory::new(people, review)
    }

    fn fallbacks() -> Fallbacks {
        Fallbacks {
            fallback: Principal::of_id("bob"),
            owner: Principal::of_id("cat"),
            last_resort: Some(Principal::of_id("dan")),
        }
    }

    const ALL: &[&str] = &["ann", "bob", "cat", "dan", "bot", "gone"];

    fn routed(directory: &Directory, owner_key: &str, subject_key: &str) -> Option<String> {
        let source = Source::of_id("hr");
        let item = Routable {
            owner_key,
            subject_key,
            source: &source,
        };
        directory
            .route(item, &fallbacks(), 50)
            .map(|principal| principal.to_string())
    }

    #[test]
    fn the_entitlements_owner_reviews() {
        let found = routed(&directory(ALL), "ann@acme", "eve@acme");
        assert_eq!(found.as_deref(), Some("principals/ann"));
    }

    #[test]
    fn what_has_no_owner_or_an_owner_who_may_not_goes_to_the_fallback() {
        for owner in ["", "nobody@acme", "bot@acme", "gone@acme"] {
            let found = routed(&directory(ALL), owner, "eve@acme");
            assert_eq!(found.as_deref(), Some("principals/bob"), "{owner}");
        }
        let no_right = directory(&["bob"]);
        let found = routed(&no_right, "ann@acme", "eve@acme");
        assert_eq!(found.as_deref(), Some("principals/bob"));
    }

    #[test]
    fn nobody_is_given_their_own_access() {
        let all = directory(ALL);
        let found = routed(&all, "ann@acme", "ann@acme");
        assert_eq!(found.as_deref(), Some("principals/bob"));
        let found = routed(&all, "bob@acme", "bob@acme");
        assert_eq!(found.as_deref(), Some("principals/cat"));
    }

    #[test]
    fn what_is_somebodys_goes_to_nobody_without_an_identity() {
        let mut bob = person("bob", true, None);
        bob.identity_key.clear();
        let review = HashMap::from([
            (bob.principal.clone(), vec![everywhere()]),
            (Principal::of_id("cat"), vec![everywhere()]),
        ]);
        let people = Directory::new([bob, person("cat", true, None)], review);
        let found = routed(&people, "", "eve@acme");
        assert_eq!(found.as_deref(), Some("principals/cat"));
        let found = routed(&people, "", "");
        assert_eq!(found.as_deref(), Some("principals/bob"), "an orphan");
    }

    #[test]
    fn an_identity_is_the_same_however_it_is_written() {
        let all = directory(ALL);
        let found = routed(&all, "ANN@Acme ", "eve@acme");
        assert_eq!(found.as_deref(), Some("principals/ann"), "as owner");
        let found = routed(&all, "ann@acme", "Ann@ACME");
        assert_eq!(found.as_deref(), Some("principals/bob"), "as subject");
    }

    #[test]
    fn without_any_right_the_item_waits_with_the_first_who_is_not_the_subject() {
        let none = directory(&[]);
        let found = routed(&none, "ann@acme", "bob@acme");
        assert_eq!(found.as_deref(), Some("principals/cat"));
        let last = directory(&["dan"]);
        let found = routed(&last, "", "eve@acme");
        assert_eq!(found.as_deref(), Some("principals/dan"));
    }
}
