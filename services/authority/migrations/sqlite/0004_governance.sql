-- Where a right holds beside its sources, and how far it is. Written by DecisionRightService.
ALTER TABLE decision_rights ADD COLUMN tiers TEXT NOT NULL DEFAULT ''; -- codes separated by commas; empty: all
ALTER TABLE decision_rights ADD COLUMN environments TEXT NOT NULL DEFAULT '';
ALTER TABLE decision_rights ADD COLUMN proposed BIGINT NOT NULL DEFAULT 0; -- 1: waits for a second human; record_hash is the proposal's

-- When the tenant began to leave, and when its evidence was taken away since. Written by TenantService.
ALTER TABLE tenants ADD COLUMN exit_evidence_hash BLOB; -- of the newest R80 since it is EXITING

-- Rights passed on. Written by DelegationService; never removed, revoked instead.
CREATE TABLE delegations (
    tenant        TEXT   NOT NULL,
    delegation    TEXT   NOT NULL, -- id, UUIDv7
    delegator     TEXT   NOT NULL, -- principal
    delegate      TEXT   NOT NULL, -- principal
    source_right  TEXT   NOT NULL, -- id of the decision right that all rests on
    source        TEXT   NOT NULL, -- id of the delegation that is passed on; empty: the right itself
    action        BIGINT NOT NULL, -- counterfoil.evidence.v1.DecisionAction
    scope         TEXT   NOT NULL, -- source ids separated by commas; empty: every source
    tiers         TEXT   NOT NULL,
    environments  TEXT   NOT NULL,
    valid_from_ms BIGINT NOT NULL,
    valid_to_ms   BIGINT NOT NULL, -- exclusive
    transitive    BIGINT NOT NULL, -- 1: may be passed on
    reason_code   TEXT   NOT NULL,
    record_hash   BLOB   NOT NULL, -- of its R09, which decisions cite
    revoked_at_ms BIGINT,
    PRIMARY KEY (tenant, delegation),
    FOREIGN KEY (tenant, delegator) REFERENCES principals (tenant, principal),
    FOREIGN KEY (tenant, delegate) REFERENCES principals (tenant, principal),
    FOREIGN KEY (tenant, source_right) REFERENCES decision_rights (tenant, decision_right)
) WITHOUT ROWID;
CREATE INDEX delegations_of_delegate ON delegations (tenant, delegate, action);

-- Access in an emergency. Written by EmergencyService and its job; never removed.
CREATE TABLE emergencies (
    tenant          TEXT   NOT NULL,
    emergency       TEXT   NOT NULL, -- id, UUIDv7
    state           BIGINT NOT NULL, -- 1 REQUESTED, 2 APPROVED (not in the log yet), 3 ACTIVE, until its end and after
    requester       TEXT   NOT NULL, -- principal
    roles           TEXT   NOT NULL, -- separated by commas
    actions         TEXT   NOT NULL, -- numbers of counterfoil.evidence.v1.DecisionAction, separated by commas
    scope           TEXT   NOT NULL, -- source ids separated by commas; empty: every source
    duration_ms     BIGINT NOT NULL,
    requested_at_ms BIGINT NOT NULL,
    request_hash    BLOB   NOT NULL, -- of its R89 EmergencyAccessRequested
    approver        TEXT   NOT NULL, -- principal; empty: none yet
    valid_from_ms   BIGINT,
    valid_to_ms     BIGINT,          -- exclusive
    activation_id   BLOB,            -- record id of its R89 EmergencyAccessActivated
    activation_hash BLOB,            -- SHA-256 of it; decisions cite it
    ended_at_ms     BIGINT,          -- ended early
    reviewer        TEXT   NOT NULL, -- principal; empty: none yet
    missed          BIGINT NOT NULL, -- 1: it is on record that the review was missed
    PRIMARY KEY (tenant, emergency),
    FOREIGN KEY (tenant, requester) REFERENCES principals (tenant, principal)
) WITHOUT ROWID;
CREATE INDEX emergencies_of_requester ON emergencies (tenant, requester);
