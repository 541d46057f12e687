-- What entries are found by, written once a full bundle of 256 entries and not once an entry: an index row that lies somewhere else in its
-- tree than the one before costs a page, and a page costs more than an entry. The entries of the growing bundle are found by reading them.
-- A convenience that proves nothing; it can be derived from the entries again.
CREATE TABLE log_labels (
    log_id BIGINT NOT NULL,
    -- A subject: the first 16 bytes of its SHA-256. A type: `type/` and its full name. A stream: `stream/` and its name.
    label BLOB NOT NULL,
    -- Which bundle: entries 256 n to 256 n + 255.
    n BIGINT NOT NULL,
    -- Where in the bundle, ascending, one byte a place.
    places BLOB NOT NULL,
    PRIMARY KEY (log_id, label, n)
) WITHOUT ROWID;

INSERT INTO log_labels (log_id, label, n, places)
SELECT labelled.log_id, label, idx / 256, unhex(group_concat(printf('%02x', idx % 256), '' ORDER BY idx))
FROM (
    SELECT log_id, subject AS label, idx FROM log_subjects
    UNION ALL SELECT log_id, CAST('type/' || record_type AS BLOB), idx FROM log_entries
    UNION ALL SELECT log_id, CAST('stream/' || stream AS BLOB), idx FROM log_entries
) AS labelled
JOIN log_heads ON log_heads.log_id = labelled.log_id AND idx / 256 < size / 256
GROUP BY labelled.log_id, label, idx / 256;

DROP TABLE log_subjects;
DROP INDEX log_entries_by_type;
DROP INDEX log_entries_by_stream;
