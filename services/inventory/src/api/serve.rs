//! Every rpc and the function that answers it.

use counterfoil_chassis::Caller;
use counterfoil_proto::inventory::{
    inventory_service_server::InventoryService, source_service_server::SourceService, *,
};
use futures::stream::BoxStream;
use tonic::{Request, Response, Status};

use super::{
    Api, changes, connection, entities, grants, owners, places, proofs, snapshots, sources, syncs,
};

type Answers<T> = BoxStream<'static, Result<T, Status>>;

macro_rules! serve {
    ($service:ident {
        $($module:ident::$rpc:ident($request:ident) -> $response:ident;)*
    } streams {
        $($stream:ident = $stream_module:ident::$stream_rpc:ident($stream_request:ident) -> $part:ident;)*
    }) => {
        #[tonic::async_trait]
        impl $service for Api {
            $(
                async fn $rpc(
                    &self,
                    request: Request<$request>,
                ) -> Result<Response<$response>, Status> {
                    let caller = Caller::of(&request)?.clone();
                    let answer = $module::$rpc(self, &caller, request.into_inner()).await?;
                    Ok(Response::new(answer))
                }
            )*
            $(
                type $stream = Answers<$part>;

                async fn $stream_rpc(
                    &self,
                    request: Request<$stream_request>,
                ) -> Result<Response<Answers<$part>>, Status> {
                    let caller = Caller::of(&request)?.clone();
                    let answers = $stream_module::$stream_rpc(self, &caller, request.into_inner()).await?;
                    Ok(Response::new(answers))
                }
            )*
        }
    };
}

serve! {
    SourceService {
        sources::create_source(CreateSourceRequest) -> CreateSourceResponse;
        places::classify_source(ClassifySourceRequest) -> ClassifySourceResponse;
        sources::get_source(GetSourceRequest) -> GetSourceResponse;
        sources::list_sources(ListSourcesRequest) -> ListSourcesResponse;
        connection::get_source_connection(GetSourceConnectionRequest) -> GetSourceConnectionResponse;
        syncs::start_sync(StartSyncRequest) -> StartSyncResponse;
        syncs::get_sync(GetSyncRequest) -> GetSyncResponse;
        syncs::list_syncs(ListSyncsRequest) -> ListSyncsResponse;
        snapshots::create_snapshot(CreateSnapshotRequest) -> CreateSnapshotResponse;
        snapshots::get_snapshot(GetSnapshotRequest) -> GetSnapshotResponse;
        snapshots::list_snapshots(ListSnapshotsRequest) -> ListSnapshotsResponse;
    } streams {
        WatchSyncStream = syncs::watch_sync(WatchSyncRequest) -> WatchSyncResponse;
    }
}

serve! {
    InventoryService {
        entities::list_identities(ListIdentitiesRequest) -> ListIdentitiesResponse;
        entities::list_accounts(ListAccountsRequest) -> ListAccountsResponse;
        entities::list_entitlements(ListEntitlementsRequest) -> ListEntitlementsResponse;
        grants::list_grants(ListGrantsRequest) -> ListGrantsResponse;
        grants::batch_get_grants(BatchGetGrantsRequest) -> BatchGetGrantsResponse;
        proofs::prove_grants(ProveGrantsRequest) -> ProveGrantsResponse;
        owners::set_owner(SetOwnerRequest) -> SetOwnerResponse;
    } streams {
        StreamSnapshotGrantsStream =
            grants::stream_snapshot_grants(StreamSnapshotGrantsRequest) -> StreamSnapshotGrantsResponse;
        WatchChangesStream = changes::watch_changes(WatchChangesRequest) -> WatchChangesResponse;
    }
}
