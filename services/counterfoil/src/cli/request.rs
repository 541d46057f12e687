//! From flags to a request message.

use anyhow::{Context as _, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use clap::ArgMatches;
use prost_reflect::{DynamicMessage, Kind, MethodDescriptor};
use serde_json::{Map, Value};

use super::{
    commands::Spec,
    schema::{self, Flag},
};

/// Builds the request of a command.
pub(super) fn build(
    spec: &Spec,
    method: &MethodDescriptor,
    matches: &ArgMatches,
    tenant: Option<&str>,
    now: jiff::Timestamp,
) -> anyhow::Result<DynamicMessage> {
    let mut root = Map::new();
    for flag in schema::flags(&method.input()) {
        let name = flag.name();
        let path = flag.path.join(".");
        let collection = spec
            .positional
            .iter()
            .find(|(field, _)| *field == path)
            .map(|(_, collection)| *collection);
        let value = if matches!(flag.field.kind(), Kind::Bool) {
            matches.get_flag(&name).then_some(Value::Bool(true))
        } else if flag.field.is_list() {
            let values: Vec<Value> = matches
                .get_many::<String>(&name)
                .into_iter()
                .flatten()
                .map(|text| convert(&flag, text, now))
                .collect::<anyhow::Result<_>>()?;
            (!values.is_empty()).then_some(Value::Array(values))
        } else {
            let text = matches.get_one::<String>(&name).cloned();
            let text = match (text, collection) {
                (Some(text), Some(collection)) => Some(full_name(&text, collection, tenant)?),
                (None, Some("tenants")) => match tenant {
                    Some(tenant) => Some(full_name(tenant, "tenants", None)?),
                    None => bail!("say which tenant: as the first argument or with --tenant"),
                },
                (text, _) => text,
            };
            text.map(|text| convert(&flag, &text, now)).transpose()?
        };
        if let Some(value) = value {
            insert(&mut root, &flag.path, value);
        }
    }
    if method.input().get_field_by_name("request_id").is_some() && !root.contains_key("request_id")
    {
        // A retry of this very process is the same request; another call of the command is another one.
        let id = uuid::Uuid::now_v7().to_string();
        root.insert("request_id".to_owned(), Value::String(id));
    }
    DynamicMessage::deserialize(method.input(), Value::Object(root))
        .with_context(|| format!("the request of {} cannot be built", method.full_name()))
}

/// "acme" -> "tenants/acme"; "crm" in "sources" -> "tenants/acme/sources/crm".
fn full_name(text: &str, collection: &str, tenant: Option<&str>) -> anyhow::Result<String> {
    if collection.is_empty() || text.starts_with("tenants/") {
        return Ok(text.to_owned());
    }
    if collection == "tenants" {
        return Ok(format!("tenants/{text}"));
    }
    let Some(tenant) = tenant else {
        bail!(
            "{text:?} needs a tenant: give --tenant, or the full name tenants/.../{collection}/{text}"
        );
    };
    let tenant = tenant.strip_prefix("tenants/").unwrap_or(tenant);
    Ok(format!("tenants/{tenant}/{collection}/{text}"))
}

fn insert(root: &mut Map<String, Value>, path: &[String], value: Value) {
    match path {
        [] => {}
        [last] => {
            root.insert(last.clone(), value);
        }
        [first, rest @ ..] => {
            let nested = root
                .entry(first.clone())
                .or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(nested) = nested {
                insert(nested, rest, value);
            }
        }
    }
}

/// One value in protobuf's JSON form.
fn convert(flag: &Flag, text: &str, now: jiff::Timestamp) -> anyhow::Result<Value> {
    let name = flag.name();
    Ok(match flag.field.kind() {
        Kind::String => Value::String(match text.strip_prefix('@') {
            Some(file) if name.ends_with("-json") => std::fs::read_to_string(file)
                .with_context(|| format!("--{name}: {file} cannot be read"))?,
            _ => text.to_owned(),
        }),
        Kind::Bytes => Value::String(
            BASE64.encode(hex::decode(text).with_context(|| format!("--{name} takes hex digits"))?),
        ),
        Kind::Enum(descriptor) => {
            let wanted = text.to_uppercase().replace('-', "_");
            let found = descriptor.values().find(|value| {
                value.name() == wanted || value.name().ends_with(&format!("_{wanted}"))
            });
            let Some(found) = found.filter(|value| value.number() != 0) else {
                let known = schema::short_values(&descriptor).join(", ");
                bail!("--{name} takes one of {known}, not {text:?}");
            };
            Value::String(found.name().to_owned())
        }
        Kind::Message(message) if message.full_name() == "google.protobuf.Timestamp" => {
            Value::String(moment(text, now).with_context(|| format!("--{name}"))?)
        }
        Kind::Message(_) => {
            serde_json::from_str(text).with_context(|| format!("--{name} takes JSON"))?
        }
        _ => {
            let number: Result<i128, _> = text.parse();
            number.with_context(|| format!("--{name} takes a number, not {text:?}"))?;
            Value::String(text.to_owned())
        }
    })
}

/// RFC 3339, or "+30d", "+12h", "+15m", "+10s" from now.
fn moment(text: &str, now: jiff::Timestamp) -> anyhow::Result<String> {
    let Some(relative) = text.strip_prefix('+') else {
        let moment: jiff::Timestamp = text
            .parse()
            .with_context(|| format!("{text:?} is neither RFC 3339 nor +DURATION"))?;
        return Ok(moment.to_string());
    };
    let unit_at = relative.len().saturating_sub(1);
    let (number, unit) = relative
        .split_at_checked(unit_at)
        .with_context(|| format!("{text:?} is no duration"))?;
    let number: i64 = number
        .parse()
        .with_context(|| format!("{text:?} is no duration"))?;
    let seconds = match unit {
        "d" => number.checked_mul(86_400),
        "h" => number.checked_mul(3_600),
        "m" => number.checked_mul(60),
        "s" => Some(number),
        _ => bail!("{text:?} ends in none of d, h, m, s"),
    };
    let seconds = seconds.with_context(|| format!("{text:?} is too long"))?;
    Ok(now
        .checked_add(jiff::SignedDuration::from_secs(seconds))
        .with_context(|| format!("{text:?} is too long"))?
        .to_string())
}
