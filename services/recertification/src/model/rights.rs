//! Decision rights as the authority service answers them: which one covers a decision (I-13).

use counterfoil_evidence::place;

use super::ids::{Principal, Source};

/// Where every source lies now: environment and tier, as inventory has them.
pub(crate) type Places = place::Places<Source>;

/// A right of one principal for one action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Right {
    /// Sources it covers; `None` = all.
    pub(crate) sources: Option<Vec<Source>>,
    /// What conditions of the policy take out of all.
    pub(crate) excluded: Vec<Source>,
    /// Tiers that it is limited to; none: all.
    pub(crate) tiers: Vec<String>,
    /// Environments that it is limited to; none: all.
    pub(crate) environments: Vec<String>,
    /// From when, milliseconds.
    pub(crate) valid_from_ms: i64,
    /// Until when, exclusive, milliseconds.
    pub(crate) valid_to_ms: i64,
    /// SHA-256 of its record, which a decision cites.
    pub(crate) record_hash: [u8; 32],
    /// In whose names its holder decides under it, outermost first, each with the identity key of that principal; none: in its own.
    pub(crate) on_behalf_of: Vec<(Principal, String)>,
}

/// The right that a decision stands on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cited {
    /// SHA-256 of its record.
    pub(crate) record_hash: [u8; 32],
    /// In whose names the decision is taken, outermost first.
    pub(crate) on_behalf_of: Vec<Principal>,
}

impl From<&Right> for Cited {
    fn from(right: &Right) -> Self {
        let names = right.on_behalf_of.iter();
        Self {
            record_hash: right.record_hash,
            on_behalf_of: names.map(|(principal, _)| principal.clone()).collect(),
        }
    }
}

impl Right {
    /// Whether only the places of sources tell which of them it covers. Until they are known it covers none.
    pub(crate) fn is_limited(&self) -> bool {
        !(self.tiers.is_empty() && self.environments.is_empty())
    }

    /// The same right, limited to the sources that lie where it holds.
    pub(crate) fn placed(mut self, places: &Places) -> Self {
        if !self.is_limited() {
            return self;
        }
        let here = place::within(places, &self.tiers, &self.environments);
        let named = here.filter(|source| self.names(source));
        self.sources = Some(named.cloned().collect());
        self.tiers.clear();
        self.environments.clear();
        self
    }

    /// Whether the source is in its scope.
    fn names(&self, source: &Source) -> bool {
        match &self.sources {
            None => !self.excluded.contains(source),
            Some(sources) => sources.contains(source),
        }
    }

    /// Whether it covers the source at that moment.
    pub(crate) fn covers(&self, source: &Source, now_ms: i64) -> bool {
        !self.is_limited() && self.names(source) && self.holds(now_ms)
    }

    /// Whether it covers all of these sources at that moment; none named = every source there is.
    pub(crate) fn covers_all(&self, sources: &[Source], now_ms: i64) -> bool {
        if sources.is_empty() {
            let whole = self.sources.is_none() && self.excluded.is_empty();
            return whole && !self.is_limited() && self.holds(now_ms);
        }
        sources.iter().all(|source| self.covers(source, now_ms))
    }

    fn holds(&self, now_ms: i64) -> bool {
        self.valid_from_ms <= now_ms && now_ms < self.valid_to_ms
    }
}

/// The first right of the holder's own that covers the source.
pub(crate) fn covering<'r>(rights: &'r [Right], source: &Source, now_ms: i64) -> Option<&'r Right> {
    let mut own = rights.iter().filter(|right| right.on_behalf_of.is_empty());
    own.find(|right| right.covers(source, now_ms))
}

/// The first right that covers the source and by which its holder, or one in whose name it decides, has what is with `routed`; its
/// own before those that were passed on.
pub(crate) fn covering_for<'r>(
    rights: &'r [Right],
    source: &Source,
    now_ms: i64,
    (holder, routed): (&Principal, &Principal),
) -> Option<&'r Right> {
    let has = |right: &&Right| match right.on_behalf_of.first() {
        None => holder == routed,
        Some((delegator, _)) => delegator == routed,
    };
    rights
        .iter()
        .filter(has)
        .find(|right| right.covers(source, now_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn right(sources: Option<&[&str]>) -> Right {
        Right {
            sources: sources.map(|ids| ids.iter().map(|id| Source::of_id(id)).collect()),
            excluded: Vec::new(),
            tiers: Vec::new(),
            environments: Vec::new(),
            valid_from_ms: 10,
            valid_to_ms: 20,
            record_hash: [7; 32],
            on_behalf_of: Vec::new(),
        }
    }

    #[test]
    fn a_right_holds_from_its_start_until_before_its_end() {
        let hr = Source::of_id("hr");
        let held: Vec<i64> = (8..22)
            .filter(|now| right(None).covers(&hr, *now))
            .collect();
        assert_eq!(held, (10..20).collect::<Vec<_>>());
    }

    #[test]
    fn what_conditions_take_out_of_all_is_not_covered() {
        let (hr, vault) = (Source::of_id("hr"), Source::of_id("vault"));
        let narrowed = Right {
            excluded: vec![vault.clone()],
            ..right(None)
        };
        assert!(narrowed.covers(&hr, 10) && !narrowed.covers(&vault, 10));
        assert!(narrowed.covers_all(std::slice::from_ref(&hr), 10));
        assert!(!narrowed.covers_all(&[hr, vault], 10) && !narrowed.covers_all(&[], 10));
    }

    #[test]
    fn a_right_for_some_sources_is_none_for_others_nor_for_all() {
        let some = right(Some(&["hr"]));
        let (hr, vault) = (Source::of_id("hr"), Source::of_id("vault"));
        assert!(some.covers(&hr, 10) && !some.covers(&vault, 10));
        assert!(some.covers_all(std::slice::from_ref(&hr), 10));
        assert!(!some.covers_all(&[hr, vault], 10));
        assert!(
            !some.covers_all(&[], 10),
            "no source named means every source"
        );
        assert!(right(None).covers_all(&[], 10));
    }

    #[test]
    fn a_right_for_some_environments_and_tiers_covers_the_sources_that_lie_there() {
        let place = |id: &str, environment: &str, tier: &str| {
            (Source::of_id(id), (environment.to_owned(), tier.to_owned()))
        };
        let places = Places::from([
            place("hr", "prod", "gold"),
            place("lab", "test", "gold"),
            place("old", "prod", ""),
            place("pay", "prod", "gold"),
        ]);
        let limited = |scope: Option<&[&str]>| Right {
            tiers: vec!["gold".to_owned()],
            environments: vec!["prod".to_owned()],
            ..right(scope)
        };
        let covered = |right: Right| {
            let all = ["hr", "lab", "old", "pay", "unknown"];
            let of = |id: &&str| right.covers(&Source::of_id(id), 10);
            all.into_iter().filter(of).collect::<Vec<_>>()
        };
        assert_eq!(covered(limited(None).placed(&places)), ["hr", "pay"]);
        let some: &[&str] = &["hr", "lab"];
        assert_eq!(covered(limited(Some(some)).placed(&places)), ["hr"]);
        let excluding = Right {
            excluded: vec![Source::of_id("hr")],
            ..limited(None)
        };
        assert_eq!(covered(excluding.placed(&places)), ["pay"]);
        assert!(covered(limited(None)).is_empty(), "before places are known");
        for right in [limited(None), limited(None).placed(&places)] {
            assert!(
                !right.covers_all(&[], 10),
                "all sources, also those to come"
            );
        }
        assert!(right(None).placed(&places).covers_all(&[], 10));
    }
}
