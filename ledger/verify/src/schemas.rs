//! Schemas: the bytes of a record mean what the schema it names says, and this verifier reads them the same way (P6).

use std::collections::{BTreeMap, BTreeSet};

use counterfoil_evidence::v1;
use counterfoil_evidence::{DESCRIPTOR_SET, replay::Decoded, schema_hash};
use prost::Message as _;
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorSet};
use sha2::{Digest, Sha256};

use crate::bundle::{BundleReader, path};
use crate::check::{Check, Finder};

/// Largest descriptor set that is read.
const SCHEMA_BYTES_MAX: u64 = 16 << 20;

/// Which types were written under which schema.
#[derive(Debug, Default)]
pub(crate) struct SchemaUse(BTreeMap<Vec<u8>, BTreeSet<String>>);

/// A field by its number: name, type, label and the message or enum it is of. A value of an enum has a name alone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Meaning {
    name: String,
    kind: i32,
    label: i32,
    of: String,
}

/// Every message and enum by its full name: what each of its numbers means.
type Types = BTreeMap<String, BTreeMap<i32, Meaning>>;

impl SchemaUse {
    pub(crate) fn take(&mut self, _at: u64, record: &v1::Record, decoded: &Decoded) {
        if matches!(decoded, Decoded::UnknownType) {
            return;
        }
        match self.0.get_mut(&record.schema_hash) {
            Some(types) if types.contains(&record.r#type) => {}
            Some(types) => {
                types.insert(record.r#type.clone());
            }
            None => {
                self.0.insert(
                    record.schema_hash.clone(),
                    BTreeSet::from([record.r#type.clone()]),
                );
            }
        }
    }

    /// Judges that each schema is there and agrees with the one this verifier was built with.
    pub(crate) fn judge(self, bundle: &BundleReader) -> Check {
        let mut p6 = Finder::new(
            "P6",
            &[],
            "every schema is there, and is read as it was meant",
        );
        let count = self.0.len();
        let ours = types(DESCRIPTOR_SET).unwrap_or_default();
        for (hash, written) in self.0 {
            let name = hex::encode(&hash);
            let file = format!("{}{name}.binpb", path::SCHEMAS);
            if bundle.size(&file).is_none() {
                if hash != schema_hash() {
                    p6.skip(format!("schema {name} is not in the bundle"));
                }
                continue;
            }
            let bytes = match bundle.read(&file, SCHEMA_BYTES_MAX) {
                Ok(bytes) => bytes,
                Err(error) => {
                    p6.fail(error);
                    continue;
                }
            };
            if Sha256::digest(&bytes).as_slice() != hash {
                p6.fail(format!("{file} is another schema than its name says"));
                continue;
            }
            match types(&bytes) {
                Some(theirs) => {
                    for type_name in written {
                        if let Err(why) = same_meaning(&theirs, &ours, &type_name) {
                            p6.fail(format!("schema {name}: {why}"));
                        }
                    }
                }
                None => p6.fail(format!("{file} is no descriptor set")),
            }
        }
        p6.note(format!("{count} schemas"));
        p6.finish()
    }
}

fn types(descriptor_set: &[u8]) -> Option<Types> {
    let set = FileDescriptorSet::decode(descriptor_set).ok()?;
    let mut found = Types::new();
    for file in &set.file {
        for message in &file.message_type {
            collect(&mut found, file.package(), message);
        }
        for one in &file.enum_type {
            collect_enum(&mut found, file.package(), one);
        }
    }
    Some(found)
}

fn collect(found: &mut Types, prefix: &str, message: &DescriptorProto) {
    let name = format!("{prefix}.{}", message.name());
    for nested in &message.nested_type {
        collect(found, &name, nested);
    }
    for nested in &message.enum_type {
        collect_enum(found, &name, nested);
    }
    let fields = message.field.iter().map(|field| {
        let meaning = Meaning {
            name: field.name().to_owned(),
            kind: field.r#type.unwrap_or_default(),
            label: field.label.unwrap_or_default(),
            of: field.type_name().trim_start_matches('.').to_owned(),
        };
        (field.number(), meaning)
    });
    found.insert(name, fields.collect());
}

fn collect_enum(found: &mut Types, prefix: &str, one: &EnumDescriptorProto) {
    let values = one.value.iter().map(|value| {
        let meaning = Meaning {
            name: value.name().to_owned(),
            ..Meaning::default()
        };
        (value.number(), meaning)
    });
    found.insert(format!("{prefix}.{}", one.name()), values.collect());
}

/// Every number of their type means the same in ours, and so on for the messages and enums inside.
fn same_meaning(theirs: &Types, ours: &Types, root: &str) -> Result<(), String> {
    let mut todo = vec![root.to_owned()];
    let mut done = BTreeSet::new();
    while let Some(name) = todo.pop() {
        if !done.insert(name.clone()) {
            continue;
        }
        let Some(their_numbers) = theirs.get(&name) else {
            return Err(format!("it does not define {name}"));
        };
        let Some(our_numbers) = ours.get(&name) else {
            return Err(format!("this verifier does not know {name}"));
        };
        for (number, meaning) in their_numbers {
            if our_numbers.get(number) != Some(meaning) {
                return Err(format!(
                    "{number} ({}) of {name} means something else",
                    meaning.name
                ));
            }
            if !meaning.of.is_empty() {
                todo.push(meaning.of.clone());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{DESCRIPTOR_SET, same_meaning, types};

    const TYPE: &str = "counterfoil.evidence.v1.SourceSyncSealed";

    #[test]
    fn a_schema_that_means_something_else_is_seen_also_in_inner_messages() {
        let ours = types(DESCRIPTOR_SET).unwrap();
        assert_eq!(same_meaning(&ours, &ours, TYPE), Ok(()));
        let mut fewer = ours.clone();
        fewer.get_mut(TYPE).unwrap().remove(&16);
        assert_eq!(same_meaning(&fewer, &ours, TYPE), Ok(()), "an older schema");
        assert!(same_meaning(&ours, &fewer, TYPE).is_err(), "a newer one");
        let mut other = ours.clone();
        let counts = other.get_mut("counterfoil.evidence.v1.TypeCounts").unwrap();
        counts.get_mut(&1).unwrap().kind = 9;
        assert!(same_meaning(&other, &ours, TYPE).is_err());
    }

    #[test]
    fn a_schema_that_swaps_names_of_values_or_fields_is_seen() {
        let ours = types(DESCRIPTOR_SET).unwrap();
        let decided = "counterfoil.evidence.v1.ReviewDecided";
        assert_eq!(same_meaning(&ours, &ours, decided), Ok(()));
        for swapped in ["counterfoil.evidence.v1.Decision", decided] {
            let mut other = ours.clone();
            let numbers = other.get_mut(swapped).unwrap();
            let (one, two) = (numbers[&1].name.clone(), numbers[&2].name.clone());
            numbers.get_mut(&1).unwrap().name = two;
            numbers.get_mut(&2).unwrap().name = one;
            assert!(same_meaning(&other, &ours, decided).is_err(), "{swapped}");
        }
    }
}
