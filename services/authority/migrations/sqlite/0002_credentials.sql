-- What a token is limited to, who issued it, and when it was last presented. Written by IssueToken; last_used_at_ms by the
-- job that counts uses, at most once a minute.
ALTER TABLE tokens ADD COLUMN scopes TEXT NOT NULL DEFAULT ''; -- permissions separated by commas; empty: all of the roles
ALTER TABLE tokens ADD COLUMN issued_by TEXT NOT NULL DEFAULT ''; -- actor; empty: issued before this column
ALTER TABLE tokens ADD COLUMN certificate_sha256 BLOB; -- of the client certificate that must come with it; NULL: none must
ALTER TABLE tokens ADD COLUMN last_used_at_ms BIGINT;
CREATE INDEX tokens_of_tenant ON tokens (tenant, token_id);

-- Logins at identity providers. Written by LinkLogin and UnlinkLogin; never removed, unlinked instead.
CREATE TABLE logins (
    tenant         TEXT   NOT NULL,
    login          TEXT   NOT NULL, -- id, UUIDv7
    issuer         TEXT   NOT NULL, -- as tokens name it
    subject        TEXT   NOT NULL, -- who it is there; in no record
    principal      TEXT   NOT NULL,
    linked_at_ms   BIGINT NOT NULL,
    unlinked_at_ms BIGINT,
    PRIMARY KEY (tenant, login),
    FOREIGN KEY (tenant, principal) REFERENCES principals (tenant, principal)
) WITHOUT ROWID;
-- One subject is one principal of a tenant.
CREATE UNIQUE INDEX logins_in_force ON logins (tenant, issuer, subject) WHERE unlinked_at_ms IS NULL;
