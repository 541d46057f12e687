-- Whose tenant it is: counterfoil.evidence.v1.TenantKind; 0 as CUSTOMER.
ALTER TABLE tenants ADD COLUMN kind BIGINT NOT NULL DEFAULT 0;

-- What a provider asked its customers for, in the provider's own tenant. Written by EngagementService.
CREATE TABLE engagement_offers (
    tenant          TEXT COLLATE "C" NOT NULL REFERENCES tenants (tenant), -- the provider's
    engagement      TEXT COLLATE "C" NOT NULL, -- id, UUIDv7
    customer        TEXT COLLATE "C" NOT NULL, -- tenant id, whether or not there is one
    request         BYTEA   NOT NULL, -- canonical bytes of EngagementRequested
    record_hash     BYTEA   NOT NULL, -- of it in the provider's log
    withdrawn_at_ms BIGINT,
    PRIMARY KEY (tenant, engagement)
);
CREATE INDEX engagement_offers_to ON engagement_offers (tenant, customer);

-- Engagements of a customer. Written by EngagementService and QualificationService; never removed, ended instead.
CREATE TABLE engagements (
    tenant              TEXT COLLATE "C" NOT NULL REFERENCES tenants (tenant), -- the customer's
    engagement          TEXT COLLATE "C" NOT NULL, -- id
    provider            TEXT COLLATE "C" NOT NULL, -- tenant id
    roles               TEXT COLLATE "C" NOT NULL, -- asked for, separated by commas
    purpose             TEXT COLLATE "C" NOT NULL,
    profile             BIGINT NOT NULL, -- counterfoil.evidence.v1.EngagementProfile
    term_days           BIGINT NOT NULL,
    parent              TEXT COLLATE "C" NOT NULL, -- engagement of the provider of a subcontractor; empty: none
    approvable_until_ms BIGINT NOT NULL,
    request_hash        BYTEA   NOT NULL, -- of its R62
    organization        TEXT COLLATE "C" NOT NULL DEFAULT '', -- of its operators; empty until approved
    approved_roles      TEXT COLLATE "C" NOT NULL DEFAULT '',
    valid_from_ms       BIGINT NOT NULL DEFAULT 0,
    valid_to_ms         BIGINT, -- exclusive; null until approved
    approval_hash       BYTEA, -- of its R62 or R69
    ended_at_ms         BIGINT,
    tier                BIGINT NOT NULL DEFAULT 0, -- R65; 0: not rated
    reassessment        BIGINT NOT NULL DEFAULT 0, -- R67; 0: none
    next_due_ms         BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant, engagement)
);

-- Notices given that an engagement ends. Written by the job, only ever added to.
CREATE TABLE engagement_notices (
    tenant      TEXT COLLATE "C" NOT NULL,
    engagement  TEXT COLLATE "C" NOT NULL,
    valid_to_ms BIGINT NOT NULL, -- the end that it was about
    days        BIGINT NOT NULL, -- before the end
    PRIMARY KEY (tenant, engagement, valid_to_ms, days),
    FOREIGN KEY (tenant, engagement) REFERENCES engagements (tenant, engagement)
);

-- Who of a provider acts as whom. Written by EngagementService; never removed.
CREATE TABLE operators (
    tenant           TEXT COLLATE "C" NOT NULL, -- the customer's
    principal        TEXT COLLATE "C" NOT NULL, -- as whom: of the customer's tenant
    engagement       TEXT COLLATE "C" NOT NULL,
    operator         TEXT COLLATE "C" NOT NULL, -- who: "tenants/{tenant}/principals/{principal}" of the provider's tenant
    roles            TEXT COLLATE "C" NOT NULL, -- separated by commas
    assigned_at_ms   BIGINT NOT NULL,
    record_hash      BYTEA   NOT NULL, -- of its R89
    unassigned_at_ms BIGINT,
    PRIMARY KEY (tenant, principal),
    FOREIGN KEY (tenant, principal) REFERENCES principals (tenant, principal),
    FOREIGN KEY (tenant, engagement) REFERENCES engagements (tenant, engagement)
);
CREATE INDEX operators_by_name ON operators (tenant, operator);

-- Evidence of competency. Written by QualificationService; never removed.
CREATE TABLE competencies (
    tenant          TEXT COLLATE "C" NOT NULL REFERENCES tenants (tenant), -- the customer's
    competency      TEXT COLLATE "C" NOT NULL, -- id, UUIDv7
    operator        TEXT COLLATE "C" NOT NULL, -- as in `operators`
    topic           TEXT COLLATE "C" NOT NULL,
    issuer          TEXT COLLATE "C" NOT NULL,
    evidence_sha256 BYTEA   NOT NULL,
    valid_to_ms     BIGINT NOT NULL, -- exclusive; as submitted, then as accepted
    record_hash     BYTEA   NOT NULL, -- of its submission
    accepted_at_ms  BIGINT,
    revoked_at_ms   BIGINT,
    PRIMARY KEY (tenant, competency)
);
CREATE INDEX competencies_of ON competencies (tenant, operator);

-- A provider's newest word for each of its controls. Written by QualificationService.
CREATE TABLE attestations (
    tenant      TEXT COLLATE "C" NOT NULL,
    engagement  TEXT COLLATE "C" NOT NULL,
    control     TEXT COLLATE "C" NOT NULL,
    valid_to_ms BIGINT NOT NULL, -- exclusive
    record_hash BYTEA   NOT NULL, -- of its R66
    PRIMARY KEY (tenant, engagement, control),
    FOREIGN KEY (tenant, engagement) REFERENCES engagements (tenant, engagement)
);

-- How sensitive an environment is. Written by QualificationService.
CREATE TABLE environments (
    tenant      TEXT COLLATE "C" NOT NULL REFERENCES tenants (tenant),
    environment TEXT COLLATE "C" NOT NULL,
    level       BIGINT NOT NULL, -- 1 to 4
    record_hash BYTEA   NOT NULL, -- of its R65
    PRIMARY KEY (tenant, environment)
);

-- Who answers for what: one row an activity, so that no two can be there. Written by QualificationService.
CREATE TABLE responsibilities (
    tenant       TEXT COLLATE "C" NOT NULL,
    activity     TEXT COLLATE "C" NOT NULL,
    organization TEXT COLLATE "C" NOT NULL, -- who carries it out
    by_customer  BIGINT NOT NULL, -- 1: that is the customer itself
    risk_owner   TEXT COLLATE "C" NOT NULL, -- principal
    record_hash  BYTEA   NOT NULL, -- of its R63
    PRIMARY KEY (tenant, activity),
    FOREIGN KEY (tenant, organization) REFERENCES organizations (tenant, organization),
    FOREIGN KEY (tenant, risk_owner) REFERENCES principals (tenant, principal)
);
