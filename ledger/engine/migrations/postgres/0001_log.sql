-- The logs of all tenants. Everything here but `logs` and `log_entries` can be derived from these two again.
-- Whoever can write to this database can break a log, but cannot change one unseen: entries are bound by hashes, by the
-- producers' signatures and by the checkpoints that others hold, and no signing key is in here.

-- One log a tenant. Rows are never changed.
CREATE TABLE logs (
    log_id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant TEXT NOT NULL UNIQUE,
    -- The log's name in its checkpoints, bound into every record and entry.
    origin TEXT NOT NULL UNIQUE,
    -- Public key of the log, C2SP text form.
    vkey TEXT NOT NULL,
    -- Public key of the producer that registers all others.
    registrar_vkey TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL
);

-- The newest signed state of each log. Written by the sequencer only, by compare-and-swap on size and root.
CREATE TABLE log_heads (
    log_id BIGINT PRIMARY KEY REFERENCES logs (log_id),
    size BIGINT NOT NULL,
    root BYTEA NOT NULL,
    -- Right edge of the tree: u64 size, then its hashes.
    frontier BYTEA NOT NULL,
    -- The signed note.
    checkpoint TEXT NOT NULL,
    -- Time of the last entry; the next one is not earlier.
    recorded_at_ms BIGINT NOT NULL
);

-- The leaves.
CREATE TABLE log_entries (
    log_id BIGINT NOT NULL,
    idx BIGINT NOT NULL,
    -- RFC 6962 leaf hash of `entry`.
    leaf_hash BYTEA NOT NULL,
    -- The four columns below repeat what `entry` says, to find it by.
    record_id BYTEA NOT NULL,
    record_hash BYTEA NOT NULL,
    record_type TEXT NOT NULL,
    stream TEXT NOT NULL,
    -- Canonical bytes of counterfoil.evidence.v1.Entry.
    entry BYTEA NOT NULL,
    PRIMARY KEY (log_id, idx)
);
CREATE UNIQUE INDEX log_entries_by_record_id ON log_entries (log_id, record_id);
CREATE INDEX log_entries_by_type ON log_entries (log_id, record_type, idx);
CREATE INDEX log_entries_by_stream ON log_entries (log_id, stream, idx);

-- Which entries speak of what: the first 16 bytes of SHA-256 of the subject. A convenience that proves nothing.
CREATE TABLE log_subjects (
    log_id BIGINT NOT NULL,
    subject BYTEA NOT NULL,
    idx BIGINT NOT NULL,
    PRIMARY KEY (log_id, subject, idx)
);

-- The last record of each stream: what the next one must follow.
CREATE TABLE log_streams (
    log_id BIGINT NOT NULL,
    stream TEXT NOT NULL,
    last_seq BIGINT NOT NULL,
    last_record_hash BYTEA NOT NULL,
    PRIMARY KEY (log_id, stream)
);

-- The keys that the log's own ActorKeyRegistered and ActorKeyRevoked records allow to write.
CREATE TABLE log_producer_keys (
    log_id BIGINT NOT NULL,
    key_id TEXT NOT NULL,
    stream TEXT NOT NULL,
    public_key BYTEA NOT NULL,
    valid_from_ms BIGINT NOT NULL,
    -- NULL while not revoked.
    revoked_after_ms BIGINT,
    PRIMARY KEY (log_id, key_id, stream)
);

-- Hash tiles: of level 0 the full ones, of higher levels also the last, growing one.
CREATE TABLE log_tiles (
    log_id BIGINT NOT NULL,
    level BIGINT NOT NULL,
    n BIGINT NOT NULL,
    hashes BYTEA NOT NULL,
    PRIMARY KEY (log_id, level, n)
);

-- Against mistakes, not against attackers: an entry is written once.
CREATE FUNCTION log_entries_keep() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'entries are never changed or deleted'; END $$;
CREATE TRIGGER log_entries_keep BEFORE UPDATE OR DELETE ON log_entries
    FOR EACH ROW EXECUTE FUNCTION log_entries_keep();
