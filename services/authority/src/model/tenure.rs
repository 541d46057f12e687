//! Who answers for a business unit, and since when (A6, I-12).
//!
//! Invariant: from a unit's first tenure on, every instant has exactly one. A tenure is stored by its start alone and ends
//! where the next one starts, so tenures can neither overlap nor leave a gap.

use super::{
    Faults, RecordHash,
    ids::{BusinessUnitId, PrincipalId},
    text,
};

/// A time in which one human answered for a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tenure {
    pub(crate) business_unit: BusinessUnitId,
    pub(crate) from_ms: i64,
    pub(crate) owner: PrincipalId,
    /// Who stands in.
    pub(crate) deputy: Option<PrincipalId>,
    /// Name of the unit, for people; may be empty.
    pub(crate) display_name: String,
    /// Of the record that set it.
    pub(crate) record_hash: RecordHash,
}

/// When a tenure starts that is set now, after one that started at `last_from_ms`. A clock that stands still or was set
/// back does not make two tenures start at once, nor the newer one before the older.
pub(crate) fn start_ms(last_from_ms: Option<i64>, now_ms: i64) -> i64 {
    last_from_ms.map_or(now_ms, |last| now_ms.max(last.saturating_add(1)))
}

/// Checks what a unit is said to be.
pub(crate) fn check_unit(
    display_name: &str,
    owner: &PrincipalId,
    deputy: Option<&PrincipalId>,
) -> Result<(), Faults> {
    let mut faults = Faults::default();
    let good_name = display_name.is_empty() || text::is_name(display_name);
    faults.require(good_name, "display_name", text::NAME);
    faults.require(
        deputy != Some(owner),
        "deputy",
        "must be another principal than the owner",
    );
    faults.or(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::principal::tests::customer_human;

    /// The tenures that come of owners set at these moments, by a clock that may also go back.
    fn starts(moments: &[i64]) -> Vec<i64> {
        let mut starts: Vec<i64> = Vec::new();
        for now_ms in moments {
            starts.push(start_ms(starts.last().copied(), *now_ms));
        }
        starts
    }

    proptest! {
        #[test]
        fn a6_tenures_tile_the_time_without_gap_or_overlap(
            moments in prop::collection::vec(-50_i64..50, 1..40),
            instant in -60_i64..200,
        ) {
            let starts = starts(&moments);
            let ends = starts.iter().skip(1).copied().chain([i64::MAX]);
            let holding = starts.iter().zip(ends).filter(|(from, to)| **from <= instant && instant < *to);
            prop_assert_eq!(holding.count(), usize::from(instant >= starts[0]));
        }

        #[test]
        fn the_newest_owner_is_the_present_one_whatever_the_clock_did(
            moments in prop::collection::vec(-50_i64..50, 1..40),
        ) {
            let starts = starts(&moments);
            prop_assert!(starts.windows(2).all(|pair| pair[0] < pair[1]));
            prop_assert!(starts.iter().zip(&moments).all(|(start, moment)| start >= moment));
        }
    }

    #[test]
    fn an_owner_does_not_stand_in_for_itself() {
        let ada = customer_human("ada");
        let ben = customer_human("ben");
        assert!(check_unit("Sales", &ada.id, Some(&ada.id)).is_err());
        assert!(check_unit("Sales", &ada.id, Some(&ben.id)).is_ok());
        assert!(check_unit("", &ada.id, None).is_ok());
    }
}
