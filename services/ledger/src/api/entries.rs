//! Reading entries: one, a page, or the tail.

use std::time::Duration;

use counterfoil_chassis::{ApiError, Caller, clock::timestamp, db::scope};
use counterfoil_engine::{EngineError, EntryFilter, Log, StoredEntry};
use counterfoil_evidence::record::decode_entry;
use counterfoil_proto::ledger::{
    GetEntryRequest, GetEntryResponse, ListEntriesRequest, ListEntriesResponse, LogEntry,
    StreamEntriesRequest, StreamEntriesResponse, get_entry_request::Selector,
};
use tokio::sync::mpsc;
use tonic::Status;

use super::{Api, told};

/// Bytes of entries at which a page ends: a page of the largest entries would not fit a message.
const PAGE_BYTES_MAX: usize = 4 << 20;
/// Entries read at once.
const READ_AT_ONCE: u32 = 256;
/// How often a follower looks for what another replica has appended.
const FOLLOW_INTERVAL: Duration = Duration::from_secs(1);

impl Api {
    pub(super) async fn entry(
        &self,
        caller: &Caller,
        request: GetEntryRequest,
    ) -> Result<GetEntryResponse, ApiError> {
        let log = self.log(caller, &request.tenant).await?;
        let stored = match request.selector {
            Some(Selector::Index(index)) => at(&log, Which::Index(index)).await?,
            Some(Selector::RecordId(id)) => at(&log, Which::Record(id)).await?,
            None => return Err(nothing_selected()),
        };
        let head = log.head().await.map_err(told)?;
        let proofs = log
            .receipts(&head, std::slice::from_ref(&stored))
            .await
            .map_err(told)?;
        Ok(GetEntryResponse {
            entry: Some(entry_of(stored)?),
            tlog_proof: proofs.into_iter().next().unwrap_or_default().into_bytes(),
        })
    }

    pub(super) async fn list(
        &self,
        caller: &Caller,
        request: ListEntriesRequest,
    ) -> Result<ListEntriesResponse, ApiError> {
        let log = self.log(caller, &request.tenant).await?;
        for (field, text) in [
            ("type", &request.r#type),
            ("stream", &request.stream),
            ("subject", &request.subject),
        ] {
            if text.contains(char::is_control) {
                return Err(ApiError::invalid(field, "has a control character"));
            }
        }
        let scope = [
            "ListEntries",
            &log.info().tenant,
            &request.r#type,
            &request.stream,
            &request.subject,
        ];
        let page = self
            .pages
            .open(request.page_size, &request.page_token, &scope)?;
        let mut from = match &page.after {
            None => 0,
            Some(after) => <[u8; 8]>::try_from(after.as_slice())
                .map(|index| u64::from_be_bytes(index) + 1)
                .map_err(|_| ApiError::invalid("page_token", "is not a token of this list"))?,
        };
        let given = |text: String| (!text.is_empty()).then_some(text);
        let filter = EntryFilter {
            record_type: given(request.r#type),
            stream: given(request.stream),
            subject: given(request.subject),
        };
        let (mut entries, mut bytes) = (Vec::new(), 0);
        let wanted = usize::try_from(page.size).unwrap_or(usize::MAX);
        let mut next_page_token = String::new();
        'read: loop {
            let found = log
                .list(&filter, from, u64::MAX, READ_AT_ONCE)
                .await
                .map_err(told)?;
            let Some(last) = found.last() else { break };
            from = last.index + 1;
            for stored in found {
                bytes += stored.bytes.len();
                let is_full = entries.len() == wanted || bytes > PAGE_BYTES_MAX;
                if let (true, Some(last)) = (is_full, entries.last()) {
                    let last: &LogEntry = last;
                    next_page_token = page.next_token(&last.index.to_be_bytes());
                    break 'read;
                }
                entries.push(entry_of(stored)?);
            }
        }
        Ok(ListEntriesResponse {
            entries,
            next_page_token,
        })
    }

    pub(super) async fn stream(
        &self,
        caller: &Caller,
        request: StreamEntriesRequest,
    ) -> Result<mpsc::Receiver<Result<StreamEntriesResponse, Status>>, ApiError> {
        let log = self.log(caller, &request.tenant).await?;
        // Small, so that a slow reader holds little.
        let (sender, receiver) = mpsc::channel(16);
        let shutdown = self.shutdown.clone();
        scope::spawn(async move {
            let sending = send_tail(&log, request.from_index, request.follow, &sender);
            if let Some(Err(error)) = shutdown.run_until_cancelled(sending).await {
                // The reader may have left in the meantime.
                let _ = sender.send(Err(error.into())).await;
            }
        });
        Ok(receiver)
    }
}

/// How a request names an entry.
pub(super) enum Which {
    Index(u64),
    Record(Vec<u8>),
}

/// The entry that a request names.
pub(super) async fn at(log: &Log, which: Which) -> Result<StoredEntry, ApiError> {
    let found = match which {
        Which::Index(index) => log.entry(index).await,
        Which::Record(id) => {
            let id = id
                .as_slice()
                .try_into()
                .map_err(|_| ApiError::invalid("record_id", "must be 16 bytes"))?;
            log.entry_by_record(&id).await
        }
    };
    found.map_err(told)?.ok_or_else(ApiError::not_found)
}

pub(super) fn nothing_selected() -> ApiError {
    ApiError::invalid("selector", "index or record_id is required")
}

/// Sends entries from an index on, and waits for more if asked to; ends when the reader leaves.
async fn send_tail(
    log: &Log,
    mut next: u64,
    follow: bool,
    sender: &mpsc::Sender<Result<StreamEntriesResponse, Status>>,
) -> Result<(), ApiError> {
    let mut growth = log.follow();
    loop {
        growth.mark_unchanged();
        let size = log.head().await.map_err(told)?.size;
        while next < size {
            let found = log.entries(next, size, READ_AT_ONCE).await.map_err(told)?;
            let Some(last) = found.last() else {
                let reason = format!("entries are missing from {next} on");
                let origin = log.info().origin.clone();
                return Err(told(EngineError::Damaged { origin, reason }));
            };
            next = last.index + 1;
            for stored in found {
                let answer = StreamEntriesResponse {
                    entry: Some(entry_of(stored)?),
                };
                if sender.send(Ok(answer)).await.is_err() {
                    return Ok(());
                }
            }
        }
        if !follow {
            return Ok(());
        }
        tokio::select! {
            () = sender.closed() => return Ok(()),
            // An error only says that the engine closes; the shutdown ends the stream then.
            _ = growth.changed() => {}
            () = tokio::time::sleep(FOLLOW_INTERVAL) => {}
        }
    }
}

/// An entry, as the API gives it.
fn entry_of(stored: StoredEntry) -> Result<LogEntry, ApiError> {
    let entry = decode_entry(&stored.bytes).map_err(|error| {
        ApiError::data_loss("LOG_DAMAGED", format!("entry {}: {error}", stored.index))
    })?;
    Ok(LogEntry {
        index: stored.index,
        recorded_time: Some(timestamp(entry.recorded_at_ms)),
        r#type: stored.record_type,
        record_hash: stored.record_hash.to_vec(),
        entry: stored.bytes,
    })
}
