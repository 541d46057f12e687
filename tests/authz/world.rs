//! What a tenant is made of, as its own callers see it: names, ids, tokens. Learned by asking every rpc that reads.

use std::collections::{BTreeMap, BTreeSet};

use prost_reflect::{DynamicMessage, FieldDescriptor, Value};

/// Shorter values are no secrets: they could be there by chance.
const SECRET_BYTES_MIN: usize = 16;

/// A tenant.
#[derive(Debug, Clone, Default)]
pub struct World {
    /// Its id.
    pub id: String,
    /// In every text that it gave.
    pub canary: String,
    /// "tenants/{}/sources/{}" -> the first name of this shape.
    names: BTreeMap<String, String>,
    /// Name of a field -> the first text or bytes seen in one.
    texts: BTreeMap<String, String>,
    bytes: BTreeMap<String, Vec<u8>>,
    /// Name of an rpc -> token of its next page, or to resume from.
    tokens: BTreeMap<String, String>,
    /// Ids, hashes and keys that were answered.
    seen: BTreeSet<Vec<u8>>,
}

impl World {
    pub fn new(id: &str, canary: &str) -> Self {
        let mut world = Self {
            id: id.to_owned(),
            canary: canary.to_owned(),
            ..Self::default()
        };
        world.learn_name(&format!("tenants/{id}"));
        world
    }

    /// "tenants/{id}".
    pub fn name(&self) -> String {
        format!("tenants/{}", self.id)
    }

    /// A name of the shape that a comment shows: "tenants/{tenant}/sources/{source}".
    pub fn named(&self, pattern: &str) -> Option<&str> {
        self.names.get(&shape(pattern)).map(String::as_str)
    }

    pub fn text(&self, field: &str) -> Option<&str> {
        self.texts.get(field).map(String::as_str)
    }

    pub fn bytes(&self, field: &str) -> Option<&[u8]> {
        self.bytes.get(field).map(Vec::as_slice)
    }

    /// The token that an rpc gave to go on with.
    pub fn token(&self, rpc: &str) -> Option<&str> {
        self.tokens.get(rpc).map(String::as_str)
    }

    /// Sets a text that requests need and no read answers.
    pub fn set_text(&mut self, field: &str, text: &str) {
        self.texts.insert(field.to_owned(), text.to_owned());
    }

    /// What must not be answered to others: the canary, the tenant's id, and whatever only this tenant has.
    pub fn secrets(&self, other: &Self) -> Vec<Vec<u8>> {
        let own = self.seen.difference(&other.seen).cloned();
        let marks = [
            self.canary.clone().into_bytes(),
            self.id.clone().into_bytes(),
        ];
        marks.into_iter().chain(own).collect()
    }

    /// Learns from an answer of `rpc`.
    pub fn learn(&mut self, rpc: &str, answer: &DynamicMessage) {
        for (field, value) in answer.fields() {
            self.learn_field(rpc, &field, value);
        }
    }

    fn learn_field(&mut self, rpc: &str, field: &FieldDescriptor, value: &Value) {
        match value {
            Value::Message(message) => self.learn(rpc, message),
            Value::List(list) => {
                for value in list {
                    self.learn_field(rpc, field, value);
                }
            }
            Value::String(text) if ["next_page_token", "resume_token"].contains(&field.name()) => {
                self.tokens.entry(rpc.to_owned()).or_insert(text.clone());
            }
            Value::String(text) if text.starts_with(&format!("{}/", self.name())) => {
                self.learn_name(text);
            }
            Value::String(text) => {
                self.texts
                    .entry(field.name().to_owned())
                    .or_insert(text.clone());
            }
            Value::Bytes(bytes) => {
                self.bytes
                    .entry(field.name().to_owned())
                    .or_insert(bytes.to_vec());
                if (SECRET_BYTES_MIN..=64).contains(&bytes.len()) {
                    self.seen.insert(bytes.to_vec());
                }
            }
            _ => {}
        }
    }

    /// Remembers a name of the tenant, when it is the first of its kind.
    pub fn learn_name(&mut self, name: &str) {
        self.names.entry(shape(name)).or_insert(name.to_owned());
        let id = name.rsplit('/').next().unwrap_or_default();
        if id.len() >= SECRET_BYTES_MIN {
            self.seen.insert(id.as_bytes().to_vec());
        }
    }
}

/// "tenants/acme/sources/one" and "tenants/{tenant}/sources/{source}" -> "tenants/sources".
fn shape(name: &str) -> String {
    let collections: Vec<&str> = name.split('/').step_by(2).collect();
    collections.join("/")
}
