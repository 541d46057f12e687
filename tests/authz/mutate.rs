//! What no client of ours would send, drawn from dice that fall the same each time.

use bytes::Bytes;
use prost_reflect::{DynamicMessage, MessageDescriptor};
use serde_json::{Value, json};

use crate::{
    carriers::{self, json},
    suite::Governed,
    wire::Headers,
};

/// One in so many values is a text of a mebibyte.
const HUGE_ONE_IN: u64 = 150;
/// Deeper than any decoder should follow.
const DEPTH_MAX: usize = 150;

/// What a service is sent.
#[derive(Debug, Clone)]
pub struct Mutation {
    pub headers: Headers,
    pub body: Body,
}

/// The body of a call.
#[derive(Debug, Clone)]
pub enum Body {
    /// Messages, in well-formed frames.
    Messages(Vec<Bytes>),
    /// Not even frames.
    Frames(Bytes),
}

impl Mutation {
    /// All that is sent.
    pub fn bytes(&self) -> Vec<u8> {
        match &self.body {
            Body::Messages(messages) => messages.concat(),
            Body::Frames(bytes) => bytes.to_vec(),
        }
    }
}

/// Mutations of the requests to one rpc.
#[derive(Debug)]
pub struct Mutator {
    number: u64,
    input: MessageDescriptor,
    streams_in: bool,
    base: Value,
    /// Tokens that this rpc and others gave, to both tenants.
    tokens: Vec<String>,
}

impl Mutator {
    /// Of the rpc with this number in the list of all.
    pub fn new(governed: &Governed, number: usize) -> Self {
        let rpc = &governed.rpcs[number];
        let worlds = [&governed.attacker, &governed.victim];
        let tokens = worlds.iter().flat_map(|world| {
            let others = governed.rpcs.iter().map(|other| world.token(&other.name()));
            let own = std::iter::repeat_n(world.token(&rpc.name()), 20);
            own.chain(others).flatten().map(str::to_owned)
        });
        Self {
            number: u64::try_from(number).unwrap(),
            input: rpc.method.input(),
            streams_in: rpc.method.is_client_streaming(),
            base: json(&governed.request(rpc, &governed.attacker)),
            tokens: tokens.collect(),
        }
    }

    /// The mutation of a round, the same each time.
    pub fn of(&self, round: u64) -> Mutation {
        let mut dice = Dice(self.number << 32 | round);
        let valid = carriers::bytes(&self.input, &self.base).to_vec();
        let (mut headers, mut body) = (Headers::new(), None);
        match dice.below(16) {
            0 => body = Some(Body::Frames(frames(&valid, &mut dice))),
            1 => headers = odd_headers(&mut dice),
            _ => {}
        }
        let body = body.unwrap_or_else(|| {
            let mutated = self.message(valid.clone(), &mut dice).into();
            Body::Messages(match self.streams_in {
                true => vec![valid.into(), mutated],
                false => vec![mutated],
            })
        });
        Mutation { headers, body }
    }

    /// The bytes of the request with something wrong in it.
    fn message(&self, valid: Vec<u8>, dice: &mut Dice) -> Vec<u8> {
        match dice.below(12) {
            0 => valid[..dice.below(valid.len())].to_vec(),
            1 => {
                let length = dice.below(300);
                dice.bytes(length)
            }
            2 => flipped(valid, dice),
            // Another wire type in the first tag.
            3 => {
                let tag = [dice.bytes(1)[0] & 0x7f];
                [&tag, valid.get(1..).unwrap_or_default()].concat()
            }
            // A field of a length that is not there.
            4 => [&valid[..], &[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f]].concat(),
            5 => [valid, nested(dice)].concat(),
            6 => [valid.clone(), valid].concat(),
            _ => {
                let mut request = self.base.clone();
                for _ in 0..=dice.below(3) {
                    let pointers = leaves(&self.input, &request);
                    let pointer = &pointers[dice.below(pointers.len())];
                    let value = self.odd(dice);
                    put(&mut request, pointer, value);
                }
                encoded(&self.input, &request).unwrap_or(valid)
            }
        }
    }

    /// A value that no client of ours would send, for any kind of field: texts are tokens, names and bytes too.
    fn odd(&self, dice: &mut Dice) -> Value {
        if dice.roll().is_multiple_of(HUGE_ONE_IN) {
            return json!("A".repeat(1 << 20));
        }
        if !self.tokens.is_empty() && dice.below(8) == 0 {
            let token = self.tokens[dice.below(self.tokens.len())].clone();
            let bytes = flipped(token.into_bytes(), dice);
            return json!(String::from_utf8_lossy(&bytes));
        }
        let odd = odd_values();
        odd[dice.below(odd.len())].clone()
    }
}

/// Numbers that are the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.roll() % u64::try_from(end.max(1)).unwrap()).unwrap()
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.roll().to_le_bytes()[0]).collect()
    }
}

/// Bytes with a few bits turned.
fn flipped(mut bytes: Vec<u8>, dice: &mut Dice) -> Vec<u8> {
    for _ in 0..=dice.below(4) {
        let position = dice.below(bytes.len());
        if let Some(byte) = bytes.get_mut(position) {
            *byte ^= 1 << dice.below(8);
        }
    }
    bytes
}

/// Messages in messages.
fn nested(dice: &mut Dice) -> Vec<u8> {
    let field = 0x0a + 8 * u8::try_from(dice.below(4)).unwrap();
    let mut nested = Vec::new();
    for _ in 0..=dice.below(DEPTH_MAX) {
        let mut outer = vec![field];
        prost::encoding::encode_varint(u64::try_from(nested.len()).unwrap(), &mut outer);
        outer.append(&mut nested);
        nested = outer;
    }
    nested
}

/// A body of gRPC frames (a flag, a length of four bytes, a message) that is none.
fn frames(valid: &[u8], dice: &mut Dice) -> Bytes {
    let length = u32::try_from(valid.len()).unwrap();
    let frame = |flag: u8, length: u32, message: &[u8]| {
        [&[flag][..], &length.to_be_bytes(), message].concat()
    };
    let good = frame(0, length, valid);
    let frames = match dice.below(10) {
        0 => Vec::new(),
        1 => good[..dice.below(good.len())].to_vec(),
        // It says that it is compressed, and how is not said.
        2 => frame(1, length, valid),
        3 => frame(dice.bytes(1)[0] | 2, length, valid),
        4 => frame(0, length + 1, valid),
        5 => frame(0, length.saturating_sub(1), valid),
        6 => frame(0, u32::MAX, valid),
        7 => frame(0, 1 << 30, valid),
        // A second message where one is awaited.
        8 => [good.clone(), good].concat(),
        _ => {
            let length = dice.below(64);
            dice.bytes(length)
        }
    };
    frames.into()
}

/// Metadata that no client of ours would send.
fn odd_headers(dice: &mut Dice) -> Headers {
    let odd: [(&'static str, String); 13] = [
        ("grpc-timeout", "99999999S".to_owned()),
        ("grpc-timeout", "-1S".to_owned()),
        ("grpc-timeout", "18446744073709551616n".to_owned()),
        ("grpc-timeout", "1n".to_owned()),
        ("grpc-encoding", "gzip".to_owned()),
        ("grpc-encoding", "nonsense".to_owned()),
        ("grpc-accept-encoding", "nonsense".to_owned()),
        ("x-request-id", "'; DROP TABLE tenants; --".to_owned()),
        ("x-request-id", "i".repeat(10_000)),
        ("x-counterfoil-tenant", "*".to_owned()),
        ("x-counterfoil-tenant", "victim-corp".to_owned()),
        ("traceparent", "00-0-0-0".to_owned()),
        ("x-anything", "h".repeat(12_000)),
    ];
    vec![odd[dice.below(odd.len())].clone()]
}

/// Pointers to all leaves, and to all fields that are not set.
fn leaves(input: &MessageDescriptor, request: &Value) -> Vec<String> {
    let mut found = Vec::new();
    walk(request, "", &mut found);
    let fields = input.fields();
    found.extend(fields.map(|field| format!("/{}", field.json_name())));
    found
}

fn walk(value: &Value, pointer: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                walk(value, &format!("{pointer}/{key}"), found);
            }
        }
        Value::Array(values) => {
            for (index, value) in values.iter().enumerate() {
                walk(value, &format!("{pointer}/{index}"), found);
            }
        }
        _ => found.push(pointer.to_owned()),
    }
}

fn put(request: &mut Value, pointer: &str, value: Value) {
    if let Some(place) = request.pointer_mut(pointer) {
        *place = value;
    } else if let Some(fields) = request.as_object_mut() {
        fields.insert(pointer.trim_start_matches('/').to_owned(), value);
    }
}

/// The request's bytes, when all values fit their fields.
fn encoded(input: &MessageDescriptor, request: &Value) -> Option<Vec<u8>> {
    let message = DynamicMessage::deserialize(input.clone(), request.clone()).ok()?;
    Some(prost::Message::encode_to_vec(&message))
}

fn odd_values() -> Vec<Value> {
    vec![
        json!(""),
        json!("\u{0}"),
        json!("a\u{0}b\r\n\u{1b}[31m"),
        json!("\u{202e}drowssap\u{2066}\u{200b}\u{feff}"),
        json!("'; DROP TABLE tenants; --"),
        json!("../../../etc/passwd"),
        json!("tenants/"),
        json!("tenants/*"),
        json!("tenants/-/principals/-"),
        json!("tenants/a/b/c/d/e/f/g/h"),
        json!(format!("tenants/{}", "a".repeat(200))),
        json!("tenants/mallory-corp/principals/%2e%2e"),
        json!("tenants/mallory-corp/principals/unknown"),
        json!("tenants/mallory-corp/campaigns/.."),
        json!("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
        json!("//////////8="),
        json!("=cmd|' /C calc'!A0"),
        json!("{\"kind\":\"csv\",\"directory\":\"/etc\"}"),
        json!("{\"kind\":".repeat(500)),
        json!(i64::MAX.to_string()),
        json!(i64::MIN.to_string()),
        json!(u64::MAX.to_string()),
        json!(i32::MAX),
        json!(i32::MIN),
        json!(-1),
        json!(0),
        json!(1),
        json!(99_999),
        json!(true),
        json!(false),
        json!("9999-12-31T23:59:59.999999999Z"),
        json!("0001-01-01T00:00:00Z"),
        json!([]),
        json!([[]]),
        json!([""]),
        json!(["\u{0}"]),
        json!({}),
        json!([{}, {}]),
        json!(vec!["x"; 2_000]),
    ]
}
