-- Mandates of AI agents. Written by MandateService; never removed.
CREATE TABLE mandates (
    tenant               TEXT   NOT NULL,
    mandate              TEXT   NOT NULL, -- id, UUIDv7
    agent                TEXT   NOT NULL, -- principal
    owner                TEXT   NOT NULL, -- principal
    autonomy             BIGINT NOT NULL, -- counterfoil.evidence.v1.AgentAutonomy
    actions              TEXT   NOT NULL, -- numbers of counterfoil.evidence.v1.DecisionAction, separated by commas
    scope                TEXT   NOT NULL, -- source ids separated by commas; empty: every source
    tiers                TEXT   NOT NULL,
    environments         TEXT   NOT NULL,
    acts_per_hour_max    BIGINT NOT NULL,
    removals_per_day_max BIGINT NOT NULL,
    removals_max         BIGINT NOT NULL,
    model                TEXT   NOT NULL,
    build                TEXT   NOT NULL,
    valid_from_ms        BIGINT NOT NULL,
    valid_to_ms          BIGINT NOT NULL, -- exclusive
    review_interval_ms   BIGINT NOT NULL,
    kill_path            TEXT   NOT NULL,
    proposer             TEXT   NOT NULL, -- principal
    proposal_hash        BYTEA  NOT NULL, -- of its R74 AgentMandateProposed
    grantor              TEXT   NOT NULL, -- principal; empty: a draft
    grant_hash           BYTEA,           -- of its R74 AgentMandateGranted
    due_ms               BIGINT,          -- when it must have been certified anew
    suspended            BIGINT NOT NULL, -- 1: stopped
    ended                BIGINT NOT NULL, -- 0: not before its term, 1: revoked, 2: replaced
    removals             BIGINT NOT NULL, -- counted under it
    PRIMARY KEY (tenant, mandate),
    FOREIGN KEY (tenant, agent) REFERENCES principals (tenant, principal),
    FOREIGN KEY (tenant, owner) REFERENCES principals (tenant, principal)
);
CREATE INDEX mandates_of_agent ON mandates (tenant, agent);
-- An agent has one at most that was granted and has not ended before its term.
CREATE UNIQUE INDEX mandates_granted ON mandates (tenant, agent) WHERE ended = 0 AND grantor <> '';

-- What agents were about to decide or start. Written by UseMandate.
CREATE TABLE mandate_uses (
    tenant   TEXT   NOT NULL,
    agent    TEXT   NOT NULL, -- principal
    act      TEXT   NOT NULL, -- as whoever asked names it; counts once
    mandate  TEXT   NOT NULL, -- under which it was asked for the last time
    at_ms    BIGINT NOT NULL, -- when that was
    removals BIGINT NOT NULL,
    PRIMARY KEY (tenant, agent, act),
    FOREIGN KEY (tenant, agent) REFERENCES principals (tenant, principal)
);
CREATE INDEX mandate_uses_by_time ON mandate_uses (tenant, agent, at_ms);
