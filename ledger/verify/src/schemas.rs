//! Schemas: the bytes of a record mean what the schema it names says, and this verifier reads them the same way (P6).

use std::collections::{BTreeMap, BTreeSet};

use counterfoil_evidence::v1;
use counterfoil_evidence::{DESCRIPTOR_SET, replay::Decoded, schema_hash};
use prost::Message as _;
use prost_types::{DescriptorProto, FileDescriptorSet};
use sha2::{Digest, Sha256};

use crate::bundle::{BundleReader, path};
use crate::check::{Check, Finder};

/// Largest descriptor set that is read.
const SCHEMA_BYTES_MAX: u64 = 16 << 20;

/// Which types were written under which schema.
#[derive(Debug, Default)]
pub(crate) struct SchemaUse(BTreeMap<Vec<u8>, BTreeSet<String>>);

/// A field as it lies on the wire: number, type, label and the message or enum it is of.
type WireField = (i32, i32, i32, String);
/// Fields of every message by its full name.
type Messages = BTreeMap<String, BTreeMap<i32, WireField>>;

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
        let ours = messages(DESCRIPTOR_SET).unwrap_or_default();
        for (hash, types) in self.0 {
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
            match messages(&bytes) {
                Some(theirs) => {
                    for type_name in types {
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

fn messages(descriptor_set: &[u8]) -> Option<Messages> {
    let set = FileDescriptorSet::decode(descriptor_set).ok()?;
    let mut found = Messages::new();
    for file in &set.file {
        for message in &file.message_type {
            collect(&mut found, file.package(), message);
        }
    }
    Some(found)
}

fn collect(found: &mut Messages, prefix: &str, message: &DescriptorProto) {
    let name = format!("{prefix}.{}", message.name());
    for nested in &message.nested_type {
        collect(found, &name, nested);
    }
    let fields = message
        .field
        .iter()
        .map(|field| {
            let wire = (
                field.number(),
                field.r#type.unwrap_or_default(),
                field.label.unwrap_or_default(),
                field.type_name().to_owned(),
            );
            (field.number(), wire)
        })
        .collect();
    found.insert(name, fields);
}

/// Every field of their message is a field of ours, of the same type, and so on for the messages inside.
fn same_meaning(theirs: &Messages, ours: &Messages, root: &str) -> Result<(), String> {
    let mut todo = vec![root.to_owned()];
    let mut done = BTreeSet::new();
    while let Some(name) = todo.pop() {
        if !done.insert(name.clone()) {
            continue;
        }
        let Some(their_fields) = theirs.get(&name) else {
            return Err(format!("it does not define {name}"));
        };
        let Some(our_fields) = ours.get(&name) else {
            return Err(format!("this verifier does not know {name}"));
        };
        for (number, field) in their_fields {
            if our_fields.get(number) != Some(field) {
                return Err(format!("field {number} of {name} means something else"));
            }
            let inner = field.3.trim_start_matches('.');
            if theirs.contains_key(inner) {
                todo.push(inner.to_owned());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{DESCRIPTOR_SET, messages, same_meaning};

    const TYPE: &str = "counterfoil.evidence.v1.SourceSyncSealed";

    #[test]
    fn a_schema_that_means_something_else_is_seen_also_in_inner_messages() {
        let ours = messages(DESCRIPTOR_SET).unwrap();
        assert_eq!(same_meaning(&ours, &ours, TYPE), Ok(()));
        let mut fewer = ours.clone();
        fewer.get_mut(TYPE).unwrap().remove(&16);
        assert_eq!(same_meaning(&fewer, &ours, TYPE), Ok(()), "an older schema");
        assert!(same_meaning(&ours, &fewer, TYPE).is_err(), "a newer one");
        let mut other = ours.clone();
        let counts = other.get_mut("counterfoil.evidence.v1.TypeCounts").unwrap();
        counts.get_mut(&1).unwrap().1 = 9;
        assert!(same_meaning(&other, &ours, TYPE).is_err());
    }
}
