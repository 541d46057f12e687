-- Legal holds: evidence that must not go. Written by TenantService; never removed, released instead.
CREATE TABLE legal_holds (
    tenant            TEXT   NOT NULL,
    legal_hold        TEXT   NOT NULL, -- id, UUIDv7
    retention_classes TEXT   NOT NULL, -- codes separated by commas; empty: the whole log
    basis             TEXT   NOT NULL, -- code
    reason_code       TEXT   NOT NULL,
    placed_by         TEXT   NOT NULL, -- principal
    placed_at_ms      BIGINT NOT NULL,
    record_hash       BYTEA  NOT NULL, -- of its R82 LegalHoldPlaced
    released_by       TEXT   NOT NULL, -- principal; empty: in force
    release_code      TEXT   NOT NULL,
    released_at_ms    BIGINT,          -- NULL: in force
    PRIMARY KEY (tenant, legal_hold),
    FOREIGN KEY (tenant, placed_by) REFERENCES principals (tenant, principal)
);
CREATE INDEX legal_holds_in_force ON legal_holds (tenant) WHERE released_at_ms IS NULL;
