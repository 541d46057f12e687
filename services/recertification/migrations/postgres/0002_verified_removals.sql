-- Removals whose effect is verified, as reconciliation reported them: applied to every campaign that decided them, also to one
-- that ends its review later. One row a grant: the newest observation.
CREATE TABLE verified_removals (
    tenant      TEXT   NOT NULL,
    grant_key   BYTEA  NOT NULL, -- 40 bytes
    record_hash BYTEA  NOT NULL, -- SHA-256 of the EffectVerified record
    observed_ms BIGINT NOT NULL, -- when the read-back that proved it ended
    PRIMARY KEY (tenant, grant_key)
);
