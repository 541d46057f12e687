//! JSON in which no name stands twice: of two claims of one name, two readers may take another one each.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};

/// Members of an object.
pub(crate) type Object = BTreeMap<String, Value>;

/// A value, as far as claims and keys need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    /// null, a boolean, or a number that is no integer of 64 bits.
    Other,
    Int(i64),
    String(String),
    Array(Vec<Value>),
    Object(Object),
}

impl Value {
    /// The text, if it is one.
    pub(crate) fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The number, if it is an integer.
    pub(crate) const fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(*number),
            _ => None,
        }
    }
}

/// Reads an object. `None`: it is none, or a name stands twice somewhere in it.
pub(crate) fn object(json: &[u8]) -> Option<Object> {
    match serde_json::from_slice(json).ok()? {
        Value::Object(object) => Some(object),
        _ => None,
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Strict)
    }
}

struct Strict;

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without doubles")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Other)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Value, E> {
        Ok(Value::Other)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Value, E> {
        Ok(Value::Other)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Int(number))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Value, E> {
        Ok(i64::try_from(number).map_or(Value::Other, Value::Int))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = seq.next_element()? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut object = Object::new();
        while let Some((name, value)) = map.next_entry::<String, Value>()? {
            if object.insert(name, value).is_some() {
                return Err(A::Error::custom("a name stands twice"));
            }
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_stands_twice_is_refused_however_deep() {
        assert!(object(br#"{"a":1,"b":{"a":2}}"#).is_some());
        assert!(object(br#"{"a":1,"a":1}"#).is_none());
        assert!(object(br#"{"a":1,"\u0061":1}"#).is_none());
        assert!(object(br#"{"a":[{"b":1,"b":2}]}"#).is_none());
        for text in ["", "[]", "1", "{} {}", "{\"a\":1}x"] {
            assert!(object(text.as_bytes()).is_none(), "{text}");
        }
        // As deep as serde goes, and no deeper.
        assert!(object("{\"a\":".repeat(1_000).as_bytes()).is_none());
    }

    #[test]
    fn only_integers_are_numbers() {
        let read = object(br#"{"a":1.5,"b":1e3,"c":-7,"d":18446744073709551615}"#).unwrap();
        let ints: Vec<Option<i64>> = read.values().map(Value::as_int).collect();
        assert_eq!(ints, [None, None, Some(-7), None]);
    }
}
