-- Streams of records: the last one of each. Written by the outbox, in the transaction of the change that the record states.
-- Who changes a row makes the next record refer to a wrong predecessor, which the ledger refuses.
CREATE TABLE outbox_streams (
    tenant TEXT NOT NULL,
    stream TEXT NOT NULL,
    last_seq BIGINT NOT NULL,      -- sequence number of the last record, from 1
    last_hash BLOB NOT NULL,       -- SHA-256 of the last record
    PRIMARY KEY (tenant, stream)
);

-- Records, never changed and never removed: an older ledger is rebuilt from them.
CREATE TABLE outbox_records (
    tenant TEXT NOT NULL,
    stream TEXT NOT NULL,
    seq BIGINT NOT NULL,
    record_id BLOB NOT NULL,       -- 16 bytes
    record BLOB NOT NULL,          -- canonical bytes of counterfoil.evidence.v1.Record
    record_hash BLOB NOT NULL,     -- SHA-256 of `record`
    key_id TEXT NOT NULL,          -- "{name}+{8 hex digits}" of the producer's key
    signature BLOB NOT NULL,       -- 64 bytes
    PRIMARY KEY (tenant, stream, seq),
    UNIQUE (tenant, record_id)
);

-- How far the relay is: all records of the stream up to delivered_seq are in the ledger. Written by the relay alone.
CREATE TABLE outbox_relay (
    tenant TEXT NOT NULL,
    stream TEXT NOT NULL,
    delivered_seq BIGINT NOT NULL,
    PRIMARY KEY (tenant, stream)
);

-- Where a record stands in the tenant's log. Written by the relay alone, in the transaction that moves delivered_seq.
CREATE TABLE outbox_receipts (
    tenant TEXT NOT NULL,
    record_id BLOB NOT NULL,
    log_index BIGINT NOT NULL,     -- position in the log, from 0
    leaf_hash BLOB NOT NULL,       -- RFC 6962 leaf hash of the entry
    tlog_proof BLOB NOT NULL,      -- C2SP tlog-proof text
    PRIMARY KEY (tenant, record_id)
);

-- The values behind the commitments of records: names, addresses, free text. They leave the service only in a bundle.
CREATE TABLE disclosures (
    tenant TEXT NOT NULL,
    stream_seq BIGINT NOT NULL,    -- of the record
    label TEXT NOT NULL,
    record_id BLOB NOT NULL,
    salt BLOB NOT NULL,            -- 32 random bytes
    value BLOB NOT NULL,
    PRIMARY KEY (tenant, stream_seq, label)
);

-- Attachments of records, by their hash, in parts.
CREATE TABLE blobs (
    tenant TEXT NOT NULL,
    sha256 BLOB NOT NULL,          -- of the whole attachment
    chunk_no BIGINT NOT NULL,      -- from 0
    content BLOB NOT NULL,         -- at most 1 MiB
    PRIMARY KEY (tenant, sha256, chunk_no)
);

-- Answers to changes, so that the same request_id gets the same answer.
CREATE TABLE requests (
    tenant TEXT NOT NULL,
    principal TEXT NOT NULL,       -- who asked
    method TEXT NOT NULL,
    request_id TEXT NOT NULL,
    body_sha256 BLOB NOT NULL,     -- of the request
    response BLOB NOT NULL,        -- protobuf bytes of the answer
    created_at_ms BIGINT NOT NULL,
    PRIMARY KEY (tenant, principal, method, request_id)
);

-- Origin of each tenant's log, as authority told it; it stands in every record.
CREATE TABLE tenant_logs (
    tenant TEXT NOT NULL PRIMARY KEY,
    origin TEXT NOT NULL
);
