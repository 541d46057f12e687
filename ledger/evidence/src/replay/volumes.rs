//! How much was done in how short a time, and whether what several limits allow was enough for it (I-66). Numbers alone.

/// Something that was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Done {
    pub(super) at_ms: i64,
    pub(super) amount: u64,
}

/// For each of what was done, ascending by time: how much was done in the stretch that ends with it, itself counted and what is
/// exactly as long ago as the stretch is not.
pub(super) fn within(done: &[Done], stretch_ms: i64) -> Vec<u64> {
    let (mut first, mut sum) = (0, 0_u64);
    let mut sums = Vec::with_capacity(done.len());
    for one in done {
        sum = sum.saturating_add(one.amount);
        while let Some(old) = done.get(first)
            && one.at_ms.saturating_sub(old.at_ms) >= stretch_ms
        {
            sum = sum.saturating_sub(old.amount);
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
        let one = |at_ms: &i64| Done {
            at_ms: *at_ms,
            amount: 1,
        };
        times.iter().map(one).collect()
    }

    #[test]
    fn what_is_as_long_ago_as_the_stretch_is_counts_no_more() {
        assert_eq!(within(&done(&[0, 0, 5, 9, 10, 11]), 10), [1, 2, 3, 4, 3, 4]);
        assert_eq!(within(&[], 10), Vec::<u64>::new());
        let much = Done {
            at_ms: 0,
            amount: u64::MAX,
        };
        assert_eq!(within(&[much, much], 10), [u64::MAX; 2]);
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
