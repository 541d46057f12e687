//! How much was done in how short a time, and whether what several limits allow was enough for it (I-66). Numbers alone.

use std::collections::HashMap;

/// Something that was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Done {
    pub(super) at_ms: i64,
    pub(super) amount: u64,
    /// What it is a part of: however many parts there are in a stretch, it counts once.
    pub(super) of: u32,
}

/// For each of what was done, ascending by time: how much was done in the stretch that ends with it, itself counted and what is
/// exactly as long ago as the stretch is not.
pub(super) fn within(done: &[Done], stretch_ms: i64) -> Vec<u64> {
    let (mut first, mut sum) = (0, 0_u64);
    let mut parts: HashMap<u32, u64> = HashMap::new();
    let mut sums = Vec::with_capacity(done.len());
    for one in done {
        let own = parts.entry(one.of).or_default();
        *own += 1;
        if *own == 1 {
            sum = sum.saturating_add(one.amount);
        }
        while let Some(old) = done.get(first)
            && one.at_ms.saturating_sub(old.at_ms) >= stretch_ms
        {
            let own = parts.entry(old.of).or_default();
            *own = own.saturating_sub(1);
            if *own == 0 {
                sum = sum.saturating_sub(old.amount);
            }
            first += 1;
        }
        sums.push(sum);
    }
    sums
}

/// What counts for one of several limits: any from the first to the last of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) first: usize,
    pub(super) last: usize,
    pub(super) amount: u64,
}

/// Of several stretches from a first to a last, each of which touches one at least, as many as have nothing in common: so many are
/// touched for sure.
pub(super) fn apart(mut touched: Vec<(usize, usize)>) -> Vec<(usize, usize)> {
    touched.sort_by_key(|(first, last)| (*last, *first));
    let mut found: Vec<(usize, usize)> = Vec::new();
    for (first, last) in touched {
        if found.last().is_none_or(|(_, before)| *before < first) {
            found.push((first, last));
        }
    }
    found
}

/// The shares, by their places, for which the limits are not enough, however they are spread: each limit serves first what no later
/// one can.
pub(super) fn beyond(limits: impl Iterator<Item = u64>, shares: &[Share]) -> Vec<usize> {
    let mut coming: Vec<(usize, Share)> = shares.iter().copied().enumerate().collect();
    coming.sort_by_key(|(_, share)| std::cmp::Reverse(share.first));
    let mut open: Vec<(usize, Share)> = Vec::new();
    let mut found = Vec::new();
    for (nth, mut left) in limits.enumerate() {
        while let Some(next) = coming.pop_if(|(_, share)| share.first <= nth) {
            open.push(next);
        }
        open.sort_by_key(|(_, share)| share.last);
        for (_, share) in &mut open {
            let taken = share.amount.min(left);
            share.amount -= taken;
            left -= taken;
        }
        let over = |share: &Share| share.last <= nth;
        let unserved = open
            .iter()
            .filter(|(_, share)| over(share) && share.amount > 0);
        found.extend(unserved.map(|(place, _)| *place));
        open.retain(|(_, share)| !over(share));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(times: &[i64]) -> Vec<Done> {
        let one = |(of, at_ms): (u32, &i64)| Done {
            at_ms: *at_ms,
            amount: 1,
            of,
        };
        (0..).zip(times).map(one).collect()
    }

    #[test]
    fn what_is_as_long_ago_as_the_stretch_is_counts_no_more() {
        assert_eq!(within(&done(&[0, 0, 5, 9, 10, 11]), 10), [1, 2, 3, 4, 3, 4]);
        assert_eq!(within(&[], 10), Vec::<u64>::new());
        let much = |of| Done {
            at_ms: 0,
            amount: u64::MAX,
            of,
        };
        assert_eq!(within(&[much(1), much(2)], 10), [u64::MAX; 2]);
    }

    #[test]
    fn what_is_done_in_parts_counts_once_wherever_a_part_is() {
        let part = |at_ms, of| Done {
            at_ms,
            amount: 5,
            of,
        };
        let parts = [part(0, 1), part(1, 2), part(2, 1), part(11, 3), part(20, 2)];
        assert_eq!(within(&parts, 10), [5, 10, 10, 10, 10]);
    }

    #[test]
    fn what_may_have_touched_one_for_two_times_has_touched_one() {
        assert_eq!(apart(vec![(0, 1), (1, 2)]), [(0, 1)]);
        assert_eq!(apart(vec![(2, 2), (0, 1), (0, 0)]), [(0, 0), (2, 2)]);
        assert_eq!(apart(Vec::new()), []);
    }

    fn share(first: usize, last: usize, amount: u64) -> Share {
        Share {
            first,
            last,
            amount,
        }
    }

    #[test]
    fn what_may_be_of_two_limits_uses_what_is_left_of_either() {
        let limits = || [4, 6].into_iter();
        // Exactly all that there is, whichever is told first.
        let shares = [share(0, 1, 7), share(0, 0, 3)];
        assert_eq!(beyond(limits(), &shares), Vec::<usize>::new());
        assert_eq!(beyond(limits(), &[share(0, 0, 5)]), [0]);
        assert_eq!(beyond(limits(), &[share(0, 1, 7), share(1, 1, 4)]), [1]);
        assert_eq!(beyond(limits(), &[share(0, 1, 11)]), [0]);
        assert_eq!(
            beyond(limits(), &[share(1, 1, 6), share(0, 0, 4)]),
            Vec::<usize>::new()
        );
    }
}
