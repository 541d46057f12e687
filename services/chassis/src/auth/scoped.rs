//! The body of an answer, made for the caller it goes to: what is read while it is polled is bound to the caller's tenant.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::{Status, body::Body};

use crate::db::scope;

/// A body that is polled as the call was served.
#[derive(Debug)]
pub(super) struct Scoped {
    inner: Body,
    tenant: Arc<str>,
}

impl Scoped {
    /// Binds the body to the tenant; without one it stays as it is.
    pub(super) fn wrap(inner: Body, tenant: Option<Arc<str>>) -> Body {
        match tenant {
            Some(tenant) => Body::new(Self { inner, tenant }),
            None => inner,
        }
    }
}

impl HttpBody for Scoped {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let tenant = Arc::clone(&self.tenant);
        scope::poll(&tenant, || Pin::new(&mut self.inner).poll_frame(context))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
