-- How often a provider has given its word for a control within a day. Written by AttestControl.
ALTER TABLE attestations ADD COLUMN counted_from_ms BIGINT NOT NULL DEFAULT 0; -- when that day began
ALTER TABLE attestations ADD COLUMN counted BIGINT NOT NULL DEFAULT 0;
