//! Calls as bytes: what goes out is exactly what a test says, and all that comes back is kept.

use std::{collections::BTreeMap, time::Duration};

use bytes::{Buf, BufMut, Bytes};
use http_body_util::{BodyExt as _, Full};
use tokio::time::timeout;
use tonic::{
    Code, Request, Status,
    body::Body,
    client::GrpcService,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    metadata::{Ascii, KeyAndValueRef, MetadataKey, MetadataMap, MetadataValue},
    transport::Channel,
};

/// No call may take longer.
pub const DEADLINE: Duration = Duration::from_secs(20);
/// So long a stream may be silent before it is left open.
const MOMENT: Duration = Duration::from_millis(200);
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

    fn of(metadata: BTreeMap<String, Vec<u8>>, messages: Vec<Bytes>) -> Self {
        Self {
            code: Code::Ok,
            message: String::new(),
            details: Vec::new(),
            metadata,
            messages,
        }
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
    let answer = answer(channel, path, headers, messages, DEADLINE);
    timeout(DEADLINE, answer).await.ok()
}

/// As [`call`], but a stream is left when nothing comes for a moment.
pub async fn ask(
    channel: &Channel,
    path: &str,
    headers: &Headers,
    messages: Vec<Bytes>,
) -> Option<Answer> {
    let answer = answer(channel, path, headers, messages, MOMENT);
    timeout(DEADLINE, answer).await.ok()
}

/// As [`ask`], with a body that need not be made of frames; what comes back is kept as one message.
pub async fn post(channel: &Channel, path: &str, headers: &Headers, body: Bytes) -> Option<Answer> {
    timeout(DEADLINE, posted(channel, path, headers, body))
        .await
        .ok()
}

async fn posted(channel: &Channel, path: &str, headers: &Headers, body: Bytes) -> Answer {
    let mut request = http::Request::post(format!("http://service{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    let request = request.body(Body::new(Full::new(body))).unwrap();
    let mut channel = channel.clone();
    let ready = std::future::poll_fn(|context| channel.poll_ready(context)).await;
    ready.expect("the service listens");
    let (head, mut body) = match channel.call(request).await {
        Ok(response) => response.into_parts(),
        Err(error) => return Answer::failed(&Status::unavailable(error.to_string())),
    };
    let mut trailers = head.headers;
    let mut messages = Vec::new();
    while let Ok(Some(Ok(frame))) = timeout(MOMENT, body.frame()).await {
        match frame.into_data() {
            Ok(data) => messages.push(data),
            Err(frame) => trailers.extend(frame.into_trailers().unwrap_or_default()),
        }
    }
    let mut answer = Status::from_header_map(&trailers).map_or_else(
        || Answer::of(BTreeMap::new(), Vec::new()),
        |status| Answer::failed(&status),
    );
    answer.messages = messages;
    answer
}

async fn answer(
    channel: &Channel,
    path: &str,
    headers: &Headers,
    messages: Vec<Bytes>,
    patience: Duration,
) -> Answer {
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
    loop {
        // What follows a stream's end would be awaited for ever.
        if messages.len() == MESSAGES_MAX {
            return Answer::of(metadata, messages);
        }
        match timeout(patience, stream.message()).await {
            Ok(Ok(Some(message))) => messages.push(message),
            Ok(Ok(None)) => break,
            Err(_) => return Answer::of(metadata, messages),
            Ok(Err(status)) => {
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
    Answer::of(metadata, messages)
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
