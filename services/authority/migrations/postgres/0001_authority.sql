-- Customers. Written by TenantService. Who can write here can activate a tenant, but cannot forge the R01 that cites the gate.
CREATE TABLE tenants (
    tenant            TEXT COLLATE "C" NOT NULL PRIMARY KEY, -- id
    log_origin        TEXT   NOT NULL, -- of its log; stands in every record
    log_vkey          TEXT   NOT NULL, -- verifier key of the log
    registrar_vkey    TEXT   NOT NULL, -- verifier key of the ledger as a producer
    correlation_salt  BYTEA  NOT NULL, -- 32 random bytes; who knows them can guess identities from their tags
    creation_record   BYTEA  NOT NULL, -- id of R01 to ONBOARDING
    created_at_ms     BIGINT NOT NULL,
    display_name      TEXT   NOT NULL, -- only its commitment enters a record
    state             BIGINT NOT NULL, -- counterfoil.evidence.v1.TenantState
    activation_record BYTEA            -- id of R01 to ACTIVE
);

-- Organisations that take part. Written once by CreateOrganization.
CREATE TABLE organizations (
    tenant        TEXT COLLATE "C" NOT NULL REFERENCES tenants (tenant),
    organization  TEXT COLLATE "C" NOT NULL, -- id
    kind          BIGINT NOT NULL, -- counterfoil.evidence.v1.OrganizationKind
    created_at_ms BIGINT NOT NULL,
    display_name  TEXT   NOT NULL,
    PRIMARY KEY (tenant, organization)
);

-- Who acts on Counterfoil. Written by PrincipalService; never removed, ended instead.
CREATE TABLE principals (
    tenant            TEXT COLLATE "C" NOT NULL,
    principal         TEXT COLLATE "C" NOT NULL, -- id
    kind              BIGINT NOT NULL, -- counterfoil.evidence.v1.PrincipalKind
    organization      TEXT COLLATE "C" NOT NULL,
    organization_kind BIGINT NOT NULL, -- of the organisation, whose kind never changes
    identity_key      TEXT   NOT NULL, -- as sources know it; empty: no identity there
    roles             TEXT   NOT NULL, -- separated by commas
    record_hash       BYTEA  NOT NULL, -- of its R85
    created_at_ms     BIGINT NOT NULL,
    display_name      TEXT   NOT NULL, -- only its commitment enters a record
    ended_at_ms       BIGINT,
    PRIMARY KEY (tenant, principal),
    FOREIGN KEY (tenant, organization) REFERENCES organizations (tenant, organization)
);

-- Parts of the customer. Written once by SetBusinessUnitOwner.
CREATE TABLE business_units (
    tenant        TEXT COLLATE "C" NOT NULL REFERENCES tenants (tenant),
    business_unit TEXT COLLATE "C" NOT NULL, -- id
    position      BIGINT NOT NULL, -- 1, 2, 3, ... as they came; the owner of the first is the tenant's default owner
    PRIMARY KEY (tenant, business_unit),
    UNIQUE (tenant, position)
);

-- Who answered for a unit from when. A tenure ends where the next begins, so tenures can neither overlap nor leave a gap.
-- Written by SetBusinessUnitOwner, only ever added to.
CREATE TABLE business_unit_tenures (
    tenant        TEXT COLLATE "C" NOT NULL,
    business_unit TEXT COLLATE "C" NOT NULL,
    from_ms       BIGINT NOT NULL,
    owner         TEXT   NOT NULL, -- principal
    deputy        TEXT   NOT NULL, -- principal; empty: none
    display_name  TEXT   NOT NULL, -- of the unit in that time
    record_hash   BYTEA  NOT NULL, -- of its R06
    PRIMARY KEY (tenant, business_unit, from_ms),
    FOREIGN KEY (tenant, business_unit) REFERENCES business_units (tenant, business_unit),
    FOREIGN KEY (tenant, owner) REFERENCES principals (tenant, principal)
);

-- Rights to decide. Written by DecisionRightService; never removed, revoked instead.
CREATE TABLE decision_rights (
    tenant         TEXT COLLATE "C" NOT NULL,
    decision_right TEXT COLLATE "C" NOT NULL, -- id, UUIDv7
    grantee        TEXT   NOT NULL, -- principal
    action         BIGINT NOT NULL, -- counterfoil.evidence.v1.DecisionAction
    scope          TEXT   NOT NULL, -- source ids separated by commas; empty: every source
    valid_from_ms  BIGINT NOT NULL,
    valid_to_ms    BIGINT NOT NULL, -- exclusive
    grantor        TEXT   NOT NULL, -- principal
    record_hash    BYTEA  NOT NULL, -- of its R03, which decisions cite
    revoked_at_ms  BIGINT,
    PRIMARY KEY (tenant, decision_right),
    FOREIGN KEY (tenant, grantee) REFERENCES principals (tenant, principal),
    FOREIGN KEY (tenant, grantor) REFERENCES principals (tenant, principal)
);
CREATE INDEX decision_rights_of_grantee ON decision_rights (tenant, grantee, action);
CREATE INDEX decision_rights_by_action ON decision_rights (tenant, action);

-- Policy bundles, the newest in force. Written by PublishPolicy, only ever added to.
CREATE TABLE policies (
    tenant            TEXT COLLATE "C" NOT NULL REFERENCES tenants (tenant),
    version           BIGINT NOT NULL, -- 1, 2, 3, ...
    rules             BYTEA  NOT NULL, -- canonical bytes of counterfoil.evidence.v1.PolicyRules
    bundle_hash       BYTEA  NOT NULL, -- SHA-256 of `rules`
    effective_from_ms BIGINT NOT NULL,
    record_hash       BYTEA  NOT NULL, -- of its R02
    PRIMARY KEY (tenant, version)
);

-- Escalation paths and retention policies, the newest in force. Written by TenantService, only ever added to.
CREATE TABLE settings (
    tenant      TEXT COLLATE "C" NOT NULL REFERENCES tenants (tenant),
    kind        TEXT   NOT NULL, -- "escalation_path" or "retention_policy"
    version     BIGINT NOT NULL, -- 1, 2, 3, ... within the kind
    content     BYTEA  NOT NULL, -- canonical bytes of the record's payload
    set_at_ms   BIGINT NOT NULL,
    record_hash BYTEA  NOT NULL, -- of its R04 or R05
    PRIMARY KEY (tenant, kind, version)
);

-- API tokens by their hash: who reads this table can present none of them.
CREATE TABLE tokens (
    token_id      TEXT   NOT NULL PRIMARY KEY, -- public id, 16 hex digits
    tenant        TEXT COLLATE "C" NOT NULL,
    principal     TEXT COLLATE "C" NOT NULL,
    sha256        BYTEA  NOT NULL, -- of the whole token
    issued_at_ms  BIGINT NOT NULL,
    expires_at_ms BIGINT NOT NULL,
    revoked_at_ms BIGINT,
    FOREIGN KEY (tenant, principal) REFERENCES principals (tenant, principal)
);
