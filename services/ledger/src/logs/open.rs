//! What was open in logs when their last epochs were sealed: as much of it as is remembered, because reading it again takes the whole log.

use std::collections::HashMap;

use counterfoil_engine::{EntryFilter, Log};
use counterfoil_evidence::v1::{ObligationBreached, ObligationDischarged, ObligationOpened};
use prost::Name as _;

use super::{PAGE, read};
use crate::error::LedgerError;
use crate::model::epoch::OpenObligations;

/// As how many obligations a log counts that has none.
pub(super) const LOG: usize = 16;

/// What is open in logs, of which that is dropped first which was not asked for for the longest time: it can be worked out again.
#[derive(Debug)]
pub(super) struct Opens {
    /// Obligations of all logs together.
    most: usize,
    /// How often something was kept.
    times: u64,
    /// By tenants; each with the time when it was kept.
    logs: HashMap<String, (u64, Open)>,
}

impl Opens {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            times: 0,
            logs: HashMap::new(),
        }
    }

    /// What is remembered of a log; whoever has taken it keeps it again when it is done.
    pub(super) fn take(&mut self, tenant: &str) -> Option<Open> {
        self.logs.remove(tenant).map(|(_, open)| open)
    }

    /// Remembers what is open in a log, if there is room for it.
    pub(super) fn keep(&mut self, tenant: &str, open: Open) {
        self.times += 1;
        self.logs.insert(tenant.to_owned(), (self.times, open));
        let all = self.logs.values();
        let mut held: usize = all.map(|(_, open)| open.counts()).sum();
        while held > self.most {
            let logs = self.logs.iter();
            let Some((oldest, _)) = logs.min_by_key(|(_, (kept, _))| *kept) else {
                return;
            };
            let oldest = oldest.clone();
            held -= self.take(&oldest).map_or(0, |open| open.counts());
        }
    }
}

/// The obligations that are open below a size: what was opened and neither discharged nor breached.
#[derive(Debug, Default)]
pub(super) struct Open {
    pub(super) size: u64,
    pub(super) obligations: OpenObligations,
}

impl Open {
    /// As how many obligations it counts.
    fn counts(&self) -> usize {
        LOG + self.obligations.len()
    }

    /// Goes on up to a size.
    pub(super) async fn read_on(&mut self, log: &Log, size: u64) -> Result<(), LedgerError> {
        // Opened ones first: an obligation is closed by a later record, and its id never comes again.
        for record_type in [
            ObligationOpened::full_name(),
            ObligationDischarged::full_name(),
            ObligationBreached::full_name(),
        ] {
            let filter = EntryFilter {
                record_type: Some(record_type),
                ..EntryFilter::default()
            };
            let mut from = self.size;
            loop {
                let page = log.list(&filter, from, size, PAGE).await?;
                let Some(last) = page.last() else { break };
                from = last.index + 1;
                for entry in &page {
                    self.obligations.take(&read(entry)?.1, entry.record_hash);
                }
            }
        }
        self.size = self.size.max(size);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use counterfoil_evidence::catalogue::Payload;

    use super::*;

    /// A log of so many entries, and as many open obligations.
    fn open(size: u8) -> Open {
        let mut open = Open {
            size: size.into(),
            ..Open::default()
        };
        for id in 0..size {
            let opened = ObligationOpened {
                obligation: vec![id; 16],
                ..Default::default()
            };
            open.obligations
                .take(&Payload::ObligationOpened(opened), [1; 32]);
        }
        open
    }

    #[test]
    fn what_was_not_asked_for_for_the_longest_time_goes_first() {
        let mut opens = Opens::new(3 * LOG + 6);
        for tenant in ["a", "b", "c"] {
            opens.keep(tenant, open(2));
        }
        let first = opens.take("a").unwrap();
        assert_eq!(first.size, 2);
        opens.keep("a", first);
        opens.keep("d", open(2));
        let left = |opens: &Opens| {
            let mut left: Vec<String> = opens.logs.keys().cloned().collect();
            left.sort_unstable();
            left.concat()
        };
        assert_eq!(left(&opens), "acd");
        // What grows takes the room of others.
        opens.keep("d", open(3));
        assert_eq!(left(&opens), "ad");
        // And where it is too much alone, nothing is held.
        opens.keep("e", open(200));
        assert_eq!(left(&opens), "");
    }
}
