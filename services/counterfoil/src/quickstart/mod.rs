//! `counterfoil quickstart`: one whole governance cycle on an estate, from target systems to a bundle that verifies offline.
//!
//! Every step first looks at what is there, so a second run, and a run after a crash, continues. Whoever must act is acted
//! for with a token of their own that lives ten minutes: the admin credential only sets the tenant up. Before it is active, its
//! accountable owner is given a token, kept in the data folder; whatever comes later, the customer does itself.

mod cycle;
mod onboard;
mod provider;
mod review;
mod story;

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
};

use anyhow::Context as _;
use counterfoil_proto::authority::IssueTokenRequest;
use serde::Serialize;

use crate::{cli::explain, client::Clients, estate::Estate};
use story::Story;

/// What a quickstart ends with.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// The evidence bundle.
    pub bundle: PathBuf,
    /// The trust file to verify it with.
    pub trust: PathBuf,
    /// The command that verifies it.
    pub verify: String,
    /// The tenant.
    pub tenant: String,
    /// The campaign and how it ended.
    pub campaign: String,
    /// State of the campaign.
    pub campaign_state: String,
    /// Items by how they ended.
    pub counts: std::collections::BTreeMap<String, u64>,
    /// Removals proved.
    pub removals_verified: u64,
    /// Findings still open.
    pub findings_open: u64,
    /// Obligations still open.
    pub obligations_open: u64,
}

/// Plays the cycle, or what is left of it, on the estate in `directory` with services that run already. `to_error`: tell it on
/// standard error.
///
/// # Errors
/// What a service refused, and in which step; a later call continues there.
pub async fn play(
    admin: Clients,
    directory: &Path,
    data_dir: &Path,
    to_error: bool,
) -> anyhow::Result<Outcome> {
    let story = Story::new(to_error);
    let player = Player {
        estate: Estate::read(directory)?,
        admin,
        customer: OnceLock::new(),
        worker: OnceLock::new(),
        directory,
        data_dir,
        story: &story,
    };
    player.play().await
}

/// Onboards the tenant of an estate and connects its sources, without holding the review; answers the clients of the tenant's
/// accountable owner.
///
/// # Errors
/// What a service refused.
pub async fn prepare(
    admin: &Clients,
    directory: &Path,
    data_dir: &Path,
) -> anyhow::Result<Clients> {
    let story = Story::new(true);
    let player = Player {
        estate: Estate::read(directory)?,
        admin: admin.clone(),
        customer: OnceLock::new(),
        worker: OnceLock::new(),
        directory,
        data_dir,
        story: &story,
    };
    player.onboard().await?;
    player.connect_sources().await?;
    player.customer().cloned()
}

struct Player<'a> {
    /// Who sets tenants up and connects sources to this machine.
    admin: Clients,
    /// The tenant's accountable owner, once onboarding has come that far.
    customer: OnceLock<Clients>,
    /// The provider's operator, once the customer has engaged them.
    worker: OnceLock<Clients>,
    estate: Estate,
    directory: &'a Path,
    data_dir: &'a Path,
    story: &'a Story,
}

impl<'a> Player<'a> {
    /// The whole cycle, or what is left of it.
    async fn play(&self) -> anyhow::Result<Outcome> {
        self.onboard().await.context("onboarding the tenant")?;
        self.connect_sources()
            .await
            .context("connecting the sources")?;
        self.engage_provider()
            .await
            .context("engaging the provider")?;
        let owner = self
            .as_principal(&self.estate.campaign.owner)
            .await
            .context("acting as the campaign owner")?;
        let campaign = self.review(&owner).await.context("holding the review")?;
        self.remediate(&owner, &campaign)
            .await
            .context("carrying the decisions out")?;
        let campaign = self
            .close(&owner, &campaign)
            .await
            .context("closing the campaign")?;
        let bundle = self.data_dir.join("bundles");
        let exported =
            crate::bundle::export(self.customer()?, &self.tenant(), &bundle, self.data_dir)
                .await
                .context("exporting the evidence")?;
        self.outcome(campaign, exported).await
    }

    fn tenant(&self) -> String {
        format!("tenants/{}", self.estate.tenant.id)
    }

    fn principal(&self, id: &str) -> String {
        format!("{}/principals/{id}", self.tenant())
    }

    /// Clients that act as the tenant's accountable owner.
    fn customer(&self) -> anyhow::Result<&Clients> {
        self.customer.get().context("the tenant is not onboarded")
    }

    /// Clients of whoever runs the syncs: the provider's operator under the engagement, or else the customer.
    fn worker(&self) -> anyhow::Result<&Clients> {
        match self.worker.get() {
            Some(worker) => Ok(worker),
            None => self.customer(),
        }
    }

    /// Clients that act as a principal of the tenant, for ten minutes.
    async fn as_principal(&self, id: &str) -> anyhow::Result<Clients> {
        let request = IssueTokenRequest {
            principal: self.principal(id),
            ttl_seconds: 600,
            ..IssueTokenRequest::default()
        };
        let answer = self
            .customer()?
            .principals()?
            .issue_token(request)
            .await
            .map_err(explain)?;
        self.admin.as_caller(&answer.into_inner().token)
    }
}

/// File with the token of a tenant's accountable owner that a quickstart leaves.
fn customer_token_file(data_dir: &Path, tenant: &str) -> PathBuf {
    data_dir.join("keys").join(format!("tenant-{tenant}.token"))
}

/// A token of a principal that lives a year, the longest, issued by these.
async fn token_for_a_year(issuer: &Clients, principal: &str) -> anyhow::Result<String> {
    let request = IssueTokenRequest {
        principal: principal.to_owned(),
        ttl_seconds: 31_536_000,
        ..IssueTokenRequest::default()
    };
    let issued = issuer.principals()?.issue_token(request).await;
    Ok(issued.map_err(explain)?.into_inner().token)
}

/// File with the token that the accountable owner has from before the activation.
fn first_token_file(data_dir: &Path, tenant: &str) -> PathBuf {
    let name = format!("tenant-{tenant}.first.token");
    data_dir.join("keys").join(name)
}

/// A request id for a change that is made once.
fn request_id() -> String {
    uuid::Uuid::now_v7().to_string()
}
