//! What entries are found by: their subjects, type and stream. Pure.
//!
//! Types and streams are few: a row each a full bundle of 256 entries. Subjects are many, and most of them are in one entry: a row each would
//! lie somewhere else in the index than the one before, and cost a page. Theirs are one row a full bundle, and when a run of 16
//! bundles is full, its items are put in order once more, into a row for each first byte of a subject's key. So a
//! search reads a row a run and those of the bundles behind the last full run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use counterfoil_evidence::record::{RecordError, decode_entry, decode_record};
use counterfoil_evidence::v1::Record;
use counterfoil_tlog::hash::sha256;
use counterfoil_tlog::tile::TILE_WIDTH;

/// Entries whose labels are written together: those of a full bundle.
pub(crate) const BUNDLE: u64 = TILE_WIDTH as u64;

/// Bundles whose subjects are put together.
pub(crate) const RUN: u64 = 16;

/// First 8 bytes of SHA-256 of a subject. What is found by it is read and compared: that two have the same costs a look.
pub(crate) type SubjectKey = [u8; 8];

/// Key of a subject in the index.
pub(crate) fn subject_key(subject: &str) -> SubjectKey {
    let mut key = [0; 8];
    key.copy_from_slice(&sha256(subject.as_bytes()).as_bytes()[..8]);
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

    /// The label of the rows that it is found in: of a subject, those of full runs.
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        match self {
            Self::Subject([first, ..]) => vec![*first],
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

/// One row of what entries are found by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LabelRow {
    /// `type/` or `stream/` and a name; nothing for the subjects of a bundle; the first byte of a key for those of a run.
    pub(crate) label: Vec<u8>,
    /// Which bundle, or which run.
    pub(crate) n: u64,
    /// Where in the bundle, ascending, one byte a place. Of subjects: items in order, each the rest of the key and the place, which takes
    /// one byte in a bundle and two in a run: nine bytes in all.
    pub(crate) places: Vec<u8>,
}

/// Bytes of a subject's item.
const ITEM: usize = 9;

/// A subject, and the position of an entry that has it.
pub(crate) type Item = (SubjectKey, u64);

impl LabelRow {
    /// The label of what a bundle has of subjects.
    pub(crate) const BUNDLE_SUBJECTS: &'static [u8] = &[];

    /// Whether it has subjects.
    pub(crate) fn has_subjects(&self) -> bool {
        self.label.len() <= 1
    }

    /// Whether all of it is of entries in the first so many bundles.
    pub(crate) fn is_below(&self, bundles: u64) -> bool {
        match self.label.len() {
            1 => (self.n + 1) * RUN <= bundles,
            _ => self.n < bundles,
        }
    }

    /// The subjects of the row; `None` when they are not whole, not in order, or of entries of another run.
    pub(crate) fn items(&self) -> Option<Vec<Item>> {
        let (items, rest) = self.places.as_chunks::<ITEM>();
        if !rest.is_empty() || !items.is_sorted() {
            return None;
        }
        let items: Vec<Item> = items.iter().map(|item| self.item(item)).collect();
        let is_here = |(_, at): &Item| self.label.len() != 1 || at / BUNDLE / RUN == self.n;
        items.iter().all(is_here).then_some(items)
    }

    fn item(&self, bytes: &[u8; ITEM]) -> Item {
        let mut key = [0; 8];
        match (self.label.as_slice(), bytes) {
            ([first], [rest @ .., high, low]) => {
                key[0] = *first;
                key[1..].copy_from_slice(rest);
                let place = u64::from(u16::from_be_bytes([*high, *low]));
                (key, self.n * RUN * BUNDLE + place)
            }
            (_, [rest @ .., place]) => {
                key.copy_from_slice(rest);
                (key, self.n * BUNDLE + u64::from(*place))
            }
        }
    }

    /// Where entries have a subject, ascending.
    pub(crate) fn positions(&self, key: &SubjectKey) -> Vec<u64> {
        let (items, _) = self.places.as_chunks::<ITEM>();
        let rest = &key[self.label.len().min(1)..];
        let first = items.partition_point(|item| item[..rest.len()] < *rest);
        let of_subject = items.iter().skip(first);
        of_subject
            .take_while(|item| item.starts_with(rest))
            .map(|item| self.item(item).1)
            .collect()
    }
}

/// The rows of bundle `n`, ascending by label.
pub(crate) fn label_rows(n: u64, bundle: &[Arc<Labels>]) -> Vec<LabelRow> {
    let mut places: BTreeMap<Label<'_>, Vec<u8>> = BTreeMap::new();
    let mut items: Vec<[u8; ITEM]> = Vec::new();
    for (place, labels) in (0..=u8::MAX).zip(bundle) {
        for label in labels.iter() {
            match label {
                Label::Subject(key) => {
                    let mut item = [place; ITEM];
                    item[..8].copy_from_slice(key);
                    items.push(item);
                }
                Label::Type(_) | Label::Stream(_) => places.entry(label).or_default().push(place),
            }
        }
    }
    items.sort_unstable();
    let subjects = LabelRow {
        label: LabelRow::BUNDLE_SUBJECTS.to_vec(),
        n,
        places: items.concat(),
    };
    let rest = places.into_iter().map(|(label, places)| LabelRow {
        label: label.to_bytes(),
        n,
        places,
    });
    let subjects = Some(subjects).filter(|row| !row.places.is_empty());
    subjects.into_iter().chain(rest).collect()
}

/// The rows of a full run, from those that its bundles have of subjects.
pub(crate) fn run_rows<'a>(run: u64, bundles: impl Iterator<Item = &'a LabelRow>) -> Vec<LabelRow> {
    let start = run * RUN * BUNDLE;
    // What is not in its place here is a finding of whoever reads all; it must not keep anybody from appending.
    let items = bundles.flat_map(|row| row.items().unwrap_or_default());
    let items =
        items.filter_map(|(key, at)| Some((key, u16::try_from(at.checked_sub(start)?).ok()?)));
    let mut items: Vec<(SubjectKey, u16)> = items.collect();
    items.sort_unstable();
    let first = |(key, _): &(SubjectKey, u16)| key[0];
    let rows = items.chunk_by(|one, next| first(one) == first(next));
    rows.map(|items| LabelRow {
        label: items.iter().take(1).map(first).collect(),
        n: run,
        places: items
            .iter()
            .flat_map(|(key, place)| key[1..].iter().copied().chain(place.to_be_bytes()))
            .collect(),
    })
    .collect()
}

/// What a set of rows sums up to, whatever their order: the entries of a log are read in another order than the rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct LabelSum([u64; 4]);

impl LabelSum {
    /// Adds a row; of subjects each item by itself, whatever row it is in.
    pub(crate) fn add(&mut self, row: &LabelRow) {
        match row.items() {
            Some(items) if row.has_subjects() => items.iter().for_each(|item| self.add_item(item)),
            _ => self.add_whole(row),
        }
    }

    /// Adds what the bundles of the run that was not full have of subjects, up to so many bundles; an item that is in a bundle's row and in
    /// the run's, because it became full in between, once. Bundles of runs before have no rows.
    pub(crate) fn add_last(&mut self, rows: &[LabelRow], run: u64, bundles: u64) {
        let mut known = BTreeSet::new();
        for row in rows {
            let left = row.label.is_empty() && row.n / RUN < run;
            match row.items() {
                Some(items) if !left => known.extend(items),
                _ => self.add_whole(row),
            }
        }
        let below = known.iter().filter(|(_, at)| at / BUNDLE < bundles);
        below.for_each(|item| self.add_item(item));
    }

    fn add_whole(&mut self, row: &LabelRow) {
        let length = row.label.len().to_be_bytes();
        self.add_bytes(&[&length, &row.label[..], &row.n.to_be_bytes(), &row.places].concat());
    }

    fn add_item(&mut self, (key, at): &Item) {
        self.add_bytes(&[&key[..], &at.to_be_bytes()].concat());
    }

    fn add_bytes(&mut self, bytes: &[u8]) {
        let hash = sha256(bytes);
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
                LabelRow {
                    label: Vec::new(),
                    n: 7,
                    places: [&x[..], &[0], &x, &[2]].concat(),
                },
                row(Label::Type("A"), &[0, 2]),
                row(Label::Type("B"), &[1]),
                row(Label::Stream("s"), &[0, 1, 2]),
            ]
        );
        assert_eq!(rows[0].positions(&x), [7 * 256, 7 * 256 + 2]);
        assert_eq!(Label::type_of(&rows[1].label), Some("A"));
        assert_eq!(Label::type_of(&rows[3].label), None);
        assert!(bundle[0].has(Label::Subject(&x)) && !bundle[1].has(Label::Subject(&x)));
    }

    #[test]
    fn a_run_has_what_its_bundles_have_and_sums_up_to_the_same() {
        let subjects: Vec<String> = (0..300).map(|number| format!("items/{number}")).collect();
        let bundle = |n: u64| {
            let labels = (0..BUNDLE).map(|place| {
                let at = usize::try_from((n * 7 + place) % 300).unwrap();
                Arc::new(Labels::of(&Record {
                    subject: vec!["all".to_owned(), subjects[at].clone()],
                    ..Record::default()
                }))
            });
            let rows = label_rows(n, &labels.collect::<Vec<_>>());
            rows.into_iter().find(LabelRow::has_subjects).unwrap()
        };
        let bundles: Vec<LabelRow> = (3 * RUN..4 * RUN).map(bundle).collect();
        let run = run_rows(3, bundles.iter());
        assert!(run.len() > 100 && run.is_sorted_by(|one, next| one.label < next.label));
        for subject in subjects.iter().map(String::as_str).chain(["all", "none"]) {
            let key = subject_key(subject);
            let row = run.iter().find(|row| row.label == [key[0]]);
            let found = row.map(|row| row.positions(&key)).unwrap_or_default();
            let expected: Vec<u64> = bundles.iter().flat_map(|row| row.positions(&key)).collect();
            assert_eq!(
                (found.is_empty(), &found),
                (subject == "none", &expected),
                "{subject}"
            );
        }
        let sum = |rows: &[LabelRow]| {
            let mut sum = LabelSum::default();
            rows.iter().for_each(|row| sum.add(row));
            sum
        };
        assert_eq!(sum(&run), sum(&bundles));
        // Out of order it would not be found any more.
        let mut other = run.clone();
        other[0].places.rotate_left(ITEM);
        assert_ne!(sum(&other), sum(&run));
        assert!(run[0].is_below(4 * RUN) && !run[0].is_below(4 * RUN - 1));
    }
}
