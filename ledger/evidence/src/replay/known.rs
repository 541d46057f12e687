//! From where on a log can have records of a type: a log that goes on under newer services has none of theirs before, and what they
//! would have told is not missing there.

use prost::Message as _;
use prost_types::FileDescriptorSet;

use super::state::{Pos, State};
use super::{Blobs, CLOCK_SKEW_MS};
use crate::catalogue::RECORD_TYPES;
use crate::{DESCRIPTOR_SET, schema_hash};

/// The package of the records.
const PACKAGE: &str = "counterfoil.evidence.v1";

/// From where on a type of record is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// The first schema of the log has it.
    Always,
    /// From a place on, and the time at which the log had that.
    From(Pos, i64),
    Never,
}

impl Known {
    /// From the first schema on that the log registers with the type, or the first record of it.
    pub(super) fn of(state: &State, blobs: &dyn Blobs, name: &str) -> Self {
        let mut registered = state.schemas_registered.iter().enumerate();
        let with_it = registered.find(|(_, (_, hash))| has(hash, blobs, name));
        if let Some((0, _)) = with_it {
            return Self::Always;
        }
        let is_one = |kind: u8| {
            let known = RECORD_TYPES.get(usize::from(kind));
            known.is_some_and(|known| known.name == name)
        };
        let mut metas = (0..).zip(&state.metas);
        let first = metas.find(|(_, meta)| is_one(meta.kind));
        let places = with_it.map(|(_, (pos, _))| *pos).into_iter();
        let places = places.chain(first.map(|(pos, _)| pos));
        match places.min() {
            Some(pos) => Self::From(pos, state.recorded_ms(pos)),
            None => Self::Never,
        }
    }

    /// Whether what stands at a place was told by services that know the type. What waited to be told when they came is of those before
    /// them.
    pub(super) fn at(self, state: &State, pos: Pos) -> bool {
        match self {
            Self::Always => true,
            Self::From(first, recorded_ms) => {
                let settled_ms = recorded_ms.saturating_add(CLOCK_SKEW_MS);
                first <= pos && settled_ms < state.recorded_ms(pos)
            }
            Self::Never => false,
        }
    }
}

/// Whether a schema has a type. One that is not in the bundle says nothing, and P6 tells so.
fn has(hash: &[u8], blobs: &dyn Blobs, name: &str) -> bool {
    if hash == schema_hash() {
        return defines(DESCRIPTOR_SET, name);
    }
    let set = <&[u8; 32]>::try_from(hash).ok();
    let set = set.and_then(|hash| blobs.load(hash));
    set.is_some_and(|set| defines(&set, name))
}

fn defines(descriptor_set: &[u8], name: &str) -> bool {
    let set = FileDescriptorSet::decode(descriptor_set).unwrap_or_default();
    let mut files = set.file.iter().filter(|file| file.package() == PACKAGE);
    files.any(|file| file.message_type.iter().any(|one| one.name() == name))
}
