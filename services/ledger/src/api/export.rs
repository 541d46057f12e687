//! Taking a log away, file by file.

use counterfoil_chassis::{ApiError, Caller, db::scope};
use counterfoil_engine::Export;
use counterfoil_proto::ledger::{ExportLogRequest, ExportLogResponse};
use tokio::sync::mpsc;
use tonic::Status;

use super::{Api, told};

/// Largest part of a file.
const PART_BYTES: usize = 1 << 20;

impl Api {
    pub(super) async fn export(
        &self,
        caller: &Caller,
        request: ExportLogRequest,
    ) -> Result<mpsc::Receiver<Result<ExportLogResponse, Status>>, ApiError> {
        let log = self.log(caller, &request.tenant).await?;
        let held = log.head().await.map_err(told)?.size;
        let size = match request.size {
            0 => held,
            asked if asked <= held => asked,
            asked => {
                let message = format!("the log has {held} entries, {asked} were asked for");
                return Err(ApiError::out_of_range("SIZE_TOO_LARGE", message));
            }
        };
        let export = log.export(size).await.map_err(told)?;
        let export = match request.with_cosigned {
            true => export.with_cosigned().await.map_err(told)?,
            false => export,
        };
        let (sender, receiver) = mpsc::channel(2);
        let shutdown = self.shutdown.clone();
        scope::spawn(async move {
            let sending = send_files(export, &sender);
            if let Some(Err(error)) = shutdown.run_until_cancelled(sending).await {
                // The reader may have left in the meantime.
                let _ = sender.send(Err(error.into())).await;
            }
        });
        Ok(receiver)
    }
}

async fn send_files(
    mut export: Export,
    sender: &mpsc::Sender<Result<ExportLogResponse, Status>>,
) -> Result<(), ApiError> {
    while let Some(file) = export.next().await.map_err(told)? {
        let parts = file.content.chunks(PART_BYTES);
        let last = parts.len();
        for (number, part) in (1..).zip(parts) {
            let answer = ExportLogResponse {
                path: file.path.clone(),
                content: part.to_vec(),
                last: number == last,
            };
            if sender.send(Ok(answer)).await.is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}
