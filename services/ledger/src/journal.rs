//! What this service has stated in its logs, apart from the database: its statements go through no outbox, and a log whose database
//! is restored to an older state needs them as much as those of the producers.
//!
//! One file a log beside its high-water file, and as little forced to the disk: it outlives a killed process and a restored database.
//! What the published copy has needs no journal and is taken out of it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use counterfoil_engine::{Receipt, SignedRecord};
use counterfoil_tlog::hash::sha256;

use crate::records_file::{self, Kept, RecordsFileError};

/// A file below this is not made shorter.
const SHORTEN_FROM_BYTES: u64 = 64 << 10;

/// The folder of the files.
#[derive(Debug, Clone)]
pub(crate) struct Journal {
    directory: PathBuf,
}

impl Journal {
    /// In the folder of the high-water files.
    pub(crate) fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
        }
    }

    fn path(&self, origin: &str) -> PathBuf {
        let name = sha256(origin.as_bytes());
        self.directory.join(format!("{name}.records"))
    }

    /// Keeps records that are about to be appended. If we crash after it: they were perhaps appended, and are fitted in if they were.
    pub(crate) fn keep(&self, origin: &str, records: &[SignedRecord]) {
        let lines: String = records
            .iter()
            .map(|record| records_file::line(record, None))
            .collect();
        self.write(origin, &lines);
    }

    /// Keeps where they went.
    pub(crate) fn place(&self, origin: &str, records: &[SignedRecord], receipts: &[Receipt]) {
        let both = records.iter().zip(receipts);
        let lines: String = both
            .map(|(record, receipt)| records_file::line(record, Some(receipt)))
            .collect();
        self.write(origin, &lines);
    }

    fn write(&self, origin: &str, lines: &str) {
        // As with the high-water file: evidence is not held up by what only helps after a loss.
        if let Err(error) = records_file::append(&self.path(origin), lines) {
            tracing::warn!(origin, %error, "the journal of the log was not written");
        }
    }

    /// Takes out what the published copy has, once there is enough of it. Nobody may write to the log's journal meanwhile.
    pub(crate) fn shorten(&self, origin: &str, published: u64) {
        let path = self.path(origin);
        let long = fs::metadata(&path).is_ok_and(|file| file.len() >= SHORTEN_FROM_BYTES);
        if !long {
            return;
        }
        if let Err(error) = shorten(&path, published) {
            tracing::warn!(origin, %error, "the journal of the log stays as long as it is");
        }
    }

    /// Whether it holds anything of a log.
    pub(crate) fn has(&self, origin: &str) -> bool {
        fs::metadata(self.path(origin)).is_ok_and(|file| file.len() > 0)
    }

    /// What it holds of a log.
    pub(crate) fn read(&self, origin: &str) -> Result<Vec<Kept>, RecordsFileError> {
        let path = self.path(origin);
        if path.exists() {
            records_file::read(&path)
        } else {
            Ok(Vec::new())
        }
    }
}

/// Takes out the lines up to the last one of a record below a size. One that was never placed stays until a later one goes: whether it
/// was appended is open.
fn shorten(path: &Path, published: u64) -> io::Result<()> {
    let text = fs::read_to_string(path)?;
    let kept = records_file::read(path).map_err(io::Error::other)?;
    let is_published = |(kept, _): &Kept| {
        let receipt = kept.receipt.as_ref();
        receipt.is_some_and(|receipt| receipt.index < published)
    };
    let Some(last) = kept.iter().rposition(is_published) else {
        return Ok(());
    };
    let rest: String = text.split_inclusive('\n').skip(last + 1).collect();
    let fresh = path.with_extension("new");
    // A crash may have left one.
    if fresh.exists() {
        fs::remove_file(&fresh)?;
    }
    records_file::append(&fresh, &rest)?;
    // If we crash here: the long file stays, and the next publication shortens it.
    fs::rename(&fresh, path)
}

#[cfg(test)]
mod tests {
    use counterfoil_tlog::Hash;

    use super::*;

    fn signed(number: usize) -> SignedRecord {
        SignedRecord {
            record: number.to_be_bytes().repeat(100),
            key_id: "key".to_owned(),
            signature: vec![1; 64],
        }
    }

    fn receipt(index: u64) -> Receipt {
        Receipt {
            record_id: [0; 16],
            record_hash: [0; 32],
            index,
            leaf_hash: Hash([3; 32]),
            tlog_proof: String::new(),
            checkpoint_ms: 1,
        }
    }

    #[test]
    fn what_is_published_is_taken_out_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::new(folder.path());
        assert!(journal.read("a").unwrap().is_empty());
        for number in 0..40 {
            journal.keep("a", &[signed(number)]);
            if number != 39 {
                journal.place("a", &[signed(number)], &[receipt(number as u64)]);
            }
        }
        journal.keep("b", &[signed(1)]);
        journal.shorten("b", 100);
        assert_eq!(journal.read("b").unwrap().len(), 1, "too short to shorten");
        journal.shorten("a", 30);
        let left = journal.read("a").unwrap();
        // Each of 30 to 38 before and after it had its place, and the last, of which nobody knows.
        assert_eq!(left.len(), 2 * 9 + 1);
        assert_eq!(left[0].0.signed, signed(30));
        assert_eq!(left[18].0.signed, signed(39));
    }
}
