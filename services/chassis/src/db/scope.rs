//! Whose rows a task may touch: the tenant of the caller that it serves.
//!
//! Invariant: while a caller of a tenant is served, every transaction of the task is bound to the caller's own tenant,
//! whatever tenant the code around it names. The tenant comes from the verified credential, through the gate; jobs and
//! callers of the deployment have none and are bound to the tenant that they name. On PostgreSQL row-level security makes
//! the rest invisible ([`super::wall`]); on SQLite the statements' own `WHERE tenant = $1` stands alone.

use std::{borrow::Cow, sync::Arc};

tokio::task_local! {
    static CALLER: Arc<str>;
}

/// The tenant of the caller that this task serves.
#[must_use]
pub fn caller_tenant() -> Option<Arc<str>> {
    CALLER.try_with(Clone::clone).ok()
}

/// Whether this task may touch what belongs to `tenant`. For what is kept in memory; rows are the database's to guard.
#[must_use]
pub fn admits(tenant: &str) -> bool {
    caller_tenant().is_none_or(|caller| *caller == *tenant)
}

/// Serves a caller of `tenant`; `None`: someone of the deployment.
pub async fn serve<F: Future>(tenant: Option<Arc<str>>, task: F) -> F::Output {
    match tenant {
        Some(tenant) => CALLER.scope(tenant, task).await,
        None => task.await,
    }
}

/// As [`serve`], for what is polled and not awaited.
pub fn poll<R>(tenant: &Arc<str>, poll: impl FnOnce() -> R) -> R {
    CALLER.sync_scope(Arc::clone(tenant), poll)
}

/// Starts a task that serves the same caller: `tokio::spawn` alone would forget whom.
pub fn spawn<F>(task: F) -> tokio::task::JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(serve(caller_tenant(), task))
}

/// Starts a task that serves no caller, and is bound to the tenants that it names: for what two tenants share. It must look itself
/// who asks.
pub fn across<F>(task: F) -> tokio::task::JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(task)
}

/// The tenant that a transaction is bound to when `named` is asked for.
pub(super) fn bound(named: &str) -> Cow<'_, str> {
    match caller_tenant() {
        Some(caller) => Cow::Owned(caller.to_string()),
        None => Cow::Borrowed(named),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_caller_of_a_tenant_is_bound_to_it_whatever_is_named() {
        assert_eq!(bound("beta"), "beta");
        let serve_acme = serve(Some("acme".into()), async {
            assert_eq!(bound("beta"), "acme");
            assert!(admits("acme"));
            assert!(!admits("beta"));
            let across = across(async { bound("beta").into_owned() });
            assert_eq!(across.await.unwrap(), "beta");
            spawn(async { bound("beta").into_owned() }).await.unwrap()
        });
        assert_eq!(serve_acme.await, "acme");
        assert!(admits("beta"));
    }
}
