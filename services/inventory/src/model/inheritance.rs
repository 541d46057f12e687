//! Which entitlements follow from which: who holds a child holds its parents, and theirs.
//!
//! Invariants: safe with cycles; an entitlement that can be reached by several paths is reached by the shortest, among those
//! by the one whose native ids come first, so that the same source always gives the same paths; nothing is followed
//! further than the limits, and what would have been is reported.

use std::collections::HashMap;

/// How far inheritance is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest path, in entitlements before the inherited one.
    pub depth_max: usize,
    /// Most entitlements that may follow from one.
    pub fan_out_max: usize,
    /// Most that may follow from all of them together: bounds memory.
    pub total_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            depth_max: 16,
            fan_out_max: 10_000,
            total_max: 2_000_000,
        }
    }
}

/// Stands for "no path": a direct grant.
pub const NO_PATH: u32 = u32::MAX;

/// A step of a path, linked to the step before it.
#[derive(Debug, Clone, Copy)]
struct Step {
    entitlement: u32,
    before: u32,
}

/// An entitlement that follows from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reached {
    /// What follows.
    pub entitlement: u32,
    /// By which path, for [`Closures::path`].
    pub path: u32,
    /// How long that path is.
    pub length: u32,
}

/// A limit that was met at an entitlement; what lies beyond was not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LimitMet {
    /// A path would be too long.
    #[error("is nested more than {0} levels deep")]
    Depth(usize),
    /// Too many follow from it.
    #[error("gives more than {0} other entitlements")]
    FanOut(usize),
    /// All together are too many.
    #[error("would bring the inherited entitlements of the source above {0}")]
    Total(usize),
}

/// What follows from each entitlement that has a parent.
#[derive(Debug, Default)]
pub struct Closures {
    steps: Vec<Step>,
    reached: HashMap<u32, Vec<Reached>>,
    ranks: Vec<u32>,
}

impl Closures {
    /// Follows all edges. `parents[child]` are the numbers of its parents, `ranks[number]` is the place of an entitlement in
    /// the order of native ids. Answers also which limits were met, by entitlement.
    #[must_use]
    pub fn build(
        parents: &HashMap<u32, Vec<u32>>,
        ranks: Vec<u32>,
        limits: &Limits,
    ) -> (Self, Vec<(u32, LimitMet)>) {
        let rank = |number: &u32| rank_of(&ranks, *number);
        let mut ordered: HashMap<u32, Vec<u32>> = parents.clone();
        for list in ordered.values_mut() {
            list.sort_by_key(rank);
            list.dedup();
        }
        let mut starts: Vec<u32> = ordered.keys().copied().collect();
        starts.sort_by_key(rank);
        let mut closures = Self::default();
        let mut met = Vec::new();
        for start in starts {
            if let Err(limit) = closures.follow(start, &ordered, limits) {
                met.push((start, limit));
            }
        }
        closures.ranks = ranks;
        (closures, met)
    }

    /// Breadth first, each level in the order of its paths: the first way to an entitlement is the one that counts.
    fn follow(
        &mut self,
        start: u32,
        parents: &HashMap<u32, Vec<u32>>,
        limits: &Limits,
    ) -> Result<(), LimitMet> {
        let mut seen = std::collections::HashSet::from([start]);
        let mut reached = Vec::new();
        let mut level = vec![self.step(start, NO_PATH)];
        let mut length = 0;
        let mut outcome = Ok(());
        'levels: while !level.is_empty() {
            length += 1;
            let mut next = Vec::new();
            for (at, entitlement) in level {
                for &parent in parents.get(&entitlement).into_iter().flatten() {
                    if seen.contains(&parent) {
                        continue;
                    }
                    outcome = self.within(length, reached.len(), limits);
                    if outcome.is_err() {
                        break 'levels;
                    }
                    seen.insert(parent);
                    next.push(self.step(parent, at));
                    reached.push(Reached {
                        entitlement: parent,
                        path: at,
                        length: u32::try_from(length).unwrap_or(u32::MAX),
                    });
                }
            }
            level = next;
        }
        self.reached.insert(start, reached);
        outcome
    }

    fn within(&self, length: usize, reached: usize, limits: &Limits) -> Result<(), LimitMet> {
        if length > limits.depth_max {
            return Err(LimitMet::Depth(limits.depth_max));
        }
        if reached >= limits.fan_out_max {
            return Err(LimitMet::FanOut(limits.fan_out_max));
        }
        if self.steps.len() >= limits.total_max {
            return Err(LimitMet::Total(limits.total_max));
        }
        Ok(())
    }

    fn step(&mut self, entitlement: u32, before: u32) -> (u32, u32) {
        let number = u32::try_from(self.steps.len()).unwrap_or(NO_PATH);
        self.steps.push(Step {
            entitlement,
            before,
        });
        (number, entitlement)
    }

    /// Whether anything follows from an entitlement.
    #[must_use]
    pub fn inherits(&self, entitlement: u32) -> bool {
        self.reached
            .get(&entitlement)
            .is_some_and(|list| !list.is_empty())
    }

    /// How many entitlements follow from one.
    #[must_use]
    pub fn count(&self, entitlement: u32) -> u32 {
        let count = self.reached.get(&entitlement).map_or(0, Vec::len);
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// What follows for someone who holds `direct`: each entitlement once, by its best path.
    #[must_use]
    pub fn inherited(&self, direct: &[u32]) -> Vec<Reached> {
        let mut all: Vec<(Reached, u32)> = direct
            .iter()
            .flat_map(|&start| {
                let list = self.reached.get(&start).into_iter().flatten();
                list.map(move |reached| (*reached, start))
            })
            .collect();
        all.sort_by_key(|(reached, start)| {
            (
                reached.entitlement,
                reached.length,
                rank_of(&self.ranks, *start),
            )
        });
        all.dedup_by_key(|(reached, _)| reached.entitlement);
        all.into_iter().map(|(reached, _)| reached).collect()
    }

    /// The entitlements of a path, the one held directly first.
    #[must_use]
    pub fn path(&self, path: u32) -> Vec<u32> {
        let mut entitlements = Vec::new();
        let mut at = path;
        while let Some(step) = usize::try_from(at).ok().and_then(|at| self.steps.get(at)) {
            entitlements.push(step.entitlement);
            at = step.before;
        }
        entitlements.reverse();
        entitlements
    }
}

fn rank_of(ranks: &[u32], number: u32) -> u32 {
    usize::try_from(number)
        .ok()
        .and_then(|number| ranks.get(number))
        .copied()
        .unwrap_or(number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn graph(edges: &[(u32, u32)]) -> HashMap<u32, Vec<u32>> {
        let mut parents: HashMap<u32, Vec<u32>> = HashMap::new();
        for &(child, parent) in edges {
            parents.entry(child).or_default().push(parent);
        }
        parents
    }

    fn built(edges: &[(u32, u32)]) -> Closures {
        let (closures, met) =
            Closures::build(&graph(edges), (0..100).collect(), &Limits::default());
        assert!(met.is_empty());
        closures
    }

    fn paths(closures: &Closures, direct: &[u32]) -> Vec<(u32, Vec<u32>)> {
        let found = closures.inherited(direct);
        found
            .iter()
            .map(|reached| (reached.entitlement, closures.path(reached.path)))
            .collect()
    }

    #[test]
    fn a_path_starts_with_what_is_held_directly() {
        let closures = built(&[(1, 2), (2, 3)]);
        assert_eq!(paths(&closures, &[1]), [(2, vec![1]), (3, vec![1, 2])]);
        assert!(!closures.inherits(3));
        assert_eq!(closures.count(1), 2);
    }

    #[test]
    fn the_shortest_path_counts_and_then_the_first() {
        // 1 -> 4 -> 9 and 1 -> 3 -> 9 are equally long, 1 -> 2 -> 5 -> 9 is longer.
        let closures = built(&[(1, 4), (4, 9), (1, 3), (3, 9), (1, 2), (2, 5), (5, 9)]);
        let found = paths(&closures, &[1]);
        assert!(found.contains(&(9, vec![1, 3])));
    }

    #[test]
    fn of_several_direct_grants_the_nearest_explains() {
        let closures = built(&[(1, 2), (2, 9), (5, 9), (6, 9)]);
        assert_eq!(paths(&closures, &[1, 6, 5]), [(2, vec![1]), (9, vec![5])]);
    }

    #[test]
    fn a_cycle_ends() {
        let closures = built(&[(1, 2), (2, 3), (3, 1)]);
        assert_eq!(paths(&closures, &[1]), [(2, vec![1]), (3, vec![1, 2])]);
        // Both hold one another: each is there directly and through the other.
        assert_eq!(paths(&closures, &[1, 2]).len(), 3);
    }

    #[test]
    fn order_is_by_native_id_not_by_number() {
        let edges = graph(&[(0, 1), (0, 2), (1, 3), (2, 3)]);
        let (closures, _) = Closures::build(&edges, vec![0, 9, 1, 5], &Limits::default());
        assert_eq!(paths(&closures, &[0])[2], (3, vec![0, 2]));
    }

    #[test]
    fn limits_are_reported_and_not_passed() {
        let chain: Vec<(u32, u32)> = (0..20).map(|at| (at, at + 1)).collect();
        let (closures, met) =
            Closures::build(&graph(&chain), (0..100).collect(), &Limits::default());
        assert!(met.contains(&(0, LimitMet::Depth(16))));
        assert!(!met.iter().any(|(start, _)| *start == 10));
        assert_eq!(closures.count(0), 16);
        let limits = Limits {
            fan_out_max: 2,
            ..Limits::default()
        };
        let star = graph(&[(0, 1), (0, 2), (0, 3)]);
        let (closures, met) = Closures::build(&star, (0..9).collect(), &limits);
        assert_eq!(met, [(0, LimitMet::FanOut(2))]);
        assert_eq!(closures.count(0), 2);
    }

    /// All simple paths by brute force.
    fn naive(parents: &HashMap<u32, Vec<u32>>, direct: &[u32]) -> HashMap<u32, Vec<u32>> {
        let mut best: HashMap<u32, Vec<u32>> = HashMap::new();
        let mut open: Vec<Vec<u32>> = direct.iter().map(|&start| vec![start]).collect();
        while let Some(path) = open.pop() {
            for &parent in parents.get(path.last().unwrap()).into_iter().flatten() {
                if path.contains(&parent) {
                    continue;
                }
                let better = best
                    .get(&parent)
                    .is_none_or(|known| (path.len(), &path) < (known.len(), known));
                if better {
                    best.insert(parent, path.clone());
                }
                let mut longer = path.clone();
                longer.push(parent);
                open.push(longer);
            }
        }
        best
    }

    proptest! {
        #[test]
        fn every_path_is_the_best_of_all_paths(
            edges in proptest::collection::vec((0_u32..7, 0_u32..7), 0..14),
            direct in proptest::collection::btree_set(0_u32..7, 0..4),
        ) {
            let parents = graph(&edges.into_iter().filter(|(a, b)| a != b).collect::<Vec<_>>());
            let direct: Vec<u32> = direct.into_iter().collect();
            let (closures, _) = Closures::build(&parents, (0..7).collect(), &Limits::default());
            let found: HashMap<u32, Vec<u32>> = paths(&closures, &direct).into_iter().collect();
            prop_assert_eq!(found, naive(&parents, &direct));
        }
    }
}
