//! A valid request to any rpc, that names what a tenant really has.
//!
//! The proto's comments say what a field holds: `Required.`, `Output only.`, and names as "tenants/{tenant}/sources/{source}".
//! What they do not say stands in `seeds.toml`.

use std::sync::LazyLock;

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value};

use crate::{
    api::{Rpc, comment},
    world::World,
};

/// What the comments do not say.
static SEEDS: LazyLock<toml::Table> = LazyLock::new(|| include_str!("seeds.toml").parse().unwrap());

/// Makes requests of one tenant.
#[derive(Debug)]
pub struct Synth<'a> {
    world: &'a World,
    /// Names the request where a request id is asked for.
    request_id: String,
    /// Seconds that a time in the future has.
    soon: i64,
    missing: Vec<String>,
}

/// The request to `rpc`, or the fields that no rule and no seed fills.
pub fn request(rpc: &Rpc, world: &World, soon: i64) -> Result<DynamicMessage, Vec<String>> {
    let mut synth = Synth {
        world,
        request_id: format!("{}-{}", world.id, rpc.method.name()),
        soon,
        missing: Vec::new(),
    };
    let message = synth.message(&rpc.method.input());
    if synth.missing.is_empty() {
        Ok(message)
    } else {
        Err(synth.missing)
    }
}

impl Synth<'_> {
    fn message(&mut self, descriptor: &MessageDescriptor) -> DynamicMessage {
        let mut message = DynamicMessage::new(descriptor.clone());
        for field in descriptor.fields() {
            if let Some(value) = self.field(&field) {
                let value = if field.is_list() && !matches!(value, Value::List(_)) {
                    Value::List(vec![value])
                } else {
                    value
                };
                message.set_field(&field, value);
            }
        }
        message
    }

    fn field(&mut self, field: &FieldDescriptor) -> Option<Value> {
        let key = format!("{}.{}", field.parent_message().name(), field.name());
        let any = format!("*.{}", field.name());
        if let Some(seed) = SEEDS.get(&key).or_else(|| SEEDS.get(&any)) {
            return self.seed(&key, field, seed);
        }
        let comment = comment(field);
        if comment.starts_with("Output only") || field.name() == "page_token" {
            return None;
        }
        let required = comment.starts_with("Required") || comment.starts_with("Immutable");
        let value = match field.kind() {
            Kind::String if field.name() == "request_id" => {
                Some(Value::String(self.request_id.clone()))
            }
            Kind::String => pattern(&comment)
                .and_then(|pattern| self.world.named(pattern))
                .map(|name| Value::String(name.to_owned())),
            Kind::Bytes => self
                .world
                .bytes(field.name().trim_end_matches('s'))
                .map(|bytes| Value::Bytes(bytes.to_vec().into())),
            Kind::Int32 if field.name() == "page_size" => Some(Value::I32(1)),
            Kind::Enum(_) if required => Some(Value::EnumNumber(1)),
            Kind::Message(inner) if inner.full_name() == "google.protobuf.Timestamp" => {
                required.then(|| Value::Message(self.time(&inner)))
            }
            Kind::Message(inner) if required => Some(Value::Message(self.message(&inner))),
            _ => None,
        };
        if value.is_none() && required {
            self.missing.push(key);
        }
        value
    }

    fn time(&self, descriptor: &MessageDescriptor) -> DynamicMessage {
        let mut time = DynamicMessage::new(descriptor.clone());
        time.set_field_by_name("seconds", Value::I64(self.soon));
        time
    }

    fn seed(&mut self, key: &str, field: &FieldDescriptor, seed: &toml::Value) -> Option<Value> {
        let value = match (seed, field.kind()) {
            (toml::Value::String(text), _) if text.is_empty() => return None,
            (toml::Value::Array(list), _) => {
                let values = list.iter().filter_map(|one| self.seed(key, field, one));
                Some(Value::List(values.collect()))
            }
            (toml::Value::Boolean(value), _) => Some(Value::Bool(*value)),
            (toml::Value::Integer(number), kind) => whole(*number, &kind),
            (toml::Value::String(_), Kind::Message(inner)) => {
                Some(Value::Message(self.message(&inner)))
            }
            (toml::Value::String(text), Kind::Bytes) => {
                self.bytes(text).map(|bytes| Value::Bytes(bytes.into()))
            }
            (toml::Value::String(text), _) => self.text(text).map(Value::String),
            _ => None,
        };
        if value.is_none() {
            self.missing.push(format!("{key} (seeded with {seed})"));
        }
        value
    }

    /// "$hex:pattern" is the id of a name of its, "$field" what was seen.
    fn bytes(&self, seed: &str) -> Option<Vec<u8>> {
        if let Some(pattern) = seed.strip_prefix("$hex:") {
            let (_, id) = self.world.named(pattern)?.rsplit_once('/')?;
            return hex::decode(id).ok();
        }
        match seed.strip_prefix('$') {
            Some(name) => self.world.bytes(name).map(<[u8]>::to_vec),
            None => Some(seed.as_bytes().to_vec()),
        }
    }

    /// "$tenant" is its name, "$id" its id, "$canary" its canary, "$name:pattern" a name of its, "$text:field" what was seen.
    fn text(&self, seed: &str) -> Option<String> {
        if let Some(pattern) = seed.strip_prefix("$name:") {
            return self.world.named(pattern).map(str::to_owned);
        }
        if let Some(field) = seed.strip_prefix("$text:") {
            return self.world.text(field).map(str::to_owned);
        }
        let text = seed.replace("$tenant", &self.world.name());
        let text = text.replace("$id", &self.world.id);
        Some(text.replace("$canary", &self.world.canary))
    }
}

/// The first name that a comment shows.
fn pattern(comment: &str) -> Option<&str> {
    let mut quoted = comment.split('"').skip(1).step_by(2);
    quoted.find(|text| text.starts_with("tenants/{tenant}"))
}

fn whole(number: i64, kind: &Kind) -> Option<Value> {
    Some(match kind {
        Kind::Int32 => Value::I32(i32::try_from(number).ok()?),
        Kind::Int64 => Value::I64(number),
        Kind::Uint32 => Value::U32(u32::try_from(number).ok()?),
        Kind::Uint64 => Value::U64(u64::try_from(number).ok()?),
        Kind::Enum(_) => Value::EnumNumber(i32::try_from(number).ok()?),
        _ => return None,
    })
}
