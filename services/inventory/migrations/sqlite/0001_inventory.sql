-- A target system that is governed. Written by SourceService; the *_seq and current_sync by the sync job.
CREATE TABLE sources (
    source_no        INTEGER PRIMARY KEY AUTOINCREMENT, -- number in all other tables
    tenant           TEXT   NOT NULL,
    source           TEXT   NOT NULL, -- id
    tag              BLOB   NOT NULL, -- prefix of its grant keys, 8 bytes
    kind             TEXT   NOT NULL, -- of its connector
    config_json      TEXT   NOT NULL, -- settings; secrets only as files
    reader_principal TEXT   NOT NULL,
    writer_principal TEXT   NOT NULL, -- empty when read-only
    record_id        BLOB   NOT NULL, -- of SourceRegistered
    created_ms       BIGINT NOT NULL,
    display_name     TEXT   NOT NULL, -- shown to people; only its commitment is in a record
    last_seq         BIGINT NOT NULL DEFAULT 0, -- newest sync number given out
    current_seq      BIGINT NOT NULL DEFAULT 0, -- the COMPLETE sync that is the inventory; 0 = none
    current_sync     TEXT,
    UNIQUE (tenant, source)
);

-- One reading of a source. Written by StartSync and the sync job.
CREATE TABLE syncs (
    tenant              TEXT   NOT NULL,
    sync                TEXT   NOT NULL, -- id, UUIDv7
    source_no           BIGINT NOT NULL REFERENCES sources (source_no),
    purpose             BIGINT NOT NULL,
    created_ms          BIGINT NOT NULL,
    not_before_ms       BIGINT NOT NULL, -- reading must not begin earlier
    state               BIGINT NOT NULL, -- 1 waiting, 2 running, 3 COMPLETE, 4 PARTIAL
    attempts            BIGINT NOT NULL DEFAULT 0,
    worker              TEXT, -- who runs it
    lease_until_ms      BIGINT NOT NULL DEFAULT 0, -- until when it is believed to run
    seq                 BIGINT, -- number of the running or last attempt within the source
    started_ms          BIGINT,
    ended_ms            BIGINT,
    pages               BIGINT NOT NULL DEFAULT 0,
    accounts            BIGINT NOT NULL DEFAULT 0,
    entitlements        BIGINT NOT NULL DEFAULT 0,
    edges               BIGINT NOT NULL DEFAULT 0,
    grants_direct       BIGINT NOT NULL DEFAULT 0,
    grants_inherited    BIGINT NOT NULL DEFAULT 0,
    total_accounts      BIGINT, -- what the source says it holds; null = it did not say
    total_entitlements  BIGINT,
    total_edges         BIGINT,
    total_grants        BIGINT,
    set_root            BLOB,
    set_count           BIGINT NOT NULL DEFAULT 0,
    blob_sha256         BLOB, -- of the leaves; null when PARTIAL
    errors              BIGINT NOT NULL DEFAULT 0,
    error_messages      TEXT   NOT NULL DEFAULT '', -- one a line
    partial_reasons     TEXT   NOT NULL DEFAULT '', -- separated by commas
    record_id           BLOB, -- of SourceSyncSealed
    record_hash         BLOB,
    seal_no             BIGINT, -- place among the COMPLETE syncs of the tenant, from 1; null when PARTIAL
    added               BIGINT NOT NULL DEFAULT 0,
    changed             BIGINT NOT NULL DEFAULT 0,
    removed             BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant, sync)
);
-- One waits and one runs a source, at most.
CREATE UNIQUE INDEX syncs_waiting ON syncs (source_no) WHERE state = 1;
CREATE UNIQUE INDEX syncs_running ON syncs (source_no) WHERE state = 2;
CREATE INDEX syncs_of_source ON syncs (source_no, seq);
CREATE UNIQUE INDEX syncs_sealed ON syncs (tenant, seal_no) WHERE seal_no IS NOT NULL;
CREATE INDEX syncs_by_blob ON syncs (tenant, blob_sha256) WHERE blob_sha256 IS NOT NULL;

-- Last seal_no given out. Written by the sync job when it seals.
CREATE TABLE feeds (
    tenant       TEXT   NOT NULL PRIMARY KEY,
    last_seal_no BIGINT NOT NULL
);

-- Opaque ids of identity keys, the same in all sources of a tenant. Written by the sync job.
CREATE TABLE identities (
    tenant       TEXT NOT NULL,
    identity_key TEXT NOT NULL,
    identity     BLOB NOT NULL, -- UUIDv7
    PRIMARY KEY (tenant, identity_key)
) WITHOUT ROWID;
CREATE UNIQUE INDEX identities_by_id ON identities (tenant, identity);

-- Accounts in versions: one is there in the syncs from first_seq to before gone_seq. Written by the sync job; rows above
-- the source's current_seq belong to a sync that is not sealed and are shown to nobody.
CREATE TABLE accounts (
    tenant         TEXT   NOT NULL,
    account        BLOB   NOT NULL, -- UUIDv7, stable by source and native_id
    first_seq      BIGINT NOT NULL,
    source_no      BIGINT NOT NULL,
    native_id      TEXT   NOT NULL,
    display_name   TEXT   NOT NULL,
    identity_key   TEXT,
    identity_class BIGINT NOT NULL,
    enabled        BIGINT NOT NULL,
    lifecycle      TEXT   NOT NULL, -- empty: the source does not say
    owner_key      TEXT, -- the owner that counts: SetOwner before the source's own
    expires_ms     BIGINT,
    purpose        TEXT,
    digest         BLOB   NOT NULL, -- over all of the above
    last_seen_ms   BIGINT,
    gone_seq       BIGINT NOT NULL DEFAULT 9223372036854775807,
    PRIMARY KEY (tenant, account, first_seq)
) WITHOUT ROWID;
CREATE INDEX accounts_of_source ON accounts (source_no, first_seq);
CREATE INDEX accounts_of_identity ON accounts (tenant, identity_key) WHERE identity_key IS NOT NULL;

-- Entitlements in versions, as accounts.
CREATE TABLE entitlements (
    tenant       TEXT   NOT NULL,
    entitlement  BLOB   NOT NULL, -- UUIDv7, stable by source and native_id
    first_seq    BIGINT NOT NULL,
    source_no    BIGINT NOT NULL,
    native_id    TEXT   NOT NULL,
    display_name TEXT   NOT NULL,
    kind         TEXT   NOT NULL,
    privileged   BIGINT NOT NULL,
    owner_key    TEXT, -- the owner that counts
    purpose      TEXT,
    digest       BLOB   NOT NULL,
    gone_seq     BIGINT NOT NULL DEFAULT 9223372036854775807,
    PRIMARY KEY (tenant, entitlement, first_seq)
) WITHOUT ROWID;
CREATE INDEX entitlements_of_source ON entitlements (source_no, first_seq);

-- Owners set by SetOwner. Written by InventoryService.
CREATE TABLE owners (
    tenant    TEXT   NOT NULL,
    object    TEXT   NOT NULL, -- "accounts/{account}" or "entitlements/{entitlement}"
    owner     TEXT   NOT NULL, -- principal id
    owner_key TEXT   NOT NULL, -- key of the principal's identity
    set_ms    BIGINT NOT NULL,
    PRIMARY KEY (tenant, object)
) WITHOUT ROWID;

-- Grants in versions, as accounts: the set of any COMPLETE sync is what is there at its seq, in order of the keys. Whoever
-- could change a row could not change what was sealed: the sync's record has the root over the leaves.
CREATE TABLE grants (
    source_no    BIGINT NOT NULL,
    key          BLOB   NOT NULL, -- grant key without the source's tag, 32 bytes
    first_seq    BIGINT NOT NULL,
    flags        BIGINT NOT NULL,
    value        BLOB   NOT NULL, -- 32 bytes
    account      BLOB   NOT NULL,
    entitlement  BLOB   NOT NULL,
    facts        BLOB   NOT NULL, -- times, path, purpose, breadth: protobuf of store/grants.rs
    last_used_ms BIGINT,
    gone_seq     BIGINT NOT NULL DEFAULT 9223372036854775807,
    PRIMARY KEY (source_no, key, first_seq)
) WITHOUT ROWID;

-- Sorted runs of grants on their way (run >= 0) and last uses to be noted after the seal (run = -1). Written and emptied by
-- the sync job.
CREATE TABLE staged_chunks (
    source_no BIGINT NOT NULL,
    seq       BIGINT NOT NULL,
    run       BIGINT NOT NULL,
    chunk     BIGINT NOT NULL,
    content   BLOB   NOT NULL,
    PRIMARY KEY (source_no, seq, run, chunk)
);

-- A sealed snapshot. Written once by CreateSnapshot.
CREATE TABLE snapshots (
    tenant        TEXT   NOT NULL,
    snapshot      TEXT   NOT NULL, -- id, UUIDv7
    snapshot_root BLOB   NOT NULL,
    grant_count   BIGINT NOT NULL,
    record_id     BLOB   NOT NULL,
    record_hash   BLOB   NOT NULL,
    created_ms    BIGINT NOT NULL,
    PRIMARY KEY (tenant, snapshot)
) WITHOUT ROWID;

-- Its sources, ascending by tag: a sync where there is one, a reason where it is missing.
CREATE TABLE snapshot_sources (
    tenant    TEXT   NOT NULL,
    snapshot  TEXT   NOT NULL,
    source_no BIGINT NOT NULL,
    tag       BLOB   NOT NULL,
    sync      TEXT, -- null when missing
    reason    TEXT, -- null when there
    PRIMARY KEY (tenant, snapshot, tag)
) WITHOUT ROWID;
