//! Tiles and entry bundles ([c2sp.org/tlog-tiles]): how a log lies in files behind any HTTP server.
//!
//! Invariants:
//! - [`TilePath::parse`] accepts one path per tile: `TilePath::parse(p)?.to_string() == p`.
//! - Hash `i` of tile `(level, index)` is the root over `256^level` leaves from leaf `(index * 256 + i) * 256^level` on; only
//!   complete subtrees are in tiles, so a partial tile is a prefix of the full one.
//! - Decoders take the exact number of hashes or entries and nothing after them.
//!
//! Not here: fetching, caching, pruning. What is read from tiles is verified through the proofs made of it.
//!
//! [c2sp.org/tlog-tiles]: https://c2sp.org/tlog-tiles

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

use crate::decimal;
use crate::hash::{HASH_BYTES, Hash};
use crate::merkle::{self, HashReader, MerkleError};

/// The number of hashes in a full tile, and of entries in a full bundle.
pub const TILE_WIDTH: u16 = 256;
/// The longest entry, because its length is written in 16 bits.
pub const ENTRY_BYTES_MAX: usize = 65_535;

/// The levels of the tree between two levels of tiles.
const TILE_HEIGHT: u8 = 8;
const WIDTH: u64 = TILE_WIDTH as u64;
/// The specification's limit; a tree of 64-bit size has no tile above level 7.
const LEVEL_MAX: u64 = 63;

/// Why a path or the content of a tile is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TileError {
    /// The path is not the canonical path of a tile or bundle.
    #[error("malformed tile path {0:?}")]
    Path(String),
    /// The content is not exactly as long as the width says.
    #[error("a tile of width {width} has {expected} bytes, not {found}")]
    TileLength {
        /// The width of the tile.
        width: u16,
        /// Its only possible length.
        expected: usize,
        /// The length found.
        found: usize,
    },
    /// A bundle ends inside an entry.
    #[error("the bundle ends before entry {at} of {width} does")]
    BundleShort {
        /// The position in the bundle of the entry that is cut off.
        at: u16,
        /// The width of the bundle.
        width: u16,
    },
    /// Bytes follow the last entry of a bundle.
    #[error("{0} bytes follow the last entry of the bundle")]
    BundleTrailing(usize),
    /// An entry is too long for a bundle.
    #[error("an entry has {0} bytes, more than 65,535")]
    EntryTooLong(usize),
    /// The width is not 1 to 256.
    #[error("no tile has width {0}")]
    Width(usize),
    /// A hash that belongs into a tile is not available.
    #[error(transparent)]
    Hashes(#[from] MerkleError),
}

/// What a tile holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TileKind {
    /// The entries themselves.
    Entries,
    /// Hashes of subtrees of `256^level` leaves.
    Hashes {
        /// 0 for the tile of leaf hashes.
        level: u8,
    },
}

/// The place of a tile or entry bundle. `Display` is its path below the log's prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TilePath {
    kind: TileKind,
    index: u64,
    width: u16,
}

impl TilePath {
    /// A hash tile; the width is 1 to 256 and the level at most 63.
    pub fn hashes(level: u8, index: u64, width: u16) -> Result<Self, TileError> {
        if u64::from(level) > LEVEL_MAX {
            return Err(TileError::Path(format!("level {level}")));
        }
        Self::new(TileKind::Hashes { level }, index, width)
    }

    /// An entry bundle; the width is 1 to 256.
    pub fn entries(index: u64, width: u16) -> Result<Self, TileError> {
        Self::new(TileKind::Entries, index, width)
    }

    fn new(kind: TileKind, index: u64, width: u16) -> Result<Self, TileError> {
        if !(1..=TILE_WIDTH).contains(&width) {
            return Err(TileError::Width(usize::from(width)));
        }
        Ok(Self { kind, index, width })
    }

    /// The widest tile at this place in a log of `size` entries; `None` if it would be empty.
    #[must_use]
    pub fn in_log(kind: TileKind, index: u64, size: u64) -> Option<Self> {
        let before = index.checked_mul(WIDTH)?;
        let available = hashes_at(level_of(kind), size).checked_sub(before)?;
        let width = u16::try_from(available.min(WIDTH)).ok()?;
        (width > 0).then_some(Self { kind, index, width })
    }

    /// What the tile holds.
    #[must_use]
    pub fn kind(&self) -> TileKind {
        self.kind
    }

    /// The position among the tiles of its kind.
    #[must_use]
    pub fn index(&self) -> u64 {
        self.index
    }

    /// The number of hashes or entries.
    #[must_use]
    pub fn width(&self) -> u16 {
        self.width
    }

    /// Whether it is narrower than a full tile.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.width < TILE_WIDTH
    }

    /// The full tile at the same place, which may serve instead once it exists.
    #[must_use]
    pub fn full(&self) -> Self {
        Self {
            width: TILE_WIDTH,
            ..*self
        }
    }

    /// The position of its first hash or entry among those of its kind.
    #[must_use]
    pub fn start(&self) -> u64 {
        self.index.saturating_mul(WIDTH)
    }

    /// Reads a path strictly: `tile/<level or "entries">/<index>[.p/<width>]`.
    pub fn parse(path: &str) -> Result<Self, TileError> {
        Self::parse_path(path).ok_or_else(|| TileError::Path(path.to_owned()))
    }

    fn parse_path(path: &str) -> Option<Self> {
        let (kind, place) = path.strip_prefix("tile/")?.split_once('/')?;
        let kind = if kind == "entries" {
            TileKind::Entries
        } else {
            let level = decimal::parse(kind).filter(|level| *level <= LEVEL_MAX)?;
            TileKind::Hashes {
                level: u8::try_from(level).ok()?,
            }
        };
        let (index, width) = match place.split_once(".p/") {
            Some((index, width)) => {
                let width = u16::try_from(decimal::parse(width)?).ok()?;
                (
                    index,
                    Some(width).filter(|width| (1..TILE_WIDTH).contains(width))?,
                )
            }
            None => (place, TILE_WIDTH),
        };
        Some(Self {
            kind,
            index: parse_index(index)?,
            width,
        })
    }

    /// The bytes of this hash tile, from a source of subtree hashes.
    pub fn read(&self, reader: &impl HashReader) -> Result<Vec<u8>, TileError> {
        let tree_level = level_of(self.kind).saturating_mul(TILE_HEIGHT);
        let start = self.start();
        let mut bytes = Vec::with_capacity(usize::from(self.width) * HASH_BYTES);
        for offset in 0..u64::from(self.width) {
            let hash = reader.require(tree_level, start.saturating_add(offset))?;
            bytes.extend_from_slice(hash.as_bytes());
        }
        Ok(bytes)
    }
}

impl fmt::Display for TilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            TileKind::Entries => f.write_str("tile/entries/")?,
            TileKind::Hashes { level } => write!(f, "tile/{level}/")?,
        }
        let mut groups = vec![self.index % 1000];
        let mut rest = self.index / 1000;
        while rest > 0 {
            groups.push(rest % 1000);
            rest /= 1000;
        }
        for (position, group) in groups.iter().enumerate().rev() {
            if position > 0 {
                write!(f, "x{group:03}/")?;
            } else {
                write!(f, "{group:03}")?;
            }
        }
        if self.is_partial() {
            write!(f, ".p/{}", self.width)
        } else {
            Ok(())
        }
    }
}

impl std::str::FromStr for TilePath {
    type Err = TileError;

    fn from_str(path: &str) -> Result<Self, TileError> {
        Self::parse(path)
    }
}

/// Reads `x001/x234/067`: three digits a group, all but the last with an `x`, no leading group of zeros.
fn parse_index(text: &str) -> Option<u64> {
    let (leading, last) = match text.rsplit_once('/') {
        Some((leading, last)) => (Some(leading), last),
        None => (None, text),
    };
    if leading.is_some_and(|leading| leading.starts_with("x000")) {
        return None;
    }
    let mut index = 0_u64;
    for group in leading.into_iter().flat_map(|leading| leading.split('/')) {
        index = index
            .checked_mul(1000)?
            .checked_add(parse_group(group.strip_prefix('x')?)?)?;
    }
    index.checked_mul(1000)?.checked_add(parse_group(last)?)
}

fn parse_group(group: &str) -> Option<u64> {
    if group.len() != 3 || !group.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    group.parse().ok()
}

fn level_of(kind: TileKind) -> u8 {
    match kind {
        TileKind::Entries => 0,
        TileKind::Hashes { level } => level,
    }
}

/// How many hashes the tiles of a level hold in a log of `size` entries.
fn hashes_at(level: u8, size: u64) -> u64 {
    size.checked_shr(u32::from(level) * u32::from(TILE_HEIGHT))
        .unwrap_or(0)
}

/// The tiles of one kind that a log of `new_size` has and a log of `old_size` had not, or had narrower.
fn new_tiles(kind: TileKind, old_size: u64, new_size: u64) -> impl Iterator<Item = TilePath> {
    let level = level_of(kind);
    let (old, new) = (hashes_at(level, old_size), hashes_at(level, new_size));
    let end = if new > old { new.div_ceil(WIDTH) } else { 0 };
    (old / WIDTH..end).filter_map(move |index| TilePath::in_log(kind, index, new_size))
}

/// The hash tiles to publish when a log grows from `old_size` to `new_size`, lower levels first.
pub fn tiles_for(old_size: u64, new_size: u64) -> impl Iterator<Item = TilePath> {
    (0..TILE_HEIGHT)
        .flat_map(move |level| new_tiles(TileKind::Hashes { level }, old_size, new_size))
}

/// The entry bundles to publish when a log grows from `old_size` to `new_size`.
pub fn entry_bundles_for(old_size: u64, new_size: u64) -> impl Iterator<Item = TilePath> {
    new_tiles(TileKind::Entries, old_size, new_size)
}

/// The hash tile, as wide as a log of `size` entries has it, from which the subtree's hash can be computed.
#[must_use]
pub fn tile_covering(level: u8, index: u64, size: u64) -> Option<TilePath> {
    let first = index.checked_shl(u32::from(level % TILE_HEIGHT))?;
    TilePath::in_log(
        TileKind::Hashes {
            level: level / TILE_HEIGHT,
        },
        first / WIDTH,
        size,
    )
}

/// Writes the hashes of a tile.
pub fn encode_hashes(hashes: &[Hash]) -> Result<Vec<u8>, TileError> {
    if hashes.is_empty() || hashes.len() > usize::from(TILE_WIDTH) {
        return Err(TileError::Width(hashes.len()));
    }
    Ok(hashes.iter().flat_map(|hash| hash.0).collect())
}

/// Reads the hashes of a tile of this width, exactly.
pub fn decode_hashes(bytes: &[u8], width: u16) -> Result<Vec<Hash>, TileError> {
    let expected = usize::from(width) * HASH_BYTES;
    let (hashes, _) = bytes.as_chunks::<HASH_BYTES>();
    if bytes.len() != expected {
        return Err(TileError::TileLength {
            width,
            expected,
            found: bytes.len(),
        });
    }
    Ok(hashes.iter().map(|hash| Hash(*hash)).collect())
}

/// Writes an entry bundle: each entry after its length in 16 bits, big endian.
pub fn encode_entries<E: AsRef<[u8]>>(entries: &[E]) -> Result<Vec<u8>, TileError> {
    if entries.is_empty() || entries.len() > usize::from(TILE_WIDTH) {
        return Err(TileError::Width(entries.len()));
    }
    let mut bytes = Vec::new();
    for entry in entries.iter().map(AsRef::as_ref) {
        let length =
            u16::try_from(entry.len()).map_err(|_| TileError::EntryTooLong(entry.len()))?;
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(entry);
    }
    Ok(bytes)
}

/// Reads an entry bundle of this width, exactly: nothing may be missing and nothing may follow.
pub fn decode_entries(bytes: &[u8], width: u16) -> Result<Vec<&[u8]>, TileError> {
    if !(1..=TILE_WIDTH).contains(&width) {
        return Err(TileError::Width(usize::from(width)));
    }
    let mut rest = bytes;
    let mut entries = Vec::with_capacity(usize::from(width));
    for at in 0..width {
        let short = TileError::BundleShort { at, width };
        let (length, after) = rest.split_first_chunk::<2>().ok_or(short.clone())?;
        let length = usize::from(u16::from_be_bytes(*length));
        let (entry, after) = after.split_at_checked(length).ok_or(short)?;
        entries.push(entry);
        rest = after;
    }
    if !rest.is_empty() {
        return Err(TileError::BundleTrailing(rest.len()));
    }
    Ok(entries)
}

/// Subtree hashes out of the tiles of a log of one size, which `fetch` brings. Each tile is fetched once.
///
/// `fetch` gets the path at the width that the size implies; it may answer from a wider tile by cutting it.
#[derive(Debug)]
pub struct TileHashReader<F> {
    size: u64,
    fetch: F,
    fetched: RefCell<BTreeMap<TilePath, Vec<Hash>>>,
}

impl<F: Fn(&TilePath) -> Option<Vec<Hash>>> TileHashReader<F> {
    /// A reader over the tiles of a log of `size` entries.
    pub fn new(size: u64, fetch: F) -> Self {
        Self {
            size,
            fetch,
            fetched: RefCell::default(),
        }
    }
}

impl<F: Fn(&TilePath) -> Option<Vec<Hash>>> HashReader for TileHashReader<F> {
    fn subtree(&self, level: u8, index: u64) -> Option<Hash> {
        let tile = tile_covering(level, index, self.size)?;
        let mut fetched = self.fetched.borrow_mut();
        let hashes = match fetched.entry(tile) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => {
                let hashes = (self.fetch)(&tile)?;
                if hashes.len() != usize::from(tile.width()) {
                    return None;
                }
                place.insert(hashes)
            }
        };
        let spread = level % TILE_HEIGHT;
        let first = usize::try_from(index.checked_shl(u32::from(spread))? - tile.start()).ok()?;
        hashes.get(first..first + (1 << spread)).map(merkle::root)
    }
}
