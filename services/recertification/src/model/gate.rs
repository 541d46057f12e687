//! The gate before a review: nobody reviews what is not fresh and complete (A26, I-20).

use super::{
    campaign::Scope,
    ids::{Source, Sync},
};

/// A source as the snapshot holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SourceReading {
    /// Which source.
    pub(crate) source: Source,
    /// Prefix of its grant keys.
    pub(crate) tag: [u8; 8],
    /// The sync that read it.
    pub(crate) sync: Sync,
    /// SHA-256 of that sync's record.
    pub(crate) sync_record_hash: [u8; 32],
    /// Root of its set.
    pub(crate) set_root: [u8; 32],
    /// Leaves of its set.
    pub(crate) set_count: u64,
    /// When reading ended, milliseconds.
    pub(crate) synced_ms: i64,
    /// Whether it may be taken for the whole source.
    pub(crate) complete: bool,
}

/// A source that the snapshot misses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MissingReading {
    /// Which source.
    pub(crate) source: Source,
    /// Why, as a code.
    pub(crate) reason: String,
}

/// Why a source keeps a campaign from being staged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GateRefusal {
    /// Which source.
    pub(crate) source: Source,
    /// "SOURCE_MISSING", "SOURCE_PARTIAL" or "SOURCE_TOO_OLD".
    pub(crate) reason: &'static str,
    /// For people.
    pub(crate) message: String,
}

/// How fresh a source in scope is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Freshness {
    /// Which source.
    pub(crate) source: Source,
    /// SHA-256 of its sync's record.
    pub(crate) sync_record_hash: [u8; 32],
    /// Its age, milliseconds.
    pub(crate) age_ms: i64,
}

/// Judges every source in scope; a source that the scope names and the snapshot does not know is missing.
///
/// A reading from the future, which only a clock that jumped can make, counts as just read.
pub(crate) fn judge(
    scope: &Scope,
    readings: &[SourceReading],
    missing: &[MissingReading],
    now_ms: i64,
    age_max_ms: i64,
) -> Result<Vec<Freshness>, Vec<GateRefusal>> {
    let mut refusals: Vec<GateRefusal> = missing
        .iter()
        .filter(|missing| scope.covers_source(&missing.source))
        .map(|missing| absent(&missing.source, &missing.reason))
        .collect();
    for source in &scope.sources {
        let known = readings.iter().any(|reading| reading.source == *source)
            || missing.iter().any(|missing| missing.source == *source);
        if !known {
            refusals.push(absent(source, "unknown"));
        }
    }
    let mut fresh = Vec::new();
    for reading in readings
        .iter()
        .filter(|one| scope.covers_source(&one.source))
    {
        let age_ms = now_ms.saturating_sub(reading.synced_ms).max(0);
        if !reading.complete {
            refusals.push(GateRefusal {
                source: reading.source.clone(),
                reason: "SOURCE_PARTIAL",
                message: format!("{}: its sync is not COMPLETE", reading.source),
            });
        } else if age_ms > age_max_ms {
            refusals.push(GateRefusal {
                source: reading.source.clone(),
                reason: "SOURCE_TOO_OLD",
                message: format!(
                    "{}: read {} s ago, the policy allows {} s",
                    reading.source,
                    age_ms / 1000,
                    age_max_ms / 1000
                ),
            });
        } else {
            fresh.push(Freshness {
                source: reading.source.clone(),
                sync_record_hash: reading.sync_record_hash,
                age_ms,
            });
        }
    }
    if refusals.is_empty() {
        Ok(fresh)
    } else {
        Err(refusals)
    }
}

fn absent(source: &Source, why: &str) -> GateRefusal {
    GateRefusal {
        source: source.clone(),
        reason: "SOURCE_MISSING",
        message: format!("{source}: missing from the snapshot ({why})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    fn reading(id: &str, synced_ms: i64, complete: bool) -> SourceReading {
        SourceReading {
            source: Source::of_id(id),
            tag: [1; 8],
            sync: Sync::of_id("s"),
            sync_record_hash: [2; 32],
            set_root: [3; 32],
            set_count: 1,
            synced_ms,
            complete,
        }
    }

    fn scope(sources: &[&str]) -> Scope {
        Scope {
            sources: sources.iter().map(|id| Source::of_id(id)).collect(),
            privileged_only: false,
            include_inherited: false,
        }
    }

    fn reasons(result: Result<Vec<Freshness>, Vec<GateRefusal>>) -> Vec<(String, &'static str)> {
        result
            .unwrap_err()
            .into_iter()
            .map(|refusal| (refusal.source.to_string(), refusal.reason))
            .collect()
    }

    #[test]
    fn a26_a_missing_source_in_scope_keeps_the_campaign_from_starting() {
        let missing = [MissingReading {
            source: Source::of_id("vault"),
            reason: "never_synced".into(),
        }];
        let readings = [reading("hr", 0, true)];
        let all = judge(&scope(&[]), &readings, &missing, HOUR, HOUR);
        assert_eq!(reasons(all), [("sources/vault".into(), "SOURCE_MISSING")]);
        let named = judge(&scope(&["vault"]), &readings, &missing, HOUR, HOUR);
        assert_eq!(reasons(named), [("sources/vault".into(), "SOURCE_MISSING")]);
        assert!(judge(&scope(&["hr"]), &readings, &missing, HOUR, HOUR).is_ok());
    }

    #[test]
    fn a_source_that_nobody_knows_is_missing() {
        let result = judge(&scope(&["typo"]), &[reading("hr", 0, true)], &[], 0, HOUR);
        assert_eq!(reasons(result), [("sources/typo".into(), "SOURCE_MISSING")]);
    }

    #[test]
    fn a_partial_or_old_reading_is_refused_and_the_limit_itself_is_allowed() {
        let partial = judge(&scope(&[]), &[reading("hr", 0, false)], &[], 0, HOUR);
        assert_eq!(reasons(partial), [("sources/hr".into(), "SOURCE_PARTIAL")]);
        let old = judge(&scope(&[]), &[reading("hr", 0, true)], &[], HOUR + 1, HOUR);
        assert_eq!(reasons(old), [("sources/hr".into(), "SOURCE_TOO_OLD")]);
        let fresh = judge(&scope(&[]), &[reading("hr", 0, true)], &[], HOUR, HOUR).unwrap();
        assert_eq!(fresh[0].age_ms, HOUR);
    }

    #[test]
    fn a_reading_from_the_future_counts_as_just_read() {
        let fresh = judge(&scope(&[]), &[reading("hr", HOUR, true)], &[], 0, HOUR).unwrap();
        assert_eq!(fresh[0].age_ms, 0);
    }
}
