//! Calls as bytes: what goes out is exactly what a test says, and all that comes back is kept.

use std::{collections::BTreeMap, time::Duration};

use bytes::{Buf, BufMut, Bytes};
use tokio::time::timeout;
use tonic::{
    Code, Request, Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    metadata::{Ascii, KeyAndValueRef, MetadataKey, MetadataMap, MetadataValue},
    transport::Channel,
};

/// No call may take longer.
pub const DEADLINE: Duration = Duration::from_secs(20);
/// Messages read from one stream.
const MESSAGES_MAX: usize = 200;

/// All that came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub code: Code,
    pub message: String,
    pub details: Vec<u8>,
    pub metadata: BTreeMap<String, Vec<u8>>,
    pub messages: Vec<Bytes>,
}

impl Answer {
    /// All of it, to be searched.
    pub fn bytes(&self) -> Vec<u8> {
        let mut all = self.message.clone().into_bytes();
        all.push(0);
        all.extend_from_slice(&self.details);
        for (key, value) in &self.metadata {
            all.push(0);
            all.extend_from_slice(key.as_bytes());
            all.push(0);
            all.extend_from_slice(value);
        }
        for message in &self.messages {
            all.push(0);
            all.extend_from_slice(message);
        }
        all
    }

    fn failed(status: &Status) -> Self {
        Self {
            code: status.code(),
            message: status.message().to_owned(),
            details: status.details().to_vec(),
            metadata: kept(status.metadata()),
            messages: Vec::new(),
        }
    }
}

/// Metadata without what differs from call to call by itself.
fn kept(metadata: &MetadataMap) -> BTreeMap<String, Vec<u8>> {
    metadata
        .iter()
        .map(|entry| match entry {
            KeyAndValueRef::Ascii(key, value) => {
                (key.as_str().to_owned(), value.as_encoded_bytes().to_vec())
            }
            KeyAndValueRef::Binary(key, value) => {
                (key.as_str().to_owned(), value.as_encoded_bytes().to_vec())
            }
        })
        .filter(|(key, _)| key != "date")
        .collect()
}

/// Headers of a call, in order; a name may stand twice.
pub type Headers = Vec<(&'static str, String)>;

/// Calls `path` with these messages. A call that does not end in time is answered with `None`.
pub async fn call(
    channel: &Channel,
    path: &str,
    headers: &Headers,
    messages: Vec<Bytes>,
) -> Option<Answer> {
    timeout(DEADLINE, answer(channel, path, headers, messages))
        .await
        .ok()
}

async fn answer(channel: &Channel, path: &str, headers: &Headers, messages: Vec<Bytes>) -> Answer {
    let mut client = tonic::client::Grpc::new(channel.clone())
        .max_decoding_message_size(16 << 20)
        .max_encoding_message_size(16 << 20);
    client.ready().await.expect("the service listens");
    let mut request = Request::new(futures::stream::iter(messages));
    for (name, value) in headers {
        let value: MetadataValue<Ascii> = value.parse().unwrap();
        request
            .metadata_mut()
            .append(MetadataKey::from_static(name), value);
    }
    let path = http::uri::PathAndQuery::try_from(path).unwrap();
    let response = match client.streaming(request, path, Raw).await {
        Ok(response) => response,
        Err(status) => return Answer::failed(&status),
    };
    let (head, mut stream, _) = response.into_parts();
    let mut metadata = kept(&head);
    let mut messages = Vec::new();
    while messages.len() < MESSAGES_MAX {
        match stream.message().await {
            Ok(Some(message)) => messages.push(message),
            Ok(None) => break,
            Err(status) => {
                let mut failed = Answer::failed(&status);
                failed.metadata.append(&mut metadata);
                failed.messages = messages;
                return failed;
            }
        }
    }
    if let Ok(Some(trailers)) = stream.trailers().await {
        metadata.append(&mut kept(&trailers));
    }
    Answer {
        code: Code::Ok,
        message: String::new(),
        details: Vec::new(),
        metadata,
        messages,
    }
}

/// Messages as they are.
#[derive(Debug, Clone, Copy)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let length = buffer.remaining();
        Ok(Some(buffer.copy_to_bytes(length)))
    }
}
