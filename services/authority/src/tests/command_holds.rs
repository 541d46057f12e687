//! What may be asked about what must not go, and for how long anything is kept.

use proptest::prelude::*;

use super::command::{Nth, nth};

/// The retention classes there are.
pub(super) const CLASSES: [&str; 2] = ["governance", "operations"];
/// For how many days the first of them is kept as a tenant begins; the other one is not named.
pub(super) const AT_FIRST: Days = Days([3_650, 0]);

/// For how many days each of [`CLASSES`] is kept; 0: it is not named.
#[derive(Debug, Clone, Copy)]
pub(super) struct Days(pub(super) [u32; CLASSES.len()]);

impl Days {
    /// The classes that are named.
    pub(super) fn of_classes(self) -> impl Iterator<Item = (&'static str, u32)> {
        let all = CLASSES.into_iter().zip(self.0);
        all.filter(|(_, days)| *days > 0)
    }
}

/// Something about what must not go.
#[derive(Debug, Clone)]
pub(super) enum HoldAct {
    /// On one of [`CLASSES`]; `None`: on the whole log.
    Place(Option<&'static str>),
    Release(Nth),
    /// A retention policy.
    Keep(Days),
}

impl HoldAct {
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Place(_) => "place a hold",
            Self::Release(_) => "release a hold",
            Self::Keep(_) => "say how long to keep",
        }
    }
}

pub(super) fn hold_act() -> impl Strategy<Value = HoldAct> {
    let class = prop::option::of(prop::sample::select(&CLASSES[..]));
    let years = || prop::sample::select(vec![0_u32, 1, 10, 11]);
    let days = (years(), years()).prop_map(|(first, other)| Days([first * 365, other * 365]));
    prop_oneof![
        3 => class.prop_map(HoldAct::Place),
        3 => nth().prop_map(HoldAct::Release),
        4 => days.prop_map(HoldAct::Keep),
    ]
}
