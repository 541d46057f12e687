-- With which credential each was issued: whoever takes one away can take away what was made with it. Written by IssueToken and
-- LinkLogin.
ALTER TABLE tokens ADD COLUMN issued_with TEXT NOT NULL DEFAULT ''; -- public id; empty: somebody of the deployment issued it
ALTER TABLE logins ADD COLUMN issued_with TEXT NOT NULL DEFAULT '';
-- What the deployment issued ends soon after the activation. Written by ActivateTenant; expires_at_ms stays as issued.
ALTER TABLE tokens ADD COLUMN cut_at_ms BIGINT; -- ends then at the latest; NULL: as issued
CREATE INDEX tokens_issued_with ON tokens (tenant, issued_with);
CREATE INDEX logins_issued_with ON logins (tenant, issued_with);
