-- Where the hashing again of each log is, so that a round goes on after a restart. Nothing here is evidence: what a round found stands in
-- the log (R93), or has stopped it. A row that is lost costs a round.
CREATE TABLE scrubs (
    tenant TEXT PRIMARY KEY,
    -- Goes up with every change: of two processes that took the same step, one writes it down.
    step BIGINT NOT NULL,
    -- When the log is due: the next round, the next step, or another attempt.
    due_at_ms BIGINT NOT NULL,
    -- End of the last round that found everything as it was signed; until there is one, when the log was first seen.
    whole_at_ms BIGINT NOT NULL,
    -- The round under way: when it began, and its place as the engine keeps it. NULL: none is.
    started_at_ms BIGINT,
    place BYTEA,
    -- A round that is over and not stated in the log yet: canonical bytes of counterfoil.evidence.v1.LogScrubbed.
    unstated BYTEA,
    -- What the last round found that does not fit.
    problem TEXT
);
CREATE INDEX scrubs_by_due ON scrubs (due_at_ms);
