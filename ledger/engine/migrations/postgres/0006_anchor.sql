-- What the records of the anchor log leave out: which head of which log the map of an epoch has, and what its leaves are salted with.
-- With it the paths of an epoch can be given. If it is lost, the next epoch takes in all heads again, and the paths that were given stay good.

-- One row an epoch, inserted before its record is appended: of several that make the same epoch, one does.
CREATE TABLE log_anchor_epochs (
    epoch BIGINT PRIMARY KEY,
    -- What the salts of the map's leaves are made of, 32 bytes. Whoever has it can tell which guessed head the map has.
    secret BYTEA NOT NULL,
    -- Canonical bytes of counterfoil.evidence.v1.HeadsAnchored.
    payload BYTEA NOT NULL,
    -- Where its record stands in the anchor log; NULL until that is known.
    idx BIGINT
);

-- The heads that are not those of the epoch before: a log has in every epoch the newest one up to it.
CREATE TABLE log_anchored_heads (
    log_id BIGINT NOT NULL,
    epoch BIGINT NOT NULL,
    size BIGINT NOT NULL,
    root BYTEA NOT NULL,
    PRIMARY KEY (log_id, epoch)
);

-- An epoch is of all logs, so only who reads all of them sees it. A head is its log's.
ALTER TABLE log_anchor_epochs ENABLE ROW LEVEL SECURITY;
ALTER TABLE log_anchor_epochs FORCE ROW LEVEL SECURITY;
CREATE POLICY log_everything ON log_anchor_epochs
    USING (current_setting('counterfoil.tenant', true) = '*')
    WITH CHECK (current_setting('counterfoil.tenant', true) = '*');
ALTER TABLE log_anchored_heads ENABLE ROW LEVEL SECURITY;
ALTER TABLE log_anchored_heads FORCE ROW LEVEL SECURITY;
CREATE POLICY log_named ON log_anchored_heads
    USING (log_id = ANY ((SELECT string_to_array(current_setting('counterfoil.logs'), ',')::bigint[])::bigint[]))
    WITH CHECK (log_id = ANY ((SELECT string_to_array(current_setting('counterfoil.logs'), ',')::bigint[])::bigint[]));
CREATE POLICY log_everything ON log_anchored_heads FOR SELECT USING (current_setting('counterfoil.tenant', true) = '*');
