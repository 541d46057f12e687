//! The checkers of other authors, each with the same question: a log's directory, its key, and further files about it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use ct_merkle::mem_backed_tree::MemoryBackedTree;
use sha2::Sha256;
use signed_note::{Note, StandardVerifier, Verifier, VerifierList};
use tlog_tiles::{
    Checkpoint, Error, Hash, HashReader, Tile, TileHashReader, TileReader, check_record,
    check_tree, prove_tree, record_hash, stored_hash_index,
};

use crate::tools::{self, Verdict};

/// Who checks.
#[derive(Debug, Clone, Copy)]
pub enum Checker {
    /// `golang.org/x/mod/sumdb`, tlogcheck/main.go.
    Go,
    /// `tlog-scales` and `pymerkle`, check.py.
    Python,
    /// `tlog_tiles`, `signed_note` and `ct-merkle`, below.
    Rust,
}

/// All of them.
pub const CHECKERS: [Checker; 3] = [Checker::Go, Checker::Python, Checker::Rust];

impl Checker {
    /// Checks the log and every further file: a receipt for an entry of it, or an older checkpoint of it.
    ///
    /// # Errors
    /// When the checker is not installed or cannot be started; a refusal is a verdict, not an error.
    pub fn check(self, prefix: &Path, vkey_file: &Path, others: &[PathBuf]) -> Result<Verdict> {
        let mut command = match self {
            Self::Go => Command::new(tools::tlogcheck()?),
            Self::Python => tools::python_check()?,
            Self::Rust => return Ok(in_rust(prefix, vkey_file, others)),
        };
        command.arg(prefix).arg(vkey_file).args(others);
        tools::run(&mut command)
    }
}

fn in_rust(prefix: &Path, vkey_file: &Path, others: &[PathBuf]) -> Verdict {
    match check(prefix, vkey_file, others) {
        Ok(size) => Verdict {
            accepted: true,
            said: format!("OK size {size}"),
        },
        Err(reason) => Verdict {
            accepted: false,
            said: format!("FAIL: {reason}"),
        },
    }
}

/// Reads tiles where `tlog_tiles` thinks that a height belongs into the path.
struct Directory<'a>(&'a Path);

impl TileReader for Directory<'_> {
    fn height(&self) -> u8 {
        8
    }

    fn read_tiles(&self, tiles: &[Tile]) -> Result<Vec<Vec<u8>>, Error> {
        let read = |tile: &Tile| fs::read(self.0.join(tile.path().replacen("tile/8/", "tile/", 1)));
        // A file that is missing is as bad as one that does not match.
        tiles
            .iter()
            .map(|tile| read(tile).map_err(|_| Error::InconsistentTile))
            .collect()
    }

    fn save_tiles(&self, _: &[Tile], _: &[Vec<u8>]) {}
}

fn check(prefix: &Path, vkey_file: &Path, others: &[PathBuf]) -> Result<u64, String> {
    let vkey = fs::read_to_string(vkey_file).map_err(text)?;
    let signed = fs::read(prefix.join("checkpoint")).map_err(text)?;
    let checkpoint = open(&signed, vkey.trim())?;
    let (size, root) = (checkpoint.size(), *checkpoint.hash());
    let tiles = Directory(prefix);
    let reader = TileHashReader::new(size, root, &tiles);
    let mut theirs = MemoryBackedTree::<Sha256, Vec<u8>>::new();
    for first in (0..size).step_by(256) {
        let width = u32::try_from((size - first).min(256)).map_err(text)?;
        let indexes: Vec<u64> = (first..first + u64::from(width))
            .map(|index| stored_hash_index(0, index))
            .collect();
        let leaves = reader.read_hashes(&indexes).map_err(text)?;
        for (index, (entry, leaf)) in
            (first..).zip(bundle(prefix, first / 256, width)?.into_iter().zip(leaves))
        {
            if record_hash(&entry) != leaf {
                return Err(format!("entry {index} hash mismatch"));
            }
            theirs.push(entry);
        }
    }
    if theirs.root().as_bytes().as_slice() != root.0 {
        return Err("the entries do not lead to the root".to_owned());
    }
    for other in others {
        let content = fs::read(other).map_err(text)?;
        check_other(&content, vkey.trim(), &reader, size, root)?;
    }
    Ok(size)
}

fn text(error: impl ToString) -> String {
    error.to_string()
}

fn open(signed: &[u8], vkey: &str) -> Result<Checkpoint, String> {
    let verifier = StandardVerifier::new(vkey).map_err(text)?;
    let origin = verifier.name().to_owned();
    let note = Note::from_bytes(signed).map_err(text)?;
    note.verify(&VerifierList::new(vec![Box::new(verifier)]))
        .map_err(text)?;
    let checkpoint = Checkpoint::from_bytes(note.text()).map_err(text)?;
    if checkpoint.origin() == origin {
        Ok(checkpoint)
    } else {
        Err(format!("origin {}", checkpoint.origin()))
    }
}

/// The entries of a bundle, exactly as many as its width says and nothing after them.
fn bundle(prefix: &Path, index: u64, width: u32) -> Result<Vec<Vec<u8>>, String> {
    let path =
        Tile::new(8, 0, index, width, false)
            .path()
            .replacen("tile/8/0/", "tile/entries/", 1);
    let content = fs::read(prefix.join(path)).map_err(text)?;
    let mut rest = content.as_slice();
    let mut entries = Vec::new();
    for _ in 0..width {
        let (length, after) = rest.split_first_chunk::<2>().ok_or("short bundle")?;
        let (entry, after) = after
            .split_at_checked(usize::from(u16::from_be_bytes(*length)))
            .ok_or("short bundle")?;
        entries.push(entry.to_vec());
        rest = after;
    }
    if rest.is_empty() {
        Ok(entries)
    } else {
        Err(format!("trailing bytes in bundle {index}"))
    }
}

fn check_other(
    content: &[u8],
    vkey: &str,
    reader: &TileHashReader<'_>,
    size: u64,
    root: Hash,
) -> Result<(), String> {
    let content = std::str::from_utf8(content).map_err(text)?;
    let Some(receipt) = content.strip_prefix("c2sp.org/tlog-proof@v1\n") else {
        return check_prefix(&open(content.as_bytes(), vkey)?, reader, size, root);
    };
    let (header, note) = receipt
        .split_once("\n\n")
        .ok_or("a receipt without a checkpoint")?;
    let mut lines = header.lines().peekable();
    lines.next_if(|line| line.starts_with("extra "));
    let index = lines
        .next()
        .and_then(|line| line.strip_prefix("index "))
        .ok_or("a receipt without an index")?;
    let index: u64 = index.parse().map_err(text)?;
    let proof = lines
        .map(Hash::parse_hash)
        .collect::<Result<Vec<_>, _>>()
        .map_err(text)?;
    let under = open(note.as_bytes(), vkey)?;
    let leaf = reader
        .read_hashes(&[stored_hash_index(0, index)])
        .map_err(text)?;
    check_record(&proof, under.size(), *under.hash(), index, leaf[0]).map_err(text)?;
    check_prefix(&under, reader, size, root)
}

fn check_prefix(
    older: &Checkpoint,
    reader: &TileHashReader<'_>,
    size: u64,
    root: Hash,
) -> Result<(), String> {
    if older.size() == size {
        return if *older.hash() == root {
            Ok(())
        } else {
            Err("another root at the same size".to_owned())
        };
    }
    let proof = prove_tree(size, older.size(), reader).map_err(text)?;
    check_tree(&proof, size, root, older.size(), *older.hash()).map_err(text)
}
