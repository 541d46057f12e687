//! Accounts or entitlements of one source during a sync: native id to number, and what a grant needs of each.
//!
//! Memory is bounded by accounts and entitlements, never by grants.

use std::collections::HashMap;

use counterfoil_chassis::Database;
use counterfoil_evidence::leaf::GrantFlags;

use crate::{
    error::Result,
    model::facts::Id,
    store::{
        STILL_THERE,
        entities::{self, Kind},
    },
};

/// One account or entitlement.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    pub(super) id: Id,
    /// Over its facts: as stored until it is seen, as read afterwards.
    pub(super) digest: [u8; 32],
    pub(super) flags: GrantFlags,
    pub(super) last_seen_ms: Option<i64>,
    /// First sync of the version that the current inventory has.
    pub(super) version: Option<i64>,
    /// Whether this sync has met it.
    pub(super) seen: bool,
}

/// All of one kind.
#[derive(Debug, Default)]
pub(super) struct Directory {
    numbers: HashMap<Box<str>, u32>,
    slots: Vec<Slot>,
}

impl Directory {
    /// What the store knows of a source.
    pub(super) async fn load(
        db: &Database,
        tenant: &str,
        kind: Kind,
        source_no: i64,
    ) -> Result<Self> {
        let mut directory = Self::default();
        entities::known(db, tenant, kind, source_no, |known| {
            let number = directory.number(&known.native_id, || known.id);
            if let Some(slot) = directory.slot_mut(number) {
                slot.digest = known.digest;
                slot.last_seen_ms = known.last_seen_ms;
                slot.version = (known.gone_seq == STILL_THERE).then_some(known.first_seq);
            }
        })
        .await?;
        Ok(directory)
    }

    /// The number of a native id, given one when it is new.
    pub(super) fn number(&mut self, native_id: &str, new_id: impl FnOnce() -> Id) -> u32 {
        if let Some(&number) = self.numbers.get(native_id) {
            return number;
        }
        let number = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        self.numbers.insert(native_id.into(), number);
        self.slots.push(Slot {
            id: new_id(),
            digest: [0; 32],
            flags: GrantFlags::default(),
            last_seen_ms: None,
            version: None,
            seen: false,
        });
        number
    }

    /// The number of a native id that this sync has met.
    pub(super) fn met(&self, native_id: &str) -> Option<u32> {
        let number = *self.numbers.get(native_id)?;
        self.slot(number).filter(|slot| slot.seen).map(|_| number)
    }

    pub(super) fn slot(&self, number: u32) -> Option<&Slot> {
        self.slots.get(usize::try_from(number).ok()?)
    }

    pub(super) fn slot_mut(&mut self, number: u32) -> Option<&mut Slot> {
        self.slots.get_mut(usize::try_from(number).ok()?)
    }

    /// Versions of the current inventory that this sync has not met.
    pub(super) fn unseen(&self) -> impl Iterator<Item = (Id, i64)> {
        self.slots
            .iter()
            .filter(|slot| !slot.seen)
            .filter_map(|slot| Some((slot.id, slot.version?)))
    }

    /// The place of every number in the order of native ids.
    pub(super) fn ranks(&self) -> Vec<u32> {
        let mut ordered: Vec<(&str, u32)> = self
            .numbers
            .iter()
            .map(|(native_id, number)| (&**native_id, *number))
            .collect();
        ordered.sort_unstable();
        let mut ranks = vec![0; self.slots.len()];
        for (rank, (_, number)) in (0..).zip(ordered) {
            if let Some(place) = usize::try_from(number)
                .ok()
                .and_then(|number| ranks.get_mut(number))
            {
                *place = rank;
            }
        }
        ranks
    }

    /// The native id of a number; slow, for messages.
    pub(super) fn native_id(&self, number: u32) -> &str {
        self.numbers
            .iter()
            .find(|(_, known)| **known == number)
            .map_or("?", |(native_id, _)| native_id)
    }
}
