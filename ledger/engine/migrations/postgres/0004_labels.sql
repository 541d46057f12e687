-- What entries are found by, written once a full bundle of 256 entries and not once an entry: an index row that lies somewhere else in its
-- tree than the one before costs a page, and a page costs more than an entry. The entries of the growing bundle are found by reading them.
-- A convenience that proves nothing; it can be derived from the entries again.
CREATE TABLE log_labels (
    log_id BIGINT NOT NULL,
    -- A subject: the first 16 bytes of its SHA-256. A type: `type/` and its full name. A stream: `stream/` and its name.
    label BYTEA NOT NULL,
    -- Which bundle: entries 256 n to 256 n + 255.
    n BIGINT NOT NULL,
    -- Where in the bundle, ascending, one byte a place.
    places BYTEA NOT NULL,
    PRIMARY KEY (log_id, label, n)
);

-- This transaction reads all logs, and from here on no other one does.
SELECT set_config('counterfoil.tenant', '*', true);
SELECT set_config('counterfoil.logs', (SELECT coalesce(string_agg(log_id::text, ','), '') FROM logs), true);

INSERT INTO log_labels (log_id, label, n, places)
SELECT log_id, label, idx / 256, string_agg(set_byte('\x00'::bytea, 0, (idx % 256)::int), ''::bytea ORDER BY idx)
FROM (
    SELECT log_id, subject AS label, idx FROM log_subjects
    UNION ALL SELECT log_id, convert_to('type/' || record_type, 'UTF8'), idx FROM log_entries
    UNION ALL SELECT log_id, convert_to('stream/' || stream, 'UTF8'), idx FROM log_entries
) AS labelled
JOIN log_heads USING (log_id)
WHERE idx / 256 < size / 256
GROUP BY log_id, label, idx / 256;

DROP TABLE log_subjects;
DROP INDEX log_entries_by_type;
DROP INDEX log_entries_by_stream;

ALTER TABLE log_labels ENABLE ROW LEVEL SECURITY;
ALTER TABLE log_labels FORCE ROW LEVEL SECURITY;
CREATE POLICY log_named ON log_labels
    USING (log_id = ANY (string_to_array(current_setting('counterfoil.logs'), ',')::bigint[]))
    WITH CHECK (log_id = ANY (string_to_array(current_setting('counterfoil.logs'), ',')::bigint[]));
