-- Calls that somebody of a provider made for the tenant, each with its record in the tenant's log. Written by the gate in the
-- transaction of that record; mirrored_at_ms by the job that tells the provider's log too.
CREATE TABLE operator_accesses (
    tenant         TEXT   NOT NULL, -- the customer's
    access_id      BLOB   NOT NULL, -- 16 bytes: id of the record in both logs
    operator       TEXT   NOT NULL, -- "tenants/{tenant}/principals/{principal}" of the provider's tenant
    method         TEXT   NOT NULL,
    record_hash    BLOB   NOT NULL, -- SHA-256 of OperatorAccessUsed
    mirrored_at_ms BIGINT,
    PRIMARY KEY (tenant, access_id)
);
CREATE INDEX operator_accesses_pending ON operator_accesses (tenant, access_id) WHERE mirrored_at_ms IS NULL;
