//! Where a foreign tenant can be named in a call. Found by comparing the attacker's own request with the victim's: whatever
//! differs carries a tenant.

use bytes::Bytes;
use prost::Message as _;
use prost_reflect::{DynamicMessage, MessageDescriptor, SerializeOptions};
use serde_json::Value;

use crate::{api::Rpc, suite::Governed, wire::Headers, world::World};

/// A tenant that does not exist, as long a name as the victim's.
pub const NOBODY: &str = "nowhere-org";

/// What must come of it when the caller's role allows the rpc in its own tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// An error, the same bytes as for `twin`, which names what does not exist.
    AsMissing,
    /// Whatever comes of `twin`, but for the id that the caller sent itself.
    LikeMissing,
    /// An error.
    Refused,
    /// Whatever it is, nothing of the victim is in it.
    NoLeak,
}

/// One way to name the victim.
#[derive(Debug, Clone)]
pub struct Carrier {
    pub name: String,
    pub outcome: Outcome,
    pub messages: Vec<Bytes>,
    /// The same with what does not exist.
    pub twin: Option<Vec<Bytes>>,
    /// What `twin` has in place of what.
    pub instead: (String, String),
    pub headers: Headers,
}

/// All carriers of an rpc. The first is the victim's whole request.
pub fn all(governed: &Governed, rpc: &Rpc) -> Vec<Carrier> {
    let input = rpc.method.input();
    let own = json(&governed.request(rpc, &governed.attacker));
    let foreign = json(&governed.request(rpc, &governed.victim));
    let differing = differences(&own, &foreign);
    let mut carriers = whole(governed, &input, &own, &foreign, &differing);
    // An answer to an older request must not stand in for one to this.
    let mut fresh = own.clone();
    if let Some(request) = fresh.as_object_mut() {
        request.remove("requestId");
    }
    for (pointer, value) in &differing {
        // The one field is the whole request, and has been there.
        if differing.len() > 1 {
            let mut mixed = if pointer == "/requestId" {
                own.clone()
            } else {
                fresh.clone()
            };
            *mixed.pointer_mut(pointer).unwrap() = value.clone();
            let refused = !rpc.reads() && is_name(value, &governed.victim);
            let outcome = if refused {
                Outcome::Refused
            } else {
                Outcome::NoLeak
            };
            carriers.push(part(&input, format!("field {pointer}"), outcome, &mixed));
        }
        if let Some((swapped, missing, instead)) = swapped(&fresh, pointer, value, governed) {
            let name = format!("the id in {pointer}");
            carriers.push(Carrier {
                twin: Some(vec![bytes(&input, &missing)]),
                instead,
                ..part(&input, name, Outcome::LikeMissing, &swapped)
            });
        }
    }
    if let Some(token) = governed.victim.token(&rpc.name()) {
        for field in ["pageToken", "resumeToken"] {
            if input.fields().any(|known| known.json_name() == field) {
                let mut stolen = fresh.clone();
                stolen[field] = token.into();
                let name = format!("the token in {field}");
                carriers.push(part(&input, name, Outcome::Refused, &stolen));
            }
        }
    }
    if rpc.method.is_client_streaming() {
        let name = "a switch in mid-stream".to_owned();
        let mut switched = part(&input, name, Outcome::Refused, &own);
        switched.messages.push(bytes(&input, &foreign));
        carriers.push(switched);
    }
    carriers
}

/// The whole request of the victim, and what metadata could claim beside it.
fn whole(
    governed: &Governed,
    input: &MessageDescriptor,
    own: &Value,
    foreign: &Value,
    differing: &[(String, Value)],
) -> Vec<Carrier> {
    // A request id alone names no tenant.
    let names_tenant = differing.iter().any(|(pointer, _)| pointer != "/requestId");
    let outcome = if names_tenant {
        Outcome::AsMissing
    } else {
        Outcome::NoLeak
    };
    let nobody = renamed(foreign, &governed.victim.id, NOBODY);
    let whole = Carrier {
        twin: names_tenant.then(|| vec![bytes(input, &nobody)]),
        ..part(input, "the whole request".to_owned(), outcome, foreign)
    };
    let name = "the whole request, with metadata that claims the tenant".to_owned();
    let claimed = Carrier {
        name,
        headers: claims(&governed.victim),
        ..whole.clone()
    };
    let metadata = Carrier {
        headers: claims(&governed.victim),
        ..part(input, "metadata".to_owned(), Outcome::NoLeak, own)
    };
    vec![whole, claimed, metadata]
}

fn part(input: &MessageDescriptor, name: String, outcome: Outcome, value: &Value) -> Carrier {
    Carrier {
        name,
        outcome,
        messages: vec![bytes(input, value)],
        twin: None,
        instead: Default::default(),
        headers: Vec::new(),
    }
}

/// Whether it names something of a tenant. Other texts may be the same in two tenants.
fn is_name(value: &Value, world: &World) -> bool {
    let name = world.name();
    let rest = value.as_str().and_then(|text| text.strip_prefix(&name));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// One's own name with the victim's id in it, and with an id that nobody has; and the two ids.
fn swapped(
    own: &Value,
    pointer: &str,
    foreign: &Value,
    governed: &Governed,
) -> Option<(Value, Value, (String, String))> {
    let (prefix, own_id) = own.pointer(pointer)?.as_str()?.rsplit_once('/')?;
    let (_, id) = foreign.as_str()?.rsplit_once('/')?;
    if !prefix.starts_with(&format!("{}/", governed.attacker.name())) || id == own_id {
        return None;
    }
    let mut unknown = id.to_owned();
    let last = unknown.pop()?;
    unknown.push(if last == '1' { '2' } else { '1' });
    let with = |id: &str| {
        let mut request = own.clone();
        *request.pointer_mut(pointer)? = format!("{prefix}/{id}").into();
        Some(request)
    };
    Some((with(id)?, with(&unknown)?, (unknown, id.to_owned())))
}

/// Headers that a careless service would believe.
fn claims(victim: &World) -> Headers {
    vec![
        ("tenant", victim.name()),
        ("x-tenant", victim.id.clone()),
        ("x-tenant-id", victim.id.clone()),
        ("x-counterfoil-tenant", victim.id.clone()),
        (
            "x-forwarded-user",
            format!("{}/principals/director", victim.name()),
        ),
        ("x-principal", "services/ledger".to_owned()),
        ("x-roles", "service,administrator".to_owned()),
    ]
}

/// A request as JSON.
pub fn json(message: &DynamicMessage) -> Value {
    let options = SerializeOptions::new();
    message
        .serialize_with_options(serde_json::value::Serializer, &options)
        .unwrap()
}

/// The bytes of a request.
pub fn bytes(input: &MessageDescriptor, value: &Value) -> Bytes {
    let message = DynamicMessage::deserialize(input.clone(), value.clone()).unwrap();
    message.encode_to_vec().into()
}

fn renamed(value: &Value, from: &str, to: &str) -> Value {
    serde_json::from_str(&value.to_string().replace(from, to)).unwrap()
}

/// The leaves of `foreign` that are others in `own`.
fn differences(own: &Value, foreign: &Value) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    walk(own, foreign, String::new(), &mut found);
    found
}

fn walk(own: &Value, foreign: &Value, pointer: String, found: &mut Vec<(String, Value)>) {
    match (own, foreign) {
        (Value::Object(own), Value::Object(foreign)) => {
            for (key, value) in foreign {
                let own = own.get(key).unwrap_or(&Value::Null);
                walk(own, value, format!("{pointer}/{key}"), found);
            }
        }
        (Value::Array(own), Value::Array(foreign)) => {
            for (index, value) in foreign.iter().enumerate() {
                let own = own.get(index).unwrap_or(&Value::Null);
                walk(own, value, format!("{pointer}/{index}"), found);
            }
        }
        // What only one of them has is no place to put the other's.
        (Value::Null, _) => {}
        (own, foreign) if own != foreign => found.push((pointer, foreign.clone())),
        _ => {}
    }
}
