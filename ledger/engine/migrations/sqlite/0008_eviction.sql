-- Bytes of entries that the published copy has may leave the database: `entry` is empty then, and is read from the copy. Everything that
-- proves what they were stays. `evicted`: entries below it have left, by whole bundles; the last bundle never leaves.
ALTER TABLE log_heads ADD COLUMN evicted BIGINT NOT NULL DEFAULT 0
    CHECK (evicted = 0 OR evicted > 0 AND evicted % 256 = 0 AND evicted < size);

-- The way past the rule that entries are never changed is this narrow: to nothing but no bytes, and only below the mark.
DROP TRIGGER log_entries_keep_update;
CREATE TRIGGER log_entries_keep_update BEFORE UPDATE ON log_entries
WHEN NOT (NEW.entry IS x'' AND NEW.log_id IS OLD.log_id AND NEW.idx IS OLD.idx AND NEW.leaf_hash IS OLD.leaf_hash
    AND NEW.record_id IS OLD.record_id AND NEW.record_hash IS OLD.record_hash AND NEW.record_type IS OLD.record_type
    AND NEW.stream IS OLD.stream AND OLD.idx < (SELECT evicted FROM log_heads WHERE log_id = OLD.log_id))
BEGIN SELECT RAISE(ABORT, 'entries are never changed'); END;

-- The mark only grows: what has left is nowhere else.
CREATE TRIGGER log_heads_keep_evicted BEFORE UPDATE OF evicted ON log_heads WHEN NEW.evicted < OLD.evicted
BEGIN SELECT RAISE(ABORT, 'evicted entries do not come back'); END;
