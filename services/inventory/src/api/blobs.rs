//! Attachments of sealed syncs: their leaves, streamed again from the versions of grants instead of being kept twice.

use async_trait::async_trait;
use bytes::Bytes;
use counterfoil_chassis::{ApiError, disclosure::BlobSource};
use counterfoil_evidence::{leaf::media_type, v1::BlobRef};
use futures::{StreamExt, stream::BoxStream};

use super::Api;
use crate::{
    error::Error,
    store::{grants, sources, syncs},
};

/// Grants read at once.
const PAGE: i64 = 4_096;

#[async_trait]
impl BlobSource for Api {
    async fn open(
        &self,
        tenant: &str,
        blob: &BlobRef,
    ) -> Result<Option<BoxStream<'static, Result<Bytes, ApiError>>>, ApiError> {
        if blob.media_type != media_type::GRANT_SET {
            return Ok(None);
        }
        let Some(sync) = syncs::by_blob(&self.db, tenant, &blob.sha256).await? else {
            return Ok(None);
        };
        let source = sources::by_number(&self.db, tenant, sync.source_no).await?;
        let tag = source.ok_or(Error::Damaged("source of a sync"))?.tag;
        let (source_no, seq) = (sync.source_no, sync.seq.unwrap_or(0));
        let (db, tenant) = (self.db.clone(), tenant.to_owned());
        let parts = futures::stream::try_unfold(Vec::new(), move |after: Vec<u8>| {
            let (db, tenant) = (db.clone(), tenant.clone());
            async move {
                let page = grants::at(&db, &tenant, source_no, seq, &after, PAGE).await?;
                let Some(last) = page.last() else {
                    return Ok(None);
                };
                let after = last.key.to_vec();
                let leaves: Vec<u8> = page
                    .iter()
                    .flat_map(|grant| grants::leaf(tag, grant).to_bytes())
                    .collect();
                Ok(Some((Bytes::from(leaves), after)))
            }
        });
        Ok(Some(parts.boxed()))
    }
}
