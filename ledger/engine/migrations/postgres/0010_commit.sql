-- A batch in one call: it is a transaction of its own, so that whoever appends does not wait for the database at every step of it. Called by
-- the sequencer only; row-level policies hold here as everywhere. What SQLite is told by statements (store/commit.rs) is the same.
--
-- Each array has one value a row. Bytes of one length stand one behind the other; of others two arrays say from where on, from 1, and for how
-- many. `named`: the logs' numbers, ascending, separated by commas. `e_hashes`: leaf hash, record id and record hash, 80 bytes.
-- Never replaced: processes of two releases call it at once. Another one gets another name, and this one is dropped a release later.
-- SQLSTATE CF001: a head is not the one that the batch continues, or the log was stopped; nothing is written then.
CREATE FUNCTION log_commit(
    named TEXT, stopped_too BOOLEAN,
    h_log BIGINT[], h_old_size BIGINT[], h_old_root BYTEA, h_size BIGINT[], h_root BYTEA,
    h_frontier BYTEA, h_frontier_from INT[], h_frontier_for INT[], h_checkpoint TEXT[], h_recorded_at_ms BIGINT[],
    e_log BIGINT[], e_idx BIGINT[], e_hashes BYTEA, e_type TEXT[], e_stream TEXT[],
    e_entry BYTEA, e_entry_from INT[], e_entry_for INT[],
    l_log BIGINT[], l_n BIGINT[], l_label BYTEA, l_label_from INT[], l_label_for INT[],
    l_positions BYTEA, l_positions_from INT[], l_positions_for INT[],
    s_log BIGINT[], s_stream TEXT[], s_seq BIGINT[], s_hash BYTEA,
    t_log BIGINT[], t_level BIGINT[], t_n BIGINT[], t_hashes BYTEA, t_hashes_from INT[], t_hashes_for INT[],
    k_log BIGINT[], k_id TEXT[], k_stream TEXT[], k_public BYTEA, k_from_ms BIGINT[], k_until_ms BIGINT[]
) RETURNS BIGINT LANGUAGE plpgsql AS $$
DECLARE
    moved BIGINT;
BEGIN
    PERFORM set_config('counterfoil.logs', named, true);
    -- The heads first, and in order: of two that write the same logs, one waits for the other, and never in a circle.
    IF cardinality(h_log) > 1 THEN
        PERFORM 1 FROM log_heads WHERE log_id = ANY (h_log) ORDER BY log_id FOR UPDATE;
    END IF;
    UPDATE log_heads SET size = new.size, root = substring(h_root FROM new.n * 32 - 31 FOR 32),
        frontier = substring(h_frontier FROM new.f FOR new.l), checkpoint = new.checkpoint, recorded_at_ms = new.ms
    FROM (
        SELECT log, old_size, size, f, l, checkpoint, ms, n::int
        FROM unnest(h_log, h_old_size, h_size, h_frontier_from, h_frontier_for, h_checkpoint, h_recorded_at_ms)
            WITH ORDINALITY AS given (log, old_size, size, f, l, checkpoint, ms, n)
    ) AS new
    WHERE log_heads.log_id = new.log AND log_heads.size = new.old_size
        AND log_heads.root = substring(h_old_root FROM new.n * 32 - 31 FOR 32)
        AND (stopped_too OR log_heads.stopped_because IS NULL);
    GET DIAGNOSTICS moved = ROW_COUNT;
    IF moved <> cardinality(h_log) THEN
        RAISE EXCEPTION 'the logs are not as the batch takes them to be' USING ERRCODE = 'CF001';
    END IF;

    INSERT INTO log_entries (log_id, idx, leaf_hash, record_id, record_hash, record_type, stream, entry)
    SELECT log, idx, substring(e_hashes FROM n * 80 - 79 FOR 32), substring(e_hashes FROM n * 80 - 47 FOR 16),
        substring(e_hashes FROM n * 80 - 31 FOR 32), type, stream, substring(e_entry FROM f FOR l)
    FROM (
        SELECT log, idx, type, stream, f, l, n::int
        FROM unnest(e_log, e_idx, e_type, e_stream, e_entry_from, e_entry_for)
            WITH ORDINALITY AS given (log, idx, type, stream, f, l, n)
    ) AS new;

    INSERT INTO log_streams (log_id, stream, last_seq, last_record_hash)
    SELECT log, stream, seq, substring(s_hash FROM n::int * 32 - 31 FOR 32)
    FROM unnest(s_log, s_stream, s_seq) WITH ORDINALITY AS new (log, stream, seq, n)
    ON CONFLICT (log_id, stream) DO UPDATE SET last_seq = excluded.last_seq, last_record_hash = excluded.last_record_hash;

    IF cardinality(l_log) > 0 THEN
        INSERT INTO log_labels (log_id, label, n, positions)
        SELECT log, substring(l_label FROM f FOR l), n, substring(l_positions FROM pf FOR pl)
        FROM unnest(l_log, l_n, l_label_from, l_label_for, l_positions_from, l_positions_for) AS new (log, n, f, l, pf, pl)
        ON CONFLICT (log_id, label, n) DO UPDATE SET positions = excluded.positions;
    END IF;

    IF cardinality(t_log) > 0 THEN
        INSERT INTO log_tiles (log_id, level, n, hashes)
        SELECT log, level, n, substring(t_hashes FROM f FOR l)
        FROM unnest(t_log, t_level, t_n, t_hashes_from, t_hashes_for) AS new (log, level, n, f, l)
        ON CONFLICT (log_id, level, n) DO UPDATE SET hashes = excluded.hashes;
    END IF;

    IF cardinality(k_log) > 0 THEN
        INSERT INTO log_producer_keys (log_id, key_id, stream, public_key, valid_from_ms, revoked_after_ms)
        SELECT log, id, stream, substring(k_public FROM n::int * 32 - 31 FOR 32), from_ms, until_ms
        FROM unnest(k_log, k_id, k_stream, k_from_ms, k_until_ms) WITH ORDINALITY AS new (log, id, stream, from_ms, until_ms, n)
        ON CONFLICT (log_id, key_id, stream)
        DO UPDATE SET valid_from_ms = excluded.valid_from_ms, revoked_after_ms = excluded.revoked_after_ms;
    END IF;
    RETURN moved;
END $$;
