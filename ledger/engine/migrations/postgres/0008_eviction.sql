-- Bytes of entries that the published copy has may leave the database: `entry` is empty then, and is read from the copy. Everything that
-- proves what they were stays. `evicted`: entries below it have left, by whole bundles; the last bundle never leaves.
ALTER TABLE log_heads ADD COLUMN evicted BIGINT NOT NULL DEFAULT 0
    CHECK (evicted = 0 OR evicted > 0 AND evicted % 256 = 0 AND evicted < size);

-- The way past the rule that entries are never changed is this narrow: to nothing but no bytes, and only below the mark.
CREATE OR REPLACE FUNCTION log_entries_keep() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.entry = ''::bytea
        AND (NEW.log_id, NEW.idx, NEW.leaf_hash, NEW.record_id, NEW.record_hash, NEW.record_type, NEW.stream)
            = (OLD.log_id, OLD.idx, OLD.leaf_hash, OLD.record_id, OLD.record_hash, OLD.record_type, OLD.stream)
        AND OLD.idx < (SELECT evicted FROM log_heads WHERE log_id = OLD.log_id) THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'entries are never changed or deleted';
END $$;

-- The mark only grows: what has left is nowhere else.
CREATE FUNCTION log_heads_keep_evicted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'evicted entries do not come back'; END $$;
CREATE TRIGGER log_heads_keep_evicted BEFORE UPDATE OF evicted ON log_heads
    FOR EACH ROW WHEN (NEW.evicted < OLD.evicted) EXECUTE FUNCTION log_heads_keep_evicted();
