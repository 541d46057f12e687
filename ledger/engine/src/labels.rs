//! What entries are found by: their subjects, type and stream. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use counterfoil_evidence::record::{RecordError, decode_entry, decode_record};
use counterfoil_evidence::v1::Record;
use counterfoil_tlog::hash::sha256;
use counterfoil_tlog::tile::TILE_WIDTH;

/// Entries whose labels are written together: those of a full bundle.
pub(crate) const BUNDLE: u64 = TILE_WIDTH as u64;

/// First 16 bytes of SHA-256 of a subject.
pub(crate) type SubjectKey = [u8; 16];

/// Key of a subject in the index.
pub(crate) fn subject_key(subject: &str) -> SubjectKey {
    let mut key = [0; 16];
    key.copy_from_slice(&sha256(subject.as_bytes()).as_bytes()[..16]);
    key
}

/// One thing that an entry is found by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Label<'a> {
    Subject(&'a SubjectKey),
    Type(&'a str),
    Stream(&'a str),
}

impl Label<'_> {
    const TYPE: &'static [u8] = b"type/";

    /// As the index has it.
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        match self {
            Self::Subject(key) => key.to_vec(),
            Self::Type(name) => [Self::TYPE, name.as_bytes()].concat(),
            Self::Stream(name) => [b"stream/", name.as_bytes()].concat(),
        }
    }

    /// The bounds of all types: from the first on, below the second.
    pub(crate) const TYPES: [&'static [u8]; 2] = [Self::TYPE, b"type0"];

    /// The type of these bytes.
    pub(crate) fn type_of(bytes: &[u8]) -> Option<&str> {
        std::str::from_utf8(bytes.strip_prefix(Self::TYPE)?).ok()
    }
}

/// All that one entry is found by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Labels {
    pub(crate) record_type: String,
    pub(crate) stream: String,
    /// Ascending, each once.
    subjects: Vec<SubjectKey>,
}

impl Labels {
    pub(crate) fn of(record: &Record) -> Self {
        let keys = record.subject.iter().map(|subject| subject_key(subject));
        let mut subjects: Vec<SubjectKey> = keys.collect();
        subjects.sort_unstable();
        subjects.dedup();
        Self {
            record_type: record.r#type.clone(),
            stream: record.stream.clone(),
            subjects,
        }
    }

    /// Of an entry's bytes.
    pub(crate) fn read(entry: &[u8]) -> Result<Self, RecordError> {
        Ok(Self::of(&decode_record(&decode_entry(entry)?.record)?))
    }

    pub(crate) fn has(&self, label: Label<'_>) -> bool {
        match label {
            Label::Subject(key) => self.subjects.binary_search(key).is_ok(),
            Label::Type(name) => self.record_type == name,
            Label::Stream(name) => self.stream == name,
        }
    }

    fn iter(&self) -> impl Iterator<Item = Label<'_>> {
        let subjects = self.subjects.iter().map(Label::Subject);
        subjects.chain([Label::Type(&self.record_type), Label::Stream(&self.stream)])
    }
}

/// Where in a full bundle entries have a label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LabelRow {
    pub(crate) label: Vec<u8>,
    pub(crate) n: u64,
    /// Ascending, one byte a place.
    pub(crate) places: Vec<u8>,
}

/// The rows of bundle `n`, ascending by label.
pub(crate) fn label_rows(n: u64, bundle: &[Arc<Labels>]) -> Vec<LabelRow> {
    let mut places: BTreeMap<Label<'_>, Vec<u8>> = BTreeMap::new();
    for (place, labels) in (0..=u8::MAX).zip(bundle) {
        for label in labels.iter() {
            places.entry(label).or_default().push(place);
        }
    }
    let rows = places.into_iter().map(|(label, places)| LabelRow {
        label: label.to_bytes(),
        n,
        places,
    });
    rows.collect()
}

/// What a set of rows sums up to, whatever their order: the entries of a log are read in another order than the rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct LabelSum([u64; 4]);

impl LabelSum {
    pub(crate) fn add(&mut self, row: &LabelRow) {
        let length = row.label.len().to_be_bytes();
        let bytes = [&length, &row.label[..], &row.n.to_be_bytes(), &row.places].concat();
        let hash = sha256(&bytes);
        let (words, _) = hash.0.as_chunks::<8>();
        for (sum, word) in self.0.iter_mut().zip(words) {
            *sum = sum.wrapping_add(u64::from_be_bytes(*word));
        }
    }

    /// To go on with later.
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        self.0.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    /// Reads [`Self::to_bytes`].
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (words, rest) = bytes.as_chunks::<8>();
        let words: [[u8; 8]; 4] = words.try_into().ok()?;
        rest.is_empty().then(|| Self(words.map(u64::from_be_bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_says_once_where_a_label_is() {
        let record = |kind: &str, subjects: &[&str]| {
            Arc::new(Labels::of(&Record {
                r#type: kind.to_owned(),
                stream: "s".to_owned(),
                subject: subjects.iter().map(|&one| one.to_owned()).collect(),
                ..Record::default()
            }))
        };
        let bundle = [
            record("A", &["x", "x"]),
            record("B", &[]),
            record("A", &["x"]),
        ];
        let rows = label_rows(7, &bundle);
        let row = |label: Label<'_>, places: &[u8]| LabelRow {
            label: label.to_bytes(),
            n: 7,
            places: places.to_vec(),
        };
        let x = subject_key("x");
        assert_eq!(
            rows,
            [
                row(Label::Subject(&x), &[0, 2]),
                row(Label::Type("A"), &[0, 2]),
                row(Label::Type("B"), &[1]),
                row(Label::Stream("s"), &[0, 1, 2]),
            ]
        );
        assert_eq!(Label::type_of(&rows[1].label), Some("A"));
        assert_eq!(Label::type_of(&rows[3].label), None);
        assert!(bundle[0].has(Label::Subject(&x)) && !bundle[1].has(Label::Subject(&x)));
    }
}
