//! The tree: entries, tiles of leaf hashes, upper tiles and root say the same (S1, S2, S3, S7, S8), and nothing was pruned (S11).

use counterfoil_tlog::Checkpoint;
use counterfoil_tlog::hash::Hash;
use counterfoil_tlog::merkle;
use counterfoil_tlog::tile::{
    TILE_WIDTH, TileHashReader, TileKind, TilePath, decode_entries, tiles_for,
};

use crate::bundle::{BundleReader, path};
use crate::check::{Check, Finder};
use crate::log::Trees;
use crate::work::read_hashes;

/// Judges the tree of a log that was read.
pub(crate) fn judge(
    bundle: &BundleReader,
    said: &Checkpoint,
    trees: &Trees,
    mut s7: Finder,
    whole: bool,
) -> Vec<Check> {
    let mut s1 = Finder::new(
        "S1",
        &[],
        "every entry has the leaf hash that the tree has for it",
    );
    let mut s2 = Finder::new(
        "S2",
        &[],
        "every hash tile recomputes from what is below it",
    );
    let mut s3 = Finder::new("S3", &[], "the root over the entries is the checkpoint's");
    let mut s8 = Finder::new(
        "S8",
        &[],
        "every partial tile is the beginning of the wider one",
    );
    if whole {
        leaves(said, trees, &mut s1, &mut s2, &mut s3);
        // Only a log that was read has as many tiles as it says.
        s2.note(format!("{} tiles", tiles_for(0, said.size).count()));
    } else {
        for finder in [&mut s1, &mut s3] {
            finder.skip("the log could not be read to its end");
        }
    }
    upper_tiles(bundle, said, trees, &mut s2, &mut s7);
    surplus(bundle, said, &mut s7, &mut s8);
    s1.note(format!("{} entries", said.size));
    s3.note(said.root.to_base64());
    s7.note(format!("{} files", bundle.files_below(path::LOG).count()));
    let s11 = pruned(bundle, said);
    [s1, s2, s3, s7, s8, s11].map(Finder::finish).to_vec()
}

/// Pruning is refused: no record lets the beginning of a log go, so none may be missing.
fn pruned(bundle: &BundleReader, said: &Checkpoint) -> Finder {
    let mut s11 = Finder::new(
        "S11",
        &[],
        "nothing was pruned: the log begins with its first entry",
    );
    if said.size == 0 {
        s11.note("the log is empty");
        return s11;
    }
    // Asked of what is there, and not of what the checkpoint says should be: that may be any number.
    let is_there = |tile: &TilePath| bundle.size(&format!("{}{tile}", path::LOG)).is_some();
    let first = TilePath::in_log(TileKind::Entries, 0, said.size);
    if !first.is_some_and(|first| is_there(&first)) {
        let hashes = TilePath::in_log(TileKind::Hashes { level: 0 }, 0, said.size);
        let proved = match hashes.is_some_and(|hashes| is_there(&hashes)) {
            true => "",
            false => ", nor are their hashes",
        };
        s11.fail(format!(
            "the first entries are not there{proved}: this needs a logged policy and a logged record of it, and this release knows of none"
        ));
        return s11;
    }
    s11.note("entry 0 is there");
    s11
}

/// The root that a log had at a smaller size, over tiles that are judged by themselves.
pub(crate) fn root_at(bundle: &BundleReader, size: u64, at: u64) -> Option<Hash> {
    if at > size {
        return None;
    }
    let tiles = TileHashReader::new(size, |tile: &TilePath| {
        read_hashes(bundle, tile.kind(), tile.index(), size).ok()
    });
    merkle::root_from(&tiles, at).ok()
}

/// Where entries and tiles disagree, the signed root tells which of them is wrong.
fn leaves(said: &Checkpoint, trees: &Trees, s1: &mut Finder, s2: &mut Finder, s3: &mut Finder) {
    let entries_hold = trees.entries_root() == said.root;
    let tiles_hold = trees.stored_root() == said.root;
    for at in &trees.disagree {
        if entries_hold {
            s2.fail(format!("the tile has another hash than entry {at}"));
        } else {
            s1.fail(format!("entry {at} has another hash than its tile"));
        }
    }
    s3.expect(entries_hold || tiles_hold, || {
        format!(
            "the entries have root {}, the checkpoint says {}",
            trees.entries_root().to_base64(),
            said.root.to_base64()
        )
    });
}

fn upper_tiles(
    bundle: &BundleReader,
    said: &Checkpoint,
    trees: &Trees,
    s2: &mut Finder,
    s7: &mut Finder,
) {
    let mut hashes: Vec<Hash> = trees.stored_tiles.clone();
    let width = usize::from(TILE_WIDTH);
    for level in 1..8 {
        if hashes.is_empty() {
            return;
        }
        let kind = TileKind::Hashes { level };
        for (index, expected) in (0_u64..).zip(hashes.chunks(width)) {
            match read_hashes(bundle, kind, index, said.size) {
                Ok(found) => s2.expect(found == expected, || {
                    format!("tile {index} of level {level} does not recompute")
                }),
                Err(why) => s7.fail(why),
            }
        }
        hashes = hashes.chunks_exact(width).map(merkle::root).collect();
    }
}

/// Files below `log/` that a log of this size does not need: narrower tiles must agree, anything else has no place.
fn surplus(bundle: &BundleReader, said: &Checkpoint, s7: &mut Finder, s8: &mut Finder) {
    let mut narrower = 0;
    for (file, _) in bundle.files_below(path::LOG) {
        if file == path::CHECKPOINT {
            continue;
        }
        let tile = file
            .strip_prefix(path::LOG)
            .and_then(|file| TilePath::parse(file).ok());
        let needed = tile.and_then(|tile| TilePath::in_log(tile.kind(), tile.index(), said.size));
        match (tile, needed) {
            (Some(tile), Some(needed)) if tile == needed => {}
            (Some(tile), Some(needed)) if tile.width() < needed.width() => {
                narrower += 1;
                if let Err(why) = begins(bundle, &tile, &needed) {
                    s8.fail(why);
                }
            }
            _ => s7.fail(format!("{file} has no place in a log of {}", said.size)),
        }
    }
    s8.note(match narrower {
        0 => "no tile is there twice".to_owned(),
        _ => format!("{narrower} narrower tiles"),
    });
}

/// Whether a partial tile is the beginning of a wider one.
fn begins(bundle: &BundleReader, partial: &TilePath, wider: &TilePath) -> Result<(), String> {
    let read = |tile: &TilePath| {
        bundle
            .read(&format!("{}{tile}", path::LOG), 256 * 65_537)
            .map_err(|error| error.to_string())
    };
    let (narrow, wide) = (read(partial)?, read(wider)?);
    let exact = match partial.kind() {
        TileKind::Entries => decode_entries(&narrow, partial.width()).is_ok(),
        TileKind::Hashes { .. } => narrow.len() == usize::from(partial.width()) * 32,
    };
    if exact && wide.starts_with(&narrow) {
        Ok(())
    } else {
        Err(format!("{partial} is not the beginning of {wider}"))
    }
}
