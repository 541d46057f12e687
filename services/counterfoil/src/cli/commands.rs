//! Which noun and verb calls which method. Flags, help and output follow from the protos and need no row here.

/// One command of the client.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spec {
    /// Such as "tenant".
    pub noun: &'static str,
    /// Such as "create".
    pub verb: &'static str,
    /// Package below `counterfoil.`, service and method: "authority.TenantService/CreateTenant".
    pub method: &'static str,
    /// Fields given by position, each with the collection its name lives in ("" = taken as it is).
    pub positional: &'static [(&'static str, &'static str)],
    /// Columns of the table; empty = all scalar fields.
    pub columns: &'static [&'static str],
}

const fn spec(
    noun: &'static str,
    verb: &'static str,
    method: &'static str,
    positional: &'static [(&'static str, &'static str)],
    columns: &'static [&'static str],
) -> Spec {
    Spec {
        noun,
        verb,
        method,
        positional,
        columns,
    }
}

const TENANT: (&str, &str) = ("tenant", "tenants");

/// Help of each noun.
pub(crate) const NOUNS: &[(&str, &str)] = &[
    ("tenant", "Customers, and the gate each passes"),
    ("policy", "The rules in force, escalation and retention"),
    (
        "organization",
        "Organisations that take part in governing a tenant",
    ),
    ("principal", "Who acts: people, services, agents"),
    ("token", "API tokens of principals"),
    ("login", "Logins at identity providers"),
    ("unit", "Business units and their accountable owners"),
    ("right", "Decision rights: who may decide what"),
    ("source", "Target systems"),
    ("sync", "Readings of a source, sealed with their counts"),
    ("snapshot", "All sources at one moment"),
    ("identity", "Who"),
    ("account", "Where"),
    ("entitlement", "What"),
    ("grant", "An account has an entitlement"),
    ("campaign", "Reviews of a fixed population"),
    ("item", "What a reviewer decides"),
    ("decision", "Decisions on items"),
    ("recon", "Comparing what was decided with what is observed"),
    ("finding", "What requires action"),
    ("remediation", "Carrying decisions out, with proof"),
    ("obligation", "What is owed and open"),
    ("ledger", "The tenant's log"),
    ("bundle", "Evidence to take away"),
];

/// All commands that are one call.
// One line a command: a table, not code.
#[rustfmt::skip]
pub(crate) const COMMANDS: &[Spec] = &[
    spec("tenant", "create", "authority.TenantService/CreateTenant", &[("tenant_id", "")], &["name", "state", "log_origin", "missing_requirements"]),
    spec("tenant", "get", "authority.TenantService/GetTenant", &[("name", "tenants")], &["name", "state", "log_origin", "missing_requirements"]),
    spec("tenant", "list", "authority.TenantService/ListTenants", &[], &["name", "state", "display_name"]),
    spec("tenant", "activate", "authority.TenantService/ActivateTenant", &[("name", "tenants")], &["name", "state"]),
    spec("policy", "publish", "authority.PolicyService/PublishPolicy", &[TENANT], &[]),
    spec("policy", "get", "authority.PolicyService/GetPolicy", &[TENANT], &[]),
    spec("policy", "list", "authority.PolicyService/ListPolicies", &[TENANT], &["version", "effective_time", "bundle_hash"]),
    spec("policy", "simulate", "authority.PolicyService/SimulatePolicy", &[TENANT], &[]),
    spec("policy", "escalation", "authority.TenantService/SetEscalationPath", &[TENANT], &[]),
    spec("policy", "retention", "authority.TenantService/SetRetentionPolicy", &[TENANT], &[]),
    spec("organization", "create", "authority.PrincipalService/CreateOrganization", &[TENANT, ("organization_id", "")], &[]),
    spec("organization", "list", "authority.PrincipalService/ListOrganizations", &[TENANT], &[]),
    spec("principal", "create", "authority.PrincipalService/CreatePrincipal", &[TENANT, ("principal_id", "")], &["name", "display_name", "kind", "roles"]),
    spec("principal", "get", "authority.PrincipalService/GetPrincipal", &[("name", "principals")], &[]),
    spec("principal", "list", "authority.PrincipalService/ListPrincipals", &[TENANT], &["name", "display_name", "kind", "organization_kind", "roles"]),
    spec("principal", "end", "authority.PrincipalService/EndPrincipal", &[("name", "principals")], &[]),
    spec("token", "issue", "authority.PrincipalService/IssueToken", &[("principal", "principals")], &[]),
    spec("token", "revoke", "authority.PrincipalService/RevokeToken", &[TENANT, ("token_id", "")], &[]),
    spec("token", "list", "authority.CredentialService/ListTokens", &[TENANT], &["token_id", "principal", "scopes", "expire_time", "revoke_time", "last_used_time"]),
    spec("login", "link", "authority.CredentialService/LinkLogin", &[("principal", "principals"), ("issuer", ""), ("subject", "")], &["name", "principal", "issuer", "subject"]),
    spec("login", "unlink", "authority.CredentialService/UnlinkLogin", &[("name", "logins")], &[]),
    spec("login", "list", "authority.CredentialService/ListLogins", &[TENANT], &["name", "principal", "issuer", "subject", "unlink_time"]),
    spec("unit", "set-owner", "authority.DecisionRightService/SetBusinessUnitOwner", &[("business_unit.name", "business-units")], &[]),
    spec("unit", "get", "authority.DecisionRightService/GetBusinessUnitOwner", &[("name", "business-units")], &[]),
    spec("unit", "list", "authority.DecisionRightService/ListBusinessUnits", &[TENANT], &[]),
    spec("right", "grant", "authority.DecisionRightService/GrantDecisionRights", &[TENANT], &["name", "grantee", "action", "valid_to_time"]),
    spec("right", "revoke", "authority.DecisionRightService/RevokeDecisionRight", &[("name", "decision-rights")], &[]),
    spec("right", "list", "authority.DecisionRightService/ListDecisionRights", &[TENANT], &["name", "grantee", "action", "scope", "valid_to_time"]),
    spec("source", "create", "inventory.SourceService/CreateSource", &[TENANT, ("source_id", "")], &["name", "kind", "reader_principal", "writer_principal"]),
    spec("source", "get", "inventory.SourceService/GetSource", &[("name", "sources")], &[]),
    spec("source", "list", "inventory.SourceService/ListSources", &[TENANT], &["name", "kind", "latest_sync_time", "latest_sync"]),
    spec("sync", "start", "inventory.SourceService/StartSync", &[("source", "sources")], &["name", "state", "source"]),
    spec("sync", "get", "inventory.SourceService/GetSync", &[("name", "syncs")], &[]),
    spec("sync", "list", "inventory.SourceService/ListSyncs", &[TENANT], &["name", "source", "purpose", "state", "set_count", "errors", "end_time"]),
    spec("sync", "watch", "inventory.SourceService/WatchSync", &[("name", "syncs")], &["name", "state", "set_count", "errors", "error_messages"]),
    spec("snapshot", "create", "inventory.SourceService/CreateSnapshot", &[TENANT], &["name", "grant_count", "missing_sources"]),
    spec("snapshot", "get", "inventory.SourceService/GetSnapshot", &[("name", "snapshots")], &[]),
    spec("snapshot", "list", "inventory.SourceService/ListSnapshots", &[TENANT], &["name", "grant_count", "create_time"]),
    spec("identity", "list", "inventory.InventoryService/ListIdentities", &[TENANT], &[]),
    spec("account", "list", "inventory.InventoryService/ListAccounts", &[TENANT], &["name", "native_id", "display_name", "identity", "enabled"]),
    spec("account", "set-owner", "inventory.InventoryService/SetOwner", &[("object", "accounts"), ("owner", "principals")], &[]),
    spec("entitlement", "list", "inventory.InventoryService/ListEntitlements", &[TENANT], &["name", "native_id", "display_name", "privileged", "owner_key"]),
    spec("entitlement", "set-owner", "inventory.InventoryService/SetOwner", &[("object", "entitlements"), ("owner", "principals")], &[]),
    spec("grant", "list", "inventory.InventoryService/ListGrants", &[TENANT], &["account.native_id", "entitlement.native_id", "flags", "last_used_time", "name"]),
    spec("grant", "watch", "inventory.InventoryService/WatchChanges", &[TENANT], &["kind", "grant", "change_time"]),
    spec("grant", "explain", "ledger.LedgerService/ExplainAccess", &[("grant", "grants")], &["occurred_time", "type", "outcome", "actor", "accountable_owner", "index"]),
    spec("campaign", "create", "recertification.CampaignService/CreateCampaign", &[TENANT], &["name", "state", "due_time"]),
    spec("campaign", "stage", "recertification.CampaignService/StageCampaign", &[("name", "campaigns")], &["name", "state", "population_count", "snapshot"]),
    spec("campaign", "activate", "recertification.CampaignService/ActivateCampaign", &[("name", "campaigns")], &["name", "state", "population_count"]),
    spec("campaign", "end-review", "recertification.CampaignService/EndReview", &[("name", "campaigns")], &["name", "state", "counts"]),
    spec("campaign", "close", "recertification.CampaignService/CloseCampaign", &[("name", "campaigns")], &["name", "state", "counts", "debt_count"]),
    spec("campaign", "get", "recertification.CampaignService/GetCampaign", &[("name", "campaigns")], &["name", "state", "population_count", "counts", "debt_count"]),
    spec("campaign", "list", "recertification.CampaignService/ListCampaigns", &[TENANT], &["name", "state", "population_count", "due_time"]),
    spec("item", "list", "recertification.ReviewService/ListItems", &[("campaign", "campaigns")], &["name", "presentation.account_native_id", "presentation.entitlement_native_id", "presentation.flags", "state", "decision", "reviewer"]),
    spec("item", "get", "recertification.ReviewService/GetItem", &[("name", "")], &[]),
    spec("item", "reassign", "recertification.ReviewService/ReassignItem", &[("name", ""), ("reviewer", "principals")], &["name", "reviewer"]),
    spec("decision", "take", "recertification.ReviewService/DecideItem", &[("decision.item", "")], &["name", "state", "decision"]),
    spec("recon", "run", "reconciliation.ReconService/RunReconciliation", &[("snapshot", "snapshots")], &["name", "situations", "findings_count", "gap_count"]),
    spec("recon", "get", "reconciliation.ReconService/GetReconRun", &[("name", "recon-runs")], &[]),
    spec("recon", "list", "reconciliation.ReconService/ListReconRuns", &[TENANT], &["name", "findings_count", "gap_count", "create_time"]),
    spec("finding", "list", "reconciliation.ReconService/ListFindings", &[TENANT], &["situation", "severity", "state", "account_display_name", "entitlement_display_name", "due_time", "name"]),
    spec("finding", "accept-risk", "reconciliation.ReconService/AcceptFindingRisk", &[("name", "findings")], &["name", "state"]),
    spec("remediation", "plan", "reconciliation.RemediationService/PlanRemediation", &[("recon_run", "recon-runs")], &["name", "state", "actions_count"]),
    spec("remediation", "resolve", "reconciliation.RemediationService/ResolveThreshold", &[("name", "remediations")], &["name", "state"]),
    spec("remediation", "execute", "reconciliation.RemediationService/ExecuteRemediation", &[("name", "remediations")], &["name", "state"]),
    spec("remediation", "watch", "reconciliation.RemediationService/WatchRemediation", &[("name", "remediations")], &["name", "state", "verified_count", "open_count"]),
    spec("remediation", "get", "reconciliation.RemediationService/GetRemediation", &[("name", "remediations")], &[]),
    spec("remediation", "list", "reconciliation.RemediationService/ListRemediations", &[TENANT], &["name", "state", "actions_count", "verified_count", "open_count"]),
    spec("remediation", "actions", "reconciliation.RemediationService/ListActions", &[("remediation", "remediations")], &["account_display_name", "entitlement_display_name", "state", "attempts", "failure_message"]),
    spec("remediation", "reread", "reconciliation.RemediationService/RunDueRereads", &[TENANT], &[]),
    spec("obligation", "list", "reconciliation.RemediationService/ListObligations", &[TENANT], &[]),
    spec("ledger", "checkpoint", "ledger.LedgerService/GetCheckpoint", &[TENANT], &["size", "vkey"]),
    spec("ledger", "get", "ledger.LedgerService/GetEntry", &[TENANT], &[]),
    spec("ledger", "list", "ledger.LedgerService/ListEntries", &[TENANT], &["index", "type", "recorded_time", "record_hash"]),
    spec("ledger", "consistency", "ledger.LedgerService/ProveConsistency", &[TENANT], &[]),
    spec("ledger", "tail", "ledger.LedgerService/StreamEntries", &[TENANT], &["index", "type", "recorded_time"]),
    spec("ledger", "seal", "ledger.LedgerService/SealEpoch", &[TENANT], &[]),
];
