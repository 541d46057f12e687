-- Comparisons, findings, remediations, obligations. Times are milliseconds; names are those of records, without the tenant.

-- Comparisons of what was decided with what a snapshot shows. Never changed.
CREATE TABLE recon_runs (
    tenant                TEXT   NOT NULL,
    recon_run             TEXT   NOT NULL, -- id
    snapshot              TEXT   NOT NULL, -- id
    record_id             BYTEA  NOT NULL, -- of its ReconRunSealed
    record_hash           BYTEA  NOT NULL,
    situations            TEXT   NOT NULL, -- "number:count,..."
    observed_count        BIGINT NOT NULL,
    authorized_count      BIGINT NOT NULL,
    findings_count        BIGINT NOT NULL,
    findings_root         BYTEA  NOT NULL,
    gap_count             BIGINT NOT NULL,
    created_ms            BIGINT NOT NULL,
    PRIMARY KEY (tenant, recon_run)
);

-- What requires action. A grant has at most one live finding a situation.
CREATE TABLE findings (
    tenant                TEXT   NOT NULL,
    finding               TEXT   NOT NULL, -- id
    grant_key             BYTEA  NOT NULL,
    situation             BIGINT NOT NULL,
    severity              BIGINT NOT NULL, -- 1 low to 4 critical
    recon_run             TEXT   NOT NULL, -- id of the run that found it first
    due_ms                BIGINT NOT NULL,
    created_ms            BIGINT NOT NULL,
    account_name          TEXT   NOT NULL, -- for people; in no record
    entitlement_name      TEXT   NOT NULL, -- for people; in no record
    last_run              TEXT   NOT NULL, -- id of the newest run that found it
    decided_record_hash   BYTEA,           -- record that decided the grant, when one did
    decided_ms            BIGINT NOT NULL, -- 0: nobody decided
    decided_by            TEXT   NOT NULL, -- "principals/{principal}" or empty
    kept_grant_key        BYTEA,           -- for REDUCE
    campaign              TEXT   NOT NULL, -- "campaigns/{campaign}" or empty
    accountable_owner     TEXT   NOT NULL, -- "principals/{principal}"
    state                 BIGINT NOT NULL, -- evidence.v1.FindingState
    until_ms              BIGINT NOT NULL, -- end of an accepted risk, else 0
    changed_ms            BIGINT NOT NULL, -- when it came into its state
    remediation           TEXT   NOT NULL, -- id of the one that deals with it, or empty
    live                  BIGINT NOT NULL, -- 0 once RESOLVED_VERIFIED
    PRIMARY KEY (tenant, finding)
);
CREATE UNIQUE INDEX findings_live ON findings (tenant, grant_key, situation) WHERE live = 1;
-- ListFindings, most severe first.
CREATE INDEX findings_by_severity ON findings (tenant, severity, finding);
-- What a plan takes.
CREATE INDEX findings_of_run ON findings (tenant, last_run, situation) WHERE live = 1;

-- Plans, and how far each is.
CREATE TABLE remediations (
    tenant                TEXT   NOT NULL,
    remediation           TEXT   NOT NULL, -- id
    recon_run             TEXT   NOT NULL, -- id
    plan_record_hash      BYTEA  NOT NULL, -- of its RemediationPlanned
    actions_count         BIGINT NOT NULL,
    val_required          BIGINT NOT NULL,
    offsets_ms            TEXT   NOT NULL, -- "1000,2000"
    approver              TEXT   NOT NULL, -- "principals/{principal}"
    accountable_owner     TEXT   NOT NULL, -- "principals/{principal}"
    policy_hash           BYTEA  NOT NULL,
    threshold_metric      TEXT   NOT NULL, -- "count", "permille" or empty
    threshold_limit       BIGINT NOT NULL,
    created_ms            BIGINT NOT NULL,
    state                 BIGINT NOT NULL, -- model::state::RemediationState
    runner                TEXT   NOT NULL, -- who carries it out; a later one takes over, the earlier one gives up
    runner_ms             BIGINT NOT NULL, -- when that one was last seen
    p50_ms                BIGINT NOT NULL, -- decision to proved absence, the median
    max_ms                BIGINT NOT NULL, -- and the longest
    reported              BIGINT NOT NULL, -- 1 once recertification knows of every verified removal
    PRIMARY KEY (tenant, remediation)
);
-- What the jobs look for: what runs, what is not reported.
CREATE INDEX remediations_by_state ON remediations (state);
CREATE INDEX remediations_unreported ON remediations (reported) WHERE reported = 0;

-- Actions of a plan. The intent is durable and in the ledger before the target is touched.
CREATE TABLE actions (
    tenant                TEXT   NOT NULL,
    remediation           TEXT   NOT NULL,
    grant_key             BYTEA  NOT NULL,
    action                TEXT   NOT NULL, -- id
    source                TEXT   NOT NULL, -- id
    operation             BIGINT NOT NULL, -- evidence.v1.Operation
    finding               TEXT   NOT NULL, -- id
    decided_record_hash   BYTEA  NOT NULL,
    decided_ms            BIGINT NOT NULL,
    decided_by            TEXT   NOT NULL,
    kept_grant_key        BYTEA,           -- for REDUCE
    campaign              TEXT   NOT NULL,
    account_native        TEXT   NOT NULL, -- what the connector is told
    entitlement_native    TEXT   NOT NULL,
    account_name          TEXT   NOT NULL, -- for people; in no record
    entitlement_name      TEXT   NOT NULL,
    state                 BIGINT NOT NULL, -- model::state::ActionState
    attempts              BIGINT NOT NULL, -- in all
    tries                 BIGINT NOT NULL, -- in the present execution
    idempotency_key       TEXT   NOT NULL, -- of the newest intent
    intent_record_id      BYTEA,           -- its record
    intent_record_hash    BYTEA,
    executor              TEXT   NOT NULL, -- its writer principal
    first_started_ms      BIGINT NOT NULL, -- when the first call went out; 0: none did
    started_ms            BIGINT NOT NULL, -- when the newest call went out; 0: it has not
    ended_ms              BIGINT NOT NULL, -- when its answer came
    failure               TEXT   NOT NULL, -- for people
    read_record_hash      BYTEA,           -- newest sealed sync that was asked about it
    verified_record_hash  BYTEA,           -- its EffectVerified
    verified_ms           BIGINT NOT NULL,
    watched               BIGINT NOT NULL, -- 1 once its re-reads are owed
    PRIMARY KEY (tenant, remediation, grant_key)
);
-- The next batch of a source.
CREATE INDEX actions_by_source ON actions (tenant, remediation, source, state, grant_key);

-- What is owed. Never removed.
CREATE TABLE obligations (
    tenant                TEXT   NOT NULL,
    obligation            BYTEA  NOT NULL, -- 16 bytes
    kind                  TEXT   NOT NULL, -- "persistence_reread", "verify_removal"
    owner                 TEXT   NOT NULL, -- "principals/{principal}"
    due_ms                BIGINT NOT NULL,
    remediation           TEXT   NOT NULL, -- id
    source                TEXT   NOT NULL, -- id, for a re-read
    state                 BIGINT NOT NULL, -- 0 open, 1 discharged, 2 breached
    PRIMARY KEY (tenant, obligation)
);
CREATE INDEX obligations_due ON obligations (state, due_ms, obligation);
CREATE INDEX obligations_of_remediation ON obligations (tenant, remediation, kind);
