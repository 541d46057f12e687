//! Openings: each is of exactly one commitment in the log, and says what was committed to (D1 to D3).

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, Read};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use counterfoil_evidence::v1;
use counterfoil_tlog::commitment::commit;

use crate::bundle::{BundleError, BundleReader, OpeningLine, path};
use crate::check::{Check, Finder, Weight};

/// Longest line of a disclosure file.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// One commitment of a record.
#[derive(Debug)]
struct Committed {
    label: u32,
    digest: [u8; 32],
    opened: bool,
}

/// All commitments of a log.
#[derive(Debug, Default)]
pub(crate) struct Commitments {
    /// For a record: where it is, where its commitments begin, and how many they are.
    of_record: HashMap<[u8; 16], (u64, u32, u16)>,
    all: Vec<Committed>,
    labels: HashMap<String, u32>,
    malformed: Vec<u64>,
}

/// How many commitments are opened, by label, and how many are withheld.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disclosed {
    pub(crate) opened: BTreeMap<String, u64>,
    pub(crate) withheld: BTreeMap<String, u64>,
}

impl Commitments {
    /// Takes the commitments of a record.
    pub(crate) fn take(&mut self, at: u64, record: &v1::Record) {
        if record.commitment.is_empty() {
            return;
        }
        let begin = u32::try_from(self.all.len()).unwrap_or(u32::MAX);
        for (place, commitment) in record.commitment.iter().enumerate() {
            let repeated = record
                .commitment
                .iter()
                .take(place)
                .any(|before| before.label == commitment.label);
            let digest = <[u8; 32]>::try_from(commitment.digest.as_slice());
            let (Ok(digest), 1, false) = (digest, commitment.alg, repeated) else {
                self.malformed.push(at);
                return;
            };
            let label = self.label(&commitment.label);
            self.all.push(Committed {
                label,
                digest,
                opened: false,
            });
        }
        let count = u16::try_from(record.commitment.len()).unwrap_or(u16::MAX);
        if let Ok(id) = <[u8; 16]>::try_from(record.record_id.as_slice()) {
            self.of_record.insert(id, (at, begin, count));
        }
    }

    fn label(&mut self, label: &str) -> u32 {
        if let Some(known) = self.labels.get(label) {
            return *known;
        }
        let next = u32::try_from(self.labels.len()).unwrap_or(u32::MAX);
        self.labels.insert(label.to_owned(), next);
        next
    }

    /// The one commitment of a record with a label, and where the record is.
    fn find(&mut self, record_id: &[u8], label: &str) -> Option<(u64, &mut Committed)> {
        let id = <[u8; 16]>::try_from(record_id).ok()?;
        let (at, begin, count) = *self.of_record.get(&id)?;
        let label = *self.labels.get(label)?;
        let begin = usize::try_from(begin).ok()?;
        let committed = self
            .all
            .get_mut(begin..begin + usize::from(count))?
            .iter_mut()
            .find(|committed| committed.label == label)?;
        Some((at, committed))
    }

    /// Judges all openings of a bundle. `heard` gets each value that was committed to, with the entry and the label.
    pub(crate) fn judge(
        mut self,
        bundle: &BundleReader,
        heard: &mut dyn FnMut(u64, &str, &[u8]),
    ) -> (Disclosed, Vec<Check>) {
        let mut findings = Findings {
            d1: Finder::new(
                "D1",
                &[],
                "every opening is of the value that was committed to",
            ),
            d2: Finder::new(
                "D2",
                &[],
                "every opening belongs to one commitment of the log",
            ),
            heard,
        };
        let mut d3 = Finder::new("D3", &[], "every commitment of the log is opened")
            .weighing(Weight::Informative);
        for at in std::mem::take(&mut self.malformed) {
            let why = format!("entry {at} has malformed or repeated commitments");
            findings.d2.fail(why);
        }
        for (file, _) in bundle.files_below(path::DISCLOSURES) {
            if let Err(error) = self.read_file(bundle, file, &mut findings) {
                findings.d2.fail(error);
            }
        }
        let Findings { mut d1, mut d2, .. } = findings;
        let mut disclosed = Disclosed::default();
        let names: HashMap<u32, &String> = self.labels.iter().map(|(n, at)| (*at, n)).collect();
        for committed in &self.all {
            let label = names
                .get(&committed.label)
                .map_or_else(String::new, |name| (*name).clone());
            let side = if committed.opened {
                &mut disclosed.opened
            } else {
                &mut disclosed.withheld
            };
            *side.entry(label).or_default() += 1;
        }
        let opened: u64 = disclosed.opened.values().sum();
        let withheld: u64 = disclosed.withheld.values().sum();
        d1.note(format!("{opened} openings"));
        d2.note(format!("{} commitments", self.all.len()));
        if withheld > 0 {
            d3.skip(format!(
                "{withheld} of {} values are withheld",
                self.all.len()
            ));
        }
        d3.note("nothing is withheld");
        (disclosed, [d1, d2, d3].map(Finder::finish).to_vec())
    }

    fn read_file(
        &mut self,
        bundle: &BundleReader,
        file: &str,
        findings: &mut Findings<'_>,
    ) -> Result<(), BundleError> {
        let mut lines = bundle.lines(file)?;
        let mut line = Vec::new();
        for number in 1_u64.. {
            line.clear();
            let read = lines
                .by_ref()
                .take(LINE_BYTES_MAX)
                .read_until(b'\n', &mut line)
                .map_err(BundleError::io(file))?;
            if read == 0 {
                return Ok(());
            }
            if line.last() != Some(&b'\n') {
                return Err(BundleError::malformed(
                    file,
                    format!("line {number} has no end, or is too long"),
                ));
            }
            match parse(&line) {
                Ok(opening) => self.opening(file, number, &opening, findings),
                Err(why) => findings.d2.fail(format!("{file}:{number}: {why}")),
            }
        }
        Ok(())
    }

    fn opening(
        &mut self,
        file: &str,
        number: u64,
        opening: &Opened,
        Findings { d1, d2, heard }: &mut Findings<'_>,
    ) {
        let Some((at, committed)) = self.find(&opening.record_id, &opening.label) else {
            d2.fail(format!(
                "{file}:{number}: the log has no such commitment {:?}",
                opening.label
            ));
            return;
        };
        d2.expect(!committed.opened, || {
            format!("{file}:{number} opens a commitment again")
        });
        committed.opened = true;
        let digest = commit(&opening.label, &opening.salt, &opening.value);
        if digest.0 == committed.digest {
            heard(at, &opening.label, &opening.value);
        } else {
            d1.fail(format!(
                "{file}:{number}: {:?} is not what was committed to",
                opening.label
            ));
        }
    }
}

/// What is found while openings are read.
struct Findings<'h> {
    d1: Finder,
    d2: Finder,
    heard: &'h mut dyn FnMut(u64, &str, &[u8]),
}

/// A line of a disclosure file, decoded.
struct Opened {
    record_id: Vec<u8>,
    label: String,
    salt: [u8; 32],
    value: Vec<u8>,
}

fn parse(line: &[u8]) -> Result<Opened, String> {
    let line: OpeningLine = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let mut salt = [0; 32];
    hex::decode_to_slice(&line.salt, &mut salt).map_err(|error| format!("salt: {error}"))?;
    Ok(Opened {
        record_id: hex::decode(&line.record_id).map_err(|error| format!("record_id: {error}"))?,
        label: line.label,
        salt,
        value: STANDARD
            .decode(&line.value)
            .map_err(|error| format!("value: {error}"))?,
    })
}
