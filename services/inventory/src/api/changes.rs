//! The change feed.

use counterfoil_chassis::{
    ApiError, Caller, clock::timestamp, db::scope, names::tenant_field, pages::Page,
};
use counterfoil_evidence::leaf::SourceTag;
use counterfoil_proto::inventory::{Change, ChangeKind, WatchChangesRequest, WatchChangesResponse};
use futures::{StreamExt, stream::BoxStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{Api, STREAM_AHEAD, names};
use crate::{
    error::Error,
    store::{
        changes::{self, ChangeRow},
        grants, sources,
        syncs::{self, SyncRow},
    },
};

/// Syncs looked up at once.
const SYNCS: i64 = 100;

/// Where a watcher stands: in the changes of which sync, after which key.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Position {
    seal_no: i64,
    key: Vec<u8>,
}

impl Position {
    fn read(bytes: &[u8]) -> Option<Self> {
        let (seal_no, key) = bytes.split_first_chunk::<8>()?;
        Some(Self {
            seal_no: i64::from_be_bytes(*seal_no),
            key: key.to_vec(),
        })
    }

    fn to_bytes(&self) -> Vec<u8> {
        [self.seal_no.to_be_bytes().as_slice(), &self.key].concat()
    }
}

type Answers = mpsc::Sender<Result<WatchChangesResponse, Status>>;

pub(super) async fn watch_changes(
    api: &Api,
    caller: &Caller,
    request: WatchChangesRequest,
) -> Result<BoxStream<'static, Result<WatchChangesResponse, Status>>, ApiError> {
    let tenant = tenant_field(&request.tenant)?;
    caller.require_tenant(&tenant)?;
    let refused = || ApiError::invalid("resume_token", "is not a token of this feed");
    let page = api
        .pages
        .open(0, &request.resume_token, &["WatchChanges", &tenant])
        .map_err(|_| refused())?;
    let last = syncs::last_seal_no(&api.db, &tenant).await?;
    let oldest = last
        .saturating_sub(api.config.change_feed_syncs)
        .saturating_add(1)
        .max(1);
    let position = match &page.after {
        None => Position {
            seal_no: oldest,
            key: Vec::new(),
        },
        Some(bytes) => Position::read(bytes).ok_or_else(refused)?,
    };
    if position.seal_no < oldest {
        let message = "the token is older than the changes that are kept: read the inventory again";
        return Err(ApiError::out_of_range("RESUME_TOKEN_EXPIRED", message));
    }
    let (answers, receiver) = mpsc::channel(STREAM_AHEAD);
    let feed = Feed {
        api: api.clone(),
        tenant,
        page,
        position,
        answers: answers.clone(),
    };
    scope::spawn(async move {
        if let Err(error) = feed.run(request.until_caught_up).await {
            // The reader may have left in the meantime.
            let _ = answers.send(Err(error.into())).await;
        }
    });
    Ok(ReceiverStream::new(receiver).boxed())
}

struct Feed {
    api: Api,
    tenant: String,
    page: Page,
    position: Position,
    answers: Answers,
}

impl Feed {
    /// Sends until the reader leaves or, when asked so, there is no more for now.
    async fn run(mut self, until_caught_up: bool) -> Result<(), ApiError> {
        let mut listener = self.api.bell.listen();
        let mut told: Option<Position> = None;
        loop {
            let from = self.position.seal_no;
            let sealed = syncs::sealed_from(&self.api.db, &self.tenant, from, SYNCS).await?;
            for sync in &sealed {
                if !self.send_sync(sync).await? {
                    return Ok(());
                }
            }
            if !sealed.is_empty() {
                continue;
            }
            // Idle: a checkpoint, so that the reader need not read the same again.
            if told.as_ref() != Some(&self.position) {
                told = Some(self.position.clone());
                if !self.send(None).await {
                    return Ok(());
                }
            }
            if until_caught_up {
                return Ok(());
            }
            tokio::select! {
                () = listener.heard() => {}
                () = self.answers.closed() => return Ok(()),
            }
        }
    }

    /// Sends what is left of the changes of one sync; false: the reader has left.
    async fn send_sync(&mut self, sync: &SyncRow) -> Result<bool, ApiError> {
        let seal_no = sync.seal_no.ok_or(Error::Damaged("seal_no"))?;
        let seq = sync.seq.ok_or(Error::Damaged("seq of a sync"))?;
        if self.position.seal_no != seal_no {
            self.position = Position {
                seal_no,
                key: Vec::new(),
            };
        }
        let source = sources::by_number(&self.api.db, &self.tenant, sync.source_no).await?;
        let tag = source.ok_or(Error::Damaged("source of a sync"))?.tag;
        loop {
            let after = &self.position.key;
            let page =
                changes::of_sync(&self.api.db, &self.tenant, sync.source_no, seq, after).await?;
            if page.is_empty() {
                break;
            }
            for row in page {
                self.position.key = row.key.to_vec();
                let change = self.change(sync, tag, &row);
                if !self.send(Some(change)).await {
                    return Ok(false);
                }
            }
        }
        self.position = Position {
            seal_no: seal_no + 1,
            key: Vec::new(),
        };
        Ok(true)
    }

    fn change(&self, sync: &SyncRow, tag: SourceTag, row: &ChangeRow) -> Change {
        let leaf = |version: &Option<_>| {
            version.as_ref().map_or_else(Vec::new, |version| {
                grants::leaf(tag, version).to_bytes().to_vec()
            })
        };
        let kind = match (&row.before, &row.after) {
            (None, _) => ChangeKind::Added,
            (Some(_), None) => ChangeKind::Removed,
            (Some(_), Some(_)) => ChangeKind::Changed,
        };
        Change {
            kind: kind.into(),
            grant: names::grant(&self.tenant, &grants::full_key(tag, &row.key)),
            leaf_before: leaf(&row.before),
            leaf_after: leaf(&row.after),
            sync: names::sync(&self.tenant, &sync.sync),
            change_time: sync.ended_ms.map(timestamp),
        }
    }

    async fn send(&self, change: Option<Change>) -> bool {
        let answer = WatchChangesResponse {
            change,
            resume_token: self.page.next_token(&self.position.to_bytes()),
        };
        self.answers.send(Ok(answer)).await.is_ok()
    }
}
