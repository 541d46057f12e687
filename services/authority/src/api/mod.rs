//! The gRPC face: proto <-> model, authorise, validate. No SQL, no rules.
//!
//! One file a resource. [`serve`] names every rpc and the function that answers it; each of those checks the tenant first.

mod agents;
mod business_units;
mod change;
mod competencies;
mod conditions;
mod convert;
mod delegations;
mod emergencies;
mod engagements;
mod holds;
mod life;
mod logins;
mod mandate_convert;
mod mandates;
mod offers;
mod operators;
mod organizations;
mod policies;
mod principals;
mod qualifications;
mod reach;
mod rights;
mod serve;
mod settings;
mod tenants;
mod tokens;

pub(crate) use change::Change;
pub(crate) use engagements::{end as end_engagement_of, of_change as engagement_of};
pub(crate) use offers::{carry_over, carry_withdrawal};

use std::{sync::Arc, time::Duration};

use counterfoil_chassis::disclosure::Disclosures;
use counterfoil_chassis::{
    ApiError, Caller, Chassis, Clock, Database, Outbox, RecordDraft, StartError, WriteTx,
    auth::PermissionTable, client::ServiceChannel, names::TenantName, pages::Pages,
    server::MESSAGE_BYTES_MAX,
};
use counterfoil_proto::{
    authority::{
        credential_service_server::CredentialServiceServer,
        decision_right_service_server::DecisionRightServiceServer,
        delegation_service_server::DelegationServiceServer,
        emergency_service_server::EmergencyServiceServer,
        engagement_service_server::EngagementServiceServer,
        mandate_service_server::MandateServiceServer, policy_service_server::PolicyServiceServer,
        principal_service_server::PrincipalServiceServer,
        qualification_service_server::QualificationServiceServer,
        tenant_service_server::TenantServiceServer,
    },
    ledger::ledger_service_client::LedgerServiceClient,
};
use tonic::service::Routes;

pub(crate) use convert::phase;
pub(crate) use emergencies::missed;
pub(crate) use mandate_convert::state as mandate_state;

use crate::{jobs::Uses, model::mandate::Levels, oidc::Issuers, store};

/// How long an answer waits for its records to be in the ledger. What is not there by then is answered as PENDING.
const EVIDENCE_PATIENCE: Duration = Duration::from_secs(2);

/// What the functions that answer need. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    db: Database,
    outbox: Outbox,
    clock: Clock,
    pages: Pages,
    permissions: Arc<PermissionTable>,
    conditions: conditions::Known,
    /// What agents may call at most.
    levels: Arc<Levels>,
    ledger: LedgerServiceClient<ServiceChannel>,
    pub(crate) issuers: Arc<Issuers>,
    /// When tokens were last presented.
    pub(crate) uses: Arc<Uses>,
}

impl Api {
    /// Of a service that starts.
    pub(crate) fn new(chassis: &Chassis, issuers: Arc<Issuers>) -> Result<Self, StartError> {
        Ok(Self {
            db: chassis.db.clone(),
            outbox: chassis.outbox.clone(),
            clock: chassis.clock.clone(),
            pages: chassis.pages.clone(),
            permissions: Arc::new(PermissionTable::of_api()?),
            conditions: conditions::Known::default(),
            levels: Arc::new(Levels::of_table().map_err(|line| StartError::Other(line.into()))?),
            ledger: LedgerServiceClient::new(chassis.ledger()?),
            issuers,
            uses: Arc::default(),
        })
    }

    /// The gRPC services.
    pub(crate) fn routes(&self) -> Routes {
        let mut routes = Routes::builder();
        routes
            .add_service(
                TenantServiceServer::new(self.clone()).max_encoding_message_size(MESSAGE_BYTES_MAX),
            )
            .add_service(
                PolicyServiceServer::new(self.clone()).max_encoding_message_size(MESSAGE_BYTES_MAX),
            )
            .add_service(
                PrincipalServiceServer::new(self.clone())
                    .max_encoding_message_size(MESSAGE_BYTES_MAX),
            )
            .add_service(
                DecisionRightServiceServer::new(self.clone())
                    .max_encoding_message_size(MESSAGE_BYTES_MAX),
            )
            .add_service(
                CredentialServiceServer::new(self.clone())
                    .max_encoding_message_size(MESSAGE_BYTES_MAX),
            )
            .add_service(
                EngagementServiceServer::new(self.clone())
                    .max_encoding_message_size(MESSAGE_BYTES_MAX),
            )
            .add_service(
                QualificationServiceServer::new(self.clone())
                    .max_encoding_message_size(MESSAGE_BYTES_MAX),
            )
            .add_service(
                DelegationServiceServer::new(self.clone())
                    .max_encoding_message_size(MESSAGE_BYTES_MAX),
            )
            .add_service(
                EmergencyServiceServer::new(self.clone())
                    .max_encoding_message_size(MESSAGE_BYTES_MAX),
            )
            .add_service(
                MandateServiceServer::new(self.clone())
                    .max_encoding_message_size(MESSAGE_BYTES_MAX),
            )
            .add_service(Disclosures::new(self.outbox.clone()).into_server());
        routes.routes()
    }

    /// The present, milliseconds.
    pub(crate) fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    /// The database, for the jobs.
    pub(crate) fn db(&self) -> &Database {
        &self.db
    }

    /// Writes a record of what the service does by itself, with who answers for it.
    pub(crate) async fn record(
        &self,
        tx: &mut WriteTx,
        draft: RecordDraft,
    ) -> Result<(), ApiError> {
        let tenant = tx.tenant().to_owned();
        let draft = match change::accountability(tx, &tenant, self.clock.now_ms()).await? {
            Some(accountability) => draft.accountability(accountability),
            None => draft,
        };
        self.outbox.emit(tx, draft).await?;
        Ok(())
    }

    /// Refuses who may not read the governance of a tenant: strangers as if there were none.
    async fn require_readable(&self, caller: &Caller, tenant: &str) -> Result<(), ApiError> {
        caller.require_tenant(tenant)?;
        let mut reader = self.db.read(tenant).await?;
        let found = store::tenants::get(&mut reader, tenant).await?;
        let found = found.ok_or_else(ApiError::not_found)?;
        change::require_governing(caller, &found)
    }

    /// The tenant in `field`, if the caller may know that it exists.
    async fn known_tenant(
        &self,
        caller: &Caller,
        field: &str,
        name: &str,
    ) -> Result<String, ApiError> {
        let tenant = TenantName::parse_field(field, name)?.tenant;
        self.require_readable(caller, &tenant).await?;
        Ok(tenant)
    }
}
