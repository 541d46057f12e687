-- What the ledger service keeps beside the logs. The logs themselves stand in the engine's tables (`log...`).
-- Nothing here is evidence: each row's content stands in the logs too, signed.

-- The producers of the deployment: every log registers each of them (R08). Rows are never changed.
CREATE TABLE producers (
    -- "{name}+{8 hex digits}".
    key_id TEXT PRIMARY KEY,
    -- "services/{service}".
    principal TEXT NOT NULL,
    -- The stream that the key may write.
    stream TEXT NOT NULL,
    -- Public key, C2SP text form.
    vkey TEXT NOT NULL,
    registered_at_ms BIGINT NOT NULL
);

-- What a log has been told already, so that starting a service does not ask every log. A missing row costs one look-up.
CREATE TABLE statements (
    tenant TEXT NOT NULL,
    -- "key:{key id}" or "schema:{hex}".
    statement TEXT NOT NULL,
    PRIMARY KEY (tenant, statement)
);

-- The descriptor sets that records refer to by hash; disclosed as the attachments of R86.
CREATE TABLE schemas (
    -- SHA-256 of `descriptor_set`.
    schema_hash BLOB PRIMARY KEY,
    descriptor_set BLOB NOT NULL
);
