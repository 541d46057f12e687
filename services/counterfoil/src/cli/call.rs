//! Calls a method by its descriptor.

use anyhow::Context as _;
use bytes::{Buf as _, BufMut as _};
use prost::Message as _;
use prost_reflect::{DynamicMessage, MessageDescriptor, MethodDescriptor};
use tonic::{
    Request, Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    metadata::{AsciiMetadataValue, MetadataValue},
    transport::Channel,
};

use crate::endpoints::Endpoints;

/// A connection to one service, with the caller's token.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    channel: Channel,
    token: String,
    customer: Option<AsciiMetadataValue>,
}

impl Connection {
    /// Connects to a service.
    pub(crate) async fn open(
        endpoints: &Endpoints,
        service: &str,
        token: String,
    ) -> anyhow::Result<Self> {
        let connection = endpoints.connection(service)?;
        let channel = connection.connect().await.with_context(|| {
            let address = connection.uri();
            format!("no service answers at {address}; is `counterfoil up` running?")
        })?;
        Ok(Self {
            channel,
            token,
            customer: None,
        })
    }

    /// The same for a customer of the caller's provider.
    pub(crate) fn acting_for(self, customer: Option<&str>) -> anyhow::Result<Self> {
        let customer = customer.map(AsciiMetadataValue::try_from).transpose();
        let customer = customer.context("the customer has odd characters")?;
        Ok(Self { customer, ..self })
    }

    /// Calls `method`; hands every message of the answer to `sink`. A unary answer is one message.
    pub(crate) async fn call(
        &self,
        method: &MethodDescriptor,
        message: DynamicMessage,
        mut sink: impl FnMut(DynamicMessage) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut grpc = tonic::client::Grpc::new(self.channel.clone())
            .max_decoding_message_size(super::MESSAGE_BYTES_MAX);
        grpc.ready().await.context("the service hung up")?;
        let mut request = Request::new(message);
        let bearer = format!("Bearer {}", self.token);
        let mut bearer = MetadataValue::try_from(bearer).context("the token has odd characters")?;
        bearer.set_sensitive(true);
        request.metadata_mut().insert("authorization", bearer);
        if let Some(customer) = &self.customer {
            request
                .metadata_mut()
                .insert("counterfoil-tenant", customer.clone());
        }
        let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
        let path = http::uri::PathAndQuery::try_from(path).context("malformed method name")?;
        let codec = DynamicCodec(method.output());
        if method.is_server_streaming() {
            let mut stream = grpc
                .server_streaming(request, path, codec)
                .await
                .map_err(explain)?
                .into_inner();
            while let Some(message) = stream.message().await.map_err(explain)? {
                sink(message)?;
            }
            return Ok(());
        }
        let answer = grpc.unary(request, path, codec).await.map_err(explain)?;
        sink(answer.into_inner())
    }
}

/// A refusal in words: code, message, reason and the fields at fault.
pub(crate) fn explain(status: Status) -> anyhow::Error {
    use std::fmt::Write as _;
    use tonic_types::StatusExt as _;
    let mut text = format!("{:?}: {}", status.code(), status.message());
    let details = status.get_error_details();
    if let Some(info) = details.error_info() {
        let _ = write!(text, " [{}]", info.reason);
    }
    for violation in details
        .bad_request()
        .into_iter()
        .flat_map(|bad| &bad.field_violations)
    {
        let _ = write!(text, "\n  {}: {}", violation.field, violation.description);
    }
    for violation in details
        .precondition_failure()
        .into_iter()
        .flat_map(|failure| &failure.violations)
    {
        let _ = write!(text, "\n  {}: {}", violation.subject, violation.description);
    }
    anyhow::anyhow!(text)
}

#[derive(Debug, Clone)]
struct DynamicCodec(MessageDescriptor);

#[derive(Debug)]
struct DynamicEncoder;

#[derive(Debug)]
struct DynamicDecoder(MessageDescriptor);

impl Codec for DynamicCodec {
    type Encode = DynamicMessage;
    type Decode = DynamicMessage;
    type Encoder = DynamicEncoder;
    type Decoder = DynamicDecoder;

    fn encoder(&mut self) -> Self::Encoder {
        DynamicEncoder
    }

    fn decoder(&mut self) -> Self::Decoder {
        DynamicDecoder(self.0.clone())
    }
}

impl Encoder for DynamicEncoder {
    type Item = DynamicMessage;
    type Error = Status;

    fn encode(&mut self, item: DynamicMessage, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&item.encode_to_vec());
        Ok(())
    }
}

impl Decoder for DynamicDecoder {
    type Item = DynamicMessage;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<DynamicMessage>, Status> {
        let bytes = buffer.copy_to_bytes(buffer.remaining());
        DynamicMessage::decode(self.0.clone(), bytes)
            .map(Some)
            .map_err(|error| Status::internal(format!("the answer cannot be read: {error}")))
    }
}
