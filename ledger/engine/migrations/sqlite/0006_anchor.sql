-- What the records of the anchor log leave out: which head of which log the map of an epoch has, and what its leaves are salted with.
-- With it the paths of an epoch can be given. If it is lost, the next epoch takes in all heads again, and the paths that were given stay good.

-- One row an epoch, inserted before its record is appended: of several that make the same epoch, one does.
CREATE TABLE log_anchor_epochs (
    epoch BIGINT PRIMARY KEY,
    -- What the salts of the map's leaves are made of, 32 bytes. Whoever has it can tell which guessed head the map has.
    secret BLOB NOT NULL,
    -- Canonical bytes of counterfoil.evidence.v1.HeadsAnchored.
    payload BLOB NOT NULL,
    -- Where its record stands in the anchor log; NULL until that is known.
    idx BIGINT
);

-- The heads that are not those of the epoch before: a log has in every epoch the newest one up to it.
CREATE TABLE log_anchored_heads (
    log_id BIGINT NOT NULL,
    epoch BIGINT NOT NULL,
    size BIGINT NOT NULL,
    root BLOB NOT NULL,
    PRIMARY KEY (log_id, epoch)
) WITHOUT ROWID;
