//! What changed between the current inventory and what was read: one step of a merge join over two ascending sequences.

use std::cmp::Ordering;

use super::sorting::KEY_BYTES;

/// A grant of the current inventory, as the join needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Current {
    /// Key without the source tag.
    pub key: [u8; KEY_BYTES],
    /// Since which sync this version of it is there.
    pub first_seq: i64,
    /// Flags as sealed.
    pub flags: u16,
    /// Value as sealed.
    pub value: [u8; 32],
    /// When it was last used.
    pub last_used_ms: Option<i64>,
}

/// What was read, as the join needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observed {
    /// Key without the source tag.
    pub key: [u8; KEY_BYTES],
    /// Flags to be sealed.
    pub flags: u16,
    /// Value to be sealed.
    pub value: [u8; 32],
    /// When it was last used.
    pub last_used_ms: Option<i64>,
}

/// Which side comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Only the current inventory has it: it is gone.
    Removed,
    /// Only what was read has it: it is new.
    Added,
    /// Both have it, and its leaf differs.
    Changed,
    /// Both have it, and only its last use differs.
    Used,
    /// Both have it, alike.
    Same,
}

/// Compares the heads of both sides. `None`: both have ended.
#[must_use]
pub fn step(current: Option<&Current>, observed: Option<&Observed>) -> Option<Step> {
    let (current, observed) = match (current, observed) {
        (None, None) => return None,
        (Some(_), None) => return Some(Step::Removed),
        (None, Some(_)) => return Some(Step::Added),
        (Some(current), Some(observed)) => (current, observed),
    };
    Some(match current.key.cmp(&observed.key) {
        Ordering::Less => Step::Removed,
        Ordering::Greater => Step::Added,
        Ordering::Equal if (current.flags, current.value) != (observed.flags, observed.value) => {
            Step::Changed
        }
        Ordering::Equal if current.last_used_ms != observed.last_used_ms => Step::Used,
        Ordering::Equal => Step::Same,
    })
}

/// How much changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ChangeCounts {
    /// Appeared.
    pub added: u64,
    /// Differ.
    pub changed: u64,
    /// Went away.
    pub removed: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn current(key: u8, value: u8, used: i64) -> Current {
        Current {
            key: [key; KEY_BYTES],
            first_seq: 1,
            flags: 0,
            value: [value; 32],
            last_used_ms: Some(used),
        }
    }

    fn observed(key: u8, value: u8, used: i64) -> Observed {
        Observed {
            key: [key; KEY_BYTES],
            flags: 0,
            value: [value; 32],
            last_used_ms: Some(used),
        }
    }

    #[test]
    fn each_step_says_what_happened_to_the_lower_key() {
        let at = |current: Option<Current>, observed: Option<Observed>| {
            step(current.as_ref(), observed.as_ref())
        };
        assert_eq!(at(None, None), None);
        assert_eq!(at(Some(current(1, 0, 0)), None), Some(Step::Removed));
        assert_eq!(at(None, Some(observed(1, 0, 0))), Some(Step::Added));
        assert_eq!(
            at(Some(current(1, 0, 0)), Some(observed(2, 0, 0))),
            Some(Step::Removed)
        );
        assert_eq!(
            at(Some(current(2, 0, 0)), Some(observed(1, 0, 0))),
            Some(Step::Added)
        );
        assert_eq!(
            at(Some(current(1, 0, 0)), Some(observed(1, 1, 0))),
            Some(Step::Changed)
        );
        assert_eq!(
            at(Some(current(1, 0, 0)), Some(observed(1, 0, 1))),
            Some(Step::Used)
        );
        assert_eq!(
            at(Some(current(1, 0, 0)), Some(observed(1, 0, 0))),
            Some(Step::Same)
        );
    }
}
