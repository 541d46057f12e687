//! Identities, accounts and entitlements.

use counterfoil_chassis::{ApiError, Caller, names::tenant_field};
use counterfoil_proto::inventory::{
    Identity, ListAccountsRequest, ListAccountsResponse, ListEntitlementsRequest,
    ListEntitlementsResponse, ListIdentitiesRequest, ListIdentitiesResponse,
};

use super::{Api, convert, names, one_more};
use crate::{
    model::facts::most_final,
    store::listing::{self, ListedIdentity},
};

pub(super) async fn list_identities(
    api: &Api,
    caller: &Caller,
    request: ListIdentitiesRequest,
) -> Result<ListIdentitiesResponse, ApiError> {
    let tenant = tenant_field(&request.tenant)?;
    caller.require_tenant(&tenant)?;
    let scope = ["ListIdentities", &tenant];
    let page = api
        .pages
        .open(request.page_size, &request.page_token, &scope)?;
    let after = page.after.clone().unwrap_or_default();
    let mut rows = listing::list_identities(&api.db, &tenant, &after, one_more(page.size)).await?;
    let next_page_token = page.cut(&mut rows, |row| row.id.to_vec());
    let identities = rows.into_iter().map(|row| identity(&tenant, row)).collect();
    Ok(ListIdentitiesResponse {
        identities,
        next_page_token,
    })
}

/// An identity is what its accounts say of it: the oldest one names it, the plainest class is its own.
fn identity(tenant: &str, row: ListedIdentity) -> Identity {
    let class = row
        .accounts
        .iter()
        .map(|account| account.identity_class)
        .min();
    let named = row
        .accounts
        .first()
        .map(|account| account.display_name.clone());
    let states = row
        .accounts
        .iter()
        .map(|account| account.lifecycle.as_str());
    Identity {
        name: names::identity(tenant, &row.id),
        display_name: named.unwrap_or_default(),
        identity_class: class
            .and_then(|class| i32::try_from(class).ok())
            .unwrap_or(0),
        lifecycle_state: most_final(states).to_owned(),
        identity_key: row.identity_key,
    }
}

pub(super) async fn list_accounts(
    api: &Api,
    caller: &Caller,
    request: ListAccountsRequest,
) -> Result<ListAccountsResponse, ApiError> {
    let tenant = tenant_field(&request.tenant)?;
    caller.require_tenant(&tenant)?;
    let source_no = api.source_filter(&tenant, &request.source).await?;
    let orphaned = request.orphaned;
    let filter = orphaned.to_string();
    let scope = ["ListAccounts", &tenant, &request.source, &filter];
    let page = api
        .pages
        .open(request.page_size, &request.page_token, &scope)?;
    let after = page.after.clone().unwrap_or_default();
    let limit = one_more(page.size);
    let mut rows =
        listing::list_accounts(&api.db, &tenant, source_no, orphaned, &after, limit).await?;
    let next_page_token = page.cut(&mut rows, |row| row.id.to_vec());
    let accounts = rows.into_iter().map(|row| {
        convert::account(
            &tenant,
            &row.source,
            &row.id,
            row.identity.as_ref(),
            row.account,
        )
    });
    Ok(ListAccountsResponse {
        accounts: accounts.collect(),
        next_page_token,
    })
}

pub(super) async fn list_entitlements(
    api: &Api,
    caller: &Caller,
    request: ListEntitlementsRequest,
) -> Result<ListEntitlementsResponse, ApiError> {
    let tenant = tenant_field(&request.tenant)?;
    caller.require_tenant(&tenant)?;
    let source_no = api.source_filter(&tenant, &request.source).await?;
    let ownerless = request.ownerless;
    let filter = ownerless.to_string();
    let scope = ["ListEntitlements", &tenant, &request.source, &filter];
    let page = api
        .pages
        .open(request.page_size, &request.page_token, &scope)?;
    let after = page.after.clone().unwrap_or_default();
    let limit = one_more(page.size);
    let mut rows =
        listing::list_entitlements(&api.db, &tenant, source_no, ownerless, &after, limit).await?;
    let next_page_token = page.cut(&mut rows, |row| row.id.to_vec());
    let entitlements = rows
        .into_iter()
        .map(|row| convert::entitlement(&tenant, &row.source, &row.id, row.entitlement));
    Ok(ListEntitlementsResponse {
        entitlements: entitlements.collect(),
        next_page_token,
    })
}
