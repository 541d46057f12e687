//! The newest states of the logs that are written: as many as the memory for them holds.

use std::collections::HashMap;
use std::sync::Arc;

use crate::LogId;
use crate::state::LogState;

/// States by log, in two halves: those that were used since the halves were changed last, and those that were used before it. When the first
/// half is full it becomes the second, and what was not used for so long is forgotten. So what is used often stays, whatever else comes by.
#[derive(Debug)]
pub(super) struct States {
    recent: HashMap<LogId, Arc<LogState>>,
    before: HashMap<LogId, Arc<LogState>>,
    /// What the first half takes.
    recent_bytes: usize,
    /// What each half may take. One state is kept whatever it takes.
    half_bytes: usize,
}

impl States {
    /// Takes about so many bytes at most.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            recent: HashMap::new(),
            before: HashMap::new(),
            recent_bytes: 0,
            half_bytes: bytes_max / 2,
        }
    }

    /// The state of a log, which is used now.
    pub(super) fn get(&mut self, log: LogId) -> Option<Arc<LogState>> {
        if let Some(state) = self.recent.get(&log) {
            return Some(Arc::clone(state));
        }
        let state = self.before.remove(&log)?;
        self.insert(Arc::clone(&state));
        Some(state)
    }

    /// Keeps the state of a log instead of an older one.
    pub(super) fn insert(&mut self, state: Arc<LogState>) {
        let log = state.info.id;
        self.remove(log);
        let bytes = state.bytes();
        if self.recent_bytes + bytes > self.half_bytes {
            self.before = std::mem::take(&mut self.recent);
            self.recent_bytes = 0;
        }
        self.recent_bytes += bytes;
        self.recent.insert(log, state);
    }

    /// Forgets the state of a log.
    pub(super) fn remove(&mut self, log: LogId) {
        if let Some(old) = self.recent.remove(&log) {
            self.recent_bytes -= old.bytes();
        }
        self.before.remove(&log);
    }
}

#[cfg(test)]
mod tests {
    use counterfoil_tlog::merkle::Frontier;
    use counterfoil_tlog::{Hash, NoteSigner};

    use super::*;
    use crate::LogInfo;
    use crate::state::TileEdge;

    /// The state of a log without entries.
    fn state(log: i64) -> Arc<LogState> {
        let signer = NoteSigner::from_seed("log", &[7; 32]).unwrap();
        let info = LogInfo {
            id: LogId(log),
            tenant: String::new(),
            origin: String::new(),
            vkey: signer.verifier_key().clone(),
            registrar: signer.verifier_key().clone(),
        };
        let frontier = Frontier::new();
        Arc::new(LogState {
            info: Arc::new(info),
            signer: Arc::new(signer),
            size: 0,
            root: frontier.root(),
            checkpoint: "".into(),
            recorded_at_ms: 0,
            last_leaf: Hash([0; 32]),
            frontier,
            edge: TileEdge::default(),
            bundle: Vec::new(),
            streams: std::collections::BTreeMap::new(),
            keys: Arc::default(),
        })
    }

    fn known(states: &States) -> Vec<i64> {
        let logs = states.recent.keys().chain(states.before.keys());
        let mut logs: Vec<i64> = logs.map(|log| log.0).collect();
        logs.sort_unstable();
        logs
    }

    #[test]
    fn what_is_used_stays_and_what_is_not_goes() {
        let mut states = States::new(state(0).bytes() * 8);
        for log in 0..1000 {
            states.insert(state(log));
            assert!(states.get(LogId(0)).is_some(), "at {log}");
            let count = states.recent.len() + states.before.len();
            assert!(count <= 8, "{count} at {log}");
        }
        assert!(states.get(LogId(1)).is_none());
        assert!(states.get(LogId(999)).is_some());
    }

    #[test]
    fn a_log_has_one_state_and_takes_its_place_once() {
        let mut states = States::new(state(0).bytes() * 8);
        for _ in 0..100 {
            states.insert(state(1));
            states.insert(state(2));
        }
        assert_eq!(known(&states), [1, 2]);
        assert_eq!(states.recent_bytes, state(0).bytes() * 2);
        states.remove(LogId(1));
        assert_eq!(
            (known(&states), states.recent_bytes),
            (vec![2], state(0).bytes())
        );
        for log in 3..7 {
            states.insert(state(log));
        }
        // From the second half too.
        states.remove(LogId(2));
        assert!(states.get(LogId(2)).is_none());
    }

    #[test]
    fn a_state_that_takes_more_than_there_is_is_kept_alone() {
        let mut states = States::new(1);
        states.insert(state(1));
        assert!(states.get(LogId(1)).is_some());
        states.insert(state(2));
        states.insert(state(3));
        assert_eq!(known(&states), [2, 3]);
    }
}
