//! Typed clients of all services, for the commands that are more than one call.

use anyhow::Context as _;
use counterfoil_proto::{
    authority::{
        credential_service_client::CredentialServiceClient,
        decision_right_service_client::DecisionRightServiceClient,
        delegation_service_client::DelegationServiceClient,
        emergency_service_client::EmergencyServiceClient,
        engagement_service_client::EngagementServiceClient,
        mandate_service_client::MandateServiceClient, policy_service_client::PolicyServiceClient,
        principal_service_client::PrincipalServiceClient,
        qualification_service_client::QualificationServiceClient,
        tenant_service_client::TenantServiceClient,
    },
    common::disclosure_service_client::DisclosureServiceClient,
    inventory::{
        inventory_service_client::InventoryServiceClient,
        source_service_client::SourceServiceClient,
    },
    ledger::ledger_service_client::LedgerServiceClient,
    recertification::{
        campaign_service_client::CampaignServiceClient, review_service_client::ReviewServiceClient,
    },
    reconciliation::{
        recon_service_client::ReconServiceClient,
        remediation_service_client::RemediationServiceClient,
    },
};
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};

use crate::{cli::MESSAGE_BYTES_MAX, endpoints::Endpoints};

/// Puts the caller's token on every call, and the customer for whom somebody of a provider acts.
#[derive(Debug, Clone)]
pub struct Bearer {
    token: MetadataValue<Ascii>,
    customer: Option<MetadataValue<Ascii>>,
}

impl Bearer {
    /// From a token.
    ///
    /// # Errors
    /// When it has characters that no token has.
    pub fn new(token: &str) -> anyhow::Result<Self> {
        let mut value = MetadataValue::try_from(format!("Bearer {token}"))
            .context("the token has odd characters")?;
        value.set_sensitive(true);
        Ok(Self {
            token: value,
            customer: None,
        })
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request
            .metadata_mut()
            .insert("authorization", self.token.clone());
        if let Some(customer) = &self.customer {
            request
                .metadata_mut()
                .insert("counterfoil-tenant", customer.clone());
        }
        Ok(request)
    }
}

/// A channel that carries the token.
pub type Authenticated = InterceptedService<Channel, Bearer>;

/// Opens clients of any service as one caller.
#[derive(Debug, Clone)]
pub struct Clients {
    channels: std::collections::BTreeMap<String, Channel>,
    bearer: Bearer,
}

/// The services, in the order they start.
pub const SERVICES: [&str; 5] = [
    "ledger",
    "authority",
    "inventory",
    "recertification",
    "reconciliation",
];

macro_rules! clients {
    ($($(#[$doc:meta])* $name:ident $service:literal $client:ident;)*) => {
        $($(#[$doc])*
        ///
        /// # Errors
        /// When no address of the service is known.
        pub fn $name(&self) -> anyhow::Result<$client<Authenticated>> {
            let channel = self.channel($service)?;
            Ok($client::with_interceptor(channel, self.bearer.clone())
                .max_decoding_message_size(MESSAGE_BYTES_MAX))
        })*
    };
}

impl Clients {
    /// Channels to all services; a service that does not answer yet is tried at the first call.
    ///
    /// # Errors
    /// When an address is malformed.
    pub fn open(endpoints: &Endpoints, token: &str) -> anyhow::Result<Self> {
        let mut channels = std::collections::BTreeMap::new();
        for service in endpoints.services.keys() {
            let connection = endpoints.connection(service)?;
            channels.insert(service.clone(), connection.connect_lazy());
        }
        Ok(Self {
            channels,
            bearer: Bearer::new(token)?,
        })
    }

    /// The same channels, as another caller.
    ///
    /// # Errors
    /// When the token has characters that no token has.
    pub fn as_caller(&self, token: &str) -> anyhow::Result<Self> {
        Ok(Self {
            channels: self.channels.clone(),
            bearer: Bearer::new(token)?,
        })
    }

    /// The same caller, who acts for a customer of their provider: a bare tenant id.
    ///
    /// # Errors
    /// When the id has characters that no id has.
    pub fn acting_for(&self, customer: &str) -> anyhow::Result<Self> {
        let value = MetadataValue::try_from(customer).context("the tenant has odd characters")?;
        let mut clients = self.clone();
        clients.bearer.customer = Some(value);
        Ok(clients)
    }

    fn channel(&self, service: &str) -> anyhow::Result<Channel> {
        self.channels
            .get(service)
            .cloned()
            .with_context(|| format!("no address of the {service} service is known"))
    }

    /// What a service discloses.
    ///
    /// # Errors
    /// When no address of the service is known.
    pub fn disclosures(
        &self,
        service: &str,
    ) -> anyhow::Result<DisclosureServiceClient<Authenticated>> {
        let channel = self.channel(service)?;
        Ok(
            DisclosureServiceClient::with_interceptor(channel, self.bearer.clone())
                .max_decoding_message_size(MESSAGE_BYTES_MAX),
        )
    }

    clients! {
        /// Tenants.
        tenants "authority" TenantServiceClient;
        policies "authority" PolicyServiceClient;
        /// Principals.
        principals "authority" PrincipalServiceClient;
        /// Credentials.
        credentials "authority" CredentialServiceClient;
        /// Decision rights.
        rights "authority" DecisionRightServiceClient;
        /// Engagements.
        engagements "authority" EngagementServiceClient;
        /// What a provider's authority rests on.
        qualifications "authority" QualificationServiceClient;
        /// Rights passed on.
        delegations "authority" DelegationServiceClient;
        /// Access in an emergency.
        emergencies "authority" EmergencyServiceClient;
        /// Mandates of AI agents.
        mandates "authority" MandateServiceClient;
        /// Sources.
        sources "inventory" SourceServiceClient;
        /// Inventory.
        inventory "inventory" InventoryServiceClient;
        /// Campaigns.
        campaigns "recertification" CampaignServiceClient;
        /// Reviews.
        reviews "recertification" ReviewServiceClient;
        /// Reconciliation.
        recon "reconciliation" ReconServiceClient;
        /// Remediation.
        remediations "reconciliation" RemediationServiceClient;
        /// The ledger.
        ledger "ledger" LedgerServiceClient;
    }
}
