//! What is known of the logs that are shown to witnesses, and what follows next from it. Pure.

use std::collections::{BTreeSet, HashMap};

use crate::model::rest::Rest;

/// Most logs that are looked up before it is looked again.
const LOGS_A_ROUND: usize = 256;

/// The logs, by their tenants.
#[derive(Debug, Default)]
pub(super) struct Known {
    shown: HashMap<String, Shown>,
    /// Those that could not be looked up.
    lost: HashMap<String, Rest>,
}

/// One log.
#[derive(Debug)]
struct Shown {
    /// The size that all witnesses are asked to cosign, because only cosignatures of one size add up; 0: none yet.
    size: u64,
    since_ms: i64,
    /// Somebody waits for it.
    is_urgent: bool,
    /// Somebody waits for a larger one.
    is_wanted: bool,
    /// The largest size that has a quorum.
    reached: u64,
    /// No witness is asked for it.
    is_private: bool,
    /// How far each witness is.
    by: Vec<By>,
}

/// How far one witness is with one log.
#[derive(Debug, Default, Clone, Copy)]
struct By {
    is_met: bool,
    cosigned: u64,
    /// The size that it is asked for just now; 0: none.
    asked: u64,
    rest: Rest,
}

/// A log of which one witness is asked for a cosignature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) tenant: String,
    pub(super) size: u64,
    /// The log was compared with what the witness shows of it.
    pub(super) is_met: bool,
}

impl Shown {
    /// Whether nobody is left who could be asked now.
    fn is_settled(&self, resting: &[bool], now_ms: i64) -> bool {
        let mut by = self.by.iter().zip(resting);
        by.all(|(by, rests)| *rests || by.cosigned >= self.size || by.rest.is_on(now_ms))
    }

    /// Whether the next size is shown. Whoever waits for it does not wait for a time, but for those who are needed for the one before.
    fn is_due(&self, size: u64, interval_ms: i64, resting: &[bool], now_ms: i64) -> bool {
        let is_over = self.reached >= self.size || self.is_settled(resting, now_ms);
        let is_old = now_ms - self.since_ms >= interval_ms;
        size > self.size && (is_old || self.is_wanted && is_over)
    }
}

impl Known {
    /// The logs of these that nobody has looked up yet, those first that somebody waits for; without those that rest because they could not be.
    pub(super) fn unknown(
        &self,
        sizes: &[(String, u64)],
        wanted: &BTreeSet<String>,
        now_ms: i64,
    ) -> Vec<String> {
        let tenants = sizes.iter().map(|(tenant, _)| tenant);
        let unknown = tenants.filter(|tenant| !self.shown.contains_key(*tenant));
        let rests = |tenant: &&String| {
            self.lost
                .get(*tenant)
                .is_some_and(|lost| lost.is_on(now_ms))
        };
        let unknown = unknown.filter(|tenant| !rests(tenant));
        let mut unknown: Vec<String> = unknown.cloned().collect();
        unknown.sort_by_key(|tenant| !wanted.contains(tenant));
        unknown.truncate(LOGS_A_ROUND);
        unknown
    }

    /// A log could not be looked up, and is left alone for a while.
    pub(super) fn lost(&mut self, tenant: &str, now_ms: i64) {
        let lost = self.lost.entry(tenant.to_owned()).or_default();
        lost.failed(now_ms);
    }

    /// Takes note of a log: whether it is shown to so many witnesses, and the size that they have cosigned.
    pub(super) fn add(&mut self, tenant: String, is_private: bool, witnesses: usize, reached: u64) {
        let shown = Shown {
            size: 0,
            since_ms: i64::MIN / 2,
            is_urgent: false,
            is_wanted: false,
            reached,
            is_private,
            by: vec![By::default(); witnesses],
        };
        self.lost.remove(&tenant);
        self.shown.entry(tenant).or_insert(shown);
    }

    pub(super) fn is_private(&self, tenant: &str) -> bool {
        self.shown.get(tenant).is_some_and(|shown| shown.is_private)
    }

    /// Chooses what is shown of each log from now on. `resting`: which of the witnesses are left alone for all logs.
    pub(super) fn choose(
        &mut self,
        sizes: &[(String, u64)],
        wanted: &BTreeSet<String>,
        interval_ms: i64,
        resting: &[bool],
        now_ms: i64,
    ) {
        for (tenant, size) in sizes {
            let Some(shown) = self.shown.get_mut(tenant).filter(|shown| !shown.is_private) else {
                continue;
            };
            if wanted.contains(tenant) {
                let waits = if *size > shown.size {
                    &mut shown.is_wanted
                } else {
                    &mut shown.is_urgent
                };
                *waits = true;
            }
            if shown.is_due(*size, interval_ms, resting, now_ms) {
                (shown.size, shown.since_ms) = (*size, now_ms);
                shown.is_urgent = std::mem::take(&mut shown.is_wanted);
            }
        }
    }

    /// At most so much of what a witness is to be asked for now: what somebody waits for first, then what has waited longest.
    pub(super) fn due(&self, witness: usize, now_ms: i64, most: usize) -> Vec<Due> {
        let due = self.shown.iter().filter_map(|(tenant, shown)| {
            let by = shown.by.get(witness)?;
            let is_due = shown.size > by.cosigned && !by.rest.is_on(now_ms);
            is_due.then_some((tenant, shown, by))
        });
        let mut due: Vec<(&String, &Shown, &By)> = due.collect();
        due.sort_by_key(|(_, shown, _)| (!shown.is_urgent, shown.since_ms));
        due.truncate(most);
        let due = due.into_iter().map(|(tenant, shown, by)| Due {
            tenant: tenant.clone(),
            size: shown.size,
            is_met: by.is_met,
        });
        due.collect()
    }

    fn by(&mut self, tenant: &str, witness: usize) -> Option<&mut By> {
        self.shown.get_mut(tenant)?.by.get_mut(witness)
    }

    /// A witness is asked for a size now.
    pub(super) fn asks(&mut self, tenant: &str, witness: usize, size: u64) {
        if let Some(by) = self.by(tenant, witness) {
            by.asked = size;
        }
    }

    /// A witness was out of reach, which says nothing of the log: it is asked for it as soon as it is asked for anything.
    pub(super) fn unanswered(&mut self, tenant: &str, witness: usize) {
        if let Some(by) = self.by(tenant, witness) {
            by.asked = 0;
        }
    }

    /// The log was compared with what the witness shows of it.
    pub(super) fn met(&mut self, tenant: &str, witness: usize) {
        if let Some(by) = self.by(tenant, witness) {
            by.is_met = true;
        }
    }

    /// A witness has answered. `Some`: it has cosigned this size; `None`: it has not, and is not asked again at once.
    pub(super) fn answered(
        &mut self,
        tenant: &str,
        witness: usize,
        cosigned: Option<u64>,
        now_ms: i64,
    ) {
        let Some(by) = self.by(tenant, witness) else {
            return;
        };
        by.asked = 0;
        match cosigned {
            Some(size) => {
                by.cosigned = size.max(by.cosigned);
                by.rest = Rest::default();
            }
            None => by.rest.failed(now_ms),
        }
    }

    /// A size has a quorum; whether that is new.
    pub(super) fn reached(&mut self, tenant: &str, size: u64) -> bool {
        let Some(shown) = self.shown.get_mut(tenant) else {
            return false;
        };
        let is_new = size > shown.reached;
        shown.reached = size.max(shown.reached);
        is_new
    }

    /// The largest size that has a quorum; 0: none.
    pub(super) fn enough(&self, tenant: &str) -> u64 {
        self.shown.get(tenant).map_or(0, |shown| shown.reached)
    }

    /// Whether nobody is left who could be asked for a log now.
    pub(super) fn is_settled(&self, tenant: &str, resting: &[bool], now_ms: i64) -> bool {
        let shown = self.shown.get(tenant);
        shown.is_some_and(|shown| shown.is_settled(resting, now_ms))
    }

    /// Cosignatures of sizes below this one will not add up any more.
    pub(super) fn oldest_asked(&self, tenant: &str) -> u64 {
        let Some(shown) = self.shown.get(tenant) else {
            return 0;
        };
        let asked = shown.by.iter().map(|by| by.asked).filter(|size| *size > 0);
        asked.min().unwrap_or(shown.size).min(shown.size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AWAKE: [bool; 2] = [false, false];
    const MINUTE_MS: i64 = 60_000;

    fn sizes(size: u64) -> Vec<(String, u64)> {
        vec![("acme".to_owned(), size)]
    }

    fn due(known: &Known, witness: usize, now_ms: i64) -> Vec<u64> {
        let due = known.due(witness, now_ms, 9);
        due.into_iter().map(|due| due.size).collect()
    }

    fn known() -> Known {
        let mut known = Known::default();
        assert_eq!(known.unknown(&sizes(5), &BTreeSet::new(), 0), ["acme"]);
        known.add("acme".to_owned(), false, 2, 0);
        assert_eq!(known.unknown(&sizes(5), &BTreeSet::new(), 0), [""; 0]);
        known
    }

    #[test]
    fn all_witnesses_are_asked_for_one_size_each_in_its_own_time() {
        let mut known = known();
        let (wanted, nobody) = (BTreeSet::from(["acme".to_owned()]), BTreeSet::new());
        known.choose(&sizes(5), &nobody, MINUTE_MS, &AWAKE, 1000);
        assert_eq!(
            (due(&known, 0, 1000), due(&known, 1, 1000)),
            (vec![5], vec![5])
        );
        known.asks("acme", 1, 5);
        known.answered("acme", 0, Some(5), 1100);
        // The other one is needed for this size: who waits for more waits for it.
        known.choose(&sizes(9), &wanted, MINUTE_MS, &AWAKE, 2000);
        assert_eq!(
            (due(&known, 0, 2000), due(&known, 1, 2000)),
            (vec![], vec![5])
        );
        assert!(!known.is_settled("acme", &AWAKE, 2000));
        // It is not, or it is left alone: whoever waits is not forgotten.
        known.choose(&sizes(9), &nobody, MINUTE_MS, &[false, true], 2500);
        assert_eq!(due(&known, 0, 2500), [9]);
        assert_eq!(known.oldest_asked("acme"), 5);
        known.answered("acme", 1, Some(5), 2600);
        assert!(known.reached("acme", 5) && !known.reached("acme", 5));
        assert_eq!((known.oldest_asked("acme"), known.enough("acme")), (9, 5));
        known.answered("acme", 0, Some(9), 2700);
        known.answered("acme", 1, Some(9), 2700);
        assert!(known.is_settled("acme", &AWAKE, 2700));
        assert_eq!(
            (due(&known, 0, 2700), due(&known, 1, 2700)),
            (vec![], vec![])
        );
    }

    #[test]
    fn who_waits_for_what_one_witness_is_enough_for_does_not_wait_for_the_other() {
        let mut known = known();
        let (wanted, nobody) = (BTreeSet::from(["acme".to_owned()]), BTreeSet::new());
        known.choose(&sizes(5), &nobody, MINUTE_MS, &AWAKE, 1000);
        known.asks("acme", 1, 5);
        known.answered("acme", 0, Some(5), 1100);
        known.reached("acme", 5);
        known.choose(&sizes(9), &nobody, MINUTE_MS, &AWAKE, 2000);
        assert_eq!(due(&known, 0, 2000), [0; 0]);
        known.choose(&sizes(9), &wanted, MINUTE_MS, &AWAKE, 2000);
        assert_eq!(due(&known, 0, 2000), [9]);
        // Nobody waits, and it is time.
        known.choose(&sizes(12), &nobody, MINUTE_MS, &AWAKE, 62_000);
        assert_eq!(due(&known, 0, 62_000), [12]);
    }

    #[test]
    fn who_failed_rests_for_this_log() {
        let mut known = known();
        known.choose(&sizes(5), &BTreeSet::new(), MINUTE_MS, &AWAKE, 1000);
        known.answered("acme", 0, None, 1000);
        assert_eq!(
            (due(&known, 0, 1100), due(&known, 1, 1100)),
            (vec![], vec![5])
        );
        assert_eq!(due(&known, 0, 6000), [5]);
        known.add("beta".to_owned(), true, 2, 0);
        let both = [("acme".to_owned(), 5), ("beta".to_owned(), 5)];
        known.choose(&both, &BTreeSet::new(), MINUTE_MS, &AWAKE, 9000);
        assert!(known.is_private("beta") && !known.is_private("acme"));
        assert_eq!(due(&known, 1, 9000), [5]);
    }

    #[test]
    fn a_log_that_cannot_be_looked_up_rests_ever_longer() {
        let (mut known, nobody) = (Known::default(), BTreeSet::new());
        let mut now_ms = 0;
        for seconds in [5, 10, 20, 40] {
            assert_eq!(known.unknown(&sizes(5), &nobody, now_ms), ["acme"]);
            known.lost("acme", now_ms);
            now_ms += seconds * 1000;
            assert_eq!(known.unknown(&sizes(5), &nobody, now_ms - 1), [""; 0]);
        }
        known.add("acme".to_owned(), false, 2, 0);
        assert!(known.lost.is_empty());
    }

    #[test]
    fn a_witness_that_is_out_of_reach_lets_no_log_rest() {
        let mut known = known();
        known.choose(&sizes(5), &BTreeSet::new(), MINUTE_MS, &AWAKE, 1000);
        known.asks("acme", 0, 5);
        known.unanswered("acme", 0);
        assert_eq!(due(&known, 0, 1000), [5]);
        known.choose(&sizes(9), &BTreeSet::new(), MINUTE_MS, &AWAKE, 90_000);
        assert_eq!(known.oldest_asked("acme"), 9, "nobody is asked for less");
    }
}
