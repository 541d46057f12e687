//! Answers as a table for people or as JSON for programs.

use anyhow::Context as _;
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use prost_reflect::{
    DynamicMessage, Kind, MessageDescriptor, ReflectMessage as _, SerializeOptions,
};
use serde_json::Value;

use super::schema;

/// How answers are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// Aligned columns.
    Table,
    /// One JSON object.
    Json,
}

/// protobuf's JSON form with the field names of the protos and bytes in hex.
pub(crate) fn to_json(message: &DynamicMessage) -> anyhow::Result<Value> {
    let options = SerializeOptions::new()
        .use_proto_field_name(true)
        .stringify_64_bit_integers(false)
        .skip_default_fields(false);
    let mut value = message
        .serialize_with_options(serde_json::value::Serializer, &options)
        .context("the answer cannot be shown as JSON")?;
    bytes_to_hex(&mut value, &message.descriptor());
    Ok(value)
}

fn bytes_to_hex(value: &mut Value, descriptor: &MessageDescriptor) {
    let Value::Object(map) = value else { return };
    for field in descriptor.fields() {
        let Some(inner) = map.get_mut(field.name()) else {
            continue;
        };
        let each: Vec<&mut Value> = match inner {
            Value::Array(values) => values.iter_mut().collect(),
            single => vec![single],
        };
        for item in each {
            match (field.kind(), &*item) {
                (Kind::Bytes, Value::String(text)) => {
                    // Notes and proofs are text already; everything else is easier to compare in hex.
                    if let Ok(bytes) = BASE64.decode(text) {
                        *item = Value::String(match String::from_utf8(bytes) {
                            Ok(note) if note.ends_with('\n') => note,
                            Ok(other) => hex::encode(other),
                            Err(raw) => hex::encode(raw.into_bytes()),
                        });
                    }
                }
                (Kind::Message(message), Value::Object(_)) => bytes_to_hex(item, &message),
                _ => {}
            }
        }
    }
}

/// The rows a table shows: the elements of the answer's list, or its one resource.
pub(crate) fn rows(message: &DynamicMessage) -> anyhow::Result<Vec<Value>> {
    let json = to_json(message)?;
    let Value::Object(map) = &json else {
        return Ok(vec![json]);
    };
    if let Some(field) = schema::list_field(message)
        && message.descriptor().fields().count() <= 3
        && let Some(Value::Array(values)) = map.get(field.name())
    {
        return Ok(values.clone());
    }
    let resource = message
        .descriptor()
        .fields()
        .find(|field| match field.kind() {
            Kind::Message(inner) => {
                !field.is_list() && inner.full_name() != "counterfoil.type.v1.Receipt"
            }
            _ => false,
        });
    match resource.and_then(|field| map.get(field.name()).cloned()) {
        Some(inner @ Value::Object(_)) => Ok(vec![inner]),
        _ => Ok(vec![json]),
    }
}

/// Aligned columns with a header.
pub(crate) fn table(rows: &[Value], columns: &[&str]) -> String {
    let columns: Vec<String> = if columns.is_empty() {
        rows.first().map(scalar_columns).unwrap_or_default()
    } else {
        columns.iter().map(|&column| column.to_owned()).collect()
    };
    let mut lines: Vec<Vec<String>> = vec![
        columns
            .iter()
            .map(|column| column.rsplit('.').next().unwrap_or(column).to_uppercase())
            .collect(),
    ];
    lines.extend(rows.iter().map(|row| {
        columns
            .iter()
            .map(|column| cell(lookup(row, column)))
            .collect()
    }));
    let widths: Vec<usize> = (0..columns.len())
        .map(|at| {
            lines
                .iter()
                .filter_map(|line| line.get(at))
                .map(|text| text.chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for line in lines {
        let cells: Vec<String> = line
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn scalar_columns(row: &Value) -> Vec<String> {
    match row {
        Value::Object(map) => map
            .iter()
            .filter(|(_, value)| !value.is_object())
            .map(|(key, _)| key.clone())
            .collect(),
        _ => Vec::new(),
    }
}

fn lookup<'a>(row: &'a Value, path: &str) -> &'a Value {
    path.split('.')
        .fold(row, |value, key| value.get(key).unwrap_or(&Value::Null))
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => {
            // What a source calls something must not move the cursor of who reads it.
            text.chars()
                .map(|c| if c.is_control() { ' ' } else { c })
                .collect()
        }
        Value::Array(values) => values.iter().map(cell).collect::<Vec<_>>().join(","),
        Value::Object(map) => map
            .iter()
            .filter(|(_, value)| value.as_u64() != Some(0) && !value.is_null())
            .map(|(key, value)| format!("{key}={}", cell(value)))
            .collect::<Vec<_>>()
            .join(" "),
        other => other.to_string(),
    }
}
