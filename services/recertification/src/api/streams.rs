//! How many long reads run at once: each holds a connection and one state of the database as long as its reader takes.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use counterfoil_chassis::error::ApiError;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// Most at once in this process: half of the connections that SQLite's readers have, so that calls keep the others.
const STREAMS_MAX: usize = 4;
/// Most at once of one tenant, so that none keeps the others from theirs.
const STREAMS_OF_TENANT_MAX: usize = 3;
/// When whoever was refused may ask again.
const RETRY: Duration = Duration::from_secs(5);

/// The streams that run.
#[derive(Debug)]
pub(crate) struct Streams {
    all: Arc<Semaphore>,
    of_tenants: Mutex<HashMap<String, Arc<Semaphore>>>,
}

/// A stream may run until this is dropped.
#[derive(Debug)]
pub(crate) struct Leave {
    _of_all: OwnedSemaphorePermit,
    _of_tenant: OwnedSemaphorePermit,
}

impl Default for Streams {
    fn default() -> Self {
        Self {
            all: Arc::new(Semaphore::new(STREAMS_MAX)),
            of_tenants: Mutex::default(),
        }
    }
}

impl Streams {
    /// Leave for one more stream of the tenant; waits so long for one of another tenant to end.
    pub(crate) async fn enter(&self, tenant: &str, patience: Duration) -> Result<Leave, ApiError> {
        let refused = |whose: &str| {
            let message =
                format!("too many streams of {whose} run at once; ask again when one has ended");
            ApiError::resource_exhausted("TOO_MANY_STREAMS", message, RETRY)
        };
        let of_tenant = self
            .of_tenant(tenant)
            .ok_or_else(|| refused("the tenant"))?;
        let of_all = timeout(patience, Arc::clone(&self.all).acquire_owned()).await;
        match of_all {
            Ok(Ok(of_all)) => Ok(Leave {
                _of_all: of_all,
                _of_tenant: of_tenant,
            }),
            _ => Err(refused("all tenants")),
        }
    }

    fn of_tenant(&self, tenant: &str) -> Option<OwnedSemaphorePermit> {
        let mut tenants = self
            .of_tenants
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        tenants.retain(|_, running| running.available_permits() < STREAMS_OF_TENANT_MAX);
        let running = tenants
            .entry(tenant.to_owned())
            .or_insert_with(|| Arc::new(Semaphore::new(STREAMS_OF_TENANT_MAX)));
        Arc::clone(running).try_acquire_owned().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT_ONCE: Duration = Duration::ZERO;

    #[tokio::test]
    async fn a_tenant_has_a_few_streams_and_leaves_some_to_others() {
        let streams = Streams::default();
        let mut running = Vec::new();
        for _ in 0..STREAMS_OF_TENANT_MAX {
            running.push(streams.enter("acme", AT_ONCE).await.unwrap());
        }
        let refused = streams.enter("acme", AT_ONCE).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
        running.push(streams.enter("beta", AT_ONCE).await.unwrap());
        let refused = streams.enter("gamma", AT_ONCE).await.unwrap_err();
        assert!(refused.to_string().contains("all tenants"), "{refused}");
        running.remove(0);
        streams.enter("gamma", AT_ONCE).await.unwrap();
        streams.enter("acme", AT_ONCE).await.unwrap();
        running.clear();
        let idle = streams.enter("acme", AT_ONCE).await.unwrap();
        assert_eq!(
            streams.of_tenants.lock().unwrap().len(),
            1,
            "nothing is kept of the others"
        );
        drop(idle);
    }
}
